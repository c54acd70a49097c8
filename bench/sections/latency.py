# SPDX-License-Identifier: BSD-3-Clause
"""Half the round trip of 64 bytes: RC SEND against a UDP ping-pong that polls."""

from functools import partial

from lib.nodes import pair
from lib.sections import Section, Target


def pingpong(program, bench):
    got = pair(bench.sides, program, "--pingpong", "--size", "64",
               "--seconds", str(bench.seconds))
    return {"us": got["half_round_trip_us"]}


SECTION = Section(
    "latency",
    {"udp": partial(pingpong, "udp_bare"), "send": partial(pingpong, "verbs_bw")},
    [Target("SEND of 64 B / bare UDP, half round trip", "send", "udp", "us", 1.15,
            at_least=False)])
