//! TCP as two ends speak it, and as they should not.

use std::net::{Ipv4Addr, SocketAddr};

use lotus::wire::TcpFlags;

use crate::frame::Segment;
use crate::intended;
use crate::rng::Rng;
use crate::values::WINDOWS;

const FIN: u8 = TcpFlags::FIN;
const SYN: u8 = TcpFlags::SYN;
const RST: u8 = TcpFlags::RST;
const PSH: u8 = TcpFlags::PSH;
const ACK: u8 = TcpFlags::ACK;
const URG: u8 = TcpFlags::URG;
/// ECN's two flags (RFC 3168).
const ECE_CWR: u8 = 0xc0;

/// A connection: what both ends sent so far. Nothing is known of what arrived.
pub struct Talk {
    /// Next sequence numbers, of who began and of the other one.
    next: [u32; 2],
    phase: Phase,
    /// The newest segment with data of each end, to be sent again.
    newest: [Option<(u32, usize)>; 2],
    /// A RST was sent. What a SYN is then, the two sides see differently.
    is_reset: bool,
    /// A FIN was sent, and the other end may go on. What a SYN is then, the two sides see differently.
    is_ending: bool,
    /// Which end sent the newest segment.
    spoke_last: usize,
}

/// A segment of a connection.
pub struct Step {
    /// It goes from who began.
    pub forth: bool,
    pub segment: Segment,
    pub words: &'static str,
    /// The intended difference that it may show.
    pub defect: Option<&'static str>,
    /// The conversation ends with it.
    pub is_last: bool,
}

