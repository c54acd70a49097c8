# SPDX-License-Identifier: BSD-3-Clause
"""Asks a node's driver over DPDK's telemetry socket, for the scripts here.

Protocol: DPDK's "Telemetry Library" guide, socket version 2.
"""

import json
import os
import socket

VDEV = "net_vrdma0"


class TelemetryError(Exception):
    """The node gave no answer; the text says why."""


def socket_path(node, run_dir=None):
    run_dir = run_dir or os.environ.get("VRDMA_RUN", "/run/vrdma")
    return f"{run_dir}/{node}/dpdk/{node}/dpdk_telemetry.v2"


def query(path, command):
    """Ask one question; return the decoded answer, without its wrapping."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(10)
            sock.connect(path)
            greeting = json.loads(sock.recv(1024))
            sock.send(command.encode())
            answer = json.loads(sock.recv(greeting["max_output_len"]))
    except OSError as err:
        raise TelemetryError(f"{path}: {err.strerror or err}") from err
    answer = answer.get(command.split(",", 1)[0])
    if answer is None:
        raise TelemetryError(f"no answer to {command}")
    return answer


def driver_port(path):
    """Return the port number of our driver's port."""
    for port in query(path, "/ethdev/list"):
        if query(path, f"/ethdev/info,{port}")["name"] == VDEV:
            return port
    raise TelemetryError(f"{path}: there is no {VDEV}")
