#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""One endless TCP connection between two guests, for tests that disturb it.

stream.py serve           accept one connection, check what comes, print the
                          number of MiB so far as it grows
stream.py send ADDRESS    send: 64-bit numbers that count up

Either ends with an error as soon as the connection ends or a number is wrong.
"""

import socket
import struct
import sys
import time

PORT = 7000
NUMBERS = 8192              # in a block of 64 KiB
BLOCK = struct.Struct(f">{NUMBERS}Q")
MIB = 1 << 20


def block(number):
    first = number * NUMBERS
    return BLOCK.pack(*range(first, first + NUMBERS))


def receive_block(sock):
    data = bytearray()
    while len(data) < BLOCK.size:
        part = sock.recv(BLOCK.size - len(data))
        if not part:
            sys.exit("stream: the connection has ended")
        data += part
    return data


def serve():
    with socket.create_server(("", PORT)) as server:
        sock, _ = server.accept()
    number = shown = 0
    while True:
        if receive_block(sock) != block(number):
            sys.exit(f"stream: block {number} is wrong")
        number += 1
        if number * BLOCK.size // MIB > shown:
            shown = number * BLOCK.size // MIB
            print(shown, flush=True)


def send(address):
    while True:
        try:
            sock = socket.create_connection((address, PORT), timeout=5)
            break
        except OSError:     # the other guest still boots
            time.sleep(0.5)
    sock.settimeout(None)
    number = 0
    while True:
        sock.sendall(block(number))
        number += 1


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    elif len(sys.argv) == 3 and sys.argv[1] == "send":
        send(sys.argv[2])
    else:
        sys.exit(__doc__)
