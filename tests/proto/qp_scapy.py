#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A queue pair of the userspace device, with scapy as its peer on a real wire: SEND and
WRITE, and whatever else comes in.

Each test says which packets go to the device and which must come back, after the
specification (IBTA volume 1, 9.7).

Usage: qp_scapy.py QP_TOOL
"""

import struct
import time
import unittest
import zlib

import net
import qp_peer
import roce
from qp_peer import *  # pylint: disable=wildcard-import,unused-wildcard-import
from roce import AETH, BTH, RETH


class QueuePair(qp_peer.Peer):
    # The device as responder.

    def test_send_only(self):
        self.connect()
        for i, size in enumerate([0, 1, 2, 3, 4, 500, MTU]):
            payload = self.rng.randbytes(size)
            self.post_recv(i)
            self.send(SEND_ONLY, self.psn(i), payload, ack_req=1)
            self.expect_answer(i, i + 1)
            self.assertEqual(self.device.poll(1), [(i, SUCCESS, WC_RECV, size, 0, 0)])
            self.assertEqual(self.memory(0, size), payload)

    def test_send_of_several_packets(self):
        self.connect()
        payload = self.rng.randbytes(5 * MTU + 77)
        self.post_recv(1)
        self.assertEqual(self.send_message(0, payload), 6)
        self.expect_answer(5, 1)
        self.assertEqual(self.device.poll(1), [(1, SUCCESS, WC_RECV, len(payload), 0, 0)])
        self.assertEqual(self.memory(0, len(payload)), payload)

    def test_immediate(self):
        self.connect()
        self.post_recv(1)
        self.post_recv(2)
        self.send(SEND_ONLY_IMM, self.psn(0), b"abc", imm=0x01020304)
        self.send(SEND_FIRST, self.psn(1), bytes(MTU))
        self.send(SEND_LAST_IMM, self.psn(2), b"d", imm=0xfffefdfc, ack_req=1)
        self.assertEqual(self.device.poll(2), [
            (1, SUCCESS, WC_RECV, 3, WITH_IMM, swap32(0x01020304)),
            (2, SUCCESS, WC_RECV, MTU + 1, WITH_IMM, swap32(0xfffefdfc))])
        self.expect_answer(2, 2)

    def test_lost_packet(self):
        """One sequence NAK, whatever else comes, until the lost packet has come."""
        self.connect()
        payload = self.rng.randbytes(4 * MTU)
        self.post_recv(1)
        self.send(SEND_FIRST, self.psn(0), payload[:MTU])
        for _ in range(3):
            self.send(SEND_MIDDLE, self.psn(2), payload[2 * MTU:3 * MTU])
            self.send(SEND_LAST, self.psn(3), payload[3 * MTU:], ack_req=1)
        self.expect_answer(1, 0, PSN_ERROR)
        for i, opcode in enumerate([SEND_MIDDLE, SEND_MIDDLE, SEND_LAST], 1):
            self.send(opcode, self.psn(i), payload[i * MTU:(i + 1) * MTU], ack_req=i == 3)
        self.expect_answer(3, 1)
        self.assertEqual(self.device.poll(1), [(1, SUCCESS, WC_RECV, 4 * MTU, 0, 0)])
        self.assertEqual(self.memory(0, 4 * MTU), payload)

    def test_duplicate(self):
        """Acknowledged again, with the newest PSN, and not executed again."""
        self.connect()
        self.post_recv(1, 0)
        self.post_recv(2, 1000)
        self.send(SEND_ONLY, self.psn(0), b"one!", ack_req=1)
        self.expect_answer(0, 1)
        self.send(SEND_ONLY, self.psn(0), b"two!", ack_req=1)
        self.expect_answer(0, 1)
        self.send(SEND_ONLY, self.psn(1), b"next", ack_req=1)
        self.expect_answer(1, 2)
        self.send(SEND_ONLY, self.psn(0), b"two!", ack_req=1)
        self.expect_answer(1, 2)
        self.assertEqual([wc[0] for wc in self.device.poll(2)], [1, 2])
        self.assertEqual(self.memory(0, 4), b"one!")
        self.assertEqual(self.memory(1000, 4), b"next")

    def test_receiver_not_ready(self):
        self.connect()
        timer = 14  # qp_tool's min_rnr_timer
        self.send(SEND_ONLY, self.psn(0), b"wait", ack_req=1)
        self.expect_answer(0, 0, RNR | timer)
        # what follows it is dropped without a word
        self.send(SEND_ONLY, self.psn(1), b"more", ack_req=1)
        self.send(SEND_ONLY, self.psn(0), b"wait", ack_req=1)
        self.expect_answer(0, 0, RNR | timer)
        self.post_recv(1)
        self.send(SEND_ONLY, self.psn(0), b"wait", ack_req=1)
        self.expect_answer(0, 1)
        self.assertEqual(self.device.poll(1), [(1, SUCCESS, WC_RECV, 4, 0, 0)])

    def test_message_too_long(self):
        self.connect()
        self.post_recv(1, 0, 10)
        self.send(SEND_ONLY, self.psn(0), bytes(11), ack_req=1)
        self.expect_answer(0, 0, INVALID_REQUEST)
        self.assertEqual(self.device.poll(1)[0][:2], (1, LOC_LEN_ERR))
        self.expect_error_state()

    def test_write(self):
        self.connect()
        payload = self.rng.randbytes(2 * MTU + 5)
        va, rkey = self.device.va + 100, self.device.rkey
        self.send(WRITE_FIRST, self.psn(0), payload[:MTU], va=va, rkey=rkey,
                  dma_len=len(payload))
        self.send(WRITE_MIDDLE, self.psn(1), payload[MTU:2 * MTU])
        self.send(WRITE_LAST, self.psn(2), payload[2 * MTU:], ack_req=1)
        self.expect_answer(2, 1)
        self.assertEqual(self.memory(100, len(payload)), payload)
        self.assertEqual(self.memory(100 + len(payload), 4), bytes(4))
        # none of the bytes of its memory may be touched, so any key will do
        self.send(WRITE_ONLY, self.psn(3), b"", va=1, rkey=2, dma_len=0, ack_req=1)
        self.expect_answer(3, 2)
        self.post_recv(9)
        self.send(WRITE_ONLY_IMM, self.psn(4), b"now", va=va, rkey=rkey, dma_len=3,
                  imm=0xcafe, ack_req=1)
        self.expect_answer(4, 3)
        self.assertEqual(self.device.poll(1),
                         [(9, SUCCESS, WC_RECV_WITH_IMM, 3, WITH_IMM, swap32(0xcafe))])
        self.assertEqual(self.memory(100, 4), b"now" + payload[3:4])

    def refuse(self, syndrome, opcode, payload=b"", **fields):
        self.connect()
        self.post_recv(1)
        self.send(opcode, self.psn(0), payload, ack_req=1, **fields)
        self.expect_answer(0, 0, syndrome)
        self.assertEqual(self.device.poll(1)[0][:2], (1, FLUSHED))
        self.expect_error_state()

    def test_write_wrong_key(self):
        self.refuse(REMOTE_ACCESS, WRITE_ONLY, b"data", va=self.device.va,
                    rkey=self.device.rkey ^ 1, dma_len=4)

    def test_write_outside(self):
        self.refuse(REMOTE_ACCESS, WRITE_ONLY, b"data", va=self.device.va - 1,
                    rkey=self.device.rkey, dma_len=4)

    def test_write_wraps(self):
        self.refuse(REMOTE_ACCESS, WRITE_ONLY, b"data", va=(1 << 64) - 2,
                    rkey=self.device.rkey, dma_len=4)

    def test_write_more_than_said(self):
        self.refuse(INVALID_REQUEST, WRITE_ONLY, b"data", va=self.device.va,
                    rkey=self.device.rkey, dma_len=3)

    def test_write_less_than_said(self):
        self.refuse(INVALID_REQUEST, WRITE_ONLY, b"data", va=self.device.va,
                    rkey=self.device.rkey, dma_len=5)

    def test_middle_without_first(self):
        self.refuse(INVALID_REQUEST, SEND_MIDDLE, bytes(MTU))

    def test_last_without_first(self):
        self.refuse(INVALID_REQUEST, SEND_LAST, b"data")

    def test_first_too_short(self):
        self.refuse(INVALID_REQUEST, SEND_FIRST, bytes(MTU - 4))

    def test_longer_than_path_mtu(self):
        self.refuse(INVALID_REQUEST, SEND_ONLY, bytes(MTU + 4))

    def test_message_in_message(self):
        self.connect()
        self.post_recv(1)
        self.send(SEND_FIRST, self.psn(0), bytes(MTU))
        self.send(WRITE_ONLY, self.psn(1), b"data", va=self.device.va,
                  rkey=self.device.rkey, dma_len=4, ack_req=1)
        self.expect_answer(1, 0, INVALID_REQUEST)
        self.expect_error_state()

    def test_not_for_us(self):
        """Nothing that a stranger or a mistaken sender says has an effect or an answer."""
        self.connect()
        self.post_recv(1)
        good = {"payload": b"evil", "ack_req": 1}
        psn = self.psn(0)
        self.send(SEND_ONLY, psn, dest_qpn=self.device.qpn ^ 1, **good)
        self.send(SEND_ONLY, psn, dest_qpn=1, **good)
        self.send(SEND_ONLY, psn, dest_qpn=MASK, **good)
        self.send(SEND_ONLY, psn, pkey=0x1234, **good)
        self.send(SEND_ONLY + 0x20, psn, **good)  # UC
        self.send(SEND_ONLY + 0x60, psn, **good)  # UD
        if self.version == 6:
            self.send(SEND_ONLY, psn, how={"crc": b"oops"}, **good)
        net.run("ip", "-n", net.PEER, "addr", "add", "10.9.0.3/24", "dev", "v1")
        stranger = "10.9.0.3" if self.version == 4 else "fd09::3"
        packet = roce.transport(SEND_ONLY, {"psn": psn, "dest_qpn": self.device.qpn,
                                            "pkey": 0xffff, "ack_req": 1}, b"evil")
        packet[BTH].icrc = 0
        self.port.transmit(roce.datagram(stranger, self.addr[0], bytes(packet)[:-4]))

        self.send(SEND_ONLY, psn, b"good", ack_req=1)
        self.expect_answer(0, 1)
        self.assertEqual(self.memory(0, 4), b"good")
        net.run("ip", "-n", net.PEER, "addr", "del", "10.9.0.3/24", "dev", "v1")
        counters = self.device.counters()
        self.assertEqual(counters["link_rx_bad_icrc"], 1 if self.version == 6 else 0)
        for name, count in ("no_qp", 3), ("pkey", 1), ("source", 1), ("unsupported", 2):
            self.assertEqual(counters["rx_drop_" + name], count, name)

    def datagrams_of_every_kind(self):
        """Every opcode at every length from 0 to 200, quickly: scapy is asked for one
        packet of each length, and the bytes are put in here."""
        for size in range(201):
            if size < 12:  # no BTH, so no ICRC that could be right
                whole = roce.datagram(self.addr[1], self.addr[0], bytes(size),
                                      crc=b"runt", chksum=0)
            else:
                whole = roce.datagram(self.addr[1], self.addr[0], bytes(size), chksum=0)
            head = whole[:-4 - size]
            masked = self.masked(head)
            for opcode in range(256):
                far = self.rng.choice([1 << 22, -(1 << 22), 5, 1000])
                qpn = self.rng.choice([self.device.qpn, self.device.qpn ^ 0x10])
                bth = struct.pack(">BBHIBBH", opcode, self.rng.choice([0, 0, 0x40, 0x30]),
                                  0xffff, qpn, 0, 0, 0)[:8]
                bth += (self.rng.choice([0, 0x80]) << 24 | self.psn(far)).to_bytes(4, "big")
                data = (bth + self.rng.randbytes(max(0, size - 12)))[:size]
                if self.rng.random() < 0.05 or size < 12:
                    crc = b"oops"
                else:
                    crc = zlib.crc32(masked + data[:4] + b"\xff" + data[5:])
                    crc = crc.to_bytes(4, "little")
                yield head + data + crc

    def masked(self, head):
        """The ICRC's view of IP and UDP headers."""
        head = bytearray(head)
        if self.version == 4:
            head[1] = head[8] = 0xff
            head[10:12] = b"\xff\xff"
        else:
            head[0:4] = b"\x6f\xff\xff\xff"
            head[7] = 0xff
        head[-2:] = b"\xff\xff"
        return b"\xff" * 8 + bytes(head)

    def catch_up(self, n):
        """A request that the device answers: by then it has taken in all before it."""
        self.send(WRITE_ONLY, self.psn(n), va=0, rkey=0, dma_len=0, ack_req=1)
        while True:
            parts, _ = self.receive()
            bth, aeth = parts[BTH], parts[AETH]
            if bth.psn == self.psn(n) and aeth.syndrome == NO_CREDIT_LIMIT:
                self.assertEqual(aeth.msn, n + 1)
                return

    def test_every_opcode_every_length(self):
        """Far off in PSN, wrong in QPN or not, ICRC right or wrong: the queue pair goes on
        as if nothing had happened, and every packet is in exactly one counter."""
        self.connect()
        sent, n = 0, 0
        for whole in self.datagrams_of_every_kind():
            self.port.transmit(whole)
            sent += 1
            if sent % 256 == 0:
                self.catch_up(n)
                n += 1
        self.assertEqual(sent, 201 * 256)
        c = self.device.counters()
        self.assertEqual(c["link_rx_overflow"], 0)
        self.assertEqual(c["link_rx_packets"], sent + n)
        self.assertEqual(c["link_rx_runt"], 12 * 256)
        if self.version == 6:
            self.assertGreater(c["link_rx_bad_icrc"], 0)
        dropped = sum(count for name, count in c.items() if name.startswith("rx_drop_"))
        taken = sum(c[name] for name in (
            "rx_request_packets", "rx_acks", "rx_naks_sequence", "rx_naks_rnr",
            "rx_naks_fatal"))
        self.assertEqual(c["link_rx_runt"] + c["link_rx_bad_icrc"] + dropped + taken,
                         sent + n)
        self.assertEqual(c["qp_errors"], 0)
        self.assertEqual(c["rx_write_messages"], n)
        self.assertEqual(int(self.device.ask("state")), RTS)

    # The device as requester.

    def test_request_packets(self):
        self.connect()
        data = self.fill(3 * MTU + 2)
        self.device.post(WR_SEND, 1, 0, len(data), SIGNALED | SOLICITED)
        for i, opcode in enumerate([SEND_FIRST, SEND_MIDDLE, SEND_MIDDLE]):
            parts = self.expect_request(i, opcode, data[i * MTU:(i + 1) * MTU])
            self.assertEqual(parts[BTH].solicited, 0)
        parts = self.expect_request(3, SEND_LAST, data[3 * MTU:], ack_req=1)
        self.assertEqual(parts[BTH].solicited, 1)
        self.acknowledge(3, msn=1)
        self.assertEqual(self.device.poll(1)[0][:3], (1, SUCCESS, WC_SEND))

        self.device.post(WR_SEND_IMM, 2, 0, 0, imm=0x0a0b0c0d)
        parts = self.expect_request(4, SEND_ONLY_IMM, b"", ack_req=1)
        self.assertEqual(parts[roce.ImmDt].imm, 0x0a0b0c0d)
        self.acknowledge(4, msn=2)
        self.assertEqual(self.device.poll(1)[0][:3], (2, SUCCESS, WC_SEND))

    def test_write_packets(self):
        self.connect()
        data = self.fill(2 * MTU)
        va, rkey = 0xfedcba9876543210, 0x89abcdef
        self.device.post(WR_WRITE, 1, 0, len(data), va=va, rkey=rkey)
        reth = self.expect_request(0, WRITE_FIRST, data[:MTU])[RETH]
        self.assertEqual((reth.va, reth.rkey, reth.dma_len), (va, rkey, len(data)))
        self.expect_request(1, WRITE_LAST, data[MTU:], ack_req=1)
        self.device.post(WR_WRITE_IMM, 2, 1, 3, va=va, rkey=rkey, imm=7)
        parts = self.expect_request(2, WRITE_ONLY_IMM, data[1:4], ack_req=1)
        self.assertEqual((parts[RETH].dma_len, parts[roce.ImmDt].imm), (3, 7))
        # one answer for both
        self.acknowledge(2, msn=2)
        self.assertEqual([wc[:3] for wc in self.device.poll(2)],
                         [(1, SUCCESS, WC_WRITE), (2, SUCCESS, WC_WRITE)])

    def test_sequence_nak(self):
        """It acknowledges what is before it; from it on all is sent again."""
        self.connect()
        data = self.fill(3 * MTU)
        self.device.post(WR_SEND, 1, 0, 10)
        self.device.post(WR_SEND, 2, 0, len(data))
        self.expect_request(0, SEND_ONLY, data[:10])
        parts = [(1, SEND_FIRST), (2, SEND_MIDDLE), (3, SEND_LAST)]
        for n, opcode in parts:
            self.expect_request(n, opcode, data[(n - 1) * MTU:n * MTU])
        self.acknowledge(2, PSN_ERROR, 1)
        for n, opcode in parts[1:]:
            self.expect_request(n, opcode, data[(n - 1) * MTU:n * MTU])
        self.assertEqual(self.device.poll(1)[0][:2], (1, SUCCESS))
        self.acknowledge(3, msn=2)
        self.assertEqual(self.device.poll(1)[0][:2], (2, SUCCESS))
        self.assertEqual(self.device.counters()["tx_retransmitted"], 2)

    def test_no_answer(self):
        """Sent again retry_cnt times, then given up."""
        self.connect(timeout=8, retry=3)  # 1 ms
        data = self.fill(10)
        self.device.post(WR_SEND, 1, 0, 10)
        self.device.post(WR_SEND, 2, 0, 10)
        for _ in range(4):
            self.expect_request(0, SEND_ONLY, data)
            self.expect_request(1, SEND_ONLY, data)
        self.assertEqual([wc[:2] for wc in self.device.poll(2)],
                         [(1, RETRY_EXC), (2, FLUSHED)])
        self.expect_error_state()
        self.assertEqual(self.device.counters()["tx_retransmitted"], 6)

    def test_late_answer(self):
        """To a request that was sent again already."""
        self.connect(timeout=17, retry=7)  # 0.5 s
        data = self.fill(4)
        self.device.post(WR_SEND, 1, 0, 4)
        self.expect_request(0, SEND_ONLY, data)
        self.expect_request(0, SEND_ONLY, data)
        self.acknowledge(0, msn=1)
        self.acknowledge(0, msn=1)
        self.assertEqual(self.device.poll(1)[0][:2], (1, SUCCESS))
        self.device.post(WR_SEND, 2, 0, 4)
        self.expect_request(1, SEND_ONLY, data)
        self.acknowledge(1, msn=2)
        self.assertEqual(self.device.poll(1)[0][:2], (2, SUCCESS))

    def test_peer_not_ready(self):
        """Tried again rnr_retry times, each time as late as the peer said."""
        self.connect(rnr_retry=2)
        data = self.fill(4)
        self.device.post(WR_SEND, 1, 0, 4)
        self.expect_request(0, SEND_ONLY, data)
        for _ in range(2):
            begin = time.monotonic()
            self.acknowledge(0, RNR | 20)  # 10.24 ms; table 46
            self.expect_request(0, SEND_ONLY, data)
            self.assertGreaterEqual(time.monotonic() - begin, 0.01024)
        self.acknowledge(0, RNR | 20)
        self.assertEqual(self.device.poll(1)[0][:2], (1, RNR_RETRY_EXC))
        self.expect_error_state()

    def fatal(self, syndrome, status):
        self.connect()
        data = self.fill(4)
        for i in range(3):
            self.device.post(WR_SEND, i, 0, 4)
            self.expect_request(i, SEND_ONLY, data)
        self.acknowledge(1, syndrome, 1)
        self.assertEqual([wc[:2] for wc in self.device.poll(3)],
                         [(0, SUCCESS), (1, status), (2, FLUSHED)])
        self.expect_error_state()

    def test_nak_invalid_request(self):
        self.fatal(INVALID_REQUEST, REM_INV_REQ)

    def test_nak_remote_access(self):
        self.fatal(REMOTE_ACCESS, REM_ACCESS)

    def test_nak_remote_operation(self):
        self.fatal(REMOTE_OPERATION, REM_OP)

    def test_foolish_answers(self):
        """For PSNs that were never sent, or long ago; for reads that nobody asked for."""
        self.connect()
        data = self.fill(4)
        self.device.post(WR_SEND, 1, 0, 4)
        self.expect_request(0, SEND_ONLY, data)
        for n in 1, 2, 1000, 1 << 22, -1, -1000, -(1 << 22):
            self.acknowledge(n)
            for syndrome in PSN_ERROR, INVALID_REQUEST, RNR | 1:
                if n != 1 or syndrome != PSN_ERROR:
                    self.acknowledge(n, syndrome)
        self.send(0x0e, self.device_psn(0), bytes(MTU))
        self.send(0x12, self.device_psn(1), syndrome=0, msn=0, orig_data=0)
        self.device.post(WR_SEND, 2, 0, 4)
        self.expect_request(1, SEND_ONLY, data)
        self.acknowledge(1, msn=2)
        self.assertEqual([wc[:2] for wc in self.device.poll(2)],
                         [(1, SUCCESS), (2, SUCCESS)])


class OverIPv4(QueuePair, unittest.TestCase):
    version = 4


class OverIPv6(QueuePair, unittest.TestCase):
    version = 6


if __name__ == "__main__":
    qp_peer.main()
