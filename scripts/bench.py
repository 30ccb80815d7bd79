#!/usr/bin/env python3
"""Compares lotus with other forwarders, on this machine, in network namespaces.

  udp  64-byte UDP frames of 1,000 flows, more than anybody can forward: frames a second that
       arrive. lotus (rules and connection tracking) against lotus --passthrough (the same rings,
       no firewall) and DPDK testpmd on packet sockets (a forwarder and nothing else).
       Twice: with a core of its own, where the generator is often the limit, and with a busy loop
       on the same core, so that the forwarder is.
  tcp  one TCP connection, as fast as it goes, each way: lotus against the kernel's bridge.

Conditions, the same for all:
  * The forwarder has core 1 to itself; the UDP generator has core 0. On veth the sender's core
    also pays for the forwarder's receive interrupt, the forwarder's core for the sink's.
  * udp: offloads off on all four interfaces for every forwarder, because testpmd needs it. (The
    generator's frames carry no offload, so this changes nothing for lotus.)
  * tcp: offloads at their defaults; the two ends may use any core.
  * Who arrives is counted in the server's namespace by an nftables ingress counter, which drops
    what it counts; no forwarder is asked for its own numbers.
  * Rounds are interleaved (each forwarder once a round, on fresh namespaces); ratios are made
    within a round. Machines drift: compare ratios of one run, not numbers of two.

Run it as ./scripts/bench, which installs and builds what it needs.
"""
import argparse
import datetime
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PREFIX = f"lotus-bench-{os.getpid()}"
CLIENT, FIREWALL, SERVER = (f"{PREFIX}-{host}" for host in ("client", "firewall", "server"))
SERVER4 = "192.0.2.20"
PORTS = [(CLIENT, "client0"), (FIREWALL, "to-client"), (FIREWALL, "to-server"), (SERVER, "server0")]
FLOWS = 1000
GENERATOR_CORE, FORWARDER_CORE = 0, 1
# Long enough for all flows to be known before counting starts.
WARM_UP_SECS = 0.3
# What is still in a ring when the generator stops has arrived after this.
SETTLE_SECS = 0.2
# Below this much more offered than received, the forwarder was not at its limit.
SATURATED = 1.02

RULES = """table bridge bench {
  ct helper ftp { type "ftp" protocol tcp; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ct state invalid drop
    ct state established,related accept
    iifname "to-client" tcp dport 21 ct state new ct helper set "ftp" accept
    iifname "to-client" meta l4proto { tcp, udp } th dport 5000-5999 ct state new accept
  }
}
"""
COUNTER = """table netdev count {
  chain ingress {
    type filter hook ingress device "server0" priority 0; policy accept;
    ip daddr 192.0.2.200 counter drop
  }
}
"""


# One sender's core can hardly overload one forwarder's core, so the rate is measured twice.
WHOLE, HALF = "udp 64 B", "udp 64 B, half a core"


def run(*command, **options):
    """Output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout


def on(host, *command, **options):
    return run("ip", "netns", "exec", host, *command, **options)


def start(host, *command, **options):
    return subprocess.Popen(["ip", "netns", "exec", host, *map(str, command)], **options)


def stop(process, how=signal.SIGTERM):
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def library(command):
    # The path as an argument of its own: it may have blanks in it.
    run("bash", "-euo", "pipefail", "-c", f'. "$0"; {command}', f"{ROOT}/scripts/lib.sh")


def hosts_up():
    library(f"hosts_up {PREFIX}")


def hosts_down():
    library(f"HOSTS=({CLIENT} {FIREWALL} {SERVER}); hosts_down")


def offloads_off():
    for host, port in PORTS:
        on(host, "ethtool", "-K", port, "tx", "off", "sg", "off", "tso", "off", "gso", "off",
           "gro", "off")


def wait_for(path, word, process):
    for _ in range(150):
        with open(path) as log:
            text = log.read()
        if word in text:
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"it did not start: {text[-500:]}")


class Lotus:
    """The release build, one worker on core 1."""

    def __init__(self, folder, passthrough=False):
        self.folder, self.passthrough = folder, passthrough

    def __enter__(self):
        rules, log = f"{self.folder}/rules.nft", f"{self.folder}/lotus.log"
        with open(rules, "w") as file:
            file.write(RULES)
        what = ["--passthrough"] if self.passthrough else ["--rules", rules]
        self.process = start(FIREWALL, os.environ["LOTUS"], "run", "--inside", "to-server",
                             "--outside", "to-client", "--cores", FORWARDER_CORE, *what,
                             stdin=subprocess.DEVNULL, stdout=open(log, "w"),
                             stderr=subprocess.STDOUT)
        wait_for(log, "ready", self.process)

    def __exit__(self, *_):
        stop(self.process, signal.SIGINT)


class Testpmd:
    """io forwarding between two packet sockets, its forwarding thread on core 1."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        log = f"{self.folder}/testpmd.log"
        ring = "blocksz=4096,framesz=2048,framecnt=512,qpairs=1"
        for port in ("to-client", "to-server"):
            run("ip", "-n", FIREWALL, "link", "set", port, "promisc", "on")
        self.process = start(
            FIREWALL, "dpdk-testpmd", "-l", f"{GENERATOR_CORE},{FORWARDER_CORE}", "--no-huge",
            "-m", "512", "--no-pci", f"--file-prefix={PREFIX}", "--no-telemetry",
            f"--vdev=net_af_packet0,iface=to-client,{ring}",
            f"--vdev=net_af_packet1,iface=to-server,{ring}",
            "--", "--forward-mode=io", "--nb-cores=1", "--auto-start", "--total-num-mbufs=16384",
            "-i", stdin=subprocess.PIPE, stdout=open(log, "w"), stderr=subprocess.STDOUT)
        wait_for(log, "testpmd>", self.process)

    def __exit__(self, *_):
        # It ends when its input does.
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            stop(self.process)
        # DPDK keeps its files of a run, under the prefix that it was given.
        shutil.rmtree(f"/var/run/dpdk/{PREFIX}", ignore_errors=True)


