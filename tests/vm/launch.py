#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""guest/launch: what a job's output and status become, how every kind of
unhappy guest ends, and two guests on a stock Open vSwitch.

Each test starts real guests, of some seconds each. Deadlines here only keep
a failure from hanging; nothing depends on how fast this machine is.
"""

import hashlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
LAUNCH = os.path.join(ROOT, "guest/launch")
VSWITCHD = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
SKIPPED = 77
PATIENCE = 120   # seconds until a test is given up

USAGE, NO_START, BOOT_TIMEOUT, TIMEOUT, DIED = range(240, 245)


def missing():
    """Return why no guest can be started here, or None."""
    if os.geteuid() != 0:
        return "root is needed, for Open vSwitch and the guests' folder"
    for program in ("qemu-system-x86_64", "busybox", "ovsdb-server", VSWITCHD,
                    "NPtcp"):
        if not shutil.which(program):
            return f"{program} is not installed"
    if not os.path.exists(f"{ROOT}/.cache/guest/kernel/vmlinuz"):
        return "there is no guest kernel in .cache"
    return None


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {PATIENCE} s")
        time.sleep(0.05)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)],
                           stdout=subprocess.PIPE, check=False)
    return [int(word) for word in found.stdout.split()]


def alive(pid):
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class GuestTest(unittest.TestCase):
    """A folder for the test, and guests that do not outlive it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="vrdma-launch-")
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        self.ready = f"{self.dir}/ready"

    def start(self, *job, name="t1", options=(), **popen):
        """Start the launcher; its output comes to us unless @popen says."""
        argv = [LAUNCH, "--name", name, "--run-dir", f"{self.dir}/run",
                "--memory", "256", *options]
        argv += ["--", *job] if job else []
        popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        launcher = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **popen)
        self.addCleanup(self._end, launcher)
        return launcher

    @staticmethod
    def _end(launcher):
        launcher.terminate()
        launcher.communicate()

    def run_job(self, *job, **more):
        """Return (status, output, error output) of a guest's whole life."""
        launcher = self.start(*job, **more)
        out, err = launcher.communicate(timeout=PATIENCE)
        return launcher.returncode, out, err.decode()

    def start_until_ready(self, *job, options=(), **more):
        """Return (launcher, QEMU's pid) once the guest's job has begun."""
        launcher = self.start(*job, **more,
                              options=("--ready-file", self.ready, *options))
        wait_until(lambda: os.path.exists(self.ready) or
                   launcher.poll() is not None, "the job's begin")
        self.assertIsNone(launcher.poll())
        qemu, = children(launcher.pid)
        return launcher, qemu

    def log(self, name="t1", file="console.log"):
        with open(f"{self.dir}/run/{name}/{file}", errors="replace",
                  encoding="utf-8") as log:
            return log.read()


