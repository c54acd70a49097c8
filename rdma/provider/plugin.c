/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What makes the library a plug-in of libibverbs: loading it makes the provider known.
 * Linked into libvrdma-rdmav34.so alone; the name's number is that of rdma-core's private
 * interface, as is the function's.
 */
#include "provider_priv.h"

static void __attribute__((constructor)) register_provider(void)
{
	verbs_register_driver_34(&provider_ops);
}