class Bridge:
    """The kernel's bridge with no filtering."""

    def __init__(self, folder):
        pass

    def __enter__(self):
        run("ip", "-n", FIREWALL, "link", "add", "br0", "type", "bridge", "forward_delay", "0",
            "stp_state", "0", "mcast_snooping", "0")
        # Absent unless br_netfilter is loaded; then it would filter.
        for call in ("iptables", "ip6tables", "arptables"):
            path = f"net.bridge.bridge-nf-call-{call}"
            if os.path.exists("/proc/sys/" + path.replace(".", "/")):
                on(FIREWALL, "sysctl", "-qw", f"{path}=0")
        on(FIREWALL, "sysctl", "-qw", "net.ipv6.conf.br0.disable_ipv6=1")
        for port in ("to-client", "to-server"):
            run("ip", "-n", FIREWALL, "link", "set", port, "master", "br0")
        run("ip", "-n", FIREWALL, "link", "set", "br0", "up")

    def __exit__(self, *_):
        run("ip", "-n", FIREWALL, "link", "del", "br0")


FORWARDERS = {
    "lotus": Lotus,
    "passthrough": lambda folder: Lotus(folder, passthrough=True),
    "testpmd": Testpmd,
    "bridge": Bridge,
}


def arrived():
    listing = on(SERVER, "nft", "list", "chain", "netdev", "count", "ingress")
    return int(re.search(r"packets (\d+)", listing)[1])


def send(seconds):
    return json.loads(on(CLIENT, "taskset", "-c", GENERATOR_CORE, os.environ["PKTGEN"], "send", "client0",
                         "--secs", seconds, "--flows", FLOWS, "--size", 64))


def udp(seconds):
    """Thousands of frames a second that arrive, and that were sent."""
    on(SERVER, "nft", "-f", "-", input=COUNTER)
    send(WARM_UP_SECS)
    return {**rate(seconds, WHOLE), **with_half_a_core(lambda: rate(seconds, HALF))}


def rate(seconds, name):
    time.sleep(SETTLE_SECS)
    before = arrived()
    sent = send(seconds)
    time.sleep(SETTLE_SECS)
    received = (arrived() - before) / sent["secs"] / 1e3
    offered = sent["sent"] / sent["secs"] / 1e3
    if offered < received * SATURATED:
        print("  note: not at its limit: nearly everything that was offered arrived", flush=True)
    return {f"{name} kframes/s": received, f"{name} offered kframes/s": offered}


def with_half_a_core(work):
    """Beside a busy loop on its core a forwarder gets half of it, and is what limits the rate."""
    loop = subprocess.Popen(["taskset", "-c", str(FORWARDER_CORE), sys.executable, "-c",
                             "while True: pass"])
    try:
        return work()
    finally:
        stop(loop)


