#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Programs in guests, and on the host, through the memory of a region: guests.py tells
what stands for a guest. The server's and the agents' counters tell what carried the bytes.

Usage: socket_guests.py LIBRARY VRDMA_IVSHMEM VRDMA_GUEST
"""

import errno
import os
import random
import socket
import struct
import subprocess
import sys
import unittest

import guests
import net
from guests import Guest, Region, wait_for

LIBRARY, SERVER, AGENT = (os.path.abspath(p) for p in sys.argv[1:4])
PEER = os.path.join(guests.HERE, "socket_peer.py")
TIMEOUT_S = 60  # for what is done in a moment; never reached
SIZE = 64 << 20
Guest.library = LIBRARY


class Host:
    """The host, as a guest is seen."""
    addr4, addr6 = guests.HOST

    @staticmethod
    def inside(shimmed=True):
        return ["env", *(f"{k}={v}" for k, v in region.environment(LIBRARY).items())] \
            if shimmed else []


def setUpModule():
    global region, one, two, host
    guests.bridge()
    region = unittest.enterModuleContext(
        Region(SERVER, size=SIZE, guests=[Guest.config(n) for n in (1, 2, 3)]))
    one = unittest.enterModuleContext(Guest(1, region, AGENT))
    two = unittest.enterModuleContext(Guest(2, region, AGENT))
    host = Host()


def rings():
    return region.counters()["rings"]


class Programs(unittest.TestCase):
    def start(self, command):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def echo(self, client, server, mode="block", address=None, bound=None, n=3,
             shims=(True, True)):
        address = address or server.addr4
        process = self.start([*server.inside(shims[1]), sys.executable, PEER, "serve", mode,
                              bound or address, str(n)])
        port = int(process.stdout.readline())
        subprocess.run([*client.inside(shims[0]), sys.executable, PEER, "call", mode, address,
                        str(port), str(n)], check=True, timeout=TIMEOUT_S,
                       stdout=subprocess.DEVNULL)
        self.assertEqual(process.communicate(timeout=TIMEOUT_S)[0], "done\n")

    def tearDown(self):
        """All memory comes back."""
        self.doCleanups()
        wait_for("rings", lambda: rings() == 0)
        self.assertEqual(region.counters()["ring_memory"], 0)


class Echo(Programs):
    def test_between_guests(self):
        for mode in ("block", "epoll"):
            for address in (two.addr4, two.addr6):
                with self.subTest(mode=mode, address=address):
                    before = one.counters(), two.counters()
                    self.echo(one, two, mode, address)
                    after = one.counters(), two.counters()
                    self.assertEqual(after[0]["offered"] - before[0]["offered"], 3)
                    self.assertEqual(after[1]["accepted"] - before[1]["accepted"], 3)
        self.assertEqual(one.counters()["cancelled"], 0)

    def test_wildcard(self):
        for bound, address in (("0.0.0.0", two.addr4), ("::", two.addr6), ("::", two.addr4)):
            with self.subTest(bound=bound, address=address):
                before = two.counters()["accepted"]
                self.echo(one, two, "block", address, bound) if ":" not in bound or \
                    ":" in address else self.mapped(bound, address)
                self.assertGreater(two.counters()["accepted"], before)

    def mapped(self, bound, address):
        """A listener of IPv6 that is called by IPv4."""
        process = self.start([*two.inside(), sys.executable, "-c", f'''
import socket
s = socket.socket(socket.AF_INET6); s.bind(("{bound}", 0)); s.listen()
print(s.getsockname()[1], flush=True)
c = s.accept()[0]; c.sendall(c.recv(100))'''])
        port = int(process.stdout.readline())
        subprocess.run([*one.inside(), sys.executable, "-c", f'''
import socket
c = socket.create_connection(("{address}", {port})); c.sendall(b"x")
assert c.recv(10) == b"x" and c.recv(10) == b""'''], check=True, timeout=TIMEOUT_S)

    def test_native_and_guest(self):
        for client, server in ((host, one), (one, host)):
            with self.subTest(client=type(client)):
                before = one.counters()
                paired = region.counters()["paired"]
                self.echo(client, server, "epoll")
                after = one.counters()
                name = "accepted" if server is one else "offered"
                self.assertEqual(after[name] - before[name], 3)
                if client is host:
                    self.assertEqual(region.counters()["paired"] - paired, 3)

    def test_within_a_guest(self):
        for address in (one.addr4, "127.0.0.1", "::1"):
            with self.subTest(address=address):
                before, offered = one.paired(), one.counters()["offered"]
                self.echo(one, one, "block", address)
                self.assertEqual(one.paired() - before, 3)
                self.assertEqual(one.counters()["offered"], offered)

    def test_one_end_without_shim(self):
        before = one.counters(), two.counters()
        self.echo(one, two, shims=(True, False))
        self.echo(one, two, shims=(False, True))
        self.assertEqual(one.counters()["no_listener"] - before[0]["no_listener"], 3)
        self.assertEqual(two.counters()["no_offer"] - before[1]["no_offer"], 3)

    def test_killed_ends(self):
        for victim in ("client", "server"):
            with self.subTest(victim=victim):
                server = self.start([*two.inside(), sys.executable, "-c", f'''
import socket
s = socket.create_server(("{two.addr4}", 0)); print(s.getsockname()[1], flush=True)
c = s.accept()[0]; c.send(b"x")
print(c.recv(10), flush=True)'''])
                client = self.start([*one.inside(), sys.executable, "-c", f'''
import socket
c = socket.create_connection(("{two.addr4}", {server.stdout.readline()}))
c.recv(1); print("there", flush=True); print(c.recv(10), flush=True)'''])
                self.assertEqual(client.stdout.readline(), "there\n")
                self.assertEqual(rings(), 1)
                dead, other = (client, server) if victim == "client" else (server, client)
                dead.kill()
                self.assertEqual(other.stdout.readline(), "b''\n")
                wait_for("rings", lambda: rings() == 0)

    def test_forked_end_keeps_the_memory(self):
        server = self.start([*two.inside(), sys.executable, "-c", f'''
import os, socket, sys
s = socket.create_server(("{two.addr4}", 0)); print(s.getsockname()[1], flush=True)
c = s.accept()[0]; c.send(b"x")
if os.fork(): os._exit(0)
while data := c.recv(100): c.send(data)'''])
        port = int(server.stdout.readline())
        caller = self.start([*one.inside(), sys.executable, "-c", f"""
