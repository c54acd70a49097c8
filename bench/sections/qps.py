# SPDX-License-Identifier: BSD-3-Clause
"""Small messages over 10 000 queue pairs, each in its turn, against as many outstanding
over 16; and what a connected queue pair that does nothing takes of memory.

What is posted to a queue pair in one go shares a system call, whatever other queue pairs
do. So both sides of a comparison post alike: 64 requests at a time, or one.
"""

import json

from lib.common import call, tool
from lib.nodes import pair
from lib.sections import Section, Target
from sections.rate import SIZE, per_second

STATE_MAX = 1024


def over(qps, depth, outstanding):
    def measure(bench):
        return per_second(pair(bench.sides, "verbs_bw", "--size", SIZE, "--qps", qps,
                               "--depth", depth, "--outstanding", outstanding,
                               "--seconds", str(bench.seconds)))
    return measure


def state(_bench):
    got = json.loads(call(tool("qp_state")))
    # A receive queue of its own is one of its rings.
    return {"bytes": got["shared_queue_bytes"],
            "with receive queue": got["own_queue_bytes"]}


def allowed(_bench):
    return {"bytes": STATE_MAX}


SECTION = Section(
    "qps",
    {"16": over("16", "64", "1024"), "10000": over("10000", "64", "1024"),
     "16 singly": over("16", "1", "16"), "10000 singly": over("10000", "1", "16"),
     "state": state, "allowed": allowed},
    [Target("64 B over 10 000 queue pairs / over 16, 64 at a time", "10000", "16",
            "millions", 0.8),
     Target("64 B over 10 000 queue pairs / over 16, one at a time", "10000 singly",
            "16 singly", "millions", 0.8),
     Target("state of an idle queue pair / 1 KiB", "state", "allowed", "bytes", 1.0,
            at_least=False)])
