//! pcapng: blocks in sections, interfaces with link types and clocks of their own.

use std::io::Read;

use super::{
    ByteOrder, CaptureError, LinkType, MAX_PACKET_BYTES, NANOS_PER_SECOND, Record, Source,
    UnknownLink, packet_bytes,
};

/// The type of the block that begins a section, and with it a file: the same in either byte order.
pub(super) const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const INTERFACE: u32 = 1;
/// Obsolete, but there are files.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// A block begins with its type and length, and ends with its length again.
const HEAD_BYTES: u32 = 8;
const TRAILER_BYTES: u32 = 4;
/// The longest packet and a generous share of options.
const MAX_BLOCK_BYTES: u32 = 16 << 20;
/// As many as the obsolete packet block can name.
const MAX_INTERFACES: usize = 65_536;

const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

/// The present section.
#[derive(Debug)]
pub(super) struct Sections {
    order: ByteOrder,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Result<LinkType, UnknownLink>,
    snap_bytes: usize,
    clock: Clock,
}

/// What a time stamp counts, and from when.
#[derive(Clone, Copy, Debug)]
struct Clock {
    units_per_second: u128,
    offset_seconds: i64,
}

impl Sections {
    /// Behind the type of the first block.
    pub(super) fn begin<R: Read>(source: &mut Source<R>) -> Result<Sections, CaptureError> {
        let order = section(source, 0)?;
        Ok(Sections {
            order,
            interfaces: Vec::new(),
        })
    }

    /// The next packet, past all other blocks.
    pub(super) fn next<R: Read>(
        &mut self,
        source: &mut Source<R>,
        packets: u64,
    ) -> Result<Option<Record>, CaptureError> {
        const WHAT: &str = "a block";
        loop {
            let at = source.at;
            let Some(kind) = source.whole_or_end(4, WHAT, packets)? else {
                return Ok(None);
            };
            if kind == SECTION {
                self.order = section(source, packets)?;
                self.interfaces.clear();
                continue;
            }
            let kind = self.order.u32(&kind, 0);
            let length = source.whole(4, WHAT, packets)?;
            let length = self.order.u32(&length, 0);
            let mut block = Block {
                order: self.order,
                body: Vec::new(),
                at,
                packets,
            };
            block.read(source, length, HEAD_BYTES)?;
            match kind {
                INTERFACE if self.interfaces.len() >= MAX_INTERFACES => {
                    return Err(block.damaged("more interfaces than any machine has"));
                }
                INTERFACE => self.interfaces.push(block.interface()),
                ENHANCED_PACKET => return block.enhanced(&self.interfaces).map(Some),
                SIMPLE_PACKET => return block.simple(&self.interfaces).map(Some),
                PACKET => return block.obsolete(&self.interfaces).map(Some),
                _ => {}
            }
        }
    }
}

/// Reads the rest of a section header behind its type.
fn section<R: Read>(source: &mut Source<R>, packets: u64) -> Result<ByteOrder, CaptureError> {
    const WHAT: &str = "a section header";
    let at = source.at.saturating_sub(4);
    let head = source.whole(8, WHAT, packets)?;
    let order = match head.get(4..) {
        Some([0x1a, 0x2b, 0x3c, 0x4d]) => ByteOrder::Big,
        Some([0x4d, 0x3c, 0x2b, 0x1a]) => ByteOrder::Little,
        _ => {
            return Err(CaptureError::Damaged {
                at,
                packets,
                what: "a section header without byte order".to_owned(),
            });
        }
    };
    let mut rest = Block {
        order,
        body: Vec::new(),
        at,
        packets,
    };
    // The byte order mark was read already.
    rest.read(source, order.u32(&head, 0), HEAD_BYTES + 4)?;
    let major = order.u16(&rest.body, 0);
    if major != 1 {
        let what = format!("pcapng of version {major}, not 1");
        return Err(CaptureError::NotACapture(what));
    }
    Ok(order)
}

/// A block and where it stands.
struct Block {
    order: ByteOrder,
    body: Vec<u8>,
    at: u64,
    packets: u64,
}

impl Block {
    /// Reads the rest of a block of this length, of which this much was read.
    fn read<R: Read>(
        &mut self,
        source: &mut Source<R>,
        length: u32,
        read: u32,
    ) -> Result<(), CaptureError> {
        let is_sane =
            length.is_multiple_of(4) && (read + TRAILER_BYTES..=MAX_BLOCK_BYTES).contains(&length);
        if !is_sane {
            return Err(self.damaged(&format!("a block of {length} bytes")));
        }
        let wanted = (length - read) as usize;
        let mut body = source.whole(wanted, "a block", self.packets)?;
        let trailer = body.split_off(wanted - TRAILER_BYTES as usize);
        if self.order.u32(&trailer, 0) != length {
            return Err(self.damaged("a block that ends with another length than it begins with"));
        }
        self.body = body;
        Ok(())
    }

