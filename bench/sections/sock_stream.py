# SPDX-License-Identifier: BSD-3-Clause
"""Large messages in one direction, against TCP and a bare copy in and out."""

from functools import partial

from lib.nodes import pair
from lib.sections import Section, Target

SIZES = {"64k": 64 << 10, "256k": 256 << 10, "1024k": 1 << 20, "8192k": 8 << 20}


def stream(which, bench):
    row = {}
    for label, size in SIZES.items():
        got = pair(getattr(bench, which), "sock_pair", "--stream", str(size),
                   "--seconds", str(bench.seconds))
        row[label] = got["bytes"] * 1e-9 / got["seconds"]
    return row


def copy(bench):
    bench.measure_rings()
    return {label: bench.rings[f"copy-{label}"] for label in SIZES}


SECTION = Section(
    "stream (GB/s)",
    {"copy": copy, "tcp": partial(stream, "tcp"), "shim": partial(stream, "shim")},
    [Target(f"{label}: shim / TCP", "shim", "tcp", label, 4) for label in SIZES] +
    [Target(f"{label}: shim / bare copy", "shim", "copy", label, 0.8) for label in SIZES])
