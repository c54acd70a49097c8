#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Programs in guests, and on the host, through the memory of a region: guests.py tells
what stands for a guest. The server's and the agents' counters tell what carried the bytes.

Usage: socket_guests.py SHIM VRDMA_IVSHMEM VRDMA_GUEST
"""

import errno
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import unittest

import guests
import net
from guests import Guest, Region, wait_for

SHIM, SERVER, AGENT = (os.path.abspath(p) for p in sys.argv[1:4])
PEER = os.path.join(guests.HERE, "socket_peer.py")
TIMEOUT_S = 60  # for what is done in a moment; never reached
SIZE = 64 << 20
Guest.shim = SHIM


class Host:
    """The host, as a guest is seen."""
    addr4, addr6 = guests.HOST

    @staticmethod
    def inside(shimmed=True):
        return ["env", *(f"{k}={v}" for k, v in region.environment(SHIM).items())] \
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


# A connection of "one" with "two" that stays, and says so when told to.
SERVE = """
import socket
s = socket.create_server(("{0}", 0)); print(s.getsockname()[1], flush=True)
while True:
    c = s.accept()[0]
    while data := c.recv(100): c.send(data)
    c.close()
"""
CALL = """
import socket, sys
c = socket.create_connection(("{0}", {1}))
for line in sys.stdin:
    c.send(line.encode()); print(c.recv(100).decode(), end="", flush=True)
