/* SPDX-License-Identifier: BSD-3-Clause */
#include "own_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SKIPPED 77

int own_net(const char *setup)
{
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		printf("skipped: no network namespace: %s\n", strerror(errno));
		return SKIPPED;
	}
	if (system(setup)) {
		printf("skipped: no interface that can be changed\n");
		return SKIPPED;
	}
	return 0;
}

void run(const char *command)
{
	assert_int_equal(system(command), 0);
}
