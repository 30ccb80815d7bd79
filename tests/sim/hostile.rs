//! What attackers put on the wire beside honest dialogues: single frames made by hand, from both
//! sides, at the worst moments. All but replays must end in lotus.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::wire::Side;

use crate::host::{Family, address};
use crate::link;
use crate::oracle::{Agreement, ControlPair, Oracle, Ruling};
use crate::packet::{self, ACK, FIN, Frame, PSH, RST, SYN, Segment, Tag, View};
use crate::rng::Rng;

/// Both hosts listen here and nobody agrees on it.
pub const LISTENER_PORT: u16 = 45_000;

/// Attacks come this often at most; a session on a bad link lasts many minutes.
const MEAN_PAUSE_MS: u64 = 150;
/// Attacks beside one dialogue.
const MAX_ATTACKS: u32 = 120;
/// Frames that may come again.
const RECENT_FRAMES: usize = 64;
/// Beyond any window.
const FAR_AWAY: u32 = 0x3000_0000;

/// How an attack is done. The name stands in failures and in the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A SYN to a port that nobody agreed on.
    Scan,
    /// A SYN to an agreed port, from or to an address that is not part of it.
    Stranger,
    /// A SYN to a port beside the agreed one.
    Beside,
    /// A SYN to a port whose agreement is used up, replaced or too old.
    Stale,
    /// The agreed SYN, from the side where its source does not live.
    WrongSide,
    /// The agreed SYN in another VLAN.
    OtherVlan,
    /// The agreed ports, in another protocol.
    OtherProtocol,
    /// From the agreed port, in place of to it.
    Backwards,
    /// A segment to the agreed port that is no SYN.
    MidStream,
    /// A 227 or a PORT from the wrong side, with the right numbers.
    ForgedSide,
    /// A 227 or a PORT from the right side, out of the window.
    ForgedWindow,
    /// A RST or FIN out of the window, or from the wrong side.
    ForgedEnd,
    /// A retransmission that says something else.
    Changed,
    /// A 227 or a PORT in the window with a wrong checksum.
    BadChecksum,
    /// A SYN in fragments that are tiny or overlap.
    Fragments,
    /// ICMP that belongs to nothing.
    Icmp,
    /// Something that passed before, once more.
    Replay,
}

impl Kind {
    pub const ALL: [Kind; 17] = [
        Kind::Scan,
        Kind::Stranger,
        Kind::Beside,
        Kind::Stale,
        Kind::WrongSide,
        Kind::OtherVlan,
        Kind::OtherProtocol,
        Kind::Backwards,
        Kind::MidStream,
        Kind::ForgedSide,
        Kind::ForgedWindow,
        Kind::ForgedEnd,
        Kind::Changed,
        Kind::BadChecksum,
        Kind::Fragments,
        Kind::Icmp,
        Kind::Replay,
    ];
}

/// A frame, and where it comes in.
pub struct Attack {
    pub kind: Kind,
    pub side: Side,
    pub frame: Frame,
}

/// One direction of a control connection, as an attacker knows it who sees everything.
struct Seen {
    side: Side,
    next_seq: u32,
    /// The last segment with payload that passed.
    last: Option<(u32, Vec<u8>)>,
    /// What the other end has acknowledged of it.
    acked: u32,
}

pub struct Hostile {
    rng: Rng,
    next: Time,
    /// How to attack next.
    kind: Option<Kind>,
    controls: Vec<ControlPair>,
    tags: Vec<Tag>,
    seen: HashMap<(SocketAddr, SocketAddr), Seen>,
    recent: VecDeque<(Side, Frame)>,
    attacks: u32,
    pub by_kind: HashMap<Kind, u64>,
}

impl Hostile {
    pub fn new(controls: Vec<ControlPair>, tags: Vec<Tag>, rng: Rng) -> Hostile {
        Hostile {
            rng,
            next: Time::default(),
            kind: None,
            controls,
            tags,
            seen: HashMap::new(),
            recent: VecDeque::new(),
            attacks: 0,
            by_kind: HashMap::new(),
        }
    }

