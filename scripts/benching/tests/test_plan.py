import json
import os
import tempfile
import unittest

from benching import claims, hosts, report
from benching.campaign import Campaign
from benching.forwarders import FORWARDERS, masks
from benching.measures import MEASURES
from benching.measures.case import Case, Options


def row(measure, quantity, forwarder, value, number=1, **case):
    return {"round": number, "measure": measure, "case": case, "quantity": quantity,
            "forwarder": forwarder, "value": value}


UDP_HALF = {"size": 64, "flows": 1000, "ways": 1, "core": "half"}


class Claims(unittest.TestCase):
    def judged(self, *rows):
        return [(what, place, [round(ratio, 3) for ratio in ratios], verdict)
                for what, place, ratios, _, verdict in claims.judged(list(rows), MEASURES)]

    def test_a_ratio_is_of_the_same_case_and_round(self):
        rate = "received kframes/s"
        found = self.judged(
            row("udp", rate, "lotus", 95, 1, **UDP_HALF),
            row("udp", rate, "passthrough", 100, 1, **UDP_HALF),
            row("udp", rate, "lotus", 180, 2, **UDP_HALF),
            row("udp", rate, "passthrough", 200, 2, **UDP_HALF),
            # Another case: a whole core.
            row("udp", rate, "lotus", 1, 1, **{**UDP_HALF, "core": "whole"}))
        self.assertEqual(found, [(
            "lotus / passthrough", "udp: 64 B, 1k flows, one way, half a core: received kframes/s",
            [0.95, 0.9], "reached")])

    def test_every_row_against_open_vswitch_whichever_way_is_better(self):
        found = self.judged(
            row("connections", "connections/s", "lotus", 300),
            row("connections", "connections/s", "ovs", 100),
            row("latency", "p99 us", "lotus", 80, what="udp answers", awake=True),
            row("latency", "p99 us", "ovs", 40, what="udp answers", awake=True),
            # Only describes: not compared.
            row("connections", "failed", "lotus", 1), row("connections", "failed", "ovs", 5))
        self.assertEqual([(what, ratios, verdict) for what, _, ratios, verdict in found], [
            ("lotus / ovs", [3], "reached"), ("ovs / lotus", [0.5], "NOT REACHED")])

    def test_a_variant_is_compared_with_lotus_and_has_nothing_to_reach(self):
        found = self.judged(
            row("connections", "connections/s", "lotus", 100),
            row("connections", "connections/s", "lotus ring.slots=512", 150))
        self.assertEqual(found, [(
            "lotus ring.slots=512 / lotus", "connections: connections/s", [1.5], "-")])

    def test_a_claim_about_lotus_alone(self):
        found = self.judged(row("overload", "kept at 2 x", "lotus", 0.89, size=64, flows=1000),
                            row("overload", "unaccounted", "lotus", 0.0004, size=64, flows=1000))
        self.assertEqual([(what, verdict) for what, _, _, verdict in found],
                         [("lotus", "NOT REACHED"), ("lotus", "reached")])

    def test_every_claim_is_of_something_that_is_measured(self):
        options = Options()
        for claim in claims.CLAIMS:
            measure = MEASURES[claim.measure]
            self.assertIn(claim.quantity, measure.quantities)
            self.assertIn(claim.above, FORWARDERS)
            if claim.below:
                self.assertIn(claim.below, FORWARDERS)
            self.assertTrue([case for case in measure.cases(options)
                             if claim.params.items() <= dict(case.params).items()], claim)


