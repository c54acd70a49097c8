#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Queue pairs of the userspace device without acknowledgement, UC and UD, with scapy as
the peer on a real wire (IBTA volume 1, 9.8; annex A17).

Usage: qp_unreliable_scapy.py QP_TOOL
"""

import time
import unittest

import qp_peer
import roce
from qp_peer import *  # pylint: disable=wildcard-import,unused-wildcard-import
from roce import BTH, DETH, IP, RETH, IPv6

UC, UD = 0x20, 0x60
QKEY = 0x11223344  # qp_tool's
GRH_SIZE = 40
WITH_GRH = 1


class Connected(qp_peer.Peer):
    kind = "uc"

    def expect_silence(self):
        """The next that the device says is what it was asked to send."""
        self.device.post(WR_SEND, 1000, 0, 0)
        parts = self.expect_request(0, UC + SEND_ONLY, b"")
        self.assertEqual(parts[BTH].ackreq, 0)

    def send_uc(self, n, payload, lose=()):
        """A SEND of several packets from PSN n on, without some."""
        parts = [payload[i:i + MTU] for i in range(0, len(payload), MTU)]
        for i, part in enumerate(parts):
            opcode = (SEND_FIRST if i == 0 else
                      SEND_LAST if i == len(parts) - 1 else SEND_MIDDLE)
            if i not in lose:
                self.send(UC + opcode, self.psn(n + i), part)

    def test_send(self):
        self.connect()
        payload = self.rng.randbytes(2 * MTU + 3)
        self.post_recv(1)
        self.send_uc(0, payload)
        self.assertEqual(self.device.poll(1), [(1, SUCCESS, WC_RECV, len(payload), 0, 0)])
        self.assertEqual(self.memory(0, len(payload)), payload)
        self.expect_silence()

    def test_lost(self):
        """Its message is lost, and no more; its buffer takes the next."""
        self.connect()
        self.post_recv(1)
        self.send_uc(0, bytes(3 * MTU), lose=[1])
        self.send(UC + SEND_ONLY_IMM, self.psn(77), b"good", imm=5)
        self.assertEqual(self.device.poll(1),
                         [(1, SUCCESS, WC_RECV, 4, WITH_IMM, swap32(5))])
        self.assertEqual(self.memory(0, 4), b"good")
        self.expect_silence()
        self.assertEqual(self.device.counters()["rx_messages_cut_off"], 1)

    def test_write(self):
        self.connect()
        fields = {"va": self.device.va + 5, "rkey": self.device.rkey, "dma_len": 4}
        self.send(UC + WRITE_ONLY, self.psn(0), b"evil", **{**fields, "rkey": 1})
        self.send(UC + WRITE_ONLY, self.psn(1), b"evil", **{**fields, "va": 0})
        self.post_recv(1)
        self.send(UC + WRITE_ONLY_IMM, self.psn(2), b"good", imm=6, **fields)
        self.assertEqual(self.device.poll(1)[0][:3], (1, SUCCESS, WC_RECV_WITH_IMM))
        self.assertEqual(self.memory(0, 10), bytes(5) + b"good" + bytes(1))
        self.expect_silence()
        self.assertEqual(self.device.counters()["rx_drop_access"], 2)

    def test_requests(self):
        """Complete as soon as they are sent."""
        self.connect()
        data = self.fill(2 * MTU + 1)
        self.device.post(WR_SEND, 1, 0, len(data))
        for n, opcode in enumerate([SEND_FIRST, SEND_MIDDLE, SEND_LAST]):
            parts = self.expect_request(n, UC + opcode, data[n * MTU:(n + 1) * MTU])
            self.assertEqual(parts[BTH].ackreq, 0)
        self.device.post(WR_WRITE, 2, 0, 4, va=1 << 60, rkey=9)
        reth = self.expect_request(3, UC + WRITE_ONLY, data[:4])[RETH]
        self.assertEqual((reth.va, reth.rkey, reth.dma_len), (1 << 60, 9, 4))
        self.assertEqual([wc[:3] for wc in self.device.poll(2)],
                         [(1, SUCCESS, WC_SEND), (2, SUCCESS, WC_WRITE)])


class Datagram(qp_peer.Peer):
    kind = "ud"

    def judge_grh(self, grh, payload_size):
        """scapy reads the header that stands in front of a datagram's data."""
        if self.version == 6:
            ip = IPv6(grh)
            size = ip.plen
        else:
            self.assertEqual(grh[:20], bytes(20))
            ip = IP(grh[20:])
            size = ip.len - 20
            checksum = ip.chksum
            del ip.chksum
            self.assertEqual(IP(bytes(ip)).chksum, checksum)
        self.assertEqual((ip.dst, ip.src), self.addr)
        self.assertEqual(size, 8 + 12 + 8 + payload_size + 4)

    def test_receive(self):
        self.connect()
        for wr_id, size in enumerate([4, 0, 1000]):
            payload = self.rng.randbytes(size)
            self.post_recv(wr_id)
            self.send(UD + SEND_ONLY, self.psn(wr_id), payload, qkey=QKEY, src_qpn=0xabcdef)
            self.assertEqual(self.device.poll(1), [
                (wr_id, SUCCESS, WC_RECV, GRH_SIZE + size, WITH_GRH, 0)])
            self.assertEqual(self.device.src_qp, [0xabcdef])
            got = self.memory(0, GRH_SIZE + size)
            self.judge_grh(got[:GRH_SIZE], size)
            self.assertEqual(got[GRH_SIZE:], payload)

    # Groups.

    def group(self):
        return "239.1.2.3" if self.version == 4 else "ff15::1:2:3"

    def group_gid(self):
        return ("::ffff:" if self.version == 4 else "") + self.group()

    def send_to_group(self, payload, dest_qpn=0xffffff):
        packet = roce.transport(UD + SEND_ONLY, {
            "psn": 0, "dest_qpn": dest_qpn, "pkey": 0xffff, "qkey": QKEY,
            "src_qpn": 0xabcdef}, payload)
        packet[BTH].icrc = 0
        self.port.transmit(roce.datagram(self.addr[1], self.group(), bytes(packet)[:-4]))

    def test_from_group(self):
        """Only while the queue pair is attached, and not to its own number."""
        self.connect()
        self.send_to_group(b"early")
        self.device.order(f"join {self.group_gid()}")
        self.post_recv(1)
        self.send_to_group(b"evil", dest_qpn=self.device.qpn)
        self.send_to_group(b"good")
        self.assertEqual(self.device.poll(1), [
            (1, SUCCESS, WC_RECV, GRH_SIZE + 4, WITH_GRH, 0)])
        got = self.memory(0, GRH_SIZE + 4)
        self.assertEqual(got[GRH_SIZE:], b"good")
        ip = IPv6(got) if self.version == 6 else IP(got[20:])
        self.assertEqual((ip.src, ip.dst), (self.addr[1], self.group()))
        self.assertEqual(self.device.counters()["rx_drop_no_qp"], 1)
        self.device.order(f"leave {self.group_gid()}")
        self.post_recv(2)
        self.send_to_group(b"late")
        self.send(UD + SEND_ONLY, 0, b"own", qkey=QKEY)
        self.assertEqual(self.device.poll(1)[0][3], GRH_SIZE + 3)

    def connect_to_group(self):
        self.device.order(f"connect {self.group_gid()} {0xffffff} 0 {self.device_first} "
                          "0 7 7")

    def expect_to_group(self, n, data):
        ip, raw = roce.receive(self.port)
        data_at = 28 if self.version == 4 else 48
        self.assertEqual(raw[-4:], roce.icrc(ip, raw[data_at:-4]), "ICRC")
        self.assertEqual((ip.src, ip.dst), (self.addr[0], self.group()))
        self.assertEqual(ip.ttl if self.version == 4 else ip.hlim, 1)
        parts, payload = roce.dissect(raw[data_at:-4])
        self.assertEqual((parts[BTH].dqpn, parts[BTH].psn), (0xffffff, self.device_psn(n)))
        self.assertEqual((parts[DETH].qkey, parts[DETH].src_qpn), (QKEY, self.device.qpn))
        self.assertEqual(payload, data)

    def test_to_group(self):
        self.connect_to_group()
        data = self.fill(100)
        self.device.post(WR_SEND, 1, 0, 100)
        self.expect_to_group(0, data)

    def test_own_group(self):
        """Who is a member gets what it sends itself, beside what the wire carries."""
        self.connect_to_group()
        self.device.order(f"join {self.group_gid()}")
        data = self.fill(500)
        for i in range(40):
            self.post_recv(100 + i, 8192 + i * 1024, 1024)
        for i in range(40):
            self.device.post(WR_SEND, i, 0, 500)
        done = self.device.poll(80)
        self.assertEqual([wc[0] for wc in done if wc[2] == WC_SEND], list(range(40)))
        self.assertEqual([wc for wc in done if wc[2] == WC_RECV], [
            (100 + i, SUCCESS, WC_RECV, GRH_SIZE + 500, WITH_GRH, 0) for i in range(40)])
        for i in range(40):
            self.assertEqual(self.memory(8192 + i * 1024 + GRH_SIZE, 500), data)
            self.expect_to_group(i, data)

    def test_no_group(self):
        """It is no address of a group, or of another IP version's."""
        for gid in "::ffff:10.0.0.1", "2001:db8::1", \
                "ff15::1" if self.version == 4 else "::ffff:239.1.2.3":
            self.assertEqual(self.device.ask(f"join {gid}"), "error 22")
        self.assertEqual(self.device.ask(f"leave {self.group_gid()}"), "error 22")

    def test_dropped(self):
        """Without a buffer; with another Q_Key; and what is not UD at all."""
        self.connect()
        self.send(UD + SEND_ONLY, 0, b"lost", qkey=QKEY)
        self.send(UD + SEND_ONLY, 0, b"lost", qkey=QKEY ^ 1)
        self.send(SEND_ONLY, 0, b"lost")
        self.send(UD + SEND_ONLY_IMM, 0, b"lost", qkey=QKEY, imm=1)
        while self.device.counters()["link_rx_packets"] < 4:
            time.sleep(0.001)
        self.post_recv(1)
        self.send(UD + SEND_ONLY_IMM, 99, b"good", qkey=QKEY, imm=8)
        self.assertEqual(self.device.poll(1), [
            (1, SUCCESS, WC_RECV, GRH_SIZE + 4, WITH_GRH | WITH_IMM, swap32(8))])
        counters = self.device.counters()
        for name, count in ("no_buffer", 2), ("qkey", 1), ("unsupported", 1):
            self.assertEqual(counters["rx_drop_" + name], count, name)

    def test_requests(self):
        self.connect()
        data = self.fill(MTU)
        self.device.post(WR_SEND, 1, 0, MTU)
        parts = self.expect_request(0, UD + SEND_ONLY, data)
        self.assertEqual((parts[DETH].qkey, parts[DETH].src_qpn), (QKEY, self.device.qpn))
        self.device.post(WR_SEND_IMM, 2, 0, 3, imm=0x01020304)
        parts = self.expect_request(1, UD + SEND_ONLY_IMM, data[:3])
        self.assertEqual(parts[roce.ImmDt].imm, 0x01020304)
        self.assertEqual([wc[:3] for wc in self.device.poll(2)],
                         [(1, SUCCESS, WC_SEND), (2, SUCCESS, WC_SEND)])


class ConnectedOverIPv4(Connected, unittest.TestCase):
    version = 4


class ConnectedOverIPv6(Connected, unittest.TestCase):
    version = 6


class DatagramOverIPv4(Datagram, unittest.TestCase):
    version = 4


class DatagramOverIPv6(Datagram, unittest.TestCase):
    version = 6


if __name__ == "__main__":
    qp_peer.main()