"""


class Ends(Programs):
    """The agent, the server and the guest may go and come back, in any order."""

    def call(self, port):
        process = subprocess.Popen(
            [*one.inside(), sys.executable, "-c", CALL.format(two.addr4, port)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for what in (process.stdin.close, process.stdout.close, process.wait, process.kill):
            self.addCleanup(what)
        self.say(process)
        return process

    def serve(self, shimmed=True):
        process = self.start([*two.inside(shimmed), sys.executable, "-c",
                              SERVE.format(two.addr4)])
        return int(process.stdout.readline())

    def say(self, process):
        process.stdin.write("hello\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), "hello\n")

    @staticmethod
    def restart_agent(guest, kill=False):
        (guest.agent.kill if kill else guest.agent.terminate)()
        guest.agent.wait()
        guest.agent.stdout.close()
        guest.start_agent()

    def test_agent_restarts(self):
        for kill in (False, True):
            with self.subTest(kill=kill):
                before = self.call(self.serve())
                self.assertEqual(rings(), 1)
                self.restart_agent(one, kill)
                self.say(before)
                self.assertEqual(one.counters()["orphans"], 1)
                second = self.call(self.serve())
                self.assertEqual(rings(), 2)
                # the old one's memory is still its own, when it ends as well
                before.kill()
                second.kill()
                self.doCleanups()
                wait_for("rings", lambda: rings() == one.counters()["orphans"] == 1)
                self.end_guest(one)
                wait_for("rings", lambda: rings() == 0)

    @staticmethod
    def end_guest(guest):
        guest.relay.kill()
        guest.relay.wait()
        guest.start_relay()
        guest.wait_up()

    def test_uplink_breaks(self):
        """The same agent goes on: what it had comes back, also if that ended meanwhile."""
        stays, goes = self.call(self.serve()), self.call(self.serve())
        self.assertEqual(rings(), 2)
        one.cut_uplink()
        wait_for("loss", lambda: one.state() != "up")
        goes.kill()
        one.restore_uplink()
        one.wait_up()
        wait_for("rings", lambda: rings() == 1)
        self.say(stays)
        self.assertEqual((one.counters()["orphans"], one.counters()["ends"]), (0, 1))
        stays.kill()
        wait_for("rings", lambda: rings() == 0)

    def test_release_on_its_way_is_said_again(self):
        """What the agent said that the server never read, when the uplink broke."""
        stays, goes = self.call(self.serve()), self.call(self.serve())
        released = one.released()
        one.relay.send_signal(signal.SIGSTOP)
        goes.kill()
        wait_for("release", lambda: one.released() > released)
        one.cut_uplink()
        one.relay.send_signal(signal.SIGCONT)
        wait_for("loss", lambda: one.state() != "up")
        self.assertEqual(one.counters()["ends"], 2)
        one.restore_uplink()
        one.wait_up()
        wait_for("rings", lambda: rings() == 1)
        self.say(stays)
        # an answer that tells that it was heard, and another session after that
        self.call(self.serve())
        one.cut_uplink()
        wait_for("loss", lambda: one.state() != "up")
        one.restore_uplink()
        one.wait_up()
        self.say(stays)
        self.assertEqual(rings(), 2)

    def test_more_listeners_than_the_stream_has_room_for(self):
        """The server hears of all of them, also in the next session."""
        addresses = [f"10.8.1.{n}/32" for n in range(1, 11)]
        for address in addresses:
            net.run("ip", "-n", one.name, "addr", "add", address, "dev", "eth0")
            self.addCleanup(net.run, "ip", "-n", one.name, "addr", "del", address, "dev",
                            "eth0")
        listeners = 250
        lost, said = one.lost(), one.counters()["addr_refused"]
        process = self.start([*one.inside(), sys.executable, "-c", f'''
import socket, time
all = [socket.create_server(("0.0.0.0", 0)) for _ in range({listeners})]
print(flush=True)
time.sleep(1000)'''])
        process.stdout.readline()
        for session in (1, 2):
            with self.subTest(session=session):
                wait_for("listeners", lambda: one.counters()["listeners"] == listeners)
                # the server takes none but the guest's own
                wait_for("all of them", lambda n=session: one.counters()["addr_refused"] -
                         said == n * listeners * len(addresses))
                self.assertEqual(one.state(), "up")
                self.assertEqual(one.lost() - lost, session - 1)
            if session == 1:
                one.cut_uplink()
                wait_for("loss", lambda: one.state() != "up")
                one.restore_uplink()
                one.wait_up()
        self.echo(two, one)

    def test_guest_ends(self):
        self.call(self.serve())
        self.assertEqual(rings(), 1)
        self.end_guest(one)
        self.end_guest(two)
        wait_for("rings", lambda: rings() == 0)

    def test_server_restarts(self):
        caller = self.call(self.serve())
        lost = one.lost()
        region.restart()
        wait_for("loss", lambda: one.lost() > lost)
        self.say(caller)
        for guest in one, two:
            # its BAR is the old server's: nothing is asked
            wait_for("refusal", lambda g=guest: g.state() == "refused")
        self.echo(one, two)
        self.assertEqual(region.counters()["rings"], 0)
        for guest in one, two:
            guest.find_memory()
            guest.wait_up()
        before = one.counters()["offered"]
        self.echo(one, two)
        self.assertEqual(one.counters()["offered"] - before, 3)

    def test_server_hangs(self):
        """connect() waits for a while, and then it is the kernel's."""
        port = self.serve(shimmed=False)
        os.kill(region.process.pid, signal.SIGSTOP)
        try:
            self.call(port)
        finally:
            os.kill(region.process.pid, signal.SIGCONT)
        one.wait_up()


