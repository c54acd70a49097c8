# SPDX-License-Identifier: BSD-3-Clause
"""Makes scenarios for the conformance tool (README.md has the language) from a seed.

A scenario is a random walk, but every step's outcome must be certain on the kernel. So
the generator keeps a model of the connection: how many bytes wait at each end, who has
shut what, who holds which descriptor. After whatever changes the other end's state it
adds a step that waits there until the change has arrived. Steps that would block for
ever are not made, or are begun and then given what they wait for.
"""

import random
import string

# $A and $A6 are the addresses of lane A's host, $B and $B6 of lane B's. What is listened
# at, what is connected to: family of the listener, its address, of the client, its goal.
WAYS = (
    ("AF_INET", "$A", "AF_INET", "$A"),
    ("AF_INET", "0.0.0.0", "AF_INET", "$A"),
    ("AF_INET6", "$A6", "AF_INET6", "$A6"),
    ("AF_INET6", "::", "AF_INET6", "$A6"),
    ("AF_INET6", "::", "AF_INET", "$A"),
    ("AF_INET6", "::", "AF_INET6", "::ffff:$A"),
    ("AF_INET", "$A", "AF_INET6", "::ffff:$A"),
)

OPTIONS = (
    ("SOL_SOCKET", "SO_KEEPALIVE", (0, 1)), ("SOL_SOCKET", "SO_OOBINLINE", (0, 1)),
    ("SOL_SOCKET", "SO_REUSEADDR", (0, 1)), ("SOL_SOCKET", "SO_BROADCAST", (0, 1)),
    ("SOL_SOCKET", "SO_PRIORITY", (0, 3)), ("SOL_SOCKET", "SO_RCVLOWAT", (1, 1)),
    ("SOL_SOCKET", "SO_DONTROUTE", (0,)),
    ("IPPROTO_TCP", "TCP_NODELAY", (0, 1)), ("IPPROTO_TCP", "TCP_KEEPIDLE", (60, 100)),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", (5, 75)), ("IPPROTO_TCP", "TCP_KEEPCNT", (3, 9)),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", (0, 30000)),
    ("IPPROTO_TCP", "TCP_SYNCNT", (3, 5)), ("IPPROTO_TCP", "TCP_LINGER2", (20,)),
    ("IPPROTO_TCP", "TCP_NOTSENT_LOWAT", (100000,)),
)
READ_ONLY = (
    ("SOL_SOCKET", "SO_TYPE"), ("SOL_SOCKET", "SO_DOMAIN"), ("SOL_SOCKET", "SO_PROTOCOL"),
    ("SOL_SOCKET", "SO_ACCEPTCONN"), ("SOL_SOCKET", "SO_ERROR"),
)
SMALL = 40         # the longest text
LARGE = 20000      # the longest pattern; any system takes it without blocking
UNREAD_MAX = 40000


class End:
    """One end of a connection, as the model sees it."""

    def __init__(self, process):
        self.refs = set()         # (process, slot)
        self.home = process
        self.unread = 0
        self.fin = False          # the other end has finished
        self.shut = set()         # SHUT_RD, SHUT_WR
        self.nonblock = False
        self.other = None

    @property
    def closed(self):
        return not self.refs


