#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Sockets between two guests through the memory of one region: unmodified programs of a
user who is not root, the guest's set-up as it is installed, peers elsewhere, and what
happens when an agent or a guest ends.

Usage: guest_sockets.py
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [f"{ROOT}/tests/proto", f"{ROOT}/bench"]
# pylint: disable=wrong-import-position
import net  # noqa: E402
from lib import guests  # noqa: E402
from lib.guests import HOST, SHIM, PATIENCE_S, Guest, wait_until  # noqa: E402

SKIPPED = 77
PORT = 7700
BIG = os.urandom(1_500_000)
TALK = "/tmp/guest_talk.py"
NGINX = f"""
daemon off; worker_processes 1; pid /tmp/nginx/pid; error_log /tmp/nginx/log;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; client_body_temp_path /tmp/nginx/1;
  proxy_temp_path /tmp/nginx/2; fastcgi_temp_path /tmp/nginx/3;
  uwsgi_temp_path /tmp/nginx/4; scgi_temp_path /tmp/nginx/5;
  server {{ listen {PORT}; root /tmp/www; }} }}
"""


def missing():
    """Return why no guest can be started here, or None."""
    if os.geteuid() != 0:
        return "root is needed for tap devices"
    for program in ("qemu-system-x86_64", "busybox", "NPtcp", "iperf3", "redis-server",
                    "nginx", "curl", "/lib/systemd/systemd-udevd", "systemd-sysusers"):
        if not shutil.which(program):
            return f"{program} is not installed"
    if not os.path.exists(f"{ROOT}/.cache/guest/kernel/vmlinuz"):
        return "there is no guest kernel in .cache"
    return None


def setUpModule():
    global folder, region, server, client
    enter = unittest.enterModuleContext
    folder = enter(tempfile.TemporaryDirectory(prefix="vrdma-guest-sockets-"))
    guests.make_bridge()
    region = enter(guests.region())
    server = enter(Guest("server", region, folder))
    client = enter(Guest("client", region, folder, cpus=2))
    for guest in server, client:
        guest.set_up()
        guest.root("install", "-m", "755", f"{ROOT}/tests/vm/guest_talk.py", "/tmp")
    os.mkdir(f"{folder}/www")
    with open(f"{folder}/www/big", "wb") as file:
        file.write(BIG)
    server.root("mkdir", "-m", "777", "/tmp/www", "/tmp/nginx")
    server.root("tee", "/tmp/www/big", data=BIG.decode("latin-1"))


class Counted(unittest.TestCase):
    """A test that asks the server how many connections used rings."""

    def setUp(self):
        self.before = self.rings()

    @staticmethod
    def rings():
        """What the server guest accepted and the client guest offered."""
        return (region.counters("server")["accepted"], region.counters("client")["offered"])

    def assert_rings(self, accepted, offered=None):
        now = self.rings()
        self.assertEqual((now[0] - self.before[0], now[1] - self.before[1]),
                         (accepted, accepted if offered is None else offered))

    def serve(self, *argv, port=PORT):
        self.addCleanup(server.stop, server.serve(*argv, port=port))

    def check_big(self, at):
        got = client.app("curl", "-sf", f"http://{at}:{PORT}/big")
        self.assertEqual(hashlib.sha256(got.encode("latin-1")).digest(),
                         hashlib.sha256(BIG).digest())


