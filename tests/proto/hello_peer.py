#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A second implementation of docs/hello-protocol.md, as the judge of the first.

Written from the document alone. It speaks to the control thread in hello_tool over
loopback: in every role (initiator or acceptor, leader or follower, with and without a key),
and then as a peer that breaks the protocol in every way of the document's tables.
Waits end in failure only after a minute; nothing depends on how fast things are.

Usage: hello_peer.py HELLO_TOOL
"""
import collections
import hashlib
import hmac
import os
import queue
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

WAIT = 60
PORT = 4791
HELLO, AUTH, ENDPOINT, READY, KEEPALIVE, BYE = range(1, 7)
REASONS = ("none shutdown version key_required key_unexpected auth unknown_peer malformed "
           "endpoint duplicate timeout resources qp_failed removed self").split()
KEY = b"0123456789abcdef0123456789ABCDEF"
FOLLOWER, LEADER = 1, 2**64 - 1

# Loopback addresses of this process alone, as other tests run beside it.
_BASE = "127.%d.%d." % (128 + (os.getpid() >> 8) % 120, os.getpid() & 255)
TOOL, PEER, STRANGER = _BASE + "1", _BASE + "2", _BASE + "3"


class Closed(Exception):
    """The other side ended the TCP connection."""


class ByeReceived(Exception):
    def __init__(self, reason):
        super().__init__(REASONS[reason])
        self.reason = REASONS[reason]


def gid(address):
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address)


def endpoint(address=PEER, caps=7, message=65600, depth=256, mtu=4096, n=None,
             mac=b"\2\0\0\0\0\2", name=b"python", qps=((0xabcdef, 0x123456),), own_gid=None):
    return (struct.pack(">16sIIIHBB6sH32s", own_gid or gid(address), caps, message, depth,
                        mtu, len(qps) if n is None else n, 0, mac, 0, name)
            + b"".join(struct.pack(">II", *qp) for qp in qps))


class Peer:
    """One hello connection, driven step by step."""

    def __init__(self, sock, initiator, instance=LEADER, key=None, address=PEER):
        self.sock, self.initiator, self.instance, self.key = sock, initiator, instance, key
        self.address = address
        self.sock.settimeout(WAIT)
        self.hello = {}
        self.tx_key = self.rx_key = None
        self.tx_seq = self.rx_seq = 0
        self.sent = b""

    @classmethod
    def connect(cls, address=PEER, **kwargs):
        end = time.monotonic() + WAIT
        while True:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, 0))
            try:
                sock.connect((TOOL, PORT))
                return cls(sock, True, address=address, **kwargs)
            except ConnectionRefusedError:  # not listening yet
                sock.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def close(self):
        self.sock.close()

    # -- messages

    def send_raw(self, data):
        self.sent += data
        self.sock.sendall(data)

    def build(self, kind, body=b"", version=1, magic=b"VRDH", length=None):
        size = 8 + len(body) + (32 if self.tx_key else 0)
        message = struct.pack(">4sBBH", magic, version, kind,
                              size if length is None else length) + body
        if self.tx_key:
            message += hmac.digest(self.tx_key, struct.pack(">Q", self.tx_seq) + message,
                                   "sha256")
            self.tx_seq += 1
        return message

    def send(self, kind, body=b"", **kwargs):
        self.send_raw(self.build(kind, body, **kwargs))

    def _read(self, size):
        data = b""
        while len(data) < size:
            try:
                got = self.sock.recv(size - len(data))
            except ConnectionResetError:
                got = b""
            if not got:
                raise Closed(data)
            data += got
        return data

    def recv(self, expected):
        """Returns (body, whole message) of the next message, which must be expected."""
        header = self._read(8)
        magic, version, kind, length = struct.unpack(">4sBBH", header)
        assert magic == b"VRDH" and version == 1 and 8 <= length <= 1024, header
        body = self._read(length - 8)
        message = header + body
        if self.rx_key:
            code = hmac.digest(self.rx_key, struct.pack(">Q", self.rx_seq) + message[:-32],
                               "sha256")
            assert hmac.compare_digest(code, body[-32:]), "code of message %d" % self.rx_seq
            self.rx_seq += 1
            body = body[:-32]
        if kind == BYE:
            reason, reserved = struct.unpack(">HH", body)
            assert reserved == 0
            raise ByeReceived(reason)
        assert kind == expected, "type %d, expected %d" % (kind, expected)
        return body, message

    def quiet(self, seconds=0.2):
        """Nothing comes for a while."""
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(1)
            raise AssertionError("unexpected: %r" % data)
        except socket.timeout:
            self.sock.settimeout(WAIT)

    # -- steps

    def hello_body(self, low=1, high=1, flags=None, extra=b""):
        flags = (1 if self.key else 0) if flags is None else flags
        return struct.pack(">BBHIQ", low, high, flags, 0, self.instance) + os.urandom(32) + extra

    def send_hello(self, **kwargs):
        message = self.build(HELLO, self.hello_body(**kwargs))
        self.hello[self.initiator] = message
        self.send_raw(message)

    def recv_hello(self):
        body, message = self.recv(HELLO)
        self.hello[not self.initiator] = message
        low, high, flags, reserved, self.remote_instance = struct.unpack(">BBHIQ", body[:16])
        assert (low, high, reserved) == (1, 1, 0) and self.remote_instance
        assert flags == (1 if self.key else 0)
        assert len(body) == 48
        self.leads = self.instance > self.remote_instance

    def hellos(self):
        if self.initiator:
            self.send_hello()
            self.recv_hello()
        else:
            self.recv_hello()
            self.send_hello()

    def derive(self, what, by_initiator):
        label = "vrdma-hello-1 %s %s" % (what, "initiator" if by_initiator else "acceptor")
        return hmac.digest(self.key, label.encode() + self.hello[True] + self.hello[False],
                           hashlib.sha256)

    def send_auth(self):
        self.send(AUTH, self.derive("auth", self.initiator))
        self.tx_key = self.derive("code", self.initiator)

    def recv_auth(self):
        proof, _ = self.recv(AUTH)
        assert proof == self.derive("auth", not self.initiator)
        self.rx_key = self.derive("code", not self.initiator)

    def auths(self):
        if not self.key:
            return
        if self.initiator:
            self.send_auth()
            self.recv_auth()
        else:
            self.recv_auth()
            self.send_auth()

    def recv_endpoint(self):
        body, _ = self.recv(ENDPOINT)
        (tool_gid, caps, message, depth, mtu, n, reserved, mac, reserved2,
         name) = struct.unpack(">16sIIIHBB6sH32s", body[:72])
        assert tool_gid == gid(TOOL) and (caps, message, depth, mtu, n) == (7, 65600, 512, 1024, 2)
        assert (reserved, reserved2, mac) == (0, 0, b"\2\0\0\0\0\7")
        assert name == b"tool" + bytes(28) and len(body) == 72 + 16
        (qpn0, psn0), (qpn1, psn1) = struct.iter_unpack(">II", body[72:])
        assert qpn0 >= 0x100 and qpn1 == qpn0 + 1 and (psn0, psn1) == (0xfffff0, 0xfffff1)

    def endpoints(self, body=None):
        body = endpoint(self.address) if body is None else body
        if self.leads:
            self.send(ENDPOINT, body)
            self.recv_endpoint()
        else:
            self.recv_endpoint()
            self.send(ENDPOINT, body)

    def readys(self):
        self.send(READY)
        self.recv(READY)

    def handshake(self):
        self.hellos()
        self.auths()
        self.endpoints()
        self.readys()
        return self

    def expect_bye(self, *reasons):
        """A BYE with one of the reasons, perhaps behind other messages, then the end."""
        try:
            while True:
                self.recv(KEEPALIVE)
        except ByeReceived as bye:
            assert bye.reason in reasons, "BYE %s, expected %s" % (bye.reason, reasons)
        self.expect_end()

    def expect_end(self):
        self.sock.shutdown(socket.SHUT_WR)
        try:
            while True:
                self._read(1)
        except Closed:
            self.close()


class Tool:
    """A hello_tool process."""

    def __init__(self, binary, key=None, peers=()):
        self.keyfile = None
        if key:
            self.keyfile = tempfile.NamedTemporaryFile()  # mode 0600
            self.keyfile.write(key + b"\n")
            self.keyfile.flush()
        command = [binary, TOOL, str(PORT), self.keyfile.name if key else "-"]
        for peer in peers:
            command += [peer, str(PORT)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._reader, daemon=True).start()

    def _reader(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def expect(self, start):
        """The next line about a peer starts so; returns it."""
        line = self.lines.get(timeout=WAIT)
        assert line.startswith(start), "%r, expected %r" % (line, start)
        return line

    def expect_up(self):
        self.expect("open 0")
        line = self.expect("connect 0")
        assert line == "connect 0 python mtu=4096 qps=1 qpn=0xabcdef psn=0x123456", line
        self.expect("up 0")

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def counters(self):
        assert self.lines.empty(), self.lines.get()
        self.ask("counters")
        result = {}
        while True:
            line = self.lines.get(timeout=WAIT)
            if line == ".":
                return result
            _, name, value = line.split()
            result[name] = int(value)

    def wait_counters(self, what, condition):
        end = time.monotonic() + WAIT
        while True:
            counters = self.counters()
            if condition(counters):
                return counters
            assert time.monotonic() < end, "%s: %s" % (what, counters)
            time.sleep(0.02)

    def wait_settled(self, n_open=0):
        """Every connection but n_open has ended, and is in exactly one counter."""
        def settled(c):
            ends = sum(v for k, v in c.items() if k.startswith(("hello_end_", "hello_bye_")))
            return c["hello_connects"] + c["hello_accepts"] in (ends + n_open, ends + n_open + 1)
        return self.wait_counters("settled", settled)

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=WAIT) == 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.process.kill()
            self.process.wait()
        else:
            self.stop()


def listener():
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((PEER, PORT))
    sock.listen()
    sock.settimeout(WAIT)
    return sock


# ---- the exchange, in all roles

def test_roles(binary):
    for key in (None, KEY):
        for instance in (LEADER, FOLLOWER):
            with Tool(binary, key, [PEER]) as tool:
                peer = Peer.connect(instance=instance, key=key).handshake()
                assert peer.leads == (instance == LEADER)
                tool.expect_up()
                for _ in range(2):
                    peer.send(KEEPALIVE)
                    peer.recv(KEEPALIVE)
                peer.send(BYE, struct.pack(">HH", 1, 0))
                peer.expect_end()
                tool.expect("down 0 the peer was shut down")
                assert tool.counters()["hello_bye_shutdown"] == 1

                with listener() as server:
                    sock, (source, _) = server.accept()
                assert source == TOOL
                peer = Peer(sock, False, instance=instance, key=key).handshake()
                tool.expect_up()
                tool.ask("fail 0")
                tool.expect("down 0 the queue pair failed")
                peer.expect_bye("qp_failed")


def test_stop_says_bye(binary):
    for key in (None, KEY):
        tool = Tool(binary, key, [PEER])
        peer = Peer.connect(key=key).handshake()
        tool.expect_up()
        tool.stop()
        peer.expect_bye("shutdown")
        tool.expect("down 0 this side is being closed")


def test_acceptor_waits(binary):
    """It says nothing before HELLO, nor proves the key before AUTH came."""
    with Tool(binary, KEY, [PEER]):
        peer = Peer.connect(key=KEY)
        peer.quiet()
        peer.hellos()
        peer.quiet()
        peer.send_auth()
        peer.recv_auth()
        peer.quiet()  # it is the follower
        peer.close()


def test_longer_hello(binary):
    for key in (None, KEY):
        with Tool(binary, key, [PEER]) as tool:
            peer = Peer.connect(key=key)
            peer.send_hello(high=9, extra=os.urandom(200))
            peer.recv_hello()
            peer.auths()
            peer.endpoints()
            peer.readys()
            tool.expect_up()
            peer.close()
            tool.expect("down 0 the peer closed the connection")


# ---- who is let in

def test_strangers(binary):
    with Tool(binary, None, [PEER]) as tool:
        peer = Peer.connect(address=STRANGER)
        peer.expect_bye("unknown_peer")
        tool.wait_counters("refused", lambda c: c["hello_end_unknown_peer"] == 1)
    with Tool(binary, KEY) as tool:
        peer = Peer.connect(address=STRANGER, key=KEY).handshake()
        tool.expect_up()
        peer.close()
        tool.expect("down 0")


def test_keys(binary):
    with Tool(binary, KEY, [PEER]) as tool:
        peer = Peer.connect()
        peer.send_hello()
        peer.expect_bye("key_required")
        peer = Peer.connect(key=KEY[:-1] + b"!")
        peer.hellos()
        peer.send_auth()
        peer.expect_bye("auth")
        peer = Peer.connect(key=KEY)  # the right proof with a wrong code behind it
        peer.hellos()
        peer.auths()
        message = bytearray(peer.build(ENDPOINT, endpoint()))
        message[-1] ^= 1
        peer.send_raw(bytes(message))
        peer.expect_bye("auth")
        peer = Peer.connect(key=KEY)  # no code at all
        peer.hellos()
        peer.auths()
        peer.tx_key = None
        peer.send(ENDPOINT, endpoint())
        peer.expect_bye("auth")
        peer = Peer.connect(key=KEY)  # the acceptor's own proof sent back
        peer.hellos()
        peer.send(AUTH, peer.derive("auth", False))
        peer.expect_bye("auth")
        c = tool.wait_settled()
        assert c["hello_end_auth"] == 4 and c["hello_end_key_required"] == 1, c
    with Tool(binary, None, [PEER]) as tool:
        peer = Peer.connect(key=KEY)
        peer.send_hello()
        peer.expect_bye("key_unexpected")
    # The tool as initiator: it judges the acceptor's HELLO and AUTH.
    with listener() as server, Tool(binary, KEY, [PEER]) as tool:
        peer = Peer(server.accept()[0], False)
        peer.key = KEY  # to understand its HELLO
        peer.recv_hello()
        peer.send_hello(flags=0)
        peer.expect_bye("key_required")
        peer = Peer(server.accept()[0], False, key=KEY)
        peer.hellos()
        peer.recv_auth()
        peer.send(AUTH, bytes(32))
        peer.expect_bye("auth")


def test_third_party_gid(binary):
    for key in (None, KEY):
        with Tool(binary, key, [PEER]) as tool:
            peer = Peer.connect(key=key)
            peer.hellos()
            peer.auths()
            peer.send(ENDPOINT, endpoint(own_gid=gid(STRANGER)))
            peer.expect_bye("endpoint")
            assert tool.wait_settled()["hello_end_endpoint"] == 1


# ---- which connection stays

def test_one_connection(binary):
    # The tool leads: first come, first served; a new instance takes over.
    with Tool(binary, None, [PEER]) as tool:
        first = Peer.connect(instance=FOLLOWER).handshake()
        tool.expect_up()
        second = Peer.connect(instance=FOLLOWER)
        second.hellos()
        second.expect_bye("duplicate")
        first.send(KEEPALIVE)
        first.recv(KEEPALIVE)
        restarted = Peer.connect(instance=FOLLOWER + 1).handshake()
        tool.expect("down 0 the peer was started anew")
        tool.expect_up()
        first.expect_end()
        restarted.close()
        tool.expect("down 0")
    # The tool follows: it takes the connection on which ENDPOINT comes.
    with Tool(binary, None, [PEER]) as tool:
        first = Peer.connect(instance=LEADER).handshake()
        tool.expect_up()
        waiting = Peer.connect(instance=LEADER)
        waiting.hellos()
        waiting.quiet()
        first.send(KEEPALIVE)
        first.recv(KEEPALIVE)
        waiting.endpoints()
        tool.expect("down 0 another connection serves")
        tool.expect("open 0")
        tool.expect("connect 0")
        waiting.readys()
        tool.expect("up 0")
        first.expect_bye("duplicate")
        restarted = Peer.connect(instance=LEADER - 1).handshake()
        tool.expect("down 0 the peer was started anew")
        tool.expect_up()
        waiting.expect_end()
        restarted.close()
        tool.expect("down 0")


def test_self(binary):
    with Tool(binary, None, [PEER]) as tool:
        with listener() as server:
            peer = Peer(server.accept()[0], False)
        peer.recv_hello()
        peer.instance = peer.remote_instance
        peer.send_hello()
        peer.expect_bye("self")
        assert tool.counters()["hello_end_self"] == 1


# ---- peers that break the protocol

def test_bad_messages(binary):
    """Instead of HELLO, and as each later message."""
    bad_hellos = [
        (lambda p: p.send_raw(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "malformed"),
        (lambda p: p.send(HELLO, p.hello_body(), version=2), "version"),
        (lambda p: p.send(HELLO, p.hello_body(low=2, high=7)), "version"),
        (lambda p: p.send(HELLO, p.hello_body(low=0)), "malformed"),
        (lambda p: p.send(HELLO, p.hello_body(low=2, high=1)), "malformed"),
        (lambda p: p.send(HELLO, p.hello_body()[:-1]), "malformed"),
        (lambda p: p.send(HELLO, p.hello_body(extra=bytes(201))), "malformed"),
        (lambda p: p.send(HELLO, b"", length=0), "malformed"),
        (lambda p: p.send(HELLO, b"", length=7), "malformed"),
        (lambda p: p.send(HELLO, b"", length=1025), "malformed"),
        (lambda p: p.send(HELLO, b"", length=65535), "malformed"),
        (lambda p: p.send(0), "malformed"),
        (lambda p: p.send(AUTH, bytes(32)), "malformed"),
        (lambda p: p.send(ENDPOINT, endpoint()), "malformed"),
        (lambda p: p.send(READY), "malformed"),
        (lambda p: p.send(KEEPALIVE), "malformed"),
        (lambda p: p.send(7), "malformed"),
        (lambda p: p.send(255), "malformed"),
        (lambda p: p.send(BYE, b"\0\0\0\0"), "malformed"),
        (lambda p: p.send(BYE, b"\0\x0f\0\0"), "malformed"),
    ]
    bad_endpoints = [
        (endpoint(message=1023), "endpoint"), (endpoint(message=2**24 + 1), "endpoint"),
        (endpoint(message=0), "endpoint"), (endpoint(message=2**32 - 1), "endpoint"),
        (endpoint(depth=0), "endpoint"), (endpoint(depth=2**20 + 1), "endpoint"),
        (endpoint(mtu=0), "endpoint"), (endpoint(mtu=128), "endpoint"),
        (endpoint(mtu=1500), "endpoint"), (endpoint(mtu=8192), "endpoint"),
        (endpoint(qps=()), "endpoint"), (endpoint(n=2), "malformed"),
        (endpoint(n=0), "malformed"), (endpoint(n=255), "malformed"),
        (endpoint(qps=((9, 0),) * 2), "endpoint"),
        (endpoint(qps=tuple((i + 2, 0) for i in range(17))), "endpoint"),
        (endpoint(qps=((0, 0),)), "endpoint"), (endpoint(qps=((1, 0),)), "endpoint"),
        (endpoint(qps=((2**24 - 1, 0),)), "endpoint"), (endpoint(qps=((2**24, 0),)), "endpoint"),
        (endpoint(qps=((5, 2**24),)), "endpoint"), (endpoint(own_gid=bytes(16)), "endpoint"),
        (endpoint()[:-1], "malformed"), (endpoint() + b"\0", "malformed"), (b"", "malformed"),
    ]
    expected = collections.Counter()
    with Tool(binary, None, [PEER]) as tool:
        for send, reason in bad_hellos:
            peer = Peer.connect()
            send(peer)
            peer.expect_bye(reason)
            expected[reason] += 1
        for body, reason in bad_endpoints:
            peer = Peer.connect(instance=LEADER)
            peer.hellos()
            peer.send(ENDPOINT, body)
            peer.expect_bye(reason)
            expected[reason] += 1
        for kind, body in ((READY, b""), (HELLO, bytes(48)), (KEEPALIVE, b""), (AUTH, bytes(32))):
            peer = Peer.connect(instance=LEADER)
            peer.hellos()
            peer.send(kind, body)
            peer.expect_bye("malformed")
            expected["malformed"] += 1
        c = tool.wait_settled()
        for reason, n in expected.items():
            assert c["hello_end_" + reason] == n, (reason, n, c)
        assert c["hello_ups"] == 0 and c["hello_connects"] == \
            c["hello_end_connect"], c  # nobody listens here
        # When it is up:
        for kind, body in ((READY, b""), (KEEPALIVE, b"x"), (ENDPOINT, endpoint())):
            peer = Peer.connect(instance=LEADER).handshake()
            tool.expect_up()
            peer.send(kind, body)
            tool.expect("down 0 the peer does not keep to the protocol")
            peer.expect_bye("malformed")


def steps(peer):
    """The exchange of a leading initiator, as a list of steps."""
    return [peer.send_hello, peer.recv_hello] + \
        ([peer.send_auth, peer.recv_auth] if peer.key else []) + \
        [lambda: peer.send(ENDPOINT, endpoint()), peer.recv_endpoint, peer.readys]


def test_close_everywhere(binary):
    """Between any two messages: at once, by half, and with a reset."""
    for key in (None, KEY):
        with Tool(binary, key, [PEER]) as tool:
            n_steps = 7 if key else 5
            for n in range(n_steps + 1):
                for how in ("close", "half", "reset"):
                    peer = Peer.connect(instance=LEADER, key=key)
                    for step in steps(peer)[:n]:
                        step()
                    if how == "half":
                        peer.expect_end()
                    elif how == "reset":
                        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                             struct.pack("ii", 1, 0))
                    peer.close()
                    drain_downs(tool)
            drain_downs(tool)
            c = tool.wait_settled()
            assert c["hello_end_closed"] >= 3 * n_steps, c
            Peer.connect(instance=LEADER, key=key).handshake().close()


def drain_downs(tool):
    """Takes all lines; each "open" must find its "down"."""
    end = time.monotonic() + WAIT
    depth = 0
    quiet_since = time.monotonic()
    while depth or time.monotonic() - quiet_since < 0.05:
        try:
            line = tool.lines.get(timeout=0.02)
        except queue.Empty:
            assert time.monotonic() < end, "a peer is still open"
            continue
        quiet_since = time.monotonic()
        depth += line.startswith("open")
        depth -= line.startswith("down")


def test_truncate_everywhere(binary):
    """Every truncation of all that a leading initiator sends; then it must still serve."""
    for key in (None, KEY):
        with Tool(binary, key, [PEER]) as tool:
            whole = Peer.connect(instance=LEADER, key=key).handshake()
            size = len(whole.sent)
            whole.close()
            drain_downs(tool)
            for at in range(size):
                peer = Peer.connect(instance=LEADER, key=key)
                room = [at]
                send = peer.sock.sendall

                def send_some(data, room=room, send=send):
                    send(data[:room[0]])
                    room[0] -= len(data)
                    if room[0] < 0:
                        raise Closed
                peer.send_raw = send_some
                try:
                    peer.handshake()
                    raise AssertionError("up with %d of %d bytes" % (at, size))
                except Closed:
                    peer.close()
            drain_downs(tool)
            c = tool.wait_settled()
            assert c["hello_ups"] == 1, c
            Peer.connect(instance=LEADER, key=key).handshake().close()
            drain_downs(tool)


def test_garbage(binary):
    rng = random.Random(4791)
    with Tool(binary, None, [PEER]) as tool:
        for i in range(150):
            peer = Peer.connect()
            try:
                if i % 3 == 1:
                    peer.hellos()
                data = rng.randbytes(rng.randrange(1, 3000))
                if i % 3 == 2:
                    data = b"VRDH\1" + bytes([rng.randrange(8), rng.randrange(5)]) + data
                peer.send_raw(data)
                peer.sock.shutdown(socket.SHUT_WR)
                while peer.sock.recv(4096):
                    pass
            except (Closed, ConnectionError, ByeReceived):
                pass
            peer.close()
        tool.wait_settled()
        peer = Peer.connect(instance=LEADER).handshake()
        tool.expect_up()
        peer.close()
        tool.expect("down 0")


def test_silence(binary):
    """At each step: the handshake's time ends; when up, the dead time."""
    with Tool(binary, None, [PEER, STRANGER]) as tool:
        silent = [Peer.connect(), Peer.connect(instance=LEADER)]
        silent[0].send_raw(b"VR")
        silent[1].hellos()
        up = Peer.connect(address=STRANGER, instance=LEADER).handshake()
        tool.expect("open 1")
        tool.expect("connect 1")
        tool.expect("up 1")
        for peer in silent:
            peer.expect_bye("timeout")
        up.expect_bye("timeout")
        tool.expect("down 1 the peer is silent")


def main():
    binary = sys.argv[1]
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            start = time.monotonic()
            test(binary)
            print("ok %s (%.1f s)" % (name, time.monotonic() - start), flush=True)


if __name__ == "__main__":
    main()
