//! Server bytes -> replies (RFC 959 section 4.2).

/// Bytes of a line that are kept: no address in a reply stands further behind.
const MAX_KEPT_BYTES: usize = 512;

/// A complete reply, of one line or many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// The text of its last line.
    pub(super) text: Vec<u8>,
    /// All readers take its last line as the same one: it begins and ends as RFC 959 says, or as
    /// every line of this server, and was not too long.
    pub(super) is_clean: bool,
}

/// What a byte meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// Nothing yet.
    More,
    /// A reply is complete.
    Reply(Reply),
    /// A line that is not part of any reply.
    NotAReply,
    /// A line that would name a data port, but stands within a reply of another code that has not
    /// ended.
    Enclosed(Reply),
}

/// How lines ended so far. A client that a server with bare LFs answers must take an LF for the end
/// of a line, or it would not have got beyond the greeting; so a server that never sent anything
/// else has one reading. If a server ends its lines with CRLF, an LF is a part of the line to some
/// clients (a name with an LF in it, sent back in an answer), and what follows it is a line only to
/// the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ends {
    /// No line yet.
    #[default]
    Nothing,
    /// All with bare LF.
    AllLf,
    /// The last one with CRLF.
    CrLf,
    /// The last one with a bare LF, another one with CRLF.
    Mixed,
}

/// Reads one direction byte by byte.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    line: Vec<u8>,
    cut: bool,
    last_is_cr: bool,
    ends: Ends,
    /// The code of a multi-line reply that has not ended: "227-" is not "227 ".
    block: Option<[u8; 3]>,
}

impl ReplyReader {
    pub(super) fn feed(&mut self, byte: u8) -> Fed {
        let has_cr = std::mem::replace(&mut self.last_is_cr, byte == b'\r');
        if byte != b'\n' {
            if self.line.len() < MAX_KEPT_BYTES {
                self.line.push(byte);
            } else {
                self.cut = true;
            }
            return Fed::More;
        }
        let line = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.cut);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let before = self.ends;
        self.ends = before.then(has_cr);
        let is_a_line = matches!(
            (before, self.ends),
            (Ends::Nothing | Ends::CrLf, Ends::CrLf) | (Ends::Nothing | Ends::AllLf, Ends::AllLf)
        );
        let is_clean = is_a_line && !cut && !line.iter().any(|&b| matches!(b, 0xff | b'\r' | 0));
        let code = line
            .first_chunk::<3>()
            .filter(|code| code.iter().all(u8::is_ascii_digit));
        let (code, separator) = match (code, line.get(3)) {
            (Some(code), separator) => (*code, separator.copied()),
            (None, _) if self.block.is_some() => return Fed::More,
            (None, _) => return Fed::NotAReply,
        };
        match (self.block, separator) {
            (Some(open), Some(b' ') | None) if open == code => self.block = None,
            (Some(open), Some(b' ')) if open != code && is_passive(code) => {
                return Fed::Enclosed(Reply::new(code, line, is_clean));
            }
            (Some(_), _) => return Fed::More,
            (None, Some(b' ') | None) => {}
            (None, Some(b'-')) => {
                self.block = Some(code);
                return Fed::More;
            }
            (None, Some(_)) => return Fed::NotAReply,
        }
        Fed::Reply(Reply::new(code, line, is_clean))
    }
}

impl Reply {
    fn new(code: [u8; 3], line: &[u8], is_clean: bool) -> Reply {
        let digit = |sum, digit: &u8| sum * 10 + u16::from(digit - b'0');
        Reply {
            code: code.iter().fold(0, digit),
            text: line.get(4..).unwrap_or_default().to_vec(),
            is_clean,
        }
    }

    /// Whether it names a data port, going by its code.
    pub(super) fn is_passive(&self) -> bool {
        matches!(self.code, 227..=229)
    }
}

impl Ends {
    /// After a line that ended with CRLF or with a bare LF.
    fn then(self, has_cr: bool) -> Ends {
        match (self, has_cr) {
            (_, true) => Ends::CrLf,
            (Ends::Nothing | Ends::AllLf, false) => Ends::AllLf,
            (Ends::CrLf | Ends::Mixed, false) => Ends::Mixed,
        }
    }
}

