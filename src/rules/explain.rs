//! Which rule decides about a packet that somebody describes, and why the ones before it did not.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::checked::{Statement, Test};
use super::diagnostic::Problem;
use super::field::{End, Family, Field, NFPROTO_IPV6, Ports};
use super::program::Watch;
use super::{CounterId, Diagnostics, Query, Ruleset, Source, check, parser};
use crate::conntrack::{CtState, Direction, Time};
use crate::wire::{self, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Side, proto};

/// Where a packet goes if nothing is said: to a port that rules seldom name (RFC 863).
const DISCARD_PORT: u16 = 9;

/// What the rules say of a described packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The packet in words.
    pub packet: String,
    /// The rules that it met, in order.
    pub met: Vec<Met>,
    /// `accept`, `drop` or `reject`.
    pub verdict: &'static str,
    /// The helper object that its connection gets, if any.
    pub helper: Option<String>,
}

/// A rule, or a policy, that a packet met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Met {
    /// As `inet lotus forward`; of a policy only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The file of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The rule, or `policy drop`.
    pub rule: String,
    /// What came of it.
    #[serde(flatten)]
    pub explained: Explained,
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Explained {
    /// This part of it does not match.
    Failed(String),
    /// It gave this verdict.
    Decided(&'static str),
}

impl Ruleset {
    /// Reads a description such as `iif inside ip saddr 10.0.0.1 tcp dport 22`: matches as in a
    /// rule, each with one value, and says what the rules make of such a packet. What is not said
    /// is: from inside, IPv4, TCP, new. Counters do not move.
    ///
    /// # Errors
    ///
    /// What is wrong with the description.
    pub fn explain(&self, description: &str) -> Result<Explanation, Diagnostics> {
        let mut none = |_: &str, _: &str| Err("no files are read here".to_owned());
        let source = Source::read("<packet>", description, &mut none);
        let mut problems = source.problems();
        let tree = parser::parse_rule(&source, &mut problems);
        let statements = check::check_rule(&tree, &source, &self.ports, &mut problems);
        let mut described = Described::default();
        for statement in &statements {
            if let Err(problem) = described.take(statement) {
                problems.push(*problem);
            }
        }
        drop(tree);
        problems.retain(Problem::is_error);
        if !problems.is_empty() {
            return Err(Diagnostics::new(source, problems));
        }
        let frame = described.frame();
        let packet = match wire::parse(&frame) {
            Ok(packet) => packet,
            Err(reason) => {
                let span = super::lexer::Span {
                    start: 0,
                    end: description.len(),
                };
                let message = format!("no such packet passes: {}", reason.explanation());
                return Err(Diagnostics::new(
                    source,
                    vec![Problem::new(span, message, "")],
                ));
            }
        };
        let is_ip = packet.ip.is_some();
        let query = Query {
            packet: &packet,
            frame: &frame,
            side: described.side,
            state: described.state.unwrap_or(if is_ip {
                CtState::New
            } else {
                CtState::Untracked
            }),
            direction: described.direction,
            is_expected: described.is_expected,
            now: Time::default(),
        };
        let mut noted = Noted {
            ruleset: self,
            met: Vec::new(),
        };
        let outcome = self.program.run(&query, &mut noted);
        let verdict = match (outcome.drop, outcome.reject) {
            (None, _) => "accept",
            (Some(_), None) => "drop",
            (Some(_), Some(_)) => "reject",
        };
        let helper = outcome.helper.filter(|_| outcome.drop.is_none());
        Ok(Explanation {
            packet: words(&query),
            met: noted.met,
            verdict,
            helper: helper.map(|id| self.helper(id).name.clone()),
        })
    }
}

/// Takes down what an evaluation does.
struct Noted<'r> {
    ruleset: &'r Ruleset,
    met: Vec<Met>,
}

impl Noted<'_> {
    fn rule(&mut self, rule: u32, explained: impl FnOnce(&super::RuleText) -> Explained) {
        let Some(text) = self.ruleset.rules.get(rule as usize) else {
            return;
        };
        self.met.push(Met {
            chain: None,
            file: Some(text.file.clone()),
            line: Some(text.line),
            rule: text.whole(),
            explained: explained(text),
        });
    }
}

