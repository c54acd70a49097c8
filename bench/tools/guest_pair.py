#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Two guests on a bridge of this network namespace: NPtcp between them, in turn by TCP and
by the socket shim. Prints JSON: {"tcp": {...}, "shim": {...}}, medians.

Usage: unshare --net guest_pair.py ROUNDS
"""

import json
import os
import re
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
# pylint: disable=wrong-import-position
from lib import guests  # noqa: E402
from lib.common import BenchError  # noqa: E402
from lib.guests import Guest  # noqa: E402

NETPIPE_PORT = 5002
COUNT = {64: 1000, 1 << 20: 20}     # bytes of a message: how many of them


def netpipe(server, client, shim, size):
    """Return half the round trip of @size bytes in us."""
    command = ["NPtcp", "-l", str(size), "-u", str(size), "-p", "0", "-n",
               str(COUNT[size]), "-o", "/dev/null"]
    running = server.serve(*command, port=NETPIPE_PORT, shim=shim)
    # It prints its rows on standard error.
    text = client.app("sh", "-c", '"$@" 2>&1', "sh", *command, "-h", server.address,
                      shim=shim)
    server.stop(running)
    rows = re.findall(rf" {size} bytes .* in\s+([\d.]+) usec", text)
    if not rows:
        raise BenchError(f"NPtcp measured nothing:\n{text}")
    return float(rows[-1])


def measure(server, client, shim):
    usec = {size: netpipe(server, client, shim, size) for size in COUNT}
    return {"usec_64": usec[64], "gbps_1m": (8 << 20) / usec[1 << 20] / 1e3}


def main():
    rows = {"tcp": [], "shim": []}
    guests.make_bridge()
    with tempfile.TemporaryDirectory(prefix="vrdma-bench-") as folder, \
            guests.region() as shared, Guest("server", shared, folder) as server, \
            Guest("client", shared, folder) as client:
        for guest in server, client:
            guest.set_up()
        for _ in range(int(sys.argv[1])):
            for way, row in rows.items():
                row.append(measure(server, client, way == "shim"))
        if shared.counters("server")["accepted"] != len(COUNT) * len(rows["shim"]):
            raise BenchError("the guests' connections did not use rings")
    print(json.dumps({way: {name: statistics.median(each[name] for each in row)
                            for name in row[0]} for way, row in rows.items()}))


if __name__ == "__main__":
    main()
