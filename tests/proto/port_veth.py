#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The packet port on a wire (net.py), with scapy at the other end as judge: what it sends,
what it takes, and how it behaves as a host among others: ARP, neighbour discovery, groups.

Usage: port_veth.py LINK_TOOL
"""

import errno
import random
import socket
import sys
import time
import unittest

import net
import roce
from link import Link, judge, packet
from roce import IP, UDP, IPv6

from scapy.contrib.igmp import IGMP  # noqa: E402
from scapy.contrib.igmpv3 import IGMPv3, IGMPv3mr  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6MLDone, ICMPv6MLQuery, ICMPv6MLReport, ICMPv6MLReport2, ICMPv6ND_NA,
    ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6ExtHdrHopByHop,
    RouterAlert)
from scapy.layers.l2 import ARP, Ether  # noqa: E402

TOOL = sys.argv[1]
SO_RCVBUFFORCE, RCVBUF = 33, 8 << 20
BROADCAST = "ff:ff:ff:ff:ff:ff"
OURS = {4: "10.9.0.11", 6: "fd09::11"}
LENGTH = {4: 24, 6: 64}
PEER = {4: "10.9.0.12", 6: "fd09::12"}
PEER_MAC = "02:00:00:00:00:12"
EVIL_MAC = "02:00:00:00:00:66"
GATEWAY = {4: "10.9.0.254", 6: "fd09::fe"}
FAR = {4: "198.51.100.7", 6: "2001:db8::7"}
GROUP = {4: "239.1.2.3", 6: "ff0e::123"}
GROUP_MAC = {4: "01:00:5e:01:02:03", 6: "33:33:00:00:01:23"}
SOLICITED = "ff02::1:ff00:11"
SOLICITED_MAC = "33:33:ff:00:00:11"


def setUpModule():
    global veth
    veth = net.Veth()


class Wire:
    """The peer's end: whole frames, out and in. @mac: whose frames are looked at"""

    def __init__(self):
        self.sock = veth.peer_socket(socket.AF_PACKET, socket.SOCK_RAW,
                                     socket.htons(net.ETH_P_ALL))
        self.sock.bind(("v1", net.ETH_P_ALL))
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RCVBUF)
        except PermissionError:
            pass
        self.sock.settimeout(net.WAIT_S)
        self.mac = None

    def put(self, frame):
        self.sock.send(bytes(frame))

    def get(self):
        """The next frame from @mac: as scapy sees it, and its bytes."""
        while True:
            data, where = self.sock.recvfrom(65536)
            frame = Ether(data)
            if where[2] != socket.PACKET_OUTGOING and frame.src == self.mac:
                return frame, data

    def get_layer(self, layer):
        while True:
            frame, _ = self.get()
            if layer in frame:
                return frame


