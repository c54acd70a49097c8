#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Judges the socket shim: the same scenarios with the kernel's TCP and with the shim.

Every scenario's log holds all that a program can observe of its socket calls, so the two
logs must be the same, byte for byte. And each byte that was sent must have gone through
the ring with the shim (the tool asks the kernel how much its TCP carried): what passes
by falling back to TCP has not passed.

Without a shim the kernel is compared with itself, several times: that shows that the
scenarios are deterministic, so that a difference is the shim's.
"""

import argparse
import concurrent.futures
import contextlib
import difflib
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, f"{HERE}/../proto", f"{HERE}/../../bench"]
import corners                       # noqa: E402
import generate                      # noqa: E402
import net                           # noqa: E402
from guests import find_memory, wait_for     # noqa: E402
from lib.region import Region        # noqa: E402

BATCH = 12           # scenarios of one process of the tool
BATCH_S = 400        # for these; only a failure takes so long
N_JOBS = 2
GUEST = "b"
REGION_BYTES = 64 << 20


class Places:
    """Where lanes A and B live, and their addresses."""

    def __init__(self, apart):
        if apart:
            net.Veth()
            # Logs know a port by its number: the same at both hosts would be one.
            for where, ports in ([], "20000 39999"), (net.Veth.in_peer(), "40000 60999"):
                net.run(*where, "sysctl", "-qw", f"net.ipv4.ip_local_port_range={ports}")
            self.netns = f"/run/netns/{net.PEER}"
            hosts = net.Veth.addr4 + net.Veth.addr6
        else:
            net.run("ip", "link", "set", "lo", "up")
            self.netns = None
            hosts = ("127.0.0.1", "127.0.0.1", "::1", "::1")
        self.given = dict(zip(("A", "B", "A6", "B6"), hosts))
        self.region_b = None    # of lane B, if it is a guest

    def options(self):
        words = ["-n", self.netns] if self.netns else []
        words += ["-r", self.region_b] if self.region_b else []
        for name, value in self.given.items():
            words += ["-d", f"{name}={value}"]
        return words


def write_scenarios(scenarios, folder):
    paths = []
    for name, lines in scenarios:
        paths.append(os.path.join(folder, name + ".scn"))
        with open(paths[-1], "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return paths


def run_batch(tool, places, paths, folder, shim):
    """Run some of the scenarios; the results are files in @folder. Returns complaints.
    @shim: environment of the lanes, or None
    """
    words = [tool, "-o", folder, *places.options()]
    env = dict(os.environ)
    if shim:        # for the lanes alone, not for the tool
        env.update(shim)
        words += ["-p", env.pop("LD_PRELOAD")]
    try:
        done = subprocess.run(words + paths, env=env, timeout=BATCH_S, check=False,
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except subprocess.TimeoutExpired:
        return f"not ended after {BATCH_S} s: {' '.join(paths)}"
    return f"ended with {done.returncode}: {done.stderr}" if done.returncode else done.stderr


def run_all(tool, places, paths, shim=None):
    """Return ({name: log}, {name: (sends by the ring, by the kernel)})."""
    with tempfile.TemporaryDirectory() as folder:
        with concurrent.futures.ThreadPoolExecutor(N_JOBS) as pool:
            batches = [pool.submit(run_batch, tool, places, paths[i:i + BATCH], folder, shim)
                       for i in range(0, len(paths), BATCH)]
            for batch in batches:
                if batch.result():
                    print("conform:", batch.result())
        logs, ways = {}, {}
        for path in paths:
            name = os.path.basename(path)[:-len(".scn")]
            logs[name] = read(os.path.join(folder, name + ".log"))
            way = re.findall(r"\d+", read(os.path.join(folder, name + ".path")))
            ways[name] = tuple(map(int, way)) if way else (0, 0)
    return logs, ways


def read(path):
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def show_difference(name, expected, got):
    print(f"--- {name}: what the kernel does, and what it got")
    for line in difflib.unified_diff(expected.splitlines(), got.splitlines(), "kernel",
                                     "judged", n=1000, lineterm=""):
        print("   ", line)


def compare(names, expected, got, shown):
    """Return the names of scenarios that differ, after printing some."""
    wrong = [name for name in names if not expected[name] or expected[name] != got[name]]
    for name in wrong[:shown]:
        show_difference(name, expected[name], got[name])
    for name in wrong[shown:]:
        print(f"--- {name} differs, too")
    return wrong


def judge_kernel(args, places, paths):
    """The kernel against itself."""
    expected, ways = run_all(args.tool, places, paths)
    if not any(kernel for _, kernel in ways.values()):
        print("the meter saw no bytes in the kernel's TCP: it is of no use")
        return ["meter"]
    wrong = [name for name, (ring, _) in ways.items() if ring]
    for name in wrong:
        print(f"--- {name}: {ways[name][0]} sends without the kernel's TCP, says the meter")
    for number in range(args.rounds):
        got, _ = run_all(args.tool, places, paths)
        wrong += compare(list(expected), expected, got, args.show)
        print(f"round {number + 1}: {len(expected)} scenarios, {len(wrong)} not the same")
    return sorted(set(wrong))


@contextlib.contextmanager
def guest(agent, places, region):
    """Lane B is in a guest, in that its directory is an agent's (guests.py)."""
    places.region_b = f"{region.folder}/b"
    with subprocess.Popen(
            [*net.Veth.in_peer(), agent, "--region", places.region_b, "--uplink",
             f"{region.socket}.{GUEST}.guest", "--memory", find_memory(region)]) as process:
        try:
            wait_for("agent", lambda: os.path.exists(places.region_b + ".dir"))
            wait_for("uplink", lambda: region.counters(GUEST)["session"])
            yield
        finally:
            process.terminate()


