# SPDX-License-Identifier: BSD-3-Clause
"""The peer of a queue pair of the userspace device, played by scapy on a real wire.

Whatever the device sends has a right ICRC and the fields that are the same in all
packets, or the test fails.
"""

import json
import random
import sys
import unittest

import net
import roce
from roce import AETH, BTH

TOOL = sys.argv[1]  # qp_tool
MTU = 1024
QPN = 0x123456  # the peer's
MASK = 0xffffff

SEND_FIRST, SEND_MIDDLE, SEND_LAST, SEND_LAST_IMM, SEND_ONLY, SEND_ONLY_IMM = range(6)
WRITE_FIRST, WRITE_MIDDLE, WRITE_LAST, WRITE_LAST_IMM, WRITE_ONLY, WRITE_ONLY_IMM = \
    range(6, 12)
READ_REQUEST, RESP_FIRST, RESP_MIDDLE, RESP_LAST, RESP_ONLY, ACK, ATOMIC_ACK, \
    COMPARE_SWAP, FETCH_ADD = range(0x0c, 0x15)
SEND_LAST_INV, SEND_ONLY_INV = 0x16, 0x17

# AETH syndromes
NO_CREDIT_LIMIT, RNR, PSN_ERROR, INVALID_REQUEST, REMOTE_ACCESS, REMOTE_OPERATION = \
    0x1f, 0x20, 0x60, 0x61, 0x62, 0x63

# verbs.h
WR_WRITE, WR_WRITE_IMM, WR_SEND, WR_SEND_IMM, WR_READ, WR_COMPARE_SWAP, WR_FETCH_ADD = \
    range(7)
WR_LOCAL_INV, WR_SEND_INV = 7, 9
WC_SEND, WC_WRITE, WC_READ, WC_COMPARE_SWAP, WC_FETCH_ADD = range(5)
WC_LOCAL_INV = 6
WC_RECV, WC_RECV_WITH_IMM = 128, 129
SUCCESS, LOC_LEN_ERR, FLUSHED, BAD_RESP = 0, 1, 5, 7
REM_INV_REQ, REM_ACCESS, REM_OP, RETRY_EXC, RNR_RETRY_EXC = 9, 10, 11, 12, 13
SIGNALED, SOLICITED = 2, 4
WITH_IMM, WITH_INV = 2, 8
REMOTE_WRITE, REMOTE_READ, REMOTE_ATOMIC, ZERO_BASED = 2, 4, 8, 32
RTS, ERR = 3, 6


def swap32(value):
    """ImmDt, which verbs hold in network order."""
    return int.from_bytes(value.to_bytes(4, "big"), "little")


class Device(net.Tool):
    """The device and its queue pair."""

    def __init__(self, addr, kind, within=()):
        """within: the start of a command line that runs it elsewhere"""
        super().__init__([*within, TOOL, addr, kind])
        self.qpn, self.va, self.rkey = map(int, self.answer().split()[1:])
        self.src_qp = []

    def order(self, command):
        answer = self.ask(command)
        if answer != "ok":
            raise RuntimeError(f"{command}: {answer}")

    def post(self, opcode, wr_id, offset, size, flags=SIGNALED, imm=0, va=0, rkey=0, add=0,
             swap=0):
        self.order(f"post {opcode} {wr_id} {offset} {size} {flags} {swap32(imm)} {va} {rkey} "
                   f"{add} {swap}")

    def poll(self, n):
        """n completions: (wr_id, status, opcode, length, flags, imm); where they came
        from is in self.src_qp, in the same order"""
        found = []
        line = self.ask(f"poll {n} {net.WAIT_S * 1000}")
        while line != "end":
            found.append(tuple(map(int, line.split())))
            line = self.answer()
        self.src_qp = [wc[6] for wc in found]
        return [wc[:6] for wc in found]

    def counters(self):
        return json.loads(self.ask("counters"))


