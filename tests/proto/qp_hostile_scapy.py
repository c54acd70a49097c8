#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A live queue pair of the userspace device, and somebody on the wire who means harm: who
replays what was captured, floods, or speaks in the peer's name from another address. The
queue pair goes on, and each packet is in the counter that says why it was of no use.

Usage: qp_hostile_scapy.py QP_TOOL
"""

import time
import unittest

import net
import qp_peer
import roce
from qp_peer import *  # pylint: disable=wildcard-import,unused-wildcard-import
from roce import BTH

STRANGERS = {4: "10.9.0.3", 6: "fd09::3"}
CNP = 0x81
FLOOD = 20000


class Hostile(qp_peer.Peer):
    def counters_after(self, n_packets):
        """The counters when the device has taken in so many packets."""
        deadline = time.monotonic() + net.WAIT_S
        while True:
            counters = self.device.counters()
            seen = counters["link_rx_packets"] + counters["link_rx_overflow"]
            if seen >= n_packets:
                return counters
            self.assertLess(time.monotonic(), deadline, counters)
            time.sleep(0.001)

    def wiretap(self):
        """All that is transmitted from now on, as it is on the wire."""
        captured = []
        transmit = self.port.transmit

        def tapped(packet):
            captured.append(packet)
            transmit(packet)

        self.port.transmit = tapped
        return captured

    def test_replay(self):
        """Requests and answers of an hour ago: nothing is done twice."""
        captured = self.wiretap()
        self.connect()
        data = self.fill(4 * MTU)
        va, rkey = self.device.va, self.device.rkey
        self.post_recv(1, 2 * MTU, MTU)
        self.send(SEND_ONLY, self.psn(0), b"once", ack_req=1)
        self.expect_answer(0, 1)
        self.send(WRITE_ONLY, self.psn(1), b"twice", va=va + 3 * MTU, rkey=rkey, dma_len=5,
                  ack_req=1)
        self.expect_answer(1, 2)
        self.send(FETCH_ADD, self.psn(2), va=va, rkey=rkey, swap_add=7, ack_req=1)
        self.receive()
        self.send(READ_REQUEST, self.psn(3), va=va, rkey=rkey, dma_len=8, ack_req=1)
        self.receive()
        self.device.post(WR_SEND, 2, 100, 4)
        self.expect_request(0, SEND_ONLY, data[100:104])
        self.acknowledge(0, msn=1)
        self.assertEqual([wc[0] for wc in self.device.poll(2)], [1, 2])

        self.post_recv(3, 2 * MTU, MTU)
        after = b"\xaa" * (4 * MTU)
        self.device.order(f"set 0 {after.hex()}")
        before = self.device.counters()
        replayed = list(captured)
        for _ in range(3):
            for packet in replayed:
                self.port.transmit(packet)
        now = self.counters_after(before["link_rx_packets"] + 3 * len(replayed))
        self.assertEqual(now["rx_duplicate"] - before["rx_duplicate"], 3 * 4)
        self.assertEqual(now["rx_drop_stale_ack"] - before["rx_drop_stale_ack"], 3)
        self.assertEqual(self.memory(0, 4 * MTU), after)
        self.assertEqual(self.device.poll(0), [])
        for name in "rx_send_messages", "rx_write_messages", "rx_atomic_requests":
            self.assertEqual(now[name], before[name], name)
        # the buffer is still there, for what is new
        self.send(SEND_ONLY, self.psn(4), b"new!", ack_req=1)
        self.assertEqual([wc[:2] for wc in self.device.poll(1)], [(3, SUCCESS)])
        self.assertEqual(int(self.device.ask("state")), RTS)

    def test_other_address(self):
        """Whatever comes in the peer's name from elsewhere, with the very next PSNs."""
        stranger = STRANGERS[self.version]
        self.connect()
        data = self.fill(4)
        self.post_recv(1)
        self.device.post(WR_SEND, 2, 0, 4)
        self.expect_request(0, SEND_ONLY, data)
        forged = [(SEND_ONLY, self.psn(0), {}), (READ_REQUEST, self.psn(0), {}), (CNP, 0, {})]
        forged += [(ACK, self.device_psn(0), {"syndrome": syndrome})
                   for syndrome in (NO_CREDIT_LIMIT, RNR, PSN_ERROR, INVALID_REQUEST)]
        for opcode, psn, fields in forged:
            packet = roce.transport(opcode, {
                "psn": psn, "dest_qpn": self.device.qpn, "pkey": 0xffff, **fields}, b"")
            packet[BTH].icrc = 0
            self.port.transmit(
                roce.datagram(stranger, self.addr[0], bytes(packet)[:-4]))
        counters = self.counters_after(len(forged))
        self.assertEqual(counters["rx_drop_source"], len(forged))
        self.assertEqual(self.device.poll(0), [])
        self.acknowledge(0, msn=1)
        self.send(SEND_ONLY, self.psn(0), b"good", ack_req=1)
        self.assertEqual(sorted(wc[:2] for wc in self.device.poll(2)),
                         [(1, SUCCESS), (2, SUCCESS)])

    def flood_packets(self):
        """Good packets but for their PSNs, which are ahead, and behind."""
        for i in range(64):
            psn = self.psn(1 + i if i % 2 else -2 - i)
            opcode = (SEND_ONLY, WRITE_ONLY, READ_REQUEST, FETCH_ADD)[i // 2 % 4]
            packet = roce.transport(opcode, {
                "psn": psn, "dest_qpn": self.device.qpn, "pkey": 0xffff, "va": self.device.va,
                "rkey": self.device.rkey ^ 1, "dma_len": 0, "ack_req": i % 2}, b"")
            packet[BTH].icrc = 0
            yield roce.datagram(self.addr[1], self.addr[0], bytes(packet)[:-4])

    def test_flood(self):
        """The queue pair does its work in the midst of it, as if there were none."""
        self.connect(timeout=18)  # 1 s: scapy is slow
        data = self.fill(4)
        packets = list(self.flood_packets())
        done = 0
        for i in range(FLOOD):
            self.port.transmit(packets[i % len(packets)])
            if i % 2000 == 0:
                self.post_recv(i)
                self.device.post(WR_SEND, i + 1, 0, 4)
                while True:  # among answers to the flood
                    parts, payload = self.receive()
                    bth = parts[BTH]
                    if (bth.opcode, bth.psn) == (SEND_ONLY, self.device_psn(done)):
                        self.assertEqual(payload, data)
                        break
                self.acknowledge(done, msn=done + 1)
                done += 1
                self.assertEqual([wc[:2] for wc in self.device.poll(1)],
                                 [(i + 1, SUCCESS)])
        counters = self.counters_after(FLOOD + done)
        useless = (counters["rx_duplicate"] + counters["rx_out_of_sequence"]
                   + counters["link_rx_overflow"])
        self.assertGreaterEqual(useless, FLOOD)
        self.assertEqual(counters["qp_errors"], 0)
        self.send(SEND_ONLY, self.psn(0), b"good", ack_req=1)
        self.assertEqual([wc[:2] for wc in self.device.poll(1)], [(0, SUCCESS)])


class OverIPv4(Hostile, unittest.TestCase):
    version = 4


class OverIPv6(Hostile, unittest.TestCase):
    version = 6


if __name__ == "__main__":
    qp_peer.main()
