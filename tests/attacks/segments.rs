//! Attacks with segments and fragments: what TCP and IP deliver is not what was looked at.

use lotus::engine::Verdict;
use lotus::observe::DropReason;
use lotus::wire::{Side, TcpFlags};

use crate::common::{
    Door, Hosts, Lab, Passed, Segment, Speaker::Client, Speaker::Server, Talk, V4, V6, at,
    everywhere, fragments, fragments_at, icmp,
};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;
const FIN: u8 = TcpFlags::FIN;

fn passive_door(hosts: Hosts, side: Side, port: u16) -> Door {
    Door {
        from: hosts.client,
        to: at(hosts.server, port),
        side,
    }
}

/// A session whose client has asked for a passive port and waits for the answer.
fn asked(lab: &mut Lab, hosts: Hosts, side: Side) -> Talk {
    let mut talk = Talk::logged_in(lab, hosts, side);
    let (command, _) = hosts.passive(1);
    talk.dialogue(lab, &[(Client, command)]);
    talk
}

/// The real answer comes, and opens its port, and that only.
#[track_caller]
fn real_answer_counts(lab: &mut Lab, talk: &mut Talk) {
    let (hosts, side) = (talk.hosts, talk.client_side);
    lab.assert_open(hosts, &[]);
    let (_, answer) = hosts.passive(52_000);
    talk.dialogue(lab, &[(Server, &answer)]);
    lab.assert_open(hosts, &[passive_door(hosts, side, 52_000)]);
}

#[track_caller]
fn assert_dropped(passed: &Passed, reason: DropReason) {
    assert_eq!(passed.verdict, Verdict::Drop(reason));
    assert!(passed.frames.is_empty());
}

#[test]
fn a12_what_is_past_a_gap_reaches_nobody_before_it_was_read() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        let (_, answer) = hosts.passive(52_000);
        let (head, tail) = answer.as_bytes().split_at(4);
        assert_eq!(talk.say_at(&mut lab, Server, 4, tail), Verdict::Held);
        assert_eq!(lab.counts().held.frames, 1);
        lab.assert_open(hosts, &[]);
        // What fills the gap makes another line of it than the tail alone would be.
        let got = talk.say(&mut lab, Server, head);
        talk.sent(Server, tail.len());
        assert!(got.starts_with("22"));
        assert!(talk.heard(Client).ends_with(&answer));
        assert_eq!(lab.counts().held.frames, 0);
        lab.assert_open(hosts, &[passive_door(hosts, side, 52_000)]);

        // The gap is filled so that the announcement becomes the rest of an error.
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        let verdict = talk.say_at(&mut lab, Server, 5, answer.as_bytes());
        assert_eq!(verdict, Verdict::Held);
        talk.say(&mut lab, Server, "550 -");
        talk.sent(Server, answer.len());
        assert!(talk.heard(Client).ends_with(&format!("550 -{answer}")));
        lab.assert_open(hosts, &[]);
    });
}

#[test]
fn a12_what_overlaps_with_other_bytes_reaches_nobody() {
    everywhere(|hosts, side| {
        // Held bytes that contradict what then fills the gap are dropped, not read.
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        let (_, fake) = hosts.passive(51_400);
        let (_, answer) = hosts.passive(52_000);
        let at = 4;
        let verdict = talk.say_at(&mut lab, Server, at as i64, &fake.as_bytes()[at..]);
        assert_eq!(verdict, Verdict::Held);
        talk.dialogue(&mut lab, &[(Server, &answer)]);
        assert_eq!(lab.dropped(DropReason::HelperRewrite), 1);
        lab.assert_open(hosts, &[passive_door(hosts, side, 52_000)]);

        // Two contradicting segments past a gap: the one that is read is the one that leaves.
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        talk.say_at(&mut lab, Server, at as i64, &answer.as_bytes()[at..]);
        talk.say_at(&mut lab, Server, at as i64 + 1, &fake.as_bytes()[at + 1..]);
        talk.say_at(&mut lab, Server, 0, &answer.as_bytes()[..at]);
        talk.sent(Server, answer.len());
        assert!(talk.heard(Client).ends_with(&answer));
        lab.assert_open(hosts, &[passive_door(hosts, side, 52_000)]);
    });
}

