//! The kernel's side: a bridge with two ports in one network namespace, the ends of its wires in
//! another one.
//!
//! ```text
//! [wire0]--veth--[port0  br0  port1]--veth--[wire1]
//! ```
//!
//! Frames go in and come out one by one. Behind each a sentinel is sent, an Ethernet type of its own
//! that every bridge chain accepts first: a veth hands frames on in order, so when the sentinel has
//! come, all that the frame before caused has come, too. What arrives between two sentinels belongs
//! to the frame between them, and nobody has to wait.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lotus::wire::Side;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};

use crate::socket;

/// The bridge's ports, which are lotus's ports too: inside, outside.
pub const PORTS: [&str; 2] = ["port0", "port1"];
const WIRES: [&str; 2] = ["wire0", "wire1"];
/// What the bed sets as a frame's mark, by the port at which it came in.
pub const BED_MARKS: [&str; 2] = ["0x1", "0x2"];
/// Local Experimental Ethertype 1 (IEEE 802).
pub const SENTINEL: u16 = 0x88b5;

/// VLAN ids that get a conntrack zone of their own; an untagged frame's zone is the first one.
pub const ZONED_VLANS: [u16; 3] = [0, 5, 6];
const ZONES_EACH: u16 = 1 + ZONED_VLANS.len() as u16;

/// A sentinel is there after some microseconds; a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_FRAME_BYTES: usize = 2048;

/// Where the kernel's rules stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// In bridge tables; frames never see the IP hooks.
    Bridge,
    /// In bridge and IP tables; br_netfilter hands bridged packets to the IP hooks, with
    /// connection tracking.
    BridgeAndIp,
}

/// Why there is no bed here.
#[derive(Debug)]
pub struct Impossible(pub String);

/// Two namespaces. They go away with it. The thread that made it lives in the bridge's.
pub struct Bed {
    names: [String; 2],
    arrangement: Arrangement,
    wires: [OwnedFd; 2],
    sent: u64,
    first_zone: u16,
}

/// What a frame caused, as bytes without outer tags.
#[derive(Debug, Default)]
pub struct Arrived {
    /// At the other side.
    pub through: Vec<Vec<u8>>,
    /// At its own side.
    pub back: Vec<Vec<u8>>,
}

/// What this test needs and has not.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let absent = |tool: &&str| {
        let tried = Command::new(tool).arg("-V").output();
        tried.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let tool = ["ip", "nft", "bridge"].into_iter().find(absent)?;
    Some(format!("no {tool}"))
}