class PortTest(unittest.TestCase):
    def setUp(self):
        self.rng = random.Random(4)
        self.wire = Wire()
        self.addCleanup(self.wire.sock.close)

    def open(self, version=4, gateway="", addr=None, prefix=(), ifname="v0", mac=()):
        """A port; its announcement tells its MAC."""
        addr = addr or OURS[version]
        link = Link(TOOL, "port", ifname, f"{addr}/{LENGTH[version]}", gateway, *mac,
                    prefix=prefix)
        self.addCleanup(link.close)
        return link

    def open_seen(self, version=4, gateway=""):
        """As open(); what it says of itself at first is taken off the wire."""
        link = self.open(version, gateway)
        while self.wire.mac is None:
            frame = Ether(self.wire.sock.recv(65536))
            if version == 4 and ARP in frame and frame[ARP].psrc == OURS[4]:
                self.wire.mac = frame.src
            elif version == 6 and ICMPv6ND_NA in frame and frame[ICMPv6ND_NA].tgt == OURS[6]:
                self.wire.mac = frame.src
        return link

    def roce_frame(self, version, data, crc=None, dst=None, **udp):
        ip = roce.datagram(PEER[version], dst or OURS[version], data, crc, **udp)
        return Ether(src=PEER_MAC, dst=self.wire.mac,
                     type=0x0800 if version == 4 else 0x86dd) / ip

    def pump(self, link, version, expected=0):
        """Let the port see all that has been put on the wire; Return: what it received."""
        last = packet(self.rng, 12, 999)[1]
        self.wire.put(self.roce_frame(version, last))
        found = link.recv(expected + 1)
        self.assertEqual(len(found), expected + 1)
        self.assertEqual(found[-1][2], last)
        return found[:-1]

    def answer_query(self, version, query, mac=PEER_MAC):
        """Tell a port that asks."""
        if version == 4:
            arp = query[ARP]
            self.wire.put(Ether(src=mac, dst=arp.hwsrc) /
                          ARP(op=2, hwsrc=mac, psrc=arp.pdst, hwdst=arp.hwsrc,
                              pdst=arp.psrc))
        else:
            self.wire.put(Ether(src=mac, dst=query.src) /
                          IPv6(src=query[ICMPv6ND_NS].tgt, dst=query[IPv6].src) /
                          ICMPv6ND_NA(tgt=query[ICMPv6ND_NS].tgt, R=0, S=1, O=1) /
                          ICMPv6NDOptDstLLAddr(lladdr=mac))

    def query_for(self, version, target):
        """The port's next question, which must be right and for @target."""
        if version == 4:
            frame = self.wire.get_layer(ARP)
            while frame[ARP].psrc == frame[ARP].pdst:  # an announcement
                frame = self.wire.get_layer(ARP)
            self.assertEqual((frame.dst, frame[ARP].op), (BROADCAST, 1))
            self.assertEqual((frame[ARP].hwsrc, frame[ARP].psrc, frame[ARP].pdst),
                             (self.wire.mac, OURS[4], target))
        else:
            frame = self.wire.get_layer(ICMPv6ND_NS)
            self.assertEqual(frame[IPv6].hlim, 255)
            self.assertEqual(frame[ICMPv6ND_NS].tgt, target)
            self.assertEqual(frame[ICMPv6NDOptSrcLLAddr].lladdr, self.wire.mac)
            self.assertTrue(frame[IPv6].dst.startswith("ff02::1:ff"))
            self.check_icmp(frame)
        return frame

    def check_icmp(self, frame):
        ip = frame[IPv6].copy()
        checksum = bytes(ip)[42:44] if ip.nh == 58 else None
        icmp = ip.payload
        self.assertIsNotNone(checksum)
        del icmp.cksum
        self.assertEqual(bytes(IPv6(bytes(ip)))[42:44], checksum, "ICMPv6 checksum")