#[test]
fn a12_control_connection_without_beginning_opens_nothing() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        // The ends have been talking for long; lotus came later.
        let mut talk = Talk::new(hosts, side);
        let (command, answer) = hosts.passive(51_400);
        let active = hosts.active(hosts.client, 51_400);
        for (who, line) in [
            (Client, "USER joe\r\n"),
            (Server, "230 in\r\n"),
            (Client, command),
            (Server, &*answer),
            (Client, &*active),
            (Server, "200 ok\r\n"),
        ] {
            let segment = talk.segment(who).data(line);
            assert_dropped(&talk.send(&mut lab, who, &segment), DropReason::TcpNotSyn);
            talk.sent(who, line.len());
        }
        lab.assert_open(hosts, &[]);
        assert_eq!(lab.shared.totals().sessions_begun, 0);
    });
}

#[test]
fn a22_forged_resets_and_syns_end_nothing() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        let (_, answer) = hosts.passive(51_400);
        talk.dialogue(&mut lab, &[(Server, &answer)]);
        let doors = [passive_door(hosts, side, 51_400)];
        for who in [Client, Server] {
            // Resets of somebody who sees nothing: outside the window they are dropped.
            for by in [-1_000_000_000, -70_000, -1_000, 100_000, 2_000_000_000] {
                let reset = talk.segment(who).with_flags(RST).shifted(by);
                assert_dropped(&talk.send(&mut lab, who, &reset), DropReason::TcpRst);
            }
            // Somewhere in the window: the receiver answers with a challenge (RFC 5961 section 3),
            // and the true end says that all is well.
            for by in [1, 100, 30_000] {
                let reset = talk.segment(who).with_flags(RST).shifted(by);
                let verdict = talk.send(&mut lab, who, &reset).verdict;
                assert_eq!(verdict, Verdict::Forward, "the receiver is to judge it");
                talk.acknowledge(&mut lab, who.other());
                talk.acknowledge(&mut lab, who);
            }
            // SYNs (section 4): they may be of a host that lost its memory; the answer to them is
            // a challenge, too.
            for by in [-1_000_000, -1, 0, 5, 50_000, 1_000_000_000] {
                let syn = talk.segment(who).with_flags(SYN).shifted(by);
                talk.send(&mut lab, who, &syn);
                talk.acknowledge(&mut lab, who.other());
            }
            // From the wrong side nobody gets as far as a window.
            let reset = talk.segment(who).with_flags(RST).frame();
            let verdict = lab.pass(talk.side(who.other()), reset).verdict;
            assert_eq!(verdict, Verdict::Drop(DropReason::WrongSide));
        }
        // After an hour the session goes on as if nothing had been.
        lab.assert_open(hosts, &doors);
        lab.later(3_600);
        lab.tick();
        let (command, answer) = hosts.passive(52_000);
        talk.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
        lab.assert_open(hosts, &[passive_door(hosts, side, 52_000)]);
        assert_eq!(lab.shared.totals().sessions, 1);
    });
}

