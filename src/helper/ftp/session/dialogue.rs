//! The state machine: commands, and the replies that belong to them, in order.

use super::{Pending, Phase, Session};
use crate::helper::ftp::Context;
use crate::helper::ftp::command::{Command, Refusal, Verb};
use crate::helper::ftp::reply::Reply;
use crate::helper::ftp::stream::Stream;
use crate::observe::{Escaped, EventKind};

/// Commands that may wait for their answers. Clients pipeline a few; a session that is further
/// ahead is no longer matched.
const MAX_PENDING: usize = 64;

/// The server closes the control connection (RFC 959 section 5.4): may come as any answer, or none.
const SERVICE_ENDS: u16 = 421;

const DOUBTFUL_234: &str = "a line that some readers take for the agreement to TLS";
const PROTECTED: &str = "the session is protected by other means than TLS (RFC 2228)";
const UNASKED: &str = "no command asked for it";
const ANOTHERS_TURN: &str = "it answers another command";
const MAY_BE_A_REST: &str = "the line before it can be read in two ways, and this be its rest";

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
            if command.may_be_a_rest {
                self.tell_not_opened(&command.shown, MAY_BE_A_REST, cx);
                pending.announced = None;
            } else if command.is_ambiguous || !self.pending.is_empty() || self.login_unseen {
                // Two readers, or a server that reads on before it answers, could disagree.
            } else {
                pending.opened = self.open_active(command.verb, to, &command.shown, cx);
                pending.announced = None;
            }
        }
        let argument = command.argument.trim_ascii();
        let is_all = argument.eq_ignore_ascii_case(b"ALL");
        pending.is_epsv_all = command.verb == Verb::Epsv && is_all;
        pending.shown = command.shown;
        self.expect_answer(pending, cx);
    }

    /// Answers are counted only while they can matter.
    pub(super) fn expect_answer(&mut self, pending: Pending, cx: &Context<'_>) {
        if self.may_open
            && let Some((given_up, code)) = self.pending.sent(pending)
        {
            self.not_answered(&given_up, Some(code), cx);
        }
        // Refused lines count, too: they cost memory as the others do.
        if self.pending.len() > MAX_PENDING {
            self.give_up("too many commands wait for an answer", cx);
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
            return self.pending.begun(); // preliminary: the command's answer follows
        }
        if reply.code == 234 && self.wants_tls {
            // Text that a server sends back may look like a line of its own to some readers. While
            // it is not sure that both ends speak TLS, what is clear is read, to be refused.
            return if reply.is_clean {
                self.went_tls(cx)
            } else {
                self.opens_no_more(DOUBTFUL_234, cx)
            };
        }
        if matches!(reply.code, 235 | 631..=633) {
            return self.opens_no_more(PROTECTED, cx);
        }
        if !self.may_open {
            return;
        }
        let had_asked = !self.pending.is_empty();
        let answered = self.pending.answer(reply.code);
        for skipped in &answered.skipped {
            self.not_answered(skipped, None, cx);
        }
        if let Some(pending) = answered.command {
            self.answered(&pending, &reply, cx);
            self.audit_answered(&pending, Some(reply.code), cx);
        } else if reply.is_passive() {
            let why = if had_asked { ANOTHERS_TURN } else { UNASKED };
            self.not_opened(&reply, why, cx);
        }
        if reply.code == SERVICE_ENDS {
            self.close_port("the server ended the session (421)", cx);
            self.audit_over(cx);
            self.pending.clear();
            self.may_open = false;
        }
    }

    fn answered(&mut self, pending: &Pending, reply: &Reply, cx: &Context<'_>) {
        let accepted = reply.code < 300;
        match (pending.verb, reply.code) {
            (Verb::User | Verb::Pass | Verb::Acct, 230 | 232) => {
                self.logged_in = true;
                self.login_unseen = false;
                cx.tell(
                    self.id,
                    EventKind::LoggedIn {
                        user: self.user.clone(),
                    },
                );
            }
            // Whoever was logged in is so no more (RFC 959 section 4.1.1).
            (Verb::User, 331 | 332) => self.logged_in = false,
            (Verb::Auth, _) => self.wants_tls = false,
            (Verb::Rein, _) if accepted => {
                self.logged_in = false;
                self.close_port("the session was reinitialised", cx);
            }
            (Verb::Epsv, _) if accepted && pending.is_epsv_all => self.epsv_all = true,
            (Verb::Pasv | Verb::Epsv, 227 | 229) | (Verb::Lpsv, 228) => {
                self.open_passive(pending.verb, reply, cx);
            }
            (verb, _) if verb.is_port_command() => self.active_answered(pending, accepted, cx),
            _ if reply.is_passive() => self.not_opened(reply, ANOTHERS_TURN, cx),
            _ => {}
        }
    }

    /// A command whose answer never came, or was none that it can have.
    fn not_answered(&mut self, pending: &Pending, code: Option<u16>, cx: &Context<'_>) {
        self.active_answered(pending, false, cx);
        self.audit_answered(pending, code, cx);
    }

    /// A line like an answer to PASV within a reply that began otherwise and has not ended: some
    /// clients tolerate that servers forget the end.
    pub(super) fn enclosed(&mut self, reply: &Reply, cx: &Context<'_>) {
        if self.may_open && self.phase == Phase::Reading {
            self.not_opened(reply, "it stands inside a reply that has not ended", cx);
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
