#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Stands for QEMU between a guest's agent and the ivshmem server: as a virtio port it is
there before the agent and after, and for one agent after the other; what comes for an
agent that is gone waits for the next. If the server goes the agent sees an end, and this
connects again. SIGUSR1 cuts the connection with the server, SIGUSR2 lets it be made again.

Usage: uplink_relay.py SERVERS_SOCKET AGENTS_SOCKET
"""

import selectors
import signal
import socket
import sys

RETRY_S = 0.1
SIZE = 1000  # no multiple of a frame


class Relay:
    def __init__(self, upper, lower):
        self.upper, self.up, self.agent = upper, None, None
        self.loop, self.cut = selectors.DefaultSelector(), False
        signal.signal(signal.SIGUSR1, lambda *_: self.set_cut(True))
        signal.signal(signal.SIGUSR2, lambda *_: self.set_cut(False))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(lower)
        self.listener.listen()
        self.loop.register(self.listener, selectors.EVENT_READ)

    def set_cut(self, cut):
        self.cut = cut
        if cut:
            self.drop("up")
            self.drop("agent")

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(self.upper)
        except OSError:
            s.close()
            return
        self.up = s

    def watch(self):
        """The server only while somebody takes what it says."""
        wanted = {self.listener}
        wanted |= {self.agent} if self.agent else set()
        wanted |= {self.up} if self.up and self.agent else set()
        known = {key.fileobj for key in self.loop.get_map().values()}
        for s in known - wanted:
            self.loop.unregister(s)
        for s in wanted - known:
            self.loop.register(s, selectors.EVENT_READ)

    def drop(self, name):
        s = getattr(self, name)
        if s:
            if s in {key.fileobj for key in self.loop.get_map().values()}:
                self.loop.unregister(s)
            s.close()
        setattr(self, name, None)

    def take_agent(self):
        agent, _ = self.listener.accept()
        if self.agent or not self.up:
            agent.close()
        else:
            self.agent = agent

    def move(self, source, sink):
        try:
            data = getattr(self, source).recv(SIZE)
        except OSError:
            data = b""
        if not data:
            self.drop(source)
            if source == "up":
                self.drop("agent")
            return
        try:
            getattr(self, sink).sendall(data)
        except OSError:
            pass  # its end is an event of its own

    def run(self):
        while True:
            if not self.up and not self.cut:
                self.connect()
            self.watch()
            # short, as a signal can come just before
            for key, _ in self.loop.select(RETRY_S):
                if key.fileobj is self.listener:
                    self.take_agent()
                elif key.fileobj is self.agent:
                    self.move("agent", "up")
                elif key.fileobj is self.up:
                    self.move("up", "agent")


Relay(*sys.argv[1:3]).run()