class OnTheWire(PortTest):
    """What the port sends."""

    def test_bursts(self):
        for version in 4, 6:
            link = self.open_seen(version)
            link.send(PEER[version], [packet(self.rng, 8, 1)])
            self.answer_query(version, self.query_for(version, PEER[version]))
            self.pump(link, version)
            self.wire.get_layer(UDP)
            for _ in range(30):
                sizes = [self.rng.choice([0, 8, 8, 500, 1024, 1024, 4096])
                         for _ in range(self.rng.randint(1, 60))]
                if self.rng.random() < 0.5:
                    sizes.sort(reverse=True)
                packets = [packet(self.rng, size, i) for i, size in enumerate(sizes)]
                link.send(PEER[version], packets, 0x123)
                for _, sent in packets:
                    frame, data = self.wire.get()
                    self.assertEqual(frame.dst, PEER_MAC)
                    ip = frame.payload
                    self.assertEqual(ip.tos & 3 if version == 4 else ip.tc & 3, 2, "ECT(0)")
                    self.assertEqual(ip[UDP].sport, 0xc123)
                    judge(self, ip, data[14:], sent, (OURS[version], PEER[version]),
                          range(64))
            stats = link.stats()
            self.assertEqual(stats["tx_failed"] + stats["tx_unresolved"], 0)
            self.wire.mac = None
            link.close()

    def test_kernel_stays_out(self):
        """It knows nothing of the address: no answers, no ICMP."""
        link = self.open_seen()
        self.wire.put(Ether(src=PEER_MAC, dst=BROADCAST) /
                      ARP(op=1, hwsrc=PEER_MAC, psrc=PEER[4], pdst=OURS[4]))
        self.wire.put(Ether(src=PEER_MAC, dst=self.wire.mac) /
                      IP(src=PEER[4], dst=OURS[4]) / UDP(dport=1234))
        self.wire.put(self.roce_frame(4, packet(self.rng, 8, 1)[1], b"bad!"))
        self.pump(link, 4)
        # the kernel answers this one, so all before it has been dealt with
        self.wire.put(Ether(src=PEER_MAC, dst=BROADCAST) /
                      ARP(op=1, hwsrc=PEER_MAC, psrc=PEER[4], pdst=veth.addr4[0]))
        answers = []
        self.wire.mac = veth.macs[0]
        answers.append(self.wire.get()[0])
        self.assertIn(ARP, answers[0])
        self.assertEqual(answers[0][ARP].psrc, veth.addr4[0])