#[test]
fn a22_forged_reset_of_a_data_connection_ends_nothing() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        let (_, answer) = hosts.passive(51_400);
        talk.dialogue(&mut lab, &[(Server, &answer)]);
        let (from, to) = (at(hosts.client, 40_001), at(hosts.server, 51_400));
        assert!(lab.connects(from, to, side));
        for seq in [0, 4_000, 5_001, 500_000] {
            let reset = Segment::new(from, to, RST, seq, 0);
            let verdict = lab.pass(side, reset.frame()).verdict;
            assert_eq!(verdict, Verdict::Drop(DropReason::TcpRst), "{seq}");
        }
        // In the window, but not exact: it passes, the receiver challenges it, all goes on.
        let reset = Segment::new(from, to, RST, 5_100, 0);
        assert_eq!(lab.pass(side, reset.frame()).verdict, Verdict::Forward);
        let challenge = Segment::new(to, from, ACK, 9_002, 5_002);
        let passed = lab.pass(side.other(), challenge.frame());
        assert_eq!(passed.verdict, Verdict::Forward);
        let data = Segment::new(from, to, ACK, 5_002, 9_002).data("more");
        assert_eq!(lab.pass(side, data.frame()).verdict, Verdict::Forward);
        let thanks = Segment::new(to, from, ACK, 9_002, 5_006);
        lab.pass(side.other(), thanks.frame());
        lab.later(600);
        lab.tick();
        let data = Segment::new(to, from, ACK, 9_002, 5_006).data("still");
        assert_eq!(
            lab.pass(side.other(), data.frame()).verdict,
            Verdict::Forward
        );
    });
}

#[test]
fn a22_forged_icmp_errors_reach_nobody() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        let (kind, code) = if hosts.is_v6() { (1, 4) } else { (3, 3) };
        let ethernet_bytes = 14;
        for (by, passes) in [
            (-1_000_000, false),
            (100_000, false),
            (1, false),
            (-1, true),
        ] {
            // The last word that was said, as the sender's own network would quote it.
            let quoted = talk.segment(Client).data("x").shifted(by).frame();
            let quote = &quoted[ethernet_bytes..];
            let error = icmp(hosts.server, hosts.client, kind, code, quote);
            let verdict = lab.pass(side.other(), error.clone()).verdict;
            assert_eq!(verdict == Verdict::Forward, passes, "{by}: {verdict:?}");
            // From the client's own side nobody has anything to tell it.
            assert_ne!(lab.pass(side, error).verdict, Verdict::Forward);
        }
        real_answer_counts(&mut lab, &mut talk);
    });
}

#[test]
fn a22_challenge_acknowledgments_pass() {
    everywhere(|hosts, side| {
        // The server has a stale connection on these ports: it answers the SYN with an
        // acknowledgment of that one, the client resets it and tries again.
        let mut lab = Lab::new();
        let mut talk = Talk::new(hosts, side);
        let (client, server) = (talk.client, talk.server);
        let syn = Segment::syn(client, server).frame();
        assert_eq!(lab.pass(side, syn).verdict, Verdict::Forward);
        let challenge = Segment::new(server, client, ACK, 123_456_789, 987_654_321).frame();
        assert_eq!(lab.pass(side.other(), challenge).verdict, Verdict::Forward);
        let reset = Segment::new(client, server, RST, 987_654_321, 0).frame();
        assert_eq!(lab.pass(side, reset).verdict, Verdict::Forward);
        talk.login(&mut lab);
        let (command, answer) = hosts.passive(52_000);
        talk.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
        lab.assert_open(hosts, &[passive_door(hosts, side, 52_000)]);

        // The same ports again, with the old connection in its last state: a new session, in which
        // the old one's login does not count.
        for who in [Client, Server] {
            let fin = talk.segment(who).with_flags(FIN | ACK);
            assert_eq!(talk.send(&mut lab, who, &fin).verdict, Verdict::Forward);
            talk.sent(who, 1);
        }
        lab.assert_open(hosts, &[]);
        // Both FINs are acknowledged, and the client reuses its port.
        let mut last = talk.segment(Client);
        last.ack = talk.segment(Server).seq;
        talk.send(&mut lab, Client, &last);
        let mut last = talk.segment(Server);
        last.ack = talk.segment(Client).seq;
        talk.send(&mut lab, Server, &last);
        let mut again = Talk::new(hosts, side);
        again.connect(&mut lab);
        again.dialogue(&mut lab, &[(Server, "220 ready\r\n")]);
        again.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
        lab.assert_told(&["opened nothing", "nobody has logged in"]);
        lab.assert_open(hosts, &[]);
    });
}

