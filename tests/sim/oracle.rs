//! An independent judge of what comes out of lotus. It knows what the FTP programs agreed on from
//! the programs themselves, never from lotus or from bytes on the wire, and lets nothing else
//! through: ARP, neighbour discovery, the control connections, and one connection for each
//! agreement.
//!
//! It also knows when an agreed connection *must* get through. Between "must" and "never" lies only
//! the time in which an announcement is on its way: the oracle can't know if lotus has read it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::wire::Side;

use crate::packet::{ACK, ICMPV6, IpView, SYN, Tag, TcpView, View};

/// Neighbour discovery, RFC 4861 (133 to 137).
const ND_TYPES: std::ops::RangeInclusive<u8> = 133..=137;
/// How long an agreement may wait for its connection (DESIGN.md section 5).
const LIFETIME: Duration = Duration::from_secs(60);

/// A session's name: where its control connection comes from.
pub type SessionName = SocketAddr;

/// A data connection that the client and the server agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    pub session: SessionName,
    pub from: IpAddr,
    pub to: SocketAddr,
}

/// What the FTP programs tell.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// One end has announced a connection; the announcement may be on its way for long.
    Agreed(Agreement),
    /// The announcement has arrived at the other end, so lotus has read it.
    Heard(SessionName),
    /// One end has seen the other's FIN or RST, so lotus has seen it.
    Ended(SessionName),
}

/// What must become of a SYN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    Must,
    May,
    Never(String),
}

#[derive(Debug)]
struct Permit {
    agreement: Agreement,
    agreed: Time,
    heard: Option<Time>,
    /// Source ports whose SYNs have passed.
    tried: Vec<u16>,
    /// The source port of the one connection, once the target has answered it.
    taken_by: Option<u16>,
    /// A newer announcement is on its way.
    is_fading: bool,
    /// A newer one replaced it, or the session ended: only the connection that took it goes on.
    is_void: bool,
}

/// A control connection that the rules let through: from this host and side, to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPair {
    pub client: IpAddr,
    pub server: SocketAddr,
}

#[derive(Debug)]
pub struct Oracle {
    controls: Vec<ControlPair>,
    tags: Vec<Tag>,
    /// Which addresses live inside; all others live outside.
    inside: Vec<IpAddr>,
    permits: Vec<Permit>,
    /// How many TCP frames it judged.
    pub judged: u64,
}

impl Oracle {
    pub fn new(controls: Vec<ControlPair>, inside: Vec<IpAddr>, tags: Vec<Tag>) -> Oracle {
        Oracle {
            controls,
            tags,
            inside,
            permits: Vec::new(),
            judged: 0,
        }
    }

    pub fn note(&mut self, note: Note, now: Time) {
        match note {
            Note::Agreed(agreement) => {
                for old in self.of_session(agreement.session) {
                    old.is_fading = true;
                }
                self.permits.push(Permit {
                    agreement,
                    agreed: now,
                    heard: None,
                    tried: Vec::new(),
                    taken_by: None,
                    is_fading: false,
                    is_void: false,
                });
            }
            Note::Heard(session) => {
                // The newest one is what was heard: a session waits for each answer.
                for old in self.of_session(session) {
                    if old.is_fading {
                        old.is_void = true;
                    } else {
                        old.heard.get_or_insert(now);
                    }
                }
            }
            Note::Ended(session) => self.of_session(session).for_each(|p| p.is_void = true),
        }
    }

    fn of_session(&mut self, session: SessionName) -> impl Iterator<Item = &mut Permit> {
        self.permits
            .iter_mut()
            .filter(move |permit| permit.agreement.session == session)
    }

    /// How many agreements led to a connection.
    pub fn taken(&self) -> usize {
        let taken = |permit: &&Permit| permit.taken_by.is_some();
        self.permits.iter().filter(taken).count()
    }

    /// The agreements that still wait, the newest last: what an attacker would go for.
    pub fn open(&self, now: Time) -> impl Iterator<Item = Agreement> {
        self.permits
            .iter()
            .filter(move |permit| permit.taken_by.is_none() && !permit.is_dead(now))
            .map(|permit| permit.agreement)
    }

    /// All agreements, the newest last.
    pub fn agreements(&self) -> impl DoubleEndedIterator<Item = Agreement> {
        self.permits.iter().map(|permit| permit.agreement)
    }

    /// What must become of a SYN that no control connection begins with.
    pub fn ruling(&self, src: SocketAddr, dst: SocketAddr, now: Time) -> Ruling {
        let mut why = "nobody agreed on this";
        for permit in &self.permits {
            if (src.ip(), dst) != (permit.agreement.from, permit.agreement.to) {
                continue;
            }
            match permit.taken_by {
                Some(port) if port == src.port() => return Ruling::May,
                Some(_) => why = "the agreement was used",
                None if permit.is_dead(now) => why = "the agreement is over",
                None if permit.is_certain(now) => return Ruling::Must,
                None => return Ruling::May,
            }
        }
        Ruling::Never(format!("{src} to {dst}: {why}"))
    }

