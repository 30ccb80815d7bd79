//! Commands that wait for their answers, and which of them a reply answers.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::conntrack::ExpectedTuple;
use crate::helper::ftp::command::Verb;

/// Commands whose text is kept until they are answered. Clients pipeline a few; of those beyond,
/// only what they are is kept.
const MAX_SHOWN: usize = 16;

/// The longest verb in use is XSHA512.
const MAX_VERB_BYTES: usize = 8;

/// A command that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) verb: Verb,
    /// The line as it may be shown; empty if it was refused.
    pub(super) shown: Vec<u8>,
    /// It is EPSV ALL, which asks for no port.
    pub(super) is_epsv_all: bool,
    pub(super) announced: Option<SocketAddr>,
    /// The expectation that the command opened at once.
    pub(super) opened: Option<ExpectedTuple>,
    /// A preliminary reply said that it began.
    pub(super) has_begun: bool,
    /// A reply came in its turn that cannot be its answer.
    unfit: Option<u16>,
}

/// The commands that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Pending>,
}

/// What a reply answers.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// These, which are no longer waited for, have no answer of their own.
    pub(super) skipped: Vec<Pending>,
    /// The command that it answers.
    pub(super) command: Option<Pending>,
}

impl Pending {
    pub(super) fn of(verb: Verb) -> Pending {
        Pending {
            verb,
            shown: Vec::new(),
            is_epsv_all: false,
            announced: None,
            opened: None,
            has_begun: false,
            unfit: None,
        }
    }

    fn asks_for_port(&self) -> bool {
        self.verb.asks_passive() && !self.is_epsv_all
    }

    /// Whether RFC 959 (section 5.4) lets a reply with this code be its answer. Only the commands
    /// are looked at whose answers matter most, and all errors may answer anything.
    fn can_be_answered_by(&self, code: u16) -> bool {
        match code {
            225 => self.verb == Verb::Abor,
            227..=229 => self.asks_for_port(),
            400.. => true,
            226 | 250 if self.verb.is_transfer() => true,
            _ => !self.verb.is_transfer() && !self.asks_for_port(),
        }
    }
}

impl Queue {
    /// A command was sent. A client that waits for each answer takes any reply for it: the command
    /// before, if it alone waits and got a reply that cannot be its answer, waits no longer.
    /// Returns it with that reply.
    pub(super) fn sent(&mut self, mut pending: Pending) -> Option<(Pending, u16)> {
        let given_up = match self.waiting.front() {
            Some(Pending {
                unfit: Some(code), ..
            }) if self.waiting.len() == 1 => {
                let code = *code;
                self.waiting.pop_front().map(|pending| (pending, code))
            }
            _ => None,
        };
        if self.waiting.len() >= MAX_SHOWN {
            let verb = pending.shown.iter().take_while(|&&byte| byte > b' ');
            let verb = verb.count().min(MAX_VERB_BYTES);
            pending.shown.truncate(verb);
        }
        self.waiting.push_back(pending);
        given_up
    }

    /// Finds what a final reply answers. Replies belong to commands, in order; but a server may say
    /// more than it was asked, or less, and the codes tell where it stands.
    pub(super) fn answer(&mut self, code: u16) -> Answered {
        let mut answered = Answered::default();
        match code {
            225 => self.skip_to(&mut answered, |pending| pending.verb == Verb::Abor),
            227..=229 => {
                if !self.waiting.iter().any(Pending::asks_for_port) {
                    self.is_unfit(code);
                    return answered;
                }
                // ABOR and the transfer that it ended may have had one answer (see below).
                while self.front_is(|pending| pending.verb == Verb::Abor) {
                    answered.skipped.extend(self.waiting.pop_front());
                }
                if !self.front_is(Pending::asks_for_port) {
                    // Another command's turn, to which it cannot be the answer. Those before the one
                    // that asked for a port get none any more: in step again, behind it.
                    self.skip_to(&mut answered, Pending::asks_for_port);
                    answered.skipped.extend(self.waiting.pop_front());
                    return answered;
                }
            }
            _ => {}
        }
        loop {
            let Some(front) = self.waiting.front() else {
                return answered;
            };
            if front.can_be_answered_by(code) {
                answered.command = self.waiting.pop_front();
                return answered;
            }
            // While a transfer goes on, others may be answered: NOOP, STAT. A port command waits for
            // its turn.
            let other = |pending: &Pending| {
                !pending.verb.is_transfer()
                    && !pending.verb.is_port_command()
                    && pending.can_be_answered_by(code)
            };
            if front.has_begun
                && let Some(at) = self.waiting.iter().position(other)
            {
                answered.command = self.waiting.remove(at);
                return answered;
            }
            // One reply too many, it seems; but for a second one there must be another reason.
            if front.unfit.is_none() || self.waiting.len() == 1 {
                self.is_unfit(code);
                return answered;
            }
            answered.skipped.extend(self.waiting.pop_front());
        }
    }

    /// A preliminary reply: the first transfer that waits has begun.
    pub(super) fn begun(&mut self) {
        let mut waiting = self.waiting.iter_mut();
        if let Some(pending) = waiting.find(|pending| pending.verb.is_transfer()) {
            pending.has_begun = true;
        }
    }