impl Bed {
    pub fn new(arrangement: Arrangement) -> Result<Bed, Impossible> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("lotus-kernel-{}-{number}", std::process::id());
        let names = Names(["bridge", "wires"].map(|end| format!("{prefix}-{end}")));
        let [bridge, wires] = &names.0;
        for name in &names.0 {
            run(&["ip", "netns", "add", name])?;
        }
        enter(wires)?;
        silence()?;
        for (wire, port) in WIRES.iter().zip(PORTS) {
            let words = ["link", "add", wire, "type", "veth", "peer", "name", port];
            run(&[&["ip"], &words[..], &["netns", bridge]].concat())?;
            run(&["ip", "link", "set", wire, "arp", "off", "up"])?;
        }
        let sockets = [open(WIRES[0])?, open(WIRES[1])?];
        enter(bridge)?;
        silence()?;
        let bridge_options = ["type", "bridge", "mcast_snooping", "0"];
        run(&[&["ip", "link", "add", "br0"], &bridge_options[..]].concat())?;
        for port in PORTS {
            run(&["ip", "link", "set", port, "master", "br0", "up"])?;
            run(&["bridge", "link", "set", "dev", port, "learning", "off"])?;
        }
        run(&["ip", "link", "set", "br0", "up"])?;
        settings(arrangement)?;
        // Frames are handled on the processor that sent them, one after the other.
        let processor = rustix::thread::sched_getcpu();
        let mut set = CpuSet::new();
        set.set(processor);
        sched_setaffinity(None, &set).map_err(|error| Impossible(error.to_string()))?;
        let Names(owned) = &names;
        let mut bed = Bed {
            names: owned.clone(),
            arrangement,
            wires: sockets,
            sent: 0,
            first_zone: 1,
        };
        std::mem::forget(names);
        bed.wait_for_ports();
        Ok(bed)
    }

    /// The kernel takes a moment to notice that a wire is plugged in.
    fn wait_for_ports(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !Side::BOTH.iter().all(|&side| self.is_through(side)) {
            assert!(Instant::now() < deadline, "the bridge lets nothing through");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_through(&mut self, side: Side) -> bool {
        self.send_sentinel(side);
        thread::sleep(Duration::from_millis(1));
        receive(&self.wires[side.other().index()]).is_some()
    }

    /// Whether it has few zones left: another one is to be made.
    pub fn is_worn(&self) -> bool {
        const A_LONG_SHRINKING: u16 = 4096;
        self.first_zone > u16::MAX - A_LONG_SHRINKING * ZONES_EACH
    }

    /// Replaces the rules; connections of earlier rules are forgotten. What nft says, if it
    /// refuses, with lines counted in `text`.
    pub fn load(&mut self, text: &str) -> Result<(), String> {
        self.first_zone = self
            .first_zone
            .checked_add(ZONES_EACH)
            .expect("a bed is made anew before its zones are used up");
        // What the bed adds comes last, so that lines stay where they are.
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nft");
        let mut input = child.stdin.take().expect("a pipe");
        let whole = format!("flush ruleset; {text}{}", self.own_rules());
        input.write_all(whole.as_bytes()).expect("nft reads");
        drop(input);
        let output = child.wait_with_output().expect("nft ends");
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Ports go into marks, and VLANs into zones, since the kernel does not tell them apart
    /// otherwise. Each ruleset has zones that no ruleset had before, so that neither connections
    /// nor fragments are left from others: the zone is set before fragments are put together, at
    /// -400. Nothing is for the bridge itself.
    fn own_rules(&self) -> String {
        let mut ports = String::new();
        for (port, mark) in PORTS.iter().zip(BED_MARKS) {
            ports.push_str(&format!("    iifname {port} meta mark set {mark}\n"));
        }
        let mut zones = Vec::new();
        for (number, vlan) in std::iter::once(None)
            .chain(ZONED_VLANS.map(Some))
            .enumerate()
        {
            for (port, mark) in PORTS.iter().zip([1, 2]) {
                let mark = mark | number << 4;
                zones.push(format!("{mark:#x} : {}", self.first_zone as usize + number));
                if let Some(vlan) = vlan {
                    ports.push_str(&format!(
                        "    iifname {port} vlan id {vlan} meta mark set {mark:#x}\n"
                    ));
                }
            }
        }
        let mut text = format!(
            "table bridge lotus_bed {{
  chain ports {{
    type filter hook prerouting priority -300
{ports}  }}
  chain local {{
    type filter hook input priority -300; policy drop
  }}
}}
"
        );
        if self.arrangement == Arrangement::BridgeAndIp {
            text.push_str(&format!(
                "table inet lotus_bed {{
  chain zones {{
    type filter hook prerouting priority -450
    ct zone set meta mark map {{ {} }}
  }}
  chain marks {{
    type filter hook prerouting priority -100
    meta mark set meta mark & 0x3
  }}
}}
",
                zones.join(", ")
            ));
        }
        text
    }

    /// Sends a frame and returns all that it caused.
    pub fn pass(&mut self, side: Side, frame: &[u8]) -> Arrived {
        self.send(side, frame);
        let number = self.send_sentinel(side);
        let mut arrived = Arrived::default();
        let deadline = Instant::now() + PATIENCE;
        let other = &self.wires[side.other().index()];
        loop {
            let Some(frame) = receive(other) else {
                assert!(Instant::now() < deadline, "the sentinel did not come");
                wait(other);
                continue;
            };
            if frame.get(12..14) != Some(&SENTINEL.to_be_bytes()) {
                arrived.through.push(frame);
            } else if frame.get(14..22) == Some(&number) {
                break;
            }
        }
        arrived
            .back
            .extend(std::iter::from_fn(|| receive(&self.wires[side.index()])));
        arrived
    }

    fn send_sentinel(&mut self, side: Side) -> [u8; 8] {
        self.sent += 1;
        let number = self.sent.to_be_bytes();
        let mut sentinel = vec![2, 0, 0, 0, 0xff, 2, 2, 0, 0, 0, 0xff, 1];
        sentinel.extend(SENTINEL.to_be_bytes());
        sentinel.extend(number);
        self.send(side, &sentinel);
        number
    }

    fn send(&self, side: Side, frame: &[u8]) {
        let wire = &self.wires[side.index()];
        rustix::net::send(wire, frame, SendFlags::empty()).expect("the wire takes a frame");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(Names(self.names.clone()));
    }
}

