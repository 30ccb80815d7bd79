//! Capture files, read packet by packet: pcap and pcapng, whatever their byte order and clock.
//!
//! Unlike [`PcapPort`](super::pcap::PcapPort), which is one side of a lotus that runs, this reads
//! what people send in: cut packets, several interfaces, frames that are not Ethernet. What it
//! hands out are Ethernet frames (`link` makes them).
//!
//! It has a reader of its own because pcap-file 2 refuses packets that are longer than the snap
//! length, does not know the clock of a pcapng interface, and gives up on options that end early.

mod link;
mod pcapng;

use std::fmt;
use std::io::{self, Read};

pub use link::LinkType;

use self::pcapng::Sections;

/// Longest packet that a capture may hold: libpcap's own limit (MAXIMUM_SNAPLEN).
const MAX_PACKET_BYTES: usize = 262_144;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MICRO: u64 = 1_000;

/// A capture that is being read.
#[derive(Debug)]
pub struct Capture<R> {
    source: Source<R>,
    format: Format,
    packets: u64,
    /// When the latest packet was captured.
    latest_ns: u64,
}

/// One packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When it was captured, in nanoseconds since 1970.
    pub at_ns: u64,
    /// An Ethernet frame, as much of it as was captured.
    pub frame: Vec<u8>,
    /// How long the frame was on its wire.
    pub wire_bytes: usize,
}

impl Captured {
    /// Whether all of the frame was captured.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.frame.len() >= self.wire_bytes
    }
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    PcapNg(Sections),
}

/// The header of a pcap file.
#[derive(Debug)]
struct Pcap {
    order: ByteOrder,
    has_nanos: bool,
    link: LinkType,
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Big,
    Little,
}

/// Why a capture can't be read (on).
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Something else.
    #[error("it is no capture: {0}")]
    NotACapture(String),
    /// Frames of a kind that lotus can't turn into Ethernet.
    #[error(
        "it holds frames of {0}, which lotus can't read: it reads Ethernet, raw IP, Linux cooked \
         (\"any\") and loopback captures"
    )]
    Link(UnknownLink),
    /// It ends too early.
    #[error("the file ends in the middle of {what} (after {packets} whole packets): it was cut")]
    Cut {
        /// What is not whole.
        what: &'static str,
        /// Packets before.
        packets: u64,
    },
    /// It is damaged.
    #[error("the file is damaged at byte {at} (after {packets} packets): {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// Packets before.
        packets: u64,
        /// What is wrong.
        what: String,
    },
    /// The system says so.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
}

/// A link type that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLink(pub u16);

impl<R: Read> Capture<R> {
    /// Reads the head of a capture.
    ///
    /// # Errors
    ///
    /// It is none, or of a kind that is not read.
    pub fn new(reader: R) -> Result<Capture<R>, CaptureError> {
        let mut source = Source { reader, at: 0 };
        let format = match source.bytes(4)? {
            Filled::Nothing => return Err(CaptureError::Empty),
            Filled::Part(bytes) => return Err(not_a_capture(&bytes)),
            Filled::All(bytes) => match <[u8; 4]>::try_from(bytes).unwrap_or_default() {
                [0xa1, 0xb2, 0xc3, 0xd4] => pcap(&mut source, ByteOrder::Big, false)?,
                [0xd4, 0xc3, 0xb2, 0xa1] => pcap(&mut source, ByteOrder::Little, false)?,
                [0xa1, 0xb2, 0x3c, 0x4d] => pcap(&mut source, ByteOrder::Big, true)?,
                [0x4d, 0x3c, 0xb2, 0xa1] => pcap(&mut source, ByteOrder::Little, true)?,
                pcapng::SECTION => Format::PcapNg(Sections::begin(&mut source)?),
                other => return Err(not_a_capture(&other)),
            },
        };
        Ok(Capture {
            source,
            format,
            packets: 0,
            latest_ns: 0,
        })
    }

    /// The next packet, `None` at the end.
    ///
    /// # Errors
    ///
    /// The capture is cut or damaged here. There is nothing behind it that could be trusted.
    pub fn next_packet(&mut self) -> Result<Option<Captured>, CaptureError> {
        let record = match &mut self.format {
            Format::Pcap(header) => header.next(&mut self.source, self.packets)?,
            Format::PcapNg(sections) => sections.next(&mut self.source, self.packets)?,
        };
        let Some(record) = record else {
            return Ok(None);
        };
        self.packets += 1;
        self.latest_ns = record.at_ns.unwrap_or(self.latest_ns);
        Ok(Some(record.link.ethernet(
            record.bytes,
            record.wire_bytes,
            self.latest_ns,
        )))
    }

    /// How many bytes of the file were read.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.source.at
    }
}

/// What kind of file it is, in a few words.
impl<R> fmt::Display for Capture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.format {
            Format::Pcap(Pcap { link, .. }) => write!(f, "pcap, {link}"),
            Format::PcapNg(_) => f.write_str("pcapng"),
        }
    }
}