#[test]
fn a23_overlapping_fragments_of_a_command_pass_in_no_reading() {
    for hosts in [V4, V6] {
        let mut lab = Lab::new();
        let talk = Talk::logged_in(&mut lab, hosts, Side::Outside);
        let good = talk
            .segment(Client)
            .data(hosts.active(hosts.client, 51_400));
        let evil = talk
            .segment(Client)
            .data(hosts.active(hosts.neighbour, 51_400));
        let (good, evil) = (
            fragments_at(&good.frame(), 9, &[32, 40]),
            fragments_at(&evil.frame(), 9, &[32, 40]),
        );
        // The middle piece in two versions, in either order, and then the end: never whole.
        for (id, order) in [
            (1, [&good[0], &good[1], &evil[1], &good[2]]),
            (2, [&good[0], &evil[1], &good[1], &good[2]]),
            (3, [&good[2], &evil[1], &good[1], &good[0]]),
        ] {
            for fragment in order {
                let passed = lab.pass(Side::Outside, with_id(fragment, id));
                assert!(passed.frames.is_empty());
            }
        }
        let counts = lab.counts();
        assert!(lab.dropped(DropReason::FragmentOverlap) >= 6, "{counts:?}");
        lab.assert_open(hosts, &[]);
        // By one byte is an overlap, too.
        let frame = talk
            .segment(Client)
            .data("NOOP NOOP NOOP NOOP NOOP\r\n")
            .frame();
        let pieces = fragments_at(&frame, 77, &[24]);
        let longer = fragments_at(&frame, 77, &[32]);
        for fragment in [&longer[0], &pieces[1]] {
            assert!(lab.pass(Side::Outside, fragment.clone()).frames.is_empty());
        }
        lab.later(60);
        lab.tick();
        assert_eq!(lab.counts().held.frames, 0);
    }
}

#[test]
fn a23_tiny_first_fragment_hides_no_header() {
    for hosts in [V4, V6] {
        let mut lab = Lab::new();
        let syn = Segment::syn(at(hosts.stranger, 40_001), at(hosts.server, 22)).frame();
        for cuts in [&[8][..], &[16], &[8, 16]] {
            for order in [false, true] {
                let mut pieces = fragments_at(&syn, cuts.len() as u16, cuts);
                if order {
                    pieces.reverse();
                }
                for piece in pieces {
                    assert!(lab.pass(Side::Outside, piece).frames.is_empty());
                }
            }
        }
        assert!(lab.dropped(DropReason::FragmentTiny) > 0);
        lab.assert_open(hosts, &[]);
    }
}

#[test]
fn a23_atomic_fragment_is_a_whole_datagram() {
    // RFC 6946: a fragment header, and nothing missing. It is judged as any other packet.
    let mut lab = Lab::new();
    let mut talk = Talk::new(V6, Side::Inside);
    talk.connect(&mut lab);
    talk.dialogue(&mut lab, &[(Server, "220 ready\r\n")]);
    let whole = talk.segment(Client).data("USER joe\r\n").frame();
    let [atomic] = &fragments_at(&whole, 7, &[])[..] else {
        panic!("one fragment")
    };
    assert_eq!(
        lab.pass(Side::Inside, atomic.clone()).verdict,
        Verdict::Forward
    );
    let syn = Segment::syn(at(V6.client, 40_001), at(V6.server, 22)).frame();
    let atomic = fragments_at(&syn, 8, &[]).remove(0);
    let verdict = lab.pass(Side::Inside, atomic).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::PolicyDrop));
}

