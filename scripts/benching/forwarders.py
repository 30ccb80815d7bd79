"""lotus and its peers: how each is started, asked and stopped.

The firewalls have one policy: from the client's side TCP 21 with the FTP helper, and TCP and UDP
5000 to 5999; what is established or related; ARP and neighbour discovery; nothing else.
"""
import json
import os
import shutil
import signal
import subprocess
import time

from . import figures
from .hosts import CLIENT_PORT, SERVER_PORT, Cores, Entered, MachineWide, run, stop, wait_for

LOTUS_RULES = f"""table bridge bench {{
  ct helper ftp {{ type "ftp" protocol tcp; }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    ct state invalid drop
    ct state established,related accept
    iifname "{CLIENT_PORT}" tcp dport 21 ct state new ct helper set "ftp" accept
    iifname "{CLIENT_PORT}" meta l4proto {{ tcp, udp }} th dport 5000-5999 ct state new accept
  }}
}}
"""

# Kernels without CONFIG_NF_CONNTRACK_BRIDGE know no connections in the bridge family, so that
# frames go to the inet family by way of br_netfilter. There both interfaces are the bridge: a mark
# tells where a packet came in.
NFT_RULES = f"""table bridge bench {{
  chain port {{
    type filter hook prerouting priority -300; policy accept;
    iifname "{CLIENT_PORT}" meta mark set 1
  }}
  chain forward {{
    type filter hook forward priority -200; policy drop;
    ether type {{ arp, ip, ip6 }} accept
  }}
}}
table inet bench {{
  ct helper ftp {{ type "ftp" protocol tcp; }}
  chain helper {{
    type filter hook prerouting priority 0; policy accept;
    meta mark 1 tcp dport 21 ct state new ct helper set "ftp"
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    ct state established,related accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    meta mark 1 tcp dport 21 ct state new accept
    meta mark 1 meta l4proto {{ tcp, udp }} th dport 5000-5999 ct state new accept
  }}
}}
"""
BUCKETS = "/sys/module/nf_conntrack/parameters/hashsize"
MOST = "/proc/sys/net/netfilter/nf_conntrack_max"


class Forwarder(Entered):
    """Entered in a lab it forwards; left it is gone."""

    # Whether it passes frames larger than a wire's, and checksums that are still to be made. Who
    # can't is measured with the offloads off.
    offloads = True
    # Whether it tracks connections.
    tracks = True
    # Whether it runs in the kernel, on the sender's core.
    in_kernel = False

    def __init__(self, lab, capacity):
        self.lab, self.capacity = lab, capacity
        self.process = None

    def begin(self, name, *command, **options):
        """Starts a program in the firewall, with its log."""
        self.log = f"{self.lab.folder}/{name}.log"
        log = self.leaving.enter_context(open(self.log, "w"))
        self.process = self.lab.start(self.lab.firewall, *command, stdout=log,
                                      stderr=subprocess.STDOUT, **options)
        self.leaving.callback(stop, self.process)
        return self.process

    def pid(self):
        """The process that forwards; none for what is in the kernel."""
        return self.process.pid if self.process else None

    def tracked(self):
        """Connections in its table."""

    def counters(self):
        """What it says of itself: lotus only."""

    def memory(self):
        """Bytes that grow with the table: of the process, or of the kernel's slabs."""
        if self.pid():
            with open(f"/proc/{self.pid()}/status") as file:
                return figures.kib(file.read(), "VmRSS")
        with open("/proc/meminfo") as file:
            return figures.kib(file.read(), "SUnreclaim")

    def processor_seconds(self):
        """Processor time that its process has had."""
        if not self.pid():
            return None
        with open(f"/proc/{self.pid()}/stat") as file:
            return figures.process_seconds(file.read())


class Lotus(Forwarder):
    """The release build with rules, one worker."""

    what = ["--rules", "rules.nft"]

    def up(self):
        with open(f"{self.lab.folder}/rules.nft", "w") as file:
            file.write(LOTUS_RULES)
        process = self.begin(
            "lotus", os.environ["LOTUS"], "run", "--inside", SERVER_PORT, "--outside", CLIENT_PORT,
            "--cores", Cores.forwarder, "--set", f"conntrack.max={self.capacity}", *self.what,
            cwd=self.lab.folder)
        # As Ctrl-C does, and before the lab would.
        self.leaving.callback(stop, process, signal.SIGINT)
        wait_for(self.log, "ready", process, "lotus")

    def counters(self):
        return json.loads(self.lab.on(self.lab.firewall, os.environ["LOTUS"], "status", "--json"))

    def tracked(self):
        return self.counters()["flows"]


class Passthrough(Lotus):
    """The same rings and no firewall."""

    what = ["--passthrough"]
    tracks = False

    def tracked(self):
        return None


