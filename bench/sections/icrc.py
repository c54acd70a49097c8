# SPDX-License-Identifier: BSD-3-Clause
"""The ICRC in one pass with the copy, against the copy alone, out of cache."""

import json
from functools import partial

from lib.common import call, tool
from lib.sections import Section, Target

WAYS = ("memcpy", "fused", "memcpy+crc", "pclmul", "words")


def copy(way, bench):
    text = call("taskset", "-c", str(bench.sides[1].core), tool("crc_copy"), way,
                str(bench.seconds))
    return {"ns": json.loads(text)["ns"]}


SECTION = Section(
    "icrc", {way: partial(copy, way) for way in WAYS},
    [Target("fused copy and CRC of 4 KiB / memcpy", "fused", "memcpy", "ns", 1.15,
            at_least=False)])