class Neighbours(PortTest):
    def test_arp_answers(self):
        link = self.open_seen()
        # for another; announced by another; ours; ours, by one without an address
        for op, psrc, pdst in ((1, PEER[4], "10.9.0.77"), (1, PEER[4], PEER[4]),
                               (1, PEER[4], OURS[4]), (1, "0.0.0.0", OURS[4])):
            self.wire.put(Ether(src=PEER_MAC, dst=BROADCAST) /
                          ARP(op=op, hwsrc=PEER_MAC, psrc=psrc, pdst=pdst))
        self.pump(link, 4)
        for psrc in PEER[4], "0.0.0.0":
            frame = self.wire.get()[0]
            arp = frame[ARP]
            self.assertEqual((frame.dst, arp.op), (PEER_MAC, 2))
            self.assertEqual((arp.hwsrc, arp.psrc), (self.wire.mac, OURS[4]))
            self.assertEqual((arp.hwdst, arp.pdst), (PEER_MAC, psrc))
        self.assertEqual(link.stats()["neigh_answers"], 2)

    def test_nd_answers(self):
        link = self.open_seen(6)
        ns = ICMPv6ND_NS(tgt=OURS[6])
        option = ICMPv6NDOptSrcLLAddr(lladdr=PEER_MAC)
        for dst, packets in ((SOLICITED_MAC, IPv6(src=PEER[6], dst=SOLICITED) / ns / option),
                             (self.wire.mac, IPv6(src=PEER[6], dst=OURS[6]) / ns),
                             (SOLICITED_MAC, IPv6(src="::", dst=SOLICITED) / ns),
                             # not from this link; of another
                             (SOLICITED_MAC,
                              IPv6(src=PEER[6], dst=SOLICITED, hlim=254) / ns / option),
                             (SOLICITED_MAC, IPv6(src=PEER[6], dst="ff02::1:ff99:11") /
                              ICMPv6ND_NS(tgt="fd09::99:11") / option)):
            self.wire.put(Ether(src=PEER_MAC, dst=dst) / packets)
        self.pump(link, 6)
        for dst, mac, solicited in ((PEER[6], PEER_MAC, 1), (PEER[6], PEER_MAC, 1),
                                    ("ff02::1", "33:33:00:00:00:01", 0)):
            frame = self.wire.get()[0]
            na = frame[ICMPv6ND_NA]
            self.assertEqual((frame.dst, frame[IPv6].dst, frame[IPv6].src),
                             (mac, dst, OURS[6]))
            self.assertEqual((na.tgt, na.S, na.O, na.R), (OURS[6], solicited, 1, 0))
            self.assertEqual(frame[ICMPv6NDOptDstLLAddr].lladdr, self.wire.mac)
            self.assertEqual(frame[IPv6].hlim, 255)
            self.check_icmp(frame)
        stats = link.stats()
        self.assertEqual((stats["neigh_answers"], stats["neigh_malformed"]), (3, 1))

    def test_resolve(self):
        """Packets wait for the answer, and then come in order; the next ones at once."""
        for version in 4, 6:
            link = self.open_seen(version)
            packets = [packet(self.rng, 100 + i, i) for i in range(3)]
            for one in packets:
                link.send(PEER[version], [one])
            self.answer_query(version, self.query_for(version, PEER[version]))
            self.pump(link, version)
            link.send(PEER[version], packets)
            for _, sent in packets + packets:
                frame = self.wire.get_layer(UDP)
                self.assertEqual(frame.dst, PEER_MAC)
                self.assertEqual(bytes(frame[UDP].payload)[:-4], sent)
            stats = link.stats()
            self.assertEqual((stats["neigh_asked"], stats["neigh_answered"]), (1, 1))
            self.wire.mac = None
            link.close()

    def test_expect(self):
        """Who is going to be sent to is asked for; nothing else comes of it."""
        link = self.open_seen()
        link.ask(f"expect {PEER[4]}")
        self.answer_query(4, self.query_for(4, PEER[4]))
        self.pump(link, 4)
        for gid in OURS[4], PEER[6], GROUP[4], FAR[4]:
            link.ask(f"expect {gid}")
        link.send(PEER[4], [packet(self.rng, 8, 1)])
        self.assertEqual(self.wire.get_layer(UDP).dst, PEER_MAC)
        stats = link.stats()
        self.assertEqual([stats[name] for name in ("neigh_asked", "tx_no_route", "tx_failed",
                                                   "tx_packets")], [1, 0, 0, 1])

    def test_gateway(self):
        for version in 4, 6:
            link = self.open_seen(version, GATEWAY[version])
            one = packet(self.rng, 100, 1)
            link.send(FAR[version], [one])
            self.answer_query(version, self.query_for(version, GATEWAY[version]))
            self.pump(link, version)
            frame = self.wire.get_layer(UDP)
            self.assertEqual(frame.dst, PEER_MAC)
            self.assertEqual(frame.payload.dst, FAR[version])
            self.wire.mac = None
            link.close()
            link = self.open(version)
            link.send(FAR[version], [one, one])
            self.assertEqual(link.stats()["tx_no_route"], 2)
            link.close()

    def test_liar(self):
        """Who says unasked that a neighbour has another MAC gets no packets by that."""
        link = self.open_seen()
        one = packet(self.rng, 100, 1)
        link.send(PEER[4], [one])
        self.answer_query(4, self.query_for(4, PEER[4]))
        self.pump(link, 4)
        self.wire.get_layer(UDP)
        for op, target in ((2, OURS[4]), (1, PEER[4]), (2, PEER[4])):
            self.wire.put(Ether(src=EVIL_MAC, dst=self.wire.mac) /
                          ARP(op=op, hwsrc=EVIL_MAC, psrc=PEER[4], hwdst=self.wire.mac,
                              pdst=target))
        self.pump(link, 4)
        link.send(PEER[4], [one])
        self.assertEqual(self.wire.get_layer(UDP).dst, PEER_MAC)
        self.assertEqual(link.stats()["neigh_ignored"], 3)
        self.assertEqual(link.stats()["neigh_moved"], 0)

    def test_strangers_make_no_entries(self):
        link = self.open_seen()
        for i in range(100):
            self.wire.put(Ether(src=EVIL_MAC, dst=self.wire.mac) /
                          ARP(op=2, hwsrc=EVIL_MAC, psrc=f"10.9.0.{100 + i}",
                              hwdst=self.wire.mac, pdst=OURS[4]))
        self.pump(link, 4)
        link.send("10.9.0.150", [packet(self.rng, 8, 1)])
        self.query_for(4, "10.9.0.150")

    def test_too_much_waits(self):
        """Some are dropped, which is counted; the others come in order."""
        if self.wire.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < RCVBUF:
            self.skipTest("needs root for a large socket buffer")
        link = self.open_seen()
        packets = [packet(self.rng, 4096, i) for i in range(200)]
        for one in packets:
            link.send(PEER[4], [one])
        self.answer_query(4, self.query_for(4, PEER[4]))
        self.pump(link, 4)
        link.send(PEER[4], [packet(self.rng, 8, 200)])
        psns = []
        while 200 not in psns:
            psns.append(roce.BTH(bytes(self.wire.get_layer(UDP)[UDP].payload)).psn)
        dropped = link.stats()["tx_unresolved"]
        self.assertGreater(dropped, 0)
        self.assertEqual(len(psns), 201 - dropped)
        self.assertEqual(psns, sorted(set(psns)))

    def test_address_in_use(self):
        """By the kernel; by another port here, whether that listens or not."""
        for version in 4, 6:
            first = self.open(version)
            for addr in OURS[version], (veth.addr4 if version == 4 else veth.addr6)[0]:
                with self.assertRaises(OSError) as caught:
                    self.open(version, addr=addr, mac=("02:00:00:00:00:99",))
                self.assertEqual(caught.exception.errno, errno.EADDRINUSE)
            first.close()
            self.open(version).close()

    def test_address_of_another_host(self):
        """It has some time to say so, which on a busy machine is not always enough."""
        for version in 4, 6:
            other = self.open(version, ifname="v1", prefix=veth.in_peer(),
                              mac=("02:00:00:00:00:99",))
            other.tell(f"recv 1 {net.WAIT_S * 1000}")
            other.process.stdin.flush()
            with self.assertRaises(OSError) as caught:
                end = time.monotonic() + net.WAIT_S
                while time.monotonic() < end:
                    self.open(version).close()
            self.assertEqual(caught.exception.errno, errno.EADDRINUSE)
            other.process.terminate()
            other.close()

    def test_conflict_later(self):
        """Another host that claims our address is told of, and gets an answer."""
        link = self.open_seen()
        self.wire.put(Ether(src=EVIL_MAC, dst=BROADCAST) /
                      ARP(op=1, hwsrc=EVIL_MAC, psrc=OURS[4], pdst=OURS[4]))
        self.pump(link, 4)
        self.assertEqual(link.stats()["neigh_conflicts"], 1)