fn is_passive(code: [u8; 3]) -> bool {
    matches!(&code, b"227" | b"228" | b"229")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(bytes: &[u8]) -> Vec<Fed> {
        let mut reader = ReplyReader::default();
        bytes
            .iter()
            .map(|&b| reader.feed(b))
            .filter(|fed| *fed != Fed::More)
            .collect()
    }

    fn reply(code: u16, text: &str) -> Fed {
        Fed::Reply(Reply {
            code,
            text: text.into(),
            is_clean: true,
        })
    }

    #[test]
    fn one_line_and_many() {
        assert_eq!(
            replies(b"220 hello\r\n230-Welcome\r\n 227 (1,2,3,4,5,6)\r\n226 x\r\n230-y\r\n230 ok\r\n200\r\n"),
            [reply(220, "hello"), reply(230, "ok"), reply(200, "")]
        );
    }

    #[test]
    fn an_unclosed_block_swallows_everything() {
        let enclosed = |text: &str| match reply(227, text) {
            Fed::Reply(reply) => Fed::Enclosed(reply),
            other => other,
        };
        assert_eq!(
            replies(b"230-hello\r\n227 (1,2,3,4,5,6)\r\n226 ok\r\n"),
            [enclosed("(1,2,3,4,5,6)")]
        );
        assert_eq!(replies(b"230-hello\r\n227-x\r\n 227 y\r\n226 ok\r\n"), []);
    }

    #[test]
    fn the_last_line_of_a_block_is_the_reply() {
        let expected = [reply(227, "(127,0,0,1,154,21)")];
        let bytes = b"227-listen socket created\r\n227 (127,0,0,1,154,21)\r\n";
        assert_eq!(replies(bytes), expected);
        let bytes = b"227-Entering (127,0,0,1,154,21)\r\n227-x\r\n(1,2,3,4,5,6)\r\n227 End\r\n";
        assert_eq!(replies(bytes), [reply(227, "End")]);
    }

    #[test]
    fn what_is_not_a_reply() {
        assert_eq!(replies(b"SSH-2.0-x\r\n"), [Fed::NotAReply]);
        assert_eq!(replies(b"227x\r\n"), [Fed::NotAReply]);
        assert_eq!(replies(b"\r\n"), [Fed::NotAReply]);
    }

    #[test]
    fn a_line_that_can_be_read_two_ways_is_not_clean() {
        let clean = |bytes: &[u8]| match replies(bytes).pop() {
            Some(Fed::Reply(reply)) => reply.is_clean,
            other => panic!("{other:?}"),
        };
        assert!(clean(b"227 (1,2,3,4,5,6)\r\n"));
        assert!(!clean(b"227 (1,2,3,4\r,5,6)\r\n"));
        assert!(!clean(b"227 (1,2,3,4\0,5,6)\r\n"));
        assert!(!clean(b"227 (1,2,3,4\xff\xf1,5,6)\r\n"));
        assert!(!clean(
            &[b"227 ".as_slice(), &[b'a'; 600], b"\r\n"].concat()
        ));
    }

    #[test]
    fn a_bare_lf_ends_a_line_for_all_readers_only_if_the_server_never_wrote_anything_else() {
        let clean = |bytes: &[u8]| match replies(bytes).pop() {
            Some(Fed::Reply(reply)) => reply.is_clean,
            other => panic!("{other:?}"),
        };
        assert!(clean(b"220 hello\n230-a\nb\n230 in\n227 (1,2,3,4,5,6)\n"));
        assert!(!clean(b"220 hello\r\n227 (1,2,3,4,5,6)\n"), "its end");
        assert!(
            !clean(b"220 hello\r\n257 a\n227 (1,2,3,4,5,6)\r\n"),
            "its begin"
        );
        assert!(!clean(b"220 a\n227 (1,2,3,4,5,6)\r\n"));
        assert!(!clean(b"220 a\r\n200 b\n200 c\n227 (1,2,3,4,5,6)\n"));
        assert!(
            clean(b"220 a\n200 b\r\n227 (1,2,3,4,5,6)\r\n"),
            "in step again"
        );
        let long = [
            b"550 ".as_slice(),
            &[b'a'; 9000],
            b"\r\n227 (1,2,3,4,5,6)\r\n",
        ]
        .concat();
        assert!(clean(&long), "the end of a line that is not kept whole");
    }
}
