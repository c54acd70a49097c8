#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Our packet formats judged by scapy, in both directions and for every opcode.

Usage: wire_scapy.py WIRE_TOOL
"""

import json
import random
import sys
import unittest

import net
import roce
from roce import BTH, HEADERS, IP, IPv6, NO_PAYLOAD, UDP

TOOL = sys.argv.pop(1)
ROUNDS = 20
SIZES = [0, 1, 2, 3, 4, 5, 63, 64, 256, 1000, 4096]
V4 = ("10.0.0.1", "192.168.255.254")
V6 = ("fd00::1", "fe80::1234:5678")


class Tool(net.Tool):
    def parse(self, data):
        return json.loads(self.ask("parse " + data.hex()))

    def build(self, values):
        values = dict(values)
        if "imm" in values:  # the tool has it as it lies on the wire
            values["imm_be"] = int.from_bytes(values.pop("imm").to_bytes(4, "big"), "little")
        return bytes.fromhex(self.ask("build " + " ".join(
            f"{name}={value}" for name, value in values.items())))

    def icrc(self, src, dst, sport, ip_id, data):
        return bytes.fromhex(self.ask(f"icrc {src} {dst} {sport} {ip_id} {data.hex()}"))


def random_values(rng, opcode):
    """A value for each field that the opcode has, extremes often."""
    values = {}
    for name, (layer, scapy_name) in roce.fields_of(opcode).items():
        top = (1 << roce.width(layer, scapy_name)) - 1
        values[name] = rng.choice([0, 1, top, rng.randint(0, top), rng.randint(0, top)])
    values["opcode"] = opcode
    return values


def ip_header(rng, version):
    if version == 4:
        return IP(src=V4[0], dst=V4[1], flags="DF", id=rng.randint(0, 0xffff),
                  ttl=rng.randint(1, 255), tos=rng.randint(0, 255))
    return IPv6(src=V6[0], dst=V6[1], tc=rng.randint(0, 255), fl=rng.randint(0, 0xfffff),
                hlim=rng.randint(1, 255))


class Scapy(unittest.TestCase):
    def setUp(self):
        self.rng = random.Random(1)
        self.tool = Tool([TOOL])
        self.addCleanup(self.tool.close)

    def samples(self):
        for opcode in HEADERS:
            for i in range(ROUNDS):
                size = 0 if opcode in NO_PAYLOAD else SIZES[i % len(SIZES)]
                yield opcode, random_values(self.rng, opcode), self.rng.randbytes(size)

    def our_icrc(self, ip, data):
        return self.tool.icrc(ip.src, ip.dst, ip[UDP].sport, getattr(ip, "id", 0), data)

    def test_same_opcodes(self):
        names = json.loads(self.tool.ask("opcodes"))
        self.assertEqual(set(names.values()), set(HEADERS))
        for text, value in BTH().get_field("opcode").s2i.items():
            if not text.startswith("RD_"):  # which no RoCE device speaks
                self.assertIn(value, names.values(), text)

    def test_ours_to_scapy(self):
        for opcode, values, payload in self.samples():
            values["pad"] = -len(payload) % 4
            data = self.tool.build(values) + payload + bytes(values["pad"])
            parts, rest = roce.dissect(data)
            for name, (layer, scapy_name) in roce.fields_of(opcode).items():
                self.assertEqual(parts[layer].getfieldval(scapy_name), values[name],
                                 f"{name} of opcode {opcode:#x}")
            self.assertEqual(parts[BTH].version, 0)
            self.assertEqual(parts[BTH].resv6, 0)
            self.assertEqual(parts[BTH].resv7, 0)
            self.assertEqual(rest, payload + bytes(values["pad"]))

    def test_scapy_to_ours(self):
        for opcode, values, payload in self.samples():
            values["pad"] = -len(payload) % 4
            # an ICRC of any value, as without one scapy wants to compute it
            packet = roce.transport(opcode, values, payload)
            packet[BTH].icrc = 0
            data = bytes(packet)[:-4]
            got = self.tool.parse(data)
            if "imm" in values:
                got["imm"] = int.from_bytes(got["imm_be"].to_bytes(4, "little"), "big")
            for name, value in values.items():
                self.assertEqual(got[name], value, f"{name} of opcode {opcode:#x}")
            self.assertEqual(got["payload"], payload.hex())

    def test_icrc(self):
        for opcode, values, payload in self.samples():
            values["pad"] = -len(payload) % 4
            data = self.tool.build(values) + payload + bytes(values["pad"])
            for version in 4, 6:
                ip = ip_header(self.rng, version) / UDP(
                    sport=self.rng.randint(0xc000, 0xffff), dport=roce.PORT)
                self.assertEqual(self.our_icrc(ip, data), roce.icrc(ip, data),
                                 f"IPv{version}, opcode {opcode:#x}, {len(payload)} bytes")

    def test_whole_packet_of_scapy(self):
        """Nothing but scapy's own layers: the ICRC that it puts behind an ACK."""
        packet = (IP(src=V4[0], dst=V4[1], id=7, flags="DF") / UDP(sport=0xc001, dport=4791)
                  / BTH(opcode="RC_ACKNOWLEDGE", dqpn=17, psn=5) / roce.AETH(msn=3))
        wire = bytes(packet)[28:]
        self.assertEqual(self.our_icrc(packet, wire[:-4]), wire[-4:])
        got = self.tool.parse(wire[:-4])
        self.assertEqual((got["opcode"], got["dest_qpn"], got["psn"], got["msn"]),
                         (0x11, 17, 5, 3))


if __name__ == "__main__":
    unittest.main(verbosity=2)