    /// Whether lotus was wrong to drop this frame of an honest host.
    pub fn must_pass(&self, frame: &[u8], now: Time) -> bool {
        let Some((ip, tcp)) = tcp_of(frame) else {
            return false;
        };
        let (src, dst) = ends(&ip, &tcp);
        tcp.flags & (SYN | ACK) == SYN && self.ruling(src, dst, now) == Ruling::Must
    }

    /// Judges a frame that left lotus towards this side.
    pub fn judge(&mut self, to_side: Side, frame: &[u8], now: Time) -> Result<(), String> {
        let view = View::of(frame).ok_or("a frame that no host sent")?;
        if view.tags != self.tags {
            return Err(format!("in VLAN {:?}", view.tags));
        }
        let Some(ip) = view.ip else {
            return if view.ethertype == 0x0806 {
                Ok(())
            } else {
                Err("not IP, not ARP".into())
            };
        };
        if ip.protocol == ICMPV6 && ND_TYPES.contains(&frame[ip.l4_at]) {
            return Ok(());
        }
        if self.inside.contains(&ip.src) == (to_side == Side::Inside) {
            return Err(format!("{} does not live on that side", ip.src));
        }
        let Some(tcp) = ip.tcp(frame) else {
            // A later fragment has no ports; its first one is judged.
            let is_known = self.controls.iter().any(|pair| {
                let pair = [pair.client, pair.server.ip()];
                pair.contains(&ip.src) && pair.contains(&ip.dst)
            });
            let later = ip.fragment.is_some_and(|(_, offset, _)| offset != 0);
            return if later && is_known && ip.protocol == crate::packet::TCP {
                Ok(())
            } else {
                Err(format!(
                    "protocol {} from {} to {}",
                    ip.protocol, ip.src, ip.dst
                ))
            };
        };
        self.judged += 1;
        let (src, dst) = ends(&ip, &tcp);
        let is = |client: IpAddr, server| self.controls.contains(&ControlPair { client, server });
        if is(src.ip(), dst) {
            return Ok(());
        }
        let begins = tcp.flags & (SYN | ACK) == SYN;
        if is(dst.ip(), src) {
            return if begins {
                Err(format!(
                    "the server opened a connection from its control port to {dst}"
                ))
            } else {
                Ok(())
            };
        }
        if begins {
            return match self.ruling(src, dst, now) {
                Ruling::Never(why) => Err(why),
                Ruling::Must | Ruling::May => {
                    self.tried(src, dst, now);
                    Ok(())
                }
            };
        }
        self.judge_later(src, dst, tcp.flags)
    }

    fn tried(&mut self, src: SocketAddr, dst: SocketAddr, now: Time) {
        for permit in &mut self.permits {
            let fits = (src.ip(), dst) == (permit.agreement.from, permit.agreement.to);
            if fits && !permit.is_dead(now) && !permit.tried.contains(&src.port()) {
                permit.tried.push(src.port());
            }
        }
    }

    /// A segment that begins nothing: only in a connection whose SYN has passed.
    fn judge_later(&mut self, src: SocketAddr, dst: SocketAddr, flags: u8) -> Result<(), String> {
        let answers = flags & (SYN | ACK) == SYN | ACK;
        for permit in &mut self.permits {
            let Agreement { from, to, .. } = permit.agreement;
            let (forth, back) = (src.ip() == from && dst == to, src == to && dst.ip() == from);
            let port = if forth { src.port() } else { dst.port() };
            if (!forth && !back) || !permit.tried.contains(&port) {
                continue;
            }
            if permit.taken_by.is_some_and(|taken| taken != port) {
                continue;
            }
            if back && answers && permit.taken_by.is_none() {
                if permit.is_void {
                    return Err(format!(
                        "{src} answered {dst}, but that agreement is replaced"
                    ));
                }
                permit.taken_by = Some(port);
            }
            return Ok(());
        }
        Err(format!(
            "{src} to {dst}, flags {flags:#04x}: nobody agreed on this"
        ))
    }
}

impl Permit {
    /// A new connection must not get through.
    fn is_dead(&self, now: Time) -> bool {
        self.is_void || self.heard.is_some_and(|heard| now.since(heard) > LIFETIME)
    }

    /// A new connection must get through.
    fn is_certain(&self, now: Time) -> bool {
        !self.is_void
            && !self.is_fading
            && self.heard.is_some()
            && now.since(self.agreed) < LIFETIME
    }
}

fn tcp_of(frame: &[u8]) -> Option<(IpView, TcpView)> {
    let ip = View::of(frame)?.ip?;
    let tcp = ip.tcp(frame)?;
    Some((ip, tcp))
}

