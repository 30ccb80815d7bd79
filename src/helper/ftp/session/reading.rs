//! Bytes that have come in order, one by one: what belongs to no line, to TLS, or to a command or a
//! reply; and which of them must not reach the server.

use std::ops::Range;

use super::{Overwrites, Pending, Phase, Session, of};
use crate::conntrack::Direction;
use crate::helper::ftp::command::{self, Verb};
use crate::helper::ftp::{Context, Refusal, reply, tls};
use crate::observe::Speaker;

impl Session {
    /// How many of these bytes belong to a line whose beginning was not seen.
    fn unread(&mut self, direction: Direction, bytes: &[u8]) -> usize {
        let is_out_of_step = of(&mut self.out_of_step, direction);
        if !*is_out_of_step {
            return 0;
        }
        if tls::begins_a_record(bytes) {
            // It went TLS before anybody looked.
            self.stop_reading();
            return bytes.len();
        }
        let line_end = bytes.iter().position(|&byte| byte == b'\n');
        *is_out_of_step = line_end.is_none();
        line_end.map_or(bytes.len(), |at| at + 1)
    }

    pub(super) fn client_bytes(&mut self, bytes: &[u8], cx: &Context<'_>) -> Overwrites {
        let mut refused = Overwrites::new();
        let mut line_start = self.unread(Direction::Original, bytes);
        let rest = bytes.get(line_start..).unwrap_or_default();
        line_start += self.tls_bytes(Direction::Original, rest, cx);
        for (at, &byte) in bytes.iter().enumerate().skip(line_start) {
            if self.phase == Phase::Banner {
                self.give_up("the client spoke before the server's greeting", cx);
            }
            self.transcript.hear(Speaker::Client, byte, self.id, cx);
            match self.commands.feed(byte) {
                command::Fed::More => {}
                command::Fed::Refuse(refusal) if self.settings.refusal == Refusal::Ignore => {
                    if byte == b'\n' {
                        self.expect_answer(Pending::of(Verb::Other), cx);
                    }
                    self.ignore(&refusal, cx);
                }
                command::Fed::Refused if self.settings.refusal == Refusal::Ignore => {}
                command::Fed::Refuse(refusal) if self.settings.refusal == Refusal::Reset => {
                    self.refuse(refusal, cx);
                    self.reset(cx);
                    return Overwrites::new();
                }
                command::Fed::Refuse(refusal) => {
                    // What of the line is still in hand goes too, its end only if nothing else is.
                    if !fill(&mut refused, bytes, line_start..at + 1) {
                        refused.push(at..at + 1);
                        self.commands.goes_on_refused();
                    } else if byte == b'\n' {
                        self.expect_answer(Pending::of(Verb::Other), cx);
                    }
                    self.refuse(refusal, cx);
                }
                command::Fed::Refused => {
                    fill(&mut refused, bytes, at..at + 1);
                }
                command::Fed::Line(command) => self.command(command, cx),
                command::Fed::RefusedLine => self.expect_answer(Pending::of(Verb::Other), cx),
            }
            if byte == b'\n' {
                line_start = at + 1;
            }
        }
        refused
    }

    /// Nothing of this connection passes from now on.
    pub(super) fn reset(&mut self, cx: &Context<'_>) {
        self.shut("a command was refused by a reset", cx);
        self.may_open = false;
        self.phase = Phase::Reset;
    }

    pub(super) fn server_bytes(&mut self, bytes: &[u8], cx: &Context<'_>) {
        let mut at = self.unread(Direction::Reply, bytes);
        at += self.tls_bytes(Direction::Reply, bytes.get(at..).unwrap_or_default(), cx);
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            self.transcript.hear(Speaker::Server, byte, self.id, cx);
            match self.replies.feed(byte) {
                reply::Fed::More => {}
                reply::Fed::Reply(reply) => self.reply(reply, cx),
                reply::Fed::NotAReply if self.phase == Phase::Banner => self.no_greeting(cx),
                reply::Fed::NotAReply => {}
                reply::Fed::Enclosed(reply) => self.enclosed(&reply, cx),
            }
            if self.phase == Phase::Blind {
                return;
            }
            at += self.tls_bytes(Direction::Reply, bytes.get(at..).unwrap_or_default(), cx);
        }
    }
}

/// Marks bytes, but no line end: the server must still see where the line ends. Returns whether
/// there was any.
fn fill(refused: &mut Overwrites, bytes: &[u8], range: Range<usize>) -> bool {
    let is_text = |at: &usize| !matches!(bytes.get(*at), Some(b'\r' | b'\n'));
    let has_text = range.clone().any(|at| is_text(&at));
    for at in range.filter(is_text) {
        match refused.last_mut() {
            Some(last) if last.end == at => last.end = at + 1,
            _ => refused.push(at..at + 1),
        }
    }
    has_text
}
