//! An independent judge of what comes out of lotus. It knows what the FTP programs agreed on from
//! the programs themselves, never from lotus or from bytes on the wire, and lets nothing else
//! through: ARP, neighbour discovery, the control connections, and one connection for each
//! agreement.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lotus::conntrack::Time;

use crate::packet::{ACK, ICMPV6, SYN, View};

/// Neighbour discovery, RFC 4861 (133 to 137).
const ND_TYPES: std::ops::RangeInclusive<u8> = 133..=137;
/// A SYN may be on its way for two hops with their longest delay after its sender gave up.
const ON_THE_WAY: Duration = Duration::from_millis(50);

/// A data connection that the client and the server agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    pub from: IpAddr,
    pub to: SocketAddr,
}

#[derive(Debug)]
struct Permit {
    agreement: Agreement,
    /// The source port of the one connection, once the target has answered it.
    taken_by: Option<u16>,
    /// A newer agreement of the session replaced it: only the connection that took it goes on.
    replaced: Option<Time>,
}

#[derive(Debug)]
pub struct Oracle {
    client: IpAddr,
    control: SocketAddr,
    permits: Vec<Permit>,
    /// How many TCP frames it judged.
    pub judged: u64,
}

impl Oracle {
    pub fn new(client: IpAddr, control: SocketAddr) -> Oracle {
        Oracle {
            client,
            control,
            permits: Vec::new(),
            judged: 0,
        }
    }

    pub fn agree(&mut self, agreement: Agreement, now: Time) {
        for old in &mut self.permits {
            old.replaced.get_or_insert(now);
        }
        self.permits.push(Permit {
            agreement,
            taken_by: None,
            replaced: None,
        });
    }

    /// How many agreements led to a connection.
    pub fn taken(&self) -> usize {
        self.permits
            .iter()
            .filter(|permit| permit.taken_by.is_some())
            .count()
    }

    /// Judges a frame that left lotus.
    pub fn judge(&mut self, frame: &[u8], now: Time) -> Result<(), String> {
        let view = View::of(frame).ok_or("a frame that no host sent")?;
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
        let Some(tcp) = ip.tcp(frame) else {
            // A later fragment has no ports; its first one is judged.
            let known = [self.client, self.control.ip()];
            let later = ip.fragment.is_some_and(|(_, offset, _)| offset != 0);
            return if later && known.contains(&ip.src) && known.contains(&ip.dst) {
                Ok(())
            } else {
                Err(format!(
                    "protocol {} from {} to {}",
                    ip.protocol, ip.src, ip.dst
                ))
            };
        };
        self.judged += 1;
        let (src, dst) = (
            SocketAddr::new(ip.src, tcp.src_port),
            SocketAddr::new(ip.dst, tcp.dst_port),
        );
        let control = (dst == self.control && src.ip() == self.client)
            || (src == self.control && dst.ip() == self.client);
        let begins = tcp.flags & (SYN | ACK) == SYN;
        let answers = tcp.flags & (SYN | ACK) == SYN | ACK;
        if control {
            return if begins && src == self.control {
                Err(format!(
                    "the server opened a connection from its control port to {dst}"
                ))
            } else {
                Ok(())
            };
        }
        for permit in &mut self.permits {
            let Agreement { from, to } = permit.agreement;
            let (forth, back) = (src.ip() == from && dst == to, src == to && dst.ip() == from);
            let port = if forth { src.port() } else { dst.port() };
            if (!forth && !back) || permit.taken_by.is_some_and(|taken| taken != port) {
                continue;
            }
            if back && answers && permit.replaced.is_none() {
                permit.taken_by = Some(port);
            }
            // A replaced agreement that nobody had taken is void.
            let void = permit.replaced.is_some_and(|at| now.since(at) > ON_THE_WAY);
            if void && permit.taken_by.is_none() && begins {
                continue;
            }
            return if back && begins {
                Err(format!("{src} opened a connection backwards"))
            } else {
                Ok(())
            };
        }
        Err(format!(
            "{src} to {dst}, flags {:#04x}: nobody agreed on this",
            tcp.flags
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Segment, udp};

    const EARLY: Time = Time::from_nanos(1);
    const LATER: Time = Time::from_nanos(1_000_000_000);

    fn judge(oracle: &mut Oracle, frame: &[u8]) -> Result<(), String> {
        oracle.judge(frame, LATER)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn tcp(from: &str, to: &str, flags: u8) -> Vec<u8> {
        Segment::new(at(from), at(to), flags).frame()
    }

    #[test]
    fn only_what_was_agreed_passes_and_only_once() {
        let (client, server) = (at("192.0.2.20:0").ip(), at("192.0.2.10:21"));
        let mut oracle = Oracle::new(client, server);
        assert!(judge(&mut oracle, &tcp("192.0.2.20:5000", "192.0.2.10:21", SYN)).is_ok());
        assert!(judge(&mut oracle, &tcp("192.0.2.10:21", "192.0.2.20:5000", SYN)).is_err());
        let data = tcp("192.0.2.20:5001", "192.0.2.10:40000", SYN);
        assert!(judge(&mut oracle, &data).is_err(), "before the agreement");

        oracle.agree(
            Agreement {
                from: client,
                to: at("192.0.2.10:40000"),
            },
            EARLY,
        );
        assert!(judge(&mut oracle, &data).is_ok());
        assert!(
            judge(
                &mut oracle,
                &tcp("192.0.2.20:5002", "192.0.2.10:40001", SYN)
            )
            .is_err(),
            "port"
        );
        assert!(
            judge(
                &mut oracle,
                &tcp("192.0.2.21:5001", "192.0.2.10:40000", SYN)
            )
            .is_err(),
            "peer"
        );
        assert!(
            judge(
                &mut oracle,
                &tcp("192.0.2.10:40000", "192.0.2.20:5001", SYN)
            )
            .is_err(),
            "way"
        );
        assert!(
            judge(
                &mut oracle,
                &tcp("192.0.2.10:40000", "192.0.2.20:5001", SYN | ACK)
            )
            .is_ok()
        );
        assert!(
            judge(
                &mut oracle,
                &tcp("192.0.2.20:5009", "192.0.2.10:40000", SYN)
            )
            .is_err(),
            "again"
        );
        assert!(judge(&mut oracle, &data).is_ok(), "a SYN sent again");
        assert!(
            judge(
                &mut oracle,
                &udp(at("192.0.2.20:9"), at("192.0.2.10:9"), b"x")
            )
            .is_err()
        );
        assert_eq!(oracle.taken(), 1);
    }

    #[test]
    fn a_replaced_agreement_is_void_unless_taken() {
        let client = at("192.0.2.20:0").ip();
        let mut oracle = Oracle::new(client, at("192.0.2.10:21"));
        oracle.agree(
            Agreement {
                from: client,
                to: at("192.0.2.10:40000"),
            },
            EARLY,
        );
        oracle.agree(
            Agreement {
                from: client,
                to: at("192.0.2.10:40001"),
            },
            EARLY,
        );
        assert!(
            judge(
                &mut oracle,
                &tcp("192.0.2.20:5001", "192.0.2.10:40000", SYN)
            )
            .is_err()
        );
        assert!(
            judge(
                &mut oracle,
                &tcp("192.0.2.20:5001", "192.0.2.10:40001", SYN)
            )
            .is_ok()
        );
    }
}
