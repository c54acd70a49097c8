# SPDX-License-Identifier: BSD-3-Clause
"""Applications: redis with pipelines of 1 and 16, nginx with small files."""

import contextlib
import os
import re
import tempfile
from functools import partial

from lib.common import BenchError
from lib.nodes import listening
from lib.sections import Section, Target

REDIS_PORT, HTTP_PORT = 6379, 8080
REQUESTS = 60000        # of redis, at 2 seconds' measurement
FILE_BYTES = 1024
NGINX = """
user root; worker_processes 1; daemon off; pid {folder}/pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    keepalive_requests 1000000;
    server {{ listen {port}; root {folder}; }}
}}
"""


def redis_run(sides, pipeline, n_requests):
    text = sides[0].run("redis-benchmark", "-h", sides[1].under, "-p", str(REDIS_PORT),
                        "-t", "get", "-c", "16", "-n", str(n_requests), "-P",
                        str(pipeline), "--csv")
    rows = re.findall(r'"GET[^"]*","([\d.]+)"', text)
    if not rows:
        raise BenchError(f"redis-benchmark measured nothing:\n{text}")
    return float(rows[-1])


def redis(which, bench):
    sides = getattr(bench, which)
    n_requests = int(REQUESTS * bench.seconds / 2)
    with bench.rings_used(which), \
            listening(sides[1], REDIS_PORT, "redis-server", "--port", str(REDIS_PORT),
                      "--bind", sides[1].under, "--save", "", "--appendonly", "no",
                      "--protected-mode", "no"):
        return {"per_s_P1": redis_run(sides, 1, n_requests),
                "per_s_P16": redis_run(sides, 16, 4 * n_requests)}


@contextlib.contextmanager
def web_folder():
    with tempfile.TemporaryDirectory(prefix="vrdma-web-") as folder:
        os.chmod(folder, 0o755)
        with open(f"{folder}/small", "w", encoding="ascii") as file:
            file.write("x" * FILE_BYTES)
        with open(f"{folder}/conf", "w", encoding="ascii") as file:
            file.write(NGINX.format(folder=folder, port=HTTP_PORT))
        yield folder


def nginx(which, bench):
    sides = getattr(bench, which)
    with bench.rings_used(which), web_folder() as folder, \
            listening(sides[1], HTTP_PORT, "nginx", "-c", f"{folder}/conf"):
        text = sides[0].run("wrk", "-t", "1", "-c", "16", "-d",
                            f"{max(round(bench.seconds), 1)}s",
                            f"http://{sides[1].under}:{HTTP_PORT}/small")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not rate or "Non-2xx" in text:
        raise BenchError(f"wrk measured nothing:\n{text}")
    return {"per_s": float(rate[1])}


REDIS = Section("redis", {"tcp": partial(redis, "tcp"), "shim": partial(redis, "shim")}, [
    Target("pipeline 1: shim / TCP", "shim", "tcp", "per_s_P1", 2),
    Target("pipeline 16: shim / TCP", "shim", "tcp", "per_s_P16", 2),
])
WEB = Section("nginx", {"tcp": partial(nginx, "tcp"), "shim": partial(nginx, "shim")}, [
    Target("files of 1 KiB: shim / TCP", "shim", "tcp", "per_s", 2),
])
