import unittest
from unittest import mock

from benching import traffic
from benching.measures.case import Meter
from benching.measures.frames import Overload


class FakeLab:
    """Counts frames as the two ends would, without namespaces."""

    client, server = "client", "server"

    def __init__(self, forwards):
        self.forwards, self.counted = forwards, {"client": 5, "server": 7}

    def listing(self, host):
        return f"counter packets {self.counted[host]} bytes 0 drop"

    def send(self, _lab, seconds, pps=0, reply=False, **_):
        sent = round((pps or 1_000_000) * seconds)
        self.counted["client" if reply else "server"] += min(sent, round(self.forwards * seconds))
        # Every tenth frame is refused by the interface: it was offered nevertheless.
        return {"sent": sent - sent // 10, "refused": sent // 10, "secs": seconds}

    def patched(self):
        return mock.patch.multiple(traffic, send=self.send, finish=lambda report: report,
                                   SETTLE_SECS=0)


class Trials(unittest.TestCase):
    def test_one_way(self):
        lab = FakeLab(forwards=400_000)
        with lab.patched():
            self.assertEqual(traffic.trial(lab, 2.0), (2_000_000, 800_000, 2.0))

    def test_both_ways_add_up(self):
        lab = FakeLab(forwards=400_000)
        with lab.patched():
            self.assertEqual(traffic.trial(lab, 1.0, ways=2, pps=500_000),
                             (1_000_000, 800_000, 1.0))

    def test_the_meter_runs_while_frames_are_sent(self):
        lab, meter = FakeLab(1), mock.MagicMock()
        with lab.patched():
            traffic.trial(lab, 1.0, meter=meter)
        meter.__enter__.assert_called_once()
        meter.__exit__.assert_called_once()


class Sweep(unittest.TestCase):
    def run_with(self, forwards, lost_for_good=0):
        lab = FakeLab(forwards)
        forwarder = mock.Mock()
        status = {"received": 0, "forwarded": 0, "dropped": 0, "held": 0, "ring_lost": 0}

        def counters():
            # What was sent so far, as a firewall would have it that loses most in its ring.
            sent = self.sent
            known = sent - round(sent * lost_for_good)
            return {**status, "received": known, "forwarded": known - 10, "dropped": 10}

        self.sent = 0

        def send(_lab, seconds, **options):
            report = lab.send(_lab, seconds, **options)
            self.sent += report["sent"] + report["refused"]
            return report

        forwarder.counters = counters
        bench = mock.Mock(lab=lab, forwarder=forwarder, secs=1.0)
        with lab.patched(), mock.patch.object(traffic, "send", send):
            return Overload().sweep(bench, 400_000, {})

    def test_a_level_curve(self):
        values = self.run_with(forwards=400_000)
        self.assertEqual(values["received at 0.5 x kframes/s"], 200)
        self.assertEqual(values["received at 2 x kframes/s"], 400)
        self.assertEqual(values["offered at 2 x"], 2)
        self.assertEqual(values["kept at 2 x"], 1)

    def test_frames_that_nobody_knows_of(self):
        self.assertLess(self.run_with(400_000)["unaccounted"], 0.0001)
        self.assertAlmostEqual(self.run_with(400_000, lost_for_good=0.25)["unaccounted"], 0.25, 3)


class Metering(unittest.TestCase):
    def test_a_forwarder_without_a_process_has_no_time_of_its_own(self):
        forwarder = mock.Mock()
        forwarder.processor_seconds.return_value = None
        with Meter(forwarder) as meter:
            pass
        self.assertEqual(list(meter.values(10, "ns/frame", 1e9)), ["machine ns/frame"])

    def test_time_of_its_own(self):
        forwarder = mock.Mock()
        forwarder.processor_seconds.side_effect = [1.5, 2.5]
        with Meter(forwarder) as meter:
            pass
        self.assertEqual(meter.values(1_000_000, "ns/frame", 1e9)["process ns/frame"], 1000)
