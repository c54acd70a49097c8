#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Two real guests and a native process in one region of vrdma-ivshmem: QEMU's
ivshmem-doorbell as the client, memory and doorbells in every direction, and
the end of a guest.

Usage: ivshmem.py PROGRAM
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tests/proto")
# pylint: disable=wrong-import-position
from ivshmem_client import Client, Server, wait_until  # noqa: E402
from ivshmem_guest import (FROM_NATIVE, FROM_RECEIVER, FROM_SENDER,  # noqa: E402
                           RECEIVER_READY, SENDER_READY, VECTORS)

KERNEL = f"{ROOT}/.cache/guest/kernel"
GUEST_TIMEOUT = 240
SKIPPED = 77
PROGRAM = None


def missing():
    """Return why no guest can be started here, or None."""
    if os.geteuid() != 0:
        return "root is needed for the guests' folder"
    for program in ("qemu-system-x86_64", "busybox"):
        if not shutil.which(program):
            return f"{program} is not installed"
    if not os.path.exists(f"{KERNEL}/vmlinuz"):
        return "there is no guest kernel in .cache"
    return None


class Guests(unittest.TestCase):
    """One scene; the guests' part is in ivshmem_guest.py."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="vrdma-ivshmem-vm-")
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        self.path = f"{self.dir}/a.sock"
        self.server = Server(PROGRAM, "--region",
                             f"name=a,size=4M,socket={self.path},"
                             f"vectors={VECTORS}")
        self.addCleanup(self.server.stop)
        self.server.wait()

    def guest(self, name, *job):
        launcher = subprocess.Popen(
            [f"{ROOT}/guest/launch", "--name", name, "--run-dir",
             f"{self.dir}/run", "--memory", "256", "--ivshmem", self.path,
             "--ivshmem-vectors", str(VECTORS), "--hugepages", "never",
             "--timeout", str(GUEST_TIMEOUT), "--",
             f"{ROOT}/tests/vm/ivshmem_guest.py", *job],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
        self.addCleanup(self._end, launcher)
        return launcher

    @staticmethod
    def _end(launcher):
        launcher.terminate()
        launcher.wait()
        launcher.stderr.close()

    def wait_for(self, client, offset, guests):
        """Wait until @client sees something at @offset; return it as an ID."""
        def there():
            for guest in guests:
                if guest.poll() is not None:
                    self.fail(guest.stderr.read())
            return client.memory[offset]
        wait_until(there, f"a guest's word at {offset:#x}")
        return int.from_bytes(client.memory[offset:offset + 8], "little") - 1

    def test_memory_and_doorbells(self):
        native = Client(self.path).join(VECTORS)
        self.addCleanup(native.close)
        receiver = self.guest("receiver", "receiver", str(native.id))
        sender = self.guest("sender", "sender", str(native.id))
        guests = (sender, receiver)
        sender_id = self.wait_for(native, SENDER_READY, guests)
        receiver_id = self.wait_for(native, RECEIVER_READY, guests)
        self.assertEqual(len({native.id, sender_id, receiver_id}), 3)
        native.sees(sender_id, VECTORS).sees(receiver_id, VECTORS)

        # A guest's write and its ring at this process, then at the other guest.
        self.assertEqual(native.rung(1), 1)
        self.heard(native, FROM_SENDER, b"from the sender")
        self.assertEqual(native.rung(0), 1)
        self.heard(native, FROM_RECEIVER, b"heard on 1")
        # And this process rings at a guest.
        native.ring(receiver_id, 0)
        self.assertEqual(native.rung(0), 1)
        self.heard(native, FROM_RECEIVER, b"heard on 0")

        native.memory[FROM_NATIVE:FROM_NATIVE + 22] = b"from the native client"
        for guest, peer in ((sender, sender_id), (receiver, receiver_id)):
            _, err = guest.communicate(timeout=GUEST_TIMEOUT)
            self.assertEqual((guest.returncode, err), (0, ""))
            native.misses(peer)
        self.assertEqual(self.server.counter("a", "left"), 2)

    def heard(self, client, offset, text):
        self.assertEqual(client.memory[offset:offset + len(text)], text)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    WHY = missing()
    if WHY:
        print(f"skipped: {WHY}")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