class Strict(PortTest):
    """What the port takes, and what not."""

    def count(self, version, frames, counter):
        link = self.open_seen(version)
        for frame in frames:
            self.wire.put(frame)
        self.pump(link, version)
        stats = link.stats()
        self.assertEqual(stats[counter], len(frames))
        self.assertEqual(stats["rx_packets"], len(frames) + 1)
        self.wire.mac = None
        link.close()

    def frame(self, version):
        """The bytes of a good frame."""
        link = self.open_seen(version)
        frame = self.roce_frame(version, packet(self.rng, 64, 5)[1])
        link.close()
        return bytearray(bytes(frame))

    def changed(self, version, changes):
        """Good frames with bytes (offset from the IP header) that are something else."""
        frames = []
        good = self.frame(version)
        for change in changes:
            frame = bytearray(good)
            for offset, value in change.items():
                frame[14 + offset] = value
            if version == 4:
                frame[24:26] = bytes(2)
                header = frame[14:34]
                total = sum(int.from_bytes(header[i:i + 2], "big") for i in range(0, 20, 2))
                total = (total & 0xffff) + (total >> 16)
                total = (total & 0xffff) + (total >> 16)
                frame[24:26] = (total ^ 0xffff).to_bytes(2, "big")
            frames.append(bytes(frame))
        self.wire.mac = None
        return frames

    def test_every_opcode_and_ecn(self):
        for version in 4, 6:
            link = self.open_seen(version)
            sent = []
            for i, opcode in enumerate(roce.HEADERS):
                size = 0 if opcode in roce.NO_PAYLOAD else self.rng.randint(0, 3000)
                sent.append(packet(self.rng, size, i, opcode)[1])
                frame = bytearray(bytes(self.roce_frame(version, sent[-1])))
                if version == 4:
                    old = frame[15]
                    frame[15] = i & 3  # TOS: and its checksum, by difference (RFC 1624)
                    total = (int.from_bytes(frame[24:26], "big") ^ 0xffff) + (i & 3) - old
                    total = total - 1 + 0x10000 if total < 0 else total
                    frame[24:26] = ((total & 0xffff) + (total >> 16) ^ 0xffff).to_bytes(2, "big")
                else:
                    frame[15] = (i & 3) << 4 | frame[15] & 0xf
                self.wire.put(bytes(frame))
            found = self.pump(link, version, len(sent))
            self.assertEqual([data for _, _, data in found], sent)
            self.assertEqual([ecn for _, ecn, _ in found], [i & 3 for i in range(len(sent))])
            source = "::ffff:" + PEER[4] if version == 4 else PEER[6]
            self.assertEqual({src for src, _, _ in found}, {source})
            stats = link.stats()
            self.assertEqual((stats["rx_bad_icrc"], stats["rx_icrc_unverified"]), (0, 0))
            self.wire.mac = None
            link.close()

    def test_every_covered_bit(self):
        """A changed bit, from the IPv4 identification to the ICRC, is noticed."""
        for version in 4, 6:
            good = self.frame(version)
            start = 34 if version == 4 else 54
            length = range(start + 4, start + 6)   # UDP's: malformed
            masked = [*range(start + 6, start + 8), start + 8 + 4]
            frames = []
            for offset in [*((18, 19) if version == 4 else ()),
                           *range(start, start + 2), *range(start + 8, len(good))]:
                if offset in masked or offset in length:
                    continue
                frame = bytearray(good)
                frame[offset] ^= 1 << self.rng.randrange(8)
                if offset < 34 and version == 4:  # the header's checksum stays right
                    frame = bytearray(frame)
                    frame[24:26] = bytes(2)
                    ip = IP(bytes(frame[14:]))
                    del ip.chksum
                    frame[14:34] = bytes(ip)[:20]
                frames.append(bytes(frame))
            self.wire.mac = None
            self.count(version, frames, "rx_bad_icrc")

    def test_malformed(self):
        """Options, fragments, no DF, lengths, checksum; sources that are no hosts."""
        frames = self.changed(4, [
            {0: 0x46}, {6: 0x60}, {6: 0x00}, {2: 0xff}, {3: 10}, {25: 9},
            {12: 224}, {12: 255}, {12: 0, 13: 0, 14: 0, 15: 0}])
        bad_sum = bytearray(self.frame(4))
        bad_sum[24] ^= 1
        self.wire.mac = None
        self.count(4, [f for f in frames if f[14] != 0x46] + [bytes(bad_sum)],
                   "rx_malformed")
        self.count(6, self.changed(6, [{0: 0x40}, {5: 4}, {4: 0xff}, {45: 9}, {8: 0xff},
                                       {i: 0 for i in range(8, 24)}]), "rx_malformed")

    def test_foreign(self):
        """To an address of others, a group that we are not in, everybody's MAC."""
        for version in 4, 6:
            link = self.open_seen(version)
            data = packet(self.rng, 8, 1)[1]
            other = self.roce_frame(version, data, dst=PEER[version])
            group = self.roce_frame(version, data, dst=GROUP[version])
            group.dst = GROUP_MAC[version]
            flood = self.roce_frame(version, data)
            flood.dst = BROADCAST
            link.close()
            self.wire.mac = None
            self.count(version, [other, group, flood], "rx_foreign")

    def test_runts(self):
        for version in 4, 6:
            link = self.open_seen(version)
            frames = []
            for size in range(16):
                ip = IP(src=PEER[4], dst=OURS[4], flags="DF") if version == 4 else \
                    IPv6(src=PEER[6], dst=OURS[6])
                frames.append(Ether(src=PEER_MAC, dst=self.wire.mac) / ip /
                              UDP(sport=0xc000, dport=4791) / bytes(size))
            link.close()
            self.wire.mac = None
            self.count(version, frames, "rx_runt")


