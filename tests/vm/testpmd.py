#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The driver in DPDK's own dpdk-testpmd: two of them, in two network namespaces joined
by a veth pair, loading the driver as a plugin.

Usage: testpmd.py DRIVER SCRIPTS
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from scapy.all import IP, TCP, Ether, rdpcap, wrpcap

DRIVER, SCRIPTS = sys.argv[1:3]
del sys.argv[1:3]
sys.path.insert(0, SCRIPTS)
import telemetry  # noqa: E402 (found by the path above)

NAME = f"vrdma-tp{os.getpid()}"
WAIT_S = 30
ADDRS = {"a": "192.0.2.1", "b": "192.0.2.2"}
OTHER = {"a": "b", "b": "a"}
LINK_LEN = 14 + 20 + 20


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def wait_until(condition, what):
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {WAIT_S} s: {what}")
        time.sleep(0.05)


class Testpmd:
    """One dpdk-testpmd with a net_vrdma port, perhaps with a pcap port beside it."""

    def __init__(self, side, folder, pcap=""):
        self.prefix = f"{NAME}-{side}"
        self.telemetry = f"/var/run/dpdk/{self.prefix}/dpdk_telemetry.v2"
        self.log = open(f"{folder}/{side}.log", "a", encoding="utf-8")
        cpus = "(" + ",".join(map(str, sorted(os.sched_getaffinity(0)))) + ")"
        vdevs = ["--vdev", f"net_vrdma0,device=udp,local={ADDRS[side]},"
                           f"peer={ADDRS[OTHER[side]]},rxbufs=128,node={side}"]
        if pcap:
            vdevs += ["--vdev", f"net_pcap0,{pcap}"]
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.prefix, "dpdk-testpmd", f"--lcores=0@{cpus},1@{cpus}",
             "--no-pci", "--no-huge", "-m", "400", f"--file-prefix={self.prefix}",
             "-d", DRIVER, *vdevs, "--", "-i", "--total-num-mbufs=4096",
             "--mbuf-size=10240", "--no-flush-rx"],
            stdin=subprocess.PIPE, stdout=self.log, stderr=self.log, text=True)
        try:
            wait_until(self.answers, f"testpmd {side} starts (see its log)")
        except AssertionError:
            self.kill()
            with open(self.log.name, encoding="utf-8") as log:
                print(log.read())
            raise

    def answers(self):
        try:
            return telemetry.query(self.telemetry, "/ethdev/list") is not None
        except telemetry.TelemetryError:
            return self.process.poll() is not None and self.fail()

    def fail(self):
        raise AssertionError(f"{self.prefix} ended with {self.process.returncode}")

    def tell(self, *commands):
        for command in commands:
            self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def stats(self):
        port = telemetry.driver_port(self.telemetry)
        return telemetry.query(self.telemetry, f"/ethdev/xstats,{port}")

    def wait_for(self, name, value):
        wait_until(lambda: self.stats()[name] == value, f"{self.prefix}: {name} is {value}")

    def wait_all_from(self, sender):
        """Wait until all that the other has sent is here."""
        sent = sender.stats()["tx_frames"]
        self.wait_for("rx_frames_in", sent)

    def kill(self):
        if self.process.poll() is None:
            # The process is testpmd itself: ip has become it.
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.log.close()
        shutil.rmtree(os.path.dirname(self.telemetry), ignore_errors=True)

    def quit(self):
        try:
            if self.process.poll() is None:
                self.tell("stop", "quit")
                self.process.wait(WAIT_S)
        finally:
            self.kill()


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="vrdma-testpmd-")
        self.addCleanup(shutil.rmtree, self.folder)
        for side in ADDRS:
            run("ip", "netns", "add", f"{NAME}-{side}")
            self.addCleanup(run, "ip", "netns", "delete", f"{NAME}-{side}")
        run("ip", "link", "add", "v0", "mtu", "9000", "netns", f"{NAME}-a", "type", "veth",
            "peer", "name", "v0", "mtu", "9000", "netns", f"{NAME}-b")
        for side, addr in ADDRS.items():
            run("ip", "-n", f"{NAME}-{side}", "address", "add", f"{addr}/24", "dev", "v0")
            run("ip", "-n", f"{NAME}-{side}", "link", "set", "v0", "up")

    def start(self, side, pcap=""):
        node = Testpmd(side, self.folder, pcap)
        self.addCleanup(node.quit)
        return node

    @staticmethod
    def settle(sender):
        """Wait until a sender that was told to stop has stopped."""
        seen = [-1]

        def same():
            last, seen[0] = seen[0], sender.stats()["tx_frames_in"]
            return last == seen[0]
        wait_until(same, "the sender stops")

    def check_sums(self, stats):
        """The equations of docs/counters.md."""
        for way, extra in (("tx", "tx_replicas"), ("rx", "rx_segments")):
            drops = sum(n for key, n in stats.items() if key.startswith(f"{way}_drop_"))
            self.assertEqual(stats[f"{way}_frames_in"] + stats[extra],
                             stats[f"{way}_frames"] + drops)

    def pcap(self, name, packets=None):
        path = os.path.join(self.folder, name)
        if packets is not None:
            wrpcap(path, packets, linktype=1)
        return path


