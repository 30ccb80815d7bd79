#!/usr/bin/env python3
"""Sends UDP frames out of an interface, as many as it can or at a rate, and tells how many went.

Without -i it shows what it does: between two network namespaces of its own, with a receiver.

There are two drivers, with the same options and the same table:

  kernel  the pktgen module of Linux, through /proc/net/pktgen
  own     the program pktgen of this repository, on packet sockets; only this one has --sink
  auto    the kernel's if it is there or can be loaded, else our own

Flow number i comes from 192.0.2.100, port 1024 + i; beyond 60,000 flows sources are from
198.18.0.0/15, the range for benchmarks. With --sink each frame carries a number and the time, and
leaves with a system call of its own, which makes the highest rate lower.
"""
import argparse
import ipaddress
import json
import math
import os
import re
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROC = "/proc/net/pktgen"

# As in benches/gen/pktgen/flow.rs.
SOURCE, FIRST_PORT, PORTS = "192.0.2.100", 1024, 60_000
FIRST_SPOOFED, SPOOFED = ipaddress.IPv4Address("198.18.0.1"), (1 << 17) - 1

FCS_BYTES = 4
# What a frame takes on the wire besides itself: preamble and start (8), the gap to the next (12).
WIRE_BYTES = 20

# What is in flight when the sender ends has arrived after this.
SETTLE_SECS = 0.3
LOOK_SECS = 0.05


class Failure(Exception):
    """What a person is told, without a traceback."""


class Interface:
    """An interface here, or in a network namespace: NAMESPACE/INTERFACE."""

    def __init__(self, text):
        self.namespace, _, self.name = text.rpartition("/")
        if not re.fullmatch(r"[^\s/]{1,15}", self.name):
            raise argparse.ArgumentTypeError(f"{text!r} is no interface")

    def __str__(self):
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def there(self, *command):
        """The command, in the interface's namespace."""
        inside = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        return [*inside, *map(str, command)]

    def link(self):
        try:
            shown = run(*self.there("ip", "-json", "-statistics", "link", "show", "dev", self.name))
        except Failure as failure:
            raise Failure(f"no interface {self} here ({failure})") from failure
        return json.loads(shown)[0]

    def sent(self):
        return self.link()["stats64"]["tx"]["packets"]

    def check(self, force):
        if "UP" not in self.link()["flags"]:
            raise Failure(f"{self} is down. Try: ip link set dev {self.name} up")
        for family in ("-4", "-6"):
            routes = json.loads(run(*self.there("ip", "-json", family, "route", "show", "default")) or "[]")
            hops = [hop for route in routes for hop in [route, *route.get("nexthops", [])]]
            if not force and any(hop.get("dev") == self.name for hop in hops):
                raise Failure(f"{self} carries the default route of this machine: it may be the one you are "
                              "logged in over. --force sends there all the same")


def run(*command, **options):
    """Output of a command that must succeed."""
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    except FileNotFoundError as error:
        raise Failure(f"{error.filename} is not there") from error
    if done.returncode:
        raise Failure((done.stderr or done.stdout).strip() or f"{' '.join(map(str, command))} failed")
    return done.stdout


def library(command, **options):
    # The path as an argument of its own: it may have blanks in it.
    return run("bash", "-euo", "pipefail", "-c", f'. "$0"; {command}', f"{ROOT}/scripts/lib.sh", **options)


def say(options, *words):
    """For people: with --json it goes where it is in nobody's way."""
    print(*words, file=sys.stderr if options.json else sys.stdout, flush=True)


def progress(options, second, frames):
    rate = frames / 1e3
    say(options, f"  {second:3} s  {rate:9,.1f} kpps  {on_the_wire(options, rate * 1e3):9,.1f} Mbit/s")


def on_the_wire(options, pps):
    return pps * (options.size + WIRE_BYTES) * 8 / 1e6


# ---- the kernel's pktgen


