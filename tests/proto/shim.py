# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of the socket shim share: a server with a region, and its counters."""

import os
import re
import signal
import subprocess
import time


class Region:
    """A server with one region, and its counters."""

    def __init__(self, server, folder, users=("root",)):
        self.socket = os.path.join(folder, "region")
        region = f"name=a,size=64K,socket={self.socket},sockets=200,hugepages=never"
        self.process = subprocess.Popen(
            [server, "--region", region + "".join(f",uid={u}" for u in users)],
            stdout=subprocess.PIPE, text=True)
        while not os.path.exists(self.socket + ".dir"):
            assert self.process.poll() is None
            time.sleep(0.01)

    def counters(self):
        self.process.send_signal(signal.SIGUSR1)
        for line in self.process.stdout:
            if line.startswith("region "):
                return {k: int(v) for k, v in re.findall(r" (\w+)=(\d+)(?= )", line)}

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
