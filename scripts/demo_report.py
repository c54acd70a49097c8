#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The end of the demo: reads both nodes' counters, checks that what one sent is
what the other received, prints the tables and writes result.json.
"""

import argparse
import json
import re
import sys
import time

import telemetry

SETTLE = 10  # seconds that the last frames get to arrive

# In result.json: as the userspace device counts them, shown by the driver
OPCODES = {f"{way}_{name}": f"dev_{way}_{name}_{unit}"
           for name, unit in (("send", "messages"), ("write", "messages"),
                              ("read", "requests"), ("atomic", "requests"))
           for way in ("tx", "rx")}

# As NetPIPE prints it: " 12: 64 bytes 50 times --> 1.93 Mbps in 253.00 usec"
NETPIPE_ROW = re.compile(
    r"^\s*\d+:\s+(\d+) bytes\s+\d+ times -->\s+([\d.]+) Mbps in\s+([\d.]+) usec")


def opcodes(xstats):
    """Return messages by opcode as the device counted them; what a real device
    sent is known only from the driver, which posts nothing but SENDs.
    """
    if not any(name.startswith("dev_") for name in xstats):
        return {"tx_send": xstats["tx_messages"], "rx_send": xstats["rx_messages"]}
    return {name: xstats[counter] for name, counter in OPCODES.items()}


def node_counts(name, xstats):
    """Return a node's part of result.json.

    @xstats: the driver's extended statistics, {name: number}; those of a
             userspace device are among them, their names begin with dev_
    """
    return {
        "name": name,
        "tx_frames": xstats["tx_frames"],
        "tx_bytes": xstats["tx_bytes"],
        "rx_frames": xstats["rx_frames"],
        "rx_bytes": xstats["rx_bytes"],
        "opcodes": opcodes(xstats),
        "retransmissions": xstats.get("dev_tx_retransmitted"),
        "drops": {key: value for key, value in xstats.items()
                  if re.match("[rt]x_drop_", key)},
    }


def foreign_messages(node, xstats):
    """Return what the device did that was not the driver's SENDs."""
    found = []
    for way in ("tx", "rx"):
        if node["opcodes"][f"{way}_send"] != xstats[f"{way}_messages"]:
            found.append(f"{node['name']}: the device counts "
                         f"{node['opcodes'][f'{way}_send']} {way} SENDs, "
                         f"the driver {xstats[f'{way}_messages']}")
    found += [f"{node['name']}: {count} messages are {key}"
              for key, count in node["opcodes"].items()
              if count and not key.endswith("_send")]
    return found


def mismatches(sender, receiver):
    """Return what does not add up on the way from one node to the other."""
    found = []
    lost = sum(count for key, count in receiver["drops"].items()
               if key.startswith("rx_"))
    if sender["tx_frames"] != receiver["rx_frames"] + lost:
        found.append(f"{sender['name']} sent {sender['tx_frames']} frames, "
                     f"{receiver['name']} received {receiver['rx_frames']} "
                     f"and dropped {lost}")
    if not lost and sender["tx_bytes"] != receiver["rx_bytes"]:
        found.append(f"{sender['name']} sent {sender['tx_bytes']} bytes, "
                     f"{receiver['name']} received {receiver['rx_bytes']}")
    if sender["opcodes"]["tx_send"] != receiver["opcodes"]["rx_send"]:
        found.append(f"{sender['name']} sent {sender['opcodes']['tx_send']} "
                     f"messages, {receiver['name']} received "
                     f"{receiver['opcodes']['rx_send']}")
    if not sender["tx_frames"]:
        found.append(f"{sender['name']} sent nothing")
    return found


def read_node(name, run_dir):
    """Return (result.json's part, the device's name, problems)."""
    path = telemetry.socket_path(name, run_dir)
    port = telemetry.driver_port(path)
    device = telemetry.query(path, f"/vrdma/device,{port}")
    xstats = telemetry.query(path, f"/ethdev/xstats,{port}")
    node = node_counts(name, xstats)
    return node, device["name"], foreign_messages(node, xstats)


def settle(names, run_dir):
    """Read both nodes until their counts match; return (nodes, device, problems).

    They are read one after the other and the bridges speak up by themselves
    (neighbour discovery), so a mismatch may be a frame that is under way.
    """
    end = time.monotonic() + SETTLE
    while True:
        (one, device, problems), (two, _, more) = [
            read_node(name, run_dir) for name in names]
        problems = problems + more + mismatches(one, two) + mismatches(two, one)
        if not problems or time.monotonic() > end:
            return [one, two], device, problems
        time.sleep(0.2)


def netpipe_rows(text):
    rows = []
    for line in text.splitlines():
        match = NETPIPE_ROW.match(line)
        if match:
            rows.append({"bytes": int(match[1]), "mbps": float(match[2]),
                         "usec": float(match[3])})
    return rows


def print_netpipe(rows):
    print("\nNetPIPE over TCP (half round trip)\n")
    print(f"{'bytes':>10} {'Mb/s':>12} {'us':>12}")
    for row in rows:
        # The sizes in between (3, 6, 12, ...) are in result.json.
        if row["bytes"] & (row["bytes"] - 1) == 0:
            print(f"{row['bytes']:>10} {row['mbps']:>12.2f} {row['usec']:>12.2f}")


def node_lines(node):
    """Return (label, text) pairs for one node's column."""
    lines = [(key.replace("_", " "), str(node[key])) for key in
             ("tx_frames", "tx_bytes", "rx_frames", "rx_bytes")]
    lines += [("RC SEND messages sent", str(node["opcodes"]["tx_send"])),
              ("RC SEND messages received", str(node["opcodes"]["rx_send"]))]
    again = node["retransmissions"]
    lines.append(("packets sent again", "not known" if again is None else str(again)))
    return lines


def print_nodes(nodes, device):
    print(f"\nWhat the drivers carried over RoCE (device {device})\n")
    print(f"{'':<28}" + "".join(f"{'node ' + n['name']:>18}" for n in nodes))
    for (label, one), (_, two) in zip(*map(node_lines, nodes)):
        print(f"{label:<28}{one:>18}{two:>18}")
    for name in sorted({key for n in nodes for key, count in n["drops"].items() if count}):
        print(f"{name:<28}" + "".join(f"{n['drops'].get(name, 0):>18}" for n in nodes))
    if not any(count for n in nodes for count in n["drops"].values()):
        print(f"{'drops':<28}" + f"{'none':>18}" * len(nodes))
    print()


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--nodes", nargs=2, required=True)
    parser.add_argument("--netpipe", required=True, help="what NPtcp printed")
    parser.add_argument("--accelerator", required=True)
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--output", required=True)
    return parser.parse_args()


def main():
    args = parse_args()
    with open(args.netpipe, encoding="utf-8", errors="replace") as file:
        rows = netpipe_rows(file.read())
    nodes, device, problems = settle(args.nodes, args.run_dir)
    if not rows or rows[-1]["bytes"] < 1 << 20:
        problems.append("NetPIPE did not get to 1 MiB")
    print_netpipe(rows)
    print_nodes(nodes, device)
    with open(args.output, "w", encoding="utf-8") as file:
        json.dump({"nodes": nodes, "netpipe": rows,
                   "guest": {"accelerator": args.accelerator,
                             "kernel": args.kernel},
                   "device": device}, file, indent=2)
        file.write("\n")
    for problem in problems:
        print(f"demo: does not add up: {problem}", file=sys.stderr)
    if not problems:
        print("Every frame that one node sent is one that the other received.")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except telemetry.TelemetryError as error:
        sys.exit(f"demo: {error}")
