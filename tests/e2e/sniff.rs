//! What crosses the hosts' interfaces, seen by the kernel's packet tap.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pnet::util::MacAddr;
use serde_json::Value;

use crate::ledger::rest;
use crate::net::{Host, Lab, Proc};

/// Two running captures, at each host's own end of its wire.
#[derive(Debug)]
pub(crate) struct Watch {
    sniffers: [Sniffer; 2],
    since_ns: u64,
}

/// What both hosts sent and got while both captures ran.
#[derive(Debug)]
pub(crate) struct Watched {
    captures: [Capture; 2],
    /// The time when for certain both captures ran.
    window_ns: Range<u64>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// VLAN tags, outermost first: (TPID, TCI).
    pub(crate) tags: Vec<(u16, u16)>,
    /// Length without tags.
    pub(crate) len: usize,
    /// Its first bytes without tags, hexadecimal.
    pub(crate) hex: String,
}

#[derive(Debug)]
struct Sniffer {
    proc: Proc,
    file: PathBuf,
}

/// The frames of a host, with their times.
#[derive(Debug, Default)]
struct Capture {
    incoming: Vec<(u64, Seen)>,
    outgoing: Vec<(u64, Seen)>,
}

impl Watch {
    pub(crate) fn start(lab: &Lab) -> Watch {
        let sniffers = [Host::Client, Host::Server].map(|host| Sniffer::start(lab, host));
        // What a host sent before its capture ran may still be on its way.
        rest(lab);
        Watch {
            sniffers,
            since_ns: now_ns(),
        }
    }

    pub(crate) fn stop(self, lab: &Lab) -> Watched {
        let window_ns = self.since_ns..now_ns();
        // What was sent until now still arrives.
        rest(lab);
        Watched {
            captures: self.sniffers.map(Sniffer::stop),
            window_ns,
        }
    }
}

impl Watched {
    /// What a host got.
    pub(crate) fn incoming(&self, host: Host) -> impl Iterator<Item = &Seen> {
        self.capture(host).incoming.iter().map(|(_, seen)| seen)
    }

    /// What a host sent.
    pub(crate) fn outgoing(&self, host: Host) -> impl Iterator<Item = &Seen> {
        self.capture(host).outgoing.iter().map(|(_, seen)| seen)
    }

    /// Frames that a host got and the other one did not send: somebody between made them or
    /// changed them.
    pub(crate) fn strangers(&self, host: Host) -> Vec<&Seen> {
        let (own, far) = (self.capture(host), self.capture(host.other()));
        excess(&own.incoming, &far.outgoing, &self.window_ns)
    }

    /// Frames that were sent to a host and did not arrive.
    pub(crate) fn missing(&self, host: Host) -> Vec<&Seen> {
        let (own, far) = (self.capture(host), self.capture(host.other()));
        excess(&far.outgoing, &own.incoming, &self.window_ns)
    }

    fn capture(&self, host: Host) -> &Capture {
        let [client, server] = &self.captures;
        match host {
            Host::Client => client,
            Host::Server => server,
        }
    }
}

/// Frames of the time window that are in `these` more often than in `those`.
fn excess<'c>(
    these: &'c [(u64, Seen)],
    those: &[(u64, Seen)],
    window_ns: &Range<u64>,
) -> Vec<&'c Seen> {
    let mut stock: HashMap<&Seen, usize> = HashMap::new();
    for (_, frame) in those {
        *stock.entry(frame).or_default() += 1;
    }
    let mut unknown = Vec::new();
    for (at, frame) in these {
        match stock.get_mut(frame) {
            Some(count) if *count > 0 => *count -= 1,
            _ if window_ns.contains(at) => unknown.push(frame),
            _ => {}
        }
    }
    unknown
}

impl Seen {
    pub(crate) fn is_to(&self, mac: MacAddr) -> bool {
        self.hex.starts_with(&hex(mac))
    }

    pub(crate) fn is_from(&self, mac: MacAddr) -> bool {
        self.hex
            .get(12..)
            .is_some_and(|rest| rest.starts_with(&hex(mac)))
    }
}

impl Sniffer {
    fn start(lab: &Lab, host: Host) -> Sniffer {
        let file = lab.dir().join(format!("{}.frames", host.interface()));
        let path = file.display().to_string();
        let mut proc = lab.python(host, "sniff.py", &[host.interface(), &path]);
        proc.wait_for("ready", Duration::from_secs(20));
        Sniffer { proc, file }
    }

    fn stop(mut self) -> Capture {
        self.proc.stop();
        let text = std::fs::read_to_string(&self.file).expect("frames");
        let mut capture = Capture::default();
        for line in text.lines() {
            let json: Value = serde_json::from_str(line).expect("a frame");
            let tags = json["tags"].as_array().expect("tags").iter();
            let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
            let seen = Seen {
                tags: tags
                    .filter_map(|tag| number(&tag[0]).zip(number(&tag[1])))
                    .collect(),
                len: json["len"].as_u64().expect("length") as usize,
                hex: json["hex"].as_str().expect("bytes").to_owned(),
            };
            let incoming = json["dir"] == "in";
            let list = if incoming {
                &mut capture.incoming
            } else {
                &mut capture.outgoing
            };
            list.push((json["at"].as_u64().expect("a time"), seen));
        }
        capture
    }
}

fn now_ns() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    u64::try_from(now.as_nanos()).expect("a clock before 2554")
}

fn hex(mac: MacAddr) -> String {
    mac.to_string().replace(':', "")
}
