//! The TLS record layer (RFC 8446 section 5.1, RFC 5246 section 6.2) as far as it stands in clear:
//! where each record begins and ends, what it carries, and the hello at the beginning.

/// Type, version, length.
const HEADER_BYTES: usize = 5;
/// An encrypted record: 2^14 bytes and what TLS 1.2 allows for padding and authentication. TLS 1.3
/// allows less.
const MAX_RECORD_BYTES: u16 = (1 << 14) + 2048;
/// SSL 3.0 and all TLS versions stand under 3; TLS 1.3 writes 3.3, and 3.4 is its number.
const MAJOR_VERSION: u8 = 3;
const MAX_MINOR_VERSION: u8 = 4;

const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=24;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// A hello that is longer is not kept to its end. A server's is some 120 bytes; only its version
/// is read, and only to know what an end of TLS looks like.
const MAX_HELLO_BYTES: usize = 1024;
/// The extension that names the version of TLS 1.3 (RFC 8446 section 4.2.1), and that version.
const SUPPORTED_VERSIONS: u16 = 43;
const TLS_1_3: [u8; 2] = [3, 4];

/// What bytes of one direction meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// Nothing yet; all bytes were taken.
    More,
    /// A record is complete.
    Record,
    /// Where a record had to begin stands a byte that begins none. It was not taken.
    NoRecord,
    /// Something begins as a record does and is none.
    Broken,
}

/// The first handshake message of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// The client's.
    Client,
    /// The server's. TLS 1.3 hides its alerts.
    Server { hides_alerts: bool },
    /// Another message, which can't be the first.
    Other,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Records {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Bytes of the present record that have not come.
    left: u16,
    /// The type of the last complete record.
    last: Option<u8>,
    /// The first handshake message as far as it came, until it is read.
    message: Vec<u8>,
    hello: Option<Hello>,
}

/// Whether these bytes look like the beginning of a record.
pub(super) fn begins_a_record(bytes: &[u8]) -> bool {
    matches!(bytes, [kind, MAJOR_VERSION, ..=MAX_MINOR_VERSION, ..] if RECORD_TYPES.contains(kind))
}

impl Records {
    /// Takes bytes from the front of `bytes`, up to the end of a record at most.
    pub(super) fn feed(&mut self, bytes: &mut &[u8]) -> Fed {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.header_bytes == HEADER_BYTES {
                let taken = usize::from(self.left).min(bytes.len());
                let (body, rest) = bytes.split_at_checked(taken).unwrap_or_default();
                *bytes = rest;
                self.left -= taken as u16;
                self.keep_message(body);
                if self.left > 0 {
                    return Fed::More;
                }
                return self.record_ended();
            }
            if self.header_bytes == 0 && !RECORD_TYPES.contains(&byte) {
                return Fed::NoRecord;
            }
            *bytes = rest;
            if let Some(slot) = self.header.get_mut(self.header_bytes) {
                *slot = byte;
            }
            self.header_bytes += 1;
            if !self.is_sane_so_far() {
                return Fed::Broken;
            }
            if self.header_bytes == HEADER_BYTES {
                let [.., high, low] = self.header;
                self.left = u16::from_be_bytes([high, low]);
                if self.left == 0 {
                    return self.record_ended();
                }
            }
        }
        Fed::More
    }

    /// The first handshake message, once it is complete or too long to be kept.
    pub(super) fn hello(&self) -> Option<Hello> {
        self.hello
    }

    /// Whether the first handshake message may come yet: it takes several records, or an alert came
    /// instead.
    pub(super) fn may_still_greet(&self) -> bool {
        matches!(self.last, Some(HANDSHAKE | ALERT))
    }

    /// Whether the last complete record was an alert.
    pub(super) fn ended_by_alert(&self) -> bool {
        self.last == Some(ALERT)
    }

    fn is_sane_so_far(&self) -> bool {
        let [kind, major, minor, high, low] = self.header;
        let length = u16::from_be_bytes([high, low]);
        match self.header_bytes {
            2 => major == MAJOR_VERSION,
            3 => minor <= MAX_MINOR_VERSION,
            // Only application data may be empty (RFC 8446 section 5.1).
            HEADER_BYTES => length <= MAX_RECORD_BYTES && (length > 0 || kind == APPLICATION_DATA),
            _ => true,
        }
    }

    fn record_ended(&mut self) -> Fed {
        let [kind, ..] = self.header;
        self.last = Some(kind);
        self.header_bytes = 0;
        Fed::Record
    }

    /// Collects the first handshake message, which may take several records.
    fn keep_message(&mut self, body: &[u8]) {
        let [kind, ..] = self.header;
        if self.hello.is_some() || kind != HANDSHAKE {
            return;
        }
        let room = MAX_HELLO_BYTES - self.message.len().min(MAX_HELLO_BYTES);
        self.message.extend(body.iter().take(room));
        let Some((&[kind, a, b, c], rest)) = self.message.split_first_chunk() else {
            return;
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let is_whole = rest.len() >= length || self.message.len() >= MAX_HELLO_BYTES;
        let hello = match kind {
            CLIENT_HELLO => Hello::Client,
            SERVER_HELLO if !is_whole => return,
            SERVER_HELLO => Hello::Server {
                hides_alerts: names_tls_1_3(rest.get(..length).unwrap_or(rest)),
            },
            _ => Hello::Other,
        };
        self.hello = Some(hello);
        self.message = Vec::new();
    }
}

/// Whether a ServerHello (RFC 8446 section 4.1.3) chooses TLS 1.3.
fn names_tls_1_3(hello: &[u8]) -> bool {
    const VERSION_AND_RANDOM_BYTES: usize = 2 + 32;
    const CIPHER_AND_COMPRESSION_BYTES: usize = 2 + 1;
    let extensions = || {
        let (&session_id_bytes, rest) = hello.get(VERSION_AND_RANDOM_BYTES..)?.split_first()?;
        let rest = rest.get(usize::from(session_id_bytes) + CIPHER_AND_COMPRESSION_BYTES..)?;
        let (&length, rest) = rest.split_first_chunk()?;
        rest.get(..usize::from(u16::from_be_bytes(length)))
    };
    let mut left = extensions().unwrap_or_default();
    while let Some((&[a, b, high, low], rest)) = left.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((body, after)) = rest.split_at_checked(length) else {
            return false;
        };
        if u16::from_be_bytes([a, b]) == SUPPORTED_VERSIONS {
            return body == TLS_1_3;
        }
        left = after;
    }
    false
}

#[cfg(test)]
mod tests;
