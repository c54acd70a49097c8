#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A queue pair of the userspace device, with scapy as its peer on a real wire: READ and
atomics, from both sides (IBTA volume 1, 9.4.4, 9.4.5, 9.7.5.1).

Usage: qp_fetch_scapy.py QP_TOOL
"""

import sys
import unittest

import qp_peer
from qp_peer import *  # pylint: disable=wildcard-import,unused-wildcard-import
from roce import AETH, BTH, RETH, AtomicAckETH, AtomicETH

REMOTE_VA, REMOTE_RKEY = 0x1234567800000000, 0x89abcdef


def cut(data):
    """The packets of a READ's answer: [(opcode, payload)]"""
    parts = [data[i:i + MTU] for i in range(0, len(data), MTU)] or [b""]
    if len(parts) == 1:
        return [(RESP_ONLY, parts[0])]
    opcodes = [RESP_FIRST] + [RESP_MIDDLE] * (len(parts) - 2) + [RESP_LAST]
    return list(zip(opcodes, parts))


class Fetch(qp_peer.Peer):
    # The device as responder.

    def read(self, n, offset, size, **fields):
        self.send(READ_REQUEST, self.psn(n), ack_req=1, **{
            "va": self.device.va + offset, "rkey": self.device.rkey, "dma_len": size,
            **fields})

    def expect_read(self, n, data, msn):
        """The answer to a READ that begins at PSN n; returns its number of packets."""
        for i, (opcode, payload) in enumerate(cut(data)):
            parts, got = self.receive()
            self.assertEqual((parts[BTH].opcode, parts[BTH].psn), (opcode, self.psn(n + i)))
            self.assertEqual(got, payload)
            if opcode != RESP_MIDDLE:
                self.assertEqual(parts[AETH].syndrome, NO_CREDIT_LIMIT)
                self.assertEqual(parts[AETH].msn, msn)
        return len(cut(data))

    def test_read(self):
        self.connect()
        data = self.fill(6 * MTU)
        n = 0
        for msn, size in enumerate([0, 1, 4, MTU, MTU + 1, 2 * MTU, 5 * MTU + 3], 1):
            self.read(n, 7, size)
            n += self.expect_read(n, data[7:7 + size], msn)
        # the next request has the PSN behind the last answer
        self.post_recv(1, 65536)
        self.send(SEND_ONLY, self.psn(n), b"next", ack_req=1)
        self.expect_answer(n, 8)

    def test_read_again(self):
        """As a whole, or from where the answer was lost; and a few at a time."""
        self.connect()
        data = self.fill(3 * MTU)
        for n in 0, 3:
            self.read(n, 0, 3 * MTU)
            self.expect_read(n, data, n // 3 + 1)
        self.read(0, 0, 3 * MTU)
        self.expect_read(0, data, 2)
        self.read(4, MTU, 2 * MTU)
        self.expect_read(4, data[MTU:], 2)
        for n in 6, 7, 8, 9:
            self.read(n, n, 4)
        for n in 6, 7, 8, 9:
            parts, got = self.receive()
            self.assertEqual((parts[BTH].opcode, parts[BTH].psn), (RESP_ONLY, self.psn(n)))
            self.assertEqual(got, data[n:n + 4])

    def refuse_fetch(self, syndrome, send):
        self.connect()
        send()
        self.expect_answer(0, 0, syndrome)
        self.expect_error_state()

    def test_read_wrong_key(self):
        self.refuse_fetch(REMOTE_ACCESS,
                          lambda: self.read(0, 0, 8, rkey=self.device.rkey ^ 1))

    def test_read_outside(self):
        self.refuse_fetch(REMOTE_ACCESS, lambda: self.read(0, -1, 8))

    def test_read_too_long(self):
        self.refuse_fetch(REMOTE_ACCESS, lambda: self.read(0, 0, 1 << 30))

    def atomic(self, opcode, n, offset, swap_add, compare=0, **fields):
        self.send(opcode, self.psn(n), **{
            "va": self.device.va + offset, "rkey": self.device.rkey, "swap_add": swap_add,
            "compare": compare, "ack_req": 1, **fields})

    def expect_atomic(self, n, value, msn):
        parts, payload = self.receive()
        self.assertEqual((parts[BTH].opcode, parts[BTH].psn, payload),
                         (ATOMIC_ACK, self.psn(n), b""))
        self.assertEqual((parts[AETH].syndrome, parts[AETH].msn), (NO_CREDIT_LIMIT, msn))
        self.assertEqual(parts[AtomicAckETH].orig_data, value)

    def number(self, offset):
        return int.from_bytes(self.memory(offset, 8), sys.byteorder)

    def test_atomics(self):
        """Done once, however often they come; the result is the same each time."""
        self.connect()
        value = int.from_bytes(self.fill(16)[8:], sys.byteorder)
        top = 1 << 64
        self.atomic(FETCH_ADD, 0, 8, top - 3)
        self.expect_atomic(0, value, 1)
        self.atomic(FETCH_ADD, 0, 8, top - 3)
        self.expect_atomic(0, value, 1)
        self.assertEqual(self.number(8), (value - 3) % top)
        self.atomic(COMPARE_SWAP, 1, 8, 77, (value - 3) % top)
        self.expect_atomic(1, (value - 3) % top, 2)
        self.atomic(COMPARE_SWAP, 2, 8, 99, 76)
        self.expect_atomic(2, 77, 3)
        self.assertEqual(self.number(8), 77)
        self.atomic(COMPARE_SWAP, 1, 8, 77, (value - 3) % top)
        self.expect_atomic(1, (value - 3) % top, 3)

    def test_atomic_unaligned(self):
        self.refuse_fetch(INVALID_REQUEST, lambda: self.atomic(FETCH_ADD, 0, 4, 1))

    def test_atomic_wrong_key(self):
        self.refuse_fetch(REMOTE_ACCESS, lambda: self.atomic(FETCH_ADD, 0, 8, 1, rkey=1))

    # The device as requester.

    def expect_read_request(self, n, offset, size):
        reth = self.expect_request(n, READ_REQUEST, b"")[RETH]
        self.assertEqual((reth.va, reth.rkey, reth.dma_len),
                         (REMOTE_VA + offset, REMOTE_RKEY, size))

    def respond(self, n, data, lose=()):
        """Answer a READ that began at PSN n, but for some of the packets."""
        for i, (opcode, payload) in enumerate(cut(data)):
            if i in lose:
                continue
            fields = {} if opcode == RESP_MIDDLE else {"syndrome": NO_CREDIT_LIMIT}
            self.send(opcode, self.device_psn(n + i), payload, **fields)

    def post_read(self, wr_id, size):
        self.device.post(WR_READ, wr_id, 0, size, va=REMOTE_VA, rkey=REMOTE_RKEY)

    def test_read_request(self):
        self.connect()
        n = 0
        for size in 0, 1, MTU, 2 * MTU + 10:
            data = self.rng.randbytes(size)
            self.post_read(size, size)
            self.expect_read_request(n, 0, size)
            self.respond(n, data)
            self.assertEqual(self.device.poll(1)[0][:4], (size, SUCCESS, WC_READ, size))
            self.assertEqual(self.memory(0, size), data)
            n += len(cut(data))
        self.device.post(WR_SEND, 9, 0, 0)
        self.expect_request(n, SEND_ONLY, b"")

    def test_answer_lost(self):
        """What is missing is asked for again, from where it is missing."""
        self.connect()
        data = self.rng.randbytes(4 * MTU)
        self.post_read(1, len(data))
        self.expect_read_request(0, 0, 4 * MTU)
        self.respond(0, data, lose=[1])
        self.expect_read_request(1, MTU, 3 * MTU)
        self.respond(1, data[MTU:])
        self.assertEqual(self.device.poll(1)[0][:3], (1, SUCCESS, WC_READ))
        self.assertEqual(self.memory(0, len(data)), data)

    def test_passed_over(self):
        """An ACK of a later request does not make up for a READ's answer."""
        self.connect()
        data = self.rng.randbytes(8)
        self.post_read(1, 8)
        self.device.post(WR_SEND, 2, 0, 0)
        self.expect_read_request(0, 0, 8)
        self.expect_request(1, SEND_ONLY, b"")
        self.acknowledge(1, msn=2)
        self.expect_read_request(0, 0, 8)
        self.expect_request(1, SEND_ONLY, b"")
        self.respond(0, data)
        self.acknowledge(1, msn=2)
        self.assertEqual([wc[:3] for wc in self.device.poll(2)],
                         [(1, SUCCESS, WC_READ), (2, SUCCESS, WC_SEND)])
        self.assertEqual(self.memory(0, 8), data)

    def test_bad_length(self):
        self.connect()
        self.post_read(1, 8)
        self.expect_read_request(0, 0, 8)
        self.respond(0, bytes(12))
        self.assertEqual(self.device.poll(1)[0][:2], (1, BAD_RESP))
        self.expect_error_state()

    def test_refused(self):
        self.connect()
        self.post_read(1, 8)
        self.expect_read_request(0, 0, 8)
        self.acknowledge(0, REMOTE_ACCESS)
        self.assertEqual(self.device.poll(1)[0][:2], (1, REM_ACCESS))

    def test_atomic_requests(self):
        self.connect()
        for n, opcode, wr, wc, want in (
                (0, FETCH_ADD, WR_FETCH_ADD, WC_FETCH_ADD, (5 << 60, None)),
                (1, COMPARE_SWAP, WR_COMPARE_SWAP, WC_COMPARE_SWAP, (7 << 60, 5 << 60))):
            self.device.post(wr, n, 8, 8, va=REMOTE_VA, rkey=REMOTE_RKEY, add=5 << 60,
                             swap=7 << 60)
            eth = self.expect_request(n, opcode, b"")[AtomicETH]
            self.assertEqual((eth.va, eth.rkey, eth.swap_add),
                             (REMOTE_VA, REMOTE_RKEY, want[0]))
            if want[1] is not None:
                self.assertEqual(eth.compare, want[1])
            old = self.rng.getrandbits(64)
            self.send(ATOMIC_ACK, self.device_psn(n), syndrome=NO_CREDIT_LIMIT,
                      orig_data=old)
            self.assertEqual(self.device.poll(1)[0][:4], (n, SUCCESS, wc, 8))
            self.assertEqual(self.number(8), old)


class OverIPv4(Fetch, unittest.TestCase):
    version = 4


class OverIPv6(Fetch, unittest.TestCase):
    version = 6


if __name__ == "__main__":
    qp_peer.main()
