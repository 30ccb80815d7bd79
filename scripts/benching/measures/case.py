"""What all measures have in common."""
from dataclasses import dataclass, field

from .. import figures

# What a tracker has room for if a case needs no more: the kernel's default on machines of this
# kind, and lotus's.
CAPACITY = 262_144


@dataclass(frozen=True)
class Case:
    """One thing to measure: its measure and what sets it apart, such as size=64, flows=1000."""

    measure: str
    params: tuple

    @staticmethod
    def of(measure, **params):
        return Case(measure, tuple(params.items()))

    def __getitem__(self, key):
        return dict(self.params)[key]

    def get(self, key, default=None):
        return dict(self.params).get(key, default)

    def label(self):
        return ", ".join(text for text in (label(*param) for param in self.params) if text)


def label(key, value):
    """A parameter for people."""
    if key == "size":
        return f"{value} B"
    if key == "flows":
        return f"{figures.flows_text(value)} flow" + ("s" if value != 1 else "")
    if key == "ways":
        return "both ways" if value == 2 else "one way"
    if key == "core":
        return "half a core" if value == "half" else "a core"
    if key == "offloads":
        return "offloads off" if value == "off" else ""
    if key in ("rate", "bytes", "search"):
        # The case's name tells, or it is the same for all.
        return ""
    if key == "streams":
        return f"{value} stream" + ("s" if value != 1 else "")
    if key == "awake":
        return "cores kept awake" if value else "cores left alone"
    if key == "syns":
        return f"{figures.flows_text(value)} SYNs/s beside" if value else "no flood"
    return str(value)


@dataclass
class Options:
    """What the command line says about how much is measured."""

    secs: float = 3.0
    quick: bool = False
    flows: list = field(default_factory=lambda: [1, 1_000, 100_000, 1_000_000])
    offloads_off: bool = False


@dataclass
class Bench:
    """Where a case runs: a lab with a forwarder in it."""

    lab: object
    forwarder: object
    secs: float


class Measure:
    """One kind of measurement."""

    name = ""
    about = ""
    # Quantity: whether more of it is better, less of it is, or it only describes (None). Those
    # with a direction are compared.
    quantities = {}
    # Those that are told while it goes on, if not those with a direction.
    headlines = []
    # Frames written by the generator need no offloads, and everybody has them off; connections
    # have them as the forwarder can.
    raw_frames = False

    def cases(self, options):
        """In the order they run."""
        raise NotImplementedError

    def unfit(self, case, forwarder):
        """Why a forwarder (its class) takes no part, if so."""

    def offloads(self, case, forwarder):
        return not self.raw_frames and case.get("offloads") != "off" and forwarder.offloads

    def capacity(self, case):
        return max(CAPACITY, 2 * case.get("flows", 0))

    def guess_secs(self, case, options):
        """About how long a case takes, to say how much time is left."""
        return options.secs + 2

    def run(self, case, bench):
        """Quantities and their values."""
        raise NotImplementedError


class Meter:
    """Processor time while it is entered: of the machine, and of the forwarder's process."""

    def __init__(self, forwarder):
        self.forwarder = forwarder

    def __enter__(self):
        self.machine, self.process = self.read()
        return self

    def __exit__(self, *_):
        machine, process = self.read()
        self.machine = machine - self.machine
        self.process = process - self.process if process is not None else None

    def read(self):
        with open("/proc/stat") as file:
            return figures.machine_seconds(file.read()), self.forwarder.processor_seconds()

    def values(self, things, unit, units_in_second):
        """Quantities such as `machine ns/frame`."""
        spent = {"machine": self.machine, "process": self.process}
        return {f"{who} {unit}": secs / max(things, 1) * units_in_second
                for who, secs in spent.items() if secs is not None}
