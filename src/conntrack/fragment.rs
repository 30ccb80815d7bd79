//! Fragments wait until their datagram is whole, are judged as one packet, and leave as they came.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Time;
use crate::observe::DropReason;
use crate::wire::{MAX_VLAN_TAGS, Meta, OwnedFrame, Packet, Side};

/// A datagram of 65,535 bytes over links with the smallest usual MTU, 576 bytes, is 119 fragments.
const MAX_FRAGMENTS_OF_DATAGRAM: usize = 128;

/// Datagrams that wait at once on one side, each an entry of some hundred bytes.
const MAX_DATAGRAMS: usize = 512;

/// Datagrams of one source that wait while half of the places or more are taken, so that one source
/// can't push out all others'.
const MAX_DATAGRAMS_OF_SOURCE: usize = MAX_DATAGRAMS / 8;

/// An IP datagram is no longer than this (RFC 791), so a fragment that ends beyond is the "ping of
/// death".
const MAX_DATAGRAM_BYTES: u32 = 65_535;

/// A first fragment must hold the transport header that decides (RFC 1858 section 4, RFC 7112).
const MIN_FIRST_FRAGMENT_BYTES: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct DatagramKey {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: u8,
    vlan: [u16; MAX_VLAN_TAGS],
}

/// Which bytes of its datagram a fragment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: u32,
    end: u32,
}

struct Piece {
    place: Place,
    data_offset: usize,
    next_header_at: usize,
    frame: OwnedFrame,
}

struct Datagram {
    deadline: Time,
    path: Path,
    pieces: Vec<Piece>,
    total: Option<u32>,
    /// A datagram found bad: what still comes of it is dropped for the same reason (RFC 5722).
    poisoned: Option<DropReason>,
}

/// What all fragments of a datagram have in common: the two hosts' cards and the way between them.
/// One that differs would reach another receiver, or none, and leave its place to a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Path {
    macs: ([u8; 6], [u8; 6]),
    hop_limit: u8,
}

#[derive(Default)]
struct State {
    datagrams: HashMap<DatagramKey, Datagram>,
    /// In the order in which they began; some are gone meanwhile.
    order: VecDeque<DatagramKey>,
    bytes: usize,
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Fragmented {
    /// It waits for the others.
    Held,
    /// It is dropped, and with it those that had waited.
    Dropped {
        /// Why.
        reason: DropReason,
        /// The ones that had been held.
        held: Vec<OwnedFrame>,
    },
    /// The datagram is whole: all its fragments in the order in which they came (the present one is
    /// the last), and the datagram in one frame, to be judged.
    Whole {
        /// As they came.
        fragments: Vec<OwnedFrame>,
        /// One frame.
        datagram: Vec<u8>,
    },
}

/// Fragments that wait. Shared by all workers; fragments are rare. Each side has its own room, so
/// that nobody can take the other side's; when it is full, the oldest datagram makes room.
#[derive(Default)]
pub struct FragmentStore {
    sides: [Mutex<State>; 2],
}

impl FragmentStore {
    /// Takes a fragment. Beside what became of it, returns the ones that had to make room.
    pub fn push(
        &self,
        frame: &[u8],
        meta: &Meta,
        packet: &Packet,
        side: Side,
        settings: &super::Settings,
        now: Time,
    ) -> (Fragmented, Vec<OwnedFrame>) {
        let dropped = |reason| {
            (
                Fragmented::Dropped {
                    reason,
                    held: Vec::new(),
                },
                Vec::new(),
            )
        };
        let Some((ip, fragment)) = packet.ip.as_ref().and_then(|ip| Some((ip, ip.fragment?)))
        else {
            return dropped(DropReason::FragmentBad);
        };
        let key = DatagramKey {
            src: ip.src,
            dst: ip.dst,
            id: fragment.id,
            protocol: match ip.src {
                IpAddr::V4(_) => ip.protocol,
                // Each fragment may name another one: the first one's counts (RFC 8200 section 4.5).
                IpAddr::V6(_) => 0,
            },
            vlan: packet.ether.vlan_ids(),
        };
        let path = Path {
            macs: (packet.ether.src, packet.ether.dst),
            hop_limit: ip.hop_limit,
        };
        let bytes = ip.datagram.end.saturating_sub(fragment.data_offset);
        let place = Place::new(fragment.offset_bytes, bytes);
        // RFC 8200 section 4.5: all headers, up to that of the transport, are in the first fragment.
        let is_cut = fragment.offset_bytes == 0 && !ip.has_whole_chain(frame);
        if let Err(reason) = place.check(fragment.more, is_cut) {
            return (self.side(side).refuse(&key, place, reason), Vec::new());
        }
        let piece = Piece {
            place,
            data_offset: fragment.data_offset,
            next_header_at: fragment.next_header_at,
            frame: OwnedFrame::copy_of(frame, meta),
        };
        let mut state = self.side(side);
        let mut evicted = Vec::new();
        let limit_bytes = settings.fragment_bytes / 2;
        if state.is_greedy(&key) {
            return dropped(DropReason::FragmentLimit);
        }
        if !state.make_room(&key, piece.frame.frame().len(), limit_bytes, &mut evicted) {
            return (dropped(DropReason::FragmentLimit).0, evicted);
        }
        let outcome = state.push(key, path, piece, fragment.more, now + settings.fragment);
        (outcome, evicted)
    }

