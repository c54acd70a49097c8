#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The frame protocol judged by a second implementation, written from
docs/frame-protocol.md, and by scapy, which knows what a finished frame looks like.

Usage: frame_scapy.py FRAME_TOOL | frame_scapy.py --corpus FOLDER
"""

import os
import random
import struct
import sys
import unittest
import zlib

import net
from scapy.all import (Dot1AD, Dot1Q, Ether, IP, IPv6, IPv6ExtHdrDestOpt,
                       IPv6ExtHdrHopByHop, Raw, SCTP, TCP, UDP)

CSUM, IPCSUM, TSO = 1, 2, 4
LONGEST = 65407
MTU = 1500
ETH = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02", type=0x88b5)
IP_ETH = Ether(dst=ETH.dst, src=ETH.src)


def record(frame, flags=0, mss=0, kind=1, length=None):
    length = len(frame) if length is None else length
    return struct.pack(">BBHI", kind, flags, mss, length) + frame


def decode(message):
    """Yield (flags, mss, frame), or a counter's name, as the document says."""
    at = 0
    if not message:
        yield "rx_drop_record"
    while at < len(message):
        header = message[at:at + 8]
        if len(header) < 8:
            yield "rx_drop_record"
            return
        kind, flags, mss, length = struct.unpack(">BBHI", header)
        frame = message[at + 8:at + 8 + length]
        if (kind != 1 or flags & ~7 or (mss and not flags & TSO)
                or not 14 <= length <= LONGEST or len(frame) < length):
            yield "rx_drop_record"
            return
        if flags & TSO and 8 + length != len(message):
            yield "rx_drop_offload"
        else:
            yield flags, mss, frame
        at += 8 + length


class Tool(net.Tool):
    def take(self, message, mtu=MTU):
        """Return what becomes of a message: [(kind, value)]."""
        answer = self.ask(f"{mtu} {message.hex() or '-'}")
        return [tuple(word.split("=", 1)) for word in answer.split()]


