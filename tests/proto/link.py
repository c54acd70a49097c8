# SPDX-License-Identifier: BSD-3-Clause
"""A link of ours under a test's control (link_tool.c), and packets for it."""

import json

import net
import roce
from roce import BTH, IP, UDP


class Link(net.Tool):
    """A link; @where: an address, or "port", interface and what else link_tool takes."""

    def __init__(self, tool, *where, prefix=()):
        super().__init__([*prefix, tool, *where])
        answer = self.answer().split()
        if answer[0] == "error":
            self.close()
            raise OSError(int(answer[1]), f"no link on {where}")
        self.ifname, self.mtu = answer[1:]

    def send(self, dst, packets, sport_hash=0):
        for hdr_len, data in packets:
            self.tell(f"packet {dst} {sport_hash} {hdr_len} {data.hex()}")
        self.ask("send")

    def recv(self, n, timeout_ms=net.WAIT_S * 1000):
        found = []
        line = self.ask(f"recv {n} {timeout_ms}")
        while line != "end":
            src, ecn, data = line.split()
            found.append((src, int(ecn), bytes.fromhex(data)))
            line = self.answer()
        return found

    def stats(self):
        return json.loads(self.ask("stats"))


def packet(rng, size, psn, opcode=0x04):
    """(header length, BTH to pad) of a packet with this much payload."""
    values = {"psn": psn, "dest_qpn": 0x11, "pkey": 0xffff, "rkey": 5, "va": 0x1000}
    if size:
        bth = roce.transport(opcode, values, rng.randbytes(size))
    else:
        bth = roce.transport(opcode, values)
    bth[BTH].icrc = 0
    data = bytes(bth)[:-4]
    return len(data) - size - -size % 4, data


def judge(test, ip, data, sent, addr, ids):
    """A captured packet: addresses, length, DF, UDP checksum, content and ICRC."""
    version = 4 if isinstance(ip, IP) else 6
    test.assertEqual((ip.src, ip.dst), tuple(addr))
    test.assertGreaterEqual(ip[UDP].sport, 0xc000)
    if version == 4:
        test.assertEqual(ip.flags, "DF")
        test.assertEqual(ip.len, len(data))
        test.assertIn(ip.id, ids)
        checksum = ip.chksum
        del ip.chksum
        test.assertEqual(IP(bytes(ip)).chksum, checksum, "IPv4 checksum")
    udp = data[20 if version == 4 else 40:]
    test.assertEqual(ip[UDP].len, len(udp))
    test.assertEqual(udp[8:-4], sent)
    test.assertEqual(udp[-4:], roce.icrc(ip, sent), "ICRC")
    checksum = ip[UDP].chksum
    del ip[UDP].chksum
    test.assertEqual(type(ip)(bytes(ip))[UDP].chksum, checksum, "UDP checksum")