    /// Fragments that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        let waiting = |state: &State| {
            state
                .datagrams
                .values()
                .map(|d| d.pieces.len())
                .sum::<usize>()
        };
        Side::BOTH
            .iter()
            .map(|&side| waiting(&self.side(side)))
            .sum()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out the fragments whose datagrams did not become whole in time.
    pub fn sweep(&self, now: Time) -> Vec<OwnedFrame> {
        let mut over = Vec::new();
        for side in Side::BOTH {
            self.side(side).sweep(now, &mut over);
        }
        over
    }

    fn side(&self, side: Side) -> MutexGuard<'_, State> {
        let [inside, outside] = &self.sides;
        let state = match side {
            Side::Inside => inside,
            Side::Outside => outside,
        };
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the source of a new datagram has too many that wait.
    fn is_greedy(&self, key: &DatagramKey) -> bool {
        if self.datagrams.len() < MAX_DATAGRAMS / 2 || self.datagrams.contains_key(key) {
            return false;
        }
        let source = source(key.src);
        let own = self
            .datagrams
            .keys()
            .filter(|k| self::source(k.src) == source);
        own.count() >= MAX_DATAGRAMS_OF_SOURCE
    }

    /// Room for one more fragment; the oldest datagrams go for it.
    fn make_room(
        &mut self,
        key: &DatagramKey,
        bytes: usize,
        limit_bytes: usize,
        evicted: &mut Vec<OwnedFrame>,
    ) -> bool {
        while self.bytes + bytes > limit_bytes
            || (self.datagrams.len() >= MAX_DATAGRAMS && !self.datagrams.contains_key(key))
        {
            let Some(oldest) = self.order.pop_front() else {
                return false;
            };
            if let Some(datagram) = self.datagrams.remove(&oldest) {
                let frames = datagram.pieces.into_iter().map(|piece| piece.frame);
                evicted.extend(frames.inspect(|frame| self.bytes -= frame.frame().len()));
            }
        }
        true
    }

    /// A fragment that can't be right. It is never held; but what it overlaps is no better
    /// (RFC 3128, RFC 5722). Where nothing waits, nothing is remembered: its receiver never sees it.
    fn refuse(&mut self, key: &DatagramKey, place: Place, reason: DropReason) -> Fragmented {
        let datagram = self.datagrams.get_mut(key);
        match datagram.filter(|datagram| datagram.is_overlapped_by(place)) {
            Some(datagram) => {
                let reason = DropReason::FragmentOverlap;
                let held = datagram.poison(reason, &mut self.bytes);
                Fragmented::Dropped { reason, held }
            }
            None => Fragmented::Dropped {
                reason,
                held: Vec::new(),
            },
        }
    }