#[test]
fn a23_command_in_fragments_is_read_whole_or_passes_not_at_all() {
    for hosts in [V4, V6] {
        for side in Side::BOTH {
            // A good command counts, however its datagram was cut.
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            let line = hosts.active(hosts.client, 51_400);
            let frame = talk.segment(Client).data(&line).frame();
            for piece in fragments(&frame, 5, 24).into_iter().rev() {
                lab.pass(side, piece);
            }
            talk.sent(Client, line.len());
            let door = Door {
                from: hosts.server,
                to: at(hosts.client, 51_400),
                side: side.other(),
            };
            lab.assert_open(hosts, &[door]);

            // A bounce can't be overwritten in fragments: no piece of it leaves.
            let mut lab = Lab::new();
            let talk = Talk::logged_in(&mut lab, hosts, side);
            let line = format!(
                "EPRT |{}|{}|50000|\r\n",
                if hosts.is_v6() { 2 } else { 1 },
                hosts.neighbour
            );
            let frame = talk.segment(Client).data(&line).frame();
            for piece in fragments(&frame, 5, 24) {
                assert!(lab.pass(side, piece).frames.is_empty());
            }
            assert!(lab.dropped(DropReason::HelperReset) > 0);
            lab.assert_told(&["refused", "FTP bounce"]);
            lab.assert_open(hosts, &[]);
            assert!(!talk.heard(Server).contains("EPRT"));
        }
    }
}

fn with_id(fragment: &[u8], id: u8) -> Vec<u8> {
    let mut fragment = fragment.to_vec();
    if fragment[12..14] == [0x08, 0x00] {
        // Its checksum: one more here is one less there.
        let old = fragment[19];
        fragment[19] = id;
        let sum = u16::from_be_bytes([fragment[24], fragment[25]]);
        let sum = i32::from(sum) + i32::from(old) - i32::from(id);
        assert!((0..=0xffff).contains(&sum), "no carry in these tests");
        fragment[24..26].copy_from_slice(&(sum as u16).to_be_bytes());
    } else {
        fragment[61] = id;
    }
    fragment
}

#[test]
fn a24_segments_that_no_receiver_takes_are_not_read() {
    everywhere(|hosts, side| {
        let (_, fake) = hosts.passive(51_400);
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        // A wrong checksum.
        let segment = talk.segment(Server).data(&fake).spoiled();
        assert_dropped(
            &talk.send(&mut lab, Server, &segment),
            DropReason::ChecksumBad,
        );
        // Outside the window, by little and by much, before and behind.
        for by in [-1_000_000_000, -200_000, 70_000, 200_000, 1_000_000_000] {
            let segment = talk.segment(Server).data(&fake).shifted(by);
            let passed = talk.send(&mut lab, Server, &segment);
            assert!(passed.frames.is_empty(), "{by}");
            assert_ne!(passed.verdict, Verdict::Held, "{by}");
        }
        // An acknowledgment of what was never sent, or of long ago.
        for by in [1, 70_000, 1_000_000_000, 3_000_000_000] {
            let mut segment = talk.segment(Server).data(&fake);
            segment.ack = segment.ack.wrapping_add(by);
            let passed = talk.send(&mut lab, Server, &segment);
            assert_dropped(&passed, DropReason::TcpWindow);
        }
        // No ACK at all, or flags that no TCP sends.
        for flags in [0, TcpFlags::PSH, FIN, SYN | FIN, SYN | RST, SYN | FIN | ACK] {
            let segment = talk.segment(Server).data(&fake).with_flags(flags);
            let passed = talk.send(&mut lab, Server, &segment);
            assert!(passed.frames.is_empty(), "flags {flags:#x}");
        }
        real_answer_counts(&mut lab, &mut talk);
    });
}

#[test]
fn a24_reset_with_text_opens_nothing() {
    everywhere(|hosts, side| {
        // Dropped outside the window; else the session is over, and nothing was read.
        for by in [0, 100, 100_000] {
            for flags in [RST, RST | ACK] {
                let mut lab = Lab::new();
                let mut talk = asked(&mut lab, hosts, side);
                let (_, fake) = hosts.passive(51_400);
                let segment = talk.segment(Server).data(&fake);
                let segment = segment.with_flags(flags).shifted(by);
                talk.send(&mut lab, Server, &segment);
                lab.assert_open(hosts, &[]);
                assert!(lab.opened().is_empty());
            }
        }
    });
}

