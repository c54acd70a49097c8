#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The demo's report: its proof must fail when the nodes' counts differ."""

import copy
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../scripts"))
import demo_report  # noqa: E402


def xstats(sent, received):
    return {"tx_frames": sent, "tx_bytes": sent * 100, "tx_messages": sent,
            "rx_frames": received, "rx_bytes": received * 100,
            "rx_messages": received, "tx_drop_no_peer": 3, "rx_drop_record": 0,
            "tx_good_packets": sent, "dev_tx_retransmitted": 2,
            **dict.fromkeys(demo_report.OPCODES.values(), 0),
            "dev_tx_send_messages": sent, "dev_rx_send_messages": received}


def nodes():
    """Two nodes that agree: a sent 5, b sent 7."""
    return (demo_report.node_counts("a", xstats(5, 7)),
            demo_report.node_counts("b", xstats(7, 5)))


class Report(unittest.TestCase):
    def test_node_counts(self):
        one, _ = nodes()
        self.assertEqual(one["retransmissions"], 2)
        self.assertEqual(one["opcodes"], {
            "tx_send": 5, "tx_write": 0, "tx_read": 0, "tx_atomic": 0,
            "rx_send": 7, "rx_write": 0, "rx_read": 0, "rx_atomic": 0})
        self.assertEqual(one["drops"], {"tx_drop_no_peer": 3, "rx_drop_record": 0})

    def test_match(self):
        one, two = nodes()
        self.assertEqual(demo_report.mismatches(one, two), [])
        self.assertEqual(demo_report.mismatches(two, one), [])

    def test_each_difference_is_found(self):
        for key in ("rx_frames", "rx_bytes"):
            one, two = nodes()
            two[key] -= 1
            self.assertTrue(demo_report.mismatches(one, two), key)
        one, two = nodes()
        two["opcodes"]["rx_send"] -= 1
        self.assertTrue(demo_report.mismatches(one, two))

    def test_named_drop_makes_up_for_a_frame(self):
        one, two = nodes()
        two["rx_frames"] -= 1
        two["rx_bytes"] -= 100
        two["drops"]["rx_drop_record"] = 1
        self.assertEqual(demo_report.mismatches(one, two), [])

    def test_silence_is_no_match(self):
        quiet = demo_report.node_counts("a", xstats(0, 0))
        self.assertTrue(demo_report.mismatches(quiet, copy.deepcopy(quiet)))

    def test_messages_that_are_not_the_drivers(self):
        stats = xstats(5, 7)
        self.assertEqual(demo_report.foreign_messages(nodes()[0], stats), [])
        for key in demo_report.OPCODES.values():
            more = dict(stats, **{key: stats[key] + 1})
            node = demo_report.node_counts("a", more)
            self.assertTrue(demo_report.foreign_messages(node, more), key)

    def test_device_without_a_counter(self):
        stats = xstats(5, 7)
        del stats["dev_tx_send_messages"]
        with self.assertRaises(KeyError):
            demo_report.node_counts("a", stats)

    def test_real_device(self):
        stats = {key: value for key, value in xstats(5, 7).items()
                 if not key.startswith("dev_")}
        node = demo_report.node_counts("a", stats)
        self.assertEqual(node["opcodes"], {"tx_send": 5, "rx_send": 7})
        self.assertIsNone(node["retransmissions"])
        self.assertEqual(demo_report.foreign_messages(node, stats), [])

    def test_netpipe(self):
        text = ("Now starting the main loop\n"
                "  0:       1 bytes     40 times -->      0.03 Mbps in     253.10 usec\n"
                " 39: 1048576 bytes     40 times -->    394.96 Mbps in   20255.09 usec\n")
        self.assertEqual(demo_report.netpipe_rows(text),
                         [{"bytes": 1, "mbps": 0.03, "usec": 253.10},
                          {"bytes": 1048576, "mbps": 394.96, "usec": 20255.09}])


if __name__ == "__main__":
    unittest.main()
