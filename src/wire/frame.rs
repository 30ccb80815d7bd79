use std::fmt;

/// Bytes of `struct virtio_net_hdr` (linux/virtio_net.h), which precedes each frame on a ring
/// with `PACKET_VNET_HDR`.
pub const VNET_HEADER_BYTES: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

/// One of the two ports of the bump in the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The protected side.
    Inside,
    /// The other side.
    Outside,
}

impl Side {
    /// `inside` or `outside`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Side::Inside => "inside",
            Side::Outside => "outside",
        }
    }

    /// Both, in the order in which arrays by side are laid out.
    pub const BOTH: [Side; 2] = [Side::Inside, Side::Outside];

    /// The port at which a frame leaves that came in here.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Inside => Side::Outside,
            Side::Outside => Side::Inside,
        }
    }

    /// Position in arrays by side.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known of a frame's transport checksum before it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumState {
    /// Nobody vouches for it.
    Unknown,
    /// The kernel says that it is right.
    Verified,
    /// Only the pseudo header is summed; the sender's kernel left the rest to hardware that never
    /// came (veth). The bytes were never on a wire.
    Partial,
}

/// What came with a frame beside its bytes: its `virtio_net_hdr`, as received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The header as it stands in the ring. All zero where a port has none.
    pub vnet: [u8; VNET_HEADER_BYTES],
}

impl Meta {
    /// Who vouches for the transport checksum.
    #[must_use]
    pub fn checksum(&self) -> ChecksumState {
        let [flags, ..] = self.vnet;
        if flags & NEEDS_CSUM != 0 {
            ChecksumState::Partial
        } else if flags & DATA_VALID != 0 {
            ChecksumState::Verified
        } else {
            ChecksumState::Unknown
        }
    }

    /// Whether the frame is a super-frame, longer than the link's MTU, that the kernel cuts later.
    #[must_use]
    pub fn is_super_frame(&self) -> bool {
        let [_, gso_type, ..] = self.vnet;
        gso_type != 0
    }
}

/// A frame that outlives its ring slot: held back, released later, or made by lotus itself.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedFrame {
    bytes: Vec<u8>,
}

impl OwnedFrame {
    /// Copies a frame and what came with it.
    #[must_use]
    pub fn copy_of(frame: &[u8], meta: &Meta) -> OwnedFrame {
        let mut bytes = Vec::with_capacity(VNET_HEADER_BYTES + frame.len());
        bytes.extend_from_slice(&meta.vnet);
        bytes.extend_from_slice(frame);
        OwnedFrame { bytes }
    }

    /// A frame of this many zeros, to be filled in, whose checksums nobody completes.
    pub(super) fn zeroed(frame_bytes: usize) -> OwnedFrame {
        OwnedFrame {
            bytes: vec![0; VNET_HEADER_BYTES + frame_bytes],
        }
    }

    /// The header and the frame in one piece, as a ring's socket takes them.
    #[must_use]
    pub fn with_header(&self) -> &[u8] {
        &self.bytes
    }

    /// The Ethernet frame.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(VNET_HEADER_BYTES..).unwrap_or_default()
    }

    /// The Ethernet frame, to be changed in place.
    #[must_use]
    pub fn frame_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(VNET_HEADER_BYTES..).unwrap_or_default()
    }

    /// What came with the frame.
    #[must_use]
    pub fn meta(&self) -> Meta {
        Meta {
            vnet: self.bytes.first_chunk().copied().unwrap_or_default(),
        }
    }
}

impl fmt::Debug for OwnedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedFrame({} bytes)", self.frame().len())
    }
}