impl Watch for Noted<'_> {
    fn count(&mut self, _: CounterId) {}

    fn log(&mut self, _: u16) {}

    fn failed(&mut self, rule: u32, step: usize) {
        self.rule(rule, |text| {
            // What a `reject` needs has no words of its own: the `reject` behind it has.
            let mut parts = text.parts.iter().skip(step);
            let part = parts.find(|part| !part.is_empty());
            Explained::Failed(part.cloned().unwrap_or_default())
        });
    }

    fn decided(&mut self, rule: u32, verdict: &'static str) {
        self.rule(rule, |_| Explained::Decided(verdict));
    }

    fn policy(&mut self, chain: usize, accept: bool) {
        let verdict = if accept { "accept" } else { "drop" };
        self.met.push(Met {
            chain: self.ruleset.chains.get(chain).cloned(),
            file: None,
            line: None,
            rule: format!("policy {verdict}"),
            explained: Explained::Decided(verdict),
        });
    }
}

/// A packet as somebody describes it.
#[derive(Debug)]
struct Described {
    side: Side,
    state: Option<CtState>,
    direction: Direction,
    is_expected: bool,
    ethers: [Option<u64>; 2],
    ethertype: Option<u16>,
    vlan: Option<u16>,
    vlan_priority: u16,
    family: Option<Family>,
    addresses4: [Option<Ipv4Addr>; 2],
    addresses6: [Option<Ipv6Addr>; 2],
    protocol: Option<u8>,
    hop_limit: u8,
    dscp: u8,
    ports: [Option<u16>; 2],
    flags: u8,
    icmp: (Option<u8>, u8),
    arp_operation: u16,
    length: Option<usize>,
}

impl Default for Described {
    fn default() -> Described {
        Described {
            side: Side::Inside,
            state: None,
            direction: Direction::Original,
            is_expected: false,
            ethers: [None, None],
            ethertype: None,
            vlan: None,
            vlan_priority: 0,
            family: None,
            addresses4: [None, None],
            addresses6: [None, None],
            protocol: None,
            hop_limit: 64,
            dscp: 0,
            ports: [None, None],
            flags: 0x02,
            icmp: (None, 0),
            arp_operation: 1,
            length: None,
        }
    }
}

