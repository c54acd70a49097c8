#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the guests of ivshmem.py run: the ivshmem device without any driver,
through sysfs.

Nothing takes interrupts here: Debian's kernel has vfio only for machines with
an IOMMU, and uio only for INTx, which this device has not. MSI-X is on with
all vectors masked; then a doorbell sets its vector's pending bit and that is
all. The bit stays, so a vector can be waited for once.

Source: QEMU docs/specs/ivshmem-spec (registers); PCI 3.0 section 6.8.2 (MSI-X)

Usage: ivshmem_guest.py sender|receiver NATIVE_ID
"""

import ctypes
import glob
import mmap
import os
import struct
import sys
import time

IVPOSITION, DOORBELL = 8, 12    # registers in BAR 0

# Offsets in the shared memory: an 8-byte ID + 1 once a guest is ready; texts.
SENDER_READY, RECEIVER_READY = 0x100, 0x200
FROM_SENDER, FROM_RECEIVER, FROM_NATIVE = 0x1000, 0x2000, 0x3000
VECTORS = 2
PATIENCE = 200

CAPABILITIES = 0x34   # in the configuration space: the first one's place
CAP_MSIX = 0x11
MSIX_ENABLE, MSIX_MASK_ALL = 1 << 15, 1 << 14


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


class Device:
    """The one ivshmem device of this guest."""

    def __init__(self):
        self.path, = [path for path in glob.glob("/sys/bus/pci/devices/*")
                      if read(f"{path}/vendor") == "0x1af4"
                      and read(f"{path}/device") == "0x1110"]
        write(f"{self.path}/enable", "1")
        self.registers = self._bar(0)
        self.memory = self._bar(2)
        self.id = self._register(IVPOSITION).value
        self.pending = None   # MSI-X's pending bits

    def _bar(self, number):
        path = f"{self.path}/resource{number}"
        with open(path, "r+b") as file:
            return mmap.mmap(file.fileno(), os.stat(path).st_size)

    def _register(self, offset):
        return ctypes.c_uint32.from_buffer(self.registers, offset)

    def ring(self, peer, vector):
        self._register(DOORBELL).value = peer << 16 | vector

    @staticmethod
    def _wait(condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"nothing: {what}"
            time.sleep(0.01)

    def _wait_for_word(self, offset):
        self._wait(lambda: self.memory[offset], f"memory at {offset:#x}")

    def ready(self, offset):
        self.memory[offset:offset + 8] = struct.pack("<Q", self.id + 1)

    def peer(self, offset):
        self._wait_for_word(offset)
        return struct.unpack("<Q", self.memory[offset:offset + 8])[0] - 1

    def say(self, offset, text):
        self.memory[offset:offset + len(text)] = text

    def hear(self, offset, text):
        self._wait_for_word(offset)
        heard = self.memory[offset:offset + len(text)]
        assert heard == text, heard

    def enable_doorbells(self):
        with open(f"{self.path}/config", "r+b", buffering=0) as file:
            config = file.read(256)
            at = config[CAPABILITIES]
            while config[at] != CAP_MSIX:
                at = config[at + 1]
                assert at, "no MSI-X"
            control, _, pba = struct.unpack_from("<HII", config, at + 2)
            file.seek(at + 2)
            file.write(struct.pack("<H", control | MSIX_ENABLE | MSIX_MASK_ALL))
        # Read in fours: there is nothing for single bytes.
        self.pending = ctypes.c_uint32.from_buffer(self._bar(pba & 7),
                                                   pba & ~7)

    def wait_for_ring(self, vector):
        self._wait(lambda: self.pending.value >> vector & 1,
                   f"doorbell {vector}")


def sender(device, native):
    device.ready(SENDER_READY)
    receiver_id = device.peer(RECEIVER_READY)
    device.say(FROM_SENDER, b"from the sender")
    device.ring(receiver_id, 1)
    device.ring(native, 1)
    device.hear(FROM_NATIVE, b"from the native client")


def receiver(device, native):
    """Waits for doorbell 1, which the sender rings, and 0, for the process."""
    device.enable_doorbells()
    device.ready(RECEIVER_READY)
    for vector in (1, 0):
        device.wait_for_ring(vector)
        device.hear(FROM_SENDER, b"from the sender")
        device.say(FROM_RECEIVER, b"heard on %d" % vector)
        device.ring(native, 0)


if __name__ == "__main__":
    {"sender": sender, "receiver": receiver}[sys.argv[1]](Device(),
                                                          int(sys.argv[2]))