class Forwarding(Case):
    def test_what_one_sends_the_other_receives(self):
        a, b = self.start("a"), self.start("b")
        a.wait_for("peers_up", 1)
        b.wait_for("peers_up", 1)
        b.tell("set fwd rxonly", "start")
        a.tell("set fwd txonly")
        for sizes in "64", "1514", "200,300,400":
            a.tell(f"set txpkts {sizes}", "start")
            time.sleep(0.5)
            a.tell("stop")
            self.settle(a)
            b.wait_all_from(a)
            sent, received = a.stats(), b.stats()
            self.assertGreater(sent["tx_frames"], 0)
            for key in "frames", "bytes", "messages":
                self.assertEqual(sent[f"tx_{key}"], received[f"rx_{key}"])
            self.assertEqual(sent["tx_messages"], received["dev_rx_send_messages"])
            self.check_sums(sent)
            self.check_sums(received)

    def test_a_peer_is_killed_and_comes_back(self):
        a, b = self.start("a"), self.start("b")
        a.wait_for("peers_up", 1)
        b.tell("set fwd rxonly", "start")
        a.tell("set fwd txonly", "start")
        b.kill()
        a.wait_for("peers_up", 0)
        dropped = a.stats()["tx_drop_no_peer"]
        wait_until(lambda: a.stats()["tx_drop_no_peer"] > dropped, "drops are counted")
        b = self.start("b")
        b.tell("set fwd rxonly", "start")
        a.wait_for("peers_up", 1)
        wait_until(lambda: b.stats()["rx_frames"] > 1000, "frames flow again")
        a.tell("stop")
        self.settle(a)
        self.check_sums(a.stats())
        self.check_sums(b.stats())


class FromAFile(Case):
    def through(self, packets, *commands):
        """Send packets from a to b; return b's capture and the statistics of both."""
        out = self.pcap("out.pcap")
        a = self.start("a", f"rx_pcap={self.pcap('in.pcap', packets)}")
        b = self.start("b", f"tx_pcap={out}")
        a.wait_for("peers_up", 1)
        b.wait_for("peers_up", 1)
        b.tell("set fwd io", "start")
        a.tell(*commands)
        if "port start all" in commands:
            b.wait_for("hello_ups", 2)
            a.wait_for("peers_up", 1)
        a.tell("start")
        wait_until(lambda: a.stats()["tx_frames_in"] == len(packets), "all is sent")
        b.wait_all_from(a)
        stats = a.stats(), b.stats()
        b.quit()  # which writes the file
        for part in stats:
            self.check_sums(part)
        return rdpcap(out), *stats

    def test_runts_and_giants(self):
        packets = [bytes([2] * size) for size in
                   [1, 6, 13, 14, 15, 60, 1522, 1523, 4000]]
        got, a, b = self.through(packets, "set fwd io")
        self.assertEqual([len(pkt) for pkt in got], [14, 15, 60, 1522])
        self.assertEqual(a["tx_drop_runt"], 3)
        self.assertEqual(a["tx_drop_oversize"], 2)
        self.assertEqual(b["rx_frames"], 4)

    def test_segmentation(self):
        """TCP frames that testpmd wants segmented by the driver arrive as good segments."""
        rng = random.Random(1)
        payloads = [rng.randbytes(size) for size in (100, 2000, 2001, 9000)]
        packets = []
        for i, payload in enumerate(payloads):
            packets.append(Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
                           / IP(src="10.0.0.1", dst="10.0.0.2", id=1000 * i)
                           / TCP(sport=i + 1, seq=2**32 - 500, flags="PA") / payload)
        got, a, b = self.through(
            packets, "port stop all", "csum set ip hw 0", "csum set tcp hw 0", "tso set 1000 0",
            "port start all", "set fwd csum")
        self.assertEqual(a["tx_tso"], 3)  # testpmd leaves the short one alone
        self.assertEqual(b["rx_segments"], 1 + 2 + 8)
        streams = [b""] * len(payloads)
        for pkt in got:
            self.assertLessEqual(len(pkt), LINK_LEN + 1000)
            again = Ether(bytes(pkt))
            del again[IP].chksum, again[IP].len, again[TCP].chksum
            self.assertEqual(bytes(again), bytes(pkt))
            i = pkt[TCP].sport - 1
            self.assertEqual(pkt[TCP].seq, (2**32 - 500 + len(streams[i])) % 2**32)
            streams[i] += bytes(pkt[TCP].payload)[:pkt[IP].len - 40]
        self.assertEqual(streams, payloads)


if __name__ == "__main__":
    if os.geteuid() != 0 or not shutil.which("dpdk-testpmd"):
        print("skipped: needs root and dpdk-testpmd")
        sys.exit(77)
    unittest.main(verbosity=2)
