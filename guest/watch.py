# SPDX-License-Identifier: BSD-3-Clause
"""The watch over one guest, from QEMU's start to its end: class Watch.

Used by guest/launch. One thread, one poll loop: the job's output, the control
channel, QEMU's monitor, QEMU's end, signals and one deadline.
"""

import os
import re
import select
import signal
import socket
import sys
import time

import qemu

# How the launcher ends when it is not as the job did; and 128 + number when a
# signal ended the launcher.
EXIT_USAGE = 240          # wrong option, or something on this host is missing
EXIT_NO_START = 241       # QEMU did not start
EXIT_BOOT_TIMEOUT = 242   # the job did not begin in time
EXIT_TIMEOUT = 243        # the job did not end in time
EXIT_DIED = 244           # the guest ended before its job did

GRACE = 10                # seconds that QEMU gets to end by itself
LOG_LIMIT = 16 << 20      # bytes; a guest may print as much as it likes
CHUNK = 4096              # PIPE_BUF: what a pipe that polls writable takes
ESCAPE = b"\x1d"          # Ctrl-]: ends a guest with --shell


def read(fd):
    """Return what is there, b"" at the end or when QEMU has died."""
    try:
        return os.read(fd, 65536)
    except ConnectionResetError:
        return b""


def see(log):
    return f" (see {log.path})"


class Relay:
    """Carries bytes from one descriptor to another, as fast as both go.

    At most one read is held. Writing needs no O_NONBLOCK, which would change
    a standard output that others share: it waits for POLLOUT.
    """

    def __init__(self, source, sink, is_keyboard=False):
        self.source = source
        self.sink = sink
        self.is_keyboard = is_keyboard
        self.pending = b""
        self.open = True

    def interest(self):
        if self.pending:
            return self.sink, select.POLLOUT
        return self.source, select.POLLIN

    def step(self):
        """Do what interest() waited for; True if the escape was typed."""
        if self.pending:
            done = os.write(self.sink, self.pending[:CHUNK])
            self.pending = self.pending[done:]
            return False
        self.pending = read(self.source)
        self.open = bool(self.pending)
        return self.is_keyboard and ESCAPE in self.pending


class Log:
    """Keeps the first LOG_LIMIT bytes that come from a descriptor."""

    def __init__(self, path):
        self.path = path
        self.room = LOG_LIMIT
        with open(path, "wb"):
            pass

    def take(self, data):
        with open(self.path, "ab") as file:
            file.write(data[:self.room])
        self.room = max(0, self.room - len(data))

    def lines(self):
        with open(self.path, encoding="utf-8", errors="replace") as file:
            return [line.strip() for line in file if line.strip()]


