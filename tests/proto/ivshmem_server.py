#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""vrdma-ivshmem against clients written from QEMU's specification: the order
of messages, peers that come, go and crash, access lists, limits, clients that
misbehave, and the server's own death.

Usage: ivshmem_server.py PROGRAM [TEST...]
"""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import unittest

from ivshmem_client import PATIENCE, Client, Server, wait_until

NOBODY = 65534
SIZE = 1 << 20
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
PROGRAM = None


class ServerTest(unittest.TestCase):
    """A folder, and a server in it with one region "a"."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="vrdma-ivshmem-")
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        os.chmod(self.dir, 0o755)
        self.path = f"{self.dir}/a.sock"

    def spec(self, name="a", **more):
        keys = {"name": name, "size": SIZE, "hugepages": "never",
                "socket": f"{self.dir}/{name}.sock", **more}
        return ",".join(f"{key.replace('_', '-')}={value}"
                        for key, value in keys.items())

    def server(self, *options, **region):
        """Start a server; @options instead of --region, or @region's keys."""
        options = options or ("--region", self.spec(**region))
        server = Server(PROGRAM, *options)
        self.addCleanup(self._end, server)
        return server.wait()

    @staticmethod
    def _end(server):
        if server.process.poll() is None:
            server.stop()

    def client(self, *args, **keys):
        client = Client(*(args or (self.path,)), **keys)
        self.addCleanup(client.close)
        return client

    def fails(self, *options):
        """Start a server that cannot; return (status, error output)."""
        done = subprocess.run([PROGRAM, *options], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=PATIENCE,
                              check=False, encoding="utf-8")
        return done.returncode, done.stderr

    def as_user(self, uid, gid, groups, path):
        """Connect as another user; return how it went, as text."""
        code = "import socket,sys; s=socket.socket(socket.AF_UNIX);" \
               "s.connect(sys.argv[1]); print(s.recv(8).hex() or 'refused')"
        done = subprocess.run(
            ["/usr/bin/python3", "-c", code, path], user=uid, group=gid,
            extra_groups=groups, capture_output=True, timeout=PATIENCE,
            check=False, encoding="utf-8")
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


