//! What a link does to frames: cuts and tags what a host sends, then loses, copies, delays and
//! reorders it.

use crate::ftp::CONTROL_PORT;
use crate::packet::{self, FIN, Frame, PSH, Tag, View};
use crate::rng::Rng;

/// TELNET Data Mark, RFC 854.
const DATA_MARK: u8 = 0xf2;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;
const MILLI_NS: u64 = 1_000_000;
/// One way over one of the two hops.
const DELAY_NS: u64 = MILLI_NS;
/// How much later a reordered frame comes at most: several round trips.
const REORDER_NS: u64 = 12 * MILLI_NS;

/// How good or bad a link is. Percentages are for a whole way from host to host; half of them
/// happen before lotus and half behind it.
#[derive(Clone, Debug, Default)]
pub struct LinkPlan {
    pub loss_percent: u8,
    pub duplicate_percent: u8,
    pub reorder_percent: u8,
    /// Cut TCP payloads into pieces of one to this many bytes.
    pub cut: Option<usize>,
    /// Cut IPv4 datagrams with more payload than this into fragments.
    pub fragment: Option<usize>,
    /// Tags that are on the wire around lotus, outermost first.
    pub tags: Vec<Tag>,
    /// Leave transport checksums to hardware that never comes, as a veth pair does.
    pub partial_checksums: bool,
}

impl LinkPlan {
    /// What a host's frame looks like on the wire.
    pub fn dress(&self, frame: Vec<u8>, rng: &mut Rng) -> Vec<Frame> {
        let mut frames = vec![frame];
        if let Some(piece) = self.cut {
            frames = frames
                .into_iter()
                .flat_map(|f| cut(&f, piece, rng))
                .collect();
        }
        frames.iter_mut().for_each(|frame| make_urgent(frame));
        if let Some(bytes) = self.fragment {
            frames = frames
                .into_iter()
                .flat_map(|f| fragment(&f, bytes, rng.next() as u16))
                .collect();
        }
        frames
            .into_iter()
            .map(|bytes| {
                let mut frame = Frame::from(tagged(bytes, &self.tags));
                if self.partial_checksums {
                    make_partial(&mut frame);
                }
                frame
            })
            .collect()
    }

    /// What the host at the other end gets, or what is wrong with the frame.
    pub fn undress(&self, mut frame: Frame) -> Result<Vec<u8>, String> {
        complete_partial(&mut frame)?;
        let tags = View::of(&frame.bytes)
            .map(|view| view.tags)
            .unwrap_or_default();
        if tags != self.tags {
            return Err(format!(
                "tags changed on the way: {tags:?}, were {:?}",
                self.tags
            ));
        }
        frame.bytes.drain(12..12 + 4 * tags.len());
        Ok(frame.bytes)
    }

    /// When the copies of a frame arrive that leaves now: none, one or two.
    pub fn arrivals(&self, now_ns: u64, rng: &mut Rng) -> Vec<u64> {
        // Two hops a way, so each has half: a draw from 200.
        let mut happens = |percent: u8| rng.below(200) < u64::from(percent);
        if happens(self.loss_percent) {
            return Vec::new();
        }
        let copies = if happens(self.duplicate_percent) {
            2
        } else {
            1
        };
        let late: Vec<bool> = (0..copies).map(|_| happens(self.reorder_percent)).collect();
        late.into_iter()
            .map(|late| now_ns + DELAY_NS + if late { rng.below(REORDER_NS) } else { 0 })
            .collect()
    }
}

pub fn tagged(mut bytes: Vec<u8>, tags: &[Tag]) -> Vec<u8> {
    let header = tags.iter().flat_map(|tag| {
        let [a, b] = tag.tpid.to_be_bytes();
        let [c, d] = tag.vid.to_be_bytes();
        [a, b, c, d]
    });
    bytes.splice(12..12, header.collect::<Vec<_>>());
    bytes
}

/// Cuts a TCP segment with payload into smaller ones, as a sender with a tiny MSS would send them.
pub fn cut(frame: &[u8], piece: usize, rng: &mut Rng) -> Vec<Vec<u8>> {
    let whole = || vec![frame.to_vec()];
    let Some(ip) = View::of(frame).and_then(|view| view.ip) else {
        return whole();
    };
    let Some(tcp) = ip.tcp(frame) else {
        return whole();
    };
    if ip.end - tcp.payload_at < 2 {
        return whole();
    }
    let (mut at, mut pieces) = (tcp.payload_at, Vec::new());
    while at < ip.end {
        let end = ip.end.min(at + 1 + rng.below(piece as u64) as usize);
        let mut part = frame[..tcp.payload_at].to_vec();
        part.extend(&frame[at..end]);
        let seq = tcp.seq.wrapping_add((at - tcp.payload_at) as u32);
        part[ip.l4_at + 4..ip.l4_at + 8].copy_from_slice(&seq.to_be_bytes());
        if end < ip.end {
            part[ip.l4_at + 13] &= !(FIN | PSH);
        }
        if ip.src.is_ipv4() {
            let length = part.len() - ip.l3_at;
            packet::set_u16(&mut part, ip.l3_at + 2, length as u16);
        } else {
            let length = part.len() - ip.l4_at;
            packet::set_u16(&mut part, ip.l3_at + 4, length as u16);
        }
        packet::fix_checksums(&mut part);
        pieces.push(part);
        at = end;
    }
    pieces
}

