#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A queue pair of the userspace device, with scapy as its peer on a real wire: memory
windows and SEND with invalidate (IBTA volume 1, 9.4.1.1, 10.6.7).

Usage: qp_window_scapy.py QP_TOOL
"""

import unittest

import qp_peer
from qp_peer import *  # pylint: disable=wildcard-import,unused-wildcard-import
from roce import BTH, IETH

ALL = REMOTE_WRITE | REMOTE_READ | REMOTE_ATOMIC
OFFSET, LENGTH = 4096, 3000


class Window(qp_peer.Peer):
    def window(self, kind=2, access=ALL):
        """Returns its key."""
        answer = self.device.ask(f"window {kind} {OFFSET} {LENGTH} {access}").split()
        self.assertEqual(answer[0], "window")
        return int(answer[1])

    def write(self, n, key, offset, payload):
        self.send(WRITE_ONLY, self.psn(n), payload, ack_req=1, va=self.device.va + offset,
                  rkey=key, dma_len=len(payload))

    # The device as responder.

    def test_write_and_read(self):
        self.connect()
        for kind in 1, 2:
            key = self.window(kind)
            payload = self.rng.randbytes(500)
            offset = OFFSET + LENGTH - 500
            n = 2 * (kind - 1)
            self.write(n, key, offset, payload)
            self.expect_answer(n, n + 1)
            self.assertEqual(self.memory(offset, 500), payload)
            self.send(READ_REQUEST, self.psn(n + 1), ack_req=1, rkey=key, dma_len=100,
                      va=self.device.va + offset)
            parts, got = self.receive()
            self.assertEqual((parts[BTH].opcode, got), (RESP_ONLY, payload[:100]))

    def test_zero_based(self):
        self.connect()
        key = self.window(access=ALL | ZERO_BASED)
        self.write(0, key, 10 - self.device.va, b"here")
        self.expect_answer(0, 1)
        self.assertEqual(self.memory(OFFSET + 10, 4), b"here")

    def refuse_write(self, offset, key, payload=b"evil"):
        self.write(0, key, offset, payload)
        self.expect_answer(0, 0, REMOTE_ACCESS)
        self.expect_error_state()

    def test_outside(self):
        self.connect()
        self.refuse_write(OFFSET + LENGTH - 3, self.window())

    def test_read_only(self):
        self.connect()
        self.refuse_write(OFFSET, self.window(access=REMOTE_READ))

    def test_old_key(self):
        self.connect()
        self.refuse_write(OFFSET, self.window() - 1)

    def test_invalidated_here(self):
        self.connect()
        key = self.window()
        self.device.post(WR_LOCAL_INV, 5, 0, 0, rkey=key)
        self.assertEqual(self.device.poll(1)[0][:3], (5, SUCCESS, WC_LOCAL_INV))
        self.refuse_write(OFFSET, key)

    def test_invalidate(self):
        """With a message of one packet and of three; once each, also when it comes
        again."""
        self.connect()
        n = 0
        for msn, size in enumerate([4, 2 * MTU + 100], 1):
            key = self.window()
            payload = self.rng.randbytes(size)
            self.post_recv(msn)
            if size < MTU:
                self.send(SEND_ONLY_INV, self.psn(n), payload, ack_req=1, rkey=key)
            else:
                self.send(SEND_FIRST, self.psn(n), payload[:MTU])
                self.send(SEND_MIDDLE, self.psn(n + 1), payload[MTU:2 * MTU])
                n += 2
                self.send(SEND_LAST_INV, self.psn(n), payload[2 * MTU:], ack_req=1, rkey=key)
            self.expect_answer(n, msn)
            self.assertEqual(self.device.poll(1), [
                (msn, SUCCESS, WC_RECV, size, WITH_INV, key)])
            self.assertEqual(self.memory(0, size), payload)
            self.send(SEND_LAST_INV if n else SEND_ONLY_INV, self.psn(n),
                      payload[2 * MTU:] or payload, ack_req=1, rkey=key)
            self.expect_answer(n, msn)
            n += 1
        self.assertEqual(self.device.counters()["rx_invalidates"], 2)
        self.write(n, key, OFFSET, b"evil")
        self.expect_answer(n, 2, REMOTE_ACCESS)

    def refuse_invalidate(self, key):
        self.post_recv(1)
        self.post_recv(2)
        self.send(SEND_ONLY_INV, self.psn(0), b"evil", ack_req=1, rkey=key)
        self.expect_answer(0, 0, REMOTE_ACCESS)
        self.assertEqual([wc[:2] for wc in self.device.poll(2)],
                         [(1, REM_INV_REQ), (2, FLUSHED)])
        self.expect_error_state()

    def test_invalidate_region(self):
        self.connect()
        self.refuse_invalidate(self.device.rkey)

    def test_invalidate_type_1(self):
        self.connect()
        self.refuse_invalidate(self.window(1))

    def test_invalidate_nothing(self):
        self.connect()
        self.refuse_invalidate(self.window() ^ 0x100)

    # The device as requester.

    def test_request(self):
        self.connect()
        data = self.fill(MTU + 5)
        self.device.post(WR_SEND_INV, 1, 0, 3, rkey=0x89abcdef)
        parts = self.expect_request(0, SEND_ONLY_INV, data[:3], ack_req=1)
        self.assertEqual(parts[IETH].rkey, 0x89abcdef)
        self.device.post(WR_SEND_INV, 2, 0, MTU + 5, rkey=1)
        self.expect_request(1, SEND_FIRST, data[:MTU])
        parts = self.expect_request(2, SEND_LAST_INV, data[MTU:], ack_req=1)
        self.assertEqual(parts[IETH].rkey, 1)
        self.acknowledge(2, msn=2)
        self.assertEqual([wc[:3] for wc in self.device.poll(2)],
                         [(1, SUCCESS, WC_SEND), (2, SUCCESS, WC_SEND)])

    def test_request_refused(self):
        self.connect()
        self.device.post(WR_SEND_INV, 1, 0, 0, rkey=9)
        self.expect_request(0, SEND_ONLY_INV, b"")
        self.acknowledge(0, REMOTE_ACCESS)
        self.assertEqual(self.device.poll(1)[0][:2], (1, REM_ACCESS))
        self.expect_error_state()


class OverIPv4(Window, unittest.TestCase):
    version = 4


class OverIPv6(Window, unittest.TestCase):
    version = 6


if __name__ == "__main__":
    qp_peer.main()
