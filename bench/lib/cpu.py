# SPDX-License-Identifier: BSD-3-Clause
"""How much CPU time a benchmark takes, wherever it is spent."""

import contextlib
import os
import re
import time

from lib.common import BenchError


class CpuMeter:
    """CPU seconds of this process and all its descendants, daemons included,
    by a control group of our own; and of the softirq threads, which carry the
    veth's packets when the kernel is behind.
    """

    def __init__(self):
        with open("/proc/mounts", encoding="utf-8") as file:
            mounts = [line.split()[1] for line in file
                      if line.split()[2] == "cgroup2"]
        if not mounts:
            raise BenchError("there is no cgroup2 file system mounted")
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            own = [line.strip()[3:] for line in file if line.startswith("0::")]
        self.home = mounts[0] + own[0]
        self.group = f"{mounts[0]}/vrdma-bench-{os.getpid()}"
        self.softirqd = self._softirqd()

    @staticmethod
    def _softirqd():
        pids = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), \
                    open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                if file.read().startswith("ksoftirqd/"):
                    pids.append(pid)
        return pids

    def __enter__(self):
        os.mkdir(self.group)
        self._join(self.group)
        return self

    def __exit__(self, *_):
        self._join(self.home)
        for _ in range(50):
            with contextlib.suppress(OSError):
                os.rmdir(self.group)
                return
            time.sleep(0.1)

    @staticmethod
    def _join(group):
        with open(f"{group}/cgroup.procs", "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))

    def seconds(self):
        with open(f"{self.group}/cpu.stat", encoding="utf-8") as file:
            total = int(re.search(r"usage_usec (\d+)", file.read())[1]) / 1e6
        tick = os.sysconf("SC_CLK_TCK")
        for pid in self.softirqd:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / tick
        return total
