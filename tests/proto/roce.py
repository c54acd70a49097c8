# SPDX-License-Identifier: BSD-3-Clause
"""RoCEv2 as scapy sees it, for tests that judge our packets.

scapy's contrib layer has BTH, AETH and the CNP, and computes the ICRC over IPv4. The
other headers are declared here after the specification (IBTA volume 1, 9.3), and the ICRC
over IPv6 is computed from scapy's own layers (annex A17.3.3).
"""

import logging
import zlib

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

from scapy.contrib.roce import AETH, BTH, CNPPadding  # noqa: E402,F401
from scapy.fields import (  # noqa: E402
    BitField, ByteField, IntField, LongField, XIntField)
from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.packet import Packet, Raw  # noqa: E402

PORT = 4791


class DETH(Packet):
    name = "DETH"
    fields_desc = [XIntField("qkey", 0), ByteField("reserved", 0),
                   BitField("src_qpn", 0, 24)]


class RETH(Packet):
    name = "RETH"
    fields_desc = [LongField("va", 0), XIntField("rkey", 0), IntField("dma_len", 0)]


class AtomicETH(Packet):
    name = "AtomicETH"
    fields_desc = [LongField("va", 0), XIntField("rkey", 0), LongField("swap_add", 0),
                   LongField("compare", 0)]


class AtomicAckETH(Packet):
    name = "AtomicAckETH"
    fields_desc = [LongField("orig_data", 0)]


class ImmDt(Packet):
    name = "ImmDt"
    fields_desc = [XIntField("imm", 0)]


class IETH(Packet):
    name = "IETH"
    fields_desc = [XIntField("rkey", 0)]


def _connected(base):
    """What RC and UC have in common: table 38 of the specification."""
    rows = {0x00: [], 0x01: [], 0x02: [], 0x03: [ImmDt], 0x04: [], 0x05: [ImmDt],
            0x06: [RETH], 0x07: [], 0x08: [], 0x09: [ImmDt], 0x0a: [RETH],
            0x0b: [RETH, ImmDt]}
    return {base + operation: layers for operation, layers in rows.items()}


# opcode -> the headers behind BTH
HEADERS = {
    **_connected(0x00),
    0x0c: [RETH], 0x0d: [AETH], 0x0e: [], 0x0f: [AETH], 0x10: [AETH], 0x11: [AETH],
    0x12: [AETH, AtomicAckETH], 0x13: [AtomicETH], 0x14: [AtomicETH],
    0x16: [IETH], 0x17: [IETH],
    **_connected(0x20),
    0x64: [DETH], 0x65: [DETH, ImmDt],
    0x81: [CNPPadding],
}
NO_PAYLOAD = {0x0c, 0x11, 0x12, 0x13, 0x14, 0x81}

# our names of the fields -> (layer, scapy's name)
FIELDS = {
    "opcode": (BTH, "opcode"), "solicited": (BTH, "solicited"),
    "mig_req": (BTH, "migreq"), "ack_req": (BTH, "ackreq"), "fecn": (BTH, "fecn"),
    "becn": (BTH, "becn"), "pad": (BTH, "padcount"), "pkey": (BTH, "pkey"),
    "dest_qpn": (BTH, "dqpn"), "psn": (BTH, "psn"),
    "syndrome": (AETH, "syndrome"), "msn": (AETH, "msn"),
    "qkey": (DETH, "qkey"), "src_qpn": (DETH, "src_qpn"),
    "dma_len": (RETH, "dma_len"), "swap_add": (AtomicETH, "swap_add"),
    "compare": (AtomicETH, "compare"), "orig_data": (AtomicAckETH, "orig_data"),
    "imm": (ImmDt, "imm"),
}
# fields that several headers have
SHARED_FIELDS = {"va": (RETH, AtomicETH), "rkey": (RETH, AtomicETH, IETH)}


def width(layer, name):
    """Bits of a field."""
    field = layer().get_field(name)
    return field.size if isinstance(field, BitField) else 8 * field.sz


def fields_of(opcode):
    """The fields that a packet of this opcode has: name -> (layer, scapy's name)."""
    layers = [BTH] + HEADERS[opcode]
    found = {name: where for name, where in FIELDS.items() if where[0] in layers}
    for name, owners in SHARED_FIELDS.items():
        for layer in owners:
            if layer in layers:
                found[name] = (layer, name)
    return found


def transport(opcode, values, payload=b""):
    """BTH, the headers that go with the opcode, payload and pad, as a scapy packet."""
    packet = None
    for layer in [BTH] + HEADERS[opcode]:
        own = {scapy_name: values[name]
               for name, (owner, scapy_name) in fields_of(opcode).items()
               if owner is layer and name in values}
        if layer is BTH:
            own["opcode"] = opcode
            own["padcount"] = -len(payload) % 4
        part = layer(**own)
        packet = part if packet is None else packet / part
    if payload:
        packet = packet / Raw(payload + bytes(-len(payload) % 4))
    return packet


def dissect(data):
    """The headers in BTH-to-pad bytes, as {layer: packet}, and payload with pad."""
    bth = BTH(data[:12] + bytes(4))
    rest = data[12:]
    parts = {BTH: bth}
    for layer in HEADERS[bth.opcode]:
        size = len(layer())
        parts[layer] = layer(rest[:size])
        rest = rest[size:]
    return parts, rest


def icrc6(ip, udp, data):
    """The ICRC of an IPv6 packet; data is BTH to pad."""
    size = 8 + len(data) + 4
    pseudo = (b"\xff" * 8
              + bytes(IPv6(version=6, tc=0xff, fl=0xfffff, plen=size, nh=17, hlim=0xff,
                           src=ip.src, dst=ip.dst))
              + bytes(UDP(sport=udp.sport, dport=udp.dport, len=size, chksum=0xffff))
              + data[:4] + b"\xff" + data[5:])
    return zlib.crc32(pseudo).to_bytes(4, "little")


def icrc(ip, data):
    """The ICRC that scapy computes for the IP packet whose UDP payload is data and it."""
    if isinstance(ip, IPv6):
        return icrc6(ip, ip[UDP], data)
    header = IP(bytes(ip)[:20])
    header.len = None  # of a packet without payload; scapy fills it in anew
    udp = UDP(sport=ip[UDP].sport, dport=ip[UDP].dport)
    bth = BTH(data[:12] + bytes(4))
    bth.icrc = None
    return bytes(header / udp / bth / Raw(data[12:]))[-4:]


def receive(port):
    """The next RoCE packet that comes in at a net.PeerPort, as a scapy IP packet and
    its bytes; others, such as MLD, are passed over."""
    while True:
        data = port.receive()
        ip = (IP if data[0] >> 4 == 4 else IPv6)(data)
        if UDP in ip and ip[UDP].dport == PORT:
            return ip, data


def datagram(src, dst, data, crc=None, ecn=2, **udp):
    """A whole IP packet around BTH-to-pad bytes; crc replaces the right ICRC."""
    udp.setdefault("sport", 0xc0de)
    if ":" in src:
        ip = IPv6(src=src, dst=dst, tc=ecn)
    else:
        ip = IP(src=src, dst=dst, flags="DF", id=0x4321, tos=ecn)
    ip = ip / UDP(dport=PORT, **udp)
    return bytes(ip / Raw(data + (icrc(ip, data) if crc is None else crc)))
