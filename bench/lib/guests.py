# SPDX-License-Identifier: BSD-3-Clause
"""Guests on a bridge of this network namespace that use sockets through shared memory:
started, set up as docs/guest.md says, told what to run.
"""

import configparser
import os
import subprocess
import sys
import time

from lib.common import BUILD, ROOT, call
from lib.region import Region

sys.path.insert(0, f"{ROOT}/guest")
# pylint: disable=wrong-import-position
from remote import PORT, Remote  # noqa: E402

PATIENCE_S = 200
HOST = "10.9.0.1"
NOBODY = 65534          # gets the group vrdma, and nothing else
SETUP = f"{ROOT}/guest/setup"
UNIT = f"{BUILD}/guest/vrdma-guest.service"
AGENT = f"{BUILD}/ivshmem/vrdma-guest"
SHIM = f"{BUILD}/ivshmem/socket/libvrdma-socket.so"
SERVER = f"{BUILD}/ivshmem/vrdma-ivshmem"
REGION_BYTES = 64 << 20
ADDRESSES = {"server": "10.9.0.11", "client": "10.9.0.12"}
IN_GUEST = "/tmp/libvrdma-socket.so"    # where anybody there can read it


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {PATIENCE_S} s")
        time.sleep(0.1)


def make_bridge():
    call("ip", "link", "set", "lo", "up")
    call("ip", "link", "add", "br0", "type", "bridge")
    call("ip", "address", "add", f"{HOST}/24", "dev", "br0")
    call("ip", "link", "set", "br0", "up")


def region():
    return Region(SERVER, size=REGION_BYTES,
                  guests=[f"{name}@{address}" for name, address in ADDRESSES.items()])


class Guest(Remote):
    """A context: the guest runs. It does what it is told when set_up() has returned."""

    def __init__(self, name, shared, folder, cpus=1):
        super().__init__(ADDRESSES[name])
        self.name, self.address = name, ADDRESSES[name]
        self.region, self.folder, self.cpus = shared, folder, cpus
        self.launcher = self.agent = self.group = None

    def __enter__(self):
        tap = f"tap-{self.name}"
        call("ip", "tuntap", "add", tap, "mode", "tap")
        call("ip", "link", "set", tap, "master", "br0", "up")
        self.launcher = subprocess.Popen(
            [f"{ROOT}/guest/launch", "--name", self.name, "--run-dir",
             f"{self.folder}/run", "--memory", "512", "--hugepages", "never",
             "--cpus", str(self.cpus), "--netdev", f"tap:{tap}",
             "--ip", f"{self.address}/24", "--ivshmem", self.region.socket,
             "--ivshmem-uplink", f"{self.region.socket}.{self.name}.guest",
             "--", f"{ROOT}/guest/remote.py", str(PORT)],
            stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.launcher.terminate()
        self.launcher.wait()

    def kill(self):
        """As a failure of the host's power would."""
        self.launcher.kill()
        self.launcher.wait()

    def root(self, *argv, **options):
        """Run a program as root; return its output."""
        done = self.run(*argv, **options)
        if done["rc"]:
            raise RuntimeError(f"{argv}: status {done['rc']}\n{done['out']}{done['err']}")
        return done["out"]

    def set_up(self):
        """What a package's installation and the boot of a guest with systemd do."""
        def up():
            if self.launcher.poll() is not None:
                raise RuntimeError(f"guest {self.name} has ended")
            return self.answers()
        wait_until(up, f"guest {self.name}")
        for source, target in (("vrdma.sysusers", "sysusers.d/vrdma.conf"),
                               ("60-vrdma.rules", "udev/rules.d/60-vrdma.rules")):
            self.root("install", "-D", "-m", "644", f"{SETUP}/{source}", f"/etc/{target}")
        self.root("systemd-sysusers", "vrdma.conf")
        self.root("/lib/systemd/systemd-udevd", "--daemon")
        self.root("udevadm", "trigger", "--action=add")
        self.root("udevadm", "settle")
        self.group = int(self.root("getent", "group", "vrdma").split(":")[2])
        self.root("install", "-m", "755", SHIM, AGENT, "/tmp")
        self.start_agent()

    def start_agent(self):
        """As the unit says, so that what is tried is what is installed."""
        before = self.region.counters(self.name)["sessions"]
        unit = configparser.RawConfigParser()
        unit.read(UNIT)
        service = unit["Service"]
        self.root("install", "-d", "-o", service["User"], "-g", service["Group"],
                  f"/run/{service['RuntimeDirectory']}")
        user = int(self.root("id", "-u", service["User"]))
        _, *options = service["ExecStart"].split()
        self.agent = self.start("/tmp/vrdma-guest", *options, log="/tmp/agent.log",
                                user=user, group=self.group, extra_groups=[],
                                path="/run/vrdma/guest.dir")
        wait_until(lambda: self.region.counters(self.name)["sessions"] > before,
                   f"the agent of guest {self.name}")

    def stop(self, pid, **options):
        """End what start() started, unless its guest has ended."""
        return super().stop(pid, **options) if self.launcher.poll() is None else None

    def stop_agent(self, number):
        self.stop(self.agent, number=number)

    def user(self, shim=True):
        """Options for run() and start(): an ordinary user, with the shim or without."""
        settings = {"PATH": os.environ["PATH"], "HOME": "/tmp"}
        if shim:
            settings |= {"VRDMA_REGION": "/run/vrdma/guest", "LD_PRELOAD": IN_GUEST}
        return {"user": NOBODY, "group": NOBODY, "extra_groups": [self.group],
                "cwd": "/tmp", "env": settings}

    def app(self, *argv, shim=True, **options):
        """Run a program as a user; return its output."""
        return self.root(*argv, timeout=PATIENCE_S, **self.user(shim), **options)

    def serve(self, *argv, port, shim=True):
        """Start a program as a user; it listens on return. Return what stop() wants."""
        return self.start(*argv, log=f"/tmp/{os.path.basename(argv[0])}.log", port=port,
                          **self.user(shim))
