# SPDX-License-Identifier: BSD-3-Clause
"""Two queue pairs of one device, connected to each other, against what memory does."""

import json
from functools import partial

from lib.common import call, tool
from lib.sections import Section, Target


def measure(way, metric, bench):
    side = bench.sides[0]
    # Not pinned: its two threads pin themselves.
    text = call("ip", "netns", "exec", side.netns, tool("same_device"), side.under, way,
                str(bench.seconds))
    return {metric[1]: json.loads(text)[metric[0]]}


TIME, SPEED = ("half_round_trip_us", "us"), ("gbps", "gbps")
SECTION = Section(
    "same-device",
    {"ring": partial(measure, "ring", TIME), "send": partial(measure, "pingpong", TIME),
     "memcpy": partial(measure, "memcpy", SPEED),
     "write": partial(measure, "write", SPEED)},
    [Target("SEND of 64 B / bare ring, half round trip", "send", "ring", "us", 2.0,
            at_least=False),
     Target("WRITE of 1 MiB / memcpy", "write", "memcpy", "gbps", 0.8)])
