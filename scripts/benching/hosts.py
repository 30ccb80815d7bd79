"""Client, firewall and server as network namespaces; cores; what must be put back afterwards."""
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PREFIX = "lotus-bench-"
CLIENT_ADDRESS, SERVER_ADDRESS = "192.0.2.10", "192.0.2.20"
CLIENT_PORT, SERVER_PORT = "to-client", "to-server"
# Machine-wide values as they were, for the next run if this one is killed.
JOURNAL = "/run/lotus-bench.json"

# Both ends drop what they count: the generator's addresses belong to no host. It is counted where
# frames enter, so that no forwarder is asked for its own numbers.
COUNTERS = {
    "client0": "ip saddr 192.0.2.200",
    "server0": "ip daddr 192.0.2.200",
}
# For many short connections: more source ports, and a long queue at the server.
ENDS = ["net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1",
        "net.ipv4.tcp_max_syn_backlog=65535", "net.core.somaxconn=65535"]


def run(*command, **options):
    """Output of a command that must succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def stop(process, how=signal.SIGTERM):
    """Ends a process that we started, at last by force."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(path, word, process, name, seconds=15):
    """Until a program has written a word into its log."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with open(path, errors="replace") as log:
            text = log.read()
        if word in text:
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"{name} did not start: {text.strip()[-500:]}")


class Cores:
    """Who runs where. With two cores both generators share one, and the sink with them.

    On veth the sender's core also pays for the forwarder's receive interrupt, and the forwarder's
    core for the sink's.
    """
    generator, forwarder = 0, 1
    second_generator = 2 if (os.cpu_count() or 1) > 2 else 0
    sink = 3 if (os.cpu_count() or 1) > 3 else 0


class Entered:
    """Put up when it is entered, taken down when it is left: what is in `leaving`, also after a
    failure in between."""

    def __enter__(self):
        self.leaving = contextlib.ExitStack()
        try:
            self.up()
        except BaseException:
            self.leaving.close()
            raise
        return self

    def __exit__(self, *_):
        with undisturbed():
            self.leaving.close()

    def up(self):
        raise NotImplementedError


class Lab(Entered):
    """Three fresh namespaces, and the processes in them. Leaving takes everything down.

        client0 (client) --- to-client (firewall) to-server --- server0 (server)
    """

    def __init__(self, offloads):
        self.offloads = offloads
        self.prefix = f"{PREFIX}{os.getpid()}"
        self.client, self.firewall, self.server = (
            f"{self.prefix}-{host}" for host in ("client", "firewall", "server"))

    def up(self):
        # Short: Unix sockets live in it. Not private: an FTP server drops its rights.
        self.folder = self.leaving.enter_context(
            tempfile.TemporaryDirectory(prefix=f"{self.prefix}-"))
        os.chmod(self.folder, 0o755)
        self.leaving.callback(down, self.prefix)
        library(f"hosts_up {self.prefix}")
        for host in (self.client, self.server):
            self.on(host, "sysctl", "-qw", *ENDS)
        if not self.offloads:
            self.offloads_off()

    def on(self, host, *command, **options):
        return run("ip", "netns", "exec", host, *command, **options)

    def start(self, host, *command, **options):
        """A process in a namespace; it ends with the lab at the latest."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL,
                   "stderr": subprocess.DEVNULL, **options}
        process = subprocess.Popen(["ip", "netns", "exec", host, *map(str, command)], **options)
        self.leaving.callback(stop, process)
        return process

    def offloads_off(self):
        for host, port in ((self.client, "client0"), (self.firewall, CLIENT_PORT),
                           (self.firewall, SERVER_PORT), (self.server, "server0")):
            self.on(host, "ethtool", "-K", port, "tx", "off", "sg", "off", "tso", "off",
                    "gso", "off", "gro", "off")

    def count(self):
        """From now on what arrives at both ends is counted, and dropped."""
        for host, port in ((self.client, "client0"), (self.server, "server0")):
            self.on(host, "nft", "-f", "-", input=f"""table netdev count {{
                chain ingress {{
                    type filter hook ingress device "{port}" priority 0; policy accept;
                    {COUNTERS[port]} counter drop
                }}
            }}""")

    def listing(self, host):
        return self.on(host, "nft", "list", "chain", "netdev", "count", "ingress")


@contextlib.contextmanager
def undisturbed():
    """A second Ctrl-C must not leave half of something behind."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, action in zip(signals, before):
            signal.signal(number, action)


def library(command):
    # The path as an argument of its own: it may have blanks in it.
    run("bash", "-euo", "pipefail", "-c", f'. "$0"; {command}', f"{ROOT}/scripts/lib.sh")


def down(prefix):
    library(f"HOSTS=({prefix}-client {prefix}-firewall {prefix}-server); hosts_down")


@contextlib.contextmanager
def busy_loops(core, how_many=1):
    """Beside N busy loops on its core a forwarder gets one part of N + 1 of it."""
    with contextlib.ExitStack() as loops:
        for _ in range(how_many):
            loops.callback(stop, busy_loop("taskset", "-c", str(core)))
        yield


@contextlib.contextmanager
def cores_awake():
    """No core sleeps, and nobody loses time by it: the loops run only where nothing else does.

    Waking a sleeping virtual core takes some 50 us, which would be most of what is measured.
    """
    with contextlib.ExitStack() as loops:
        for core in range(os.cpu_count() or 1):
            loops.callback(stop, busy_loop("taskset", "-c", str(core), "chrt", "--idle", "0"))
        yield


def busy_loop(*before):
    # It ends when we do, whatever ends us.
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *before, sys.executable, "-c",
                             "while True: pass"], stderr=subprocess.DEVNULL)


class MachineWide:
    """Values of the whole machine that a peer needs to be other ones. Leaving puts them back."""

    def __init__(self):
        self.before = {}

    def set(self, path, value):
        with open(path) as file:
            old = file.read().strip()
        if old == str(value):
            return
        self.before.setdefault(path, old)
        with open(JOURNAL, "w") as file:
            json.dump({"pid": os.getpid(), "before": self.before}, file)
        write(path, value)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # In reverse: the last one set may depend on those before.
        for path, value in reversed(list(self.before.items())):
            write(path, value)
        if self.before:
            os.remove(JOURNAL)
        self.before = {}


def write(path, value):
    with open(path, "w") as file:
        file.write(f"{value}\n")


def clear_leftovers():
    """What a run that was killed could not take down."""
    folders = [tempfile.gettempdir(), "/run/netns", "/run/dpdk"]
    for path in [path for folder in folders for path in glob.glob(f"{folder}/{PREFIX}[0-9]*")]:
        prefix, pid = re.match(rf"({PREFIX}(\d+))", os.path.basename(path)).groups()
        if os.path.exists(f"/proc/{pid}"):
            continue
        if path.startswith("/run/netns"):
            down(prefix)
        else:
            shutil.rmtree(path, ignore_errors=True)
    try:
        with open(JOURNAL) as file:
            journal = json.load(file)
    except (FileNotFoundError, ValueError):
        return
    if not os.path.exists(f"/proc/{journal['pid']}"):
        for path, value in reversed(list(journal["before"].items())):
            write(path, value)
        os.remove(JOURNAL)
