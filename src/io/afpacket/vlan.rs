use crate::wire::VNET_HEADER_BYTES;

/// Bytes of a tag, and so of the room that [`insert`] needs before a frame.
pub(super) const TAG_BYTES: usize = 4;

const MACS_BYTES: usize = 12;
const MOVED_BYTES: usize = VNET_HEADER_BYTES + MACS_BYTES;
const NEEDS_CSUM: u8 = 1;
// struct virtio_net_hdr: flags, gso_type, then 16-bit words in host order.
const HDR_LEN_AT: usize = 2;
const CSUM_START_AT: usize = 6;

/// Puts back the tag that the kernel took off. `bytes` has [`TAG_BYTES`] of room, the virtio-net
/// header, and the frame without its outer tag; afterwards the header begins at its first byte
/// and the tag follows the MAC addresses. False if it is too short for that.
#[must_use]
pub(super) fn insert(bytes: &mut [u8], tpid: u16, tci: u16) -> bool {
    let Some((moved, _)) = bytes.split_first_chunk_mut::<{ TAG_BYTES + MOVED_BYTES }>() else {
        return false;
    };
    moved.copy_within(TAG_BYTES.., 0);
    let Some((head, tag)) = moved.split_first_chunk_mut::<MOVED_BYTES>() else {
        return false;
    };
    let ([tpid_high, tpid_low], [tci_high, tci_low]) = (tpid.to_be_bytes(), tci.to_be_bytes());
    tag.copy_from_slice(&[tpid_high, tpid_low, tci_high, tci_low]);
    let [flags, ..] = *head;
    if flags & NEEDS_CSUM != 0 {
        move_up(head, CSUM_START_AT);
    }
    // Zero means "not said", and stays that.
    if word(head, HDR_LEN_AT) != 0 {
        move_up(head, HDR_LEN_AT);
    }
    true
}

fn word(header: &[u8], at: usize) -> u16 {
    header
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |b| u16::from_ne_bytes(*b))
}

fn move_up(header: &mut [u8], at: usize) {
    let moved = word(header, at).wrapping_add(TAG_BYTES as u16);
    if let Some(to) = header.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *to = moved.to_ne_bytes();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn tagged(vnet: [u8; VNET_HEADER_BYTES], frame: &[u8]) -> (Vec<u8>, bool) {
        let mut bytes = [&[0xee; TAG_BYTES], &vnet[..], frame].concat();
        let done = insert(&mut bytes, 0x88a8, 0xe123);
        (bytes, done)
    }

    #[test]
    fn tag_stands_behind_the_addresses_and_nothing_else_moves() {
        let frame: Vec<u8> = (1..=60).collect();
        let (bytes, done) = tagged([0; 10], &frame);
        assert!(done);
        let expected = [
            &[0; 10],
            &frame[..12],
            &[0x88, 0xa8, 0xe1, 0x23],
            &frame[12..],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn offsets_move_with_the_frame_where_they_mean_something() {
        let words = |flags: u8, gso: u8, words: [u16; 4]| {
            let mut header = [0; 10];
            header[..2].copy_from_slice(&[flags, gso]);
            for (to, word) in header[2..].chunks_mut(2).zip(words) {
                to.copy_from_slice(&word.to_ne_bytes());
            }
            header
        };
        let cases = [
            // hdr_len, gso_size, csum_start, csum_offset
            (
                words(1, 1, [66, 1448, 34, 16]),
                words(1, 1, [70, 1448, 38, 16]),
            ),
            (words(1, 0, [0, 0, 34, 6]), words(1, 0, [0, 0, 38, 6])),
            (words(2, 0, [0, 0, 0, 0]), words(2, 0, [0, 0, 0, 0])),
        ];
        for (before, after) in cases {
            assert_eq!(tagged(before, &[7; 60]).0[..10], after);
        }
    }

    #[test]
    fn too_short_a_frame_is_refused() {
        assert!(!tagged([0; 10], &[1; 11]).1);
        assert!(tagged([0; 10], &[1; 12]).1);
    }
}