class Protocol(ServerTest):
    """What well-behaved clients see."""

    def test_bytes(self):
        """The very bytes of the set-up, and which of them bring a file."""
        self.server(vectors=2)
        first = self.client(setup=False)
        seen = [socket.recv_fds(first.sock, 8, 4)[:2] for _ in range(5)]
        self.assertEqual([data for data, _ in seen],
                         [bytes(8), bytes(8), b"\xff" * 8, bytes(8), bytes(8)])
        self.assertEqual([len(fds) for _, fds in seen], [0, 0, 1, 1, 1])
        second = self.client(setup=False)
        for expected in (bytes(8), b"\1" + bytes(7)):
            self.assertEqual(second.sock.recv(8), expected)
        for _, fds in seen:
            for file in fds:
                os.close(file)

    def test_order(self):
        """Peers' vectors first, in one piece each, then the own ones."""
        self.server(vectors=3)
        others = [self.client().join(3) for _ in range(3)]
        client = self.client()
        steps = [client.step() for _ in range(12)]
        self.assertEqual(steps[9:], [("own", client.id)] * 3)
        ids = [steps[i][1] for i in (0, 3, 6)]
        self.assertEqual(sorted(ids), sorted(other.id for other in others))
        self.assertEqual(steps[:9], [("vector", i) for i in ids
                                     for _ in range(3)])
        self.assertTrue(client.is_quiet())

    def test_come_and_go(self):
        server = self.server(vectors=2)
        first = self.client().join(2)
        second = self.client().join(2)
        self.assertNotEqual(first.id, second.id)
        first.sees(second.id, 2)
        second.close()
        first.misses(second.id)
        third = self.client().join(2)
        self.assertNotEqual(third.id, second.id)
        first.sees(third.id, 2)
        regions, clients = server.status()
        self.assertEqual(regions["a"]["peers"], "2")
        self.assertEqual({int(client["id"]) for client in clients},
                         {first.id, third.id})
        self.assertEqual({int(client["pid"]) for client in clients},
                         {os.getpid()})
        self.balance(regions["a"])

    def balance(self, region):
        ends = sum(int(value) for key, value in region.items()
                   if key == "left" or key.startswith("dropped_"))
        self.assertEqual(int(region["joined"]), ends + int(region["peers"]))

    def test_memory_and_doorbells(self):
        """Each vector rings at its own peer's descriptor and at no other."""
        self.server(vectors=4)
        clients = [self.client().join(4) for _ in range(3)]
        for client in clients:
            for other in clients:
                if other is not client:
                    client.sees(other.id, 4)
        clients[0].memory[1000:1005] = b"hello"
        self.assertEqual(clients[2].memory[1000:1005], b"hello")
        for sender in clients:
            for receiver in clients:
                if receiver is sender:
                    continue
                for vector in range(4):
                    sender.ring(receiver.id, vector)
                    sender.ring(receiver.id, vector)
                    self.assertEqual(receiver.rung(vector), 2)
        for client in clients:
            for file in client.own:
                self.assertRaises(BlockingIOError, os.read, file, 8)

    def test_crash(self):
        """A killed process is noticed without any goodbye."""
        self.server()
        watcher = self.client().join(1)
        code = "import socket,sys,time; s=socket.socket(socket.AF_UNIX);" \
               "s.connect(sys.argv[1]); s.recv(8); time.sleep(1000)"
        crashing = subprocess.Popen(["/usr/bin/python3", "-c", code,
                                     self.path])
        watcher.step_until(lambda: watcher.peers, "the process")
        peer, = watcher.peers
        crashing.kill()
        crashing.wait()
        watcher.misses(peer)

    def test_memory_is_sealed(self):
        self.server()
        client = self.client()
        self.assertEqual(os.fstat(client.memory_fd).st_size, SIZE)
        self.assertEqual(fcntl.fcntl(client.memory_fd, fcntl.F_GET_SEALS),
                         SEALS)
        for size in (0, SIZE // 2, SIZE * 2):
            self.assertRaises(PermissionError, os.ftruncate,
                              client.memory_fd, size)

    def test_huge_pages(self):
        """Of huge pages if there are some, else of ordinary ones."""
        server = self.server(size="2M", hugepages="auto")
        is_huge = server.status()[0]["a"]["huge"] == "1"
        client = self.client()
        page = os.fstatvfs(client.memory_fd).f_bsize
        self.assertEqual(page > resource.getpagesize(), is_huge)
        client.memory[2 * SIZE - 1] = 7
        self.assertEqual(client.memory[2 * SIZE - 1], 7)

    def test_regions_are_apart(self):
        self.server("--region", self.spec(tenant="blue"),
                    "--region", self.spec("b", tenant="red"))
        one, two = self.client(), self.client(f"{self.dir}/b.sock")
        one.join(1)
        two.join(1)
        self.assertEqual((one.peers, two.peers), ({}, {}))
        one.memory[0] = 1
        self.assertEqual(two.memory[0], 0)
        self.assertNotEqual(os.fstat(one.memory_fd).st_ino,
                            os.fstat(two.memory_fd).st_ino)


class Access(ServerTest):
    """Who may join. Skips without root, as nobody else can become others."""

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("root is needed to become other users")

    def test_default(self):
        """Nobody but the server's user; the file alone keeps others out."""
        self.server()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertIn("PermissionError",
                      self.as_user(NOBODY, NOBODY, [], self.path))

    def test_uid(self):
        server = self.server(uid=NOBODY)
        self.assertEqual(self.as_user(NOBODY, 7, [], self.path), "00" * 8)
        before = server.counter("a", "refused_access")
        self.assertEqual(self.as_user(1000, NOBODY, [], self.path), "refused")
        # Not root either: it is not on the list.
        self.assertTrue(self.client(setup=False).is_dropped())
        self.assertEqual(server.counter("a", "refused_access"), before + 2)
        self.assertEqual(server.counter("a", "joined"), 1)

    def test_gid(self):
        """A primary or a supplementary group."""
        self.server("--region", self.spec(gid=5) + ",gid=6")
        self.assertEqual(self.as_user(1000, 5, [], self.path), "00" * 8)
        self.assertEqual(self.as_user(1000, 7, [8, 6], self.path), "00" * 8)
        self.assertEqual(self.as_user(1000, 7, [8], self.path), "refused")


class Limits(ServerTest):
    """Clients that are too many, too fast, or not clients at all."""

    def test_max_peers(self):
        server = self.server(max_peers=3)
        clients = [self.client().join(1) for _ in range(3)]
        self.assertTrue(self.client(setup=False).is_dropped())
        self.assertEqual(server.counter("a", "refused_full"), 1)
        clients[0].close()
        clients[1].misses(clients[0].id)
        self.client().join(1)

    def test_garbage(self):
        server = self.server()
        watcher = self.client().join(1)
        for junk in (b"\0", bytes(8), os.urandom(100000)):
            client = self.client()
            watcher.sees(client.id, 1)
            with contextlib.suppress(OSError):
                client.sock.sendall(junk)
            watcher.misses(client.id)
            self.assertTrue(client.is_dropped())
        client = self.client()
        socket.send_fds(client.sock, [b"x"], [0, 1, 2])
        self.assertTrue(client.is_dropped())
        self.assertEqual(server.counter("a", "dropped_garbage"), 4)
        self.assertEqual(server.counter("a", "peers"), 1)

    def test_never_reads(self):
        """It is dropped, and its peers do not wait for it."""
        server = self.server("--stall-timeout", "3", "--region",
                             self.spec(vectors=64))
        mute = self.client(setup=False)
        wait_until(lambda: server.counter("a", "peers") == 1, "the mute one")
        peer = int(server.status()[1][0]["id"])
        watcher = self.client().join(64)
        self.assertEqual(set(watcher.peers), {peer})
        # More messages than its socket holds: the rest waits in the server.
        other = self.client().join(64)
        watcher.sees(other.id, 64)
        waiting = [int(client["waiting"]) for client in server.status()[1]]
        self.assertGreater(max(waiting), 64)
        for client in (watcher, other):
            client.misses(peer)
        self.assertEqual(server.counter("a", "dropped_stalled"), 1)
        # What was sent before its end is still there to be read.
        self.assertTrue(mute.is_dropped())
        self.assertEqual(server.counter("a", "peers"), 2)

    def test_reads_late(self):
        """A client that is slow misses nothing, and hears of nobody who has
        come and gone meanwhile."""
        self.server(vectors=64)
        late = self.client(setup=False)
        stays = self.client().join(64)
        for _ in range(20):
            self.client().join(64).close()
        last = self.client().join(64)
        stays.sees(last.id, 64)
        late.setup()
        late.join(64)
        late.sees(last.id, 64).sees(stays.id, 64)
        while not late.is_quiet():
            late.step()
        self.assertLessEqual({stays.id, last.id}, set(late.peers))
        wait_until(lambda: self.drained(late, {stays.id, last.id}),
                   "only those who are there")
        last.ring(late.id, 63)
        self.assertEqual(late.rung(63), 1)

    @staticmethod
    def drained(client, peers):
        while not client.is_quiet():
            client.step()
        return set(client.peers) == peers

    def test_half_open(self):
        server = self.server("--stall-timeout", "1000", "--region",
                             self.spec(max_half_open=2))
        mutes = [self.client(setup=False) for _ in range(2)]
        wait_until(lambda: server.counter("a", "half_open") == 2, "two mutes")
        self.assertTrue(self.client(setup=False).is_dropped())
        self.assertEqual(server.counter("a", "refused_half_open"), 1)
        mutes[0].setup()
        mutes[0].join(1)
        while not mutes[0].is_quiet():
            mutes[0].step()
        self.client().join(1)

    def test_flood(self):
        """Connections beyond the rate are refused; who is there stays."""
        server = self.server("--join-rate", "1", "--region",
                             self.spec(max_peers=12))
        watcher = self.client().join(1)
        clients = 0
        while server.counter("a", "refused_rate") < 20:
            clients += 1
            self.assertLess(clients, 10000)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(self.path)
        wait_until(lambda: server.counter("a", "peers") == 1, "they left")
        wait_until(lambda: self.drained(watcher, set()), "their ends")

    def test_other_regions_under_flood(self):
        """A stranger's flood at one region does not disturb another."""
        self.server("--region", self.spec(uid=12345), "--region",
                    self.spec("b"))
        sockets = []
        for _ in range(200):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.path)
            sockets.append(sock)
        self.client(f"{self.dir}/b.sock").join(1)
        for sock in sockets:
            sock.close()

    def test_no_descriptors(self):
        """They run out; the server turns clients away, rests, and recovers."""
        server = self.server(vectors=4)
        client = self.client().join(4)
        pid = server.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{pid}/fd"))
        refused = server.counter("a", "refused_resources")
        for limit in (used, used + 1, used + 3):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
            self.assertTrue(self.client(setup=False).is_dropped())
            refused += 1
            self.assertEqual(server.counter("a", "refused_resources"),
                             refused)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        other = self.client().join(4)
        client.sees(other.id, 4)
        self.assertEqual(set(client.peers), {other.id})

    def test_no_room_in_flight(self):
        """Clients that read nothing hold so much in flight that the kernel
        takes no more from a server without privileges, also after they were
        dropped. Who joins then does not wait for ever; who is there stays."""
        if os.geteuid() != 0:
            self.skipTest("root is needed to become another user")
        limit = 450
        program = shutil.copy(PROGRAM, self.dir)
        os.chmod(self.dir, 0o777)
        server = Server(
            program, "--stall-timeout", "3", "--join-rate", "10000",
            "--region", self.spec(uid=0, max_peers=190), user=NOBODY,
            group=NOBODY, extra_groups=[], preexec_fn=lambda:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        self.addCleanup(self._end, server)
        server.wait()
        first = self.client().join(1)
        mutes = [self.client(setup=False) for _ in range(150)]
        late = self.client(setup=False)
        # Version and ID bring no descriptor; the memory does not come.
        late.message()
        late.message()
        wait_until(lambda: self.drained(first, set())
                   and server.counter("a", "peers") == 1, "all dropped")
        self.assertRaises(EOFError, late.message)
        self.assertGreaterEqual(server.counter("a", "dropped_error"), 1)
        for mute in mutes:
            mute.sock.close()
        last = self.client().join(1)
        first.sees(last.id, 1)

    def test_descriptors_come_back(self):
        """Nothing leaks, however clients come and go."""
        server = self.server("--join-rate", "1000", "--region",
                             self.spec(vectors=8))
        folder = f"/proc/{server.process.pid}/fd"
        before = len(os.listdir(folder))
        for _ in range(50):
            self.client().join(8).close()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(self.path)
        wait_until(lambda: server.counter("a", "left") == 100, "all left")
        self.assertEqual(len(os.listdir(folder)), before)


class Life(ServerTest):
    """The server starts, dies and starts again."""

    def test_kill_and_restart(self):
        """Clients notice; the stale socket does not keep the next one out."""
        first = self.server()
        one, two = self.client().join(1), self.client().join(1)
        one.sees(two.id, 1)
        first.kill()
        self.assertTrue(os.path.exists(self.path))
        self.assertTrue(one.is_dropped())
        # They can communicate with each other normally (the specification).
        one.memory[5] = 5
        self.assertEqual(two.memory[5], 5)
        one.ring(two.id, 0)
        self.assertEqual(two.rung(0), 1)
        self.server()
        again = self.client().join(1)
        self.assertEqual(again.memory[5], 0)
        other = self.client().join(1)
        again.sees(other.id, 1)

    def test_clean_end(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.server()
            client = self.client().join(1)
            server.process.send_signal(number)
            self.assertEqual(server.ended(), 0)
            self.assertTrue(client.is_dropped())
            self.assertEqual(os.listdir(self.dir), [])

    def test_second_server(self):
        server = self.server()
        client = self.client().join(1)
        status, err = self.fails("--region", self.spec())
        self.assertEqual(status, 1)
        self.assertIn("another server", err)
        other = self.client().join(1)
        client.sees(other.id, 1)
        self.assertEqual(server.stop(), 0)

    def test_foreign_server(self):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(self.path)
            sock.listen()
            status, err = self.fails("--region", self.spec())
        self.assertEqual(status, 1)
        self.assertIn("another server", err)
        self.assertEqual(os.listdir(self.dir), ["a.sock"])

    def test_not_a_socket(self):
        for make in (lambda: open(self.path, "w", encoding="utf-8").close(),
                     lambda: os.symlink("/dev/null", self.path)):
            make()
            status, err = self.fails("--region", self.spec())
            self.assertEqual(status, 1)
            self.assertIn("something else", err)
            self.assertTrue(os.path.lexists(self.path))
            os.unlink(self.path)

    def test_one_of_two_fails(self):
        """Then nothing is left of the other."""
        status, _ = self.fails("--region", self.spec(), "--region",
                               self.spec("b", socket=f"{self.dir}/no/b.sock"))
        self.assertEqual(status, 1)
        self.assertEqual(os.listdir(self.dir), [])

    def test_memory_limit(self):
        status, err = self.fails("--max-memory", "1M", "--region", self.spec(),
                                 "--region", self.spec("b"))
        self.assertEqual(status, 1)
        self.assertIn("region b", err)
        self.assertIn("--max-memory", err)

    def test_json(self):
        path = f"{self.dir}/config.json"
        config = {"max-memory": "4M", "stall-timeout": 5, "join-rate": 50,
                  "regions": [
                      {"name": "a", "tenant": "blue", "size": "1M",
                       "socket": self.path, "vectors": 2, "max-peers": 5,
                       "uid": [0, os.geteuid()], "hugepages": "never"},
                      {"name": "b", "size": 2097152,
                       "socket": f"{self.dir}/b.sock"}]}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        server = self.server("--config", path)
        regions, _ = server.status()
        self.assertEqual(
            [regions["a"][key] for key in
             ("tenant", "size", "vectors", "max_peers", "huge")],
            ["blue", "1048576", "2", "5", "0"])
        self.assertEqual([regions["b"][key] for key in ("tenant", "size")],
                         ["b", "2097152"])
        self.client().join(2)

    def test_usage(self):
        good = self.spec()
        for options, reason in (
                ((), "no region"), (("x",), "'x'"), (("--nonsense",), "nonse"),
                (("--config", f"{self.dir}/none"), "No such file"),
                (("--max-memory", "1X"), "max-memory"),
                (("--stall-timeout", "0"), "stall-timeout"),
                (("--region", good.replace("1048576", "3M")), "power of two"),
                (("--region", good + ",uid=no-such-user"), "uid"),
                (("--region", good + ",vectors=65"), "vectors"),
                (("--region", good + ",max-peers=1025"), "max-peers"),
                (("--region", good + ",size=1M"), "twice"),
                (("--region", good + ",colour=red"), "colour"),
                (("--region", good, "--region", good), "two regions")):
            status, err = self.fails(*options)
            self.assertEqual(status, 2, options)
            self.assertIn(reason, err)
        done = subprocess.run([PROGRAM, "--help"], capture_output=True,
                              check=True, encoding="utf-8")
        self.assertIn("--region", done.stdout)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=2)
