use super::be16;
use crate::observe::DropReason;

/// IPv4 (IEEE 802 numbers, IANA).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Address resolution, RFC 826.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// IPv6, RFC 2464.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// 802.1Q customer tag.
const TPID_8021Q: u16 = 0x8100;
/// 802.1ad service tag.
const TPID_8021AD: u16 = 0x88a8;
/// The tag that early QinQ switches used before 802.1ad.
const TPID_QINQ_OLD: u16 = 0x9100;

/// A frame may carry a service tag and a customer tag; a third one is dropped, because nobody
/// who reads two would judge what is behind it.
pub const MAX_VLAN_TAGS: usize = 2;

/// Stands for "no tag" where a VLAN id would stand. As an id it is reserved (IEEE 802.1Q), and a
/// frame that has it is dropped; 0 is the id of a tag that has a priority and no VLAN.
pub const NO_VLAN: u16 = 0x0fff;

/// Stands in [`EtherHeader::vlan_ids`] beside the id of a service tag: the customer VLAN with the same
/// number is another network.
pub const SERVICE_TAG: u16 = 0x1000;

const MACS_BYTES: usize = 12;
const TYPE_BYTES: usize = 2;
const TAG_BYTES: usize = 4;
const VLAN_ID_MASK: u16 = 0x0fff;

/// The link layer of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EtherHeader {
    /// Destination MAC address.
    pub dst: [u8; 6],
    /// Source MAC address.
    pub src: [u8; 6],
    /// Tag control information of each tag, outermost first; the first `vlan_count` are set.
    pub vlan_tci: [u16; MAX_VLAN_TAGS],
    /// How many tags there are.
    pub vlan_count: u8,
    /// Which of them are service tags: bit 0 for the outermost.
    pub service_tags: u8,
    /// The type behind all tags, or a length below 1536 (IEEE 802.3).
    pub ethertype: u16,
    /// Where what is behind the type begins.
    pub payload_offset: usize,
}

impl EtherHeader {
    /// The VLAN ids, outermost first, [`NO_VLAN`] where there is no tag, with [`SERVICE_TAG`] beside
    /// those of service tags. Priority bits are left out: they may change within a flow.
    #[inline(always)]
    #[must_use]
    pub fn vlan_ids(&self) -> [u16; MAX_VLAN_TAGS] {
        if self.vlan_count == 0 {
            return [NO_VLAN; MAX_VLAN_TAGS];
        }
        let [mut outer, mut inner] = self.vlan_tci.map(|tci| tci & VLAN_ID_MASK);
        if self.service_tags != 0 {
            outer |= u16::from(self.service_tags & 1) * SERVICE_TAG;
            inner |= u16::from(self.service_tags >> 1) * SERVICE_TAG;
        }
        match self.vlan_count {
            1 => [outer, NO_VLAN],
            _ => [outer, inner],
        }
    }
}

#[inline(always)]
pub(super) fn parse(frame: &[u8], header: &mut EtherHeader) -> Result<(), DropReason> {
    let cut = DropReason::FrameTruncated;
    let &[a, b, c, d, e, f, g, h, i, j, k, l, high, low] = frame
        .first_chunk::<{ MACS_BYTES + TYPE_BYTES }>()
        .ok_or(cut)?;
    *header = EtherHeader {
        dst: [a, b, c, d, e, f],
        src: [g, h, i, j, k, l],
        ethertype: u16::from_be_bytes([high, low]),
        payload_offset: MACS_BYTES + TYPE_BYTES,
        ..EtherHeader::default()
    };
    match is_tag(header.ethertype) {
        true => tags(frame, header),
        false => Ok(()),
    }
}

fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, TPID_8021Q | TPID_8021AD | TPID_QINQ_OLD)
}

#[inline(never)]
fn tags(frame: &[u8], header: &mut EtherHeader) -> Result<(), DropReason> {
    let cut = DropReason::FrameTruncated;
    let mut at = MACS_BYTES;
    loop {
        let ethertype = be16(frame, at).ok_or(cut)?;
        if !is_tag(ethertype) {
            header.ethertype = ethertype;
            header.payload_offset = at + TYPE_BYTES;
            return Ok(());
        }
        let slot = header
            .vlan_tci
            .get_mut(usize::from(header.vlan_count))
            .ok_or(DropReason::VlanTooManyTags)?;
        *slot = be16(frame, at + 2).ok_or(cut)?;
        if *slot & VLAN_ID_MASK == NO_VLAN {
            return Err(DropReason::VlanReserved);
        }
        if ethertype != TPID_8021Q {
            header.service_tags |= 1 << header.vlan_count;
        }
        header.vlan_count += 1;
        at += TAG_BYTES;
    }
}