impl Described {
    /// What one match says of the packet.
    fn take(&mut self, statement: &Statement) -> Result<(), Box<Problem>> {
        let Statement::Match {
            fields, test, span, ..
        } = statement
        else {
            let span = super::lexer::Span { start: 0, end: 0 };
            let message = "a packet is described by matches alone";
            return Err(Box::new(Problem::new(span, message, "")));
        };
        let odd = |message: &str| Err(Box::new(Problem::new(*span, message.to_owned(), "")));
        let value = match (fields.as_slice(), *test) {
            (
                [_],
                Test::Range {
                    interval: (low, high),
                    negated: false,
                },
            ) if low == high => low,
            // `tcp flags syn`
            (
                [Field::TcpFlags],
                Test::Bits {
                    mask,
                    negated: true,
                    ..
                },
            ) => mask,
            _ => return odd("a packet has one value here"),
        };
        let Some(&field) = fields.first() else {
            return Ok(());
        };
        let small = u16::try_from(value).unwrap_or(u16::MAX);
        let byte = u8::try_from(value).unwrap_or(u8::MAX);
        if let Some([ethertype]) = field.ethertypes() {
            self.family = match *ethertype {
                ETHERTYPE_IPV4 => Some(Family::V4),
                ETHERTYPE_IPV6 => Some(Family::V6),
                _ => self.family,
            };
            self.ethertype = Some(*ethertype);
        }
        if let Some([protocol]) = field.protocols() {
            self.protocol = Some(*protocol);
        }
        let end = |end: End| usize::from(end == End::Destination);
        let set = |slot: Option<&mut Option<_>>, value| {
            if let Some(slot) = slot {
                *slot = Some(value);
            }
        };
        match field {
            Field::IifName => self.side = side_of(value),
            Field::OifName => self.side = side_of(value).other(),
            Field::EtherType | Field::Protocol => {
                self.ethertype = Some(small);
                self.family = match small {
                    ETHERTYPE_IPV4 => Some(Family::V4),
                    ETHERTYPE_IPV6 => Some(Family::V6),
                    _ => self.family,
                };
            }
            Field::EtherAddr(at) | Field::ArpEther(at) => {
                if let Some(slot) = self.ethers.get_mut(end(at)) {
                    *slot = u64::try_from(value).ok();
                }
            }
            Field::VlanId => self.vlan = Some(small),
            Field::VlanPcp => {
                self.vlan.get_or_insert(0);
                self.vlan_priority = small;
            }
            Field::VlanType => {
                self.vlan.get_or_insert(0);
                self.ethertype = Some(small);
            }
            Field::ArpOperation => self.arp_operation = small,
            Field::IpAddr(at) | Field::ArpIp(at) => {
                let bits = u32::try_from(value).unwrap_or_default();
                set(self.addresses4.get_mut(end(at)), Ipv4Addr::from_bits(bits));
            }
            Field::Ip6Addr(at) => {
                if let Some(slot) = self.addresses6.get_mut(end(at)) {
                    *slot = Some(Ipv6Addr::from_bits(value));
                }
            }
            Field::IpProtocol | Field::Ip6NextHeader | Field::L4Proto => self.protocol = Some(byte),
            Field::IpTtl | Field::Ip6HopLimit => self.hop_limit = byte,
            Field::IpDscp | Field::Ip6Dscp => self.dscp = byte,
            Field::IpLength | Field::Ip6Length | Field::Length | Field::FrameLength => {
                self.length = Some(usize::from(small));
            }
            Field::NfProto => {
                self.family = Some(if value == NFPROTO_IPV6 {
                    Family::V6
                } else {
                    Family::V4
                });
            }
            Field::Port(ports, at) => {
                if ports == Ports::Any && self.protocol.is_none() {
                    self.protocol = Some(proto::TCP);
                }
                if let Some(slot) = self.ports.get_mut(end(at)) {
                    *slot = Some(small);
                }
            }
            Field::TcpFlags => self.flags = byte,
            Field::IcmpType(_) => self.icmp.0 = Some(byte),
            Field::IcmpCode(_) => self.icmp.1 = byte,
            Field::CtState => {
                let all = [
                    CtState::Invalid,
                    CtState::New,
                    CtState::Established,
                    CtState::Related,
                    CtState::Untracked,
                ];
                self.state = all.into_iter().find(|state| *state as u128 == value);
            }
            Field::CtDirection => {
                self.direction = if value == 1 {
                    Direction::Reply
                } else {
                    Direction::Original
                };
            }
            Field::CtHelper => {
                self.is_expected = true;
                self.state.get_or_insert(CtState::Related);
            }
        }
        Ok(())
    }

    fn family(&self) -> Option<Family> {
        match (self.family, self.ethertype) {
            (Some(family), _) => Some(family),
            (None, Some(ethertype)) if ethertype != ETHERTYPE_IPV4 => None,
            _ => Some(Family::V4),
        }
    }

    fn protocol(&self) -> u8 {
        self.protocol.unwrap_or(proto::TCP)
    }

    /// A frame that is so.
    fn frame(&self) -> Vec<u8> {
        let [source, destination] = self.ethers.map(Option::unwrap_or_default);
        let mac = |number: u64| {
            let [_, _, bytes @ ..] = number.to_be_bytes();
            bytes
        };
        let mut frame = Vec::new();
        frame.extend(mac(destination));
        frame.extend(mac(source));
        if let Some(id) = self.vlan {
            frame.extend(0x8100u16.to_be_bytes());
            frame.extend((self.vlan_priority << 13 | id).to_be_bytes());
        }
        let family = self.family();
        let ethertype = family.map(Family::ethertype).or(self.ethertype);
        let ethertype = ethertype.unwrap_or(ETHERTYPE_IPV4);
        frame.extend(ethertype.to_be_bytes());
        match family {
            Some(family) => self.datagram(family, &mut frame),
            None if ethertype == ETHERTYPE_ARP => self.arp(&mut frame),
            None => frame.resize(frame.len() + self.length.unwrap_or(46), 0),
        }
        frame
    }