class Watch:
    """The watch over one guest, until nothing of it is left.

    @phase says what is waited for, and so what a passed @deadline means:

    "machine"  QEMU to make the machine, for which it needs the back end
    "boot"     the guest to begin its job
    "job"      the job to end
    "end"      QEMU to end; @code and @message are valid

    _conclude() leads to "end" from every phase. The watch is over when QEMU
    is dead and all that it left has been passed on.
    """

    def __init__(self, args, process, ours, run_dir):
        """Begin the watch.

        @args:    the launcher's options
        @process: borrowed; QEMU, just started
        @ours:    borrowed; {name: socket}, our ends of QEMU's channels
        @run_dir: where console.log and qemu.log go
        """
        self.args = args
        self.process = process
        self.code = None
        self.message = None
        self.phase = "machine"
        self.deadline = time.monotonic() + args.boot_timeout
        self.monitor = qemu.Monitor(ours["qmp"])
        self.monitor_fd = ours["qmp"].fileno()
        self.control = ours["control"]
        self.control_data = b""
        if args.shell:
            terminal = ours["terminal"].fileno()
            self.relays = [Relay(terminal, 1),
                           Relay(0, os.dup(terminal), is_keyboard=True)]
        else:
            self.relays = [Relay(ours["stdout"].fileno(), 1),
                           Relay(ours["stderr"].fileno(), 2)]
        self.console_log = Log(f"{run_dir}/console.log")
        self.qemu_log = Log(f"{run_dir}/qemu.log")
        self.port_lost = False
        self.signals = self._catch_signals()
        self.exit_fd = os.pidfd_open(process.pid)
        # What to do when a descriptor that is no relay's is readable.
        self.handlers = {
            self.signals.fileno(): self._on_signal,
            self.exit_fd: self._on_exit,
            self.monitor_fd: self._on_monitor,
        }
        # Those that are to be read to their ends when QEMU has died.
        self.last_words = {
            self.control.fileno(): self._on_control,
            ours["console"].fileno(): self._on_console,
            ours["log"].fileno(): self._on_qemu_log,
        }
        self.handlers.update(self.last_words)

    @staticmethod
    def _catch_signals():
        """Return a socket from which the signals' numbers can be read."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.detach())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: None)
        return reader

    def run(self):
        """Return (exit code, message or None)."""
        while self.exit_fd in self.handlers or any(
                relay.open for relay in self.relays if not relay.is_keyboard):
            self._step()
        return self.code, self.message

    def _step(self):
        poll = select.poll()
        waiting = {}
        for fd in self.handlers:
            poll.register(fd, select.POLLIN)
        for relay in self.relays:
            if relay.open:
                fd, event = relay.interest()
                poll.register(fd, event)
                waiting[fd] = relay
        rest = None
        if self.deadline is not None:
            rest = max(0, self.deadline - time.monotonic()) * 1000
        ready = poll.poll(rest)
        if not ready:
            self._on_deadline()
        for fd, _ in ready:
            if fd in waiting:
                self._on_relay(waiting[fd])
            elif fd in self.handlers:
                self.handlers[fd](fd)

    def _on_relay(self, relay):
        try:
            if relay.step():
                self._conclude(EXIT_DIED, "ended from the keyboard")
        except BrokenPipeError:
            relay.open = False
            if not relay.is_keyboard:
                self._conclude(128 + signal.SIGPIPE,
                               "nobody takes the job's output any more")

    def _read(self, fd):
        """Return what is there; at the end, b"", for the last time."""
        data = read(fd)
        if not data:
            del self.handlers[fd]
        return data

    def _on_console(self, fd):
        self.console_log.take(self._read(fd))

    def _on_qemu_log(self, fd):
        """QEMU says this some thousand times in a second."""
        data = self._read(fd)
        self.qemu_log.take(data)
        if b"vhost lacks feature" in data and not self.port_lost:
            self.port_lost = True
            print(f"launch: {self.args.name}: lost the network port: Open "
                  "vSwitch came back with another userspace-tso-enable"
                  f"{see(self.qemu_log)}", file=sys.stderr)

    def _on_monitor(self, fd):
        self.monitor.take(self._read(fd))
        if self.phase == "machine" and self.monitor.vcpus:
            self.phase = "boot"
            cpus = self.args.pin or []
            for vcpu, thread in enumerate(self.monitor.vcpus):
                if cpus:
                    os.sched_setaffinity(thread, {cpus[vcpu % len(cpus)]})

    def _on_control(self, fd):
        *lines, self.control_data = \
            (self.control_data + self._read(fd)).split(b"\n")
        for line in lines:
            self._on_line(line)

    def _on_line(self, line):
        """Take a line of initramfs/run-job; a guest may say anything."""
        ended = re.fullmatch(rb"exit (\d{1,3})", line)
        if line == b"start" and self.phase == "boot":
            self.phase = "job"
            self.deadline = None
            if self.args.timeout:
                self.deadline = time.monotonic() + self.args.timeout
            if self.args.ready_file:
                open(self.args.ready_file, "w", encoding="utf-8").close()
        elif ended and self.phase == "job" and int(ended[1]) < 256:
            self.phase = "end"
            self.deadline = time.monotonic() + GRACE
            self.code = int(ended[1])

    def _on_exit(self, fd):
        self.process.wait()
        del self.handlers[fd]
        for last, handler in self.last_words.items():
            while last in self.handlers:
                handler(last)
        if self.phase != "end":
            self._conclude(*self._cause_of_death())

    def _on_signal(self, _):
        number = self.signals.recv(1)[0]
        if self.phase == "end":
            self._drop_output()
        self._conclude(128 + number, f"ended by {signal.Signals(number).name}")

    def _on_deadline(self):
        args = self.args
        if self.phase == "machine" and args.vhost_user:
            self._conclude(EXIT_BOOT_TIMEOUT,
                           f"nothing has connected to {args.vhost_user} in "
                           f"{args.boot_timeout} s")
        elif self.phase in ("machine", "boot"):
            self._conclude(EXIT_BOOT_TIMEOUT,
                           f"the guest has not begun its job in "
                           f"{args.boot_timeout} s{see(self.console_log)}")
        elif self.phase == "job":
            self._conclude(EXIT_TIMEOUT, f"the job has not ended in "
                           f"{args.timeout} s{see(self.console_log)}")
        else:
            self.deadline = None
            if self.process.returncode is None:
                self.process.kill()
            # Whoever takes a good job's output may take his time.
            if self.message:
                self._drop_output()

    def _drop_output(self):
        for relay in self.relays:
            relay.open = False

    def _conclude(self, code, message):
        """End the guest, whatever it does."""
        self.phase = "end"
        self.deadline = time.monotonic() + GRACE
        self.code = code
        self.message = message
        if self.process.returncode is None:
            self.process.terminate()

    def _cause_of_death(self):
        """Return (code, message) for a QEMU that ended before the job."""
        status = self.process.returncode
        if status < 0:
            name = signal.Signals(-status).name
            return EXIT_DIED, f"QEMU was killed by {name}"
        if status > 0:
            code = EXIT_NO_START if self.phase == "machine" else EXIT_DIED
            said = self.qemu_log.lines() or ["it does not say why"]
            return code, f"QEMU failed: {said[-1]}{see(self.qemu_log)}"
        console = see(self.console_log)
        for line in self.console_log.lines():
            if "Kernel panic" in line:
                return EXIT_DIED, f"the guest died: {line}{console}"
        return EXIT_DIED, f"the guest powered off before its job ended{console}"
