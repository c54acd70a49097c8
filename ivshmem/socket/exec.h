/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections across exec(): see exec.c.
 */
#ifndef IVSHMEM_SOCKET_EXEC_H
#define IVSHMEM_SOCKET_EXEC_H

/** exec_adopt() - at the beginning: take over what the program before left */
void exec_adopt(void);

#endif