impl Step {
    fn new(end: usize, segment: Segment, words: &'static str) -> Step {
        let may_be_early = end == 1 && segment.flags & (SYN | RST) == 0;
        Step {
            forth: end == 0,
            segment,
            words,
            defect: may_be_early.then_some(intended::EARLY_DATA),
            is_last: false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Nothing,
    Syn,
    SynAck,
    Open,
    /// This end has sent its FIN, and the connection is closed as it should be.
    Fin(usize),
    /// The other one has sent its FIN, too.
    LastAck(usize),
}

impl Talk {
    pub fn new(rng: &mut Rng) -> Talk {
        Talk {
            next: [rng.next() as u32, rng.next() as u32],
            phase: Phase::Nothing,
            newest: [None; 2],
            is_reset: false,
            is_ending: false,
            spoke_last: 0,
        }
    }

    /// What comes next; its ends are filled in by the caller.
    pub fn step(&mut self, rng: &mut Rng) -> Step {
        let step = self.draw(rng);
        self.spoke_last = usize::from(!step.forth);
        step
    }

    fn draw(&mut self, rng: &mut Rng) -> Step {
        let end = rng.below(2) as usize;
        match self.phase {
            Phase::Nothing => {
                self.phase = Phase::Syn;
                let syn = self.handshake(rng, 0, SYN);
                Step::new(0, syn, "SYN")
            }
            Phase::Syn => {
                self.phase = Phase::SynAck;
                let syn = self.handshake(rng, 1, SYN | ACK);
                Step::new(1, syn, "SYN-ACK")
            }
            Phase::SynAck => {
                self.phase = Phase::Open;
                let words = "ACK of the handshake";
                Step::new(0, self.segment(rng, 0, ACK, 0), words)
            }
            // Before, the kernel makes guesses of its own about what does not fit.
            Phase::Open if rng.percent(10) => self.stray(rng, end),
            Phase::Open => self.open(rng, end),
            Phase::Fin(first) => {
                self.phase = Phase::LastAck(first);
                Step::new(1 - first, self.fin(rng, 1 - first), "the other FIN")
            }
            // Its ports are used anew.
            Phase::LastAck(first) => {
                self.phase = Phase::Nothing;
                Step::new(first, self.segment(rng, first, ACK, 0), "the last ACK")
            }
        }
    }

    fn fin(&mut self, rng: &mut Rng, end: usize) -> Segment {
        let fin = self.segment(rng, end, FIN | ACK, 0);
        self.next[end] = self.next[end].wrapping_add(1);
        fin
    }

    fn open(&mut self, rng: &mut Rng, end: usize) -> Step {
        match rng.below(100) {
            0..=7 => {
                self.is_ending = true;
                Step::new(end, self.fin(rng, end), "FIN")
            }
            8..=10 => {
                self.is_reset = true;
                Step::new(end, self.segment(rng, end, RST | ACK, 0), "RST, exact")
            }
            11..=12 if !self.is_reset && !self.is_ending => {
                self.phase = Phase::Nothing;
                let words = "ACK, and then its ports are used anew";
                Step::new(end, self.segment(rng, end, ACK, 0), words)
            }
            13..=14 if !self.is_reset && !self.is_ending => {
                self.phase = Phase::Fin(end);
                Step::new(end, self.fin(rng, end), "FIN, and all that belongs to it")
            }
            15..=20 => match self.newest[end] {
                Some((seq, bytes)) => {
                    let segment = self.segment(rng, end, ACK | PSH, bytes);
                    Step::new(end, Segment { seq, ..segment }, "data again")
                }
                None => Step::new(end, self.segment(rng, end, ACK, 0), "ACK"),
            },
            // When all is acknowledged, as TCP does. Behind data of its own the kernel takes the
            // acknowledgment of that data for invalid.
            21..=23 if self.spoke_last != end => {
                let mut segment = self.segment(rng, end, ACK, 0);
                segment.seq = segment.seq.wrapping_sub(1);
                Step::new(end, segment, "keep-alive")
            }
            // Whether SYNs permitted it or not.
            24..=26 => {
                let mut segment = self.segment(rng, end, ACK, 0);
                // The last ten bytes came, the ten before did not. Or some that were never sent.
                let edge = segment.ack.wrapping_add(*rng.pick(&[0, 0, 5000]));
                segment.ack = segment.ack.wrapping_sub(20);
                let block = [edge.wrapping_sub(10), edge].map(u32::to_be_bytes).concat();
                segment.options = [&[1, 1, 5, 10][..], &block].concat();
                Step::new(end, segment, "ACK with SACK")
            }
            27..=29 => {
                let flags = ACK | *rng.pick(&[URG, ECE_CWR, PSH | URG]);
                Step::new(end, self.data(rng, end, flags), "data with odd flags")
            }
            _ => Step::new(end, self.data(rng, end, ACK | PSH), "data"),
        }
    }

    /// A segment that does not fit.
    fn stray(&mut self, rng: &mut Rng, end: usize) -> Step {
        // Two windows are less, with the scale that is drawn.
        const FAR: u32 = 100_000_000;
        let data = self.segment(rng, end, ACK, 4);
        let bare = self.segment(rng, end, ACK, 0);
        let (seq, ack) = (data.seq, data.ack);
        let number = rng.next() as u32;
        // Each side has its own idea of what a doubtful reset did: nothing comes after it.
        let reset = |seq, words| {
            let segment = Segment {
                flags: RST,
                seq,
                ..bare.clone()
            };
            Step {
                defect: Some(intended::INEXACT_RST),
                is_last: true,
                ..Step::new(end, segment, words)
            }
        };
        let old = |segment, words| Step {
            defect: Some(intended::OLD_SEGMENT),
            ..Step::new(end, segment, words)
        };
        match rng.below(11) {
            0 => Step::new(
                end,
                Segment {
                    seq: seq.wrapping_add(FAR),
                    ..data
                },
                "data far ahead",
            ),
            1 => old(
                Segment {
                    seq: seq.wrapping_sub(FAR),
                    ..data
                },
                "data from long ago",
            ),
            2 => {
                let unsent = Segment {
                    ack: ack.wrapping_add(5000),
                    ..data
                };
                Step::new(end, unsent, "ACK of what was never sent")
            }
            3 => old(
                Segment {
                    ack: ack.wrapping_sub(FAR),
                    ..data
                },
                "ACK from long ago",
            ),
            4 => reset(seq.wrapping_add(FAR), "RST far ahead"),
            5 => reset(seq.wrapping_sub(FAR), "RST from long ago"),
            6 => reset(seq.wrapping_add(10), "RST a little ahead"),
            // Of who began it; from the other one it is an intended difference. Nothing comes after it:
            // if rules have dropped all before it, it begins a flow, in which nothing fits.
            7 if !self.is_reset && !self.is_ending => {
                let syn = self.syn(rng, 0, SYN);
                Step {
                    is_last: true,
                    ..Step::new(0, Segment { seq: number, ..syn }, "SYN in between")
                }
            }
            8 => {
                let syn = self.syn(rng, 1, SYN | ACK);
                Step::new(1, Segment { seq: number, ..syn }, "SYN-ACK in between")
            }
            9 => {
                let fin = Segment {
                    flags: FIN | ACK,
                    seq: seq.wrapping_add(FAR),
                    ..bare
                };
                Step::new(end, fin, "FIN far ahead")
            }
            _ => Step::new(end, data, "data that counts for nothing"),
        }
    }

    /// A SYN or SYN-ACK with a new number.
    fn handshake(&mut self, rng: &mut Rng, end: usize, flags: u8) -> Segment {
        self.next[end] = rng.next() as u32;
        self.is_ending = false;
        self.newest[end] = None;
        let syn = self.syn(rng, end, flags);
        self.next[end] = self.next[end].wrapping_add(1);
        syn
    }

    fn data(&mut self, rng: &mut Rng, end: usize, flags: u8) -> Segment {
        let bytes = rng.below(60) as usize;
        let segment = self.segment(rng, end, flags, bytes);
        if bytes > 0 {
            self.newest[end] = Some((segment.seq, bytes));
        }
        self.next[end] = self.next[end].wrapping_add(bytes as u32);
        segment
    }

    fn syn(&self, rng: &mut Rng, end: usize, flags: u8) -> Segment {
        let mut segment = self.segment(rng, end, flags, 0);
        segment.window = *rng.pick(&[1000, 65535]);
        match rng.below(3) {
            0 => segment.options = vec![2, 4, 5, 0xb4],
            // With window scale and SACK permitted.
            1 => segment.options = vec![2, 4, 5, 0xb4, 1, 3, 3, rng.below(8) as u8, 4, 2, 1, 1],
            _ => {}
        }
        segment
    }

    fn segment(&self, rng: &mut Rng, end: usize, flags: u8, bytes: usize) -> Segment {
        let window = match rng.percent(10) {
            true => *rng.pick(&WINDOWS),
            false => 65535,
        };
        Segment {
            from: NOWHERE,
            to: NOWHERE,
            flags,
            seq: self.next[end],
            ack: if flags & ACK == 0 {
                0
            } else {
                self.next[1 - end]
            },
            window,
            options: Vec::new(),
            payload: vec![0x44; bytes],
        }
    }
}

/// The caller knows the ends.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
