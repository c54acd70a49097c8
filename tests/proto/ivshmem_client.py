# SPDX-License-Identifier: BSD-3-Clause
"""A client of an ivshmem server, written from QEMU's docs/specs/ivshmem-spec
("The ivshmem Client-Server Protocol") alone, and vrdma-ivshmem's process.

Used by ivshmem_server.py and vm/ivshmem.py. Deadlines only keep a failure from
hanging.
"""

import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import time

PATIENCE = 120   # seconds until a test is given up


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {PATIENCE} s")
        time.sleep(0.02)


class Client:
    """Reads one message at a time and keeps what the specification says that a
    client learns: its ID, the memory, its own and its peers' doorbells."""

    def __init__(self, path, setup=True):
        self.sock = socket.socket(socket.AF_UNIX)
        # A full backlog makes a socket with a timeout fail rather than wait.
        self.sock.connect(path)
        self.sock.settimeout(PATIENCE)
        self.id = None
        self.memory_fd = None
        self.memory = None
        self.own = []
        self.peers = {}   # {ID: [eventfd, ...]}
        if setup:
            self.setup()

    def message(self):
        """Return (number, fd or None); raises EOFError at the end."""
        data, fds, flags, _ = socket.recv_fds(self.sock, 8, 4)
        if not data:
            raise EOFError
        while len(data) < 8:
            more = self.sock.recv(8 - len(data))
            if not more:
                raise EOFError
            data += more
        assert not flags & socket.MSG_CTRUNC
        assert len(fds) <= 1, fds
        return struct.unpack("<q", data)[0], fds[0] if fds else None

    def setup(self):
        """Steps 1 to 3 of the specification, which QEMU reads before the
        device is there."""
        assert self.message() == (0, None)       # protocol version
        self.id, file = self.message()
        assert file is None and 0 <= self.id <= 65535
        number, self.memory_fd = self.message()
        assert number == -1 and self.memory_fd is not None
        self.memory = mmap.mmap(self.memory_fd,
                                os.fstat(self.memory_fd).st_size)

    def step(self):
        """Take a message of steps 4 to 6; return ("vector", ID), ("own", ID)
        or ("gone", ID)."""
        number, file = self.message()
        assert 0 <= number <= 65535, number
        if file is None:
            assert number != self.id and number in self.peers, number
            for fd in self.peers.pop(number):
                os.close(fd)
            return "gone", number
        if number == self.id:
            self.own.append(file)
            return "own", number
        self.peers.setdefault(number, []).append(file)
        return "vector", number

    def step_until(self, condition, what):
        while not condition():
            try:
                self.step()
            except socket.timeout as err:
                raise AssertionError(f"{what}: not heard of") from err
        return self

    def join(self, vectors):
        """Read on until all of the own vectors are there."""
        return self.step_until(lambda: len(self.own) == vectors, "own vectors")

    def sees(self, peer, vectors):
        return self.step_until(
            lambda: len(self.peers.get(peer, ())) == vectors, f"peer {peer}")

    def misses(self, peer):
        return self.step_until(lambda: peer not in self.peers,
                               f"the end of peer {peer}")

    def is_quiet(self):
        return not select.select([self.sock], [], [], 0)[0]

    def ring(self, peer, vector):
        os.write(self.peers[peer][vector], struct.pack("=Q", 1))

    def rung(self, vector):
        """Wait for the doorbell; return how often it was rung."""
        file = self.own[vector]
        assert select.select([file], [], [], PATIENCE)[0], "no doorbell"
        return struct.unpack("=Q", os.read(file, 8))[0]

    def is_dropped(self):
        """Wait for the end of the connection."""
        try:
            while True:
                _, file = self.message()
                if file is not None:
                    os.close(file)
        except (EOFError, ConnectionResetError):
            return True

    def close(self):
        """Go. Closing the socket is all that the protocol knows."""
        self.sock.close()
        fds = self.own + [fd for fds in self.peers.values() for fd in fds]
        if self.memory is not None:
            self.memory.close()
            fds.append(self.memory_fd)
        for file in fds:
            os.close(file)
        self.own, self.peers, self.memory = [], {}, None


class Server:
    """vrdma-ivshmem as a process."""

    def __init__(self, program, *options, **popen):
        self.process = subprocess.Popen(
            [program, *options], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, encoding="utf-8", **popen)

    def wait(self):
        """Wait until it serves all of its regions."""
        wait_until(self._takes_signals, "the server's begin")
        self.status()
        return self

    def _takes_signals(self):
        """Before it does, SIGUSR1 would end it. Source: proc(5), SigBlk"""
        assert self.process.poll() is None, "the server ended"
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            blocked, = [line.split()[1] for line in file
                        if line.startswith("SigBlk:")]
        return int(blocked, 16) >> (signal.SIGUSR1 - 1) & 1

    def status(self):
        """Return ({region: {key: value}}, [{key: value} of a client])."""
        self.process.send_signal(signal.SIGUSR1)
        first = self._line()
        assert first["what"] == "server", first
        regions, clients = {}, []
        for _ in range(int(first["regions"])):
            region = self._line()
            assert region["what"] == "region", region
            regions[region["name"]] = region
            clients += [self._line() for _ in range(int(region["peers"]))]
        return regions, clients

    def _line(self):
        what, *pairs = self.process.stdout.readline().split()
        return {"what": what, **dict(pair.split("=", 1) for pair in pairs)}

    def counter(self, region, name):
        return int(self.status()[0][region][name])

    def kill(self):
        self.process.kill()
        return self.ended()

    def stop(self):
        self.process.terminate()
        return self.ended()

    def ended(self):
        """Wait for its end; return its status."""
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return code
