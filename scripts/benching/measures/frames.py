"""UDP frames: throughput, processor time, and what is left of it under overload."""
from .. import figures, traffic
from ..hosts import Cores, busy_loops
from .case import Case, Measure, Meter

SIZES = [64, 512, 1518]
# Each trial of a search: long enough for a ring that fills slowly to overflow.
TRIAL_SECS, TRIAL_SECS_QUICK = 1.0, 0.5
# About how many it takes.
SEARCH_TRIALS = 8
# Beyond what was received at saturation a queue can only fill.
SEARCH_FROM = 1.5
# Of the rate received at saturation.
LOADS = [0.5, 0.75, 1, 1.25, 1.5, 2]
# A generator that keeps up a rate to this is as good as the rate.
NEARLY = 0.98
# Busy loops beside the forwarder until the generator can offer twice what it takes.
MOST_LOOPS = 7


class Udp(Measure):
    name = "udp"
    about = ("throughput of UDP frames at saturation and without loss, by size, flows and ways; "
             "processor time a frame")
    quantities = {
        "received kframes/s": "more", "offered kframes/s": None, "received Mbit/s": None,
        "no-loss kframes/s": "more", "process ns/frame": "less", "machine ns/frame": "less",
    }
    raw_frames = True

    def cases(self, options):
        usual = usual_flows(options)
        for flows in options.flows:
            if flows == usual or not options.quick:
                yield self.case(64, flows)
            if flows >= 1000:
                yield self.case(64, flows, core="half")
        for size in SIZES:
            if size != 64 and not (options.quick and size == 512):
                yield self.case(size, usual, search=not options.quick)
            if size == 64 or not options.quick:
                yield self.case(size, usual, ways=2, search=not options.quick)

    def case(self, size, flows, ways=1, core="whole", search=True):
        return Case.of(self.name, size=size, flows=flows, ways=ways, core=core,
                       search=search and core == "whole")

    def unfit(self, case, forwarder):
        if case["core"] == "half" and forwarder.in_kernel:
            return "it runs on the sender's core"
        return None

    def guess_secs(self, case, options):
        search = SEARCH_TRIALS * (min(options.secs, TRIAL_SECS) + 0.4) if case["search"] else 0
        return options.secs + search + case["flows"] / traffic.LEARN_PPS + 3

    def run(self, case, bench):
        lab, forwarder = bench.lab, bench.forwarder
        frames = {key: case[key] for key in ("size", "flows", "ways")}
        lab.count()
        traffic.learn(lab, case["flows"])
        if case["core"] == "half":
            with busy_loops(Cores.forwarder):
                return rates(case, traffic.trial(lab, bench.secs, **frames))
        meter = Meter(forwarder)
        offered, received, seconds = traffic.trial(lab, bench.secs, meter=meter, **frames)
        values = {**rates(case, (offered, received, seconds)),
                  **meter.values(received, "ns/frame", 1e9)}
        if not case["search"]:
            return values
        values["no-loss kframes/s"] = no_loss(bench, (offered, received, seconds), **frames) / 1e3
        return values


def usual_flows(options):
    """The number of flows where others vary: 1k if it is among them."""
    return 1000 if 1000 in options.flows else options.flows[0]


def rates(case, counted):
    offered, received, seconds = counted
    return {
        "offered kframes/s": offered / seconds / 1e3,
        "received kframes/s": received / seconds / 1e3,
        "received Mbit/s": received * case["size"] * 8 / seconds / 1e6,
    }


def no_loss(bench, saturated, **frames):
    """The no-loss rate in frames a second, of all ways together."""
    offered, received, seconds = saturated
    if figures.loss(offered, received) < figures.NO_LOSS_BOUND:
        # It bears all that the generator has.
        return received / seconds
    secs = TRIAL_SECS if bench.secs >= TRIAL_SECS else TRIAL_SECS_QUICK
    ways = frames.get("ways", 1)
    highest = min(offered, received * SEARCH_FROM) / seconds
    return figures.no_loss_rate(
        lambda rate: traffic.trial(bench.lab, secs, pps=rate / ways, **frames), highest)


class Overload(Measure):
    name = "overload"
    about = ("frames that are still forwarded when more are offered than can be, up to twice as "
             "many; whether lotus's counters account for the rest")
    # None is compared between forwarders: they are measured with different parts of a core.
    quantities = {
        "saturated kframes/s": None, "core share": None, "offered at 2 x": None,
        "kept at 2 x": None, "unaccounted": None,
        **{f"{what} at {load:g} x kframes/s": None
           for load in LOADS for what in ("received", "offered")},
    }
    headlines = ["core share", "saturated kframes/s", "kept at 2 x", "unaccounted"]
    raw_frames = True

    def cases(self, options):
        yield Case.of(self.name, size=64, flows=usual_flows(options))

    def unfit(self, case, forwarder):
        if forwarder.in_kernel:
            return "it runs on the sender's core, which can't overload it"
        return None

    def guess_secs(self, case, options):
        return (len(LOADS) + 2) * (options.secs + 1) + 3

    def run(self, case, bench):
        frames = {"size": case["size"], "flows": case["flows"]}
        bench.lab.count()
        traffic.learn(bench.lab, case["flows"])
        for loops in range(MOST_LOOPS + 1):
            with busy_loops(Cores.forwarder, loops):
                offered, received, seconds = traffic.trial(bench.lab, bench.secs, **frames)
                # Once more than needed: the forwarder may be a little faster the next time.
                if offered < max(LOADS) * received / NEARLY and loops < MOST_LOOPS:
                    continue
                return {"core share": 1 / (loops + 1),
                        "saturated kframes/s": received / seconds / 1e3,
                        **self.sweep(bench, received / seconds, frames)}

    def sweep(self, bench, saturated, frames):
        values, curve = {}, {}
        for load in LOADS:
            before = bench.forwarder.counters()
            offered, received, seconds = traffic.trial(bench.lab, bench.secs, pps=load * saturated,
                                                       **frames)
            curve[load] = received / seconds
            values[f"offered at {load:g} x kframes/s"] = offered / seconds / 1e3
            values[f"received at {load:g} x kframes/s"] = received / seconds / 1e3
        most = max(LOADS)
        if before is not None:
            values["unaccounted"] = figures.unaccounted(offered, before, bench.forwarder.counters())
        values[f"offered at {most:g} x"] = offered / seconds / saturated
        values[f"kept at {most:g} x"] = figures.kept(curve, most)
        return values
