#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The demo, end to end: Ctrl-C leaves nothing behind, a run right after works,
result.json says what the issue asks, nothing but RoCE and the hello protocol is
on the wire, with native end points and with guests; --keep and --stop.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
NAME = f"test{os.getpid()}"
DEMO = [f"{ROOT}/scripts/demo.sh", "--name", NAME]
RUN_DIR = f"/run/vrdma-{NAME}"
RESULT = f"{ROOT}/build/demo-{NAME}/result.json"
# What may be on the wire: RoCEv2 (UDP) and hello (TCP), and what finds the way
# to the other address.
FOREIGN = "not (udp dst port 4791 or tcp port 4791 or arp or icmp6 or ip6 multicast)"


def netns(node):
    return f"vrdma-{NAME}-{node}"


def processes():
    """Return the command lines of what runs for this demo."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if RUN_DIR + "/" in line:
            found.append(line)
    return found


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def demo(*options, **kwargs):
    return subprocess.run([*DEMO, *options], capture_output=True, text=True,
                          timeout=400, check=False, **kwargs)


class Sniffer:
    """Counts the packets on the veth that should not be there."""

    def __init__(self):
        # pylint: disable=consider-using-with # ended by stop()
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", netns("a"), "tcpdump", "-n", "-l", "-i",
             "under0", FOREIGN], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True)

    def stop(self):
        """Return the packets' lines. (A signal makes tcpdump print an empty one.)"""
        self.process.terminate()
        return self.process.communicate()[0].strip().splitlines()


class Demo(unittest.TestCase):
    def tearDown(self):
        subprocess.run([*DEMO, "--stop"], check=True, capture_output=True)

    def assert_nothing_left(self):
        self.assertFalse(os.path.exists(RUN_DIR))
        self.assertFalse(os.path.exists(f"{RUN_DIR}.lock"))
        for node in "ab":
            self.assertFalse(os.path.exists(f"/run/netns/{netns(node)}"))
        self.assertEqual(processes(), [])

    def run_watched(self, *options):
        """Run the demo with a sniffer on its veth; return result.json."""
        with subprocess.Popen([*DEMO, *options], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as process:
            self.assertTrue(wait_for(
                lambda: os.path.exists(f"{RUN_DIR}/a/env") or
                process.poll() is not None, 120))
            sniffer = Sniffer()
            out = process.communicate(timeout=400)[0]
            foreign = sniffer.stop()
        self.assertEqual(process.returncode, 0, out)
        self.assertEqual(foreign, [])
        self.assertIn("Every frame that one node sent", out)
        with open(RESULT, encoding="utf-8") as file:
            return json.load(file)

    def check_result(self, result):
        one, two = result["nodes"]
        self.assertEqual([one["name"], two["name"]], ["a", "b"])
        for sender, receiver in ((one, two), (two, one)):
            lost = sum(count for name, count in receiver["drops"].items()
                       if name.startswith("rx_"))
            self.assertEqual(sender["tx_frames"], receiver["rx_frames"] + lost)
            self.assertGreater(sender["opcodes"]["tx_send"], 0)
            self.assertEqual(sender["opcodes"]["tx_write"], 0)
            self.assertGreaterEqual(sender["retransmissions"], 0)
        rows = result["netpipe"]
        self.assertEqual(rows[0]["bytes"], 1)
        self.assertEqual(rows[-1]["bytes"], 1 << 20)
        self.assertTrue(all(row["mbps"] > 0 and row["usec"] > 0 for row in rows))
        # What NetPIPE moved from a to b at least: each size once.
        self.assertGreater(one["tx_bytes"], sum(row["bytes"] for row in rows))
        self.assertTrue(result["device"])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(os.path.dirname(RESULT), ignore_errors=True)

    def test_1_interrupted(self):
        with subprocess.Popen(DEMO, start_new_session=True,
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            self.assertTrue(wait_for(
                lambda: os.path.exists(f"{RUN_DIR}/guests/{NAME}-b"), 120))
            second = demo()
            self.assertNotEqual(second.returncode, 0)
            self.assertIn("is running", second.stderr)
            os.killpg(process.pid, signal.SIGINT)
            self.assertEqual(process.wait(timeout=60), 130)
        self.assert_nothing_left()

    def test_2_native(self):
        result = self.run_watched("--native")
        self.check_result(result)
        self.assertEqual(result["guest"]["accelerator"], "native")
        self.assert_nothing_left()

    def test_3_guests_keep_and_stop(self):
        result = self.run_watched("--keep")
        self.check_result(result)
        self.assertIn(result["guest"]["accelerator"], ("tcg", "kvm"))
        self.assertTrue(result["guest"]["kernel"])
        subprocess.run(["ip", "netns", "exec", netns("a"), "ping", "-c", "1",
                        "-W", "5", "10.0.0.2"], check=True, capture_output=True)
        self.assertEqual(demo("--stop").returncode, 0)
        self.assert_nothing_left()

    def test_4_wrong_arguments(self):
        for options in (["--frobnicate"], ["--device"], ["--device", "a,b,c"],
                        ["--name", "../x"]):
            done = demo(*options)
            self.assertNotEqual(done.returncode, 0, options)
            self.assertIn(options[0], done.stderr)
        self.assertEqual(demo("--help").returncode, 0)

    def test_5_node_that_cannot_be_stopped(self):
        os.makedirs(f"{RUN_DIR}/a")
        self.addCleanup(shutil.rmtree, RUN_DIR, ignore_errors=True)
        # The loopback interface cannot be deleted.
        with open(f"{RUN_DIR}/a/undo", "w", encoding="utf-8") as file:
            file.write(f"interface lo {os.readlink('/proc/self/ns/net')}\n")
        done = demo("--stop")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("could not stop: a", done.stderr)
        self.assertTrue(os.path.exists(f"{RUN_DIR}/a/undo"))
        os.unlink(f"{RUN_DIR}/a/undo")

    def test_6_no_such_device(self):
        done = demo("--native", "--device", "nosuch0")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("there is no device nosuch0", done.stderr)
        self.assert_nothing_left()


if __name__ == "__main__":
    if os.geteuid():
        print("skipped: needs root")
        sys.exit(77)
    unittest.main(verbosity=2)
