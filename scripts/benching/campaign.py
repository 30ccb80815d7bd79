"""Interleaved rounds: each forwarder once a round, on fresh namespaces. Ratios of one round compare
what was measured within minutes; machines drift over hours."""
import fcntl
import time

from . import figures
from .forwarders import FORWARDERS
from .hosts import Lab
from .measures.case import Bench

# Namespaces and a forwarder, up and down.
SET_UP_SECS = 1.5


class Campaign:
    """All that is to be measured, and what has been so far."""

    def __init__(self, measures, forwarders, options, rounds, lock):
        self.forwarders, self.options = forwarders, options
        self.rounds, self.lock = rounds, lock
        self.rows, self.failures, self.unfit = [], [], {}
        self.units = []
        for measure in measures:
            for case in measure.cases(options):
                for name in forwarders:
                    why = measure.unfit(case, FORWARDERS[name])
                    if why:
                        self.unfit[measure.name, case.label(), name] = why
                    else:
                        self.units.append((measure, case, name))
        self.took, self.done = {}, 0

    def guess(self):
        """Seconds that everything takes, by the measures' own guesses."""
        return self.rounds * sum(self.guess_of(unit) for unit in self.units)

    def guess_of(self, unit):
        measure, case, _ = unit
        return measure.guess_secs(case, self.options) + SET_UP_SECS

    def left(self):
        """Seconds to go: what has been measured is known, the rest is guessed in proportion."""
        known = {unit: sum(times) / len(times) for unit, times in self.took.items()}
        guessed = sum(self.guess_of(unit) for unit in known)
        scale = sum(known.values()) / guessed if guessed else 1
        a_round = [known.get(unit, self.guess_of(unit) * scale) for unit in self.units]
        rounds_over, into = divmod(self.done, len(self.units))
        order = self.order(rounds_over + 1)
        seconds = {unit: time for unit, time in zip(self.units, a_round)}
        return (sum(seconds[unit] for unit in order[into:]) if rounds_over < self.rounds else 0
                ) + max(0, self.rounds - rounds_over - 1) * sum(a_round)

    def order(self, number):
        """The units of a round. Who is first in a case changes from round to round."""
        groups = {}
        for unit in self.units:
            groups.setdefault(unit[1], []).append(unit)
        return [group[(at + number - 1) % len(group)]
                for group in groups.values() for at in range(len(group))]

    def run(self):
        for number in range(1, self.rounds + 1):
            for unit in self.order(number):
                self.measure(number, unit)

    def measure(self, number, unit):
        measure, case, name = unit
        place = f"{measure.name} {case.label()}".strip()
        begun = time.monotonic()
        try:
            with self.turn():
                # Not the wait for others' measurements.
                begun = time.monotonic()
                values = self.values(measure, case, name)
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            self.failures.append({"round": number, "measure": measure.name,
                                  "case": dict(case.params), "forwarder": name,
                                  "error": f"{type(error).__name__}: {error}"})
            text = f"FAILED: {error}"
        else:
            self.rows += [{"round": number, "measure": measure.name, "case": dict(case.params),
                           "quantity": quantity, "forwarder": name, "value": value}
                          for quantity, value in values.items()]
            told = measure.headlines or [name for name, way in measure.quantities.items() if way]
            text = ", ".join(f"{figures.short(values[quantity])} {quantity}" for quantity in told
                             if quantity in values)
        self.took.setdefault(unit, []).append(time.monotonic() - begun)
        self.done += 1
        total = len(self.units) * self.rounds
        print(f"{self.done}/{total}  {figures.duration(self.left())} left  round {number}  "
              f"{place}  {name}: {text}", flush=True)

    def turn(self):
        return Turn(self.lock)

    def values(self, measure, case, name):
        forwarder = FORWARDERS[name]
        with Lab(measure.offloads(case, forwarder)) as lab, \
                forwarder(lab, measure.capacity(case)) as device:
            return measure.run(case, Bench(lab, device, self.options.secs))


class Turn:
    """Held while measuring, so that two benchmarks on a machine take turns."""

    told = False

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.file = open(self.path, "a")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not Turn.told:
                print(f"waiting for another measurement ({self.path})", flush=True)
            Turn.told = True
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()
