# SPDX-License-Identifier: BSD-3-Clause
"""Small messages: half round trip of 64 bytes, and the wake-up of one who sleeps."""

import json
from copy import copy
from functools import partial

from lib.common import tool
from lib.nodes import netpipe
from lib.sections import Section, Target


def bare(bench):
    bench.measure_rings()
    return {"usec_64": bench.rings["bare"] / 1e3}


def unix(bench):
    return {"usec_64": bench.rings["unix"] / 1e3}


def tcp(bench):
    return {"usec_64": netpipe(bench.tcp, bench.tcp[1].under)}


def shim(bench):
    return {"usec_64": netpipe(bench.shim, bench.shim[1].under)}


SECTION = Section("latency", {"bare ring": bare, "unix": unix, "tcp": tcp, "shim": shim}, [
    Target("TCP / shim", "tcp", "shim", "usec_64", 10),
    Target("shim / bare ring", "shim", "bare ring", "usec_64", 1.5, at_least=False),
    Target("blocking UNIX stream / shim", "unix", "shim", "usec_64", 5),
])


def wake(what, bench):
    """Both processes are started by one, which puts each on a core."""
    side = copy((bench.shim if what == "shim" else bench.tcp)[0])
    side.core = None
    return json.loads(side.run(tool("sock_wake"),
                               side.under if what in ("tcp", "shim") else what))


WAKE = Section("wake", {name: partial(wake, name) for name in ("eventfd", "unix", "tcp", "shim")}, [
    Target("shim / eventfd", "shim", "eventfd", "usec", 1.2, at_least=False),
])
