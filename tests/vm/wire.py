# SPDX-License-Identifier: BSD-3-Clause
"""An Ethernet segment of two tap interfaces that loses, doubles and swaps packets.

Used by interop.py. A process of its own reads what one side sends and writes it to the
other; it does its mischief to RoCEv2 packets only, so that programs can talk over TCP
meanwhile, and keeps some packets of each kind for a judge.
"""

import collections
import fcntl
import json
import os
import random
import select
import socket
import struct
import sys
import time
import traceback

TUNSETIFF = 0x400454ca   # linux/if_tun.h
IFF_TAP = 0x2
IFF_NO_PI = 0x1000
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
RCVBUF = 8 << 20
FRAME_MAX = 65536
ROCE_PORT = 4791
KEPT_EACH = 16           # packets of one opcode and direction
HOLD_S = 0.002           # how long a packet is held back to be overtaken
SEED = 20261121
RC_DATA = range(0x00, 0x0c)  # opcodes of SEND and WRITE
PSN_MASK = 0xffffff


def roce_bth(frame):
    """What an Ethernet frame with RoCEv2 has from its BTH on, None of any other."""
    if len(frame) < 54:
        return None
    kind, = struct.unpack_from(">H", frame, 12)
    if kind == 0x0800 and frame[23] == 17:
        udp = 14 + 4 * (frame[14] & 15)
    elif kind == 0x86dd and frame[20] == 17:
        udp = 54
    else:
        return None
    if len(frame) <= udp + 8 or \
            struct.unpack_from(">H", frame, udp + 2)[0] != ROCE_PORT:
        return None
    return frame[udp + 8:]


def tap_open(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF,
                struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


class End:
    """One end of the segment. What goes wrong with what is read from it is a dict:
    drop, double, swap -> probability."""

    def __init__(self, name):
        self.name = name
        self.mischief = {}
        self.random = random.Random(SEED)
        self.counts = collections.Counter()
        self.kept = collections.defaultdict(list)
        self.held = None  # a frame that others overtake, and until when
        self.next_psn = {}  # by queue pair

    def begin(self, mischief):
        """Count anew."""
        self.mischief = mischief
        self.random.seed(SEED)
        self.counts.clear()
        self.next_psn.clear()

    def count(self, bth):
        """Packets, and those of them that were sent before."""
        self.counts["packets"] += 1
        if bth[0] not in RC_DATA:
            return
        self.counts["data"] += 1
        qpn, psn = bth[5:8], int.from_bytes(bth[9:12], "big")
        ahead = (psn - self.next_psn.get(qpn, psn)) & PSN_MASK
        if ahead > PSN_MASK // 2:
            self.counts["again"] += 1
        else:
            self.next_psn[qpn] = psn + 1 & PSN_MASK

    def out_of_order(self, frame):
        """The frames to pass on now that @frame has come."""
        bth = roce_bth(frame)
        if bth is None:
            return [frame]
        self.count(bth)
        kept = self.kept[f"{bth[0]:#04x} over IPv{frame[14] >> 4}"]
        if len(kept) < KEPT_EACH:
            kept.append(frame)
        what = self.fate()
        if what:
            self.counts[what] += 1
        if what == "drop":
            return []
        if what == "swap" and self.held is None:
            self.held = frame, time.monotonic() + HOLD_S
            return []
        frames = [frame, frame] if what == "double" else [frame]
        return frames + self.release()

    def fate(self):
        x = self.random.random()
        for what, probability in self.mischief.items():
            x -= probability
            if x < 0:
                return what
        return None

    def release(self):
        if self.held is None:
            return []
        frame, self.held = self.held[0], None
        return [frame]


class TapEnd(End):
    """An interface that we stand behind: the host's stack is in front of it."""

    def __init__(self, name):
        super().__init__(name)
        self.fd = tap_open(name)

    def read(self):
        return os.read(self.fd, FRAME_MAX)

    def write(self, frame):
        os.write(self.fd, frame)


class PortEnd(End):
    """An interface that somebody else stands behind, such as QEMU."""

    def __init__(self, name):
        super().__init__(name)
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RCVBUF)
        self.sock.bind((name, ETH_P_ALL))
        self.sock.setblocking(False)
        self.fd = self.sock.fileno()

    def read(self):
        while True:
            frame, where = self.sock.recvfrom(FRAME_MAX)
            if where[2] != socket.PACKET_OUTGOING:
                return frame

    def write(self, frame):
        # Full or not yet open: lost, as on any segment.
        try:
            self.sock.send(frame)
        except OSError:
            self.counts["lost"] += 1


def burst(source, sink):
    """Pass on what there is, up to a number that leaves the other side its turn."""
    for _ in range(64):
        try:
            frame = source.read()
        except BlockingIOError:
            return
        for each in source.out_of_order(frame):
            sink.write(each)


def serve(ours, guest, control):
    """Until @control, a socket, is closed: pass on; take mischief, a JSON dict in one
    message, and answer with the counts since the last one."""
    ends = ((ours, guest), (guest, ours))
    poll = select.poll()
    for fd in (ours.fd, guest.fd, control.fileno()):
        poll.register(fd, select.POLLIN)
    while True:
        held = [source for source, _ in ends if source.held]
        for fd, _ in poll.poll(1 if held else None):
            if fd == control.fileno():
                message = control.recv(4096)
                if not message:
                    return
                control.send(json.dumps([ours.counts, guest.counts]).encode())
                for end in ours, guest:
                    end.begin(json.loads(message))
        for source, sink in ends:
            burst(source, sink)
            if source.held and time.monotonic() > source.held[1]:
                for frame in source.release():
                    sink.write(frame)


class Wire:
    """The segment between interface @ours, which is made, and @guest, which is there."""

    def __init__(self, ours, guest, folder):
        self.folder = folder
        ends = TapEnd(ours), PortEnd(guest)
        self.control, control = socket.socketpair(socket.AF_UNIX,
                                                  socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self.control.close()
            self._child(ends, control)
        control.close()
        os.close(ends[0].fd)
        ends[1].sock.close()

    def _child(self, ends, control):
        try:
            serve(*ends, control)
            for end in ends:
                with open(f"{self.folder}/{end.name}.json", "w",
                          encoding="utf-8") as file:
                    json.dump({kind: [frame.hex() for frame in frames]
                               for kind, frames in end.kept.items()}, file)
        except BaseException:  # pylint: disable=broad-except
            traceback.print_exc()
            os._exit(1)
        sys.stderr.flush()
        os._exit(0)

    def set_mischief(self, mischief):
        """Return what happened since the last call: (to the guest, from the guest)."""
        self.control.send(json.dumps(mischief).encode())
        return json.loads(self.control.recv(4096))

    def close(self):
        """Return {interface that sent it: {opcode and IP version: [frame]}}."""
        self.control.close()
        _, status = os.waitpid(self.pid, 0)
        if status:
            raise RuntimeError("the wire broke")
        kept = {}
        for name in os.listdir(self.folder):
            with open(f"{self.folder}/{name}", encoding="utf-8") as file:
                kept[name.removesuffix(".json")] = {
                    kind: [bytes.fromhex(frame) for frame in frames]
                    for kind, frames in json.load(file).items()}
        return kept