def tcp(seconds):
    """Gbit/s of one connection, each way."""
    server = start(SERVER, "iperf3", "-s", "-p", "5201", stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(50):
            if on(SERVER, "ss", "-Hltn", "sport = :5201"):
                break
            time.sleep(0.1)
        rates = {}
        for way, flag in (("client to server", []), ("server to client", ["-R"])):
            report = json.loads(on(CLIENT, "iperf3", "-c", SERVER4, "-p", "5201", "-t", seconds,
                                   "-J", *flag, timeout=seconds + 20))
            rates[f"tcp {way} Gbit/s"] = report["end"]["sum_received"]["bits_per_second"] / 1e9
        return rates
    finally:
        stop(server)


# What is measured, with whom, and which ratios matter (with the ratio to reach, if there is one).
TESTS = {
    "udp": (udp, ["lotus", "passthrough", "testpmd"],
            [(f"{name} kframes/s", above, below, wanted) for name in (WHOLE, HALF)
             for above, below, wanted in (("lotus", "passthrough", 0.85),
                                          ("passthrough", "testpmd", 1.0),
                                          ("lotus", "testpmd", None))]),
    "tcp": (tcp, ["lotus", "bridge"],
            [("tcp client to server Gbit/s", "lotus", "bridge", None),
             ("tcp server to client Gbit/s", "lotus", "bridge", None)]),
}


def measure(test, forwarder, seconds, folder, lock):
    # One measurement on a machine at a time.
    with open(lock, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        hosts_up()
        try:
            if test == "udp":
                offloads_off()
            with FORWARDERS[forwarder](folder):
                return TESTS[test][0](seconds)
        finally:
            hosts_down()


def machine():
    def first(*command):
        try:
            return run(*command).strip().splitlines()[0]
        except (OSError, RuntimeError, IndexError):
            return "unknown"
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
        "virtual machine": first("systemd-detect-virt") if os.path.exists(
            "/usr/bin/systemd-detect-virt") else "unknown",
        "lotus": first(os.environ["LOTUS"], "--version"),
        "commit": first("git", "-C", ROOT, "describe", "--always", "--dirty"),
        "dpdk": first("dpkg-query", "-W", "-f", "${Version}\n", "dpdk-dev"),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def tables(results, tests, rounds):
    """The results as markdown."""
    lines = ["| measure | forwarder | median | lowest | highest | spread |", "|---|---|--:|--:|--:|--:|"]
    for measure_name, by_forwarder in results.items():
        for forwarder, values in by_forwarder.items():
            middle = statistics.median(values)
            spread = (max(values) - min(values)) / middle if middle else float("nan")
            lines.append(f"| {measure_name} | {forwarder} | {middle:.4g} | {min(values):.4g} "
                         f"| {max(values):.4g} | {spread:.0%} |")
    lines += ["", "| ratio | of | median | lowest | highest | wanted |", "|---|---|--:|--:|--:|---|"]
    for test in tests:
        for name, above, below, wanted in TESTS[test][2]:
            pairs = zip(results.get(name, {}).get(above, []), results.get(name, {}).get(below, []))
            ratios = [a / b for a, b in pairs if b]
            if not ratios:
                continue
            middle = statistics.median(ratios)
            verdict = "-" if wanted is None else (
                f"at least {wanted}: {'reached' if middle >= wanted else 'NOT REACHED'}")
            lines.append(f"| {above} / {below} | {name} | {middle:.2f} | {min(ratios):.2f} "
                         f"| {max(ratios):.2f} | {verdict} |")
    lines += ["", f"Medians of {rounds} interleaved rounds; ratios are made within a round."]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--secs", type=float, default=3, help="length of one measurement, default 3")
    parser.add_argument("--only", choices=TESTS, help="one kind of test")
    parser.add_argument("--lock", default=f"{ROOT}/target/bench/measure.lock",
                        help="held while measuring, so that two benchmarks take turns")
    parser.add_argument("--out", help="folder for results.json and results.md")
    options = parser.parse_args()
    if options.rounds < 1 or options.secs <= 0:
        parser.error("--rounds and --secs must be positive")
    if (os.cpu_count() or 1) < 2:
        sys.exit("error: two cores are needed: one for the generator, one for the forwarder")
    # So that an end by signal takes everything down, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tests = [options.only] if options.only else list(TESTS)
    folder = options.out or f"{ROOT}/target/bench/{datetime.datetime.now():%Y%m%d-%H%M%S}"
    for needed in (folder, os.path.dirname(os.path.abspath(options.lock))):
        os.makedirs(needed, exist_ok=True)
    description = machine()
    print("\n".join(f"{name}: {value}" for name, value in description.items()), flush=True)
    busy = os.getloadavg()[0]
    if busy > 0.5:
        print(f"warning: this machine is busy (load {busy:.1f}): the numbers will be worth little",
              flush=True)
    description["load before"] = f"{busy:.2f}"
    results = {}
    for number in range(1, options.rounds + 1):
        for test in tests:
            for forwarder in TESTS[test][1]:
                for name, value in measure(test, forwarder, max(1, round(options.secs)) if test == "tcp"
                                           else options.secs, folder, options.lock).items():
                    results.setdefault(name, {}).setdefault(forwarder, []).append(value)
                    print(f"round {number}/{options.rounds}  {forwarder:12} {name:28} {value:9.2f}",
                          flush=True)
    text = tables(results, tests, options.rounds)
    with open(f"{folder}/results.json", "w") as file:
        json.dump({"machine": description, "rounds": options.rounds, "secs": options.secs,
                   "flows": FLOWS, "results": results}, file, indent=2)
    with open(f"{folder}/results.md", "w") as file:
        file.write("\n".join(f"- {name}: {value}" for name, value in description.items()))
        file.write(f"\n\n{text}\n")
    print(f"\n{text}\n\nwritten: {folder}/results.json, results.md")
    owner = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if all(owner) and not options.out:
        run("chown", "-R", ":".join(owner), f"{ROOT}/target/bench")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
