#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""bad_frames.py INTERFACE DESTINATION-MAC - runs in a guest: sends runts, oversize
frames and frames whose virtio-net header does not fit them, then random ones.

Uses a packet socket with PACKET_VNET_HDR (Linux packet(7); the header: virtio 1.1,
section 5.1.6). The guest's kernel refuses some of them itself. Prints "sent N of M".
"""

import random
import socket
import struct
import sys

SOL_PACKET, PACKET_VNET_HDR = 263, 15
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 3, 4, 5, 0x80
TCP_CSUM_START, TCP_CSUM_OFFSET = 34, 16
IPV4, IPV6 = 0x0800, 0x86dd


def vnet(flags=0, gso=GSO_NONE, hdr_len=0, gso_size=0, start=0, offset=0):
    return struct.pack("<BBHHHH", flags, gso, hdr_len, gso_size, start, offset)


def frame(ethernet, size, ihl=5, total=None, fragment=0, protocol=6, doff=5):
    """An Ethernet frame with an IPv4 and a TCP header, as right as is asked."""
    total = size - 14 if total is None else total
    ipv4 = struct.pack(">BBHHHBBH4s4s", 0x40 | ihl, 0, total & 0xffff, 1, fragment,
                       64, protocol, 0, b"\x0a\x09\x01\x01", b"\x0a\x09\x00\x02")
    tcp = struct.pack(">HHIIBBHHH", 1000, 2000, 1, 1, doff << 4, 0x10, 1000, 0, 0)
    return (ethernet + ipv4 + tcp).ljust(size, b"\0")[:size]


def known_bad(ethernet):
    """Yield (virtio-net header, frame)."""
    for size in (14, 15, 20, 33, 34, 53, 54, 59, 60):           # runts
        yield vnet(), frame(ethernet, size)
        yield vnet(NEEDS_CSUM, start=14, offset=0), frame(ethernet, size)
    for size in (1515, 1519, 1523, 2000, 4000, 8999):           # beyond the MTU
        yield vnet(), frame(ethernet, size)
    for gso in (GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN):
        for gso_size in (1, 8, 47, 48, 1448, 9000, 65535):
            for size in (54, 55, 100, 1514, 20000, 65000):
                yield (vnet(NEEDS_CSUM, gso, 54, gso_size, TCP_CSUM_START,
                            TCP_CSUM_OFFSET), frame(ethernet, size))
    good = vnet(NEEDS_CSUM, GSO_TCPV4, 54, 1448, TCP_CSUM_START, TCP_CSUM_OFFSET)
    for change in ({"ihl": 0}, {"ihl": 4}, {"ihl": 15}, {"total": 0}, {"total": 19},
                   {"total": 65535}, {"fragment": 0x2000}, {"fragment": 1},
                   {"protocol": 17}, {"protocol": 132}, {"doff": 0}, {"doff": 15}):
        for size in (54, 74, 1514, 20000):
            yield good, frame(ethernet, size, **change)
    for start, offset in ((0, 0), (0, 65535), (14, 10), (60, 16), (1500, 16)):
        yield vnet(NEEDS_CSUM, 0, 0, 0, start, offset), frame(ethernet, 1514)


def random_bad(ethernet, rng, count):
    for _ in range(count):
        header = vnet(rng.choice((0, NEEDS_CSUM)),
                      rng.choice((0, 0, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4)),
                      rng.randrange(128), rng.choice((0, 1, 500, 1448, 65535)),
                      rng.choice((14, 34, 54, rng.randrange(2000))),
                      rng.choice((0, 6, 16, rng.randrange(64))))
        body = bytearray(frame(ethernet, rng.choice((20, 54, 60, 100, 1514, 30000))))
        for _ in range(rng.randrange(8)):
            body[rng.randrange(12, min(len(body), 60))] = rng.randrange(256)
        yield header, bytes(body)


def main():
    interface, destination = sys.argv[1:]
    with open(f"/sys/class/net/{interface}/address", encoding="ascii") as file:
        source = file.read().strip()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sock.bind((interface, 0))
        sent = tried = 0
        for mac, ethertype in ((destination, IPV4), (destination, IPV6),
                               ("ff:ff:ff:ff:ff:ff", IPV4)):
            ethernet = (bytes.fromhex(mac.replace(":", "")) +
                        bytes.fromhex(source.replace(":", "")) +
                        struct.pack(">H", ethertype))
            rng = random.Random(ethertype)
            for header, body in [*known_bad(ethernet), *random_bad(ethernet, rng, 500)]:
                tried += 1
                try:
                    sock.send(header + body)
                    sent += 1
                except OSError:     # the guest's kernel knows better
                    pass
    print(f"sent {sent} of {tried}")


if __name__ == "__main__":
    main()
