# SPDX-License-Identifier: BSD-3-Clause
"""Large messages: RC SEND and WRITE, over UDP sockets and over a packet port, against
kernel TCP and bare UDP with GSO and GRO.
"""

from functools import partial

from lib.nodes import LINKS, iperf, pair
from lib.sections import Section, Target

SIZES = {"64K": 1 << 16, "256K": 1 << 18, "1M": 1 << 20}
# As many bytes under way as the device's window has: more would only leave the caches.
UNDER_WAY = 2 << 20
PATH_MTU = 4096
SEGMENT = PATH_MTU + 12 + 4     # BTH and ICRC


def verbs(options, size, own, bench):
    got = pair(bench.sides, "verbs_bw", "--size", str(size), "--depth",
               str(UNDER_WAY // size), "--seconds", str(bench.seconds), *options,
               own=own)
    return {"gbps": got["bytes"] * 8e-9 / got["seconds"]}


def udp(bench):
    got = pair(bench.sides, "udp_bare", "--stream", "--size", str(SEGMENT),
               "--seconds", str(bench.seconds))
    return {"gbps": got["bytes"] * 8e-9 / got["seconds"]}


def tcp(bench):
    rate, _ = iperf(bench.sides, bench.sides[1].under, 1, bench.seconds)
    return {"gbps": rate / 1e9}


def section():
    ways = {"tcp": tcp, "udp": udp}
    targets = []
    for name, options in (("send", ()), ("write", ("--write",))):
        for label, size in SIZES.items():
            for link, own in LINKS.items():
                way = f"{name} {label} {link}"
                ways[way] = partial(verbs, options, size, own)
                targets += [Target(f"{way} / kernel TCP", way, "tcp", "gbps", 1.3),
                            Target(f"{way} / bare UDP", way, "udp", "gbps", 0.8)]
    return Section("bandwidth", ways, targets)


SECTION = section()
