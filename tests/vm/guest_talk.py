#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What guests of guest_sockets.py run where no application fits: a server that sends back
what comes, and a client that goes on when a file appears.

Usage: guest_talk.py echo ADDRESS PORT
       guest_talk.py talk ADDRESS PORT FOLDER    waits for FOLDER/go when it has made
                                                 FOLDER/begun; prints what it saw
       guest_talk.py hear ADDRESS PORT FOLDER    waits for one byte that never comes
"""

import errno
import os
import socket
import sys
import threading
import time

TEXT = os.urandom(100_000)


def echo(address, port):
    def serve(sock):
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)

    with socket.create_server((address, port)) as listener:
        while True:
            threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()


def say(sock, text):
    """Say it, and have it said back."""
    sender = threading.Thread(target=sock.sendall, args=(text,))
    sender.start()
    heard = b""
    while len(heard) < len(text):
        data = sock.recv(65536)
        assert data, "the end"
        heard += data
    sender.join()
    assert heard == text, "other bytes"


def check_options(sock):
    """The library has set these, and the program is not to see that."""
    option = socket.SOL_SOCKET, socket.SO_KEEPALIVE
    assert sock.getsockopt(*option) == 0
    sock.setsockopt(*option, 1)
    assert sock.getsockopt(*option) == 1
    option = socket.IPPROTO_TCP, socket.TCP_KEEPIDLE
    assert sock.getsockopt(*option) == 7200, "not Linux' own"
    sock.setsockopt(*option, 77)
    assert sock.getsockopt(*option) == 77
    try:
        sock.setsockopt(*option, -1)
        raise AssertionError("taken")
    except OSError as err:
        assert err.errno == errno.EINVAL
    assert sock.getsockopt(*option) == 77
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


def begun(folder):
    with open(f"{folder}/begun", "w", encoding="ascii"):
        pass


def talk(address, port, folder):
    with socket.create_connection((address, port)) as old:
        say(old, TEXT)
        check_options(old)
        begun(folder)
        while not os.path.exists(f"{folder}/go"):
            time.sleep(0.05)
        say(old, TEXT)
        print("old")
        for _ in range(3):
            with socket.create_connection((address, port)) as new:
                say(new, TEXT)
                print("new")


def hear(address, port, folder):
    with socket.create_connection((address, port)) as sock:
        say(sock, TEXT)
        begun(folder)
        try:
            print("heard", sock.recv(1))
        except OSError as err:
            print(type(err).__name__)


if __name__ == "__main__":
    ROLE, ADDRESS, AT, *REST = sys.argv[1:]
    {"echo": echo, "talk": talk, "hear": hear}[ROLE](ADDRESS, int(AT), *REST)
