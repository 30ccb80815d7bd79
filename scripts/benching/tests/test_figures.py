import json
import unittest

from benching import figures


class Device:
    """A forwarder that bears so many frames a second, and has a hiccup at some trials."""

    def __init__(self, most, hiccups=()):
        self.most, self.hiccups, self.trials = most, set(hiccups), 0

    def __call__(self, rate):
        self.trials += 1
        offered = rate * 2
        received = min(rate, self.most) * 2
        if self.trials in self.hiccups:
            received *= 0.9
        return offered, received, 2.0


class Search(unittest.TestCase):
    def test_finds_what_the_device_bears(self):
        for most in (1_000, 123_456, 990_000):
            rate = figures.no_loss_rate(Device(most), 1_000_000)
            self.assertLessEqual(rate, most * (1 + figures.NO_LOSS_BOUND))
            # What is not known is a part of where the search began.
            self.assertGreater(rate, most - 1_000_000 * figures.SEARCH_RESOLUTION)

    def test_one_hiccup_is_no_loss(self):
        steady = figures.no_loss_rate(Device(700_000), 1_000_000)
        self.assertEqual(figures.no_loss_rate(Device(700_000, hiccups=[1, 4]), 1_000_000), steady)

    def test_two_in_a_row_are(self):
        rate = figures.no_loss_rate(Device(700_000, hiccups=[1, 2]), 1_000_000)
        self.assertLess(rate, 500_001)

    def test_a_device_that_always_loses_has_no_rate(self):
        self.assertEqual(figures.no_loss_rate(lambda rate: (100, 90, 1.0), 1_000), 0)

    def test_it_ends(self):
        device = Device(500_000)
        figures.no_loss_rate(device, 1_000_000)
        self.assertLessEqual(device.trials, 12)


class Arithmetic(unittest.TestCase):
    def test_ratios_are_made_within_a_round(self):
        self.assertEqual(figures.ratios({1: 10, 2: 40, 3: 9}, {1: 5, 2: 10, 4: 1}), [2, 4])

    def test_nothing_is_divided_by_nothing(self):
        self.assertEqual(figures.ratios({1: 10, 2: 6}, {1: 0, 2: 3}), [2])

    def test_spread(self):
        self.assertEqual(figures.spread([8, 10, 12]), 0.4)

    def test_loss(self):
        self.assertEqual(figures.loss(1000, 750), 0.25)
        # A stray frame that was counted, too.
        self.assertEqual(figures.loss(1000, 1001), 0)
        self.assertEqual(figures.loss(0, 0), 0)

    def test_verdicts_at_the_bound(self):
        for ratio, options, wanted in (
                (0.9, {}, "reached"), (0.899, {}, "NOT REACHED"),
                (0.9, {"strictly": True}, "NOT REACHED"), (0.901, {"strictly": True}, "reached"),
                (0.9, {"at_most": True}, "reached"), (0.901, {"at_most": True}, "NOT REACHED"),
                (0.9, {"at_most": True, "strictly": True}, "NOT REACHED")):
            self.assertEqual(figures.verdict([ratio], 0.9, **options), wanted, (ratio, options))

    def test_the_median_decides(self):
        self.assertEqual(figures.verdict([0.1, 0.95, 0.96], 0.9), "reached")
        self.assertEqual(figures.verdict([5, 0.8, 0.85], 0.9), "NOT REACHED")

    def test_no_ratio_is_no_verdict(self):
        self.assertEqual(figures.verdict([], 0.9), "not measured")

    def test_kept_under_overload(self):
        self.assertEqual(figures.kept({1: 800, 1.5: 1000, 2: 900}, 2), 0.9)
        self.assertEqual(figures.kept({2: 0}, 2), 0)

    def test_unaccounted(self):
        before = {"received": 100, "forwarded": 90, "dropped": 10, "held": 0, "ring_lost": 7}
        after = {"received": 900, "forwarded": 500, "dropped": 400, "held": 0, "ring_lost": 207}
        self.assertEqual(figures.unaccounted(1000, before, after), 0)
        # Seen, and then neither forwarded nor dropped.
        self.assertEqual(figures.unaccounted(1000, before, {**after, "dropped": 390}), 0.01)
        # Never seen at all.
        self.assertEqual(figures.unaccounted(1250, before, after), 0.2)


class Readings(unittest.TestCase):
    def test_nft(self):
        listing = """table netdev count {
	chain ingress {
		type filter hook ingress device "server0" priority filter; policy accept;
		ip daddr 192.0.2.200 counter packets 1234567 bytes 56790082 drop
	}
}"""
        self.assertEqual(figures.packets_counted(listing), 1234567)

    def test_process_with_a_strange_name(self):
        stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 250 7 9 20 0 3 0 100 0 0"
        self.assertEqual(figures.process_seconds(stat), 4)

    def test_machine_without_idle_time(self):
        stat = "cpu  100 20 300 99999 8888 40 50 7 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
        self.assertEqual(figures.machine_seconds(stat), 5.1)

    def test_memory(self):
        self.assertEqual(figures.kib("VmHWM:\t  99 kB\nVmRSS:\t  12 kB\n", "VmRSS"), 12288)

    def test_iperf(self):
        report = {"end": {"sum_received": {"bits_per_second": 2.5e9}}}
        self.assertEqual(figures.iperf_gbits(json.dumps(report)), 2.5)
        with self.assertRaisesRegex(RuntimeError, "no route"):
            figures.iperf_gbits('{"error": "no route"}')


class Texts(unittest.TestCase):
    def test_flows(self):
        for text, number in (("1", 1), ("1k", 1000), ("100k", 100_000), ("1M", 1_000_000)):
            self.assertEqual(figures.flows_number(text), number)
            self.assertEqual(figures.flows_text(number), text)
        for wrong in ("", "0", "-1", "1G", "1.5k"):
            with self.assertRaises(ValueError):
                figures.flows_number(wrong)

    def test_durations(self):
        self.assertEqual([figures.duration(secs) for secs in (45, 720, 11100)],
                         ["45 s", "12 min", "3 h 05 min"])

    def test_short_numbers(self):
        self.assertEqual([figures.short(value) for value in (0, 0.98765, 12.345, 98765.4)],
                         ["0", "0.988", "12.3", "98765"])
