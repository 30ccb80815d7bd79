//! The state machine: commands, and the replies that belong to them, in order.

use std::net::SocketAddr;

use super::{Phase, Session};
use crate::conntrack::ExpectedTuple;
use crate::helper::ftp::Context;
use crate::helper::ftp::command::{Command, Refusal, Verb};
use crate::helper::ftp::reply::Reply;
use crate::helper::ftp::stream::Stream;
use crate::observe::{Escaped, EventKind};

/// Commands that may wait for their answers. Clients pipeline a few; a session that is further
/// ahead is no longer matched.
const MAX_PENDING: usize = 64;

/// A command that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) verb: Verb,
    argument: Vec<u8>,
    pub(super) announced: Option<SocketAddr>,
    /// The expectation that the command opened at once.
    pub(super) opened: Option<ExpectedTuple>,
}

impl Session {
    pub(super) fn command(&mut self, command: Command, cx: &Context<'_>) {
        if !std::mem::replace(&mut self.first_command_seen, true) && command.verb == Verb::Unknown {
            return self.give_up("the client's first line is no FTP command", cx);
        }
        self.wants_tls |= command.verb == Verb::Auth;
        if command.verb == Verb::User {
            self.user = Escaped::new(&command.argument);
        }
        let mut pending = Pending::of(command.verb);
        pending.announced = command.announced;
        if let Some(to) = command.announced {
            if command.is_ambiguous || !self.pending.is_empty() || self.login_unseen {
                // Two readers, or a server that reads on before it answers, could disagree.
            } else {
                pending.opened = self.open_active(command.verb, to, &command.shown, cx);
                pending.announced = None;
            }
        }
        pending.argument = command.argument;
        self.expect_answer(pending);
        if self.pending.len() > MAX_PENDING {
            self.give_up("too many commands wait for an answer", cx);
        }
    }

    /// Answers are counted only while they can matter.
    pub(super) fn expect_answer(&mut self, pending: Pending) {
        if self.may_open {
            self.pending.push_back(pending);
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, cx: &Context<'_>) {
        self.refused += 1;
        self.first_command_seen = true;
        let what = Escaped::new(&refusal.line);
        cx.tell(
            self.id,
            EventKind::Refused {
                what,
                why: refusal.why,
            },
        );
    }

    /// A command that would be refused passes, by a setting.
    pub(super) fn ignore(&mut self, refusal: &Refusal, cx: &Context<'_>) {
        self.first_command_seen = true;
        self.tell_not_opened(&refusal.line, refusal.why, cx);
    }

    pub(super) fn reply(&mut self, reply: Reply, cx: &Context<'_>) {
        if self.phase == Phase::Banner {
            match reply.code {
                220 => self.phase = Phase::Reading,
                120 | 400..=599 => {}
                _ => self.no_greeting(cx),
            }
            return;
        }
        if reply.code < 200 {
            return; // preliminary: the command's answer follows
        }
        if reply.code == 234 && self.wants_tls {
            return self.went_tls(cx);
        }
        if matches!(reply.code, 235 | 631..=633) {
            return self.went_protected(cx);
        }
        if !self.may_open {
            return;
        }
        self.resynchronise(&reply);
        let Some(pending) = self.pending.pop_front() else {
            if matches!(reply.code, 227 | 229) {
                self.not_opened(&reply, "no command asked for it", cx);
            }
            return;
        };
        let accepted = reply.code < 300;
        match pending.verb {
            Verb::User | Verb::Pass | Verb::Acct if matches!(reply.code, 230 | 232) => {
                self.logged_in = true;
                self.login_unseen = false;
                cx.tell(
                    self.id,
                    EventKind::LoggedIn {
                        user: self.user.clone(),
                    },
                );
            }
            Verb::Rein if accepted => {
                self.logged_in = false;
                self.close_port("the session was reinitialised", cx);
            }
            Verb::Epsv if accepted && pending.argument.eq_ignore_ascii_case(b"ALL") => {
                self.epsv_all = true;
            }
            Verb::Pasv | Verb::Epsv if matches!(reply.code, 227 | 229) => {
                self.open_passive(pending.verb, &reply, cx);
            }
            Verb::Port | Verb::Eprt => self.active_answered(&pending, accepted, cx),
            _ if matches!(reply.code, 227 | 229) => {
                self.not_opened(&reply, "it answers another command", cx);
            }
            _ => {}
        }
    }

    /// 225 answers ABOR and nothing else (RFC 959 section 5.4); a server that had no transfer to
    /// abort gives one answer for the transfer command and for ABOR.
    fn resynchronise(&mut self, reply: &Reply) {
        let is_abort = |pending: &Pending| pending.verb == Verb::Abor;
        if reply.code == 225
            && let Some(at) = self.pending.iter().position(is_abort)
        {
            self.pending.drain(..at);
        }
    }

    /// Opens nothing any more. What the client says is still read, to be refused.
    pub(super) fn give_up(&mut self, why: &'static str, cx: &Context<'_>) {
        if std::mem::replace(&mut self.may_open, false) {
            self.close_port(why, cx);
            self.pending.clear();
            cx.tell(self.id, EventKind::NotFtp { why });
        }
    }

    /// The server speaks something else: there is nothing to read.
    pub(super) fn no_greeting(&mut self, cx: &Context<'_>) {
        self.give_up("the server's first line is no FTP greeting", cx);
        self.stop_reading();
    }

    pub(super) fn stop_reading(&mut self) {
        self.phase = Phase::Blind;
        self.may_open = false;
        self.pending.clear();
        self.streams.iter_mut().for_each(Stream::stop_reading);
    }
}

impl Pending {
    pub(super) fn of(verb: Verb) -> Pending {
        Pending {
            verb,
            argument: Vec::new(),
            announced: None,
            opened: None,
        }
    }
}