def split(flows):
    """Ports and addresses that take turns together so that each pair comes once before any comes again:
    their product is the number of flows, or a little more where that can't be."""
    least = -(-flows // PORTS)
    for addresses in range(least, min(flows, SPOOFED) + 1):
        ports = flows // addresses
        if ports * addresses == flows and math.gcd(ports, addresses) == 1:
            return ports, addresses
    ports = -(-flows // least)
    while math.gcd(ports, least) != 1:
        ports += 1
    return ports, least


def kernel_plan(options, thread):
    """What to write where, before the start: pairs of a file and a line. See the kernel's
    Documentation/networking/pktgen.rst."""
    ports, addresses = split(options.flows)
    if addresses == 1:
        source = last = SOURCE
    else:
        source, last = FIRST_SPOOFED, FIRST_SPOOFED + addresses - 1
    name = options.interface.name
    lines = [
        "count 0",  # until it is stopped
        "clone_skb 0",  # a clone has the ports of its original
        f"pkt_size {options.size - FCS_BYTES}",
        f"ratep {options.rate}" if options.rate else "delay 0",
        f"dst_min {options.dst}",
        f"dst_max {options.dst}",
        f"dst_mac {options.mac}",
        f"src_min {source}",
        f"src_max {last}",
        f"udp_dst_min {options.port}",
        f"udp_dst_max {options.port}",
        # Unlike the other bounds, this one is not sent itself.
        f"udp_src_min {FIRST_PORT}",
        f"udp_src_max {FIRST_PORT + ports}",
    ]
    return [(thread, f"add_device {name}"), *((name, line) for line in lines)]


def kernel_here():
    """Whether the kernel has pktgen; why not, else."""
    if os.path.isdir(PROC):
        return True, ""
    try:
        run("modprobe", "--dry-run", "--quiet", "pktgen")
        return True, ""
    except Failure:
        return False, f"this kernel ({os.uname().release}) has no module pktgen"


class KernelDriver:
    name = "kernel"

    def __init__(self, options):
        self.options, self.there = options, options.interface.there
        self.loaded = self.added = False
        self.starter = None

    def write(self, file, line):
        path = f"{PROC}/{file}"
        run(*self.there("sh", "-c", 'printf "%s\\n" "$1" >"$2"', "sh", line, path))
        # It takes what it does not understand, and says so here.
        result = re.search(r"Result: (.*)", self.read(file))
        if result and not result[1].startswith(("OK", "NA", "Idle")):
            raise Failure(f"pktgen did not take '{line}' ({path}): {result[1]}")

    def read(self, file):
        return run(*self.there("cat", f"{PROC}/{file}"))

    def measure(self):
        """Frames sent, refused, and seconds."""
        if not os.path.isdir(PROC):
            run("modprobe", "pktgen")
            self.loaded = True
        threads = [file for file in run(*self.there("ls", PROC)).split() if file.startswith("kpktgend_")]
        if not threads:
            raise Failure(f"{PROC} has no threads")
        for thread in threads:
            busy = re.search(r"(?:Running|Stopped):[ \t]*(\S+)", self.read(thread))
            if busy:
                raise Failure(f"pktgen is in use: {PROC}/{thread} has {busy[1]}. It is not taken away here")
        self.thread = threads[0]
        for file, line in kernel_plan(self.options, self.thread):
            self.write(file, line)
            self.added = True
        # It returns when sending is over.
        self.starter = subprocess.Popen(
            self.there("sh", "-c", 'echo start >"$1"', "sh", f"{PROC}/pgctrl"), start_new_session=True)
        self.wait()
        self.stop()
        text = self.read(self.options.interface.name)
        sofar = re.search(r"pkts-sofar:\s*(\d+)\s+errors:\s*(\d+)", text)
        took = re.search(r"Result: OK: (\d+)", text)
        if not (sofar and took):
            raise Failure(f"pktgen says nothing that is understood here:\n{text}")
        return int(sofar[1]), int(sofar[2]), int(took[1]) / 1e6

    def wait(self):
        begun, last = time.monotonic(), 0
        try:
            for second in range(1, math.ceil(self.options.secs) + 1):
                time.sleep(max(0, min(second, self.options.secs) - (time.monotonic() - begun)))
                sofar = int(re.search(r"pkts-sofar:\s*(\d+)", self.read(self.options.interface.name))[1])
                progress(self.options, second, sofar - last)
                last = sofar
        except KeyboardInterrupt:
            self.options.stopped = True

    def stop(self):
        if self.starter is None:
            return
        self.write("pgctrl", "stop")
        try:
            self.starter.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.starter.pid, signal.SIGINT)
            self.starter.wait(5)
        self.starter = None

    def clean(self):
        try:
            self.stop()
        finally:
            if self.added:
                self.write(self.thread, "rem_device_all")
            if self.loaded:
                run("modprobe", "-r", "pktgen")


# ---- our own


def own_plan(options, program="pktgen"):
    """The command that sends."""
    more = ["--stamp"] if options.sink else []
    return [program, "send", options.interface.name, "--secs", options.secs, "--pps", options.rate,
            "--flows", options.flows, "--size", options.size, "--to", f"{options.dst}:{options.port}",
            "--mac", options.mac, *more]


class OwnDriver:
    name = "own"

    def __init__(self, options):
        self.options, self.processes, self.seen = options, [], None

    def start(self, interface, *command, **streams):
        # In a session of its own: Ctrl-C is for this script, which then ends the others in order.
        process = subprocess.Popen(interface.there(*command), stdin=subprocess.DEVNULL, text=True,
                                   stdout=subprocess.PIPE, start_new_session=True, **streams)
        self.processes.append(process)
        return process

    def measure(self):
        """Frames sent, refused, and seconds."""
        options = self.options
        say(options, "building pktgen, if need be")
        folder = library("need_generator pktgen >&2; echo $GENERATORS").strip()
        program = f"{folder}/pktgen"
        if options.sink:
            sink = self.start(options.sink, program, "sink", options.sink.name, stderr=subprocess.PIPE)
            words = sink.stderr.readline()
            if "ready" not in words:
                raise Failure(f"the receiver did not start: {words}{sink.stderr.read()}".strip())
        sender = self.start(options.interface, *own_plan(options, program))
        self.wait(sender)
        report = self.end(sender)
        if options.sink:
            time.sleep(SETTLE_SECS)
            self.seen = self.end(sink)
        return report["sent"], report["refused"], report["secs"]

    def wait(self, sender):
        begun, last, second = time.monotonic(), self.options.interface.sent(), 1
        try:
            while sender.poll() is None:
                time.sleep(LOOK_SECS)
                if time.monotonic() - begun >= second:
                    sent = self.options.interface.sent()
                    progress(self.options, second, sent - last)
                    last, second = sent, second + 1
        except KeyboardInterrupt:
            self.options.stopped = True

    def end(self, process):
        """Has it end if it still runs; what it reports."""
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
        if process.returncode:
            raise Failure("pktgen failed; what it said is above")
        return json.loads(output)

    def clean(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


# ---- what is told


def report(options, driver, measured):
    sent, refused, secs = measured
    pps = sent / secs if secs else 0
    result = {"driver": driver.name, "interface": str(options.interface), "sent": sent, "refused": refused,
              "secs": round(secs, 6), "kpps": round(pps / 1e3, 3),
              "wire_mbit_s": round(on_the_wire(options, pps), 3)}
    seen = getattr(driver, "seen", None)
    if seen:
        result |= {"received": seen["received"], "lost": sent - seen["received"],
                   "reordered": seen["reordered"], "overrun": seen["overrun"],
                   "latency_us": seen["latency_us"]}
    return result


def table(options, result):
    rows = [("driver", result["driver"] + options.note), ("interface", result["interface"]),
            ("sent", f"{result['sent']:,} frames of {options.size} bytes, {options.flows:,} flows"),
            ("refused", f"{result['refused']:,} (the interface had no room)"),
            ("seconds", f"{result['secs']:.3f}"), ("rate", f"{result['kpps']:,.3f} kpps"),
            ("on the wire", f"{result['wire_mbit_s']:,.1f} Mbit/s (preamble and gap included, as RFC 2544 does)")]
    if "received" in result:
        share = result["lost"] / result["sent"] if result["sent"] else 0
        rows += [("received", f"{result['received']:,}"),
                 ("lost", f"{result['lost']:,} ({share:.4%})" + (
                     f", {result['overrun']:,} of them by the receiver" if result["overrun"] else "")),
                 ("out of order", f"{result['reordered']:,}")]
        times = result["latency_us"]
        if times:
            rows.append(("latency, us", "  ".join(f"{name} {value:.1f}" for name, value in times.items())))
    return "\n".join(f"  {name:13} {value}" for name, value in rows)


# ---- which and where


def choose(options):
    """The driver, and what to say of the choice."""
    if options.driver == "own":
        return OwnDriver, ""
    here, why = kernel_here()
    if options.sink and here:
        return OwnDriver, " (because of --sink; the kernel's driver was not tried)"
    if here:
        return KernelDriver, ""
    if options.driver == "kernel":
        raise Failure(f"{why}. Use --driver own")
    return OwnDriver, f" ({why}: the kernel's driver was not tried)"


def show(options, driver):
    """What would be done."""
    if driver is OwnDriver:
        if options.sink:
            print(*options.sink.there("pktgen", "sink", options.sink.name), "&")
        print(*options.interface.there(*own_plan(options)))
        return
    thread = "kpktgend_0"
    plan = [*kernel_plan(options, thread), ("pgctrl", "start")]
    for file, line in plan:
        print(f"echo '{line}' >{PROC}/{file}")
    print(f"# after {options.secs:g} s")
    for file, line in [("pgctrl", "stop"), (thread, "rem_device_all")]:
        print(f"echo '{line}' >{PROC}/{file}")


def demonstrate(options):
    """Two network namespaces with a cable between them; returns what takes them away."""
    names = [f"lotus-pktgen-{os.getpid()}-{end}" for end in ("a", "b")]

    def remove():
        library(f"HOSTS=({' '.join(names)}); hosts_down")

    try:
        for name in names:
            run("ip", "netns", "add", name)
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        run("ip", "-n", names[0], "link", "add", "out0", "type", "veth", "peer", "name", "in0",
            "netns", names[1])
        run("ip", "-n", names[0], "link", "set", "out0", "up")
        run("ip", "-n", names[1], "link", "set", "in0", "up")
    except BaseException:
        remove()
        raise
    options.interface = Interface(f"{names[0]}/out0")
    if options.driver != "kernel":
        options.sink = Interface(f"{names[1]}/in0")
    say(options, "No interface was named (-i), so this is a demonstration: from one network namespace to "
                 "another,\nover a cable (veth) that exists only now.")
    return remove


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/pktgen", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Examples:\n  sudo ./scripts/pktgen                       a demonstration\n"
               "  sudo ./scripts/pktgen -i eth1 -t 10          as fast as it can, 10 seconds\n"
               "  sudo ./scripts/pktgen -i eth1 --sink eth2 -r 100000 -f 50000\n"
               "                                               through whatever is between the two")

    def number(kind, least, most):
        def parse(text):
            value = kind(text)
            if not least <= value <= most:
                raise argparse.ArgumentTypeError(f"{text}: from {least} to {most}")
            return value
        parse.__name__ = "number"
        return parse

    def mac(text):
        if not re.fullmatch(r"(?i)[0-9a-f]{2}(:[0-9a-f]{2}){5}", text):
            raise argparse.ArgumentTypeError(f"{text!r} is no MAC address")
        return text.lower()

    parser.add_argument("-i", dest="interface", metavar="IF", type=Interface,
                        help="the interface to send from, or NAMESPACE/IF")
    parser.add_argument("-t", dest="secs", metavar="SECS", type=number(float, 0.1, 1e6), default=3.0,
                        help="for how long (3)")
    parser.add_argument("-r", dest="rate", metavar="PPS", type=number(int, 0, 10**9), default=0,
                        help="frames a second; 0, the default: as many as it can")
    parser.add_argument("-f", dest="flows", metavar="FLOWS", type=number(int, 1, 10**8), default=1000,
                        help="how many flows take turns (1000)")
    parser.add_argument("-s", dest="size", metavar="SIZE", type=number(int, 64, 1518), default=64,
                        help="length of a frame with its check sequence (64)")
    parser.add_argument("-d", dest="dst", metavar="DST_IP", type=ipaddress.IPv4Address, default="192.0.2.200",
                        help="where frames go (192.0.2.200, which is nobody)")
    parser.add_argument("-p", dest="port", metavar="DST_PORT", type=number(int, 1, 65535), default=5000,
                        help="to which port (5000)")
    parser.add_argument("-m", dest="mac", metavar="DST_MAC", type=mac, default="02:00:00:00:02:c8",
                        help="to which MAC address (02:00:00:00:02:c8, which is nobody's)")
    parser.add_argument("--sink", metavar="IF", type=Interface,
                        help="where they come out: counts what arrives, loss, latency")
    parser.add_argument("--driver", choices=["auto", "kernel", "own"], default="auto")
    parser.add_argument("--json", action="store_true", help="the result as a JSON object")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")
    parser.add_argument("--force", action="store_true",
                        help="even if the interface carries the default route")
    options = parser.parse_args()
    if options.sink and options.driver == "kernel":
        parser.error("--sink needs --driver own: the kernel's frames are not ours to read")
    if options.dry_run and not options.interface:
        parser.error("--dry-run needs -i")
    return options


def main():
    options = arguments()
    options.stopped = False
    if options.dry_run:
        # The lines can be looked at anywhere, also where there is no such kernel.
        show(options, KernelDriver if options.driver == "kernel" else choose(options)[0])
        return 0
    if os.geteuid():
        raise Failure("raw frames are for root only. Run: sudo ./scripts/pktgen")
    library("need ip:iproute2 sysctl:procps >&2")
    remove = driver = None
    ended = []
    # So that an end by signal takes everything down, too.
    signal.signal(signal.SIGTERM, lambda *_: (ended.append(143), signal.default_int_handler(signal.SIGINT, None)))
    try:
        if options.interface is None:
            remove = demonstrate(options)
        else:
            options.interface.check(options.force)
            if options.sink:
                options.sink.check(True)
        kind, options.note = choose(options)
        driver = kind(options)
        say(options, f"driver: {driver.name}{options.note}")
        if remove is None:
            print(f"warning: frames leave {options.interface}; whoever is on that wire gets them",
                  file=sys.stderr, flush=True)
        measured = driver.measure()
        result = report(options, driver, measured)
        if options.json:
            print(json.dumps(result))
        else:
            print(f"\n{table(options, result)}")
    except KeyboardInterrupt:
        options.stopped = True
    finally:
        # A second Ctrl-C must not leave anything behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        try:
            if driver:
                driver.clean()
        finally:
            if remove:
                remove()
    return (ended or [130])[0] if options.stopped else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"error: {failure}")