    fn sweep(&mut self, now: Time, over: &mut Vec<OwnedFrame>) {
        let bytes = &mut self.bytes;
        self.datagrams.retain(|_, datagram| {
            let stays = datagram.deadline > now;
            if !stays {
                let frames = datagram.pieces.drain(..).map(|piece| piece.frame);
                over.extend(frames.inspect(|frame| *bytes -= frame.frame().len()));
            }
            stays
        });
    }

    fn push(
        &mut self,
        key: DatagramKey,
        path: Path,
        piece: Piece,
        more: bool,
        deadline: Time,
    ) -> Fragmented {
        let bytes = piece.frame.frame().len();
        if !self.datagrams.contains_key(&key) {
            if self.order.len() >= 4 * MAX_DATAGRAMS {
                self.order.retain(|key| self.datagrams.contains_key(key));
            }
            self.order.push_back(key);
        }
        let datagram = self.datagrams.entry(key).or_insert_with(|| Datagram {
            deadline,
            path,
            pieces: Vec::new(),
            total: None,
            poisoned: None,
        });
        if datagram.path != path {
            datagram.poisoned.get_or_insert(DropReason::FragmentBad);
        }
        match datagram.push(piece, more) {
            // Networks duplicate: that is no attack (RFC 8200 section 4.5).
            Err(reason @ DropReason::FragmentDuplicate) => Fragmented::Dropped {
                reason,
                held: Vec::new(),
            },
            Err(reason) => {
                let held = datagram.poison(reason, &mut self.bytes);
                Fragmented::Dropped { reason, held }
            }
            Ok(()) if datagram.is_whole() => {
                let datagram = self.datagrams.remove(&key);
                let pieces = datagram.map(|d| d.pieces).unwrap_or_default();
                let whole = assemble(&pieces);
                self.bytes += bytes;
                let fragments: Vec<_> = pieces.into_iter().map(|piece| piece.frame).collect();
                self.bytes -= fragments
                    .iter()
                    .map(|frame| frame.frame().len())
                    .sum::<usize>();
                match whole {
                    Some(datagram) => Fragmented::Whole {
                        fragments,
                        datagram,
                    },
                    None => {
                        let mut held = fragments;
                        held.pop();
                        Fragmented::Dropped {
                            reason: DropReason::FragmentBad,
                            held,
                        }
                    }
                }
            }
            Ok(()) => {
                self.bytes += bytes;
                Fragmented::Held
            }
        }
    }
}

