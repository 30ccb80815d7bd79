"""How long frames and answers take."""
import contextlib

from .. import figures, traffic
from ..hosts import cores_awake
from .case import Case, Measure
from .frames import no_loss

RATES = [1_000, 50_000]
HALF = "half the no-loss rate"
# Of 64-byte frames; the search before the measurement at half the rate uses the same.
FRAMES = {"size": 64, "flows": 1000}
# A sample of p99.9 needs thousands; at 1,000 frames a second that is seconds.
SEARCH_SECS = 0.5
PERCENTILES = {"p50 us": "p50", "p90 us": "p90", "p99 us": "p99", "p99.9 us": "p999",
               "max us": "max"}


class Latency(Measure):
    name = "latency"
    about = "latency of frames at rates that everybody bears, and of questions and answers"
    quantities = {**{name: "less" for name in PERCENTILES}, "max us": None, "lost": None,
                  "kframes/s": None}

    def cases(self, options):
        for kind in ("udp", "tcp"):
            for awake in (True,) if options.quick else (True, False):
                yield Case.of(self.name, what=f"{kind} answers", awake=awake)
        for rate in RATES[1:] if options.quick else RATES:
            yield Case.of(self.name, what=f"frames at {figures.flows_text(rate)}/s", rate=rate)
        yield Case.of(self.name, what=f"frames at {HALF}", rate=0)

    def offloads(self, case, forwarder):
        return case.get("rate") is None and super().offloads(case, forwarder)

    def guess_secs(self, case, options):
        return options.secs + 3 + (8 if case.get("rate") == 0 else 0)

    def run(self, case, bench):
        if case.get("rate") is not None:
            return frames(case, bench)
        with traffic.service(bench.lab), (
                cores_awake() if case["awake"] else contextlib.nullcontext()):
            report = traffic.ask(bench.lab, bench.secs, case["what"].split()[0])
        return {"lost": report["lost"],
                **{name: report[f"{key}_us"] for name, key in PERCENTILES.items()}}


def frames(case, bench):
    bench.lab.count()
    traffic.learn(bench.lab, FRAMES["flows"])
    rate = case["rate"]
    if not rate:
        bench_of_search = type(bench)(bench.lab, bench.forwarder, SEARCH_SECS)
        rate = no_loss(bench_of_search, traffic.trial(bench.lab, SEARCH_SECS, **FRAMES),
                       **FRAMES) / 2
        if not rate:
            raise RuntimeError("no rate without loss was found")
    sent, report = traffic.stamped(bench.lab, bench.secs, rate, **FRAMES)
    if not report["latency_us"]:
        raise RuntimeError("no frame arrived")
    # Those that were sent last are lost, too, if they did not come.
    return {"kframes/s": sent["sent"] / sent["secs"] / 1e3,
            "lost": sent["sent"] - report["received"],
            **{name: report["latency_us"][key] for name, key in PERCENTILES.items()}}
