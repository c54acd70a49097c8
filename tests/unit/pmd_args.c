/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmd/args.c: every argument, its bounds, and that a refusal names the argument.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/util.h"
#include "pmd/args.h"

static void takes_all(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0xab, 1};
	struct args args;
	char err[200];

	assert_int_equal(args_parse("device=udp,local=10.0.0.1,peer=10.0.0.2,"
				    "peer=10.0.0.3:4800,peer=[fd00::1]:4801,peer=fd00::2,"
				    "key=/etc/vrdma.key,hello_port=4792,"
				    "node=n1,mac=02:00:00:00:ab:01,mtu=9000,rxbufs=64,"
				    "txq_size=100",
				 &args, err, sizeof(err)),
		0);
	assert_string_equal(args.device, "udp");
	assert_string_equal(args.local, "10.0.0.1");
	assert_string_equal(args.key, "/etc/vrdma.key");
	assert_string_equal(args.node, "n1");
	assert_int_equal(args.n_peers, 4);
	assert_string_equal(args.peers[0].address, "10.0.0.2");
	assert_int_equal(args.peers[0].port, 0);
	assert_string_equal(args.peers[1].address, "10.0.0.3");
	assert_int_equal(args.peers[1].port, 4800);
	assert_string_equal(args.peers[2].address, "fd00::1");
	assert_int_equal(args.peers[2].port, 4801);
	assert_string_equal(args.peers[3].address, "fd00::2");
	assert_int_equal(args.peers[3].port, 0);
	assert_int_equal(args.hello_port, 4792);
	assert_memory_equal(args.mac, mac, 6);
	assert_int_equal(args.mtu, 9000);
	assert_int_equal(args.rxbufs, 64);
	assert_int_equal(args.txq_size, 128); /* the next power of two */
	args_free(&args);
}

static void defaults(void **state)
{
	static const uint8_t mac4[6] = {2, 'V', 10, 0, 0, 1};
	struct args args;
	char err[200];

	assert_int_equal(args_parse("local=10.0.0.1", &args, err, sizeof(err)), 0);
	assert_string_equal(args.device, "auto");
	assert_memory_equal(args.mac, mac4, 6);
	assert_int_equal(args.n_peers, 0);
	assert_int_equal(args.hello_port, 0);
	assert_int_equal(args.mtu, ARGS_MTU_DEFAULT);
	assert_int_equal(args.rxbufs, ARGS_RXBUFS);
	assert_int_equal(args.txq_size, ARGS_TXQ_SIZE);
	assert_string_equal(args.key, "");
	assert_true(args.node[0] != 0);
	args_free(&args);

	assert_int_equal(args_parse("local=fd00::1:2", &args, err, sizeof(err)), 0);
	assert_int_equal(args.mac[0], 2);
	assert_int_equal(args.mac[5], 2);
	args_free(&args);
}

static void as_many_peers_as_allowed(void **state)
{
	size_t room = 64 + (ARGS_PEERS_MAX + 1) * 24;
	char *text = malloc(room), err[200];
	struct args args;
	int at;

	assert_non_null(text);
	at = snprintf(text, room, "local=10.0.0.1");
	for (int i = 0; i < ARGS_PEERS_MAX; i++)
		at += snprintf(
			text + at, room - at, ",peer=10.1.%d.%d", i / 256, i % 256);
	assert_int_equal(args_parse(text, &args, err, sizeof(err)), 0);
	assert_int_equal(args.n_peers, ARGS_PEERS_MAX);
	args_free(&args);
	snprintf(text + at, room - at, ",peer=10.2.0.1");
	assert_int_equal(args_parse(text, &args, err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "peer"));
	free(text);
}

static void refusals_name_the_argument(void **state)
{
	static const struct {
		const char *text, *name;
	} bad[] = {
		{NULL, "local"},
		{"", "local"},
		{"device=udp", "local"},
		{"local=10.0.0.1,colour=red", "colour"},
		{"local=10.0.0.1,", "unknown"},
		{"local=10.0.0.1,peer", "peer"},
		{"local=10.0.0.1,local=10.0.0.2", "local"},
		{"local", "local"},
		{"local=", "local"},
		{"local=node1", "local"},
		{"local=10.0.0.256", "local"},
		{"local=10.0.0.1,peer=10.0.0.2:", "peer"},
		{"local=10.0.0.1,peer=10.0.0.2:0", "peer"},
		{"local=10.0.0.1,peer=10.0.0.2:65536", "peer"},
		{"local=10.0.0.1,peer=:1", "peer"},
		{"local=10.0.0.1,peer=10.0.0.2:1:2", "peer"},
		{"local=10.0.0.1,peer=[fd00::1", "peer"},
		{"local=10.0.0.1,peer=[fd00::1]", "peer"},
		{"local=10.0.0.1,peer=[fd00::1]:", "peer"},
		{"local=10.0.0.1,peer=[10.0.0.2:1", "peer"},
		{"local=10.0.0.1,peer=[", "peer"},
		{"local=10.0.0.1,device=", "device"},
		{"local=10.0.0.1,key=", "key"},
		{"local=10.0.0.1,node=a23456789b123456789c123456789d12", "node"},
		{"local=10.0.0.1,hello_port=0", "hello_port"},
		{"local=10.0.0.1,hello_port=x", "hello_port"},
		{"local=10.0.0.1,mac=01:00:00:00:00:01", "mac"},
		{"local=10.0.0.1,mac=00:00:00:00:00:00", "mac"},
		{"local=10.0.0.1,mac=2", "mac"},
		{"local=10.0.0.1,mtu=67", "mtu"},
		{"local=10.0.0.1,mtu=65386", "mtu"},
		{"local=10.0.0.1,mtu=-1", "mtu"},
		{"local=10.0.0.1,mtu= 1500", "mtu"},
		{"local=10.0.0.1,mtu=1500 ", "mtu"},
		{"local=10.0.0.1,mtu=99999999999999999999", "mtu"},
		{"local=10.0.0.1,rxbufs=31", "rxbufs"},
		{"local=10.0.0.1,rxbufs=16385", "rxbufs"},
		{"local=10.0.0.1,txq_size=31", "txq_size"},
		{"local=10.0.0.1,txq_size=4097", "txq_size"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct args args;
		char err[200] = "";

		assert_int_equal(
			args_parse(bad[i].text, &args, err, sizeof(err)), -EINVAL);
		if (!strstr(err, bad[i].name))
			fail_msg("%s: \"%s\" does not name %s", bad[i].text, err,
				bad[i].name);
		assert_null(args.peers);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_all),
		cmocka_unit_test(defaults),
		cmocka_unit_test(as_many_peers_as_allowed),
		cmocka_unit_test(refusals_name_the_argument),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
