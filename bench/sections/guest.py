# SPDX-License-Identifier: BSD-3-Clause
"""In a guest: WRITEs of 64 KiB on our device against Linux' own software RoCE device,
rdma_rxe, in the same kind of guest. Debian's kernel has no siw.

Each measurement boots a guest. Without KVM the guest's processor is emulated; then only
the ratio says something.
"""

import re
import tempfile
from functools import partial

from lib.common import BUILD, ROOT, BenchError, call
from lib.sections import Section, Target

BYTES = "65536"
# Two seconds for rxe, one for ours: an emulator translates code when it first runs.
COUNT = "6000"
PATIENCE = 240      # seconds; booting takes about 5


def measure(way, _bench):
    with tempfile.TemporaryDirectory(prefix="vrdma-bench-") as folder:
        text = call(f"{ROOT}/guest/launch", "--name", "bench-guest", "--run-dir", folder,
                    "--cpus", "2", "--", "bash", f"{ROOT}/bench/tools/guest-bw.sh", way,
                    BYTES, COUNT,
                    f"{BUILD}/rdma/run/vrdma-run", timeout=PATIENCE)
    found = re.search(r"^Gb/s ([\d.]+)", text, re.MULTILINE)
    if not found:
        raise BenchError(f"the guest measured nothing:\n{text}")
    return {"gbps": float(found[1])}


SECTION = Section(
    "guest", {"rxe": partial(measure, "rxe"), "vrdma": partial(measure, "vrdma")},
    [Target("WRITE of 64 KiB / rdma_rxe", "vrdma", "rxe", "gbps", 5.0)])
