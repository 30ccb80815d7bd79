//! The dialogue as lines for a person, without passwords. It decides nothing, and does nothing
//! unless somebody asked for lines.

use super::Context;
use super::command::{FIRST_TELNET_COMMAND, secret_behind};
use crate::observe::{Escaped, EventKind, Speaker};

/// Bytes of a line that are kept, as much as an event shows.
const MAX_KEPT_BYTES: usize = 256;

const MASK: &[u8] = b" ****";

/// The lines that are being said.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    client: Vec<u8>,
    server: Vec<u8>,
}

impl Transcript {
    /// One more byte, that the helper is about to read.
    pub(super) fn hear(&mut self, from: Speaker, byte: u8, session: u64, cx: &Context<'_>) {
        if !cx.events.wants_lines() {
            return;
        }
        let line = match from {
            Speaker::Client => &mut self.client,
            Speaker::Server => &mut self.server,
        };
        if byte != b'\n' {
            if line.len() < MAX_KEPT_BYTES {
                line.push(byte);
            }
            return;
        }
        let line = std::mem::take(line);
        let shown = line.strip_suffix(b"\r").unwrap_or(&line);
        let text = match from {
            Speaker::Client => Escaped::new(&masked(shown)),
            Speaker::Server => Escaped::new(shown),
        };
        cx.tell(session, EventKind::Line { from, text });
    }
}

/// The line, with what stands behind a verb that is followed by a secret replaced.
fn masked(line: &[u8]) -> Vec<u8> {
    let secret_at = (0..line.len()).find_map(|at| {
        let (before, here) = line.split_at_checked(at)?;
        let verb_bytes = begins_a_line(before).then(|| secret_verb(here))??;
        Some(at + verb_bytes)
    });
    if let Some(kept) = secret_at.and_then(|at| line.get(..at)) {
        let secret: &[u8] = if kept.len() < line.len() { MASK } else { b"" };
        return [kept, secret].concat();
    }
    // TELNET in the middle of the verb: some readers strip it.
    let stripped: Vec<u8> = line
        .iter()
        .copied()
        .filter(|b| (b' '..0x7f).contains(b))
        .collect();
    let stripped = stripped.trim_ascii_start();
    match secret_verb(stripped).and_then(|bytes| stripped.get(..bytes)) {
        Some(verb) => [verb, MASK].concat(),
        None => line.to_vec(),
    }
}

/// Whether some reader may take what follows for a command: nothing but blanks and TELNET stands
/// before it, or a byte that may be taken for the end of a line.
fn begins_a_line(before: &[u8]) -> bool {
    let is_skipped = |byte: &u8| !byte.is_ascii_graphic();
    match before.last() {
        Some(last) if !(b' '..FIRST_TELNET_COMMAND).contains(last) => true,
        _ => before.iter().all(is_skipped),
    }
}

/// How long the verb is at the beginning of this text, if a secret follows it.
fn secret_verb(text: &[u8]) -> Option<usize> {
    let word = text.iter().take_while(|byte| byte.is_ascii_alphanumeric());
    secret_behind(text.get(..word.count())?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::conntrack::{Expectations, Time};
    use crate::observe::EventQueue;

    fn lines(asked: bool, from: Speaker, bytes: &[u8]) -> Vec<String> {
        let (expectations, events) = (Expectations::default(), EventQueue::new(100));
        let held_bytes = AtomicUsize::new(0);
        if asked {
            events.ask_for_lines();
        }
        let cx = Context {
            expectations: &expectations,
            events: &events,
            held_bytes: &held_bytes,
            now: Time::default(),
        };
        let mut transcript = Transcript::default();
        for &byte in bytes {
            transcript.hear(from, byte, 7, &cx);
        }
        std::iter::from_fn(|| events.pop())
            .map(|stamped| stamped.event.to_string())
            .collect()
    }

    #[test]
    fn lines_are_told_to_those_who_asked() {
        let said = b"220 hello\r\n230-\x1b[2J\n230 ";
        assert_eq!(
            lines(true, Speaker::Server, said),
            ["ftp[7] server: 220 hello", "ftp[7] server: 230-\\u{1b}[2J"]
        );
        assert!(lines(false, Speaker::Server, said).is_empty());
    }

    #[test]
    fn secrets_are_masked_however_they_are_said() {
        for (said, shown) in [
            (&b"PASS hunter2"[..], "PASS ****"),
            (b"pAsS hunter2", "pAsS ****"),
            (b"  PASS hunter2", "  PASS ****"),
            (b"ACCT hunter2", "ACCT ****"),
            (b"PASS\thunter2", "PASS ****"),
            (
                b"\xff\xf4\xff\xf2PASS hunter2",
                "\\xff\\xf4\\xff\\xf2PASS ****",
            ),
            (b"USER x\rPASS hunter2", "USER x\\u{d}PASS ****"),
            (b"USER x\r\0PASS hunter2", "USER x\\u{d}\\u{0}PASS ****"),
            (b"PA\xff\xf1SS hunter2", "PASS ****"),
            (b"PASS", "PASS"),
            (b"PASShunter2", "PASS ****"),
            (b"ADAT dG9rZW4=", "ADAT ****"),
            (b"enc dG9rZW4=", "enc ****"),
            (b"PASV", "PASV"),
            (b"STOR PASS notes", "STOR PASS notes"),
            (b"USER pass", "USER pass"),
        ] {
            let line = [said, b"\r\n"].concat();
            assert_eq!(
                lines(true, Speaker::Client, &line),
                [format!("ftp[7] client: {shown}")]
            );
        }
    }

    #[test]
    fn long_lines_are_cut_and_do_not_grow() {
        let line = [&[b'a'; 100_000][..], b"\r\n", b"NOOP\r\n"].concat();
        let told = lines(true, Speaker::Client, &line);
        assert_eq!(told.len(), 2);
        assert!(told[0].len() < 300);
        assert_eq!(told[1], "ftp[7] client: NOOP");
    }
}