/// Who has one address of an IPv6 /64 has all of them.
fn source(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

impl Place {
    fn new(offset: u32, bytes: usize) -> Place {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let end = offset.saturating_add(bytes);
        Place { offset, end }
    }

    fn bytes(self) -> u32 {
        self.end - self.offset
    }

    fn overlaps(self, other: Place) -> bool {
        self.offset.max(other.offset) < self.end.min(other.end)
    }

    /// Whether a fragment can be there. `is_cut`: it is the first one, and not all headers are in it.
    fn check(self, more: bool, is_cut: bool) -> Result<(), DropReason> {
        let bytes = self.bytes();
        if is_cut {
            return Err(DropReason::FragmentTiny);
        }
        if bytes == 0 || self.end > MAX_DATAGRAM_BYTES || (more && !bytes.is_multiple_of(8)) {
            return Err(DropReason::FragmentBad);
        }
        // RFC 1858: nothing may begin inside the header that the first fragment must hold.
        if (self.offset == 0 && more && bytes < MIN_FIRST_FRAGMENT_BYTES)
            || (1..MIN_FIRST_FRAGMENT_BYTES).contains(&self.offset)
        {
            return Err(DropReason::FragmentTiny);
        }
        Ok(())
    }
}

impl Piece {
    fn is_same(&self, other: &Piece) -> bool {
        self.place == other.place && self.data() == other.data()
    }

    fn data(&self) -> &[u8] {
        let len = self.place.bytes() as usize;
        self.frame
            .frame()
            .get(self.data_offset..self.data_offset + len)
            .unwrap_or_default()
    }
}

impl Datagram {
    /// Found bad. Returns what had waited.
    fn poison(&mut self, reason: DropReason, bytes: &mut usize) -> Vec<OwnedFrame> {
        self.poisoned = Some(reason);
        let held: Vec<_> = self.pieces.drain(..).map(|piece| piece.frame).collect();
        *bytes -= held.iter().map(|frame| frame.frame().len()).sum::<usize>();
        held
    }

    fn push(&mut self, piece: Piece, more: bool) -> Result<(), DropReason> {
        if let Some(reason) = self.poisoned {
            return Err(reason);
        }
        if self.pieces.iter().any(|p| p.is_same(&piece)) {
            return Err(DropReason::FragmentDuplicate);
        }
        if self.is_overlapped_by(piece.place) {
            return Err(DropReason::FragmentOverlap);
        }
        if !more && self.total.replace(piece.place.end).is_some() {
            return Err(DropReason::FragmentOverlap);
        }
        self.pieces.push(piece);
        if self
            .total
            .is_some_and(|total| self.pieces.iter().any(|p| p.place.end > total))
        {
            return Err(DropReason::FragmentBad).inspect_err(|_| {
                // The piece just pushed is the caller's frame, not a held one.
                self.pieces.pop();
            });
        }
        if self.pieces.len() > MAX_FRAGMENTS_OF_DATAGRAM {
            self.pieces.pop();
            return Err(DropReason::FragmentLimit);
        }
        Ok(())
    }

    /// Pieces never overlap, so they are whole when their lengths add up.
    fn is_whole(&self) -> bool {
        let sum: u32 = self.pieces.iter().map(|p| p.place.bytes()).sum();
        self.total == Some(sum)
    }

    fn is_overlapped_by(&self, place: Place) -> bool {
        self.pieces.iter().any(|p| p.place.overlaps(place))
    }
}

/// The frame that the sender would have sent over a link with room: the first fragment's headers,
/// without its fragment header, and all data.
fn assemble(pieces: &[Piece]) -> Option<Vec<u8>> {
    let mut sorted: Vec<&Piece> = pieces.iter().collect();
    sorted.sort_by_key(|piece| piece.place.offset);
    let first = *sorted.first()?;
    let frame = first.frame.frame();
    let data_bytes: usize = sorted.iter().map(|piece| piece.data().len()).sum();
    let packet = crate::wire::parse(frame).ok()?;
    let ip = packet.ip?;
    let at = ip.datagram.start;
    let mut whole;
    match ip.src {
        IpAddr::V4(_) => {
            let header = first.data_offset - at;
            whole = frame.get(..first.data_offset)?.to_vec();
            let total = u16::try_from(header + data_bytes).ok()?;
            whole
                .get_mut(at + 2..at + 4)?
                .copy_from_slice(&total.to_be_bytes());
            whole.get_mut(at + 6..at + 8)?.fill(0);
            whole.get_mut(at + 10..at + 12)?.fill(0);
            let sum = !crate::wire::checksum::fold(crate::wire::checksum::sum(whole.get(at..)?));
            whole
                .get_mut(at + 10..at + 12)?
                .copy_from_slice(&sum.to_be_bytes());
        }
        IpAddr::V6(_) => {
            const FRAGMENT_HEADER_BYTES: usize = 8;
            let header_end = first.data_offset - FRAGMENT_HEADER_BYTES;
            whole = frame.get(..header_end)?.to_vec();
            *whole.get_mut(first.next_header_at)? = *frame.get(header_end)?;
            let length = u16::try_from(header_end - at - 40 + data_bytes).ok()?;
            whole
                .get_mut(at + 4..at + 6)?
                .copy_from_slice(&length.to_be_bytes());
        }
    }
    for piece in sorted {
        whole.extend_from_slice(piece.data());
    }
    Some(whole)
}

impl std::fmt::Debug for FragmentStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FragmentStore({} fragments)", self.len())
    }
}