class Job(GuestTest):
    """A job that ends by itself."""

    def test_output_and_status(self):
        script = "head -c 1000003 /dev/urandom | tee /tmp/sent; " \
                 "sha256sum </tmp/sent >&2; exit 3"
        status, out, err = self.run_job("bash", "-c", script)
        self.assertEqual(status, 3)
        self.assertEqual(len(out), 1000003)
        self.assertEqual(err.split()[0], hashlib.sha256(out).hexdigest())
        self.assertIn("Linux version", self.log())

    def test_arguments(self):
        words = ["a b", "", "it's", "$HOME", "new\nline", "*", "\\", "\udcff"]
        status, out, _ = self.run_job("printf", r"%s\0", *words)
        self.assertEqual(status, 0)
        self.assertEqual([os.fsdecode(word) for word in out.split(b"\0")],
                         words + [""])

    def test_surroundings(self):
        script = 'hostname; pwd; echo "$HOME"; cat /etc/protocols | wc -l;' \
                 "echo again >/dev/stdout; ip -o -4 address show dev lo;" \
                 "grep SigIgn /proc/self/status;" \
                 "for d in /dev/pts /dev/shm /tmp /proc /sys; do" \
                 "  findmnt -no TARGET $d; done"
        status, out, err = self.run_job("bash", "-ec", script, name="other")
        lines = out.decode().splitlines()
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(lines[:3], ["other", "/", "/root"])
        self.assertGreater(int(lines[3]), 10)
        self.assertEqual(lines[4], "again")
        self.assertIn("127.0.0.1/8", lines[5])
        self.assertEqual(int(lines[6].split()[1], 16), 0)
        self.assertEqual(lines[7:],
                         ["/dev/pts", "/dev/shm", "/tmp", "/proc", "/sys"])

    def test_signal_and_what_is_left_behind(self):
        status, out, _ = self.run_job(
            "bash", "-c", "sleep 1000 & echo last; kill -9 $$")
        self.assertEqual((status, out), (128 + 9, b"last\n"))

    def test_no_such_command(self):
        status, out, err = self.run_job("/no/such/command")
        self.assertEqual((status, out), (127, b""))
        self.assertIn("/no/such/command", err)

    def test_host_is_read_only(self):
        """The guest's changes are the guest's; a second mount writes no more
        than the first."""
        mine = f"{self.dir}/host-file"
        with open(mine, "w", encoding="utf-8") as file:
            file.write("host\n")
        # /tmp is the guest's own, so the file must be elsewhere.
        outside = os.path.join(ROOT, ".cache", f"launch-test-{os.getpid()}")
        shutil.move(mine, outside)
        self.addCleanup(os.unlink, outside)
        script = f"cat {outside}; echo guest >{outside}; cat {outside};" \
                 f"touch {outside}.new; mkdir /tmp/root;" \
                 "mount -t 9p -o trans=virtio,version=9p2000.L,rw root" \
                 f" /tmp/root && echo guest >/tmp/root{outside};" \
                 "exit 0"
        status, out, _ = self.run_job("bash", "-c", script)
        self.assertEqual((status, out), (0, b"host\nguest\n"))
        with open(outside, encoding="utf-8") as file:
            self.assertEqual(file.read(), "host\n")
        self.assertFalse(os.path.exists(f"{outside}.new"))

    def test_facts_and_pinning(self):
        cpu = min(os.sched_getaffinity(0))
        launcher, qemu = self.start_until_ready(
            "sleep", "1000", options=("--cpus", "2", "--pin", str(cpu)))
        facts = json.loads(self.log(file="guest.json"))
        self.assertIn(facts["accelerator"], ("kvm", "tcg"))
        self.assertRegex(facts["kernel"], r"^6\.")
        pinned = [task for task in os.listdir(f"/proc/{qemu}/task")
                  if os.sched_getaffinity(int(task)) == {cpu}]
        self.assertEqual(len(pinned), 2)
        launcher.terminate()
        launcher.communicate(timeout=PATIENCE)

    def test_huge_pages(self):
        """A pool that is just large enough; and none that could be."""
        pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

        def grow(pages):
            with open(pool, "r+", encoding="utf-8") as file:
                before = int(file.read())
                file.seek(0)
                file.write(str(before + pages))
                file.flush()
                file.seek(0)
                return int(file.read()) - before

        grown = grow(128)
        self.addCleanup(lambda: grow(-grown))
        if grown < 128:
            self.skipTest("this host's memory is too fragmented")
        for policy, got in (("always", True), ("never", False)):
            status, _, err = self.run_job("true",
                                          options=("--hugepages", policy))
            self.assertEqual(status, 0, err)
            facts = json.loads(self.log(file="guest.json"))
            self.assertEqual(facts["huge_pages"], got)
        status, _, err = self.run_job("true", options=(
            "--hugepages", "always", "--memory", "9999999"))
        self.assertEqual(status, NO_START)
        self.assertIn("9999999 MiB of huge pages", err)

    def test_shell(self):
        launcher, terminal = pty.fork()
        if launcher == 0:
            os.execv(LAUNCH, [LAUNCH, "--name", "t1", "--run-dir",
                              f"{self.dir}/run", "--shell"])
        screen = Screen(terminal)
        screen.expect(rb"root@t1:/# ")
        # Ctrl-C is for what runs in the guest, not for the launcher.
        os.write(terminal, b"""sh -c 'trap "echo caught; exit" INT; tty;"""
                 b"""while :; do sleep 1; done'\r""")
        screen.expect(rb"/dev/hvc0\r\n")
        os.write(terminal, b"\x03")
        screen.expect(rb"\^Ccaught\r\n")
        os.write(terminal, b"exit 5\r")
        while screen.read():
            pass
        _, status = os.waitpid(launcher, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 5)
        os.close(terminal)


