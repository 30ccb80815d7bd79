//! Datagrams in pieces.

use super::*;

const TINY: Verdict = Verdict::Drop(DropReason::FragmentTiny);
const OVERLAP: Verdict = Verdict::Drop(DropReason::FragmentOverlap);

/// A UDP datagram from there, from inside.
fn question(from: &str, bytes: usize) -> Vec<u8> {
    testing::udp(socket(from), socket(DNS), &vec![7; bytes])
}

fn question_v6(bytes: usize) -> Vec<u8> {
    let (host, far) = (socket("[2001:db8::10]:5353"), socket("[2001:db8:9::1]:53"));
    testing::udp(host, far, &vec![7; bytes])
}

fn judged(lab: &mut Lab, piece: &[u8]) -> Verdict {
    lab.pass(Side::Inside, piece.to_vec()).verdict
}

#[test]
fn fragments_are_judged_whole_and_leave_as_they_came() {
    let mut lab = Lab::new();
    let mut pieces = fragments(&question(HOST, 4000), 1480);
    pieces.reverse();
    for piece in &pieces[..2] {
        assert_eq!(judged(&mut lab, piece), Verdict::Held);
    }
    let passed = lab.pass(Side::Inside, pieces[2].clone());
    assert_eq!(passed.frames, pieces);
    // What the rules drop, they drop whole.
    let refused = fragments(
        &testing::udp(socket(HOST), socket("198.51.100.1:54"), &[7; 99]),
        56,
    );
    assert_eq!(judged(&mut lab, &refused[0]), Verdict::Held);
    assert_eq!(judged(&mut lab, &refused[1]), POLICY_DROP);
    assert_eq!(lab.dropped(DropReason::PolicyDrop), 2);
}

#[test]
fn overlapping_lone_and_tiny_fragments_never_pass() {
    let pieces = fragments(&question(HOST, 200), 80);
    let mut lab = Lab::new();
    for piece in [&pieces[0], &pieces[1]] {
        assert_eq!(judged(&mut lab, piece), Verdict::Held);
    }
    // Networks duplicate; that does no harm. Other bytes in the same place do.
    let same = Verdict::Drop(DropReason::FragmentDuplicate);
    assert_eq!(judged(&mut lab, &pieces[1]), same);
    let mut other = pieces[1].clone();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(judged(&mut lab, &other), OVERLAP);
    assert_eq!(judged(&mut lab, &pieces[2]), OVERLAP);
    assert_eq!(lab.dropped(DropReason::FragmentOverlap), 4);
    assert_eq!(lab.counts().held.frames, 0);

    let mut lab = Lab::new();
    assert_eq!(judged(&mut lab, &pieces[0]), Verdict::Held);
    lab.later(31);
    lab.tick();
    assert_eq!(lab.dropped(DropReason::FragmentTimeout), 1);
    assert_eq!(lab.counts().held.frames, 0);
    let tiny = fragments(&question(HOST, 200), 16);
    assert_eq!(judged(&mut lab, &tiny[0]), TINY);
}

#[test]
fn fragments_that_take_another_way_poison_their_datagram() {
    let pieces = fragments(&question(HOST, 200), 80);
    let resummed = |mut piece: Vec<u8>, ttl: u8| {
        piece[22] = ttl;
        sum_header(&mut piece);
        piece
    };
    let mut bad_sum = pieces[1].clone();
    bad_sum[24] ^= 1;
    let mut other_mac = pieces[1].clone();
    other_mac[5] ^= 1;
    for (piece, reason) in [
        (bad_sum, DropReason::IpChecksumBad),
        (resummed(pieces[1].clone(), 3), DropReason::FragmentBad),
        (other_mac, DropReason::FragmentBad),
    ] {
        let mut lab = Lab::new();
        assert_eq!(judged(&mut lab, &pieces[0]), Verdict::Held);
        assert_eq!(judged(&mut lab, &piece), Verdict::Drop(reason));
    }
}

