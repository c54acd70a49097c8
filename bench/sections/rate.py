# SPDX-License-Identifier: BSD-3-Clause
"""Small messages with many outstanding, against packets of sendmmsg() and recvmmsg()
without GSO; either side has one core.
"""

from lib.nodes import pair
from lib.sections import Section, Target

SIZE = "64"


def per_second(got):
    return {"millions": got["messages"] * 1e-6 / got["seconds"]}


def udp(bench):
    return per_second(pair(bench.sides, "udp_bare", "--rate", "--size", SIZE,
                           "--seconds", str(bench.seconds)))


def verbs(*options):
    def measure(bench):
        return per_second(pair(bench.sides, "verbs_bw", "--size", SIZE, "--depth", "512",
                               "--seconds", str(bench.seconds), *options))
    return measure


SECTION = Section(
    "rate",
    {"udp": udp, "send": verbs(), "write": verbs("--write")},
    [Target("SENDs of 64 B / bare UDP packets", "send", "udp", "millions", 3.0),
     Target("WRITEs of 64 B / bare UDP packets", "write", "udp", "millions", 3.0)])
