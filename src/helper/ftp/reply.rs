//! Server bytes -> replies (RFC 959 section 4.2).

/// Bytes of a line that are kept: no address in a reply stands further behind.
const MAX_KEPT_BYTES: usize = 512;

/// A complete reply, of one line or many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// The text of its last line.
    pub(super) text: Vec<u8>,
    /// The last line ended as RFC 959 says and was not too long.
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
}

/// Reads one direction byte by byte.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    line: Vec<u8>,
    cut: bool,
    /// The code of a multi-line reply that has not ended: "227-" is not "227 ".
    block: Option<[u8; 3]>,
}

impl ReplyReader {
    pub(super) fn feed(&mut self, byte: u8) -> Fed {
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
        let (line, has_cr) = match line.strip_suffix(b"\r") {
            Some(line) => (line, true),
            None => (line.as_slice(), false),
        };
        let is_clean = has_cr && !cut && !line.iter().any(|&b| b == 0xff || b == b'\r');
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
            (Some(_), _) => return Fed::More,
            (None, Some(b' ') | None) => {}
            (None, Some(b'-')) => {
                self.block = Some(code);
                return Fed::More;
            }
            (None, Some(_)) => return Fed::NotAReply,
        }
        let code = code
            .iter()
            .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        let text = line.get(4..).unwrap_or_default().to_vec();
        Fed::Reply(Reply {
            code,
            text,
            is_clean,
        })
    }
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
            replies(b"220 hello\r\n230-Welcome\r\n 227 (1,2,3,4,5,6)\r\n227 x\r\n230-y\r\n230 ok\r\n200\r\n"),
            [reply(220, "hello"), reply(230, "ok"), reply(200, "")]
        );
    }

    #[test]
    fn an_unclosed_block_swallows_everything() {
        assert_eq!(replies(b"230-hello\r\n227 (1,2,3,4,5,6)\r\n226 ok\r\n"), []);
    }

    #[test]
    fn what_is_not_a_reply() {
        assert_eq!(replies(b"SSH-2.0-x\r\n"), [Fed::NotAReply]);
        assert_eq!(replies(b"227x\r\n"), [Fed::NotAReply]);
        assert_eq!(replies(b"\r\n"), [Fed::NotAReply]);
    }

    #[test]
    fn a_line_that_ends_oddly_is_not_clean() {
        let clean = |bytes: &[u8]| match replies(bytes).pop() {
            Some(Fed::Reply(reply)) => reply.is_clean,
            other => panic!("{other:?}"),
        };
        assert!(clean(b"227 (1,2,3,4,5,6)\r\n"));
        assert!(!clean(b"227 (1,2,3,4,5,6)\n"));
        assert!(!clean(b"227 (1,2,3,4\r,5,6)\r\n"));
        assert!(!clean(
            &[b"227 ".as_slice(), &[b'a'; 600], b"\r\n"].concat()
        ));
    }
}