/// A packet as the file has it.
struct Record {
    /// `None`: the file does not say.
    at_ns: Option<u64>,
    link: LinkType,
    bytes: Vec<u8>,
    wire_bytes: usize,
}

fn pcap<R: Read>(
    source: &mut Source<R>,
    order: ByteOrder,
    has_nanos: bool,
) -> Result<Format, CaptureError> {
    let head = source.whole(20, "its header", 0)?;
    let major = order.u16(&head, 0);
    if major != 2 {
        let what = format!("pcap of version {major}, not 2");
        return Err(CaptureError::NotACapture(what));
    }
    // The upper half says how long the frame check sequence is, which is never looked at.
    let link = order.u32(&head, 16) as u16;
    let link = LinkType::of(link).map_err(CaptureError::Link)?;
    Ok(Format::Pcap(Pcap {
        order,
        has_nanos,
        link,
    }))
}

impl Pcap {
    fn next<R: Read>(
        &self,
        source: &mut Source<R>,
        packets: u64,
    ) -> Result<Option<Record>, CaptureError> {
        let at = source.at;
        let Some(head) = source.whole_or_end(16, "a packet's header", packets)? else {
            return Ok(None);
        };
        let [seconds, fraction, captured, original] =
            [0, 4, 8, 12].map(|at| self.order.u32(&head, at));
        let captured = packet_bytes(captured, at, packets)?;
        let bytes = source.whole(captured, "a packet", packets)?;
        let unit_ns = if self.has_nanos { 1 } else { NANOS_PER_MICRO };
        Ok(Some(Record {
            at_ns: Some(u64::from(seconds) * NANOS_PER_SECOND + u64::from(fraction) * unit_ns),
            link: self.link,
            wire_bytes: captured.max(original as usize),
            bytes,
        }))
    }
}

fn packet_bytes(length: u32, at: u64, packets: u64) -> Result<usize, CaptureError> {
    match usize::try_from(length) {
        Ok(bytes) if bytes <= MAX_PACKET_BYTES => Ok(bytes),
        _ => Err(CaptureError::Damaged {
            at,
            packets,
            what: format!("a packet of {length} bytes, more than any capture has"),
        }),
    }
}

/// Says what the file looks like instead.
fn not_a_capture(first: &[u8]) -> CaptureError {
    let what = match first {
        [0x1f, 0x8b, ..] => "it is compressed; run gunzip first".to_owned(),
        [0x28, 0xb5, 0x2f, 0xfd] => "it is compressed; run unzstd first".to_owned(),
        [0xfd, b'7', b'z', b'X'] => "it is compressed; run unxz first".to_owned(),
        b"PK\x03\x04" => "it is a zip archive; unpack it first".to_owned(),
        [0xa1, 0xb2, 0xcd, 0x34] | [0x34, 0xcd, 0xb2, 0xa1] => {
            "a variant of pcap that nobody writes any more; editcap -F pcap makes a usual one"
                .to_owned()
        }
        b"snoo" => "a snoop file; editcap -F pcap makes a pcap of it".to_owned(),
        _ => "neither pcap nor pcapng begins like this".to_owned(),
    };
    CaptureError::NotACapture(what)
}

/// What a request for bytes brought.
enum Filled {
    All(Vec<u8>),
    Part(Vec<u8>),
    Nothing,
}

/// A reader that knows where it is.
#[derive(Debug)]
struct Source<R> {
    reader: R,
    at: u64,
}

impl<R: Read> Source<R> {
    fn bytes(&mut self, wanted: usize) -> io::Result<Filled> {
        let mut bytes = Vec::new();
        // The file may promise more than it has: memory grows with what is really there.
        (&mut self.reader)
            .take(wanted as u64)
            .read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        Ok(match bytes.len() {
            all if all == wanted => Filled::All(bytes),
            0 => Filled::Nothing,
            _ => Filled::Part(bytes),
        })
    }

    fn whole_or_end(
        &mut self,
        wanted: usize,
        what: &'static str,
        packets: u64,
    ) -> Result<Option<Vec<u8>>, CaptureError> {
        match self.bytes(wanted)? {
            Filled::All(bytes) => Ok(Some(bytes)),
            Filled::Nothing => Ok(None),
            Filled::Part(_) => Err(CaptureError::Cut { what, packets }),
        }
    }

    fn whole(
        &mut self,
        wanted: usize,
        what: &'static str,
        packets: u64,
    ) -> Result<Vec<u8>, CaptureError> {
        self.whole_or_end(wanted, what, packets)?
            .ok_or(CaptureError::Cut { what, packets })
    }
}

impl ByteOrder {
    /// The number that stands there, 0 where nothing does.
    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
        let bytes = bytes.copied().unwrap_or_default();
        match self {
            ByteOrder::Big => u16::from_be_bytes(bytes),
            ByteOrder::Little => u16::from_le_bytes(bytes),
        }
    }

    /// The same for four bytes.
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
        let bytes = bytes.copied().unwrap_or_default();
        match self {
            ByteOrder::Big => u32::from_be_bytes(bytes),
            ByteOrder::Little => u32::from_le_bytes(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
