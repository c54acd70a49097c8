# SPDX-License-Identifier: BSD-3-Clause
"""One guest's QEMU: its command line, its process, its control connection.

Used by guest/launch. All that passes between QEMU and the launcher goes over
socket pairs that QEMU inherits, so that the only name in the file system is
the vhost-user socket, and a dead QEMU is an end of file on each of them.
"""

import ctypes
import json
import mmap
import os
import re
import signal
import socket
import subprocess

UPLINK = "org.vrdma.directory"   # a virtio port; docs/socket-shim.md

PR_SET_PDEATHSIG = 1   # linux/prctl.h
HUGE_PAGE_MIB = 2

# What is connected to the guest: {name: QEMU's device for it}. The numbers
# are part of the contract with guest/initramfs/run-job.
CHANNELS = {
    "control": "virtserialport,nr=1",
    "stdout": "virtserialport,nr=2",
    "stderr": "virtserialport,nr=3",
    "terminal": "virtconsole,nr=0",
}


def accelerator():
    """Return "kvm" or "tcg".

    The device node alone says too little: there are hosts whose /dev/kvm runs
    only kernels made for it. Those have neither CPU flag.
    """
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flag = re.search(r"^flags\s*:.*\b(vmx|svm)\b", file.read(), re.M)
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return "kvm" if flag and usable else "tcg"


def cpu_model(accel):
    """Return QEMU's -cpu.

    An emulated processor must not claim that "rep movsb" is fast (erms, fsrm):
    QEMU goes through it byte by byte, and both Linux and the C library copy
    with it if they are told so. Without, they copy by words, four times as
    fast.
    """
    return "host" if accel == "kvm" else "max,-erms,-fsrm"


def version(qemu):
    """Return QEMU's version, such as "7.2.22". Raises OSError, ValueError."""
    text = subprocess.run([qemu, "--version"], stdout=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, check=False,
                          encoding="utf-8").stdout
    found = re.match(r"QEMU emulator version (\d+\.\d+\.\d+)", text)
    if not found:
        raise ValueError(f"{qemu} --version does not answer as QEMU does")
    return found[1]


def guest_memory(mib, policy):
    """Return (fd, whether it is of huge pages): memory to share with OVS.

    Huge pages are reserved here, since those that are free now can be gone
    when QEMU asks for them. Raises OSError.

    @policy: "always" of huge pages, "never", or "auto": if there are enough
    """
    size = (mib + mib % HUGE_PAGE_MIB) << 20
    if policy != "never":
        fd = os.memfd_create("guest-memory",
                             os.MFD_HUGETLB | os.MFD_HUGE_2MB)
        try:
            os.ftruncate(fd, size)
            # A shared mapping reserves for the file, not for itself.
            mmap.mmap(fd, size).close()
            return fd, True
        except OSError:
            os.close(fd)
            if policy == "always":
                raise
    fd = os.memfd_create("guest-memory")
    os.ftruncate(fd, size)
    return fd, False


def _escape(value):
    """Return value as QEMU's option parser reads it back."""
    return value.replace(",", ",,")


def _network(args, accel, qemu_version):
    """Return the options for the network port, none if there is none.

    vhost-user: QEMU is the socket's server, so Open vSwitch may go and come
    back. It reads the first connection's features before it starts the
    machine.
    """
    device = f"virtio-net-pci,netdev=net,mac={args.mac},romfile=," \
             "mrg_rxbuf=on,rx_queue_size=1024"
    if args.mtu:
        device += f",host_mtu={args.mtu}"
    if args.vhost_user:
        # Only vhost-user may have so long a transmit queue.
        device += ",tx_queue_size=1024"
        # Under TCG, QEMU before 10 crashes when a vhost-user device uses
        # MSI-X.
        if accel == "tcg" and int(qemu_version.split(".")[0]) < 10:
            device += ",vectors=0"
        return ["-chardev", "socket,id=vhost,server=on,wait=off,"
                f"path={_escape(args.vhost_user)}",
                "-netdev", "vhost-user,id=net,chardev=vhost",
                "-device", device]
    if args.tap:
        return ["-netdev", f"tap,id=net,ifname={_escape(args.tap)},"
                "script=no,downscript=no,vhost=off", "-device", device]
    return []


