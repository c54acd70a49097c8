# SPDX-License-Identifier: BSD-3-Clause
"""Between two guests: NPtcp by virtio-net and a bridge, and by the shim in the same guests.

Both ways are measured in one run of the guests, by bench/tools/guest_pair.py. Without KVM
the guests' processors are emulated; then only the ratio says something.
"""

import json

from lib.common import ROOT, call
from lib.sections import Section, Target

PATIENCE = 600      # seconds; booting takes about 20


def tcp(bench):
    bench.guests = json.loads(call("unshare", "--net", f"{ROOT}/bench/tools/guest_pair.py",
                                   "3", timeout=PATIENCE))
    return bench.guests["tcp"]


def shim(bench):
    return bench.guests["shim"]


SECTION = Section("guest", {"tcp": tcp, "shim": shim}, [
    Target("TCP / shim, 64 B", "tcp", "shim", "usec_64", 1),
    Target("shim / TCP, 1 MiB", "shim", "tcp", "gbps_1m", 1),
])