class Screen:
    """What has come from a pseudo terminal and was not expected yet."""

    def __init__(self, terminal):
        self.terminal = terminal
        self.text = b""

    def read(self):
        """Take what comes; False at the end."""
        if not select.select([self.terminal], [], [], PATIENCE)[0]:
            raise AssertionError(f"the terminal rests at {self.text}")
        try:
            self.text += os.read(self.terminal, 4096)
        except OSError:
            return False
        return True

    def expect(self, pattern):
        while not re.search(pattern, self.text):
            if not self.read():
                raise AssertionError(f"the terminal ended at {self.text}")
        self.text = re.split(pattern, self.text, maxsplit=1)[1]


class Unhappy(GuestTest):
    """Guests that do not end as they should."""

    def assert_gone(self, qemu):
        self.assertFalse(alive(qemu))
        self.assertEqual(os.listdir(f"{self.dir}/run"), ["t1"])
        self.assertEqual(sorted(os.listdir(f"{self.dir}/run/t1")),
                         ["console.log", "guest.json", "qemu.log"])
        self.assertEqual(sorted(os.listdir(self.dir)), ["run"])

    def wrapper(self, option):
        """Return a QEMU that is always given @option, too."""
        path = f"{self.dir}/qemu"
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec qemu-system-x86_64 {option} "$@"\n')
        os.chmod(path, 0o755)
        return path

    def test_usage(self):
        for options in (("--ip", "1.2.3.4"), ("--pin", "9999"), ("--nonsense",),
                        ("--netdev", "tap:"), ("--netdev", "user"),
                        ("--netdev", "tap:a", "--vhost-user", "/x"),
                        ("--modules", "a,,b"), ("--modules", "../a"),
                        ("--name", "../x"), ("--vhost-user", "/x", "--ip", "y"),
                        ("--memory", "0")):
            status, _, err = self.run_job("true", options=options)
            self.assertEqual(status, USAGE, options)
            self.assertIn(options[0], err)
        status, _, err = self.run_job("true", options=("--modules", "none_such"))
        self.assertEqual(status, USAGE)
        self.assertIn("no module none_such", err)
        status, _, err = self.run_job("true", options=("--kernel", self.dir))
        self.assertEqual(status, USAGE)
        self.assertIn(self.dir, err)

    def test_ready_file_cannot_be_made(self):
        path = f"{self.dir}/no/such/folder"
        status, _, err = self.run_job("sleep", "1000",
                                      options=("--ready-file", path))
        self.assertEqual(status, USAGE)
        self.assertRegex(err, f"^launch: t1: .*{path}'\n$")

    def test_socket_in_use(self):
        path = f"{self.dir}/other.sock"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()
            status, _, err = self.run_job("true",
                                          options=("--vhost-user", path))
        self.assertEqual(status, USAGE)
        self.assertIn("in use", err)
        self.assertTrue(os.path.exists(path))

    def test_same_name_twice(self):
        launcher, _ = self.start_until_ready("sleep", "1000")
        status, _, err = self.run_job("true")
        self.assertEqual(status, USAGE)
        self.assertIn("runs", err)
        self.assertIsNone(launcher.poll())

    def test_qemu_does_not_start(self):
        for options, reason in ((("--qemu", "/no/such/qemu"), "/no/such/qemu"),
                                (("--memory", "99999999"), "memory")):
            status, _, err = self.run_job("true", options=options)
            self.assertEqual(status, NO_START)
            self.assertIn(reason, err)

    def test_guest_does_not_boot(self):
        """Its CPUs stand still."""
        status, _, err = self.run_job(
            "true", options=("--qemu", self.wrapper("-S"),
                             "--boot-timeout", "2"))
        self.assertEqual(status, BOOT_TIMEOUT)
        self.assertIn("not begun its job in 2 s", err)

    def test_nothing_connects(self):
        path = f"{self.dir}/nobody.sock"
        status, _, err = self.run_job(
            "true", options=("--vhost-user", path, "--boot-timeout", "2"))
        self.assertEqual(status, BOOT_TIMEOUT)
        self.assertIn(f"nothing has connected to {path}", err)
        self.assertFalse(os.path.exists(path))

    def test_job_does_not_end(self):
        status, out, err = self.run_job(
            "bash", "-c", "echo begun; trap '' TERM; sleep 1000",
            options=("--timeout", "3"))
        self.assertEqual((status, out), (TIMEOUT, b"begun\n"))
        self.assertIn("not ended in 3 s", err)

    def test_panic(self):
        status, out, err = self.run_job(
            "sh", "-c", "echo begun; sleep 1; echo c >/proc/sysrq-trigger")
        self.assertEqual((status, out), (DIED, b"begun\n"))
        self.assertIn("Kernel panic - not syncing: sysrq", err)

    def test_power_off(self):
        status, _, err = self.run_job("sh", "-c", "echo o >/proc/sysrq-trigger;"
                                      "sleep 1000")
        self.assertEqual(status, DIED)
        self.assertIn("powered off", err)

    def test_qemu_is_killed(self):
        launcher, qemu = self.start_until_ready("sleep", "1000")
        os.kill(qemu, signal.SIGKILL)
        _, err = launcher.communicate(timeout=PATIENCE)
        self.assertEqual(launcher.returncode, DIED)
        self.assertIn(b"QEMU was killed by SIGKILL", err)
        self.assert_gone(qemu)

    def test_launcher_is_ended(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            launcher, qemu = self.start_until_ready("sleep", "1000")
            launcher.send_signal(number)
            launcher.communicate(timeout=PATIENCE)
            self.assertEqual(launcher.returncode, 128 + number)
            self.assert_gone(qemu)

    def test_launcher_is_killed(self):
        launcher, qemu = self.start_until_ready("sleep", "1000")
        launcher.kill()
        wait_until(lambda: not alive(qemu), "QEMU's end")

    def test_nobody_takes_the_output(self):
        reader, writer = os.pipe()
        launcher, qemu = self.start_until_ready("yes", stdout=writer)
        os.close(writer)
        os.close(reader)
        launcher.communicate(timeout=PATIENCE)
        self.assertEqual(launcher.returncode, 128 + signal.SIGPIPE)
        self.assert_gone(qemu)


class Switch:
    """A stock Open vSwitch with DPDK, with everything of its own.

    It lives in a network namespace without a name, which takes the interfaces
    that it makes along when it ends.
    """

    def __init__(self, folder):
        self.dir = folder
        os.mkdir(folder)
        self.env = {**os.environ, "OVS_RUNDIR": folder, "OVS_DBDIR": folder,
                    "OVS_LOGDIR": folder, "OVS_SYSCONFDIR": folder,
                    "RUNTIME_DIRECTORY": folder}
        self.daemon = None
        self.run("ovsdb-tool", "create", f"{folder}/conf.db", SCHEMA)
        self.database = self._start(
            "ovsdb-server", f"--remote=punix:{folder}/db.sock",
            f"{folder}/conf.db")
        wait_until(lambda: os.path.exists(f"{folder}/db.sock"), "ovsdb-server")
        self.vsctl("--no-wait", "init")
        # Two cores are all there is: one poll thread, which sleeps when idle.
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".",
                   "other_config:dpdk-init=true",
                   "other_config:userspace-tso-enable=true",
                   "other_config:per-port-memory=true",
                   "other_config:pmd-maxsleep=50",
                   "other_config:dpdk-extra=--no-huge --legacy-mem -m 512 "
                   "--no-pci --iova-mode=va --file-prefix=vrdma-launch-test")
        self.start()
        self.vsctl("add-br", "br0", "--",
                   "set", "bridge", "br0", "datapath_type=netdev")

    def run(self, *argv):
        return subprocess.run(argv, env=self.env, check=True,
                              stdout=subprocess.PIPE).stdout.decode().strip()

    def vsctl(self, *arguments):
        return self.run("ovs-vsctl", "--timeout=30",
                        f"--db=unix:{self.dir}/db.sock", *arguments)

    def _start(self, *argv):
        with open(f"{self.dir}/{os.path.basename(argv[0])}.out", "a",
                  encoding="utf-8") as log:
            return subprocess.Popen(argv, env=self.env, stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL)

    def start(self):
        self.daemon = self._start(
            "unshare", "--net", VSWITCHD, f"--pidfile={self.dir}/ovs.pid",
            f"unix:{self.dir}/db.sock")

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()

    def stop(self):
        for daemon in (self.daemon, self.database):
            daemon.terminate()
            daemon.wait()

    def add_port(self, name):
        """Return the socket where the guest's QEMU is to listen."""
        path = f"{self.dir}/{name}.sock"
        self.vsctl("add-port", "br0", name, "--", "set", "Interface", name,
                   "type=dpdkvhostuserclient",
                   f"options:vhost-server-path={path}")
        return path


