//! What is told for the record: each command with its answer, each transfer with its bytes.

use std::net::SocketAddr;

use super::{Pending, Session};
use crate::helper::ftp::Context;
use crate::helper::ftp::command::Verb;
use crate::observe::{Escaped, EventKind, Mode, Transfer};

/// Transfers whose last reply came before their data connection ended. There is one at a time; a
/// server may be quicker than its client's FIN, but not by more than this.
const MAX_ENDING: usize = 4;

/// What the record waits for.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// The newest data connection, if no transfer is known to have used it.
    data: Option<Data>,
    ending: Vec<(Data, Verb, Transfer)>,
}

#[derive(Clone, Copy, Debug)]
struct Data {
    from: SocketAddr,
    to: SocketAddr,
    mode: Option<Mode>,
    /// From who began it, and to him, once it ended.
    bytes: Option<[u64; 2]>,
}

impl Session {
    /// A command was answered, or will not be any more.
    pub(super) fn audit_answered(
        &mut self,
        pending: &Pending,
        code: Option<u16>,
        cx: &Context<'_>,
    ) {
        if pending.shown.is_empty() {
            return; // it was refused, and that was told
        }
        let command = Escaped::new(&pending.shown);
        let event = EventKind::Command {
            command: command.clone(),
            code,
        };
        cx.tell(self.id, event);
        let direction = match pending.verb {
            Verb::Download => "download",
            Verb::Upload => "upload",
            Verb::Listing => "listing",
            _ => return,
        };
        // 225 answers ABOR: there was nothing that went well.
        let ok = matches!(code, Some(200..=224 | 226..=299));
        // A refusal leaves the data connection to the next command.
        let data = if ok || pending.has_begun {
            self.audit.data.take()
        } else {
            None
        };
        let transfer = Transfer {
            command,
            direction,
            mode: data.and_then(|data| data.mode),
            bytes: (!ok && !pending.has_begun).then_some(0),
            ok,
            code,
        };
        match data {
            Some(data) => {
                if self.audit.ending.len() >= MAX_ENDING {
                    let (_, _, oldest) = self.audit.ending.remove(0);
                    cx.tell(self.id, EventKind::Transfer(oldest));
                }
                self.audit.ending.push((data, pending.verb, transfer));
                if let Some(bytes) = data.bytes {
                    self.audit_ended(data.from, data.to, bytes, cx);
                }
            }
            None => cx.tell(self.id, EventKind::Transfer(transfer)),
        }
    }

    pub(super) fn audit_begun(&mut self, from: SocketAddr, to: SocketAddr, mode: Option<Mode>) {
        self.audit.data = Some(Data {
            from,
            to,
            mode,
            bytes: None,
        });
    }

    pub(super) fn audit_ended(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: [u64; 2],
        cx: &Context<'_>,
    ) {
        let is_it = |data: &Data| (data.from, data.to) == (from, to);
        let mut ending = self.audit.ending.iter();
        if let Some(at) = ending.position(|(data, ..)| is_it(data)) {
            let (data, verb, mut transfer) = self.audit.ending.remove(at);
            transfer.bytes = Some(moved(verb, data, bytes, self.control.server));
            cx.tell(self.id, EventKind::Transfer(transfer));
        } else if let Some(data) = self.audit.data.as_mut().filter(|data| is_it(data)) {
            data.bytes = Some(bytes);
        }
    }

    /// The control connection is over: what has no answer gets none.
    pub(super) fn audit_over(&mut self, cx: &Context<'_>) {
        for pending in self.pending.take_begun() {
            self.audit_answered(&pending, None, cx);
        }
        for (_, _, transfer) in std::mem::take(&mut self.audit.ending) {
            cx.tell(self.id, EventKind::Transfer(transfer));
        }
    }
}

/// The bytes of a transfer: what the server sent, or what was sent to it.
fn moved(verb: Verb, data: Data, bytes: [u64; 2], server: SocketAddr) -> u64 {
    let server_began = match data.mode {
        Some(mode) => mode.is_active(),
        None => data.from.ip() == server.ip(),
    };
    let [by_beginner, by_other] = bytes;
    if server_began == (verb == Verb::Upload) {
        by_other
    } else {
        by_beginner
    }
}
