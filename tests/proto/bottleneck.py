#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Two userspace devices with a bottleneck between them, in the kernel: a router whose
queue towards the receiver holds little. It loses packets; when it marks those that come
faster than a little below its rate, notifications keep the sender below it.

The marks are set by nftables, by rate instead of by the length of the queue, as kernels
without fq_codel, RED and netem can do it too.

Usage: bottleneck.py QP_TOOL
"""

import shutil
import sys
import unittest

import net
from qp_peer import Device, SIGNALED, SUCCESS, WC_WRITE, WR_WRITE
from net import run

RATE_MBIT = 200
MARK_PKTS = 18000  # per second, of 1.1 KB: 80 % of the rate
QUEUE = 60_000
SIZE, DEPTH, COUNT = 1 << 16, 16, 300
ENDS = ("left", "right")
ADDRS = ("10.9.1.1", "10.9.2.1")


def build_network():
    """left -- this namespace, which routes -- right"""
    for i, name in enumerate(ENDS):
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"r{i}", "mtu", "4200", "type", "veth", "peer", "name", "e",
            "mtu", "4200", "netns", name)
        run("ip", "addr", "add", f"10.9.{i + 1}.254/24", "dev", f"r{i}")
        run("ip", "link", "set", f"r{i}", "up")
        run("ip", "-n", name, "addr", "add", ADDRS[i] + "/24", "dev", "e")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "link", "set", "e", "up")
        run("ip", "-n", name, "route", "add", "default", "via", f"10.9.{i + 1}.254")
        # single packets reach the queue
        run("ip", "netns", "exec", name, "ethtool", "-K", "e", "tx", "off")
        run("ethtool", "-K", f"r{i}", "gro", "off")
    with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as file:
        file.write("1")
    run("tc", "qdisc", "add", "dev", "r1", "root", "tbf", "rate", f"{RATE_MBIT}mbit",
        "burst", "20000", "limit", str(QUEUE))


def set_marking(on):
    run("nft", "flush", "ruleset")
    if on:
        run("nft", "add table ip m; add chain ip m f { type filter hook forward priority 0; };"
            f"add rule ip m f oifname r1 limit rate over {MARK_PKTS}/second "
            "burst 20 packets ip ecn != not-ect ip ecn set ce")


class Bottleneck(unittest.TestCase):
    def transfer(self):
        """COUNT WRITEs from left to right; their counters"""
        ends = []
        for name, addr in zip(ENDS, ADDRS):
            ends.append(Device(addr, "rc", ["ip", "netns", "exec", name]))
            self.addCleanup(ends[-1].close)
        for i, end in enumerate(ends):
            peer = ends[1 - i]
            # timeout 2^14 * 4 us, endless retries of a receiver that is not ready
            end.order(f"connect ::ffff:{ADDRS[1 - i]} {peer.qpn} 0 0 14 7 7")
        left, right = ends
        done = 0
        for i in range(COUNT):
            if i >= DEPTH:
                done += self.complete(left)
            left.post(WR_WRITE, i, 0, SIZE, SIGNALED, va=right.va, rkey=right.rkey)
        while done < COUNT:
            done += self.complete(left)
        return left.counters(), right.counters()

    def complete(self, device):
        (wc,) = device.poll(1)
        self.assertEqual(wc[1:3], (SUCCESS, WC_WRITE))
        return 1

    def test_marks_spare_losses(self):
        set_marking(False)
        plain, receiver = self.transfer()
        self.doCleanups()
        self.assertEqual(receiver["rx_ecn_marked"], 0)
        self.assertGreater(plain["tx_retransmitted"], 100)  # it is a bottleneck

        set_marking(True)
        marked, receiver = self.transfer()
        print("sent again:", plain["tx_retransmitted"], "without marks,",
              marked["tx_retransmitted"], "with; notifications:", marked["rx_cnps"],
              "cuts:", marked["rate_cuts"], flush=True)
        self.assertGreater(receiver["rx_ecn_marked"], 0)
        self.assertGreater(receiver["tx_cnps"], 0)
        self.assertGreater(marked["rate_cuts"], 0)
        self.assertLess(marked["tx_retransmitted"], plain["tx_retransmitted"] / 2)


def main():
    if not shutil.which("nft"):
        print("skipped: no nft")
        sys.exit(77)
    net.enter()
    build_network()
    del sys.argv[1]
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
