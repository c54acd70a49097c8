#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Run socket_sets by the socket shim: all of its connections must get rings.

Usage: socket_sets.py VRDMA_RUN VRDMA_IVSHMEM SOCKET_SETS
"""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
from lib.region import Region  # noqa: E402

CONNECTIONS = 32
RUN, SERVER, PROGRAM = sys.argv[1:4]

with Region(SERVER) as region:
    subprocess.run([RUN, "--sockets", "--region", region.socket, "--", PROGRAM], check=True)
    if region.counters()["paired"] != CONNECTIONS:
        sys.exit("not all connections got a ring")