class Plan(unittest.TestCase):
    def campaign(self, rounds=3, forwarders=("lotus", "nft", "testpmd")):
        return Campaign([MEASURES["udp"], MEASURES["concurrent"]], list(forwarders),
                        Options(flows=[1000]), rounds, "unused")

    def test_who_can_not_take_part_is_left_out_and_told(self):
        campaign = self.campaign()
        units = [(case.label(), name) for _, case, name in campaign.units]
        self.assertNotIn(("64 B, 1k flows, one way, half a core", "nft"), units)
        self.assertIn(("64 B, 1k flows, one way, half a core", "lotus"), units)
        self.assertEqual(campaign.unfit["concurrent", "100k flows", "testpmd"], "it tracks nothing")

    def test_cases_have_names_of_their_own(self):
        for measure in MEASURES.values():
            labels = [case.label() for case in measure.cases(Options(offloads_off=True))]
            self.assertEqual(len(labels), len(set(labels)), measure.name)

    def test_each_round_has_every_unit_once_and_another_first(self):
        campaign = self.campaign()
        orders = [campaign.order(number) for number in (1, 2, 3)]
        for order in orders:
            self.assertCountEqual(order, campaign.units)
        self.assertEqual([order[0][2] for order in orders], ["lotus", "nft", "testpmd"])
        # The forwarders of a case stay together.
        self.assertEqual(len({unit[1] for unit in orders[1][:3]}), 1)

    def test_time_left(self):
        campaign = self.campaign(rounds=2)
        self.assertAlmostEqual(campaign.left(), campaign.guess())
        # Everything takes twice as long as guessed.
        for number in (1, 2):
            for unit in campaign.order(number):
                campaign.took.setdefault(unit, []).append(2 * campaign.guess_of(unit))
                campaign.done += 1
            if number == 1:
                self.assertAlmostEqual(campaign.left(), campaign.guess())
        self.assertEqual(campaign.left(), 0)

    def test_time_left_within_a_round(self):
        campaign = self.campaign(rounds=2)
        order = campaign.order(1)
        for unit in order[:3]:
            campaign.took[unit] = [campaign.guess_of(unit)]
            campaign.done += 1
        over = sum(campaign.guess_of(unit) for unit in order[:3])
        self.assertAlmostEqual(campaign.left(), campaign.guess() - over)

    def test_offloads(self):
        udp, tcp = MEASURES["udp"], MEASURES["tcp"]
        as_can_be = Case.of("tcp", streams=1, way="client to server", offloads="as can be")
        off = Case.of("tcp", streams=1, way="client to server", offloads="off")
        self.assertTrue(tcp.offloads(as_can_be, FORWARDERS["lotus"]))
        self.assertFalse(tcp.offloads(as_can_be, FORWARDERS["testpmd"]))
        self.assertFalse(tcp.offloads(off, FORWARDERS["lotus"]))
        self.assertFalse(udp.offloads(Case.of("udp", **UDP_HALF), FORWARDERS["lotus"]))


class Ports(unittest.TestCase):
    def test_masks_are_the_range_and_nothing_else(self):
        for first, last in ((5000, 5999), (21, 21), (0, 65535), (1, 65534)):
            matched = []
            for text in masks(first, last):
                value, mask = (int(part, 16) for part in text.split("/"))
                matched += [port for port in range(65536) if port & mask == value]
            self.assertEqual(matched, list(range(first, last + 1)))

    def test_no_more_masks_than_needed(self):
        self.assertEqual([len(list(masks(*ends))) for ends in ((5000, 5999), (0, 65535))], [9, 1])


class Report(unittest.TestCase):
    def test_the_tables_have_medians_verdicts_and_what_failed(self):
        rate = "received kframes/s"
        rows = [row("udp", rate, name, value, number, **UDP_HALF)
                for name, values in (("lotus", (80, 70, 90)), ("passthrough", (100, 100, 100)))
                for number, value in enumerate(values, 1)]
        text = report.markdown({
            "machine": {"kernel": "6"}, "rounds": 3, "secs": 1, "offloads off": ["ovs"],
            "forwarders": ["lotus", "passthrough"], "rows": rows,
            "failures": [{"round": 2, "measure": "udp", "case": UDP_HALF, "forwarder": "ovs",
                          "error": "it fell over"}],
            "unfit": [{"measure": "udp", "case": "", "forwarder": "nft", "why": "of this"}]})
        self.assertIn("| 64 B, 1k flows, one way, half a core | received kframes/s "
                      "| 80 (25%) | 100 (0%) |", text)
        self.assertIn("| 0.8 | 0.7 | 0.9 | at least 0.9 | NOT REACHED |", text)
        self.assertIn("round 2, ovs, udp 64 B, 1k flows, one way, half a core: it fell over", text)
        self.assertIn("nft takes no part in some of udp: of this.", text)


class PutBack(unittest.TestCase):
    def test_values_of_the_machine_are_as_before_even_if_it_fails_in_the_middle(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/{name}" for name in ("a", "b")]
            for path in paths:
                hosts.write(path, 1)
            journal, hosts.JOURNAL = hosts.JOURNAL, f"{folder}/journal"
            try:
                with self.assertRaises(KeyError), hosts.MachineWide() as machine:
                    machine.set(paths[0], 2)
                    machine.set(paths[0], 3)
                    machine.set(paths[1], 1)
                    with open(hosts.JOURNAL) as file:
                        self.assertEqual(json.load(file)["before"], {paths[0]: "1"})
                    raise KeyError
                self.assertFalse(os.path.exists(hosts.JOURNAL))
            finally:
                hosts.JOURNAL = journal
            for path in paths:
                with open(path) as file:
                    self.assertEqual(file.read(), "1\n")