    fn arp(&self, frame: &mut Vec<u8>) {
        frame.extend([0, 1, 8, 0, 6, 4]);
        frame.extend(self.arp_operation.to_be_bytes());
        for (ether, ip) in self.ethers.iter().zip(self.addresses4) {
            let [_, _, mac @ ..] = ether.unwrap_or_default().to_be_bytes();
            frame.extend(mac);
            frame.extend(ip.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        }
    }

    fn datagram(&self, family: Family, frame: &mut Vec<u8>) {
        const IPV4_BYTES: usize = 20;
        const IPV6_BYTES: usize = 40;
        let transport = self.transport();
        let header = if family == Family::V4 {
            IPV4_BYTES
        } else {
            IPV6_BYTES
        };
        let least = header + transport.len();
        let total = match (self.length, family) {
            (Some(length), Family::V4) => length.max(least),
            (Some(length), Family::V6) => (length + IPV6_BYTES).max(least),
            (None, _) => least,
        };
        let total = total.min(usize::from(u16::MAX));
        let start = frame.len();
        let clip = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
        match family {
            Family::V4 => {
                let [from, to] = self.addresses4;
                frame.extend([0x45, self.dscp << 2]);
                frame.extend(clip(total));
                frame.extend([0, 0, 0, 0, self.hop_limit, self.protocol(), 0, 0]);
                frame.extend(from.unwrap_or(Ipv4Addr::new(192, 0, 2, 1)).octets());
                frame.extend(to.unwrap_or(Ipv4Addr::new(192, 0, 2, 2)).octets());
            }
            Family::V6 => {
                let [from, to] = self.addresses6;
                let documentation = |host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host);
                frame.extend([0x60 | self.dscp >> 2, (self.dscp & 3) << 6, 0, 0]);
                frame.extend(clip(total - IPV6_BYTES));
                frame.extend([self.protocol(), self.hop_limit]);
                frame.extend(from.unwrap_or(documentation(1)).octets());
                frame.extend(to.unwrap_or(documentation(2)).octets());
            }
        }
        frame.extend(transport);
        frame.resize(start + total, 0);
    }

    fn transport(&self) -> Vec<u8> {
        let [source, destination] = self.ports;
        let mut header = Vec::new();
        match self.protocol() {
            proto::TCP => {
                header.extend(source.unwrap_or(40_000).to_be_bytes());
                header.extend(destination.unwrap_or(DISCARD_PORT).to_be_bytes());
                header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, self.flags, 0xff, 0xff]);
                header.extend([0; 4]);
            }
            proto::UDP => {
                header.extend(source.unwrap_or(40_000).to_be_bytes());
                header.extend(destination.unwrap_or(DISCARD_PORT).to_be_bytes());
                header.extend([0, 8, 0, 0]);
            }
            proto::SCTP => {
                header.extend(source.unwrap_or(40_000).to_be_bytes());
                header.extend(destination.unwrap_or(DISCARD_PORT).to_be_bytes());
                header.extend([0; 8]);
            }
            proto::ICMP => header.extend([self.icmp.0.unwrap_or(8), self.icmp.1, 0, 0, 0, 1, 0, 1]),
            proto::ICMPV6 => {
                header.extend([self.icmp.0.unwrap_or(128), self.icmp.1, 0, 0, 0, 1, 0, 1]);
            }
            _ => header.extend([0; 8]),
        }
        header
    }
}

/// The packet that was understood, with all that was not said.
fn words(query: &Query<'_>) -> String {
    let state = super::names::name_of(super::names::CT_STATES, query.state as u128);
    let (packet, side) = (query.packet, query.side);
    format!("{packet} from {side}, {}", state.unwrap_or_default())
}

fn side_of(value: u128) -> Side {
    if value == Side::Inside.index() as u128 {
        Side::Inside
    } else {
        Side::Outside
    }
}
