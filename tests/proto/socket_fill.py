#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Two ends of a connection that write until no more fits, and tell how much that was.

Usage: socket_fill.py serve ADDRESS SNDBUF RCVBUF       prints its port, then the bytes,
       socket_fill.py call ADDRESS PORT SNDBUF RCVBUF   prints the bytes,
and when its standard input ends, its rings then and when the connection is closed. Buffers of 0
are left alone.
"""

import socket
import sys

OPTIONS = (socket.SO_SNDBUF, socket.SO_RCVBUF)


def make(buffers):
    s = socket.socket()
    for option, size in zip(OPTIONS, buffers):
        if size:
            s.setsockopt(socket.SOL_SOCKET, option, size)
    return s


def fill(c):
    """The other end has read nothing but the first byte."""
    c.sendall(b"x")
    assert c.recv(1) == b"x"
    c.setblocking(False)
    n = 0
    while True:
        try:
            n += c.send(bytes(1 << 16))
        except BlockingIOError:
            return n


def rings():
    """How many this process has in its memory."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return sum("vrdma-ring" in line for line in maps)


def main(what, address, *numbers):
    numbers = list(map(int, numbers))
    s = make(numbers[-2:])
    if what == "serve":
        s.bind((address, 0))
        s.listen()
        print(s.getsockname()[1], flush=True)
        s = s.accept()[0]
    else:
        s.connect((address, numbers[0]))
    print(fill(s), flush=True)
    sys.stdin.read()
    n = rings()
    s.close()
    print(f"{n} ring, then {rings()}")


main(*sys.argv[1:])
