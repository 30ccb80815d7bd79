"""Arithmetic, and reading of what programs and the kernel print. Nothing here runs anything."""
import json
import re
import statistics

# RFC 2544 wants no loss at all; on a machine with other work some frame is always late, so that a
# bound says what counts as none.
NO_LOSS_BOUND = 0.001
# The search ends when the rate is known to this part of itself.
SEARCH_RESOLUTION = 0.03
# A rate counts as lossy when it failed this often in a row: one hiccup of the machine is no loss
# of the forwarder's.
SEARCH_TRIES = 2

CLOCK_TICKS = 100  # what /proc counts in; USER_HZ is 100 on every Linux


def middle(values):
    return statistics.median(values)


def spread(values):
    """Highest less lowest, as a part of the median."""
    centre = middle(values)
    return (max(values) - min(values)) / centre if centre else float("nan")


def ratios(above, below):
    """Ratios within a round. `above` and `below` map rounds to values."""
    return [above[number] / below[number] for number in sorted(above)
            if number in below and below[number]]


def verdict(values, wanted, at_most=False, strictly=False):
    """`reached` or `NOT REACHED`: whether the median of ratios is what was wanted."""
    if not values:
        return "not measured"
    centre = middle(values)
    if at_most:
        good = centre < wanted if strictly else centre <= wanted
    else:
        good = centre > wanted if strictly else centre >= wanted
    return "reached" if good else "NOT REACHED"


def loss(offered, received):
    """What part of the frames did not arrive. Strays that were counted too are no gain."""
    return max(0.0, 1 - received / offered) if offered else 0.0


def no_loss_rate(trial, highest, bound=NO_LOSS_BOUND):
    """The highest rate at which less than `bound` is lost, by halving.

    `trial(rate)` offers that rate and answers (offered, received, seconds). The answer is what
    was received a second at the best rate that passed; 0 if none did.
    """
    low, high, best = 0.0, highest, 0.0
    while high - low > highest * SEARCH_RESOLUTION:
        rate = (low + high) / 2
        for _ in range(SEARCH_TRIES):
            offered, received, seconds = trial(rate)
            passed = loss(offered, received) < bound
            if passed:
                break
        if passed:
            low, best = rate, max(best, received / seconds)
        else:
            high = rate
    return best


def kept(curve, load):
    """What is forwarded at a load as a part of the most that is forwarded at any load."""
    most = max(curve.values())
    return curve[load] / most if most else 0.0


def unaccounted(offered, before, after):
    """What part of the offered frames a firewall's counters know nothing about.

    Every frame was either received (and then forwarded, dropped for a reason, or held) or lost in
    a ring before. Both kinds of hole count: frames never seen, and frames seen but gone.
    """
    seen, lost, known = (sum(after[key] - before[key] for key in keys) for keys in (
        ("received",), ("ring_lost",), ("forwarded", "dropped", "held")))
    return (abs(offered - seen - lost) + abs(seen - known)) / offered if offered else 0.0


def packets_counted(listing):
    """Packets of the first counter in what `nft list` prints."""
    return int(re.search(r"counter packets (\d+)", listing)[1])


def process_seconds(stat):
    """Processor time of all threads of a process, from /proc/PID/stat."""
    # The program's name may hold blanks and parentheses; what follows the last one is numbers.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def machine_seconds(stat):
    """Busy time of all cores, interrupts included, from /proc/stat."""
    fields = [int(field) for field in stat.split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / CLOCK_TICKS


def kib(text, key):
    """Bytes of a line such as `VmRSS:   123 kB`."""
    return int(re.search(rf"^{key}:\s*(\d+) kB", text, re.MULTILINE)[1]) * 1024


def iperf_gbits(text):
    """What the receiver of an iperf3 run got, in Gbit/s."""
    report = json.loads(text)
    if "error" in report:
        raise RuntimeError(f"iperf3: {report['error']}")
    return report["end"]["sum_received"]["bits_per_second"] / 1e9


def short(value):
    """A number with three digits that count, for people."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds):
    """For people: 45 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def flows_text(flows):
    """1, 1k, 100k, 1M."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if flows >= unit and flows % unit == 0:
            return f"{flows // unit}{letter}"
    return str(flows)


def flows_number(text):
    """The other way round."""
    found = re.fullmatch(r"(\d+)([kM]?)", text.strip())
    if not found or not int(found[1]):
        raise ValueError(f"not a number of flows: {text!r}; such as 1, 1k, 100k, 1M")
    return int(found[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[found[2]]
