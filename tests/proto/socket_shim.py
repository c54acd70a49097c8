#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The socket shim as programs meet it: an ordinary program (socket_peer.py) echoes between
two network namespaces and within one, with the shim at both ends, at one and at none.
The server's counters tell what carried the bytes.

Usage: socket_shim.py VRDMA_RUN VRDMA_IVSHMEM
"""

import errno
import os
import socket
import struct
import subprocess
import sys
import unittest

import net

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
from lib.region import Region  # noqa: E402

RUN, SERVER = sys.argv[1:3]
HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM, FILL = (os.path.join(HERE, f"socket_{name}.py") for name in ("peer", "fill"))
TIMEOUT_S = 60  # for what is done in a moment; never reached
MODES = ("block", "poll", "select", "epoll")


def command(words, shimmed, inside, program=PROGRAM):
    wrapper = [RUN, "--sockets", "--region", region.socket, "--"] if shimmed else []
    where = ["ip", "netns", "exec", net.PEER] if inside else []
    return [*where, *wrapper, sys.executable, program, *map(str, words)]


def setUpModule():
    global veth, region
    veth = net.Veth()
    region = unittest.enterModuleContext(Region(SERVER))


class Echo(unittest.TestCase):
    def setUp(self):
        self.before = region.counters()

    def counted(self, name):
        return region.counters()[name] - self.before[name]

    def start(self, mode, address, n, shimmed=True, inside=True):
        server = subprocess.Popen(command(["serve", mode, address, n], shimmed, inside),
                                  stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        return server, int(server.stdout.readline())

    def echo(self, mode, address, bound=None, n=5, shims=(True, True), inside=True):
        server, port = self.start(mode, bound or address, n, shims[0], inside)
        subprocess.run(command(["call", mode, address, port, n], shims[1], False),
                       check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)
        self.assertEqual(server.communicate(timeout=TIMEOUT_S)[0], "done\n")
        self.assertEqual(server.returncode, 0)

    def test_between_namespaces(self):
        for mode in MODES:
            for address in (veth.addr4[1], veth.addr6[1]):
                with self.subTest(mode=mode, address=address):
                    before = self.counted("paired")
                    self.echo(mode, address)
                    self.assertEqual(self.counted("paired") - before, 5)
        self.assertEqual(self.counted("cancelled"), 0)

    def test_within_a_namespace(self):
        for address in ("127.0.0.1", "::1", veth.addr4[0]):
            with self.subTest(address=address):
                before = self.counted("paired")
                self.echo("epoll", address, inside=False)
                self.assertEqual(self.counted("paired") - before, 5)

    def test_wildcard(self):
        for bound, address in (("0.0.0.0", veth.addr4[1]), ("::", veth.addr6[1])):
            with self.subTest(bound=bound):
                before = self.counted("paired")
                self.echo("poll", address, bound)
                self.assertEqual(self.counted("paired") - before, 5)

    def test_address_that_comes_later(self):
        """The first connection to it is the kernel's; by that it becomes known."""
        server, port = self.start("block", "0.0.0.0", 3)
        late = "10.9.0.77"
        net.run("ip", "-n", net.PEER, "addr", "add", late + "/24", "dev", "v1")
        self.addCleanup(net.run, "ip", "-n", net.PEER, "addr", "del", late + "/24", "dev", "v1")
        for paired in 0, 1, 2:
            subprocess.run(command(["call", "block", late, port, 1], True, False), check=True,
                           timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)
            self.assertEqual(self.counted("paired"), paired)
        self.assertEqual(server.communicate(timeout=TIMEOUT_S)[0], "done\n")

    def test_server_without_shim(self):
        self.echo("block", veth.addr4[1], shims=(False, True))
        self.assertEqual(self.counted("paired"), 0)
        self.assertEqual(self.counted("no_listener"), 5)

    def test_client_without_shim(self):
        self.echo("epoll", veth.addr4[1], shims=(True, False))
        self.assertEqual(self.counted("paired"), 0)
        self.assertEqual(self.counted("accept_no_offer"), 5)

    def test_loopback_is_each_namespaces_own(self):
        """A listener on one's loopback address is not that of the other."""
        _, port = self.start("block", "127.0.0.1", 1)
        call = subprocess.run(command(["call", "block", "127.0.0.1", port, 1], True, False),
                              stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
        self.assertIn("ConnectionRefusedError", call.stderr)
        self.assertEqual(self.counted("no_listener"), 1)

    def test_nothing_stays(self):
        self.echo("block", veth.addr4[1])
        after = region.counters()
        self.assertEqual((after["processes"], after["listeners"], after["offers"]), (0, 0, 0))
        self.assertEqual(after["offered"],
                         after["paired"] + after["cancelled"] + after["offers"])


class Rings(unittest.TestCase):
    """Ring sizes are what programs say with SO_SNDBUF and SO_RCVBUF; the larger counts."""

    DEFAULT = 256 << 10

    def start(self, *words):
        program = subprocess.Popen(command(words, True, False, FILL), text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(program.stdout.close)
        self.addCleanup(program.wait)
        self.addCleanup(program.stdin.close)
        return program

    def filled(self, client, server):
        """Bytes that the client's and the server's ring held, for these buffers."""
        serve = self.start("serve", "127.0.0.1", *server)
        port = int(serve.stdout.readline())
        call = self.start("call", "127.0.0.1", port, *client)
        # The room of the byte that was read may be given back later.
        return tuple(-(-int(p.stdout.readline()) // 2) * 2 for p in (call, serve))

    def test_sizes(self):
        big, small = 4 << 20, 64 << 10
        for client, server, sizes in (
                ((0, 0), (0, 0), (self.DEFAULT, self.DEFAULT)),
                ((big, 0), (0, 0), (big, self.DEFAULT)),
                ((0, small), (0, 0), (self.DEFAULT, small)),
                ((0, 0), (0, big), (big, self.DEFAULT)),
                ((0, 0), (small, small), (small, small)),
                ((100_000, small), (500_000, small), (128 << 10, 512 << 10)),
                ((1, 1 << 30), (0, 0), (small, big))):
            with self.subTest(client=client, server=server):
                self.assertEqual(self.filled(client, server), sizes)

    def test_memory_comes_back(self):
        serve = self.start("serve", "127.0.0.1", 0, 0)
        call = self.start("call", "127.0.0.1", int(serve.stdout.readline()), 0, 0)
        for program in serve, call:
            program.stdout.readline()
        for program in serve, call:
            self.assertEqual(program.communicate(timeout=TIMEOUT_S)[0], "1 ring, then 0\n")


class Uring(unittest.TestCase):
    """What would go past the rings is refused, in a way that programs know."""

    PROGRAM = """if True:
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.syscall(425, 1, bytes(200)) == -1
        print(ctypes.get_errno(), libc.io_uring_queue_init(1, bytes(300), 0))
        assert libc.syscall(39) == os.getpid()
    """

    def test_refused(self):
        done = subprocess.run([RUN, "--sockets", "--region", region.socket, "--", sys.executable,
                               "-c", self.PROGRAM], stdout=subprocess.PIPE, text=True,
                              timeout=TIMEOUT_S, check=True)
        self.assertEqual(done.stdout, f"{errno.ENOSYS} {-errno.ENOSYS}\n")


class Hostile(unittest.TestCase):
    """Who says to the directory what is not so. docs/socket-shim.md, section 3."""

    HELLO, PUBLISH, OFFER, CANCEL, ACCEPT = 1, 2, 4, 5, 6

    def setUp(self):
        self.before = region.counters()
        self.sock = self.open()

    def open(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(sock.close)
        sock.settimeout(TIMEOUT_S)
        sock.connect(region.socket + ".dir")
        return sock

    @staticmethod
    def address(ip, port):
        return bytes(10) + b"\xff\xff" + socket.inet_aton(ip) + struct.pack("I", port)

    def ask(self, op, fds=(), src=("0.0.0.0", 0), dst=("0.0.0.0", 0), number=0,
            size=0):
        """The answer's error, None if the server has closed."""
        message = struct.pack("IIQ", 2, op, number) + self.address(*src) + \
            self.address(*dst) + struct.pack("QIIII", size, 0, 0, 0, 0)
        socket.send_fds(self.sock, [message], fds)
        answer = self.sock.recv(100)
        return struct.unpack_from("i", answer)[0] if answer else None

    def tcp(self):
        s = socket.socket()
        self.addCleanup(s.close)
        s.bind(("127.0.0.1", 0))
        return s, s.getsockname()[1]

    def test_garbage(self):
        for data in (b"x", bytes(80), bytes(81), os.urandom(80)):
            sock = self.open()
            sock.send(data)
            self.assertEqual(sock.recv(100), b"")
        self.assertEqual(region.counters()["dir_garbage"] - self.before["dir_garbage"], 4)

    def test_no_greeting(self):
        self.assertIsNone(self.ask(self.CANCEL))

    def test_what_does_not_listen_is_not_published(self):
        self.assertEqual(self.ask(self.HELLO), 0)
        s, _ = self.tcp()
        self.assertEqual(self.ask(self.PUBLISH, [s.fileno()]), -errno.EINVAL)
        self.assertEqual(self.ask(self.PUBLISH), -errno.EINVAL)
        with open("/dev/null", "rb") as null:
            self.assertEqual(self.ask(self.PUBLISH, [null.fileno()]), -errno.EINVAL)

    def test_offer_and_accept_of_others(self):
        self.assertEqual(self.ask(self.HELLO), 0)
        listener, port = self.tcp()
        listener.listen()
        self.assertEqual(self.ask(self.PUBLISH, [listener.fileno()]), 0)
        s, own = self.tcp()
        fds = [s.fileno()]
        there = ("127.0.0.1", port)
        # another's port, another's address, nobody's listener
        for src, dst, error in ((("127.0.0.1", own + 1), there, errno.EINVAL),
                                (("127.0.0.2", own), there, errno.EINVAL),
                                (("127.0.0.1", own), ("127.0.0.1", 1), errno.ENOENT)):
            self.assertEqual(self.ask(self.OFFER, fds, src, dst, size=4096), -error)
        for size in (0, 1 << 30):
            self.assertEqual(self.ask(self.OFFER, fds, ("127.0.0.1", own), there, size=size),
                             -errno.EINVAL)
        # not connected, so it's nobody's yet; and nothing to be accepted
        self.assertEqual(self.ask(self.OFFER, fds, ("127.0.0.1", own), there, size=4096), 0)
        self.assertEqual(self.ask(self.ACCEPT, [s.fileno()]), -errno.ENOENT)
        self.assertEqual(self.ask(self.CANCEL, number=12345), -errno.EBUSY)

    def tearDown(self):
        """The others go on."""
        self.sock.close()
        echo = Echo()
        echo.setUp()
        try:
            echo.echo("block", veth.addr4[1], n=1)
        finally:
            echo.doCleanups()


if __name__ == "__main__":
    net.enter()
    unittest.main(argv=sys.argv[:1])
