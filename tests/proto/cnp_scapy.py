#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Congestion notification of the userspace device, with scapy as the peer on a real wire
(IBTA volume 1, annex A17.9): what the device sends says that it can be marked, a mark is
answered with a notification as scapy and a captured ConnectX make it, and one that comes
counts.

Usage: cnp_scapy.py QP_TOOL
"""

import time
import unittest

from scapy.contrib.roce import cnp

import qp_peer
import roce
from qp_peer import *  # pylint: disable=wildcard-import,unused-wildcard-import

ECT0, CE = 2, 3
# Of a ConnectX, BTH to the reserved bytes, to queue pair 0xd2: from "RoCEv2 CNP Packet
# Format Example", Mellanox community
CAPTURED = bytes.fromhex("8100ffff400000d2" + 20 * "00")


class Connected(qp_peer.Peer):
    service = 0

    def ecn(self, ip):
        return (ip.tos if self.version == 4 else ip.tc) & 3

    def expect_cnp(self, qpn):
        ip, raw = roce.receive(self.port)
        data = raw[(28 if self.version == 4 else 48):-4]
        self.assertEqual((ip.src, ip.dst), self.addr)
        self.assertEqual(raw[-4:], roce.icrc(ip, data), "ICRC")
        self.assertEqual(data, bytes(cnp(qpn))[:-4])
        self.assertEqual(data, CAPTURED[:5] + qpn.to_bytes(3, "big") + CAPTURED[8:])

    def send_marked(self, n, **fields):
        self.send(self.service + SEND_ONLY, self.psn(n), b"data", how={"ecn": CE}, **fields)

    def test_mark_is_answered(self):
        self.connect()
        self.post_recv(1)
        self.send_marked(0)
        self.expect_cnp(QPN)
        self.assertEqual(len(self.device.poll(1)), 1)
        counters = self.device.counters()
        self.assertEqual((counters["rx_ecn_marked"], counters["tx_cnps"]), (1, 1))

    def test_no_mark(self):
        self.connect()
        self.post_recv(1)
        self.send(self.service + SEND_ONLY, self.psn(0), b"data")
        self.assertEqual(len(self.device.poll(1)), 1)
        counters = self.device.counters()
        self.assertEqual((counters["rx_ecn_marked"], counters["tx_cnps"]), (0, 0))

    def test_sends_ect(self):
        self.connect()
        self.device.post(WR_SEND, 1, 0, 4)
        ip, _ = roce.receive(self.port)
        self.assertEqual(self.ecn(ip), ECT0)

    def test_notified(self):
        """It slows down; that is, it still sends."""
        self.connect()
        self.port.transmit(roce.datagram(self.addr[1], self.addr[0],
                                         bytes(cnp(self.device.qpn))[:-4]))
        while not self.device.counters()["rx_cnps"]:
            time.sleep(0.001)
        self.assertEqual(self.device.counters()["rate_cuts"], 1)
        self.device.post(WR_SEND, 1, 0, 4)
        self.expect_request(0, self.service + SEND_ONLY, self.memory(0, 4))


class Unreliable(Connected):
    kind = "uc"
    service = 0x20


class Datagram(Connected):
    kind = "ud"
    service = 0x60

    def send(self, opcode, psn, payload=b"", how=None, **fields):
        super().send(opcode, psn, payload, how, qkey=0x11223344, src_qpn=0xabcdef, **fields)

    def expect_cnp(self, qpn):
        """To the queue pair that the datagram names as its source."""
        super().expect_cnp(0xabcdef)


TESTS = [type(f"{base.__name__}OverIPv{n}", (base, unittest.TestCase), {"version": n})
         for base in (Connected, Unreliable, Datagram) for n in (4, 6)]


def load_tests(loader, _tests, _pattern):
    return unittest.TestSuite(loader.loadTestsFromTestCase(test) for test in TESTS)


if __name__ == "__main__":
    qp_peer.main()
