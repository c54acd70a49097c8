#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Takes all free huge pages of 2 MiB and keeps them until it is ended, or for a
minute; prints their number when it has them. For tests of what others do then.
"""

import mmap
import time

MAP_HUGETLB = 0x40000       # Linux, asm-generic/mman.h
PAGE = 2 << 20

pages = []
while True:
    try:
        # Reserved, which is enough: nobody else can map them.
        pages.append(mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE |
                               mmap.MAP_ANONYMOUS | MAP_HUGETLB))
    except OSError:
        break
print(len(pages), flush=True)
time.sleep(60)
