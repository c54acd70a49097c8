# SPDX-License-Identifier: BSD-3-Clause
"""A region of shared memory to run the socket shim in: an ivshmem server of one's own."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

PATIENCE = 60
SIZE = 1 << 20       # what sockets use is not in it
PROCESSES = 1000


class Region:
    """A context: the server runs, and environment() makes programs use the shim."""

    def __init__(self, server, library):
        self.library = os.path.abspath(library)
        self.server = os.path.abspath(server)
        self.folder = self.socket = self.process = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="vrdma-region-")
        self.socket = f"{self.folder}/region.sock"
        config = f"{self.folder}/config.json"
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"join-rate": 1000000,
                       "regions": [{"name": "r", "socket": self.socket, "size": SIZE,
                                    "sockets": PROCESSES}]}, file)
        self.process = subprocess.Popen([self.server, "--config", config])
        end = time.monotonic() + PATIENCE
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise RuntimeError("the ivshmem server does not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        shutil.rmtree(self.folder)

    def environment(self):
        return {"VRDMA_REGION": self.socket}