class Network(GuestTest):
    """Two guests on one switch."""

    def setUp(self):
        super().setUp()
        self.switch = Switch(f"{self.dir}/ovs")
        self.addCleanup(self.switch.stop)

    def guest(self, name, address, *job):
        path = self.switch.add_port(name)
        return self.start(*job, name=name, options=(
            "--vhost-user", path, "--ip", f"{address}/24", "--mtu", "1450",
            "--timeout", str(PATIENCE)))

    def test_traffic_and_restart(self):
        """NPtcp to 64 KiB; the switch is killed and started; NPtcp again."""
        serve = "NPtcp -u 65536 -o /tmp/a && NPtcp -u 65536 -o /tmp/b"
        # Large frames must be on offer, or the test says little.
        use = """set -e
            reached() { ping -qc 1 -W 1 10.0.0.1 >&2; }
            # Its server answers pings before it listens.
            netpipe() {
                until NPtcp -h 10.0.0.1 -u 65536 -n 20 -o $1 >&2; do
                    sleep 0.2
                done
                tail -n 1 $1
            }
            ethtool -k eth0 | grep tcp-segmentation-offload:
            cat /sys/class/net/eth0/mtu
            until reached; do :; done
            netpipe /tmp/a
            echo kill
            while reached; do :; done
            echo start
            until reached; do :; done
            netpipe /tmp/b"""
        server = self.guest("ga", "10.0.0.1", "bash", "-c", serve)
        client = self.guest("gb", "10.0.0.2", "bash", "-c", use)
        lines = []
        for line in client.stdout:
            lines.append(line.decode().strip())
            if lines[-1] == "kill":
                self.switch.kill()
            elif lines[-1] == "start":
                self.switch.start()
        _, err = client.communicate(timeout=PATIENCE)
        self.assertEqual(client.returncode, 0, err.decode())
        self.assertEqual(lines[:2], ["tcp-segmentation-offload: on", "1450"])
        self.assertEqual([lines[3], lines[4]], ["kill", "start"])
        for row in (lines[2], lines[5]):
            self.assertGreaterEqual(int(row.split()[0]), 65536)
        _, err = server.communicate(timeout=PATIENCE)
        self.assertEqual(server.returncode, 0, err.decode())

    def test_other_features(self):
        """QEMU says thousands of times a second that it waits for the old
        ones; the launcher says it once."""
        path = self.switch.add_port("t1")
        launcher, _ = self.start_until_ready(
            "sleep", "1000", options=("--vhost-user", path))
        self.switch.kill()
        self.switch.vsctl("--no-wait", "set", "Open_vSwitch", ".",
                          "other_config:userspace-tso-enable=false")
        self.switch.start()
        self.assertIn(b"lost the network port", launcher.stderr.readline())
        launcher.terminate()
        _, err = launcher.communicate(timeout=PATIENCE)
        self.assertEqual(err, b"launch: t1: ended by SIGTERM\n")


if __name__ == "__main__":
    WHY = missing()
    if WHY:
        print(f"skipped: {WHY}")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
