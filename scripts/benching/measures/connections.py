"""Connections: how many begin and end a second, how many fit, and under a flood."""
import time

from .. import traffic
from .case import CAPACITY, Case, Measure, Meter

FLOOD_PPS = 50_000
# Longer than it takes to fill a table of the usual size: what comes then is the hard part.
FLOOD_AHEAD_SECS = 1.15 * CAPACITY / FLOOD_PPS
CONCURRENT = [100_000, 1_000_000]
# Slow enough for Open vSwitch to take every frame.
BUILD_PPS = 60_000


class Connections(Measure):
    name = "connections"
    about = "TCP connections that begin and end, a second"
    quantities = {"connections/s": "more", "failed": None, "process us/connection": "less",
                  "machine us/connection": "less"}

    def cases(self, options):
        yield Case.of(self.name)

    def run(self, case, bench):
        with traffic.service(bench.lab):
            with Meter(bench.forwarder) as meter:
                report = traffic.connect(bench.lab, bench.secs)
            return {"connections/s": report["connections"] / report["secs"],
                    "failed": report["failed"],
                    **meter.values(report["connections"], "us/connection", 1e6)}


class Concurrent(Measure):
    name = "concurrent"
    about = "TCP connections at one time: how many are tracked, and what each takes"
    quantities = {"tracked": None, "bytes/flow": "less"}
    headlines = ["tracked", "bytes/flow"]
    raw_frames = True

    def cases(self, options):
        for flows in CONCURRENT[:1] if options.quick else CONCURRENT:
            yield Case.of(self.name, flows=flows)

    def unfit(self, case, forwarder):
        return None if forwarder.tracks else "it tracks nothing"

    def guess_secs(self, case, options):
        return 3 * case["flows"] / BUILD_PPS + 4

    def run(self, case, bench):
        lab, flows = bench.lab, case["flows"]
        lab.count()
        before = bench.forwarder.memory()
        tracked_before = bench.forwarder.tracked()
        for kind in ("syn", "syn-ack", "ack"):
            traffic.send_each_once(lab, flows, kind, BUILD_PPS, at_server=kind == "syn-ack")
        time.sleep(traffic.SETTLE_SECS)
        tracked = bench.forwarder.tracked() - tracked_before
        grown = bench.forwarder.memory() - before
        return {"tracked": tracked, "bytes/flow": grown / max(tracked, 1)}


class SynFlood(Measure):
    name = "flood"
    about = "honest connections a second beside SYNs from spoofed sources, with the table full"
    quantities = {"connections/s": "more", "failed": None}

    def cases(self, options):
        for syns in (0, FLOOD_PPS):
            yield Case.of(self.name, syns=syns)

    def guess_secs(self, case, options):
        return options.secs + (FLOOD_AHEAD_SECS if case["syns"] else 0) + 4

    def run(self, case, bench):
        lab = bench.lab
        lab.count()
        with traffic.service(lab):
            flood = None
            if case["syns"]:
                flood = traffic.send(lab, FLOOD_AHEAD_SECS + bench.secs + 1, pps=case["syns"],
                                     more=["--kind", "syn", "--spoof"])
                time.sleep(FLOOD_AHEAD_SECS)
            report = traffic.connect(lab, bench.secs)
            if flood:
                traffic.finish(flood)
            return {"connections/s": report["connections"] / report["secs"],
                    "failed": report["failed"]}