    /// An honest frame came to lotus.
    pub fn saw_arriving(&mut self, frame: &[u8]) {
        let Some((src, dst, tcp, _)) = control_segment(frame) else {
            return;
        };
        if tcp.flags & ACK != 0
            && let Some(seen) = self.seen.get_mut(&(dst, src))
            && (tcp.ack.wrapping_sub(seen.acked) as i32) > 0
        {
            seen.acked = tcp.ack;
        }
    }

    /// An honest frame of this side got through.
    pub fn saw_passing(&mut self, side: Side, frame: &Frame) {
        if self.recent.len() == RECENT_FRAMES {
            self.recent.pop_front();
        }
        self.recent.push_back((side, frame.clone()));
        let Some((src, dst, tcp, payload)) = control_segment(&frame.bytes) else {
            return;
        };
        let taken = payload.len() as u32 + u32::from(tcp.flags & (SYN | FIN) != 0);
        let end = tcp.seq.wrapping_add(taken);
        let seen = self.seen.entry((src, dst)).or_insert(Seen {
            side,
            next_seq: end,
            last: None,
            acked: tcp.seq,
        });
        if (end.wrapping_sub(seen.next_seq) as i32) >= 0 {
            seen.next_seq = end;
            if !payload.is_empty() {
                seen.last = Some((tcp.seq, payload.to_vec()));
            }
        }
    }

    /// Something was announced or has ended: attack now.
    pub fn wake(&mut self, now: Time, kind: Option<Kind>) {
        self.next = self.next.min(now);
        self.kind = kind.or(self.kind);
    }

    pub fn next_attack(&self) -> Option<Time> {
        (self.attacks < MAX_ATTACKS).then_some(self.next)
    }

    pub fn attack(&mut self, oracle: &Oracle, now: Time) -> Option<Attack> {
        if self.next_attack()? > now {
            return None;
        }
        let pause_ms = 1 + self.rng.below(2 * MEAN_PAUSE_MS);
        self.next = now + Duration::from_millis(pause_ms);
        let kind = self.kind.take().unwrap_or(*self.rng.pick(&Kind::ALL));
        let (side, frame) = self.frame_of(kind, oracle, now)?;
        self.attacks += 1;
        *self.by_kind.entry(kind).or_default() += 1;
        Some(Attack { kind, side, frame })
    }

    fn frame_of(&mut self, kind: Kind, oracle: &Oracle, now: Time) -> Option<(Side, Frame)> {
        let agreed = oracle.open(now).last().or(oracle.agreements().next_back());
        let (side, bytes) = match kind {
            Kind::Replay => {
                let at = self.rng.below(self.recent.len().max(1) as u64) as usize;
                let (side, frame) = self.recent.get(at)?.clone();
                let begins = View::of(&frame.bytes)?
                    .ip
                    .and_then(|ip| ip.tcp(&frame.bytes))
                    .is_some_and(|tcp| tcp.dst_port == 21 && tcp.flags & SYN != 0);
                // A control connection more is not hostile.
                return (!begins).then_some((side, frame));
            }
            Kind::Scan => self.scan(),
            Kind::Fragments => return self.fragments(),
            Kind::Icmp => self.unrelated_icmp(),
            Kind::Stale => {
                let all: Vec<_> = oracle.agreements().collect();
                // The newest is what may still be open by mistake.
                let at = if self.rng.percent(50) {
                    self.rng.below(all.len().max(1) as u64) as usize
                } else {
                    all.len().saturating_sub(1)
                };
                let old = all.get(at)?;
                self.syn(old.from, old.to)
            }
            Kind::ForgedSide
            | Kind::ForgedWindow
            | Kind::ForgedEnd
            | Kind::Changed
            | Kind::BadChecksum => self.forged(kind)?,
            _ => self.at_the_agreed_port(kind, agreed?)?,
        };
        // What an agreement covers is not hostile.
        if matches!(
            kind,
            Kind::Scan | Kind::Stranger | Kind::Beside | Kind::Stale | Kind::Backwards
        ) {
            let ip = View::of(&bytes)?.ip?;
            let tcp = ip.tcp(&bytes)?;
            let (src, dst) = (
                SocketAddr::new(ip.src, tcp.src_port),
                SocketAddr::new(ip.dst, tcp.dst_port),
            );
            if dst.port() == 21 || !matches!(oracle.ruling(src, dst, now), Ruling::Never(_)) {
                return None;
            }
        }
        let tags = match kind {
            Kind::OtherVlan => self.other_tags(),
            _ => self.tags.clone(),
        };
        Some((side, Frame::from(link::tagged(bytes, &tags))))
    }

