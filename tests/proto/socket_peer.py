#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""An ordinary program with TCP sockets: echoes, or checks an echo. It knows nothing of
what carries its bytes.

Usage: socket_peer.py serve MODE ADDRESS CONNECTIONS   prints its port, then "done"
       socket_peer.py call MODE ADDRESS PORT CONNECTIONS
MODE is block, poll, select or epoll.
"""

import random
import selectors
import socket
import sys
import threading

SELECTORS = {"poll": selectors.PollSelector, "select": selectors.SelectSelector,
             "epoll": selectors.EpollSelector}
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
SIZE = 700_000  # more than a ring holds
TURNS = 300


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listen(address):
    s = socket.socket(family(address))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, 0))
    s.listen(64)
    print(s.getsockname()[1], flush=True)
    return s


# -- one thread per connection

def echo(c):
    while data := c.recv(100_000):
        c.sendall(data)
    c.close()


def serve_block(address, n):
    s = listen(address)
    threads = []
    for _ in range(n):
        c, peer = s.accept()
        assert c.getpeername() == peer and c.getsockname()[1] == s.getsockname()[1]
        threads.append(threading.Thread(target=echo, args=[c]))
        threads[-1].start()
    for t in threads:
        t.join()


def recv_all(c, n):
    got = bytearray()
    while len(got) < n:
        data = c.recv(n - len(got))
        assert data, f"the end after {len(got)} of {n} bytes"
        got += data
    return bytes(got)


def call_one(address, port, seed):
    rng = random.Random(seed)
    c = socket.create_connection((address, port))
    assert c.getpeername()[:2] == (address, port)
    for _ in range(TURNS):
        data = rng.randbytes(rng.randrange(1, 3000))
        c.sendall(data)
        assert recv_all(c, len(data)) == data
    data = rng.randbytes(SIZE)
    sender = threading.Thread(target=c.sendall, args=[data])
    sender.start()
    assert recv_all(c, SIZE) == data
    sender.join()
    c.shutdown(socket.SHUT_WR)
    assert c.recv(10) == b""
    c.close()


def call_block(address, port, n):
    threads = [threading.Thread(target=call_one, args=(address, port, i)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


# -- one thread for all connections

class Peer:
    """One connection of a loop: bytes to send, bytes that came."""

    def __init__(self, loop, sock, out=b""):
        self.loop, self.sock, self.out, self.got = loop, sock, out, bytearray()
        loop.register(sock, READ | WRITE, self)

    def send(self):
        try:
            self.out = self.out[self.sock.send(self.out[:200_000]):]
        except BlockingIOError:
            return
        self.loop.modify(self.sock, READ | (WRITE if self.out else 0), self)

    def recv(self):
        """What came; b'' at the end; None: nothing"""
        try:
            return self.sock.recv(100_000)
        except BlockingIOError:
            return None

    def close(self):
        self.loop.unregister(self.sock)
        self.sock.close()


def serve_loop(loop, address, n):
    s = listen(address)
    s.setblocking(False)
    loop.register(s, READ)
    seen = live = 0
    while seen < n or live:
        for key, events in loop.select():
            if key.data is None:
                c, _ = s.accept()
                c.setblocking(False)
                Peer(loop, c)
                seen, live = seen + 1, live + 1
                continue
            peer = key.data
            data = peer.recv() if events & READ else None
            if data == b"":
                assert not peer.out
                peer.close()
                live -= 1
                continue
            peer.out += data or b""
            if peer.out or events & WRITE:
                peer.send()


def begin_call(loop, address, port, seed):
    c = socket.socket(family(address))
    c.setblocking(False)
    try:
        c.connect((address, port))
    except BlockingIOError:
        pass
    return Peer(loop, c, random.Random(seed).randbytes(SIZE // 4))


def call_loop(loop, address, port, n):
    peers = [begin_call(loop, address, port, i) for i in range(n)]
    wanted = {p: p.out for p in peers}
    while wanted:
        for key, events in loop.select():
            p = key.data
            if events & WRITE:
                assert p.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                p.send()
            data = p.recv() if events & READ else None
            assert data != b""
            p.got += data or b""
            if len(p.got) == len(wanted[p]):
                assert bytes(p.got) == wanted.pop(p)
    for p in peers:
        p.close()


def main():
    what, mode, address, *numbers = sys.argv[1:]
    numbers = [int(n) for n in numbers]
    if mode == "block":
        {"serve": serve_block, "call": call_block}[what](address, *numbers)
    else:
        {"serve": serve_loop, "call": call_loop}[what](SELECTORS[mode](), address, *numbers)
    print("done", flush=True)


if __name__ == "__main__":
    main()
