# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces that stand for guests: each with an address, an agent, and a relay
in QEMU's place. The region's memory is the server's memfd instead of a device's BAR.
"""

import glob
import os
import re
import signal
import socket
import subprocess
import sys
import time

import net

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
from lib.region import PATIENCE, Region  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
HOST = ("10.8.0.1", "fd08::1")


def bridge():
    """The network that guests and host are in."""
    net.run("ip", "link", "set", "lo", "up")
    net.run("ip", "link", "add", "br0", "type", "bridge")
    net.run("ip", "link", "set", "br0", "up")
    net.run("ip", "addr", "add", HOST[0] + "/24", "dev", "br0")
    net.run("ip", "addr", "add", HOST[1] + "/64", "dev", "br0", "nodad")


def wait_for(what, says):
    end = time.monotonic() + PATIENCE
    while not says():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain: {what}")
        time.sleep(0.02)


def find_memory(region):
    """The path of a region's memory, which a guest has as its BAR."""
    path, = (f for f in glob.glob(f"/proc/{region.process.pid}/fd/*")
             if os.readlink(f).startswith("/memfd:ivshmem-"))
    return path


class Guest:
    """A context: a namespace, its relay and its agent."""

    def __init__(self, number, region, agent):
        self.name = f"g{number}"
        self.addr4, self.addr6 = f"10.8.0.{10 + number}", f"fd08::{10 + number}"
        self.region, self.program = region, agent
        self.agent = self.relay = self.folder = self.directory = self.uplink = None

    @staticmethod
    def config(number):
        """What the region is told about it."""
        return f"g{number}@10.8.0.{10 + number}+fd08::{10 + number}"

    def __enter__(self):
        self.folder = f"{self.region.folder}/{self.name}"
        os.mkdir(self.folder)
        net.run("ip", "netns", "add", self.name)
        net.run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0",
                "netns", self.name)
        net.run("ip", "link", "set", self.name, "master", "br0", "up")
        for words in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"],
                      ["addr", "add", self.addr4 + "/24", "dev", "eth0"],
                      ["addr", "add", self.addr6 + "/64", "dev", "eth0", "nodad"]):
            net.run("ip", "-n", self.name, *words)
        self.find_memory()
        self.start_relay()
        self.start_agent()
        return self

    def __exit__(self, *_):
        for process in (self.agent, self.relay):
            process.kill()
            process.wait()
        self.agent.stdout.close()
        net.run("ip", "netns", "del", self.name)

    def inside(self, shimmed=True):
        """The begin of a command in the guest."""
        preload = ["env", f"VRDMA_REGION={self.folder}/region", f"LD_PRELOAD={self.shim}"]
        return ["ip", "netns", "exec", self.name, *(preload if shimmed else [])]

    def find_memory(self):
        """The BAR: a link, for another server's memory to be there later."""
        os.symlink(find_memory(self.region), f"{self.folder}/new")
        os.rename(f"{self.folder}/new", f"{self.folder}/memory")

    def start_relay(self):
        port = f"{self.folder}/port"
        if os.path.exists(port):
            os.unlink(port)
        self.relay = subprocess.Popen([sys.executable, f"{HERE}/uplink_relay.py",
                                       f"{self.region.socket}.{self.name}.guest", port])
        wait_for("relay", lambda: os.path.exists(port))

    def cut_uplink(self):
        """Nobody is at the port's other end, as the host sees it and the guest."""
        self.relay.send_signal(signal.SIGUSR1)

    def restore_uplink(self):
        self.relay.send_signal(signal.SIGUSR2)

    def start_agent(self, wait=True):
        self.agent = subprocess.Popen(
            ["ip", "netns", "exec", self.name, self.program, "--region",
             f"{self.folder}/region", "--uplink", f"{self.folder}/port", "--memory",
             f"{self.folder}/memory"], stdout=subprocess.PIPE, text=True)
        wait_for("agent", self.answers)
        if wait:
            self.wait_up()

    def state(self):
        self.agent.send_signal(signal.SIGUSR1)
        self.directory = self.agent.stdout.readline()
        self.uplink = self.agent.stdout.readline()
        return re.search(r"state=(\w+)", self.uplink)[1]

    def answers(self):
        """Does the agent take programs?"""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            return not s.connect_ex(f"{self.folder}/region.dir")

    def lost(self):
        """How often it has lost the server."""
        return self.agents("lost")

    def released(self):
        """How many ends of connections its programs had."""
        return self.agents("released")

    def agents(self, counter):
        """A number of its line about the uplink."""
        self.state()
        return int(re.search(rf" {counter}=(\d+)", self.uplink)[1])

    def wait_up(self):
        wait_for("uplink", lambda: self.state() == "up")

    def paired(self):
        """Connections within the guest, or that its programs have offered."""
        self.state()
        return int(re.search(r" paired=(\d+)", self.directory)[1])

    def counters(self):
        return self.region.counters(self.name)