import os, socket, sys
c = socket.create_connection(("{two.addr4}", {port}))
assert c.recv(1) == b"x"
c.send(b"y"); assert c.recv(10) == b"y"
print("there", flush=True)
os.dup2(c.fileno(), 5)
os.execv(sys.executable, [sys.executable, "-c", '''
import socket
c = socket.socket(fileno=5)
c.send(b"z"); print(c.recv(10), flush=True); c.recv(1)'''])"""])
        self.assertEqual(caller.stdout.readline(), "there\n")
        self.assertEqual(caller.stdout.readline(), "b'z'\n")
        self.assertEqual(rings(), 1)
        caller.kill()

    def test_curl(self):
        folder = f"{region.folder}/www"
        os.makedirs(folder, exist_ok=True)
        data = random.Random(1).randbytes(8 << 20)
        with open(f"{folder}/file", "wb") as file:
            file.write(data)
        self.start([*two.inside(), sys.executable, "-m", "http.server", "--bind", two.addr4,
                    "--directory", folder, "8000"])
        before = one.counters()["offered"]
        got = subprocess.run([*one.inside(), "curl", "--silent", "--show-error", "--retry",
                              "100", "--retry-delay", "1", "--retry-connrefused",
                              f"http://{two.addr4}:8000/file"],
                             check=True, timeout=TIMEOUT_S, stdout=subprocess.PIPE).stdout
        self.assertTrue(got == data)
        self.assertGreater(one.counters()["offered"], before)


if __name__ == "__main__":
    net.enter()
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