    /// Takes out transfers that have begun and have no answer.
    pub(super) fn take_begun(&mut self) -> Vec<Pending> {
        let waiting = std::mem::take(&mut self.waiting);
        let (begun, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|pending| pending.has_begun);
        self.waiting = rest.into();
        begun
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether one command waits, and it is this one.
    pub(super) fn is_just(&self, verb: Verb) -> bool {
        self.waiting.len() == 1 && self.front_is(|pending| pending.verb == verb)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    fn front_is(&self, is: impl Fn(&Pending) -> bool) -> bool {
        self.waiting.front().is_some_and(is)
    }

    fn is_unfit(&mut self, code: u16) {
        if let Some(front) = self.waiting.front_mut() {
            front.unfit = Some(code);
        }
    }

    /// Those before the first such command get no answer any more. 225 answers ABOR and nothing
    /// else (RFC 959 section 5.4); a server that had no transfer to abort gives one answer for the
    /// transfer command and for ABOR.
    fn skip_to(&mut self, answered: &mut Answered, is: impl Fn(&Pending) -> bool) {
        if let Some(at) = self.waiting.iter().position(is) {
            answered.skipped.extend(self.waiting.drain(..at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verb::{Abor, Download, Other, Pasv, Port};

    fn queue(verbs: &[Verb]) -> Queue {
        let mut queue = Queue::default();
        for &verb in verbs {
            assert!(queue.sent(Pending::of(verb)).is_none());
        }
        queue
    }

    /// What each reply answers.
    fn answers(queue: &mut Queue, codes: &[u16]) -> Vec<Option<Verb>> {
        let verb = |&code: &u16| queue.answer(code).command.map(|pending| pending.verb);
        codes.iter().map(verb).collect()
    }

    #[test]
    fn replies_answer_commands_in_order() {
        let mut queue = queue(&[Other, Pasv, Download, Other]);
        let expected = [Some(Other), Some(Pasv), Some(Download), Some(Other), None];
        assert_eq!(answers(&mut queue, &[200, 227, 226, 250, 200]), expected);
    }

    #[test]
    fn a_reply_too_many_answers_nothing_if_it_cannot() {
        let mut queue = queue(&[Pasv]);
        assert_eq!(answers(&mut queue, &[250, 227]), [None, Some(Pasv)]);
    }

    #[test]
    fn a_client_that_took_it_for_the_answer_goes_on_in_step() {
        let mut queue = queue(&[Pasv]);
        assert_eq!(answers(&mut queue, &[250]), [None]);
        let given_up = queue.sent(Pending::of(Other));
        assert!(matches!(given_up, Some((Pending { verb: Pasv, .. }, 250))));
        // The answer to the given up one comes late, and belongs to nobody.
        assert_eq!(answers(&mut queue, &[227, 200]), [None, Some(Other)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_answers_a_port_only_brings_the_queue_in_step_but_answers_nobody_else() {
        let mut stale = queue(&[Other, Pasv, Other]);
        assert_eq!(answers(&mut stale, &[227]), [None]);
        assert_eq!(
            (stale.len(), answers(&mut stale, &[200])),
            (1, vec![Some(Other)])
        );
        let mut unasked = queue(&[Other]);
        assert_eq!(answers(&mut unasked, &[229, 200]), [None, Some(Other)]);
        let mut unasked = queue(&[Abor, Other]);
        let expected = [None, Some(Abor), Some(Other)];
        assert_eq!(answers(&mut unasked, &[227, 226, 200]), expected);
    }

    #[test]
    fn what_answers_abort_answers_nothing_else() {
        let mut unasked = queue(&[Port]);
        assert_eq!(answers(&mut unasked, &[225, 200]), [None, Some(Port)]);
    }

    #[test]
    fn one_answer_for_a_transfer_and_its_abort() {
        let mut one = queue(&[Download, Abor, Pasv]);
        assert_eq!(answers(&mut one, &[225, 227]), [Some(Abor), Some(Pasv)]);
        let mut one = queue(&[Download, Abor, Pasv]);
        assert_eq!(answers(&mut one, &[226, 227]), [Some(Download), Some(Pasv)]);
        let mut two = queue(&[Download, Abor, Pasv]);
        let expected = [Some(Download), Some(Abor), Some(Pasv)];
        assert_eq!(answers(&mut two, &[426, 226, 227]), expected);
    }

    #[test]
    fn others_may_be_answered_while_a_transfer_goes_on() {
        let mut during = queue(&[Download, Other, Other]);
        during.begun();
        let expected = [Some(Other), Some(Download), Some(Other)];
        assert_eq!(answers(&mut during, &[200, 226, 213]), expected);
        // Not before it began, and no port command.
        let in_turn = |last| [None, Some(Download), Some(last)];
        let mut before = queue(&[Download, Other]);
        assert_eq!(answers(&mut before, &[200, 226, 200]), in_turn(Other));
        let mut port = queue(&[Download, Port]);
        port.begun();
        assert_eq!(answers(&mut port, &[200, 226, 200]), in_turn(Port));
    }

    #[test]
    fn a_command_that_never_gets_a_fit_answer_does_not_block_the_queue() {
        let mut queue = queue(&[Pasv, Other, Other]);
        assert_eq!(answers(&mut queue, &[200, 200]), [None, Some(Other)]);
        assert_eq!(answers(&mut queue, &[200]), [Some(Other)]);
    }

    #[test]
    fn few_texts_are_kept() {
        let mut queue = Queue::default();
        for _ in 0..60 {
            let mut pending = Pending::of(Other);
            pending.shown = [b"RETR ".as_slice(), &[b'x'; 251]].concat();
            queue.sent(pending);
        }
        let bytes: usize = queue.waiting.iter().map(|p| p.shown.len()).sum();
        assert_eq!(bytes, MAX_SHOWN * 256 + 44 * "RETR".len());
    }
}
