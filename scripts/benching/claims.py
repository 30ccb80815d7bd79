"""The ratios that lotus has to reach. Each is made within a round; the median decides."""
from dataclasses import dataclass

from . import figures

CASE_1K = {"size": 64, "flows": 1_000, "ways": 1}
CASE_1M = {"size": 64, "flows": 1_000_000, "ways": 1}
HALF, WHOLE = {"core": "half"}, {"core": "whole"}
RATE, CONNECTIONS = "received kframes/s", "connections/s"


@dataclass
class Claim:
    """`above` / `below` in a quantity of the cases that have these parameters.

    Without `below` it is about the quantity itself. `wanted` None: worth knowing, no more.
    """

    measure: str
    quantity: str
    params: dict
    above: str
    below: str = None
    wanted: float = None
    at_most: bool = False
    strictly: bool = False

    def wanted_text(self):
        if self.wanted is None:
            return "-"
        sign = {(False, False): "at least", (True, False): "at most",
                (False, True): "more than", (True, True): "less than"}[self.at_most, self.strictly]
        return f"{sign} {self.wanted:g}"

    def concerns(self, row):
        return (row["measure"] == self.measure and row["quantity"] == self.quantity
                and all(row["case"].get(key) == value for key, value in self.params.items()))


# Half a core decides between forwarders with processes of their own: with a whole one the
# generator is often the limit.
CLAIMS = [
    Claim("udp", RATE, {**CASE_1K, **HALF}, "lotus", "passthrough", 0.90),
    Claim("udp", RATE, {**CASE_1K, **WHOLE}, "lotus", "passthrough"),
    Claim("udp", RATE, {**CASE_1M, **HALF}, "lotus", "passthrough", 0.80),
    Claim("udp", RATE, {**CASE_1K, **HALF}, "passthrough", "testpmd", 1.0),
    Claim("udp", RATE, {**CASE_1K, **WHOLE}, "passthrough", "testpmd"),
    Claim("udp", RATE, {**CASE_1K, **HALF}, "lotus", "testpmd"),
    Claim("udp", RATE, {**CASE_1K, **WHOLE}, "lotus", "ovs-afxdp", 0.9),
    Claim("udp", RATE, {**CASE_1K, **WHOLE}, "lotus", "nft", 1.5),
    Claim("overload", "kept at 2 x", {}, "lotus", wanted=0.9),
    Claim("overload", "offered at 2 x", {}, "lotus", wanted=1.95),
    Claim("overload", "unaccounted", {}, "lotus", wanted=0.001, at_most=True),
    Claim("tcp", "Gbit/s", {"offloads": "as can be"}, "lotus", "nft", 0.9),
    Claim("tcp", "Gbit/s", {"offloads": "as can be"}, "lotus", "bridge"),
    Claim("connections", CONNECTIONS, {}, "lotus", "nft", 1.0),
    Claim("latency", "p50 us", {"awake": True}, "lotus", "nft", 2.0, at_most=True),
    Claim("ftp", "files/s", {}, "lotus", "testpmd", 1.0),
]
# lotus is to be better than Open vSwitch on packet sockets in every row.
EVERY_ROW = ("lotus", "ovs")


def judged(rows, measures):
    """(what, where, ratios, wanted as text, verdict) of every claim that has values."""
    found = []
    for claim in CLAIMS:
        for case, values in by_case(filter(claim.concerns, rows)):
            if claim.above not in values or (claim.below and claim.below not in values):
                continue
            ratios = (figures.ratios(values[claim.above], values[claim.below]) if claim.below
                      else list(values[claim.above].values()))
            found.append((
                f"{claim.above} / {claim.below}" if claim.below else claim.above,
                where(measures, claim.measure, case, claim.quantity), ratios, claim.wanted_text(),
                "-" if claim.wanted is None else figures.verdict(
                    ratios, claim.wanted, claim.at_most, claim.strictly)))
    variants = sorted({row["forwarder"] for row in rows if row["forwarder"].startswith("lotus ")})
    for name in variants:
        found += [(what, place, ratios, "-", "-")
                  for what, place, ratios, *_ in every_row(rows, measures, name, "lotus")]
    return found + every_row(rows, measures, *EVERY_ROW)


def every_row(rows, measures, above, below):
    found = []
    for name, measure in measures.items():
        for quantity, direction in measure.quantities.items():
            if direction is None:
                continue
            chosen = [row for row in rows
                      if row["measure"] == name and row["quantity"] == quantity]
            for case, values in by_case(chosen):
                if above not in values or below not in values:
                    continue
                better, worse = (above, below) if direction == "more" else (below, above)
                ratios = figures.ratios(values[better], values[worse])
                found.append((f"{better} / {worse}", where(measures, name, case, quantity), ratios,
                              "more than 1", figures.verdict(ratios, 1.0, strictly=True)))
    return found


def where(measures, name, case, quantity):
    from .measures.case import Case
    return ": ".join(part for part in (name, Case(name, case).label(), quantity) if part)


def by_case(rows):
    """For each case, in the order of first appearance: forwarder -> round -> value."""
    found = {}
    for row in rows:
        case = tuple(row["case"].items())
        by_forwarder = found.setdefault(case, {})
        by_forwarder.setdefault(row["forwarder"], {})[row["round"]] = row["value"]
    return list(found.items())