def _shared_memory(args):
    """Return the options for the ivshmem device.

    QEMU is the client, and ends at once if no server listens.
    """
    return ["-chardev", f"socket,id=ivshmem,path={_escape(args.ivshmem)}",
            "-device", "ivshmem-doorbell,chardev=ivshmem,"
            f"vectors={args.ivshmem_vectors}"]


def _uplink(args, qemu_version):
    """Return the options for the port by which the guest's agent talks to the
    directory of the region. QEMU is the client, again and again: the server
    may end and come back.
    """
    major = int(qemu_version.split(".")[0])
    again = "reconnect=1" if major < 10 else "reconnect-ms=1000"
    return ["-chardev", "socket,id=uplink,server=off,"
            f"path={_escape(args.ivshmem_uplink)},{again}",
            "-device", f"virtserialport,nr=4,bus=ports.0,name={UPLINK},"
            "chardev=uplink"]


def _channels(fds):
    """Return the options for the virtio ports in @fds, {name: fd}."""
    options = ["-device", "virtio-serial-pci,id=ports"]
    for name, fd in fds.items():
        options += ["-chardev", f"socket,id={name},fd={fd}",
                    "-device", f"{CHANNELS[name]},bus=ports.0,chardev={name}"]
    return options


def command_line(args, machine, kernel, fds):
    """Return QEMU's argv.

    @args:      the launcher's options
    @machine:   what guest.json says: accelerator and QEMU's version count
    @kernel:    path of the kernel
    @fds:       {name: fd}: "memory", "initramfs", "qmp", "console" (serial)
                and the virtio ports
    """
    accel = machine["accelerator"]
    memory = f"memory-backend-file,id=memory,size={args.memory}M,share=on," \
             f"mem-path=/proc/self/fd/{fds['memory']}"
    ports = {name: fd for name, fd in fds.items() if name in CHANNELS}
    argv = [
        args.qemu, "-nodefaults", "-no-user-config", "-display", "none",
        # A panic means reboot (panic=-1), and a reboot ends QEMU.
        "-no-reboot",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny",
        "-name", f"guest={_escape(args.name)}",
        "-object", memory,
        "-machine", f"q35,accel={accel},memory-backend=memory",
        "-cpu", cpu_model(accel),
        "-smp", str(args.cpus), "-m", str(args.memory),
        "-kernel", kernel, "-initrd", f"/proc/self/fd/{fds['initramfs']}",
        "-append", "console=ttyS0 panic=-1 oops=panic",
        "-chardev", f"socket,id=console,fd={fds['console']}",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=qmp,fd={fds['qmp']}",
        "-mon", "chardev=qmp,mode=control",
        "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,"
        "multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
    ]
    argv += _channels(ports)
    argv += _network(args, accel, machine["qemu"])
    if args.ivshmem:
        argv += _shared_memory(args)
    if args.ivshmem_uplink:
        argv += _uplink(args, machine["qemu"])
    return argv


def socket_pairs(names):
    """Return ({name: our socket}, {name: QEMU's socket})."""
    pairs = {name: socket.socketpair() for name in names}
    return ({name: pair[0] for name, pair in pairs.items()},
            {name: pair[1] for name, pair in pairs.items()})


def start(argv, fds, log):
    """Start QEMU, which dies with the launcher. Raises OSError.

    @fds: descriptors that QEMU inherits
    @log: descriptor that takes QEMU's own messages
    """
    launcher = os.getpid()
    libc = ctypes.CDLL(None)

    def die_with_launcher():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(1)

    # A session of its own, so that Ctrl-C reaches only the launcher.
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
                            stderr=log, pass_fds=fds, start_new_session=True,
                            preexec_fn=die_with_launcher)


class Monitor:
    """Asks QEMU for its vCPU threads: the answer also means "machine is up".

    QEMU takes the commands at once, but answers only when it has made the
    machine, and that waits for the vhost-user back end.

    Source: QEMU docs/interop/qmp-spec.txt
    """

    def __init__(self, sock):
        self.received = b""
        self.vcpus = None
        for command in ("qmp_capabilities", "query-cpus-fast"):
            sock.sendall(json.dumps({"execute": command}).encode() + b"\n")

    def take(self, data):
        """Take what QEMU has sent."""
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            answer = json.loads(line).get("return")
            if isinstance(answer, list):
                self.vcpus = [vcpu["thread-id"] for vcpu in answer]