class Apps(Counted):
    """Unmodified programs, a server in one guest and its client in the other."""

    def test_netpipe(self):
        self.serve("NPtcp", "-u", "20000", "-n", "10", port=5002)
        client.app("NPtcp", "-h", server.address, "-u", "20000", "-n", "10", "-o",
                   "/dev/null")
        self.assert_rings(1)

    def test_iperf3(self):
        self.serve("iperf3", "-s", "-p", str(PORT))
        for options in ([], ["-R"], ["-P", "2"]):
            client.app("iperf3", "-c", server.address, "-p", str(PORT), "-n", "10M", *options)
        self.assert_rings(2 + 2 + 3)

    def test_redis(self):
        self.serve("redis-server", "--port", str(PORT), "--save", "", "--bind",
                   server.address, "--protected-mode", "no", "--dir", "/tmp")
        there = ("-h", server.address, "-p", str(PORT))
        for depth in "1", "16":
            out = client.app("redis-benchmark", *there, "-q", "-n", "500", "-c", "5", "-P",
                             depth, "-t", "set,get")
            self.assertIn("GET:", out)
        client.app("redis-cli", *there, "set", "key", "value")
        self.assertEqual(client.app("redis-cli", *there, "get", "key"), "value\n")
        accepted, offered = self.rings()
        self.assertGreaterEqual(accepted - self.before[0], 2 * 2 * 5 + 2)
        self.assertEqual(offered - self.before[1], accepted - self.before[0])

    def test_nginx(self):
        server.root("tee", "/tmp/nginx/conf", data=NGINX)
        self.serve("nginx", "-p", "/tmp/nginx", "-c", "/tmp/nginx/conf")
        for _ in range(2):
            self.check_big(server.address)
        self.assert_rings(2)

    def test_python_http_server(self):
        self.serve("/usr/bin/python3", "-m", "http.server", str(PORT), "-d", "/tmp/www")
        self.check_big(server.address)
        self.assert_rings(1)


class Elsewhere(Counted):
    """The other end is a process of the host."""

    def serve_here(self, environment):
        process = subprocess.Popen(
            ["/usr/bin/python3", "-m", "http.server", str(PORT), "-d", f"{folder}/www"],
            env=dict(os.environ, **environment), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        wait_until(lambda: subprocess.run(
            ["ss", "-Hltn", f"sport = {PORT}"], stdout=subprocess.PIPE,
            check=True).stdout.strip(), "the host's server")

    def test_without_shim(self):
        self.serve_here({})
        self.check_big(HOST)
        self.assert_rings(0)

    def test_native_server(self):
        self.serve_here(region.environment(SHIM))
        self.check_big(HOST)
        self.assert_rings(0, 1)

    def test_native_client(self):
        self.serve("/usr/bin/python3", "-m", "http.server", str(PORT), "-d", "/tmp/www")
        got = subprocess.run(
            ["curl", "-sf", f"http://{server.address}:{PORT}/big"], check=True,
            stdout=subprocess.PIPE, timeout=PATIENCE_S,
            env=dict(os.environ, **region.environment(SHIM))).stdout
        self.assertEqual(got, BIG)
        self.assert_rings(1, 0)


class Ends(Counted):
    """What two programs see that talk while something ends."""

    def begin(self, role):
        """Start the echo server, and its client in @role; return when they have talked."""
        self.serve(TALK, "echo", server.address, str(PORT))
        self.place = f"/tmp/{role}"
        client.root("mkdir", "-p", "-m", "777", self.place)
        self.addCleanup(client.stop, client.start(
            TALK, role, server.address, str(PORT), self.place, log=f"{self.place}/log",
            path=f"{self.place}/begun", **client.user()))

    def heard(self, guest, lines):
        """Wait until the client in @guest has printed so many lines; return them."""
        def said():
            return guest.root("cat", f"{self.place}/log").split("\n")[:-1]
        wait_until(lambda: len(said()) >= lines, "the client's words")
        return said()

    def test_1_agent(self):
        """Connections go on, and new ones use rings when it is back: but perhaps the
        first, by which a program learns of it.
        """
        self.begin("talk")
        self.assert_rings(1)
        for guest in server, client:
            guest.stop_agent(signal.SIGKILL)
            guest.start_agent()
        client.root("touch", f"{self.place}/go")
        self.assertEqual(self.heard(client, 4), ["old", "new", "new", "new"])
        self.assertGreaterEqual(self.rings()[0] - self.before[0], 3)

    def test_2_guest(self):
        """Nobody tells of its end."""
        self.begin("hear")
        self.assert_rings(1)
        server.kill()
        self.assertEqual(self.heard(client, 1), ["ConnectionResetError"])


if __name__ == "__main__":
    WHY = missing()
    if WHY:
        print(f"skipped: {WHY}")
        sys.exit(SKIPPED)
    net.enter()
    unittest.main(argv=sys.argv[:1], verbosity=2)