#[test]
fn rfc5722_any_overlap_drops_the_datagram_in_both_families() {
    let v4 = question(HOST, 200);
    let pieces_v4 = |size| fragments(&v4, size);
    let v6 = question_v6(200);
    // Each case: a fragment, then one that overlaps it.
    let cases = [
        (pieces_v4(80)[0].clone(), pieces_v4(40)[1].clone()),
        (pieces_v4(80)[1].clone(), pieces_v4(40)[3].clone()),
        (
            fragments_v6(&v6, &[80])[0].clone(),
            fragments_v6(&v6, &[40, 120])[1].clone(),
        ),
        (
            fragments_v6(&v6, &[40, 120])[1].clone(),
            fragments_v6(&v6, &[80])[1].clone(),
        ),
    ];
    for (at, (first, second)) in cases.into_iter().enumerate() {
        let mut lab = Lab::new();
        assert_eq!(judged(&mut lab, &first), Verdict::Held, "case {at}");
        assert_eq!(judged(&mut lab, &second), OVERLAP, "case {at}");
        // And all that still comes of it.
        assert_eq!(judged(&mut lab, &first), OVERLAP);
        assert_eq!(lab.counts().held.frames, 0);
    }
}

#[test]
fn rfc1858_and_rfc3128_tiny_fragments() {
    let syn = testing::Tcp::new(socket("192.0.2.10:999"), socket("192.0.2.20:21"), SYN, 1, 0)
        .data(&[1; 100])
        .frame();
    let mut lab = Lab::new();
    // The flags in the second fragment (RFC 1858 section 3).
    let pieces = fragments(&syn, 8);
    assert_eq!(judged(&mut lab, &pieces[0]), TINY);
    assert_eq!(judged(&mut lab, &pieces[1]), TINY);
    // Ports in one fragment and flags in another inside it, with a good one before: both are gone
    // (RFC 3128 section 2).
    let good = fragments(&syn, 24);
    assert_eq!(judged(&mut lab, &good[0]), Verdict::Held);
    assert_eq!(judged(&mut lab, &pieces[2]), OVERLAP);
    assert_eq!(judged(&mut lab, &good[1]), OVERLAP);
    assert_eq!(lab.counts().held.frames, 0);
    assert!(lab.counts().forwarded_total().frames == 0);
}

#[test]
fn rfc8200_the_first_fragment_has_all_headers() {
    let question = question_v6(200);
    // Destination options of 32 bytes behind the fragment header, then UDP.
    let mut with_options = question.clone();
    with_options[20] = 60;
    let mut options = vec![proto::UDP, 3, 1, 28];
    options.resize(32, 0);
    with_options.splice(54..54, options);
    for (cut, is_whole) in [(24, false), (32, false), (40, true), (80, true)] {
        let mut lab = Lab::new();
        let pieces = fragments_v6(&with_options, &[cut]);
        let verdict = judged(&mut lab, &pieces[0]);
        if is_whole {
            assert_eq!(verdict, Verdict::Held, "{cut}");
            let passed = lab.pass(Side::Inside, pieces[1].clone());
            assert_eq!(passed.frames, pieces, "{cut}");
        } else {
            assert_eq!(verdict, TINY, "{cut}");
        }
    }
    // A hop-by-hop header or a second fragment header behind the fragment header.
    for next in [0, 44] {
        let mut pieces = fragments_v6(&question, &[80]);
        pieces[0][54] = next;
        let mut lab = Lab::new();
        assert_eq!(judged(&mut lab, &pieces[0]), TINY);
    }
    // Only the first one's next header counts.
    let mut pieces = fragments_v6(&question, &[80]);
    pieces[1][54] = proto::TCP;
    let mut lab = Lab::new();
    assert_eq!(judged(&mut lab, &pieces[1]), Verdict::Held);
    let passed = lab.pass(Side::Inside, pieces[0].clone());
    assert_eq!(passed.frames.len(), 2);
}

#[test]
fn rfc6946_an_atomic_fragment_is_a_whole_datagram() {
    let question = question_v6(200);
    let mut lab = Lab::new();
    // Others of the same id wait; it does not touch them.
    let pieces = fragments_v6(&question, &[80]);
    assert_eq!(judged(&mut lab, &pieces[0]), Verdict::Held);
    let atomic = fragments_v6(&question, &[]).remove(0);
    let passed = lab.pass(Side::Inside, atomic.clone());
    assert_eq!(
        (passed.verdict, passed.frames),
        (Verdict::Forward, vec![atomic])
    );
    assert_eq!(lab.pass(Side::Inside, pieces[1].clone()).frames, pieces);
}