class Hostile(unittest.TestCase):
    """A guest without agent that says what none does. It has address 10.8.0.13."""
    HELLO, WELCOME, PUBLISH, UNPUBLISH, OFFER, CANCEL, ACCEPT, RELEASE = range(1, 9)
    OFFER_R, CANCEL_R, ACCEPT_R, ACCEPTED = range(16, 20)
    NAME = b"0123456789abcdef"
    OWN, OTHER, FREE = "10.8.0.13", "10.8.0.11", "10.8.0.99"

    def setUp(self):
        self.sock = self.open()
        self.say(self.HELLO, name=self.NAME, boot=os.urandom(16))
        kind, _, error, _, size, *_ = self.hear()
        self.assertEqual((kind, error, size), (self.WELCOME, 0, SIZE))
        self.before = region.counters("g3")

    def tearDown(self):
        self.sock.close()
        wait_for("end", lambda: region.counters("g3")["uplink"] == 0)
        self.assertEqual(one.state(), "up")

    @staticmethod
    def open():
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT_S)
        sock.connect(f"{region.socket}.g3.guest")
        return sock

    @staticmethod
    def frame(kind, number=0, src=("0.0.0.0", 0), dst=("0.0.0.0", 0), size=0, name=b"",
              boot=b"", token=b"", version=1, magic=0x70757276):
        def ip(text):
            return bytes(10) + b"\xff\xff" + socket.inet_aton(text)
        return struct.pack("<IHHQiI16s16sIIQQ16s16s16s", magic, version, kind, number, 0, 0,
                           ip(src[0]), ip(dst[0]), src[1], dst[1], 0, size, token, name,
                           boot)

    def say(self, *args, **kwargs):
        self.sock.sendall(self.frame(*args, **kwargs))

    def hear(self):
        """kind, number, error, offset, size, token; None at the end"""
        try:
            data = self.sock.recv(128, socket.MSG_WAITALL)
        except ConnectionResetError:
            data = b""
        if not data:
            return None
        _, _, kind, number, error, _, _, _, _, _, offset, size, token, _, _ = \
            struct.unpack("<IHHQiI16s16sIIQQ16s16s16s", data)
        return kind, number, error, offset, size, token

    def counted(self, name):
        return region.counters("g3")[name] - self.before[name]

    def test_garbage(self):
        good = self.frame(self.PUBLISH, 1)
        for data in (b"\0" * 128, self.frame(self.PUBLISH, 1, magic=1), self.frame(99, 1),
                     self.frame(self.WELCOME, 1), self.frame(self.OFFER, 0),
                     self.frame(self.ACCEPTED, 1),
                     good + os.urandom(128), self.frame(self.OFFER, 1, ("1.1.1.1", 1 << 20))):
            with self.subTest(data=data[:16]):
                before = self.counted("dropped_garbage")
                self.sock.close()
                wait_for("end", lambda: region.counters("g3")["uplink"] == 0)
                self.setUp()
                self.before["dropped_garbage"] -= before
                self.sock.sendall(data)
                self.assertIsNone(self.hear())
                self.assertEqual(region.counters("g3")["uplink"], 0)

    def test_before_hello_nothing_counts(self):
        self.sock.close()
        self.sock = self.open()
        self.say(self.OFFER, 1, (self.OWN, 1), (self.OTHER, 1), size=4096)
        self.say(self.HELLO, name=self.NAME, version=2)
        self.assertEqual(self.hear()[:3], (self.WELCOME, 0, -errno.EPROTONOSUPPORT))
        self.say(self.OFFER, 1, (self.OWN, 1), (self.OTHER, 1), size=4096)
        self.say(self.HELLO, name=self.NAME)
        self.assertEqual(self.hear()[:3], (self.WELCOME, 0, 0))

    def test_second_uplink_is_refused(self):
        with self.open() as sock:
            self.assertEqual(sock.recv(1), b"")
        self.assertEqual(self.counted("refused_busy"), 1)

    def test_addresses_of_others(self):
        self.say(self.PUBLISH, 1, dst=(self.OTHER, 80))
        self.say(self.PUBLISH, 1, dst=("127.0.0.1", 80))
        self.say(self.PUBLISH, 1, dst=(guests.HOST[0], 80))
        self.say(self.OFFER, 2, (self.OTHER, 1), (self.OTHER, 2), size=4096)
        self.assertEqual(self.hear()[:3], (self.OFFER_R, 2, -errno.EACCES))
        self.say(self.ACCEPT, 3, (self.OWN, 1), (self.OTHER, 2))
        self.assertEqual(self.hear()[:3], (self.ACCEPT_R, 3, -errno.EACCES))
        self.assertEqual(self.counted("addr_refused"), 5)
        self.assertEqual(self.counted("listeners"), 0)

    def listener(self):
        """A native one, for offers."""
        process = subprocess.Popen([*host.inside(), sys.executable, "-c", f'''
import socket, time
s = socket.create_server(("{host.addr4}", 0)); print(s.getsockname()[1], flush=True)
time.sleep(1000)'''], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return host.addr4, int(process.stdout.readline())

    def test_offers(self):
        there = self.listener()
        for size in (0, (16 << 20) + 1):
            self.say(self.OFFER, 1, (self.OWN, 1), there, size=size)
            self.assertEqual(self.hear()[:3], (self.OFFER_R, 1, -errno.EINVAL))
        self.say(self.OFFER, 1, (self.OWN, 1), (there[0], 1), size=4096)
        self.assertEqual(self.hear()[:3], (self.OFFER_R, 1, -errno.ENOENT))
        self.say(self.OFFER, 1, (self.OWN, 1), there, size=4096)
        _, _, error, offset, size, _ = self.hear()
        self.assertEqual((error, size), (0, 4096))
        self.assertGreaterEqual(offset, 4096)
        self.say(self.CANCEL, 1)
        self.assertEqual(self.hear()[:3], (self.CANCEL_R, 1, 0))
        self.say(self.CANCEL, 1)
        self.assertEqual(self.hear()[:3], (self.CANCEL_R, 1, -errno.EBUSY))
        self.assertEqual(rings(), 1)
        self.say(self.RELEASE, 1)
        wait_for("rings", lambda: rings() == 0)
        # a number that is in use
        for _ in range(2):
            self.say(self.OFFER, 2, (self.OWN, 1), there, size=4096)
        self.assertEqual(self.hear()[2], 0)
        self.assertIsNone(self.hear())

    def test_memory_ends(self):
        there, n, places = self.listener(), 0, set()
        while True:
            n += 1
            self.say(self.OFFER, n, (self.OWN, n), there, size=4 << 20)
            _, _, error, offset, size, _ = self.hear()
            if error:
                break
            self.assertTrue(all(abs(offset - p) >= 4 << 20 for p in places))
            self.assertLessEqual(offset + size, SIZE)
            places.add(offset)
        self.assertEqual((error, len(places)), (-errno.ENOSPC, (SIZE >> 22) - 1))
        self.assertEqual(self.counted("no_memory"), 1)
        # another session of the same boot doesn't free it, another boot does
        self.say(self.HELLO, name=self.NAME, boot=b"x" * 16)
        self.hear()
        self.assertEqual(rings(), 0)

    def test_same_boot_keeps_memory(self):
        there = self.listener()
        self.say(self.HELLO, name=self.NAME, boot=b"y" * 16)
        self.hear()
        self.say(self.OFFER, 1, (self.OWN, 1), there, size=4096)
        self.assertEqual(self.hear()[2], 0)
        self.say(self.HELLO, name=self.NAME, boot=b"y" * 16)
        self.hear()
        self.assertEqual((rings(), self.counted("orphans"), self.counted("ends")), (1, 0, 1))
        self.say(self.HELLO, name=self.NAME, boot=b"y" * 16, token=b"another agent")
        self.hear()
        self.assertEqual((rings(), self.counted("orphans"), self.counted("ends")), (1, 1, 0))
        self.say(self.HELLO, name=self.NAME, boot=b"z" * 16)
        self.hear()
        self.assertEqual((rings(), self.counted("orphans")), (0, 0))

    def test_says_very_much(self):
        while not self.counted("throttled"):
            self.sock.sendall(self.frame(self.UNPUBLISH, 1) * 10000)
        self.assertEqual(one.state(), "up")

    def test_reads_nothing(self):
        """Then no more is taken of it, and others don't notice."""
        self.sock.settimeout(0)
        frame, at, stuck = self.frame(self.CANCEL, 1), 0, 0
        while stuck < 20:
            try:
                at += self.sock.send((frame * 100)[at % 128:])
                stuck = 0
            except BlockingIOError:
                stuck += 1
                region.counters()
        self.assertEqual((self.counted("uplink"), self.counted("dropped_garbage")), (0, 0))
        self.assertEqual(one.state(), "up")


if __name__ == "__main__":
    net.enter()
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