    fn interface(&self) -> Interface {
        let mut clock = Clock {
            units_per_second: 1_000_000,
            offset_seconds: 0,
        };
        let mut at = 8;
        while at + 4 <= self.body.len() {
            let (code, length) = (
                self.order.u16(&self.body, at),
                usize::from(self.order.u16(&self.body, at + 2)),
            );
            let value = self.body.get(at + 4..at + 4 + length);
            match (code, value) {
                (0, _) | (_, None) => break,
                (OPTION_RESOLUTION, Some(&[resolution])) => {
                    clock.units_per_second = units_per_second(resolution);
                }
                (OPTION_OFFSET, Some(value)) if value.len() == 8 => {
                    let [first, second] = [0, 4].map(|at| u64::from(self.order.u32(value, at)));
                    let (high, low) = match self.order {
                        ByteOrder::Big => (first, second),
                        ByteOrder::Little => (second, first),
                    };
                    clock.offset_seconds = (high << 32 | low).cast_signed();
                }
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        Interface {
            link: LinkType::of(self.order.u16(&self.body, 0)),
            snap_bytes: match self.order.u32(&self.body, 4) as usize {
                0 => MAX_PACKET_BYTES,
                bytes => bytes,
            },
            clock,
        }
    }

    fn enhanced(&self, interfaces: &[Interface]) -> Result<Record, CaptureError> {
        let interface = self.find(interfaces, self.u32(0))?;
        self.stamped(interface)
    }

    fn obsolete(&self, interfaces: &[Interface]) -> Result<Record, CaptureError> {
        let interface = self.find(interfaces, self.order.u16(&self.body, 0).into())?;
        self.stamped(interface)
    }

    /// A block with a time stamp: the same in both kinds, behind the interface's number.
    fn stamped(&self, interface: Interface) -> Result<Record, CaptureError> {
        let [high, low, captured, original] = [4, 8, 12, 16].map(|at| self.u32(at));
        let captured = packet_bytes(captured, self.at, self.packets)?;
        let stamp = u64::from(high) << 32 | u64::from(low);
        self.record(interface, 20, captured, original, Some(stamp))
    }

    fn simple(&self, interfaces: &[Interface]) -> Result<Record, CaptureError> {
        const HEAD_BYTES: usize = 4;
        let interface = self.find(interfaces, 0)?;
        let original = self.u32(0);
        let captured = (original as usize)
            .min(interface.snap_bytes)
            .min(self.body.len().saturating_sub(HEAD_BYTES))
            .min(MAX_PACKET_BYTES);
        self.record(interface, HEAD_BYTES, captured, original, None)
    }

    fn record(
        &self,
        interface: Interface,
        at: usize,
        captured: usize,
        original: u32,
        stamp: Option<u64>,
    ) -> Result<Record, CaptureError> {
        let bytes = self
            .body
            .get(at..at + captured)
            .ok_or_else(|| self.damaged("a packet that is longer than its block"))?;
        Ok(Record {
            at_ns: stamp.map(|stamp| interface.clock.nanos(stamp)),
            link: interface.link.map_err(CaptureError::Link)?,
            bytes: bytes.to_vec(),
            wire_bytes: captured.max(original as usize),
        })
    }

    fn find(&self, interfaces: &[Interface], number: u32) -> Result<Interface, CaptureError> {
        usize::try_from(number)
            .ok()
            .and_then(|number| interfaces.get(number).copied())
            .ok_or_else(|| self.damaged("a packet of an interface that was not described"))
    }

    fn u32(&self, at: usize) -> u32 {
        self.order.u32(&self.body, at)
    }

    fn damaged(&self, what: &str) -> CaptureError {
        CaptureError::Damaged {
            at: self.at,
            packets: self.packets,
            what: what.to_owned(),
        }
    }
}

/// The option `if_tsresol`: a negative power of 10, or with the top bit set of 2.
fn units_per_second(resolution: u8) -> u128 {
    /// Finer than anything that ticks; keeps the arithmetic in bounds.
    const MAX_EXPONENT: u32 = 30;
    let exponent = u32::from(resolution & 0x7f).min(MAX_EXPONENT);
    match resolution & 0x80 {
        0 => 10_u128.pow(exponent),
        _ => 1 << exponent,
    }
}

impl Clock {
    /// Nanoseconds since 1970.
    fn nanos(&self, stamp: u64) -> u64 {
        let since = u128::from(stamp) * u128::from(NANOS_PER_SECOND) / self.units_per_second;
        let offset = i128::from(self.offset_seconds) * i128::from(NANOS_PER_SECOND);
        let nanos = since.cast_signed().saturating_add(offset).max(0);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}