    fn port(&mut self) -> u16 {
        10_000 + self.rng.below(9_000) as u16
    }

    /// A SYN from where its source lives.
    fn syn(&mut self, from: IpAddr, to: SocketAddr) -> (Side, Vec<u8>) {
        let mut segment = Segment::new(SocketAddr::new(from, self.port()), to, SYN);
        segment.seq = self.rng.next() as u32;
        (side_of(from), segment.frame())
    }

    fn scan(&mut self) -> (Side, Vec<u8>) {
        let pair = *self.rng.pick(&self.controls);
        let (from, to) = if self.rng.percent(50) {
            (pair.client, pair.server.ip())
        } else {
            (pair.server.ip(), pair.client)
        };
        let any = 1_024 + self.rng.below(64_000) as u16;
        let port = *self
            .rng
            .pick(&[LISTENER_PORT, any, any, 20, 22, 445, 1_024, 65_535]);
        self.syn(from, SocketAddr::new(to, port))
    }

    fn at_the_agreed_port(&mut self, kind: Kind, agreed: Agreement) -> Option<(Side, Vec<u8>)> {
        let Agreement { from, to, .. } = agreed;
        let port = self.port();
        let source = SocketAddr::new(from, port);
        Some(match kind {
            Kind::Stranger if self.rng.percent(50) => self.syn(second(from), to),
            Kind::Stranger => self.syn(from, SocketAddr::new(second(to.ip()), to.port())),
            Kind::Beside => {
                let port = *self
                    .rng
                    .pick(&[to.port() - 1, to.port() + 1, to.port() ^ 0x100]);
                self.syn(from, SocketAddr::new(to.ip(), port))
            }
            Kind::WrongSide => {
                let (side, frame) = self.syn(from, to);
                (side.other(), frame)
            }
            Kind::OtherVlan => self.syn(from, to),
            Kind::OtherProtocol => {
                // SCTP, UDP-Lite, DCCP and GRE have, or seem to have, ports in the same place.
                let protocol = *self.rng.pick(&[packet::UDP, 132, 136, 33, 47]);
                let mut l4 = port.to_be_bytes().to_vec();
                l4.extend(to.port().to_be_bytes());
                l4.extend([0, 20, 0, 0, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
                (side_of(from), packet::ip(from, to.ip(), protocol, &l4))
            }
            Kind::Backwards => {
                let segment = Segment::new(to, source, SYN);
                (side_of(to.ip()), segment.frame())
            }
            Kind::MidStream => {
                let flags = *self.rng.pick(&[ACK, SYN | ACK, RST, FIN | ACK, PSH | ACK]);
                (side_of(from), Segment::new(source, to, flags).frame())
            }
            _ => return None,
        })
    }

    /// Speaks for one end of a control connection.
    fn forged(&mut self, kind: Kind) -> Option<(Side, Vec<u8>)> {
        let mut ways: Vec<_> = self.seen.keys().copied().collect();
        ways.sort();
        let way = *ways.get(self.rng.below(ways.len().max(1) as u64) as usize)?;
        let (src, dst) = way;
        // Before the answer there is no window to be out of, and a client may reset what another
        // end answered.
        let ack = self.seen.get(&(dst, src))?.next_seq;
        let seen = &self.seen[&way];
        let mut segment = Segment::new(src, dst, ACK | PSH);
        (segment.seq, segment.ack) = (seen.next_seq, ack);
        let mut side = seen.side;
        let lie = if src.port() == 21 {
            "227 Entering Passive Mode (192,0,2,10,175,200).\r\n"
        } else {
            "PORT 192,0,2,20,175,200\r\n"
        };
        segment.payload = lie.into();
        let far = if self.rng.percent(50) {
            FAR_AWAY
        } else {
            FAR_AWAY.wrapping_neg()
        };
        match kind {
            Kind::ForgedSide => side = side.other(),
            Kind::ForgedWindow => segment.seq = segment.seq.wrapping_add(far),
            Kind::ForgedEnd => {
                segment.payload.clear();
                segment.flags = *self.rng.pick(&[RST, RST | ACK, FIN | ACK]);
                if self.rng.percent(50) {
                    side = side.other();
                } else {
                    segment.seq = segment.seq.wrapping_add(far);
                }
            }
            Kind::Changed => {
                let (seq, was) = seen.last.clone()?;
                if (seen.acked.wrapping_sub(seq) as i32) > 0 {
                    return None; // acknowledged: the receiver does not look at it again
                }
                segment.seq = seq;
                segment.payload = lie.bytes().cycle().take(was.len()).collect();
                if segment.payload == was {
                    return None;
                }
            }
            Kind::BadChecksum => {
                let mut frame = segment.frame();
                let last = frame.len() - 3;
                frame[last] ^= 1;
                return Some((side, frame));
            }
            _ => return None,
        }
        Some((side, segment.frame()))
    }

    /// A piece of a SYN at a time; what would complete it never comes or overlaps.
    fn fragments(&mut self) -> Option<(Side, Frame)> {
        let (side, bytes) = self.scan();
        let view = View::of(&bytes)?.ip?;
        if view.src.is_ipv6() {
            return None;
        }
        let id = self.rng.next() as u16;
        let l4_bytes = view.end - view.l4_at;
        // From this byte, this many, whether more follow.
        let (from, count, more) =
            *self
                .rng
                .pick(&[(0, 8, true), (0, 16, true), (8, l4_bytes - 8, false)]);
        let mut piece = bytes[..view.l4_at].to_vec();
        piece.extend(&bytes[view.l4_at + from..view.l4_at + from + count]);
        packet::set_u16(&mut piece, view.l3_at + 2, (20 + count) as u16);
        packet::set_u16(&mut piece, view.l3_at + 4, id);
        let bits = (from / 8) as u16 | if more { 0x2000 } else { 0 };
        packet::set_u16(&mut piece, view.l3_at + 6, bits);
        packet::fix_checksums(&mut piece);
        Some((side, Frame::from(link::tagged(piece, &self.tags))))
    }

    fn unrelated_icmp(&mut self) -> (Side, Vec<u8>) {
        let pair = *self.rng.pick(&self.controls);
        let (from, to) = (pair.client, pair.server.ip());
        let is_v6 = from.is_ipv6();
        let echo = if is_v6 { 128 } else { 8 };
        let mut message = vec![echo, 0, 0, 0, 0, 1, 0, 1];
        if self.rng.percent(50) {
            // Unreachable, about a connection that never was.
            message[0] = if is_v6 { 1 } else { 3 };
            let port = self.port();
            let quoted = Segment::new(
                SocketAddr::new(to, port),
                SocketAddr::new(from, LISTENER_PORT),
                SYN,
            );
            message.extend(&quoted.frame()[14..]);
        }
        (side_of(from), packet::icmp(from, to, &message))
    }

    fn other_tags(&mut self) -> Vec<Tag> {
        let mut tags = self.tags.clone();
        match tags.last_mut() {
            Some(_) if self.rng.percent(30) => {
                tags.pop();
            }
            Some(tag) => tag.vid ^= 1,
            None => tags.push(Tag {
                tpid: 0x8100,
                vid: 99,
            }),
        }
        tags
    }
}

fn side_of(ip: IpAddr) -> Side {
    let lives_inside = [Family::V4, Family::V6].iter().any(|&family| {
        [false, true]
            .iter()
            .any(|&second| address(Side::Inside, family, second) == ip)
    });
    if lives_inside {
        Side::Inside
    } else {
        Side::Outside
    }
}

/// The second address of the same host.
fn second(ip: IpAddr) -> IpAddr {
    let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
    address(side_of(ip), family, true)
}

/// A whole segment of a control connection: from, to, header, payload.
fn control_segment(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, packet::TcpView, &[u8])> {
    let ip = View::of(frame)?.ip?;
    let tcp = ip.tcp(frame)?;
    if ![tcp.src_port, tcp.dst_port].contains(&21) || ip.fragment.is_some() {
        return None;
    }
    let payload = frame.get(tcp.payload_at..ip.end)?;
    let (src, dst) = (
        SocketAddr::new(ip.src, tcp.src_port),
        SocketAddr::new(ip.dst, tcp.dst_port),
    );
    Some((src, dst, tcp, payload))
}
