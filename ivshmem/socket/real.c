/* SPDX-License-Identifier: BSD-3-Clause */
#include "real.h"

#include <dlfcn.h>

struct real real;

void real_init(void)
{
	if (real.execve)
		return;
#define X(type, name, args) real.name = (type(*) args)dlsym(RTLD_NEXT, #name);
	REAL_FUNCTIONS(X)
#undef X
}