fn ends(ip: &IpView, tcp: &TcpView) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(ip.src, tcp.src_port),
        SocketAddr::new(ip.dst, tcp.dst_port),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Segment, udp};

    const EARLY: Time = Time::from_nanos(1);
    const LATER: Time = Time::from_nanos(1_000_000_000);
    const TOO_LATE: Time = Time::from_nanos(60_000_000_002);

    const SERVER: &str = "192.0.2.10:21";
    const CLIENT: &str = "192.0.2.20:5000";
    const DATA: &str = "192.0.2.10:40000";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The server is inside.
    fn oracle() -> Oracle {
        let pair = ControlPair {
            client: at(CLIENT).ip(),
            server: at(SERVER),
        };
        Oracle::new(vec![pair], vec![at(SERVER).ip()], Vec::new())
    }

    fn agreement(to: &str) -> Agreement {
        Agreement {
            session: at(CLIENT),
            from: at(CLIENT).ip(),
            to: at(to),
        }
    }

    /// Judges a segment at this time; it comes from where its source lives.
    fn judge_at(oracle: &mut Oracle, from: &str, to: &str, flags: u8, now: Time) -> bool {
        let to_side = if at(from).ip() == at(SERVER).ip() {
            Side::Outside
        } else {
            Side::Inside
        };
        let frame = Segment::new(at(from), at(to), flags).frame();
        oracle.judge(to_side, &frame, now).is_ok()
    }

    fn judge(oracle: &mut Oracle, from: &str, to: &str, flags: u8) -> bool {
        judge_at(oracle, from, to, flags, LATER)
    }

    #[test]
    fn only_what_was_agreed_passes_and_only_once() {
        let mut oracle = oracle();
        assert!(judge(&mut oracle, CLIENT, SERVER, SYN));
        assert!(!judge(&mut oracle, SERVER, CLIENT, SYN));
        let from = "192.0.2.20:5001";
        assert!(!judge(&mut oracle, from, DATA, SYN), "before the agreement");

        oracle.note(Note::Agreed(agreement(DATA)), EARLY);
        assert!(!judge(&mut oracle, from, DATA, ACK), "no SYN before it");
        assert!(judge(&mut oracle, from, DATA, SYN));
        assert!(!judge(&mut oracle, from, "192.0.2.10:40001", SYN), "port");
        assert!(!judge(&mut oracle, "192.0.2.21:5001", DATA, SYN), "peer");
        assert!(!judge(&mut oracle, DATA, from, SYN), "way");
        let syn = Segment::new(at(from), at(DATA), SYN).frame();
        assert!(oracle.judge(Side::Outside, &syn, LATER).is_err(), "side");
        assert!(judge(&mut oracle, DATA, from, SYN | ACK));
        assert!(
            !judge(&mut oracle, "192.0.2.20:5009", DATA, SYN),
            "another one"
        );
        assert!(judge(&mut oracle, from, DATA, SYN), "a SYN sent again");
        let datagram = udp(at("192.0.2.20:9"), at("192.0.2.10:9"), b"x");
        assert!(oracle.judge(Side::Inside, &datagram, LATER).is_err());
        assert_eq!(oracle.taken(), 1);
    }

    #[test]
    fn it_must_pass_from_when_it_was_heard_until_the_time_is_over() {
        let mut oracle = oracle();
        let ruling = |oracle: &Oracle, now| oracle.ruling(at("192.0.2.20:5001"), at(DATA), now);
        oracle.note(Note::Agreed(agreement(DATA)), EARLY);
        assert_eq!(ruling(&oracle, LATER), Ruling::May);
        oracle.note(Note::Heard(at(CLIENT)), EARLY);
        assert_eq!(ruling(&oracle, LATER), Ruling::Must);
        assert!(matches!(ruling(&oracle, TOO_LATE), Ruling::Never(_)));
        oracle.note(Note::Ended(at(CLIENT)), LATER);
        assert!(matches!(ruling(&oracle, LATER), Ruling::Never(_)));
    }

    #[test]
    fn a_replaced_agreement_is_void_unless_taken() {
        let mut oracle = oracle();
        let (old, new) = ("192.0.2.10:40000", "192.0.2.10:40001");
        oracle.note(Note::Agreed(agreement(old)), EARLY);
        oracle.note(Note::Heard(at(CLIENT)), EARLY);
        oracle.note(Note::Agreed(agreement(new)), EARLY);
        assert!(judge(&mut oracle, "192.0.2.20:5001", old, SYN), "not yet");
        oracle.note(Note::Heard(at(CLIENT)), EARLY);
        assert!(!judge(&mut oracle, "192.0.2.20:5002", old, SYN));
        assert!(!judge(&mut oracle, old, "192.0.2.20:5001", SYN | ACK));
        assert!(judge(&mut oracle, "192.0.2.20:5001", new, SYN));
        assert!(judge(&mut oracle, new, "192.0.2.20:5001", SYN | ACK));
    }
}
