use std::net::SocketAddr;

use super::{CtState, Direction, ExpectedTuple, FlowKey, Judgement, Settings, Tcp, TcpState, Time};
use crate::observe::DropReason;
use crate::wire::{L4, Packet, Side, TcpFlags, TcpSegment};

/// What a flow has to do with a helper's session. The number names the session; whose it is, the
/// engine knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Nothing.
    #[default]
    None,
    /// It is the session's control connection, and the helper's settings have this number.
    Control(u64, u8),
    /// It is a data connection that the session announced, and that was not answered yet.
    Announced(u64),
    /// It is a data connection of the session.
    Data(u64),
}

/// What rules said of a flow's packets, kept so that they need not be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedVerdict<T> {
    /// The ruleset that said so.
    pub generation: u32,
    /// For packets in this state.
    pub state: CtState,
    /// What it said.
    pub outcome: T,
}

/// One tracked flow. `T` is what the rules say of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Flow<T> {
    /// The port at which packets in the original direction come in. Replies come in at the other.
    pub origin: Side,
    /// The original source is the lower end point of the key.
    pub original_is_low: bool,
    /// A packet in the reply direction was accepted.
    pub replied: bool,
    /// What it has to do with a helper's session.
    pub link: Link,
    /// When it ends if nothing comes.
    pub expires: Time,
    /// Bytes carried, by direction: of a TCP stream, each counted once; else of whole datagrams.
    pub bytes: [u64; 2],
    /// By direction.
    pub cached: [Option<CachedVerdict<T>>; 2],
    tracker: Tracker,
}

#[derive(Clone, Copy, Debug)]
enum Tracker {
    Tcp(Tcp),
    Udp,
    Icmp,
    Generic,
}

/// What became of a packet in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Its direction.
    pub direction: Direction,
    /// Its state as rules see it.
    pub state: CtState,
    /// Why it is invalid, if [`Tracked::state`] is.
    pub invalid: Option<DropReason>,
    /// For TCP.
    pub tcp: Option<TcpStep>,
}

/// What a TCP segment did to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpStep {
    /// The tracker's word.
    pub judgement: Judgement,
    /// The state before.
    pub before: TcpState,
    /// The state after.
    pub after: TcpState,
}

impl<T: Copy> Flow<T> {
    /// A flow that begins with this packet.
    ///
    /// # Errors
    ///
    /// The packet can't begin a flow.
    pub fn begin(
        packet: &Packet,
        origin: Side,
        original_is_low: bool,
        settings: &Settings,
        now: Time,
    ) -> Result<Flow<T>, DropReason> {
        let (tracker, timeout) = match packet.ip.as_ref().map(|ip| (&ip.l4, ip.protocol)) {
            Some((L4::Tcp(segment), _)) => {
                (Tracker::Tcp(Tcp::begin(segment)?), settings.tcp_syn_sent)
            }
            Some((L4::Udp(_), _)) => (Tracker::Udp, settings.udp),
            Some((L4::Icmp(message), protocol)) => {
                match super::icmp::role(protocol, message.kind) {
                    super::icmp::Role::Query => (Tracker::Icmp, settings.icmp),
                    _ => return Err(DropReason::IcmpUnrelated),
                }
            }
            _ => (Tracker::Generic, settings.generic),
        };
        Ok(Flow {
            origin,
            original_is_low,
            replied: false,
            link: Link::None,
            expires: now + timeout,
            bytes: [0; 2],
            cached: [None; 2],
            tracker,
        })
    }

    /// Which way a packet from the lower (or higher) end point goes.
    #[must_use]
    pub fn direction(&self, from_low: bool) -> Direction {
        if from_low == self.original_is_low {
            Direction::Original
        } else {
            Direction::Reply
        }
    }

    /// Who began it, and with whom.
    #[must_use]
    pub fn ends(&self, key: &FlowKey) -> (SocketAddr, SocketAddr) {
        let [low, high] = key.ends().map(SocketAddr::from);
        if self.original_is_low {
            (low, high)
        } else {
            (high, low)
        }
    }

    /// The expectation that its first packet met, if it met one.
    #[must_use]
    pub fn expected(&self, key: &FlowKey) -> ExpectedTuple {
        let (from, to) = self.ends(key);
        ExpectedTuple {
            from: from.ip(),
            to: to.ip(),
            port: to.port(),
            side: self.origin,
            vlan: key.vlan(),
        }
    }

    /// The port at which packets in this direction come in.
    #[must_use]
    pub fn side_of(&self, direction: Direction) -> Side {
        match direction {
            Direction::Original => self.origin,
            Direction::Reply => self.origin.other(),
        }
    }

    /// lotus itself reset the connection.
    pub fn reset(&mut self, settings: &Settings, now: Time) {
        if let Tracker::Tcp(tcp) = &mut self.tracker {
            tcp.close();
            self.expires = now + settings.tcp_close;
        }
    }

