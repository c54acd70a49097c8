#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The UDP link on a wire: what the kernel makes of its bursts, captured behind a veth
pair (net.py) and judged by scapy; and scapy's packets, as the link takes them. Bursts
are cut up before the wire, so the IPv4 identification of each packet, which the ICRC
covers, is real.

Usage: link_veth.py LINK_TOOL
"""

import random
import sys
import unittest

import net
import roce
from link import Link, judge, packet

TOOL = sys.argv[1]


def setUpModule():
    global veth
    veth = net.Veth()

BURST = 60                      # LINK_BURST of rdma/io/link.h


def open_link(addr, prefix=()):
    return Link(TOOL, addr, prefix=prefix)


class OnTheWire(unittest.TestCase):
    def setUp(self):
        self.rng = random.Random(2)

    def link(self, *args):
        link = open_link(*args)
        self.addCleanup(link.close)
        return link

    def port(self):
        port = net.PeerPort(veth)
        self.addCleanup(port.close)
        return port

    def send_and_judge(self, packets, ids=None):
        for addr in veth.addr4, veth.addr6:
            port = self.port()
            link = self.link(addr[0])
            link.send(addr[1], packets)
            found = [roce.receive(port) for _ in packets]
            for i, ((ip, data), (_, sent)) in enumerate(zip(found, packets)):
                judge(self, ip, data, sent, addr, ids[i] if ids else range(64))
            self.assertEqual(link.stats()["tx_failed"], 0)
            self.assertEqual(link.stats()["tx_packets"], len(packets))
            link.close()
            port.close()

    def test_single(self):
        """A packet alone has the identification 0."""
        for size in 0, 1, 2, 3, 4, 100, 4096:
            self.send_and_judge([packet(self.rng, size, size)], [[0]])

    def test_message(self):
        """A message of 15 packets and a shorter one: identifications 0, 1, 2..."""
        sizes = [4096] * 14 + [1001]
        self.send_and_judge([packet(self.rng, size, i) for i, size in enumerate(sizes)],
                            [[i] for i in range(15)])

    def test_most_segments(self):
        """A burst in one send; 64 KiB of large packets take two."""
        self.send_and_judge([packet(self.rng, 64, i) for i in range(BURST)],
                            [[i] for i in range(BURST)])
        self.send_and_judge([packet(self.rng, 4096, i) for i in range(16)],
                            [[i % 15] for i in range(16)])

    def test_every_opcode(self):
        packets = []
        for i, opcode in enumerate(roce.HEADERS):
            size = 0 if opcode in roce.NO_PAYLOAD else self.rng.randint(0, 300)
            packets.append(packet(self.rng, size, i, opcode))
        self.send_and_judge(packets)

    def test_mixtures(self):
        """Whatever may stand side by side in a burst."""
        for _ in range(30):
            sizes = [self.rng.choice([0, 8, 8, 500, 1024, 1024, 4096])
                     for _ in range(self.rng.randint(1, BURST))]
            if self.rng.random() < 0.5:
                sizes.sort(reverse=True)
            self.send_and_judge([packet(self.rng, size, i) for i, size in enumerate(sizes)])

    def test_between_links(self):
        """Two links; the receiver checks what it can (over IPv6 the ICRC)."""
        for addr in veth.addr4, veth.addr6:
            sender, receiver = self.link(addr[0]), self.link(addr[1], veth.in_peer())
            self.assertEqual((sender.ifname, sender.mtu), ("v0", "9000"))
            packets = [packet(self.rng, size, i)
                       for i, size in enumerate([4096] * 30 + [0, 8, 1023])]
            sender.send(addr[1], packets)
            self.assertEqual([data for _, _, data in receiver.recv(len(packets))],
                             [data for _, data in packets])
            stats = receiver.stats()
            self.assertEqual(stats["rx_packets"], len(packets))
            self.assertEqual(stats["rx_bad_icrc"], 0)
            sender.close()
            receiver.close()


class FromScapy(unittest.TestCase):
    """Packets of another implementation, raw from the peer's end of the wire."""

    def setUp(self):
        self.rng = random.Random(3)
        self.port = net.PeerPort(veth)
        self.addCleanup(self.port.close)

    @staticmethod
    def sample(version, data, crc=None, **udp):
        addr = veth.addr4 if version == 4 else veth.addr6
        return roce.datagram(addr[1], addr[0], data, crc, **udp)

    def receive(self, version, ips, n):
        link = open_link((veth.addr4 if version == 4 else veth.addr6)[0])
        self.addCleanup(link.close)
        for ip in ips:
            self.port.transmit(ip)
        # one good packet behind them shows that all have arrived
        last = packet(self.rng, 12, 999)[1]
        self.port.transmit(self.sample(version, last))
        found = link.recv(n + 1)
        self.assertEqual(len(found), n + 1)
        self.assertEqual(found[-1][2], last)
        stats = link.stats()
        link.close()
        return found[:-1], stats

    def test_every_opcode(self):
        for version in 4, 6:
            sent = []
            for i, opcode in enumerate(roce.HEADERS):
                size = 0 if opcode in roce.NO_PAYLOAD else self.rng.randint(0, 3000)
                sent.append(packet(self.rng, size, i, opcode)[1])
            ips = [self.sample(version, data) for data in sent]
            found, stats = self.receive(version, ips, len(sent))
            self.assertEqual([data for _, _, data in found], sent)
            self.assertEqual({ecn for _, ecn, _ in found}, {2})
            source = "::ffff:" + veth.addr4[1] if version == 4 else veth.addr6[1]
            self.assertEqual({src for src, _, _ in found}, {source})
            self.assertEqual(stats["rx_bad_icrc"], 0)

    def test_marks_of_a_run(self):
        """The kernel puts packets of one size together (GRO), but none with different
        marks: each keeps its own."""
        net.run("ethtool", "-K", "v0", "gro", "on")
        for version in 4, 6:
            marks = [2] * 7 + [3] * 5 + [2] * 3 + [0, 3] * 3 + [1] * 4
            ips = [self.sample(version, packet(self.rng, 1000, i)[1], ecn=mark)
                   for i, mark in enumerate(marks)]
            found, _ = self.receive(version, ips, len(ips))
            self.assertEqual([ecn for _, ecn, _ in found], marks)

    def test_no_udp_checksum(self):
        """RoCE NICs leave the UDP checksum out, over IPv6 too."""
        for version in 4, 6:
            data = packet(self.rng, 100, 1)[1]
            found, _ = self.receive(version, [self.sample(version, data, chksum=0)], 1)
            self.assertEqual(found[0][2], data)

    def test_wrong_icrc(self):
        ips = []
        for i in range(20):
            good = self.sample(6, packet(self.rng, i, i)[1])
            data = bytearray(good[48:])
            bit = self.rng.randrange(8 * len(data))
            if bit // 8 == 4:  # not covered
                continue
            data[bit // 8] ^= 1 << bit % 8
            ips.append(self.sample(6, bytes(data[:-4]), bytes(data[-4:])))
        _, stats = self.receive(6, ips, 0)
        self.assertEqual(stats["rx_bad_icrc"], len(ips))

    def test_wrong_udp_checksum(self):
        """Over IPv4 it is all that guards the packet."""
        data = packet(self.rng, 100, 1)[1]
        _, stats = self.receive(4, [self.sample(4, data, chksum=0x1234)], 0)
        self.assertEqual(stats["rx_packets"], 1)


if __name__ == "__main__":
    net.enter()
    del sys.argv[1]
    unittest.main(verbosity=2)
