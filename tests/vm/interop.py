#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Our device against Linux' own RoCEv2 device, rdma_rxe, in a guest.

The same unmodified programs run on both ends of an Ethernet segment (wire.py): on ours
under vrdma-run, in the guest on rxe. Then everything again with packets lost, doubled
and swapped, and with congestion marks. In the end scapy looks at what each end has sent.
Usage: interop.py [-a] VRDMA_RUN VERBS_CHECK WINDOW_CHECK DATAGRAM_CHECK [PATTERN]
With -a, messages of all sizes up to 8 MiB and nothing else, which takes minutes in an
emulated guest. With PATTERN, only the tests that contain it.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/proto"))

import net  # noqa: E402
import roce  # noqa: E402
from wire import Wire  # noqa: E402

SKIPPED = 77
# seconds for one program; never reached
PATIENCE = 300 if "-a" in sys.argv else 60
OUR_IF, GUEST_IF = "ours0", "guest0"
OUR_ADDR, GUEST_ADDR = "192.0.2.1", "192.0.2.2"
OUR_ADDR6, GUEST_ADDR6 = "2001:db8::1", "2001:db8::2"
PORT_ADDRS = "192.0.2.11/24", "2001:db8::11/64"
OUR_GID = OUR_GID6 = 0     # a device has one address
GUEST_GID, GUEST_GID6 = 1, 2  # after the link-local address
MTU = 4200                 # so that rxe's path MTU is 4096; other programs take 1024
GUEST_MAC = "02:00:00:00:00:02"
# rxe takes CRC-32 from the kernel's crypto API, by name: no module says it needs it.
MODULES = "rdma_rxe,ib_uverbs,crc32_generic"

# What comes from the guest is marked, and what goes there of notifications is counted
# (the opcode lies behind the UDP header).
MARKING = f"""
table ip marks {{
    counter cnps {{ }}
    chain incoming {{ type filter hook prerouting priority 0;
        iifname {OUR_IF} udp dport 4791 ip ecn set ce
    }}
    chain outgoing {{ type filter hook output priority 0;
        oifname {OUR_IF} udp dport 4791 @th,64,8 0x81 counter name cnps
    }}
}}
"""

# Takes lines "ROLE COMMAND" over TCP and answers "listening" (when the command is a
# server and waits for its client) and "exit STATUS".
AGENT = r"""
set -u
# rxe takes its GIDs from the addresses; packets are to be whole when they are kept
ethtool -K eth0 tx off >/dev/null
rdma link add rxe0 type rxe netdev eth0
ip address add "$4/64" dev eth0 nodad
exec 3<>"/dev/tcp/$1/$2"
listens() { grep -qs ":4853 0*:0000 0A" /proc/net/tcp /proc/net/tcp6; }
while read -ru 3 role command; do
	echo "guest: $command"
	timeout -k 1 "$3" $command 3>&- &
	pid=$!
	if [ "$role" = server ]; then
		until listens || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
		echo listening >&3
	fi
	wait $pid
	echo "exit $?" >&3
done
"""


def missing():
    """Why no guest can be started here, or None."""
    if os.geteuid() != 0:
        return "root is needed, for tap interfaces"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    for program in ("qemu-system-x86_64", "busybox", "ib_send_bw",
                    "ibv_rc_pingpong", "nft"):
        if not shutil.which(program):
            return f"{program} is not installed"
    if not os.path.exists(f"{ROOT}/.cache/guest/kernel/vmlinuz"):
        return "there is no guest kernel in .cache (scripts/setup.sh)"
    return None


