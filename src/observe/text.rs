use std::fmt::{self, Write as _};

/// Longest text from the wire that is kept.
pub(super) const MAX_TEXT_BYTES: usize = 256;

/// Text that came from the wire, safe to print: control characters (C0, C1, ESC), bidirectional
/// overrides and bytes that are not UTF-8 are escaped, and it is cut at 256 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Escaped(String);

impl Escaped {
    /// Escapes and cuts.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Escaped {
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                if is_harmful(c) {
                    let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
                } else {
                    text.push(c);
                }
            }
            for byte in chunk.invalid() {
                let _ = write!(text, "\\x{byte:02x}");
            }
            if text.len() > MAX_TEXT_BYTES {
                break;
            }
        }
        if text.len() > MAX_TEXT_BYTES {
            text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES - '…'.len_utf8()));
            text.push('…');
        }
        Escaped(text)
    }

    /// The safe text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that act on a terminal or on the order of the text around them, or cannot be seen.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || c == '\\'
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{061c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Escaped, MAX_TEXT_BYTES};

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        let shown = Escaped::new(b"a\x1b[2Jb\xffc\xe2\x80\xaed\xc2\x9be\r\n");
        assert_eq!(
            shown.as_str(),
            "a\\u{1b}[2Jb\\xffc\\u{202e}d\\u{9b}e\\u{d}\\u{a}"
        );
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let shown = Escaped::new("é".repeat(1000).as_bytes());
        assert!(shown.as_str().len() <= MAX_TEXT_BYTES);
        assert!(shown.as_str().ends_with('…'));
    }
}
