#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs commands in a guest for a test on the host: the guest's job, a server, and the
host's end of it, class Remote.

One connection for each request, JSON both ways; bytes are latin-1. A guest trusts
whoever reaches it: it is the test's own, on the test's own bridge.

Usage, in the guest: remote.py PORT
"""

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import time

PORT = 7000
CONNECT_S = 5


def listens(port):
    """Whether somebody in this guest listens on @port. Source: proc(5), /proc/net/tcp"""
    for path in "/proc/net/tcp", "/proc/net/tcp6":
        with open(path, encoding="ascii") as file:
            for line in file:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    return True
    return False


def do_run(argv, timeout=None, data="", **options):
    done = subprocess.run(argv, input=data.encode("latin-1"), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False, timeout=timeout, **options)
    return {"rc": done.returncode, "out": done.stdout.decode("latin-1"),
            "err": done.stderr.decode("latin-1")}


def do_start(argv, log, port=None, path=None, **options):
    """Start a program of its own session; it listens, or has made @path, on return."""
    with open(log, "ab") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   start_new_session=True, **options)
    while (port and not listens(port)) or (path and not os.path.exists(path)):
        if process.poll() is not None:
            with open(log, encoding="latin-1") as file:
                return {"error": f"{argv} has ended: {process.returncode}: {file.read()}"}
        time.sleep(0.05)
    return {"pid": process.pid}


def do_stop(pid, number=signal.SIGTERM):
    try:
        os.killpg(pid, number)
        return {"status": os.waitpid(pid, 0)[1]}
    except (ProcessLookupError, ChildProcessError):
        return {"status": None}


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        request = json.loads(self.rfile.readline())
        what = {"run": do_run, "start": do_start, "stop": do_stop}[request.pop("do")]
        try:
            answer = what(**request)
        except (OSError, subprocess.SubprocessError) as err:
            answer = {"error": str(err)}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class Remote:
    """The host's end: what a guest at @address does for us."""

    def __init__(self, address, port=PORT):
        self.at = (address, port)

    def ask(self, **request):
        with socket.create_connection(self.at, CONNECT_S) as sock:
            sock.settimeout(None)
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as file:
                answer = json.loads(file.readline() or '{"error": "the guest has ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def answers(self):
        try:
            self.ask(do="stop", pid=1 << 22)
            return True
        except OSError:
            return False

    def run(self, *argv, **options):
        return self.ask(do="run", argv=argv, **options)

    def start(self, *argv, **options):
        return self.ask(do="start", argv=argv, **options)["pid"]

    def stop(self, pid, **options):
        return self.ask(do="stop", pid=pid, **options)["status"]


if __name__ == "__main__":
    with Server(("", int(sys.argv[1])), Handler) as server:
        server.serve_forever()