class Guest:
    """The guest and the connection to its agent."""

    def __init__(self, folder):
        self.log = open(f"{folder}/guest.log", "a+b")
        server = socket.create_server((OUR_ADDR, 0))
        server.settimeout(2 * PATIENCE)
        port = server.getsockname()[1]
        self.process = subprocess.Popen(
            [f"{ROOT}/guest/launch", "--name", "interop", "--run-dir", folder,
             "--netdev", f"tap:{GUEST_IF}", "--mac", GUEST_MAC,
             "--ip", f"{GUEST_ADDR}/24", "--mtu", str(MTU), "--modules", MODULES, "--",
             "bash", "-c", AGENT, "agent", OUR_ADDR, str(port), str(PATIENCE),
             GUEST_ADDR6],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.agent = server.accept()[0].makefile("rw")
        except OSError:
            self.process.terminate()
            self.process.wait()
            raise RuntimeError(f"no guest: {self.said()}") from None

    def start(self, role, command):
        self.agent.write(f"{role} {command}\n")
        self.agent.flush()
        if role == "server":
            self.expect("listening")

    def expect(self, word):
        """Return what stands behind @word in the agent's next line."""
        line = self.agent.readline().split()
        if not line or line[0] != word:
            raise RuntimeError(f"the guest says {line}")
        return line[1:]

    def wait(self):
        return int(self.expect("exit")[0])

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def close(self):
        self.agent.close()
        self.process.terminate()
        self.process.wait()


class Ours:
    """The programs on our side, on a device that @options of vrdma-run make."""

    def __init__(self, vrdma_run, options, folder):
        self.prefix = ["timeout", "-k", "1", str(PATIENCE), vrdma_run, *options,
                       "--name", "vrdma0"]
        self.log = open(f"{folder}/ours.log", "a+b")
        self.process = None

    def start(self, role, command):
        self.log.truncate(0)
        self.process = subprocess.Popen(
            self.prefix + command.split(), stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log)
        while role == "server" and self.process.poll() is None:
            with open("/proc/net/tcp", encoding="ascii") as four, \
                    open("/proc/net/tcp6", encoding="ascii") as six:
                # In state LISTEN: an earlier run's connection may linger.
                if re.search(":4853 0+:0000 0A", four.read() + six.read()):
                    break
            time.sleep(0.02)

    def wait(self):
        return self.process.wait()

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


class Suite:
    def __init__(self, ours, ours6, guest, wire, checks, pattern):
        self.ours = ours
        self.ours6 = ours6
        self.guest = guest
        self.wire = wire
        self.verbs_check, self.window_check, self.datagram_check = checks
        self.pattern = pattern
        self.n = self.failed = 0

    def report(self, name, error, begin=None):
        took = f" ({time.monotonic() - begin:.1f} s)" if begin else ""
        self.n += 1
        self.failed += bool(error)
        print(f"FAILED {name}: {error}" if error else f"ok {name}{took}", flush=True)

    def pair(self, command, server, what, ipv6):
        """Run @command on both ends; {gid} stands for the RoCEv2 GID's index.

        @server: "ours" or "rxe"
        """
        name = os.path.basename(
            f"{command.replace(' -x {gid}', '').replace(' -g {gid}', '')},"
            f" {server} is server{what}")
        if self.pattern not in name:
            return
        begin = time.monotonic()
        ours = self.ours6 if ipv6 else self.ours
        here = command.format(gid=OUR_GID6 if ipv6 else OUR_GID)
        there = command.format(gid=GUEST_GID6 if ipv6 else GUEST_GID)
        if server == "ours":
            ours.start("server", here)
            self.guest.start("client", f"{there} {OUR_ADDR}")
        else:
            self.guest.start("server", there)
            ours.start("client", f"{here} {GUEST_ADDR}")
        status = ours.wait(), self.guest.wait()
        if status != (0, 0):
            self.report(name, f"status {status[0]} here, {status[1]} in the guest")
            print(ours.said()[-2000:])
            print(self.guest.said()[-2000:])
        else:
            self.report(name, None, begin)

    def both(self, command, what="", ipv6=False):
        self.pair(command, "ours", what, ipv6)
        self.pair(command, "rxe", what, ipv6)

    @staticmethod
    def options(verb):
        """perftest's. It asks for as many READs at once as the peer's device takes,
        which may be more than the own one does: -o says how many."""
        return "-F -x {gid}" + (" -o 16" if verb in ("read", "atomic") else "")

    def lossless(self):
        self.both("ibv_rc_pingpong -g {gid} -n 100 -c")
        self.both("ibv_rc_pingpong -g {gid} -n 100 -e")
        self.both("ibv_uc_pingpong -g {gid} -n 100")
        self.both("ibv_ud_pingpong -g {gid} -n 100")
        for size in (2, 65536):
            for verb in ("send", "write", "read"):
                self.both(f"ib_{verb}_bw {self.options(verb)} -n 50 -s {size}")
        for kind in ("CMP_AND_SWAP", "FETCH_AND_ADD"):
            self.both(f"ib_atomic_bw {self.options('atomic')} -n 50 -A {kind}")
        for verb in ("send", "write"):
            self.both(f"ib_{verb}_bw -F -x {{gid}} -n 50 -c UC -s 4096")
        self.both("ib_send_bw -F -x {gid} -n 50 -c UD -s 1024")
        for test in "ib_send_lat", "ib_write_lat":
            self.both(f"{test} -F -x {{gid}} -n 50")
        self.both(f"{self.verbs_check} -g {{gid}} -e")
        self.both(f"{self.window_check} -g {{gid}} -e")
        for kind in "uc", "ud", "group":
            self.both(f"{self.datagram_check} -g {{gid}} -t {kind}")

    def many(self):
        """Several queue pairs, and a shared receive queue. An emulated guest may have
        16 queue pairs' packets wait for longer than ACKs usually take: -u says 1 s."""
        self.both("ibv_srq_pingpong -g {gid} -n 100 -q 4")
        for verb in ("send", "write", "read"):
            self.both(f"ib_{verb}_bw {self.options(verb)} -n 50 -s 4096 -q 16 -u 18")

    def all_sizes(self):
        for verb in ("send", "write", "read"):
            self.both(f"ib_{verb}_bw {self.options(verb)} -n 5 -a")

    def over_ipv6(self):
        """There our device judges the ICRC of what it receives, too. The programs meet
        over IPv4."""
        self.both(f"{self.verbs_check} -g {{gid}} -e", ", IPv6", ipv6=True)
        self.both("ibv_ud_pingpong -g {gid} -n 100", ", IPv6", ipv6=True)
        self.both("ib_send_bw -F -x {gid} -n 50 -s 65536", ", IPv6", ipv6=True)

    def lossy(self):
        """Not ibv_rc_pingpong: who has all of its messages ends at once, and when its
        last ACK is lost, nobody is there to answer the repetition."""
        mischief = {"drop": 0.02, "double": 0.01, "swap": 0.01}
        self.wire.set_mischief(mischief)
        self.both(f"{self.verbs_check} -g {{gid}}", ", lossy")
        self.both(f"{self.window_check} -g {{gid}}", ", lossy")
        for verb in ("send", "write", "read"):
            self.both(f"ib_{verb}_bw {self.options(verb)} -n 20 -s 65536", ", lossy")
        self.both(f"ib_atomic_bw {self.options('atomic')} -n 200", ", lossy")
        for sender, counts in zip(("ours", "rxe"), self.wire.set_mischief({})):
            print(f"packets from {sender}: {counts}")
            silent = [what for what in mischief if not counts.get(what)]
            if not self.pattern:
                self.report(f"mischief to packets of {sender}",
                            f"no {silent}" if silent else None)

    def over_port(self, ours, ours6):
        """Our device as a host of its own on the interface: it judges the ICRC of all that
        it receives, and has to find the guest and be found."""
        self.ours, self.ours6 = ours, ours6
        self.both(f"{self.verbs_check} -g {{gid}} -e", ", port")
        self.both(f"{self.verbs_check} -g {{gid}} -e", ", port, IPv6", ipv6=True)
        self.both("ibv_ud_pingpong -g {gid} -n 100", ", port, IPv6", ipv6=True)
        for kind in "uc", "ud", "group":
            self.both(f"{self.datagram_check} -g {{gid}} -t {kind}", ", port")
        for verb in ("send", "write", "read"):
            self.both(f"ib_{verb}_bw {self.options(verb)} -n 50 -s 65536", ", port")

    def congested(self):
        """All that rxe sends comes marked. It knows nothing of the notifications that it
        gets, and must not mind."""
        net.run("nft", MARKING)
        self.both(f"{self.verbs_check} -g {{gid}}", ", marked")
        for verb in ("send", "write", "read"):
            self.both(f"ib_{verb}_bw {self.options(verb)} -n 50 -s 65536", ", marked")
        counted = subprocess.run(["nft", "list", "counter", "ip", "marks", "cnps"],
                                 capture_output=True, text=True, check=True).stdout
        print(" ".join(counted.split()))
        if not self.pattern:
            self.report("notifications sent",
                        "none" if "packets 0 " in counted else None)
        net.run("nft", "delete", "table", "ip", "marks")


def judge(frames):
    """What is wrong with the frames' ICRC, as scapy computes it; None if nothing."""
    for frame in frames:
        ip = (roce.IP if frame[14] >> 4 == 4 else roce.IPv6)(frame[14:])
        data = bytes(ip[roce.UDP].payload)
        if roce.icrc(ip, data[:-4]) != data[-4:]:
            return f"wrong in {frame.hex()}"
    return None


def segment():
    """Make the interfaces, in our own network namespace."""
    for name in OUR_IF, GUEST_IF:
        net.run("ip", "tuntap", "add", name, "mode", "tap")
        net.run("ip", "link", "set", name, "mtu", str(MTU))
    # The port to the guest is no end point of ours.
    net.run("sysctl", "-qw", f"net.ipv6.conf.{GUEST_IF}.disable_ipv6=1")
    net.run("ip", "link", "set", GUEST_IF, "arp", "off", "up")
    net.run("ip", "address", "add", f"{OUR_ADDR}/24", "dev", OUR_IF)
    net.run("ip", "address", "add", f"{OUR_ADDR6}/64", "dev", OUR_IF, "nodad")
    net.run("ip", "link", "set", OUR_IF, "up")
    net.run("ip", "link", "set", "lo", "up")


def main():
    why = missing()
    if why:
        print(f"skipped: {why}")
        return SKIPPED
    net.enter()
    segment()
    args = sys.argv[1:]
    all_sizes = args[0] == "-a"
    vrdma_run, *programs = args[1:] if all_sizes else args
    checks = [os.path.abspath(program) for program in programs[:3]]
    pattern = programs[3] if len(programs) > 3 else ""
    with tempfile.TemporaryDirectory(prefix="vrdma-interop-") as folder:
        os.mkdir(f"{folder}/kept")
        wire = Wire(OUR_IF, GUEST_IF, f"{folder}/kept")
        guest = Guest(folder)
        try:
            suite = Suite(Ours(vrdma_run, ["--addr", OUR_ADDR], folder),
                          Ours(vrdma_run, ["--addr", OUR_ADDR6], folder), guest, wire,
                          checks, pattern)
            if all_sizes:
                suite.all_sizes()
            else:
                suite.lossless()
                suite.many()
                suite.over_ipv6()
                suite.congested()
                suite.lossy()
                suite.over_port(*(
                    Ours(vrdma_run, ["--port", OUR_IF, "--addr", addr], folder)
                    for addr in PORT_ADDRS))
        finally:
            guest.close()
        for sender, kept in wire.close().items():
            for kind, frames in kept.items():
                suite.report(f"ICRC of opcode {kind} from {sender}",
                             judge(frames))
    print(f"{suite.n} tests, {suite.failed} failed")
    return 1 if suite.failed else 0


if __name__ == "__main__":
    sys.exit(main())