class Bridge(Forwarder):
    """The kernel's bridge with no filtering."""

    tracks = False
    in_kernel = True

    def up(self):
        firewall = self.lab.firewall
        self.filtering(0)
        run("ip", "-n", firewall, "link", "add", "br0", "type", "bridge", "forward_delay", "0",
            "stp_state", "0", "mcast_snooping", "0")
        self.lab.on(firewall, "sysctl", "-qw", "net.ipv6.conf.br0.disable_ipv6=1")
        for port in (CLIENT_PORT, SERVER_PORT):
            run("ip", "-n", firewall, "link", "set", port, "master", "br0")
        run("ip", "-n", firewall, "link", "set", "br0", "up")

    def filtering(self, value):
        # The namespace's own settings, and absent unless br_netfilter is loaded.
        for call in ("iptables", "ip6tables", "arptables"):
            name = f"net.bridge.bridge-nf-call-{call}"
            if os.path.exists("/proc/sys/" + name.replace(".", "/")):
                value_of_this = 0 if call == "arptables" else value
                self.lab.on(self.lab.firewall, "sysctl", "-qw", f"{name}={value_of_this}")


class Nft(Bridge):
    """The bridge with nftables and the kernel's connection tracking and FTP helper."""

    tracks = True

    def up(self):
        if not os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables"):
            run("modprobe", "br_netfilter")
            self.leaving.callback(run, "modprobe", "--remove", "br_netfilter")
        machine = self.leaving.enter_context(MachineWide())
        super().up()
        self.filtering(1)
        # Before these are set: the rules load the module that has them.
        self.lab.on(self.lab.firewall, "nft", "-f", "-", input=NFT_RULES)
        machine.set(BUCKETS, self.capacity)
        # Changing the buckets leaves the limit alone; both are the machine's.
        machine.set(MOST, self.capacity)

    def tracked(self):
        return int(self.lab.on(self.lab.firewall, "sysctl", "-n",
                               "net.netfilter.nf_conntrack_count"))


class OpenVSwitch(Forwarder):
    """The userspace datapath with connection tracking and alg=ftp."""

    offloads = False
    port_type = "system"

    def up(self):
        lab, folder = self.lab, self.lab.folder
        schema = "/usr/share/openvswitch/vswitch.ovsschema"
        if not os.path.exists(schema):
            schema = f"{os.environ['TOOLS']}{schema}"
        folders = {f"OVS_{name}DIR": folder for name in ("RUN", "LOG", "DB", "SYSCONF")}
        self.options = {"env": {**os.environ, **folders}}
        run("ovsdb-tool", "create", f"{folder}/conf.db", schema, **self.options)
        self.begin("ovsdb-server", "ovsdb-server", f"{folder}/conf.db",
                   f"--remote=punix:{folder}/db.sock", f"--unixctl={folder}/ovsdb.ctl",
                   f"--log-file={folder}/ovsdb.txt", "--no-chdir", **self.options)
        self.until(f"{folder}/db.sock")
        self.database("--no-wait", "init", "--", "set", "Open_vSwitch", ".",
                      f"other_config:pmd-cpu-mask={1 << Cores.forwarder:#x}")
        # Pinned as a whole: AF_PACKET ports are polled by its main thread.
        switch = self.begin(
            "ovs-vswitchd", "taskset", "-c", Cores.forwarder, "ovs-vswitchd",
            f"unix:{folder}/db.sock", f"--unixctl={folder}/switch.ctl",
            f"--log-file={folder}/switch.txt", "--no-chdir", **self.options)
        self.until(f"{folder}/switch.ctl")
        self.database("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev",
                      "fail_mode=secure", "protocols=OpenFlow13",
                      "other_config:disable-in-band=true")
        for number, port in enumerate((CLIENT_PORT, SERVER_PORT), 1):
            self.database("add-port", "br0", port, "--", "set", "interface", port,
                          f"ofport_request={number}", f"type={self.port_type}")
            problem = self.database("get", "interface", port, "error").strip()
            if problem not in ("[]", '""'):
                raise RuntimeError(f"ovs-vswitchd has no port {port}: {problem}")
        self.control("dpctl/ct-set-maxconns", self.capacity)
        lab.on(lab.firewall, "ovs-ofctl", "-O", "OpenFlow13", "add-flows",
               f"unix:{folder}/br0.mgmt", "-", input="\n".join(openflow()) + "\n", **self.options)
        self.process = switch

    def until(self, path):
        for _ in range(100):
            if os.path.exists(path):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        with open(self.log) as log:
            raise RuntimeError(f"Open vSwitch did not start: {log.read().strip()[-500:]}")

    def database(self, *command):
        return self.lab.on(self.lab.firewall, "ovs-vsctl", f"--db=unix:{self.lab.folder}/db.sock",
                           "--timeout=20", *command, **self.options)

    def control(self, *command):
        return self.lab.on(self.lab.firewall, "ovs-appctl", "-t", f"{self.lab.folder}/switch.ctl",
                           *command, **self.options)

    def tracked(self):
        return int(self.control("dpctl/ct-get-nconns").split()[-1])


