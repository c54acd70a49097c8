# SPDX-License-Identifier: BSD-3-Clause
"""What a bad wire leaves of an RC queue pair's throughput: 10 Gb/s, round trip 50 us and
1 ms, loss, reordering and duplication in percent of the packets, both ways.

In virtual time, so a run gives the same everywhere; rounds differ by their seed alone.
"""

import itertools
import json

from lib.common import call, tool
from lib.sections import Section, Target

MIB, GBIT = "64", "10"
# name -> packets per million: lost, overtaken, doubled
WIRES = {"good": (0, 0, 0), "loss 0.1%": (1000, 0, 0), "loss 1%": (10000, 0, 0),
         "loss 5%": (50000, 0, 0), "reorder 1%": (0, 10000, 0),
         "double 1%": (0, 0, 10000)}
# name -> microseconds
ROUND_TRIPS = {"50us": "50", "1ms": "1000"}


def over(ppm, rtt_us):
    seeds = itertools.count(1)

    def measure(_bench):
        seed = str(next(seeds))
        found = {}
        for operation in ("write", "read"):
            text = call(tool("lossy_wire"), operation, seed, MIB, rtt_us, GBIT,
                        *map(str, ppm))
            found[operation] = json.loads(text)["gbits"]
        return found
    return measure


SECTION = Section(
    "loss",
    {f"{trip} {name}": over(ppm, rtt_us)
     for trip, rtt_us in ROUND_TRIPS.items() for name, ppm in WIRES.items()},
    [Target("WRITE at 1 % loss / without, 50 us", "50us loss 1%", "50us good", "write",
            0.5),
     Target("READ at 1 % loss / without, 50 us", "50us loss 1%", "50us good", "read",
            0.5)])