/// Another fragment with this one's header: where it begins, in units of 8 bytes, and its data. There
/// are more.
fn fragment_like(like: &[u8], offset: u16, data: &[u8]) -> Vec<u8> {
    let mut piece = [&like[..34], data].concat();
    piece[16..18].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
    piece[20..22].copy_from_slice(&(offset | 0x2000).to_be_bytes());
    sum_header(&mut piece);
    piece
}

#[test]
fn a_fragment_that_cannot_be_right_spoils_the_datagram_that_it_overlaps() {
    let pieces = fragments(&question(HOST, 200), 80);
    for bad in [
        fragment_like(&pieces[0], 1, &[7; 8]),  // tiny
        fragment_like(&pieces[0], 0, &[7; 8]),  // a tiny first one
        fragment_like(&pieces[0], 10, &[7; 5]), // not in units of 8 bytes
    ] {
        let mut lab = Lab::new();
        for piece in &pieces[..2] {
            assert_eq!(judged(&mut lab, piece), Verdict::Held);
        }
        assert_eq!(judged(&mut lab, &bad), OVERLAP);
        assert_eq!(judged(&mut lab, &pieces[2]), OVERLAP);
        assert_eq!(lab.dropped(DropReason::FragmentOverlap), 4);
        assert_eq!(lab.counts().held.frames, 0);
    }
}

#[test]
fn a_fragment_that_cannot_be_right_spoils_nothing_else() {
    let pieces = fragments(&question(HOST, 200), 80);
    let tiny = fragment_like(&pieces[0], 1, &[7; 8]);
    let empty = fragment_like(&pieces[0], 2, b"");
    let of_another = {
        let mut like = tiny.clone();
        like[18] ^= 1; // its identification
        fragment_like(&like, 1, &[7; 8])
    };
    let mut lab = Lab::new();
    let mut passed = Vec::new();
    // The tiny one is gone before anything is there that it overlaps; its receiver never sees it.
    for (piece, side) in [
        (&pieces[2], Side::Inside),
        (&tiny, Side::Inside),
        (&pieces[0], Side::Inside),
        (&of_another, Side::Inside),
        (&empty, Side::Inside),
        (&tiny, Side::Outside),
        (&pieces[1], Side::Inside),
    ] {
        passed = lab.pass(side, piece.clone()).frames;
    }
    assert_eq!(passed.len(), 3);
    assert_eq!(lab.dropped(DropReason::FragmentTiny), 3);
    assert_eq!(lab.dropped(DropReason::FragmentBad), 1);
}

#[test]
fn first_fragments_without_end_shut_nobody_out() {
    let mut lab = Lab::new();
    for n in 0..5000u16 {
        let from = SocketAddr::new([10, 0, (n >> 8) as u8, n as u8].into(), 53);
        let first = fragments(&testing::udp(from, socket(HOST), &[7; 200]), 80).swap_remove(0);
        assert_eq!(lab.pass(Side::Outside, first).verdict, Verdict::Held);
    }
    assert!(lab.counts().held.frames <= 512);
    assert!(lab.dropped(DropReason::FragmentLimit) >= 4000);
    let pieces = fragments(&question(HOST, 200), 80);
    let last = pieces
        .iter()
        .map(|p| lab.pass(Side::Inside, p.clone()))
        .last()
        .unwrap();
    assert_eq!(last.frames, pieces);
}

#[test]
fn one_source_can_not_have_all_room_for_fragments() {
    let (greedy, honest) = (HOST, "192.0.2.77:5353");
    let first = |from, id: u16| {
        let mut piece = fragments(&question(from, 200), 80).swap_remove(0);
        piece[18..20].copy_from_slice(&id.to_be_bytes());
        sum_header(&mut piece);
        piece
    };
    let mut lab = Lab::new();
    assert_eq!(judged(&mut lab, &first(honest, 1)), Verdict::Held);
    for id in 0..5000 {
        lab.pass(Side::Inside, first(greedy, id));
    }
    assert_eq!(lab.counts().held.frames, 256);
    // The honest one's first fragment is still there.
    let last = fragments(&question(honest, 200), 160).swap_remove(1);
    let second = fragments(&question(honest, 200), 80).swap_remove(1);
    assert_eq!(judged(&mut lab, &second), Verdict::Held);
    assert_eq!(lab.pass(Side::Inside, last).frames.len(), 3);
}