def ones_complement(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def random_frame(rng, l4=None, payload=None):
    """Return a scapy packet with random headers."""
    pkt = IP_ETH.copy()
    for _ in range(rng.choice([0, 0, 1, 2])):
        pkt = pkt / rng.choice([Dot1Q, Dot1AD])(vlan=rng.randrange(4096))
    if rng.random() < 0.5:
        pkt = pkt / IP(src="10.1.2.3", dst="10.4.5.6", id=rng.randrange(65536),
                       tos=rng.randrange(256), ttl=rng.randrange(1, 256), flags="DF",
                       options=rng.choice([[], [], b"\x01" * 4 * rng.randrange(1, 10)]))
    else:
        pkt = pkt / IPv6(src="fd00::1", dst="fd00::2", tc=rng.randrange(256))
        for header in rng.choice([[], [], [IPv6ExtHdrHopByHop()], [IPv6ExtHdrDestOpt()],
                                  [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt()]]):
            pkt = pkt / header
    l4 = l4 or rng.choice([TCP, UDP, SCTP])
    if l4 is TCP:
        pkt = pkt / TCP(sport=1, dport=2, seq=rng.randrange(1 << 32), flags="PFAC",
                        options=rng.choice([[], [("Timestamp", (1, 2))],
                                            [("NOP", None)] * 40]))
    elif l4 is UDP:
        pkt = pkt / UDP(sport=1, dport=2)
    else:
        pkt = pkt / SCTP(sport=1, dport=2)
    size = rng.choice([0, 1, 2, 3, 100, 1001, 1300]) if payload is None else payload
    return pkt / Raw(rng.randbytes(size))


def spoilt(pkt, rng):
    """The frame with the checksums that are to be filled in replaced by rubbish."""
    pkt = pkt.copy()
    if IP in pkt:
        pkt[IP].chksum = rng.randrange(65536)
    for layer in TCP, UDP, SCTP:
        if layer in pkt:
            pkt[layer].chksum = rng.randrange(65536)
    return bytes(pkt)


class Records(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tool = Tool(TOOL)

    @classmethod
    def tearDownClass(cls):
        cls.tool.close()

    def judge(self, message):
        want = []
        for item in decode(message):
            if isinstance(item, str):
                want.append(("drop", item))
            elif item[0] == 0 and len(item[2]) <= MTU + 22:
                want.append(("frame", item[2].hex()))
            elif item[0] == 0:
                want.append(("drop", "rx_drop_oversize"))
            else:
                want.append(None)  # judged elsewhere
        got = self.tool.take(message)
        if None not in want:
            self.assertEqual(got, want)

    def test_every_truncation(self):
        message = record(b"a" * 14) + record(b"b" * 60) + record(b"c" * 33)
        for size in range(len(message) + 1):
            self.judge(message[:size])

    def test_every_header_byte(self):
        for at in range(8):
            for value in range(256):
                message = bytearray(record(b"a" * 20) + record(b"b" * 64))
                message[at] = value
                self.judge(bytes(message))

    def test_lengths(self):
        for size in [0, 13, 14, 15, 1522, 1523, LONGEST - 1, LONGEST, LONGEST + 1]:
            self.judge(record(b"x" * size))
        for length in [2**31, 2**32 - 1, 2**32 - 8, LONGEST + 1]:
            self.judge(record(b"x" * 100, length=length))

    def test_random_messages(self):
        rng = random.Random(1)
        for _ in range(2000):
            message = b"".join(record(rng.randbytes(rng.randrange(14, 300)))
                               for _ in range(rng.randrange(1, 6)))
            message = bytearray(message)
            for _ in range(rng.randrange(3)):
                message[rng.randrange(len(message))] ^= 1 << rng.randrange(8)
            self.judge(bytes(message))

    def test_tso_must_be_alone(self):
        tso = record(bytes(random_frame(random.Random(2), TCP, 1000)), TSO, 500)
        plain = record(b"p" * 60)
        kinds = [kind for kind, _ in self.tool.take(tso)]
        self.assertNotIn("drop", kinds)
        for message in tso + plain, plain + tso, tso + tso:
            self.assertIn(("drop", "rx_drop_offload"), self.tool.take(message))


class Offload(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tool = Tool(TOOL)

    @classmethod
    def tearDownClass(cls):
        cls.tool.close()

    def test_checksums(self):
        """Finished frames are what scapy builds."""
        rng = random.Random(3)
        for _ in range(300):
            pkt = random_frame(rng)
            flags = CSUM | (IPCSUM if IP in pkt else 0)
            got = self.tool.take(record(spoilt(pkt, rng), flags))
            self.assertEqual(got[-1], ("frame", bytes(pkt).hex()), pkt.summary())
            self.assertEqual(got[0], ("pseudo", self.pseudo(pkt)), pkt.summary())

    @staticmethod
    def pseudo(pkt):
        """What the checksum field of an unfinished frame holds."""
        pkt = Ether(bytes(pkt))
        if SCTP in pkt:
            return "00000000"
        layer = TCP if TCP in pkt else UDP
        size = len(bytes(pkt[layer]))
        ip = bytes(pkt[IP])[12:20] if IP in pkt else bytes(pkt[IPv6])[8:40]
        proto = 6 if layer is TCP else 17
        return f"{ones_complement(ip + struct.pack('>II', size, proto)):04x}"

    def test_padding_is_not_summed(self):
        rng = random.Random(4)
        pkt = random_frame(rng, UDP, 3)
        got = self.tool.take(record(spoilt(pkt, rng) + b"padding", CSUM | IPCSUM * (IP in pkt)))
        self.assertEqual(got[-1], ("frame", (bytes(pkt) + b"padding").hex()))

    def test_segments(self):
        """Each segment is a good packet by scapy, and together they are the stream."""
        rng = random.Random(5)
        for _ in range(60):
            size = rng.choice([1, 47, 48, 49, 1000, 20000, 64000])
            mss = rng.choice([48, 536, 1448, 9000])
            if size // mss > 100:
                continue
            self.judge_segments(random_frame(rng, TCP, size), mss, rng)

    def judge_segments(self, pkt, mss, rng):
        whole = Ether(bytes(pkt))
        got = self.tool.take(record(spoilt(pkt, rng), TSO, mss))
        self.assertEqual(got[0][0], "pseudo")
        segments = [Ether(bytes.fromhex(value)) for _, value in got[1:]]
        stream = b""
        for i, segment in enumerate(segments):
            last = i == len(segments) - 1
            self.assertLessEqual(len(segment), MTU + 22)
            data = bytes(segment[TCP].payload)
            self.assertTrue(0 < len(data) <= mss)
            self.assertEqual(segment[TCP].seq, (whole[TCP].seq + len(stream)) % 2**32)
            self.assertEqual(segment[TCP].flags.value,
                             0x10 | (0x80 if i == 0 else 0) | (0x09 if last else 0))
            if IP in segment:
                self.assertEqual(segment[IP].id, (whole[IP].id + i) % 65536)
            self.assertEqual(bytes(self.rebuilt(segment)), bytes(segment))
            stream += data
        self.assertEqual(stream, bytes(whole[TCP].payload))

    @staticmethod
    def rebuilt(pkt):
        """The packet with lengths and checksums as scapy makes them."""
        pkt = pkt.copy()
        if IP in pkt:
            del pkt[IP].chksum, pkt[IP].len
        else:
            del pkt[IPv6].plen
        del pkt[TCP].chksum
        return pkt

    def test_cannot_be_done(self):
        rng = random.Random(6)
        tcp = IP_ETH / IP(src="10.0.0.1", dst="10.0.0.2") / TCP() / Raw(b"x" * 100)
        udp = IP_ETH / IP() / UDP() / Raw(b"x" * 100)
        bad = [
            record(bytes(udp), TSO, 500),
            record(bytes(tcp), TSO, 47),
            record(bytes(tcp), TSO, 0),
            record(bytes(IP_ETH / IP() / TCP()), TSO, 500),
            record(bytes(tcp) + b"x", TSO, 500),
            record(bytes(tcp)[:50], CSUM),
            record(bytes(IP_ETH / IP(frag=1) / UDP()), CSUM),
            record(bytes(IP_ETH / IP(flags="MF") / UDP()), CSUM),
            record(bytes(IP_ETH / IP(proto=1) / Raw(b"x" * 40)), CSUM),
            record(bytes(ETH / Raw(b"x" * 40)), CSUM),
            record(bytes(IP_ETH / IPv6() / UDP()), IPCSUM),
            record(bytes(IP_ETH / Dot1Q() / Dot1Q() / Dot1Q() / IP() / UDP()), CSUM),
        ]
        for message in bad:
            self.assertEqual(self.tool.take(message), [("drop", "rx_drop_offload")])
        # Any single byte changed: it goes, or it comes out as good frames.
        frame = bytes(tcp)
        for at in range(14, 54):
            for _ in range(8):
                changed = bytearray(frame)
                changed[at] = rng.randrange(256)
                self.tool.take(record(bytes(changed), TSO, 60))


def write_corpus(folder):
    rng = random.Random(7)
    messages = [b"", record(b"a" * 14), record(b"a" * 60) * 3]
    for l4 in TCP, UDP, SCTP:
        for _ in range(4):
            messages.append(record(bytes(random_frame(rng, l4)), CSUM))
    messages += [record(bytes(random_frame(rng, TCP, 2000)), TSO, 536) for _ in range(4)]
    for message in messages:
        data = struct.pack(">H", MTU) + message
        with open(os.path.join(folder, f"{zlib.crc32(data):08x}"), "wb") as file:
            file.write(data)


if __name__ == "__main__":
    if sys.argv[1] == "--corpus":
        write_corpus(sys.argv[2])
    else:
        TOOL = sys.argv.pop(1)
        unittest.main()
