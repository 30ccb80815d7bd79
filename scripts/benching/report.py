"""results.json, which has everything, and results.md, which is made of it."""
import datetime
import json
import os
import platform
import re
import shutil
import sys

from . import claims, figures
from .hosts import ROOT, run
from .measures import MEASURES
from .measures.case import Case

VERSION = 1
CONDITIONS = """\
- Namespaces on veth, fresh for each measurement. The forwarder has core 1, the generator core 0. On
  veth the sender's core also pays for the forwarder's receive interrupt, and the forwarder's core
  for the sink's. Kernel forwarders run on the sender's core.
- "half a core": a busy loop shares the forwarder's core, so that the forwarder is the limit and
  not the generator.
- UDP frames have offloads off on all four interfaces, for every forwarder. Connections have them as
  the kernel does, but for those that pass no super-frames and no partial checksums: {off}.
- "no-loss" is the highest rate with less than {bound:.1%} lost, to {resolution:.0%}.
- Frames are counted by nftables where they enter the ends; no forwarder is asked for its own
  numbers, except for what lotus is to account for (overload).
- Medians of the rounds; in brackets the spread (highest less lowest, as a part of the median).
  Ratios are made within a round: compare ratios of one run, not numbers of two.
- Process time is of all threads of the forwarder, machine time of all cores, generator and
  interrupts included. Processes that poll use their time whether there is work or not.
"""


def machine():
    """What was measured on."""
    with open("/proc/cpuinfo") as file:
        models = re.findall(r"model name\s*: (.*)", file.read())
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) // 1024
    with open("/etc/os-release") as file:
        system = re.search(r'PRETTY_NAME="(.*)"', file.read())
    return {
        "processor": f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{memory} MiB",
        "kernel": platform.release(),
        "system": system[1] if system else "unknown",
        "virtual machine": first("systemd-detect-virt"),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": first("git", "-C", ROOT, "describe", "--always", "--dirty"),
        "lotus": first(os.environ["LOTUS"], "--version"),
        "nftables": first("nft", "--version"),
        "Open vSwitch": first("ovs-vswitchd", "--version"),
        "DPDK": first("dpkg-query", "-W", "-f", "${Version}\n", "dpdk-dev"),
        "iperf3": first("iperf3", "--version"),
        "command": " ".join(["scripts/bench", *sys.argv[1:]]),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def first(*command):
    """The first line of what a program says, if it is there."""
    try:
        return run(*command).strip().splitlines()[0] if shutil.which(command[0]) else "not there"
    except (OSError, RuntimeError, IndexError):
        return "unknown"


def save(folder, description, campaign):
    forwarders = campaign.forwarders
    with open(f"{folder}/results.json", "w") as file:
        json.dump({
            "version": VERSION, "machine": description, "rounds": campaign.rounds,
            "secs": campaign.options.secs, "forwarders": forwarders,
            "offloads off": [name for name in forwarders if not offloads(name)],
            "rows": campaign.rows, "failures": campaign.failures,
            "unfit": [{"measure": measure, "case": case, "forwarder": name, "why": why}
                      for (measure, case, name), why in campaign.unfit.items()],
        }, file, indent=1)


def offloads(name):
    from .forwarders import FORWARDERS
    return FORWARDERS[name].offloads


def load(folder):
    with open(f"{folder}/results.json") as file:
        results = json.load(file)
    if results.get("version") != VERSION:
        raise RuntimeError(f"{folder}/results.json is of another version of this benchmark")
    return results


def markdown(results):
    lines = ["# Benchmark", ""]
    lines += [f"- {name}: {value}" for name, value in results["machine"].items()]
    lines += [f"- rounds: {results['rounds']}, seconds a measurement: {results['secs']:g}", ""]
    lines += ["## Ratios to reach", "", *claims_table(results), ""]
    for name, measure in MEASURES.items():
        rows = [row for row in results["rows"] if row["measure"] == name]
        if rows:
            lines += [f"## {name}: {measure.about}", "",
                      *measure_table(rows, measure, results["forwarders"]), ""]
    if results["failures"]:
        lines += ["## Not measured", ""]
        lines += [f"- round {each['round']}, {each['forwarder']}, {each['measure']} "
                  f"{Case(each['measure'], tuple(each['case'].items())).label()}: {each['error']}"
                  for each in results["failures"]]
        lines += [""]
    lines += ["## Conditions", "", CONDITIONS.format(
        off=", ".join(results["offloads off"]) or "none here",
        bound=figures.NO_LOSS_BOUND, resolution=figures.SEARCH_RESOLUTION)]
    for name, measure, why in sorted({(each["forwarder"], each["measure"], each["why"])
                                      for each in results["unfit"]}):
        lines.append(f"- {name} takes no part in some of {measure}: {why}.")
    return "\n".join(lines).rstrip() + "\n"


def claims_table(results):
    found = claims.judged(results["rows"], MEASURES)
    if not found:
        return ["None: no two forwarders that are to be compared were measured."]
    lines = ["| ratio | of | median | lowest | highest | wanted | |",
             "|---|---|--:|--:|--:|---|---|"]
    for what, place, ratios, wanted, verdict in found:
        if ratios:
            lines.append(f"| {what} | {place} | {figures.middle(ratios):.3g} | {min(ratios):.3g} "
                         f"| {max(ratios):.3g} | {wanted} | {verdict} |")
        else:
            lines.append(f"| {what} | {place} | - | - | - | {wanted} | {verdict} |")
    return lines


def measure_table(rows, measure, forwarders):
    taking_part = [name for name in forwarders if any(row["forwarder"] == name for row in rows)]
    lines = [f"| case | quantity | {' | '.join(taking_part)} |",
             f"|---|---|{'--:|' * len(taking_part)}"]
    cases = [case for case, _ in claims.by_case(rows)]
    for case in cases:
        label = Case(measure.name, case).label() or measure.name
        for quantity in measure.quantities:
            chosen = [row for row in rows if tuple(row["case"].items()) == case
                      and row["quantity"] == quantity]
            if not chosen:
                continue
            (_, values), = claims.by_case(chosen)
            cells = [cell(list(values[name].values())) if name in values else "-"
                     for name in taking_part]
            lines.append(f"| {label} | {quantity} | {' | '.join(cells)} |")
    return lines


def cell(values):
    text = figures.short(figures.middle(values))
    return f"{text} ({figures.spread(values):.0%})" if len(values) > 1 and any(values) else text