class Groups(PortTest):
    def reports(self, version, link):
        """The next two reports: as (old, new), the kind of each."""
        found = []
        while len(found) < 2:
            frame = self.wire.get()[0]
            if version == 4 and IP in frame and frame[IP].proto == 2:
                ip = frame[IP]
                self.assertEqual((ip.ttl, ip.ihl, ip.src), (1, 6, OURS[4]))
                data = bytes(frame)[14 + 24:]
                if data[0] == 0x22:
                    record = IGMPv3(data)[IGMPv3mr]
                    self.assertEqual(record.records[0].maddr, GROUP[4])
                    self.assertEqual(ip.dst, "224.0.0.22")
                    found.append(record.records[0].rtype)
                else:
                    self.assertEqual(IGMP(data).gaddr, GROUP[4])
                    found.append(data[0])
            elif version == 6 and IPv6ExtHdrHopByHop in frame:
                ip = frame[IPv6]
                self.assertEqual(ip.hlim, 1)
                self.assertTrue(ip.src.startswith("fe80::"))
                self.assertIn(RouterAlert, frame)
                for layer in ICMPv6MLReport, ICMPv6MLDone:
                    if layer in frame and frame[layer].mladdr == GROUP[6]:
                        found.append(frame[layer].type)
                if ICMPv6MLReport2 in frame:
                    record = frame[ICMPv6MLReport2].records[0]
                    if record.dst == GROUP[6]:
                        found.append(record.rtype)
        return found

    def group_frame(self, version, data):
        frame = self.roce_frame(version, data, dst=GROUP[version])
        frame.dst = GROUP_MAC[version]
        return frame

    def test_member(self):
        for version in 4, 6:
            link = self.open_seen(version)
            self.assertEqual(link.ask(f"join {GROUP[version]}"), "0")
            self.assertEqual(self.reports(version, link),
                             [0x16, 4] if version == 4 else [131, 4])
            data = packet(self.rng, 64, 7)[1]
            self.wire.put(self.group_frame(version, data))
            self.assertEqual([d for _, _, d in self.pump(link, version, 1)], [data])
            # what it sends itself comes back to it
            link.send(GROUP[version], [packet(self.rng, 64, 8)])
            self.assertEqual(self.wire.get_layer(UDP).dst, GROUP_MAC[version])
            self.assertEqual(len(link.recv(1)), 1)
            self.ask_for_groups(version)
            self.pump(link, version)
            self.assertEqual(self.reports(version, link),
                             [0x16, 2] if version == 4 else [131, 2])
            self.assertEqual(link.ask(f"leave {GROUP[version]}"), "0")
            self.assertEqual(self.reports(version, link),
                             [0x17, 3] if version == 4 else [132, 3])
            self.wire.put(self.group_frame(version, data))
            self.pump(link, version)
            self.assertEqual(link.stats()["rx_foreign"], 1)
            self.wire.mac = None
            link.close()

    def ask_for_groups(self, version):
        if version == 4:
            self.wire.put(Ether(src=PEER_MAC, dst="01:00:5e:00:00:01") /
                          IP(src=GATEWAY[4], dst="224.0.0.1", ttl=1) /
                          IGMP(type=0x11, mrcode=100))
        else:
            self.wire.put(Ether(src=PEER_MAC, dst="33:33:00:00:00:01") /
                          IPv6(src="fe80::1", dst="ff02::1", hlim=1) /
                          IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLQuery())

    def test_not_a_group(self):
        link = self.open()
        for gid in "10.9.0.1", "ff0e::1":
            self.assertEqual(link.ask(f"join {gid}"), str(errno.EINVAL))