    /// Judges a packet of this flow that came in at the right side, and moves the flow.
    pub fn update(
        &mut self,
        direction: Direction,
        packet: &Packet,
        settings: &Settings,
        now: Time,
    ) -> Tracked {
        let l4 = packet.ip.as_ref().map(|ip| &ip.l4);
        let mut bytes = packet.ip.as_ref().map_or(0, |ip| ip.datagram.len() as u64);
        let mut tracked = Tracked {
            direction,
            state: CtState::Established,
            invalid: None,
            tcp: None,
        };
        match (&mut self.tracker, l4) {
            (Tracker::Tcp(tcp), Some(L4::Tcp(segment))) => {
                let (before, end, as_it_was) = (tcp.state(), tcp.end(direction), *tcp);
                let judgement = tcp.update(direction, segment);
                let after = tcp.state();
                bytes = stream_bytes(judgement, segment, tcp.end(direction).wrapping_sub(end));
                match judgement {
                    Judgement::Valid | Judgement::Restarted => {
                        self.expires = now + settings.tcp(tcp);
                    }
                    Judgement::DoubtfulReset => {
                        self.expires = self.expires.min(now + settings.tcp_close);
                    }
                    // It never gets there: no helper reads what may not belong to its stream.
                    Judgement::Ignored
                        if matches!(self.link, Link::Control(..)) && says_something(segment) =>
                    {
                        *tcp = as_it_was;
                    }
                    Judgement::ValidNoRenewal | Judgement::Ignored | Judgement::Reopen => {}
                    Judgement::Invalid(reason) => {
                        tracked.state = CtState::Invalid;
                        tracked.invalid = Some(reason);
                        return tracked;
                    }
                }
                tracked.tcp = Some(TcpStep {
                    judgement,
                    before,
                    after,
                });
            }
            (Tracker::Udp, _) => {
                let stream = self.replied || direction == Direction::Reply;
                self.expires = now
                    + if stream {
                        settings.udp_stream
                    } else {
                        settings.udp
                    };
            }
            (Tracker::Icmp, _) => self.expires = now + settings.icmp,
            (Tracker::Generic | Tracker::Tcp(_), _) => self.expires = now + settings.generic,
        }
        let slot = match direction {
            Direction::Original => {
                if !self.replied {
                    tracked.state = self.first_state();
                }
                &mut self.bytes[0]
            }
            Direction::Reply => {
                self.replied = true;
                &mut self.bytes[1]
            }
        };
        *slot += bytes;
        tracked
    }

    /// The state of packets until the first answer.
    #[must_use]
    pub fn first_state(&self) -> CtState {
        match self.link {
            Link::Announced(_) | Link::Data(_) => CtState::Related,
            Link::None | Link::Control(..) => CtState::New,
        }
    }

    /// Whether nobody ever answered: such flows go first when the table is full.
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        match &self.tracker {
            Tracker::Tcp(tcp) => {
                matches!(
                    tcp.state(),
                    TcpState::SynSent | TcpState::SynSent2 | TcpState::SynRecv | TcpState::Close
                )
            }
            _ => !self.replied,
        }
    }

    /// The TCP tracker, if it is TCP.
    #[must_use]
    pub fn tcp(&self) -> Option<&Tcp> {
        match &self.tracker {
            Tracker::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }

    /// Whether a packet that an ICMP error quotes can have been sent in this flow.
    #[must_use]
    pub fn can_have_sent(&self, direction: Direction, quoted: &L4) -> bool {
        match (&self.tracker, quoted) {
            (Tracker::Tcp(tcp), L4::Tcp(segment)) => tcp.in_flight(direction, segment.seq),
            (Tracker::Tcp(_), _) => false,
            _ => true,
        }
    }

    /// The cached outcome for a packet, if it is still good.
    #[must_use]
    pub fn cached(&self, direction: Direction, state: CtState, generation: u32) -> Option<T> {
        let [original, reply] = self.cached;
        let cached = match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        }?;
        (cached.generation == generation && cached.state == state).then_some(cached.outcome)
    }

    /// Keeps an outcome.
    pub fn cache(&mut self, direction: Direction, verdict: CachedVerdict<T>) {
        let [original, reply] = &mut self.cached;
        *match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        } = Some(verdict);
    }
}

/// Whether a segment, a SYN apart, has a part of its stream.
fn says_something(segment: &TcpSegment) -> bool {
    segment.seq_len() > 0 && !segment.flags.has(TcpFlags::SYN)
}

/// What a segment added to its stream, given how far it moved the sender's end: retransmissions add
/// nothing, and SYN and FIN are no bytes.
fn stream_bytes(judgement: Judgement, segment: &TcpSegment, moved: u32) -> u64 {
    if judgement != Judgement::Valid || segment.flags.has(TcpFlags::SYN) {
        return 0;
    }
    let fin = u32::from(moved > 0 && segment.flags.has(TcpFlags::FIN));
    u64::from(moved - fin)
}

/// Whether a packet is a TCP segment with any of these flags.
#[must_use]
pub fn has_tcp_flags(packet: &Packet, flags: u8) -> bool {
    matches!(packet.ip.as_ref().map(|ip| &ip.l4), Some(L4::Tcp(s)) if s.flags.has(flags))
}

/// Segments whose checksum is verified even outside helpers, because they end or begin flows.
pub const STATE_CHANGING_FLAGS: u8 = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
