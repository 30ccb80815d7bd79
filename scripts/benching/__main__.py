"""The command line of the benchmark."""
import argparse
import datetime
import os
import signal
import sys

from . import figures, hosts
from .measures import MEASURES
from .measures.case import Options

OURS, PEERS = ["lotus", "passthrough"], ["bridge", "nft", "ovs", "ovs-afxdp", "testpmd",
                                         "testpmd-afxdp"]

# What the command line leaves open.
THOROUGH = {"rounds": 5, "secs": 3, "flows": [1, 1_000, 100_000, 1_000_000]}
QUICK = {"rounds": 1, "secs": 1, "flows": [1_000, 1_000_000]}


def main():
    parser, arguments = parsed()
    if arguments.list:
        return listing()
    if arguments.replot:
        return redrawn(arguments.replot)
    if arguments.rounds < 1 or arguments.secs <= 0:
        parser.error("--rounds and --secs must be positive")
    if (os.cpu_count() or 1) < 2:
        sys.exit("error: two cores are needed: one for the generator, one for the forwarder")
    campaign = planned(arguments)
    if not campaign.units:
        sys.exit("error: none of these forwarders takes part in any of these measures")
    if arguments.plan:
        return plan(campaign)
    return measured(arguments, campaign)


def parsed():
    parser = argparse.ArgumentParser(
        prog="scripts/bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="How fast lotus is, next to other forwarders, in network namespaces.",
        epilog="Measures and forwarders: scripts/bench --list\n\n"
               "  sudo scripts/bench --quick                     lotus alone, some minutes\n"
               "  sudo scripts/bench --quick --peers             next to its peers\n"
               "  sudo scripts/bench --only udp --forwarders lotus,testpmd --flows 1k,1M\n"
               "  sudo scripts/bench --only udp --variant ring.slots=512\n"
               "  scripts/bench --replot target/bench/DATE       tables and pictures again")
    parser.add_argument("--only", type=names("measure", MEASURES), metavar="MEASURE[,..]",
                        help="these measures; default: all")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--forwarders", type=names("forwarder", OURS + PEERS), metavar="NAME[,..]",
                       help="these forwarders; default: " + ",".join(OURS))
    which.add_argument("--peers", action="store_true", help="all forwarders")
    parser.add_argument("--variant", type=setting, action="append", default=[],
                        metavar="NAME=VALUE",
                        help="lotus with this setting, too; may be given again")
    parser.add_argument("--quick", action="store_true",
                        help="fewer cases, measurements of 1 s, 1 round: for a look")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--secs", type=float, help="length of one measurement, default 3")
    parser.add_argument("--flows", type=flows, metavar="N[,..]",
                        help="numbers of flows, default 1,1k,100k,1M")
    parser.add_argument("--offloads-off", action="store_true",
                        help="TCP bulk with offloads off for everybody, too")
    parser.add_argument("--out", metavar="DIR", help="for the results, default target/bench/DATE")
    parser.add_argument("--lock", default=f"{hosts.ROOT}/target/bench/measure.lock", metavar="FILE",
                        help="held while measuring, so that two benchmarks take turns")
    parser.add_argument("--list", action="store_true", help="list measures and forwarders")
    parser.add_argument("--plan", action="store_true",
                        help="say what would be measured and about how long it would take, no more")
    parser.add_argument("--replot", metavar="DIR",
                        help="make tables and pictures again from DIR/results.json")
    arguments = parser.parse_args()
    usual = QUICK if arguments.quick else THOROUGH
    for name, value in usual.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return parser, arguments


def names(kind, known):
    def parse(text):
        chosen = [name for name in text.split(",") if name]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"no {kind} {name!r}; there are: {', '.join(known)}")
        if not chosen:
            raise argparse.ArgumentTypeError(f"no {kind} named; there are: {', '.join(known)}")
        return list(dict.fromkeys(chosen))
    return parse


def setting(text):
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return text


def flows(text):
    try:
        return [figures.flows_number(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def listing():
    print("measures:")
    for name, measure in MEASURES.items():
        print(f"  {name:14} {measure.about}")
    from .forwarders import FORWARDERS
    print("\nforwarders (a * is in --peers only):")
    for name in OURS + PEERS:
        about = FORWARDERS[name].__doc__.split("\n")[0]
        print(f"  {name:13}{'*' if name in PEERS else ' '} {about}")


def redrawn(folder):
    from . import report
    try:
        results = report.load(folder)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {folder}: {error}")
    finish(folder, results)


def planned(arguments):
    from .campaign import Campaign
    from .forwarders import vary
    options = Options(secs=arguments.secs, quick=arguments.quick, flows=arguments.flows,
                      offloads_off=arguments.offloads_off)
    forwarders = OURS + PEERS if arguments.peers else arguments.forwarders or OURS
    forwarders = forwarders + [vary(setting) for setting in dict.fromkeys(arguments.variant)]
    return Campaign([MEASURES[name] for name in arguments.only or MEASURES], forwarders, options,
                    arguments.rounds, arguments.lock)


def plan(campaign):
    cases = {}
    for measure, case, name in campaign.units:
        cases.setdefault(case, []).append(name)
    for case, forwarders in cases.items():
        print(f"{': '.join(filter(None, (case.measure, case.label())))} ({', '.join(forwarders)})")
    print(f"\n{campaign.rounds} x {len(campaign.units)} measurements, about "
          f"{figures.duration(campaign.guess())}")


def measured(arguments, campaign):
    from . import report
    # So that an end by signal takes everything down, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    folder = arguments.out or f"{hosts.ROOT}/target/bench/{datetime.datetime.now():%Y%m%d-%H%M%S}"
    for needed in (folder, os.path.dirname(os.path.abspath(arguments.lock))):
        os.makedirs(needed, exist_ok=True)
    hosts.clear_leftovers()
    description = report.machine()
    print("\n".join(f"{name}: {value}" for name, value in description.items()))
    if os.getloadavg()[0] > 0.5:
        print("warning: this machine is busy: the numbers will be worth little")
    print(f"about {figures.duration(campaign.guess())}", flush=True)
    try:
        campaign.run()
    finally:
        # What there is when it is interrupted, too.
        report.save(folder, description, campaign)
        give_to_owner(arguments.out or f"{hosts.ROOT}/target/bench")
    finish(folder, report.load(folder))
    give_to_owner(arguments.out or f"{hosts.ROOT}/target/bench")
    if campaign.failures:
        sys.exit(f"error: {len(campaign.failures)} measurements failed; see results.md")


def finish(folder, results):
    from . import plots, report
    text = report.markdown(results)
    with open(f"{folder}/results.md", "w") as file:
        file.write(text)
    drawn = plots.draw(folder, results)
    print(f"\n{text}\nwritten: {folder}: results.json, results.md, "
          f"{', '.join(drawn) or 'no pictures'}")


def give_to_owner(folder):
    owner = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if all(owner):
        hosts.run("chown", "-R", ":".join(owner), folder)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