class BetweenLinks(PortTest):
    def exchange(self, sender, receiver, addr):
        """Full bursts; the receiver answers the sender's question meanwhile."""
        for _ in range(3):
            packets = [packet(self.rng, size, i)
                       for i, size in enumerate([4096] * 30 + [0, 8, 1023])]
            receiver.tell(f"recv {len(packets)} {net.WAIT_S * 1000}")
            receiver.process.stdin.flush()
            sender.send(addr, packets)
            sender.recv(1, 300)  # the answer
            found = []
            while True:
                line = receiver.answer()
                if line == "end":
                    break
                found.append(bytes.fromhex(line.split()[2]))
            self.assertEqual(found, [data for _, data in packets])
        stats = receiver.stats()
        self.assertEqual(stats["rx_bad_icrc"], 0)
        return stats

    def test_two_ports(self):
        for version in 4, 6:
            sender = self.open(version)
            receiver = self.open(version, addr=PEER[version], ifname="v1",
                                 prefix=veth.in_peer())
            self.exchange(sender, receiver, PEER[version])
            sender.close()
            receiver.close()

    def test_on_one_interface(self):
        sender = self.open(4)
        receiver = self.open(4, addr=PEER[4])
        self.exchange(sender, receiver, PEER[4])

    def test_whole_bursts(self):
        """Between kernels that leave the cutting to the receiver."""
        net.run("ethtool", "-K", "v0", "tx", "on")
        self.addCleanup(net.run, "ethtool", "-K", "v0", "tx", "off")
        for version in 4, 6:
            sender = self.open(version)
            receiver = self.open(version, addr=PEER[version], ifname="v1",
                                 prefix=veth.in_peer())
            stats = self.exchange(sender, receiver, PEER[version])
            self.assertLess(stats["rx_syscalls"], stats["rx_packets"] / 2)
            sender.close()
            receiver.close()

    def test_udp_link(self):
        """A device on the kernel's address, both ways."""
        # or the kernel would ask us now and then, in other tests
        self.addCleanup(net.run, "ip", "-n", net.PEER, "neigh", "flush", "dev", "v1")
        for version, own in (4, veth.addr4[1]), (6, veth.addr6[1]):
            port = self.open(version)
            udp = Link(TOOL, own, prefix=veth.in_peer())
            packets = [packet(self.rng, size, i) for i, size in enumerate([4096] * 30 + [8])]
            port.send(own, packets)
            port.recv(1, 300)  # the kernel's answer
            self.assertEqual([d for _, _, d in udp.recv(len(packets))],
                             [data for _, data in packets])
            port.tell(f"recv {len(packets)} {net.WAIT_S * 1000}")
            port.process.stdin.flush()
            udp.send(OURS[version], packets)
            found = []
            while (line := port.answer()) != "end":
                found.append(bytes.fromhex(line.split()[2]))
            self.assertEqual(found, [data for _, data in packets])
            self.assertEqual(port.stats()["rx_bad_icrc"], 0)
            udp.close()
            port.close()

    def test_to_itself(self):
        link = self.open()
        packets = [packet(self.rng, 4096, i) for i in range(20)]
        link.send(OURS[4], packets)
        self.assertEqual([d for _, _, d in link.recv(20)], [data for _, data in packets])


if __name__ == "__main__":
    net.enter()
    del sys.argv[1]
    unittest.main(verbosity=2)