/// smoltcp sends nothing urgently: the TELNET Data Mark of a client (RFC 959 section 4.1.3) is made
/// urgent here. No other byte of a command is like it.
fn make_urgent(frame: &mut [u8]) {
    let Some(ip) = View::of(frame).and_then(|view| view.ip) else {
        return;
    };
    let Some(tcp) = ip.tcp(frame).filter(|tcp| tcp.dst_port == CONTROL_PORT) else {
        return;
    };
    let mark = frame[tcp.payload_at..ip.end]
        .iter()
        .position(|&byte| byte == DATA_MARK);
    if let Some(at) = mark {
        frame[ip.l4_at + 13] |= packet::URG;
        packet::set_u16(frame, ip.l4_at + 18, at as u16 + 1);
        packet::fix_checksums(frame);
    }
}

/// Cuts an IPv4 datagram into fragments of at most `bytes` payload. Of all that the hosts send
/// only TCP comes here; the first fragment always holds the whole TCP header. smoltcp gives all
/// datagrams the same identification, so each gets its own here.
pub fn fragment(frame: &[u8], bytes: usize, id: u16) -> Vec<Vec<u8>> {
    let whole = || vec![frame.to_vec()];
    let Some(ip) = View::of(frame).and_then(|view| view.ip) else {
        return whole();
    };
    let step = bytes.max(64) & !7;
    if !ip.src.is_ipv4() || ip.end - ip.l4_at <= step {
        return whole();
    }
    let payload = &frame[ip.l4_at..ip.end];
    let mut pieces = Vec::new();
    for (number, chunk) in payload.chunks(step).enumerate() {
        let mut part = frame[..ip.l4_at].to_vec();
        part.extend(chunk);
        let last = (number + 1) * step >= payload.len();
        let bits = (number * step / 8) as u16 | if last { 0 } else { 0x2000 };
        let length = (ip.l4_at - ip.l3_at + chunk.len()) as u16;
        packet::set_u16(&mut part, ip.l3_at + 2, length);
        packet::set_u16(&mut part, ip.l3_at + 4, id);
        packet::set_u16(&mut part, ip.l3_at + 6, bits);
        packet::fix_checksums(&mut part);
        pieces.push(part);
    }
    pieces
}

/// Leaves only the pseudo header in the checksum field of TCP and UDP, and says so in the header.
fn make_partial(frame: &mut Frame) {
    let Some(ip) = View::of(&frame.bytes).and_then(|view| view.ip) else {
        return;
    };
    if !matches!(ip.protocol, packet::TCP | packet::UDP) || ip.fragment.is_some() {
        return;
    }
    let Some(offset) = ip.checksum_offset() else {
        return;
    };
    packet::set_u16(
        &mut frame.bytes,
        ip.l4_at + offset,
        packet::folded(ip.pseudo_sum()),
    );
    frame.meta.vnet[0] = NEEDS_CSUM;
    frame.meta.vnet[6..8].copy_from_slice(&(ip.l4_at as u16).to_le_bytes());
    frame.meta.vnet[8..10].copy_from_slice(&(offset as u16).to_le_bytes());
}

/// Does what the hardware would: sums from the start to the end, the field included.
fn complete_partial(frame: &mut Frame) -> Result<(), String> {
    if frame.meta.vnet[0] & NEEDS_CSUM == 0 {
        return Ok(());
    }
    let vnet = frame.meta.vnet;
    let start = usize::from(u16::from_le_bytes([vnet[6], vnet[7]]));
    let field = start + usize::from(u16::from_le_bytes([vnet[8], vnet[9]]));
    let ip = View::of(&frame.bytes).and_then(|view| view.ip);
    let end = match ip {
        Some(ip) if ip.l4_at == start && field + 2 <= ip.end => ip.end,
        _ => return Err("a partial checksum points beside the transport header".to_owned()),
    };
    let sum = !packet::folded(packet::word_sum(&frame.bytes[start..end]));
    packet::set_u16(&mut frame.bytes, field, sum);
    frame.meta.vnet = Default::default();
    Ok(())
}