class Scenario:
    """Lines of one scenario, and the model behind them."""

    def __init__(self, rng):
        self.rng = rng
        self.lines = []
        self.lanes = {"A": "A", "B": "B"}      # lane: its process
        self.parent = {}                       # process: the one that forked it
        self.cloexec = set()                   # refs
        self.n_slots = 0
        self.ends = []
        self.epolls = {}                       # process: (slot, {ref: (end, flags)})
        self.over = False                      # nothing more is certain

    def add(self, lane, *words):
        self.lines.append(" ".join([lane, *map(str, words)]))

    def slot(self, stem):
        self.n_slots += 1
        return f"{stem}{self.n_slots}"

    def lane_of(self, process):
        return self.rng.choice([lane for lane, p in self.lanes.items() if p == process])

    def free_lane(self):
        free = [lane for lane in "CDEFGH" if lane not in self.lanes]
        return free[0] if free else None

    def at(self, end):
        """Return (lane, slot) by which something can be done with @end."""
        process, slot = self.rng.choice(sorted(end.refs))
        return self.lane_of(process), slot

    # -- connections

    def connect(self):
        """A connection between A, which listens, and B; its listener goes on."""
        rng = self.rng
        family, where, client_family, to = rng.choice(WAYS)
        listener, client, accepted = self.slot("l"), self.slot("c"), self.slot("a")
        port = f"p{self.n_slots}"
        server, near = End("A"), End("B")
        accept_nonblock = rng.random() < 0.3
        self.add("A", "socket", listener, family,
                 "SOCK_STREAM" + ("|SOCK_NONBLOCK" if accept_nonblock else ""))
        if rng.random() < 0.3:
            self.add("A", "set", listener, "SOL_SOCKET", "SO_REUSEADDR", 1)
        if rng.random() < 0.9:
            self.add("A", "bind", listener, where, 0)
            self.add("A", "listen", listener, rng.choice((1, 5, 128)))
        else:
            self.add("A", "listen", listener, 5)    # binds to any address itself
            to = "$A6" if client_family == "AF_INET6" and ":" in where and \
                to == "$A6" else to
        self.add("A", "name", listener, port)
        near.nonblock = rng.random() < 0.4
        self.add("B", "socket", client, client_family,
                 "SOCK_STREAM" + ("|SOCK_NONBLOCK" if near.nonblock else ""))
        if rng.random() < 0.3:
            self.add("B", "bind", client, "$B" if client_family == "AF_INET" else
                     "::ffff:$B" if to.startswith("::ffff") else "$B6", 0)
        first_accept = not accept_nonblock and rng.random() < 0.3
        if first_accept:
            self.add("A&", "accept", listener, accepted, 128)
            self.add("settle", "A")
        self.add("B", "connect", client, to, f"${port}")
        if near.nonblock:
            self.add("B", "await", client, "POLLOUT")
            self.add("B", "get", client, "SOL_SOCKET", "SO_ERROR")
        if first_accept:
            self.add("A", "wait")
        else:
            if accept_nonblock or rng.random() < 0.5:
                self.add("A", "await", listener, "POLLIN")
            self.accept(listener, accepted, server)
        server.refs.add(("A", accepted))
        near.refs.add(("B", client))
        server.other, near.other = near, server
        self.ends += [server, near]
        for end in server, near:
            if rng.random() < 0.4:
                self.names(end)
        if rng.random() < 0.3:
            self.add("A", "close", listener)

    def accept(self, listener, accepted, server):
        kind = self.rng.random()
        if kind < 0.5:
            self.add("A", "accept", listener, accepted, self.rng.choice((0, 16, 28, 128)))
        else:
            server.nonblock = kind > 0.8
            flags = "SOCK_NONBLOCK" if server.nonblock else "0"
            if self.rng.random() < 0.3:
                flags += "|SOCK_CLOEXEC"
                self.cloexec.add(("A", accepted))
            self.add("A", "accept4", listener, accepted, flags)

    def names(self, end):
        lane, slot = self.at(end)
        self.add(lane, "name", slot)
        self.add(lane, "peer", slot)

    # -- data

    def send(self, end):
        """Send something by one of the calls, and wait until it has arrived."""
        if "SHUT_WR" in end.shut or end.other.closed or \
                end.other.unread > UNREAD_MAX or "SHUT_RD" in end.other.shut:
            return
        lane, slot = self.at(end)
        n = self.send_by(lane, slot)
        end.other.unread += n
        self.arrived(end.other)

    def text(self):
        n = self.rng.randint(1, SMALL)
        return "".join(self.rng.choices(string.ascii_lowercase, k=n))

    def send_by(self, lane, slot):
        rng = self.rng
        how = rng.choice(("write", "send", "send", "sendto", "writev", "sendmsg", "sendmmsg",
                          "sendall", "sendfile", "dprintf", "stream_write"))
        texts = [self.text() for _ in range(rng.randint(1, 4))]
        n = sum(map(len, texts))
        flags = rng.choice(("0", "MSG_NOSIGNAL", "MSG_DONTWAIT"))
        if how in ("write", "dprintf"):
            self.add(lane, how, slot, texts[0])
            return len(texts[0])
        if how == "stream_write":
            self.add(lane, how, slot, texts[0])
            return len(texts[0]) + 1
        if how == "send":
            self.add(lane, how, slot, flags, texts[0])
            return len(texts[0])
        if how == "sendto":
            self.add(lane, how, slot, flags, texts[0], "$A", 9)
            return len(texts[0])
        if how == "writev":
            self.add(lane, how, slot, *texts)
            return n
        if how in ("sendmsg", "sendmmsg"):
            self.add(lane, how, slot, flags, *texts)
            return n
        size = rng.randint(1, LARGE)
        if how == "sendall":
            self.add(lane, how, slot, size, rng.randint(0, 99))
            return size
        file = self.slot("f")
        self.add(lane, "file", file, size, rng.randint(0, 99))
        offset = rng.choice(("-", 0, size // 2))
        self.add(lane, "sendfile", slot, file, offset, size)
        self.add(lane, "close", file)
        return size - (0 if offset == "-" else offset)

    def arrived(self, end):
        """Wait until what the other end did is to be seen."""
        if end.closed:
            return
        lane, slot = self.at(end)
        if end.fin:
            self.add(lane, "await", slot, "POLLRDHUP")
        self.add(lane, "await_bytes", slot, end.unread)

    def receive(self, end):
        if "SHUT_RD" in end.shut:
            return
        lane, slot = self.at(end)
        rng = self.rng
        sure = end.unread or end.fin or end.nonblock
        how = rng.choice(("read", "recv", "recv", "recvfrom", "readv", "recvmsg", "recvmmsg",
                          "read_chk", "recv_chk"))
        size = rng.choice((0, 1, 7, 100, 4000, 30000)) if sure else rng.choice((1, 100))
        flags = rng.choice(("0", "MSG_DONTWAIT", "MSG_PEEK|MSG_DONTWAIT", "MSG_TRUNC",
                            "MSG_PEEK", "MSG_WAITALL"))
        if how == "recvmmsg":
            flags, size = "MSG_DONTWAIT", max(size, 1)
        if not sure:
            if how in ("read", "readv", "read_chk"):
                how = "recv"
            flags = rng.choice(("MSG_DONTWAIT", "MSG_PEEK|MSG_DONTWAIT"))
        sizes = [size]
        if how in ("readv", "recvmsg"):
            sizes = [rng.choice((0, 1, 10, 500)) for _ in range(rng.randint(0, 3))] + sizes
        if sum(sizes) > end.unread and "WAITALL" in flags and not end.fin:
            flags = "MSG_WAITALL|MSG_DONTWAIT"
        if how in ("read", "readv", "read_chk"):
            self.add(lane, how, slot, *sizes)
            flags = ""
        else:
            self.add(lane, how, slot, flags, *sizes)
        if "PEEK" not in flags:
            end.unread -= min(sum(sizes), end.unread)

    def receive_first(self, end):
        """A read that has to wait for what the other end sends then."""
        sender = end.other
        if end.unread or end.fin or end.nonblock or sender.closed or end.shut or sender.shut:
            return
        lane, slot = self.at(end)
        far = [l for l in self.lanes if l != lane and
               any(p == self.lanes[l] for p, _ in sender.refs)]
        if not far:
            return
        far_lane = self.rng.choice(far)
        far_slot = self.rng.choice(sorted(s for p, s in sender.refs
                                          if p == self.lanes[far_lane]))
        words = [self.text() for _ in range(self.rng.randint(1, 3))]
        total = sum(map(len, words))
        if len(words) == 1:
            self.add(f"{lane}&", self.rng.choice(("recv {} 0", "read {}", "recvmsg {} 0")
                                                 ).format(slot), 500)
        else:
            self.add(f"{lane}&", "recv", slot, "MSG_WAITALL", total)
        if self.rng.random() < 0.7:
            self.add("settle", lane)
        for word in words:
            self.add(far_lane, "send", far_slot, 0, word)
        self.add(lane, "wait")

    # -- readiness

    EVENTS = ("POLLIN", "POLLOUT", "POLLIN|POLLOUT", "POLLIN|POLLRDHUP",
              "POLLIN|POLLOUT|POLLRDHUP|POLLPRI", "0")

    def ask(self, end):
        process, slot = self.rng.choice(sorted(end.refs))
        lane = self.lane_of(process)
        if self.rng.random() < 0.6:
            timeout = 3 if self.rng.random() < 0.2 else 0
            self.add(lane, self.rng.choice(("poll", "ppoll")), timeout,
                     f"{slot}:{self.rng.choice(self.EVENTS)}")
        else:
            sets = self.rng.sample((f"r={slot}", f"w={slot}", f"e={slot}"),
                                   self.rng.randint(1, 3))
            self.add(lane, self.rng.choice(("select", "pselect")), 0, *sets)

    def wait_first(self, end):
        """A poll or select that has to wait for what the other end does then."""
        sender = end.other
        if end.unread or end.fin or sender.closed or end.shut or sender.shut:
            return
        lane, slot = self.at(end)
        far = [(l, s) for p, s in sorted(sender.refs) for l in self.lanes
               if self.lanes[l] == p and l != lane]
        if not far:
            return
        if self.rng.random() < 0.5:
            self.add(f"{lane}&", "poll", -1, f"{slot}:POLLIN|POLLRDHUP")
        else:
            self.add(f"{lane}&", "select", -1, f"r={slot}")
        self.add("settle", lane)
        far_lane, far_slot = self.rng.choice(far)
        word = self.text()
        self.add(far_lane, "write", far_slot, word)
        self.add(lane, "wait")
        end.unread += len(word)
        self.arrived(end)

    def epoll(self, end):
        """Registers, changes or asks, level- and edge-triggered and once."""
        rng = self.rng
        process, slot = rng.choice(sorted(end.refs))
        if len(self.lanes) > 2:
            return          # a registration belongs to the file, not to the descriptor
        lane = self.lane_of(process)
        if process not in self.epolls:
            self.epolls[process] = (self.slot("e"), {})
            self.add(lane, "epoll", self.epolls[process][0])
        epoll, there = self.epolls[process]
        kind = rng.random()
        if (slot in there) != (kind < 0.1):
            if kind < 0.5 and slot in there:
                self.add(lane, "ctl", epoll, "EPOLL_CTL_DEL", f"{slot}:0")
                del there[slot]
        else:
            flags = rng.choice(("", "", "|EPOLLET", "|EPOLLONESHOT", "|EPOLLET|EPOLLONESHOT"))
            if end.shut:
                flags = flags.replace("|EPOLLET", "")
            what = "EPOLL_CTL_MOD" if slot in there and kind < 0.9 else "EPOLL_CTL_ADD"
            events = rng.choice(("EPOLLIN", "EPOLLOUT", "EPOLLIN|EPOLLOUT",
                                 "EPOLLIN|EPOLLRDHUP"))
            self.add(lane, "ctl", epoll, what, f"{slot}:{events}{flags}")
            there.setdefault(slot, end)
        self.add(lane, rng.choice(("epoll_wait", "epoll_pwait", "epoll_pwait2")), epoll, 0,
                 rng.choice((1, 8)) if len(there) < 2 else 8)

    # -- descriptors and options

    def option(self, end):
        lane, slot = self.at(end)
        if self.rng.random() < 0.3:
            self.add(lane, "get", slot, *self.rng.choice(READ_ONLY))
            return
        level, name, values = self.rng.choice(OPTIONS)
        if self.rng.random() < 0.6:
            self.add(lane, "set", slot, level, name, self.rng.choice(values))
        self.add(lane, "get", slot, level, name)

    def nonblocking(self, end):
        lane, slot = self.at(end)
        end.nonblock = self.rng.random() < 0.5
        if self.rng.random() < 0.5:
            self.add(lane, "fcntl", slot, "F_SETFL", "O_NONBLOCK" if end.nonblock else 0)
        else:
            self.add(lane, "ioctl", slot, "FIONBIO", int(end.nonblock))
        self.add(lane, "fcntl", slot, "F_GETFL")

    def duplicate(self, end):
        process, slot = self.rng.choice(sorted(end.refs))
        if len(end.refs) > 4 or process in self.epolls:
            return
        lane, new = self.lane_of(process), self.slot("d")
        kind = self.rng.choice(("dup", "F_DUPFD", "F_DUPFD_CLOEXEC", "dup2"))
        if kind == "dup":
            self.add(lane, "dup", slot, new)
        elif kind == "dup2":
            new = f"#{60 + self.n_slots}"
            self.add(lane, "dup2", slot, new)
        else:
            self.add(lane, "dup_at", slot, new, kind, self.rng.choice((0, 50)))
        end.refs.add((process, new))
        if kind == "F_DUPFD_CLOEXEC":
            self.cloexec.add((process, new))
        self.add(lane, "fcntl", new, "F_GETFD")

    def close_on_exec(self, end):
        process, slot = self.rng.choice(sorted(end.refs))
        on = self.rng.random() < 0.5
        self.add(self.lane_of(process), "fcntl", slot, "F_SETFD", int(on))
        (self.cloexec.add if on else self.cloexec.discard)((process, slot))

    # -- processes

    def fork(self, end):
        new = self.free_lane()
        if not new or len(self.lanes) > 4 or self.epolls:
            return
        process = self.rng.choice(sorted(set(self.lanes.values())))
        self.add(self.lane_of(process), "fork", new)
        self.lanes[new] = self.parent[new] = new
        self.parent[new] = process
        for end_ in self.ends:
            for ref in [r for r in end_.refs if r[0] == process]:
                end_.refs.add((new, ref[1]))
                if ref in self.cloexec:
                    self.cloexec.add((new, ref[1]))

    def thread(self, end):
        new = self.free_lane()
        if not new or len(self.lanes) > 4:
            return
        process = self.rng.choice(sorted(set(self.lanes.values())))
        self.add(self.lane_of(process), "thread", new)
        self.lanes[new] = process

    def exec(self, end):
        """Only of a process with one lane: exec ends all threads but one."""
        alone = sorted(p for p in set(self.lanes.values())
                       if list(self.lanes.values()).count(p) == 1 and p in self.lanes)
        kept = [p for p in alone if not self.epolls.get(p)]
        if not kept:
            return
        process = self.rng.choice(kept)
        lost = [ref for ref in self.cloexec if ref[0] == process]
        if any(end_.refs and end_.refs <= set(lost) for end_ in self.ends):
            return          # would close it: that's for other scenarios
        self.add(process, "exec", process)
        for end_ in self.ends:
            end_.refs -= set(lost)
        self.cloexec -= set(lost)

    def drop(self, end):
        """Close one of several descriptors of an end: nothing ends by that."""
        if len(end.refs) < 2:
            return
        process, slot = self.rng.choice(sorted(end.refs))
        if process in self.epolls:
            return
        self.add(self.lane_of(process), "close", slot)
        end.refs.discard((process, slot))

    # -- the end

    def shut(self, end):
        """Shut down one direction."""
        if end.other.closed or end.shut:
            return
        if any(there for _, there in self.epolls.values()):
            return          # how many edges that makes is not certain
        lane, slot = self.at(end)
        self.add(lane, "shutdown", slot, "SHUT_WR")
        end.shut.add("SHUT_WR")
        end.other.fin = True
        self.arrived(end.other)

    def close(self, end):
        """The last step with the connection's one end, and what the other sees then."""
        if end.other.closed:
            return
        self.over = True
        other = end.other
        abort = bool(end.unread)
        if self.rng.random() < 0.2:
            lane, slot = self.at(end)
            self.add(lane, "linger", slot, 1, self.rng.choice((0, 0, 1)))
            abort = abort or self.lines[-1].endswith(" 0")
        for process, slot in sorted(end.refs):
            self.add(self.lane_of(process), "close", slot)
        end.refs.clear()
        lane, slot = self.at(other)
        if abort and (end.shut or other.shut):
            return          # whether a reset still hits depends on timers
        if abort:
            self.add(lane, "await", slot, "POLLERR|POLLHUP")
        else:
            self.add(lane, "await", slot, "POLLRDHUP")
        self.after_close(lane, slot, other, abort)

    def after_close(self, lane, slot, other, abort):
        self.add(lane, "poll", 0, f"{slot}:POLLIN|POLLOUT|POLLRDHUP")
        first = self.rng.random()
        if abort and first < 0.3:
            self.add(lane, "get", slot, "SOL_SOCKET", "SO_ERROR")
        elif abort and first < 0.6:
            self.add(lane, "send", slot, "MSG_NOSIGNAL", "after")
        for _ in range(2 if not other.unread else 3):
            self.add(lane, "recv", slot, 0, 65536)
        self.add(lane, "poll", 0, f"{slot}:POLLIN|POLLOUT|POLLRDHUP")
        self.add(lane, "sigaction", "SIGPIPE", self.rng.choice(("catch", "ignore")))
        self.add(lane, "write", slot, "first")
        if "SHUT_WR" not in other.shut:
            self.add(lane, "await", slot, "POLLHUP")
            self.add(lane, "send", slot, 0, "second")
        self.add(lane, "get", slot, "SOL_SOCKET", "SO_ERROR")
        self.add(lane, "peer", slot)
        self.add(lane, "close", slot)


# How often each kind of step is taken, by the scenario's theme.
THEMES = {
    "talk": {"send": 6, "receive": 7, "receive_first": 3, "ask": 2, "shut": 0.5},
    "ready": {"send": 3, "receive": 4, "ask": 6, "wait_first": 2, "shut": 0.5},
    "epoll": {"send": 4, "receive": 4, "epoll": 9},
    "descriptors": {"send": 3, "receive": 3, "duplicate": 3, "drop": 2, "nonblocking": 2,
                    "close_on_exec": 1, "ask": 1, "option": 1, "shut": 0.5},
    "processes": {"send": 4, "receive": 4, "receive_first": 2, "wait_first": 1, "fork": 1.5,
                  "thread": 1.5, "exec": 1, "duplicate": 1, "close_on_exec": 1, "drop": 2,
                  "nonblocking": 1, "shut": 0.3},
    "options": {"option": 8, "nonblocking": 1, "names": 1, "send": 1, "receive": 1},
    "many": {"connect": 1, "send": 6, "receive": 6, "ask": 2, "wait_first": 1,
             "names": 0.5},
}


def scenario(seed, number):
    """Return (name, lines) of scenario @number of @seed."""
    rng = random.Random(f"{seed}:{number}")
    theme = list(THEMES)[number % len(THEMES)]
    weights = THEMES[theme]
    made = Scenario(rng)
    made.connect()
    for _ in range(rng.randint(8, 30)):
        kind = rng.choices(list(weights), list(weights.values()))[0]
        if kind == "connect":
            if len(made.ends) < 8:
                made.connect()
            continue
        getattr(made, kind)(rng.choice([e for e in made.ends if not e.closed]))
    if not any(there for _, there in made.epolls.values()):
        made.close(rng.choice(made.ends))
    return f"{theme}-{number:04}", made.lines