class Peer:
    """The peer of the device's queue pair: what tests are made of, for IPv4 and IPv6."""

    veth = None
    version = 0
    kind = "rc"  # type of the device's queue pair
    first = 0xfffffe  # PSN of the peer's first request: it wraps soon
    device_first = 0xfffffd

    def setUp(self):
        self.rng = random.Random(4)
        self.addr = self.veth.addr4 if self.version == 4 else self.veth.addr6
        self.port = net.PeerPort(self.veth)
        self.addCleanup(self.port.close)
        self.device = Device(self.addr[0], self.kind)
        self.addCleanup(self.device.close)

    def connect(self, timeout=0, retry=7, rnr_retry=7):
        """Bring the device's queue pair to RTS; without a timeout it waits for ever."""
        gid = ("::ffff:" if self.version == 4 else "") + self.addr[1]
        self.device.order(f"connect {gid} {QPN} {self.first} {self.device_first} "
                          f"{timeout} {retry} {rnr_retry}")

    # The peer's side: packet n is the n-th PSN of its requests or the device's.

    def psn(self, n):
        return self.first + n & MASK

    def device_psn(self, n):
        return self.device_first + n & MASK

    def transmit(self, data, **how):
        self.port.transmit(roce.datagram(self.addr[1], self.addr[0], data, **how))

    def send(self, opcode, psn, payload=b"", how=None, **fields):
        fields = {"dest_qpn": self.device.qpn, "pkey": 0xffff, "mig_req": 1, **fields}
        packet = roce.transport(opcode, {"psn": psn, **fields}, payload)
        packet[BTH].icrc = 0
        self.transmit(bytes(packet)[:-4], **(how or {}))

    def send_message(self, n, payload, last_ack=1, mtu=MTU):
        """A SEND of several packets from PSN n on."""
        count = max(1, -(-len(payload) // mtu))
        for i in range(count):
            part = payload[i * mtu:(i + 1) * mtu]
            last = i == count - 1
            opcode = ((SEND_ONLY if last else SEND_FIRST) if i == 0
                      else SEND_LAST if last else SEND_MIDDLE)
            self.send(opcode, self.psn(n + i), part, ack_req=last_ack if last else 0)
        return count

    def acknowledge(self, n, syndrome=NO_CREDIT_LIMIT, msn=0):
        self.send(ACK, self.device_psn(n), syndrome=syndrome, msn=msn)

    def receive(self):
        """The next packet of the device: (headers by layer, payload)."""
        ip, raw = roce.receive(self.port)
        data = raw[(28 if self.version == 4 else 48):-4]
        self.assertEqual(raw[-4:], roce.icrc(ip, data), "ICRC")
        self.assertEqual((ip.src, ip.dst), self.addr)
        if self.version == 4:
            self.assertEqual(ip.flags, "DF")
        parts, rest = roce.dissect(data)
        bth = parts[BTH]
        self.assertEqual((bth.version, bth.pkey, bth.migreq, bth.resv6, bth.resv7),
                         (0, 0xffff, 1, 0, 0))
        self.assertEqual(bth.dqpn, QPN)
        self.assertEqual(len(data) % 4, 0)
        size = len(rest) - bth.padcount
        self.assertEqual(rest[size:], bytes(bth.padcount))
        return parts, rest[:size]

    def expect_answer(self, n, msn, syndrome=NO_CREDIT_LIMIT):
        parts, payload = self.receive()
        bth, aeth = parts[BTH], parts[AETH]
        self.assertEqual((bth.opcode, payload), (ACK, b""))
        self.assertEqual((bth.psn, aeth.syndrome, aeth.msn),
                         (self.psn(n), syndrome, msn))

    def expect_request(self, n, opcode, payload, ack_req=None):
        parts, got = self.receive()
        bth = parts[BTH]
        self.assertEqual((bth.opcode, bth.psn), (opcode, self.device_psn(n)))
        self.assertEqual(got, payload)
        if ack_req is not None:
            self.assertEqual(bth.ackreq, ack_req)
        return parts

    def post_recv(self, wr_id, offset=0, size=65536):
        self.device.order(f"recv {wr_id} {offset} {size}")

    def memory(self, offset, size):
        return bytes.fromhex(self.device.ask(f"get {offset} {size}"))

    def fill(self, size):
        data = self.rng.randbytes(size)
        self.device.order(f"set 0 {data.hex()}")
        return data

    def expect_error_state(self):
        self.assertEqual(int(self.device.ask("state")), ERR)


def main():
    """Run the tests of the script that calls this, in namespaces of its own."""
    net.enter()
    Peer.veth = net.Veth()
    del sys.argv[1]
    unittest.main(verbosity=2)