def judge_shim(args, places, paths, remarks):
    expected, ways = run_all(args.tool, places, paths)
    addresses = f"{GUEST}@{places.given['B']}+{places.given['B6']}"
    with contextlib.ExitStack() as stack:
        region = stack.enter_context(Region(args.server, size=REGION_BYTES,
                                            guests=[addresses] if args.guest else ()))
        if args.guest:
            stack.enter_context(guest(args.guest, places, region))
        got, shim_ways = run_all(args.tool, places, paths,
                                 region.environment(args.shim))
    named = [name for name in expected if remarks.get(name) == "differs"]
    healed = [name for name in named if expected[name] == got[name]]
    for name in healed:
        print(f"--- {name} does not differ any more: take its mark away")
    wrong = compare([name for name in expected if name not in named], expected, got,
                    args.show)
    fallen = [name for name, (_, kernel) in shim_ways.items()
              if kernel and remarks.get(name) != "kernel"]
    for name in fallen:
        print(f"--- {name}: {shim_ways[name][1]} sends went through the kernel's TCP")
    lost = [name for name, (ring, kernel) in shim_ways.items()
            if any(ways[name]) and not ring and not kernel and name not in wrong]
    for name in lost:
        print(f"--- {name}: the meter saw no sends")
    print(f"{len(expected)} scenarios: {len(wrong)} differ from the kernel, "
          f"{len(fallen)} used its TCP; {sum(ring for ring, _ in shim_ways.values())} sends "
          f"through the ring, {sum(kernel for _, kernel in shim_ways.values())} through TCP")
    return sorted(set(wrong + fallen + lost + healed))


def steps(lines):
    return {line.split()[1] for line in lines}


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", help="the program conform")
    parser.add_argument("--shim", help="the shim; without it: kernel against kernel")
    parser.add_argument("--server", help="vrdma-ivshmem, with --shim")
    parser.add_argument("--guest", metavar="AGENT", help="vrdma-guest, with --shim: lane B "
                        "is in a guest")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--count", type=int, default=520, help="generated scenarios")
    parser.add_argument("--rounds", type=int, default=3, help="kernel against kernel")
    parser.add_argument("--only", default="", help="names that match this expression")
    parser.add_argument("--without", default=[], type=lambda text: text.split(","),
                        metavar="STEP,...", help="no scenario that has such a step")
    parser.add_argument("--together", action="store_true",
                        help="both lanes in one network namespace, over loopback")
    parser.add_argument("--show", type=int, default=8,
                        help="so many differences are printed whole")
    parser.add_argument("--keep", help="write the scenarios into this folder")
    return parser.parse_args()


def main():
    args = parse_args()
    net.enter()
    named = corners.scenarios()
    scenarios = [(name, lines) for name, lines, _ in named]
    scenarios += [generate.scenario(args.seed, i) for i in range(args.count)]
    scenarios = [(name, lines) for name, lines in scenarios if re.search(args.only, name) and
                 not steps(lines) & set(args.without)]
    remarks = {name: remark for name, _, remark in named}
    places = Places(not args.together)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_scenarios(scenarios, args.keep or folder)
        if args.shim:
            wrong = judge_shim(args, places, paths, remarks)
        else:
            wrong = judge_kernel(args, places, paths)
    if wrong:
        sys.exit(f"{len(wrong)} scenarios failed: {' '.join(wrong)}")


if __name__ == "__main__":
    main()
