#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Unmodified programs from Debian on the socket shim, the server in one network namespace
and its client in another: they must do what they are for, and the directory's counters
must say that their connections used rings.

Usage: socket_apps.py SHIM VRDMA_IVSHMEM
"""

import glob
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import net

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
from lib.region import Region  # noqa: E402

SHIM, SERVER = sys.argv[1:3]
TIMEOUT_S = 100  # for what takes seconds; never reached
PORT = 7700
BIG = os.urandom(1_500_000)
USER = "postgres"
NGINX = """
daemon off; worker_processes 2; pid {0}/nginx.pid; error_log {0}/nginx.log; user root;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2;
  fastcgi_temp_path {0}/t3; uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;
  server {{ listen {1}; root {0}/www; }} }}
"""


def setUpModule():
    global veth, folder, region, host
    veth = net.Veth()
    host = veth.addr4[1]
    folder = tempfile.mkdtemp(prefix="vrdma-apps-")
    os.chmod(folder, 0o755)  # PostgreSQL does not run as root
    shutil.copy(SHIM, folder + "/libvrdma-socket.so")
    os.mkdir(folder + "/www")
    with open(folder + "/www/big", "wb") as f:
        f.write(BIG)
    region = unittest.enterModuleContext(Region(SERVER, [pwd.getpwnam(USER).pw_uid]))


def tearDownModule():
    shutil.rmtree(folder)


def environment():
    return dict(os.environ, VRDMA_REGION=region.socket,
                LD_PRELOAD=folder + "/libvrdma-socket.so",
                OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


class Apps(unittest.TestCase):
    def setUp(self):
        self.before = region.counters()["paired"]

    def paired(self):
        return region.counters()["paired"] - self.before

    def serve(self, *command, port=PORT, **options):
        """Run a server in the other namespace until the test ends; it listens on return."""
        process = subprocess.Popen([*net.Veth.in_peer(), *command], env=environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, **options)
        self.addCleanup(self.stop, process)
        while True:
            listening = self.client(*net.Veth.in_peer(), "ss", "-Hltn", f"sport = {port}")
            if listening.strip():
                return process
            self.assertIsNone(process.poll(), "the server has ended")
            time.sleep(0.05)

    @staticmethod
    def stop(process):
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def client(self, *command, text=True, **options):
        done = subprocess.run(command, env=environment(), timeout=TIMEOUT_S, text=text,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                              **options)
        self.assertEqual(done.returncode, 0, (command, done.stdout[-500:], done.stderr[-500:]))
        return done.stdout

    def test_netpipe(self):
        self.serve("NPtcp", "-u", "100000", "-n", "20", port=5002)
        self.client("NPtcp", "-h", host, "-u", "100000", "-n", "20", "-o", "/dev/null")
        self.assertGreaterEqual(self.paired(), 1)

    def test_iperf3(self):
        self.serve("iperf3", "-s", "-p", str(PORT))
        for options in ([], ["-R"], ["-P", "3"]):
            self.client("iperf3", "-c", host, "-p", str(PORT), "-n", "50M", *options)
        self.assertEqual(self.paired(), 2 + 2 + 4)

    def test_redis(self):
        self.serve("redis-server", "--port", str(PORT), "--save", "", "--bind", host,
                   "--protected-mode", "no", "--dir", folder)
        for depth in "1", "16":
            out = self.client("redis-benchmark", "-h", host, "-p", str(PORT), "-q", "-n",
                              "5000", "-c", "20", "-P", depth, "-t", "set,get")
            self.assertIn("GET:", out)
        cli = ("redis-cli", "-h", host, "-p", str(PORT))
        self.client(*cli, "set", "key", "value")
        self.client(*cli, "bgsave")  # a child that has all connections
        self.assertEqual(self.client(*cli, "get", "key"), "value\n")
        self.assertGreater(self.paired(), 80)

    def test_nginx(self):
        with open(folder + "/nginx.conf", "w", encoding="ascii") as f:
            f.write(NGINX.format(folder, PORT))
        self.serve("nginx", "-p", folder, "-c", folder + "/nginx.conf")
        url = f"http://{host}:{PORT}/big"
        self.assertEqual(self.client("curl", "-s", url, text=False), BIG)
        out = self.client("wrk", "-t1", "-c16", "-d1", url)
        self.assertIn("requests in", out)
        self.assertNotIn("Socket errors", out)
        self.assertGreater(self.paired(), 16)

    def test_python_http_server(self):
        self.serve("/usr/bin/python3", "-m", "http.server", str(PORT), "-d", folder + "/www")
        for _ in range(3):
            self.assertEqual(
                self.client("curl", "-s", f"http://{host}:{PORT}/big", text=False), BIG)
        self.assertEqual(self.paired(), 3)

    def test_openssl(self):
        key, cert = folder + "/key.pem", folder + "/cert.pem"
        self.client("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "2", "-subj", "/CN=test")
        self.serve("openssl", "s_server", "-accept", str(PORT), "-key", key, "-cert", cert,
                   "-WWW", "-quiet", cwd=folder + "/www")
        got = self.client("openssl", "s_client", "-connect", f"{host}:{PORT}", "-quiet",
                          "-ign_eof", input=b"GET /big HTTP/1.0\r\n\r\n", text=False)
        self.assertTrue(got.endswith(BIG))
        self.assertEqual(self.paired(), 1)

    def test_postgresql(self):
        tools = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        data = folder + "/pg"
        os.mkdir(data)
        os.chown(data, pwd.getpwnam(USER).pw_uid, -1)
        user = ("runuser", "-u", USER, "--")
        self.client(*user, tools + "/initdb", "-D", data, "-A", "trust", cwd="/")
        with open(data + "/pg_hba.conf", "a", encoding="ascii") as f:
            f.write("host all all 0.0.0.0/0 trust\n")
        self.serve(*user, tools + "/postgres", "-D", data, "-p", str(PORT), "-k", data, "-h",
                   host, cwd="/")
        there = ("-h", host, "-p", str(PORT), "-U", USER)
        while subprocess.run(["pg_isready", *there], stdout=subprocess.DEVNULL,
                             check=False).returncode:
            time.sleep(0.1)
        self.client("pgbench", *there, "-i", "-q", "postgres")
        out = self.client("pgbench", *there, "-c", "4", "-t", "50", "postgres")
        self.assertIn("failed transactions: 0", out)
        self.client("pgbench", *there, "-C", "-S", "-t", "20", "postgres")
        self.assertGreater(self.paired(), 4 + 20)

    def test_open_mpi(self):
        self.client("mpirun", "--oversubscribe", "-np", "2", "--mca", "pml", "ob1", "--mca",
                    "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo", "-x",
                    "LD_PRELOAD", "-x", "VRDMA_REGION", "NPopenmpi", "-u", "100000", "-n", "10",
                    "-o", "/dev/null")
        self.assertGreaterEqual(self.paired(), 1)


if __name__ == "__main__":
    net.enter()
    unittest.main(argv=sys.argv[:1])