#[test]
fn a24_syn_with_text_opens_nothing() {
    everywhere(|hosts, side| {
        let (_, fake) = hosts.passive(51_400);
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        for flags in [SYN, SYN | ACK] {
            for by in [-1, 0, 1, 1_000] {
                let segment = talk.segment(Server).data(&fake);
                let segment = segment.with_flags(flags).shifted(by);
                let passed = talk.send(&mut lab, Server, &segment);
                assert_dropped(&passed, DropReason::SynPayload);
            }
        }
        real_answer_counts(&mut lab, &mut talk);
        // Nor does a session begin with text (RFC 7413 is not for this port).
        let mut lab = Lab::new();
        let talk = Talk::new(hosts, side);
        let syn = Segment::syn(talk.client, talk.server).data("USER joe\r\n");
        let passed = lab.pass(side, syn.with_flags(SYN).frame());
        assert_dropped(&passed, DropReason::SynPayload);
        assert_eq!(lab.shared.totals().flows, 0);
    });
}

#[test]
fn a24_fin_with_an_announcement_opens_nothing_that_lasts() {
    everywhere(|hosts, side| {
        for who in [Server, Client] {
            let mut lab = Lab::new();
            let mut talk = asked(&mut lab, hosts, side);
            let line = if who == Server {
                hosts.passive(51_400).1
            } else {
                hosts.active(hosts.client, 51_400)
            };
            let segment = talk.segment(who).data(&line);
            let segment = segment.with_flags(FIN | ACK);
            let passed = talk.send(&mut lab, who, &segment);
            assert_eq!(passed.verdict, Verdict::Forward);
            talk.sent(who, line.len() + 1);
            lab.assert_open(hosts, &[]);
        }
    });
}

#[test]
fn a24_urgent_byte_makes_no_two_readings() {
    everywhere(|hosts, side| {
        let (_, fake) = hosts.passive(51_400);
        let (head, tail) = fake.split_at(1);
        // A receiver takes the urgent byte out of the stream: "2x27" would be read as 227.
        for (text, urgent, is_announcement) in [
            (format!("{head}x{tail}"), 2, false),
            (format!("x{fake}"), 1, false),
            (fake.clone(), 1, true),
            (fake.clone(), 30, true),
        ] {
            let mut lab = Lab::new();
            let mut talk = asked(&mut lab, hosts, side);
            let segment = talk.segment(Server).data(&text).urgent(urgent);
            let passed = talk.send(&mut lab, Server, &segment);
            assert_eq!(passed.verdict, Verdict::Forward);
            talk.sent(Server, text.len());
            // The client reads the very bytes that were read here, none of them out of band.
            assert!(talk.heard(Client).ends_with(&text));
            assert!(talk.urgent(Client).is_empty());
            assert_eq!(!lab.opened().is_empty(), is_announcement, "{text:?}");
        }
        // A pointer into the future, without bytes of its own.
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        let segment = talk.segment(Server).urgent(2);
        talk.send(&mut lab, Server, &segment);
        assert!(talk.urgent(Client).is_empty());
        real_answer_counts(&mut lab, &mut talk);
    });
}

#[test]
fn a24_segment_that_dies_on_its_way_costs_a_retransmission_at_most() {
    // A hop limit that does not reach the client can't be judged from here. What it carried was
    // read: so nothing else may take its place, and what it opened is the session's own.
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        let (_, fake) = hosts.passive(51_400);
        let (_, answer) = hosts.passive(52_000);
        let mut segment = talk.segment(Server).data(&fake);
        segment.hop_limit = 1;
        // It leaves, and is lost behind.
        let passed = lab.pass(talk.side(Server), segment.frame());
        assert_eq!(passed.verdict, Verdict::Forward);
        let segment = talk.segment(Server).data(&answer);
        let passed = talk.send(&mut lab, Server, &segment);
        assert_dropped(&passed, DropReason::HelperRewrite);
        lab.assert_open(hosts, &[passive_door(hosts, side, 51_400)]);
        let same = talk.segment(Server).data(&fake);
        talk.send(&mut lab, Server, &same);
        assert!(
            talk.heard(Client).ends_with(&fake),
            "what was read is what arrives"
        );
    });
}

