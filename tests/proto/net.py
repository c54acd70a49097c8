# SPDX-License-Identifier: BSD-3-Clause
"""Two network namespaces joined by a veth pair, all of it this process's own.

The process re-executes itself under unshare(1), with a /run of its own for ip-netns(8):
no name can collide with anything on the host, and all is gone when the process ends. As
an ordinary user it takes a user namespace; where that is forbidden too, the test is
skipped (exit 77).
"""

import ctypes
import os
import socket
import subprocess
import sys

CLONE_NEWNET = 0x40000000
MARK = "VRDMA_TEST_OWN_NET"
PEER = "peer"
ETH_P_ALL = 3
WAIT_S = 10  # for a packet that is on its way; never reached


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def enter():
    """Go on in new namespaces; returns there, as root of them."""
    if MARK in os.environ:
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        return
    unshare = ["unshare", "--net", "--mount"]
    if os.geteuid() != 0:
        unshare += ["--map-root-user"]
    probe = subprocess.run(unshare + ["true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        print("skipped: no namespaces of our own:", probe.stderr.strip())
        sys.exit(77)
    os.environ[MARK] = "1"
    os.execvp("unshare", unshare + [sys.executable] + sys.argv)


class Veth:
    """This namespace has interface v0 with addr[0], the namespace "peer" v1 with addr[1]."""

    addr4 = ("10.9.0.1", "10.9.0.2")
    addr6 = ("fd09::1", "fd09::2")
    macs = ("02:00:00:00:00:01", "02:00:00:00:00:02")

    def __init__(self, mtu=9000):
        run("ip", "netns", "add", PEER)
        run("ip", "link", "add", "v0", "address", self.macs[0], "mtu", str(mtu), "type",
            "veth", "peer", "name", "v1", "address", self.macs[1], "mtu", str(mtu),
            "netns", PEER)
        for i, where in enumerate(([], ["-n", PEER])):
            run("ip", *where, "link", "set", "lo", "up")
            run("ip", *where, "addr", "add", self.addr4[i] + "/24", "dev", f"v{i}")
            run("ip", *where, "addr", "add", self.addr6[i] + "/64", "dev", f"v{i}", "nodad")
            run("ip", *where, "link", "set", f"v{i}", "up")
        # GSO sends are cut up before the wire, as before a NIC without that offload, and
        # nothing puts them together again: the wire carries what a receiver would see
        run("ethtool", "-K", "v0", "tx", "off")
        run(*self.in_peer(), "ethtool", "-K", "v1", "gro", "off")
        # fixed neighbours: no ARP or ND between the packets that a test looks at
        for addrs in self.addr4, self.addr6:
            run("ip", "neigh", "add", addrs[1], "lladdr", self.macs[1], "dev", "v0")
            run("ip", "-n", PEER, "neigh", "add", addrs[0], "lladdr", self.macs[0],
                "dev", "v1")

    @staticmethod
    def in_peer():
        """The start of a command line that runs in the peer's namespace."""
        return ["ip", "netns", "exec", PEER]

    @staticmethod
    def peer_socket(*args):
        """A socket that belongs to the peer's namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/self/ns/net", "rb") as own, open(f"/run/netns/{PEER}", "rb") as peer:
            for target, action in ((peer, lambda: socket.socket(*args)), (own, None)):
                if libc.setns(target.fileno(), CLONE_NEWNET) < 0:
                    raise OSError(ctypes.get_errno(), "setns")
                if action:
                    sock = action()
        return sock


class PeerPort:
    """The peer's end of the wire, below its IP: raw frames out and in."""

    def __init__(self, veth):
        self.veth = veth
        self.sock = veth.peer_socket(socket.AF_PACKET, socket.SOCK_RAW,
                                     socket.htons(ETH_P_ALL))
        self.sock.bind(("v1", ETH_P_ALL))
        self.sock.settimeout(WAIT_S)

    def transmit(self, packet):
        """Send the bytes of an IP packet."""
        kind = 0x0800 if packet[0] >> 4 == 4 else 0x86dd
        macs = [bytes.fromhex(mac.replace(":", "")) for mac in self.veth.macs]
        self.sock.send(macs[0] + macs[1] + kind.to_bytes(2, "big") + packet)

    def receive(self):
        """The bytes of the next IP packet that comes in; TimeoutError if none does."""
        while True:
            frame, where = self.sock.recvfrom(65536)
            if where[2] in (socket.PACKET_HOST, socket.PACKET_MULTICAST):
                return frame[14:]

    def close(self):
        self.sock.close()


class Tool:
    """A program of ours that takes commands and answers in lines."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def tell(self, command):
        self.process.stdin.write(command + "\n")

    def answer(self):
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")
        return line.strip()

    def ask(self, command):
        self.tell(command)
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()
