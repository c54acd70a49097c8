# SPDX-License-Identifier: BSD-3-Clause
"""The corner cases that have names: reads corners/*.txt.

A file is sections that begin with "== NAME"; "== NAME (kernel)" says that bytes go through
the kernel's TCP by right, "== NAME (differs)" that the shim is known to do otherwise. A line
"use MACRO" is replaced by the lines of the section "-- MACRO".
"""

import glob
import os
import re

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corners")


def sections(path):
    """Yield (the mark, the heading, the lines) of each section."""
    mark = heading = None
    lines = []
    with open(path, encoding="utf-8") as file:
        for line in file.read().splitlines() + ["== "]:
            if line[:3] in ("== ", "-- "):
                if heading:
                    yield mark, heading, lines
                mark, heading, lines = line[:2], line[3:].strip(), []
            elif line and not line.startswith("#"):
                lines.append(line)


def expand(lines, macros):
    for line in lines:
        if line.startswith("use "):
            yield from expand(macros[line[4:].strip()], macros)
        else:
            yield line


def scenarios():
    """Return a list of (name, lines, remark), the remark "", "kernel" or "differs"."""
    macros, found = {}, []
    for path in sorted(glob.glob(os.path.join(FOLDER, "*.txt"))):
        stem = os.path.basename(path)[:-len(".txt")]
        for mark, heading, lines in sections(path):
            if mark == "--":
                macros[heading] = lines
                continue
            name, remark = re.fullmatch(r"(\S+)(?: \((kernel|differs)\))?", heading).groups()
            found.append((f"{stem}-{name}", lines, remark or ""))
    return [(name, list(expand(lines, macros)), remark) for name, lines, remark in found]