#[test]
fn a25_reply_sent_again_with_other_bytes_reaches_nobody() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = asked(&mut lab, hosts, side);
        let (_, first) = hosts.passive(51_400);
        let (_, second) = hosts.passive(52_168);
        assert_eq!(first.len(), second.len());
        talk.dialogue(&mut lab, &[(Server, &first)]);
        let len = first.len() as i64;
        // Whole, its differing part, one differing byte, with old bytes before and new ones behind.
        let differs = first.bytes().zip(second.bytes()).position(|(a, b)| a != b);
        let at = differs.expect("they differ");
        let longer = [second.as_bytes(), b"226 x\r\n"].concat();
        let spanning = [b"s\r\n".as_slice(), second.as_bytes()].concat();
        for (by, bytes) in [
            (-len, second.as_bytes()),
            (at as i64 - len, &second.as_bytes()[at..]),
            (at as i64 - len, &second.as_bytes()[at..at + 1]),
            (-len, &longer),
            (-len - 3, &spanning),
            (-1, b"x227 (1,2,3,4,5,6)\r\n"),
        ] {
            let segment = talk.segment(Server).data(bytes).shifted(by);
            let passed = talk.send(&mut lab, Server, &segment);
            assert_dropped(&passed, DropReason::HelperRewrite);
        }
        assert!(talk.heard(Client).ends_with(&first));
        lab.assert_open(hosts, &[passive_door(hosts, side, 51_400)]);
        // The same bytes again are a retransmission and nothing more, however they are cut.
        for cut in 0..first.len() {
            let bytes = &first.as_bytes()[cut..];
            let verdict = talk.say_at(&mut lab, Server, cut as i64 - len, bytes);
            assert_eq!(verdict, Verdict::Forward);
        }
        assert_eq!(lab.opened().len(), 1);
    });
}

#[test]
fn a25_command_sent_again_with_other_bytes_reaches_nobody() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        let good = hosts.active(hosts.client, 51_400);
        talk.dialogue(&mut lab, &[(Client, &good)]);
        let evil = hosts.active(hosts.client, 51_401);
        let foreign = hosts.active(hosts.neighbour, 51_400);
        for line in [evil, foreign] {
            let segment = talk.segment(Client).data(&line);
            let segment = segment.shifted(-(good.len() as i64));
            let passed = talk.send(&mut lab, Client, &segment);
            assert_dropped(&passed, DropReason::HelperRewrite);
        }
        assert!(talk.heard(Server).ends_with(&good));
        let door = Door {
            from: hosts.server,
            to: at(hosts.client, 51_400),
            side: side.other(),
        };
        lab.assert_open(hosts, &[door]);
    });
}

#[test]
fn a25_refused_command_stays_unreadable_however_it_comes_again() {
    let line = "PORT 192,0,2,77,200,200\r\n";
    let whole = "XXXXXXXXXXXXXXXXXXXXXXX\r\n";
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    assert_eq!(talk.say(&mut lab, Client, line), whole);
    let len = line.len();
    for start in 0..len {
        for end in start + 1..=len {
            let segment = talk.segment(Client).data(&line[start..end]);
            let segment = segment.shifted(start as i64 - len as i64);
            let passed = talk.send(&mut lab, Client, &segment);
            assert_eq!(passed.verdict, Verdict::Forward);
            let [frame] = &passed.frames[..] else {
                panic!("one frame")
            };
            assert!(
                frame.ends_with(&whole.as_bytes()[start..end]),
                "{start}..{end}"
            );
        }
    }
    assert_eq!(lab.refusals().len(), 1, "it is one command");
}
