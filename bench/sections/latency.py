# SPDX-License-Identifier: BSD-3-Clause
"""Half the round trip of 64 bytes: RC SEND, over UDP sockets and over a packet port,
against a UDP ping-pong that polls.
"""

from functools import partial

from lib.nodes import LINKS, pair
from lib.sections import Section, Target


def pingpong(program, own, bench):
    got = pair(bench.sides, program, "--pingpong", "--size", "64",
               "--seconds", str(bench.seconds), own=own)
    return {"us": got["half_round_trip_us"]}


SECTION = Section(
    "latency",
    {"udp": partial(pingpong, "udp_bare", LINKS["sockets"]),
     **{f"send {link}": partial(pingpong, "verbs_bw", own) for link, own in LINKS.items()}},
    [Target(f"SEND of 64 B {link} / bare UDP, half round trip", f"send {link}", "udp",
            "us", 1.15, at_least=False) for link in LINKS])
