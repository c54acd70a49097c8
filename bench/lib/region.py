# SPDX-License-Identifier: BSD-3-Clause
"""A region of shared memory to run the socket shim in: an ivshmem server of one's own."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

PATIENCE = 60
SIZE = 1 << 20       # what sockets use is not in it
PROCESSES = 1000


def sanitizers_of(library):
    """The run-time libraries of sanitizers that it needs: they have to come before it."""
    needed = subprocess.run(["ldd", library], check=True, stdout=subprocess.PIPE, text=True)
    return re.findall(r"=> (\S*/lib(?:a|t|ub)san\S*)", needed.stdout)


class Region:
    """A context: the server runs. Who is not its user needs to be in @uids.

    @guests: texts NAME@ADDRESS; the sockets of guests with others lie in the region
    """

    def __init__(self, server, uids=(), size=SIZE, guests=()):
        self.server = os.path.abspath(server)
        self.size = size
        self.guests = {"guest": list(guests)} if guests else {}
        self.access = {"uid": [os.geteuid(), *uids]} if uids else {}
        self.folder = self.socket = self.process = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="vrdma-region-")
        os.chmod(self.folder, 0o711)
        self.socket = f"{self.folder}/region.sock"
        config = f"{self.folder}/config.json"
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"join-rate": 1000000,
                       "regions": [{"name": "r", "socket": self.socket, "size": self.size,
                                    "sockets": PROCESSES, "hugepages": "never",
                                    **self.access, **self.guests}]}, file)
        self.start()
        return self

    def start(self):
        self.process = subprocess.Popen([self.server, "--config", f"{self.folder}/config.json"],
                                        stdout=subprocess.PIPE, text=True)
        end = time.monotonic() + PATIENCE
        while not os.path.exists(self.socket + ".dir"):
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise RuntimeError("the ivshmem server does not start")
            time.sleep(0.01)

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def restart(self):
        self.stop()
        self.start()

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder)

    def counters(self, guest=None):
        """What the server counts of the region, or of one of its guests."""
        self.process.send_signal(signal.SIGUSR1)
        begin = f"guest region=r name={guest} " if guest else "region "
        fresh = False   # before it comes what nobody has read of the time before
        for line in self.process.stdout:
            fresh = fresh or line.startswith("server ")
            if fresh and line.startswith(begin):
                return {k: int(v) for k, v in re.findall(r" (\w+)=(\d+)(?= )", line)}
        raise RuntimeError("the ivshmem server has ended")

    def environment(self, library):
        """What makes a program use the shim @library."""
        before = sanitizers_of(library)
        return {"VRDMA_REGION": self.socket,
                "LD_PRELOAD": ":".join([*before, os.path.abspath(library)])}
