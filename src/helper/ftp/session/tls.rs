//! A control connection that is TLS (RFC 4217), and that may come back to clear text (CCC).
//!
//! What is said inside can't be read. So the session opens the server's passive range, if one was
//! named, to its own client, while both ends keep to TLS; and it reads on when both have left it.

use std::net::SocketAddr;

use super::Session;
use crate::conntrack::{Direction, ExpectError, Pair};
use crate::helper::ftp::Context;
use crate::helper::ftp::command::Verb;
use crate::helper::ftp::tls::{Fed, Hello, Records};
use crate::observe::{Escaped, EventKind};

/// Records that a side may send after the other went back to clear text: its `close_notify`, which
/// was on its way.
const MAX_LATE_RECORDS: u8 = 1;

const NAME_A_RANGE: &str = "set ftp.tls_ports=A-B (the server's passive range) or --ftp-server \
                            ADDR,tls-ports=A-B";
const NO_RANGE: &str = "the session is TLS, so its data ports can't be seen; set \
                        ftp.tls_ports=A-B (the server's passive range) or --ftp-server \
                        ADDR,tls-ports=A-B";
const OUTSIDE_RANGE: &str = "the session is TLS, and the port is outside ftp.tls_ports, which must \
                             be the server's passive range";

const NOT_TLS: &str = "what should be TLS is not";
const TWO_WAYS: &str = "one end went back to clear text and the other did not";
const NO_END: &str = "clear text came before TLS had ended";
const PIPELINED: &str = "the client said more before the server agreed to TLS";

/// The TLS of a session.
#[derive(Debug, Default)]
pub(super) struct Tls {
    client: Half,
    server: Half,
    /// Both hellos were seen.
    is_established: bool,
    late_records: u8,
    /// That a data connection had no range was told.
    told_missed: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    records: Records,
    /// Clear text again.
    is_clear: bool,
}

impl Tls {
    /// The half of a direction, and the other one.
    fn halves(&mut self, direction: Direction) -> (&mut Half, &mut Half) {
        match direction {
            Direction::Original => (&mut self.client, &mut self.server),
            Direction::Reply => (&mut self.server, &mut self.client),
        }
    }

    /// What a complete record says.
    fn record(&mut self, direction: Direction) -> Result<Step, &'static str> {
        let (own, other) = self.halves(direction);
        let is_late = other.is_clear;
        let is_in_order = match (direction, own.records.hello(), other.records.hello()) {
            (Direction::Original, Some(Hello::Client), _)
            | (Direction::Reply, Some(Hello::Server { .. }), Some(Hello::Client)) => true,
            (_, Some(_), _) => false,
            // It goes on in the next record, or an alert came instead.
            (_, None, _) => own.records.may_still_greet(),
        };
        if !is_in_order {
            return Err(NOT_TLS);
        }
        if is_late {
            self.late_records += 1;
            if self.late_records > MAX_LATE_RECORDS {
                return Err(TWO_WAYS);
            }
        }
        let has_answer = matches!(self.server.records.hello(), Some(Hello::Server { .. }));
        if has_answer && !self.is_established {
            self.is_established = true;
            return Ok(Step::Established);
        }
        Ok(Step::GoOn)
    }

    /// What a byte says that stands where a record had to begin.
    fn text(&mut self, direction: Direction, byte: u8) -> Result<Step, &'static str> {
        let is_text = match direction {
            Direction::Original => byte.is_ascii_alphabetic(),
            Direction::Reply => byte.is_ascii_digit(),
        };
        let hides_alerts = matches!(
            self.server.records.hello(),
            Some(Hello::Server { hides_alerts: true })
        );
        if !self.is_established || !is_text {
            return Err(NOT_TLS);
        }
        let (own, other) = self.halves(direction);
        let has_ended = own.records.ended_by_alert() || other.records.ended_by_alert();
        // A client need not answer the server's close_notify (curl does not, if told so).
        if !has_ended && !hides_alerts && !other.is_clear {
            return Err(NO_END);
        }
        own.is_clear = true;
        Ok(match other.is_clear {
            false => Step::HalfClear,
            true => Step::Clear,
        })
    }
}

/// What comes of a record, or of what stands in its place.
enum Step {
    GoOn,
    /// Both said hello.
    Established,
    /// This direction is clear text again, the other is not yet.
    HalfClear,
    /// Both are.
    Clear,
}

impl Session {
    /// The server agreed to TLS (234).
    pub(super) fn went_tls(&mut self, cx: &Context<'_>) {
        let is_in_step = self.pending.is_just(Verb::Auth) && self.commands.is_at_line_start();
        self.shut("the control connection went TLS", cx);
        if self.settings.tls_ports.is_none() {
            let advice = NAME_A_RANGE;
            cx.tell(self.id, EventKind::Encrypted { advice });
        }
        if is_in_step {
            self.pending.clear();
            self.logged_in = false;
            self.tls = Some(Box::default());
        } else {
            self.unreadable(PIPELINED, cx);
        }
    }

