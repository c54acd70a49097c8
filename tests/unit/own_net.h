/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A network namespace of a test's own, whose interfaces it may change.
 */
#ifndef TESTS_UNIT_OWN_NET_H
#define TESTS_UNIT_OWN_NET_H

/** own_net() - enter one
 * @setup: shell commands that make its interfaces
 * Return: 0; or 77 (meson: skipped), and it is told why
 */
int own_net(const char *setup);

/** run() - a shell command, which must succeed */
void run(const char *command);

#endif
