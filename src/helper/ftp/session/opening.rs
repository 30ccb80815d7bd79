//! Opening and shutting ports: the one expectation that a session has at a time.

use std::net::{IpAddr, SocketAddr};

use super::{Pending, Session};
use crate::conntrack::{Announcement, ExpectError, ExpectedTuple, FIRST_DATA_PORT};
use crate::helper::ftp::Context;
use crate::helper::ftp::announce::LOW_PORT;
use crate::helper::ftp::command::Verb;
use crate::helper::ftp::passive::{data_end_of_227, data_end_of_228, port_of_229};
use crate::helper::ftp::reply::Reply;
use crate::observe::{Escaped, EventKind, Mode, PortOpened};
use crate::wire::Side;

/// The data port of a server whose control port is 21 (RFC 959 section 3.2).
const DEFAULT_DATA_PORT: u16 = 20;

/// The expectation that waits for its connection.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) tuple: ExpectedTuple,
    pub(super) mode: Mode,
}

impl Session {
    pub(super) fn active_answered(&mut self, pending: &Pending, accepted: bool, cx: &Context<'_>) {
        match (pending.opened, pending.announced) {
            (Some(opened), _) if !accepted => {
                let is_ours = |active: &mut Active| active.tuple == opened;
                if let Some(active) = self.active.take_if(is_ours)
                    && cx.expectations.remove(&active.tuple, self.id)
                {
                    self.tell_closed(&active, "the server refused the command", cx);
                }
            }
            (None, Some(to)) if accepted => {
                self.open_active(pending.verb, to, b"", cx);
            }
            _ => {}
        }
    }

    pub(super) fn open_active(
        &mut self,
        verb: Verb,
        to: SocketAddr,
        shown: &[u8],
        cx: &Context<'_>,
    ) -> Option<ExpectedTuple> {
        let mode = match verb {
            Verb::Port => Mode::Port,
            Verb::Lprt => Mode::Lprt,
            _ => Mode::Eprt,
        };
        let side = self.control.client_side.other();
        self.open(mode, self.control.server.ip(), to, side, shown, cx)
    }

    pub(super) fn open_passive(&mut self, verb: Verb, reply: &Reply, cx: &Context<'_>) {
        let own = self.control.server.ip();
        let data_end = match reply.code {
            227 => data_end_of_227(&reply.text),
            228 => data_end_of_228(&reply.text),
            _ => port_of_229(&reply.text).map(|port| (own, port)),
        };
        let Some((address, port)) = data_end else {
            return self.not_opened(reply, "it names no port", cx);
        };
        if !reply.is_clean {
            return self.not_opened(reply, "its line can be read in two ways", cx);
        }
        if port < FIRST_DATA_PORT {
            return self.not_opened(reply, LOW_PORT, cx);
        }
        let mode = match verb {
            Verb::Pasv => Mode::Pasv,
            Verb::Lpsv => Mode::Lpsv,
            _ => Mode::Epsv,
        };
        // The server's own address, whatever the reply says: what today's clients connect to.
        let is_listed = self.settings.foreign.contains(address);
        let to = if is_listed && address.is_ipv4() == own.is_ipv4() {
            address
        } else {
            own
        };
        let to = SocketAddr::new(to, port);
        let shown = shown_reply(reply);
        self.open(
            mode,
            self.control.client.ip(),
            to,
            self.control.client_side,
            &shown,
            cx,
        );
    }

    fn open(
        &mut self,
        mode: Mode,
        from: IpAddr,
        to: SocketAddr,
        side: Side,
        shown: &[u8],
        cx: &Context<'_>,
    ) -> Option<ExpectedTuple> {
        if !self.may_open {
            return None; // why not was told when it was found out
        }
        let obstacle = if self.is_out_of_step() {
            Some("the connection was taken up in the middle, and is not in step yet")
        } else if self.settings.demand_login && !self.logged_in {
            Some("nobody has logged in yet")
        } else if self.epsv_all && mode != Mode::Epsv {
            Some("after EPSV ALL only EPSV counts")
        } else {
            None
        };
        if let Some(why) = obstacle {
            self.tell_not_opened(shown, why, cx);
            return None;
        }
        let tuple = ExpectedTuple {
            from,
            to: to.ip(),
            port: to.port(),
            side,
            vlan: self.control.vlan,
        };
        if self
            .active
            .as_ref()
            .is_none_or(|active| active.tuple != tuple)
        {
            self.close_port("a newer one replaced it", cx);
        }
        let settings = &self.settings;
        let port_20 = mode.is_active() && settings.source_port_20;
        let fxp = !mode.is_active() && !settings.fxp.is_empty();
        let announced = Announcement {
            session: self.id,
            client: self.control.client.ip(),
            from_server: !mode.is_active(),
            source_port: port_20.then_some(DEFAULT_DATA_PORT),
            third_parties: fxp.then(|| settings.fxp.to_shared()),
            lifetime: settings.lifetime,
        };
        match cx.expectations.insert(tuple, announced, cx.now) {
            Ok(()) => {}
            Err(error) => {
                let why = match error {
                    ExpectError::Full => "too many ports are open in all",
                    ExpectError::ClientFull => "too many ports are open for this client",
                    ExpectError::Taken => "another session waits for the same connection",
                };
                self.tell_not_opened(shown, why, cx);
                return None;
            }
        }
        self.opened += 1;
        self.active = Some(Active { tuple, mode });
        let seconds = self.settings.lifetime.as_secs();
        cx.tell(
            self.id,
            EventKind::PortOpened(PortOpened {
                mode,
                from,
                fxp,
                to,
                seconds,
            }),
        );
        Some(tuple)
    }

    pub(super) fn close_port(&mut self, why: &'static str, cx: &Context<'_>) {
        if let Some(active) = self.active.take()
            && cx.expectations.remove(&active.tuple, self.id)
        {
            self.tell_closed(&active, why, cx);
        }
    }

    pub(super) fn tell_closed(&self, active: &Active, why: &'static str, cx: &Context<'_>) {
        let to = SocketAddr::new(active.tuple.to, active.tuple.port);
        cx.tell(
            self.id,
            EventKind::PortClosed {
                mode: active.mode,
                to,
                why,
            },
        );
    }

    pub(super) fn not_opened(&self, reply: &Reply, why: &'static str, cx: &Context<'_>) {
        self.tell_not_opened(&shown_reply(reply), why, cx);
    }

    pub(super) fn tell_not_opened(&self, shown: &[u8], why: &'static str, cx: &Context<'_>) {
        cx.tell(
            self.id,
            EventKind::NotOpened {
                what: Escaped::new(shown),
                why,
            },
        );
    }
}

fn shown_reply(reply: &Reply) -> Vec<u8> {
    [reply.code.to_string().as_bytes(), b" ", &reply.text].concat()
}
