# SPDX-License-Identifier: BSD-3-Clause
"""Two sides in namespaces of their own, joined by a veth pair, and what runs in them."""

import contextlib
import json
import math
import os
import re
import subprocess
import time

from lib.common import BenchError, call, tool

UNDER = "under0"                # the veth's end in either namespace
IPERF_PORT, NETPIPE_PORT = 5201, 5002


class Side:
    """One side: a namespace, its addresses on the veth, and perhaps a core of its own."""

    def __init__(self, name, number, prefix, core=None):
        self.name = name
        self.netns = f"{prefix}-{name}"
        self.under = f"192.0.2.{number}"
        self.port = f"198.51.100.{number}"  # of a packet port
        self.core = core

    def argv(self, *command):
        pin = () if self.core is None else ("taskset", "-c", str(self.core))
        return ["ip", "netns", "exec", self.netns, *pin, *command]

    def run(self, *command):
        """Run a command in the namespace; return its standard output."""
        return call(*self.argv(*command))

    def start(self, *command):
        # pylint: disable=consider-using-with # ended by whoever started it
        return subprocess.Popen(self.argv(*command), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)


def remove_network(sides):
    for side in sides:
        if os.path.exists(f"/run/netns/{side.netns}"):
            call("ip", "netns", "delete", side.netns)


@contextlib.contextmanager
def network(sides, address=True):
    """The two namespaces and the veth pair of MTU 9000, gone afterwards."""
    remove_network(sides)
    try:
        for side in sides:
            call("ip", "netns", "add", side.netns)
            side.run("ip", "link", "set", "lo", "up")
        call("ip", "link", "add", UNDER, "mtu", "9000", "netns", sides[0].netns,
             "type", "veth", "peer", "name", UNDER, "mtu", "9000",
             "netns", sides[1].netns)
        for side in sides if address else ():
            side.run("ip", "address", "add", f"{side.under}/24", "dev", UNDER)
            side.run("ip", "link", "set", UNDER, "up")
        yield
    finally:
        remove_network(sides)


@contextlib.contextmanager
def listening(side, port, *command):
    """A server in the side's namespace, as soon as it listens."""
    server = side.start(*command)
    try:
        for _ in range(100):
            if side.run("ss", "-Hltn", f"sport = :{port}"):
                break
            time.sleep(0.05)
        else:
            raise BenchError(f"{command[0]} does not listen")
        yield server
    finally:
        server.terminate()
        server.wait()


def iperf(sides, far, streams, seconds):
    """Return (bits per second, bytes). It takes whole seconds."""
    with listening(sides[1], IPERF_PORT, "iperf3", "-s", "-1"):
        text = sides[0].run("iperf3", "-J", "-c", far, "-P", str(streams),
                            "-t", str(math.ceil(seconds)))
    total = json.loads(text)["end"]["sum_received"]
    return total["bits_per_second"], total["bytes"]


def netpipe(sides, far):
    """Return half the round trip of 64 bytes in us."""
    command = ["NPtcp", "-l", "64", "-u", "64", "-p", "0", "-n", "2000",
               "-o", "/dev/null"]
    with listening(sides[1], NETPIPE_PORT, *command) as server:
        # It prints its rows on standard error.
        text = sides[0].run("sh", "-c", '"$@" 2>&1', "sh", *command, "-h", far)
        server.wait(timeout=30)
    rows = re.findall(r" 64 bytes .* in\s+([\d.]+) usec", text)
    if not rows:
        raise BenchError(f"NPtcp measured nothing:\n{text}")
    return float(rows[-1])


def on_sockets(_side):
    """Options of a side's own that leave a device on UDP sockets, and others alone."""
    return ()


def on_port(side):
    """Options that put a device on a packet port: a host of its own on the veth."""
    return "--port", UNDER, "--port-addr", f"{side.port}/24"


LINKS = {"sockets": on_sockets, "port": on_port}


def pair(sides, name, *options, own=on_sockets):
    """Run one of our programs that are server and client: return what the client says.

    @own: a side's own options
    """
    program = tool(name)
    server = sides[1].start(program, "--local", sides[1].under, *own(sides[1]), *options)
    try:
        text = sides[0].run(program, "--local", sides[0].under,
                            "--peer", sides[1].under, *own(sides[0]), *options)
    finally:
        # The client has all that is to be known.
        server.kill()
        server.wait()
    return json.loads(text)
