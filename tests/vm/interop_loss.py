#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What loss costs our device and Linux' rdma_rxe, each sending to the other.

The same segment and guest as in interop.py, which loses packets of both directions. For
each rate and sender: goodput as a part of that without loss, and the part of the data
packets that had been sent before. The figures are for docs/interop.md; the test fails
only if a transfer does.
Usage: interop_loss.py [--rounds N] VRDMA_RUN
"""

import argparse
import os
import re
import statistics
import sys
import tempfile

import interop
import net
from wire import Wire

SIZE, COUNT = 65536, 200
RATES = (0, 0.001, 0.01, 0.05)
COMMAND = f"ib_write_bw -F -x {{gid}} -s {SIZE} -n {COUNT}"


def bandwidth(text):
    """perftest's last average, MiB/s."""
    return float(re.findall(rf"^ *{SIZE} +{COUNT} +[\d.]+ +([\d.]+)", text, re.M)[-1])


def transfer(suite, wire, sender, rate):
    """Return {goodput, again}, or None if the programs did not end well."""
    wire.set_mischief({"drop": rate})
    failed = suite.failed
    suite.pair(COMMAND, "rxe" if sender == "ours" else "ours", f", {100 * rate} % lost",
               False)
    counts = wire.set_mischief({})[sender == "rxe"]
    if suite.failed != failed:
        return None
    said = (suite.ours if sender == "ours" else suite.guest).said()
    return {"goodput": bandwidth(said), "again": counts.get("again", 0) / counts["data"]}


def measure(suite, wire, rounds):
    """Return {(sender, rate): [what transfer() gave, of each round]}."""
    results = {(sender, rate): [] for sender in ("ours", "rxe") for rate in RATES}
    for _ in range(rounds):
        for (sender, rate), rows in results.items():
            row = transfer(suite, wire, sender, rate)
            if row:
                rows.append(row)
    return results


def show(results):
    for (sender, rate), rows in results.items():
        if not rows or not results[sender, 0]:
            continue
        speed, again = (statistics.median(row[what] for row in rows)
                        for what in ("goodput", "again"))
        whole = statistics.median(row["goodput"] for row in results[sender, 0])
        print(f"{sender} sends, {100 * rate:4} % lost: {speed:7.2f} MiB/s, "
              f"{speed / whole:.2f} of that without loss; sent again {100 * again:.1f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("vrdma_run")
    args = parser.parse_args()
    why = interop.missing()
    if why:
        print(f"skipped: {why}")
        return interop.SKIPPED
    net.enter()
    interop.segment()
    with tempfile.TemporaryDirectory(prefix="vrdma-interop-") as folder:
        os.mkdir(f"{folder}/kept")
        wire = Wire(interop.OUR_IF, interop.GUEST_IF, f"{folder}/kept")
        guest = interop.Guest(folder)
        try:
            ours = interop.Ours(args.vrdma_run, ["--addr", interop.OUR_ADDR], folder)
            suite = interop.Suite(ours, None, guest, wire, (None, None, None), "")
            results = measure(suite, wire, args.rounds)
        finally:
            guest.close()
        wire.close()
    show(results)
    return 1 if suite.failed else 0


if __name__ == "__main__":
    sys.exit(main())