class OpenVSwitchAfXdp(OpenVSwitch):
    """The same on AF_XDP sockets."""

    port_type = "afxdp"


def openflow():
    """The policy as flows: table 0 has everything tracked, table 1 decides by the state."""
    ports = {1: 2, 2: 1}
    for inward, outward in ports.items():
        yield f"table=0,priority=9,arp,in_port={inward},actions=output:{outward}"
        for kind in (135, 136):
            yield (f"table=0,priority=9,icmp6,icmp_type={kind},in_port={inward},"
                   f"actions=output:{outward}")
        for family in ("ip", "ipv6"):
            for state in ("+trk+est-new", "+trk+rel-new"):
                yield (f"table=1,priority=8,{family},ct_state={state},in_port={inward},"
                       f"actions=output:{outward}")
        for protocol in ("tcp", "tcp6"):
            yield (f"table=1,priority=7,{protocol},ct_state=+trk+new+rel,in_port={inward},"
                   f"actions=ct(commit),output:{outward}")
    for family in ("ip", "ipv6"):
        yield f"table=0,priority=5,{family},actions=ct(table=1)"
        yield f"table=1,priority=9,{family},ct_state=+trk+inv,actions=drop"
    for protocol in ("tcp", "tcp6"):
        yield (f"table=1,priority=6,{protocol},ct_state=+trk+new-rel,in_port=1,tp_dst=21,"
               "actions=ct(commit,alg=ftp),output:2")
    for protocol in ("tcp", "udp", "tcp6", "udp6"):
        for match in masks(5000, 5999):
            yield (f"table=1,priority=6,{protocol},ct_state=+trk+new-rel,in_port=1,"
                   f"tp_dst={match},actions=ct(commit),output:2")
    yield "table=0,priority=0,actions=drop"
    yield "table=1,priority=0,actions=drop"


def masks(first, last):
    """A range of ports as OpenFlow has it: values with masks."""
    while first <= last:
        # The largest aligned block that begins here and does not reach too far.
        size = first & -first or 1 << 16
        while first + size - 1 > last:
            size //= 2
        yield f"{first:#x}/{0x10000 - size:#x}"
        first += size


class Testpmd(Forwarder):
    """DPDK's io forwarding between two packet sockets: a forwarder and nothing else."""

    offloads = False
    tracks = False

    def devices(self):
        ring = "blocksz=4096,framesz=2048,framecnt=512,qpairs=1"
        return [f"--vdev=net_af_packet{number},iface={port},{ring}"
                for number, port in enumerate((CLIENT_PORT, SERVER_PORT))]

    def up(self):
        for port in (CLIENT_PORT, SERVER_PORT):
            run("ip", "-n", self.lab.firewall, "link", "set", port, "promisc", "on")
        # DPDK keeps its files of a run under the prefix that it is given.
        self.leaving.callback(shutil.rmtree, f"/run/dpdk/{self.lab.prefix}", ignore_errors=True)
        process = self.begin(
            "testpmd", "dpdk-testpmd", "-l", f"{Cores.generator},{Cores.forwarder}", "--no-huge",
            "-m", "512", "--no-pci", f"--file-prefix={self.lab.prefix}", "--no-telemetry",
            *self.devices(), "--", "--forward-mode=io", "--nb-cores=1", "--auto-start",
            "--total-num-mbufs=16384", "-i", stdin=subprocess.PIPE)
        wait_for(self.log, "testpmd>", process, "testpmd")
        with open(self.log, errors="replace") as log:
            if "No probed ethernet devices" in log.read():
                raise RuntimeError("testpmd has no devices: is its driver installed?")


class TestpmdAfXdp(Testpmd):
    """The same between two AF_XDP sockets."""

    def devices(self):
        return [f"--vdev=net_af_xdp{number},iface={port},start_queue=0,queue_count=1"
                for number, port in enumerate((CLIENT_PORT, SERVER_PORT))]


OURS = {"lotus": Lotus, "passthrough": Passthrough}
PEERS = {
    "bridge": Bridge,
    "nft": Nft,
    "ovs": OpenVSwitch,
    "ovs-afxdp": OpenVSwitchAfXdp,
    "testpmd": Testpmd,
    "testpmd-afxdp": TestpmdAfXdp,
}
FORWARDERS = {**OURS, **PEERS}


def vary(setting):
    """One more forwarder: lotus with this NAME=VALUE. Returns its name."""
    name = f"lotus {setting}"
    what = [*Lotus.what, "--set", setting]
    FORWARDERS[name] = type("Variant", (Lotus,), {"what": what, "__doc__": f"lotus, {setting}."})
    return name