/// Namespaces that are removed with this.
struct Names([String; 2]);

impl Drop for Names {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn settings(arrangement: Arrangement) -> Result<(), Impossible> {
    let bridge = "/proc/sys/net/bridge";
    let calls = ["iptables", "ip6tables", "arptables"];
    let there = fs::exists(bridge).unwrap_or(false);
    if arrangement == Arrangement::Bridge {
        // Without br_netfilter nothing is called anyway.
        for name in calls.iter().filter(|_| there) {
            write(&format!("{bridge}/bridge-nf-call-{name}"), "0")?;
        }
        return Ok(());
    }
    if !there {
        // The module may be there and not loaded; if it can't be, the next line says so.
        let _ = Command::new("modprobe").arg("br_netfilter").output();
    }
    for name in calls {
        let value = if name == "arptables" { "0" } else { "1" };
        write(&format!("{bridge}/bridge-nf-call-{name}"), value)?;
    }
    write(&format!("{bridge}/bridge-nf-filter-vlan-tagged"), "1")?;
    // Connection tracking is loaded by the first rule that needs it.
    let path = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose";
    if !fs::exists(path).unwrap_or(false) {
        let first = "add table inet t; add chain inet t c; add rule inet t c ct state new";
        run(&["nft", first])?;
    }
    write(path, "0")
}

/// Nothing speaks by itself in the namespace of this thread.
fn silence() -> Result<(), Impossible> {
    for part in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{part}/disable_ipv6");
        if fs::exists(&path).unwrap_or(false) {
            write(&path, "1")?;
        }
    }
    Ok(())
}

fn write(path: &str, value: &str) -> Result<(), Impossible> {
    fs::write(path, value).map_err(|error| Impossible(format!("{path}: {error}")))
}

fn enter(name: &str) -> Result<(), Impossible> {
    let failed = |error: io::Error| Impossible(format!("entering {name}: {error}"));
    let file = File::open(format!("/run/netns/{name}")).map_err(failed)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| failed(error.into()))
}

/// A packet socket that sends and receives at an interface of this thread's namespace.
fn open(interface: &str) -> Result<OwnedFd, Impossible> {
    let opened = || -> anyhow::Result<OwnedFd> {
        let (socket, index) = socket::open(interface)?;
        socket::set(&socket, libc::PACKET_IGNORE_OUTGOING, &1)?;
        socket::set(&socket, libc::PACKET_QDISC_BYPASS, &1)?;
        socket::bind(&socket, libc::ETH_P_ALL, index)?;
        Ok(socket)
    };
    opened().map_err(|error| Impossible(format!("{error:#}")))
}

fn receive(wire: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    match rustix::net::recv(wire, &mut buffer[..], RecvFlags::DONTWAIT) {
        Ok((bytes, _)) => {
            buffer.truncate(bytes);
            Some(buffer)
        }
        Err(rustix::io::Errno::AGAIN) => None,
        Err(error) => panic!("receiving: {error}"),
    }
}

fn wait(wire: &OwnedFd) {
    let mut one = [PollFd::new(wire, PollFlags::IN)];
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    let _ = poll(&mut one, Some(&moment));
}

fn run(words: &[&str]) -> Result<(), Impossible> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .map_err(|error| Impossible(format!("{}: {error}", words[0])))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Impossible(format!("{}: {}", words.join(" "), said.trim())))
}
