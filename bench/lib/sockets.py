# SPDX-License-Identifier: BSD-3-Clause
"""The two sides of a benchmark of sockets: once with the kernel's TCP, once with the shim."""

import contextlib
import json
import os

from lib.common import BUILD, BenchError, call, tool
from lib.nodes import Side
from lib.region import Region

SHIM = f"{BUILD}/ivshmem/socket/libvrdma-socket.so"
SERVER = f"{BUILD}/ivshmem/vrdma-ivshmem"


class ShimSide(Side):
    """The same side: its programs use the socket shim."""

    def __init__(self, side, shared):
        super().__init__("", 0, "", side.core)
        self.name, self.netns, self.under = side.name, side.netns, side.under
        self.settings = [f"{name}={value}" for name, value in
                         shared.environment(SHIM).items()]

    def argv(self, *command):
        if command[0] == "ss":      # looks at the system, is no part of what is measured
            return super().argv(*command)
        return super().argv("env", *self.settings, *command)


class SocketBench:
    """What sections measure with: two sides by TCP, the same two by the shim, and the
    bare rings' figures of the round.
    """

    def __init__(self, seconds):
        self.seconds = seconds
        self.cores = sorted(os.sched_getaffinity(0))
        self.tcp = [Side("a", 1, "vrdma-sock", self.cores[0]),
                    Side("b", 2, "vrdma-sock", self.cores[-1])]
        self.shim = self.shared = None
        self.rings = {}
        self.guests = {}        # of the round: way -> values

    def use_region(self, shared):
        self.shared = shared
        self.shim = [ShimSide(side, shared) for side in self.tcp]

    @contextlib.contextmanager
    def rings_used(self, which):
        """What runs by the shim must get rings: a server whose user may not join the region
        does not, and then TCP would be measured.
        """
        before = self.shared.counters()["paired"]
        yield
        if which == "shim" and self.shared.counters()["paired"] == before:
            raise BenchError("no connection got a ring")

    def measure_rings(self):
        """What shared memory and UNIX sockets do without any shim, once a round."""
        path = f"{BUILD}/bench/rings-round.json"
        call(tool("bench_rings"), "-r", "1", "-j", path)
        with open(path, encoding="utf-8") as file:
            values = json.load(file)["values"]
        self.rings = {name: value["median"] for name, value in values.items()}


def region():
    if not os.path.exists(SHIM):
        raise BenchError(f"{SHIM} is not built: run scripts/setup.sh first")
    return Region(SERVER)
