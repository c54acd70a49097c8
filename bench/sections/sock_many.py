# SPDX-License-Identifier: BSD-3-Clause
"""Many connections: their cost in time, CPU and memory."""

from functools import partial

from lib.nodes import pair
from lib.sections import Section, Target

N_CONN, N_ACTIVE = 1000, 10
# "No CPU" and "no memory": what a measurement can tell from nothing.
NO_CPU, NO_KIB = 0.002, 4


def many(which, n_conn, bench):
    got = pair(getattr(bench, which), "sock_pair", "--many", str(n_conn), "--active",
               str(N_ACTIVE), "--seconds", str(bench.seconds))
    return {"trips_per_s": got["trips"] / got["seconds"], "kib_idle": got["kib_idle"],
            "kib_used": got["kib_used"], "kib_closed": got["kib_closed"]}


MANY = Section("many", {
    "10 tcp": partial(many, "tcp", N_ACTIVE),
    "10 of 1000 tcp": partial(many, "tcp", N_CONN),
    "10 shim": partial(many, "shim", N_ACTIVE),
    "10 of 1000 shim": partial(many, "shim", N_CONN),
    "limit": lambda bench: {"kib_closed": NO_KIB},
}, [
    Target("rate, 10 of 1000 / 10 alone", "10 of 1000 shim", "10 shim", "trips_per_s", 0.9),
    Target(f"memory kept after close / {NO_KIB} KiB", "10 of 1000 shim", "limit",
           "kib_closed", 1, at_least=False),
])


def idle(which, bench):
    got = pair(getattr(bench, which), "sock_pair", "--idle", str(N_CONN), "--seconds",
               str(max(bench.seconds, 1)))
    return {"cpu": got["cpu"] / got["seconds"]}


IDLE = Section("idle", {
    "tcp": partial(idle, "tcp"), "shim": partial(idle, "shim"),
    "limit": lambda bench: {"cpu": NO_CPU},
}, [Target(f"{N_CONN} idle connections / {NO_CPU * 100} % of a core", "shim", "limit", "cpu",
           1, at_least=False)])