    /// What the server says can't be relied on, or is protected by other means (MIC, CONF, ENC).
    /// Nothing is opened; what stands in clear text is still refused.
    pub(super) fn opens_no_more(&mut self, why: &'static str, cx: &Context<'_>) {
        if std::mem::replace(&mut self.may_open, false) {
            self.shut(why, cx);
            self.pending.clear();
            cx.tell(self.id, EventKind::Unreadable { why });
        }
    }

    /// Follows TLS through the next bytes of a direction. Returns how many are not clear text.
    pub(super) fn tls_bytes(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        cx: &Context<'_>,
    ) -> usize {
        let mut rest = bytes;
        while let (Some(tls), Some(&first)) = (&mut self.tls, rest.first()) {
            let (own, _) = tls.halves(direction);
            if own.is_clear {
                break;
            }
            let step = match own.records.feed(&mut rest) {
                Fed::More => Ok(Step::GoOn),
                Fed::Record => tls.record(direction),
                Fed::NoRecord => tls.text(direction, first),
                Fed::Broken => Err(NOT_TLS),
            };
            match step {
                Ok(Step::GoOn) => {}
                Ok(Step::Established) => self.open_range(cx),
                Ok(Step::HalfClear) => self.half_clear(cx),
                Ok(Step::Clear) => {
                    self.tls = None;
                    cx.tell(self.id, EventKind::ClearAgain);
                }
                Err(why) => {
                    self.unreadable(why, cx);
                    return bytes.len();
                }
            }
        }
        bytes.len() - rest.len()
    }

    /// A data connection began that found its place in the range.
    pub(super) fn range_used(&mut self, from: SocketAddr, to: SocketAddr, cx: &Context<'_>) {
        if self.has_range {
            self.opened += 1;
            cx.tell(self.id, EventKind::RangeUsed { from, to });
        }
    }

    /// A SYN of the client found no range that has its port.
    pub fn range_missed(&mut self, from: SocketAddr, to: SocketAddr, cx: &Context<'_>) {
        let Some(tls) = &mut self.tls else { return };
        if !std::mem::replace(&mut tls.told_missed, true) {
            let advice = match self.settings.tls_ports {
                None => NO_RANGE,
                Some(_) => OUTSIDE_RANGE,
            };
            cx.tell(self.id, EventKind::RangeMissed { from, to, advice });
        }
    }

    /// Shuts everything that the session had opened. What is established goes on.
    pub(super) fn shut(&mut self, why: &'static str, cx: &Context<'_>) {
        self.close_port(why, cx);
        if std::mem::take(&mut self.has_range) {
            cx.expectations.ranges().close(&self.pair(), self.id);
            if let Some(ports) = self.settings.tls_ports {
                let to = self.control.server.ip();
                let ports = ports.to_string();
                cx.tell(self.id, EventKind::RangeClosed { to, ports, why });
            }
        }
    }

    /// Both ends said hello: the range opens. Without one, the session is known, so that a data
    /// connection is not left to wait in vain.
    fn open_range(&mut self, cx: &Context<'_>) {
        if !self.may_open {
            return;
        }
        let Pair { from, to, .. } = self.pair();
        let at_once = self.settings.tls_connections;
        let bounds = self.settings.tls_ports.map(|ports| ports.bounds());
        let opened = cx
            .expectations
            .ranges()
            .open(self.pair(), self.id, bounds, at_once, cx.now);
        self.has_range = opened.is_ok();
        match (opened, self.settings.tls_ports) {
            (Ok(()), Some(ports)) => {
                let ports = ports.to_string();
                cx.tell(
                    self.id,
                    EventKind::RangeOpened {
                        from,
                        to,
                        ports,
                        at_once,
                    },
                );
            }
            (Err(error), Some(ports)) => {
                let why = match error {
                    ExpectError::Full | ExpectError::Taken => "too many ranges are open in all",
                    ExpectError::ClientFull => "too many ranges are open for this client",
                };
                let what = Escaped::new(format!("the passive range {ports}").as_bytes());
                cx.tell(self.id, EventKind::NotOpened { what, why });
            }
            (_, None) if self.settings.implicit_tls => {
                let advice = NAME_A_RANGE;
                cx.tell(self.id, EventKind::Encrypted { advice });
            }
            (_, None) => {}
        }
    }

    /// One end speaks in clear again: the range shuts, and commands are read. Servers accept CCC
    /// only from who has logged in, but that could not be seen: from here on a port is opened when
    /// the server accepts the command that asked for it, not before.
    fn half_clear(&mut self, cx: &Context<'_>) {
        self.shut("the session went back to clear text", cx);
        self.pending.clear();
        self.first_command_seen = true;
        self.logged_in = true;
        self.login_unseen = true;
    }

    /// The session is followed no further.
    fn unreadable(&mut self, why: &'static str, cx: &Context<'_>) {
        self.shut(why, cx);
        self.tls = None;
        if self.may_open {
            cx.tell(self.id, EventKind::Unreadable { why });
        }
        self.stop_reading();
    }

    fn pair(&self) -> Pair {
        Pair {
            from: self.control.client.ip(),
            to: self.control.server.ip(),
            side: self.control.client_side,
            vlan: self.control.vlan,
        }
    }
}
