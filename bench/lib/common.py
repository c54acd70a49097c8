# SPDX-License-Identifier: BSD-3-Clause
"""What every benchmark needs: commands, progress, errors, a clean end."""

import fcntl
import json
import os
import signal
import subprocess
import sys

ROOT = os.path.realpath(f"{os.path.dirname(os.path.realpath(__file__))}/../..")
BUILD = os.environ.get("VRDMA_BUILD", f"{ROOT}/build")
TOOLS = f"{BUILD}/bench/tools"


class BenchError(Exception):
    """Something did not work; the text says what."""


def call(*argv, env=None, timeout=120):
    """Run a command; return its standard output."""
    try:
        done = subprocess.run(argv, env=env, capture_output=True, text=True,
                              timeout=timeout, check=False)
    except subprocess.TimeoutExpired as err:
        raise BenchError(f"{' '.join(argv)}: not ready after {timeout} s") from err
    if done.returncode:
        raise BenchError(f"{' '.join(argv)}: status {done.returncode}\n"
                         f"{done.stdout}{done.stderr}")
    return done.stdout


def say(text, end="\n"):
    print(text, file=sys.stderr, end=end, flush=True)


def tool(name):
    """The path of one of our own programs."""
    path = f"{TOOLS}/{name}"
    if not os.access(path, os.X_OK):
        raise BenchError(f"{path} is not built: run scripts/setup.sh first")
    return path


def save(path, result):
    """Write @result and what it was measured on as JSON."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"cpus": os.cpu_count(), "kernel": os.uname().release, **result},
                  file, indent=2)
        file.write("\n")


def hold_lock():
    """Two benchmarks would measure each other; the folder is locked to the end."""
    lock = os.open(f"{ROOT}/bench", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        raise BenchError("another benchmark is running") from err


def interrupt(_number, _frame):
    """What was made is taken down on the way out; a second signal must not end that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def run(main):
    """Run a benchmark's main() as root, alone, and end with a status that says how."""
    name = os.path.basename(sys.argv[0])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        main()
    except BenchError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted")


def claim_machine():
    """Check that this may change the machine and that nobody else measures."""
    if os.geteuid():
        raise BenchError("must be root")
    hold_lock()
