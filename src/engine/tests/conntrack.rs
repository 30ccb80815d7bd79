//! Connection tracking as a whole: what belongs to a flow, and what does not.

mod errors;
mod floods;
mod fragments;
mod pick_up;

use super::*;
use crate::rules::Builtin;
use crate::wire::proto;

const DNS: &str = "198.51.100.1:53";
const HOST: &str = "192.0.2.10:5353";
const POLICY_DROP: Verdict = Verdict::Drop(DropReason::PolicyDrop);

/// The table keeps each flow in a box with its key, of 46 bytes: together at most 184, which mimalloc
/// takes 192 for; of 192 it would make 224.
#[test]
fn a_flow_is_small() {
    use crate::conntrack::{Flow, Tcp};
    assert_eq!(
        [size_of::<Kept>(), size_of::<Tcp>(), size_of::<Flow<Kept>>()],
        [6, 72, 136]
    );
}

/// CVE-2014-8160: a rule about a port must not let another protocol through, nor may a flow of one
/// protocol make another one's packets established.
#[test]
fn sctp_gre_dccp_and_udp_lite_never_match_a_rule_about_tcp_or_udp() {
    let builtin = Builtin {
        ftp_servers: vec!["192.0.2.20".parse().unwrap()],
        ..Builtin::default()
    };
    let text = format!(
        "define inside = \"in\"\ndefine outside = \"out\"\n{}",
        builtin.text()
    );
    let (client, server) = (socket("198.51.100.7:40000"), socket("192.0.2.20:21"));
    let mut lab = Lab::of(parse(&text), Settings::default());
    assert!(connects(
        &mut lab,
        &client.to_string(),
        &server.to_string(),
        Side::Outside
    ));
    // Bytes that are a good TCP (or UDP) header for port 21 in every one of them.
    let tcp = testing::Tcp::new(client, server, SYN, 1, 0).frame()[34..].to_vec();
    for protocol in [33, 47, 132, 136, 0xfc] {
        let frame = testing::ip_frame(client.ip(), server.ip(), protocol, &tcp);
        let verdict = lab.pass(Side::Outside, frame).verdict;
        assert_eq!(verdict, POLICY_DROP, "protocol {protocol}");
    }
    // From inside anything may go out, and its answers come back, but no one else's.
    let out = testing::ip_frame(server.ip(), client.ip(), 132, &tcp);
    assert!(lab.pass(Side::Inside, out).is_forward());
    let back = testing::ip_frame(client.ip(), server.ip(), 132, &tcp);
    assert!(lab.pass(Side::Outside, back).is_forward());
    for protocol in [33, 47, 136] {
        let frame = testing::ip_frame(client.ip(), server.ip(), protocol, &tcp);
        assert_eq!(lab.pass(Side::Outside, frame).verdict, POLICY_DROP);
    }
}

#[test]
fn an_s_tag_is_another_network_than_a_c_tag_with_the_same_id() {
    let mut lab = Lab::new();
    let (host, resolver) = (socket(HOST), socket(DNS));
    let tagged = |mut frame: Vec<u8>, tpid: u16| {
        frame.splice(12..12, [&tpid.to_be_bytes()[..], &[0, 5]].concat());
        frame
    };
    let question = testing::udp(host, resolver, b"who?");
    let answer = testing::udp(resolver, host, b"me");
    assert!(
        lab.pass(Side::Inside, tagged(question.clone(), 0x8100))
            .is_forward()
    );
    let other = lab.pass(Side::Outside, tagged(answer.clone(), 0x88a8));
    assert_eq!(other.verdict, POLICY_DROP);
    assert!(lab.pass(Side::Outside, tagged(answer, 0x8100)).is_forward());
}

/// Two hosts that ask each other with the same identifier, as Windows does, which always uses 1: each
/// question is its own flow, and is judged as one that begins, not as an answer.
#[test]
fn a_question_in_the_answers_place_is_a_question() {
    let mut lab = Lab::new();
    let (host, far): (IpAddr, IpAddr) = ([192, 0, 2, 10].into(), [198, 51, 100, 1].into());
    let message = |from, to, kind| testing::icmp(from, to, kind, 0, 7, b"x");
    assert!(lab.pass(Side::Inside, message(host, far, 8)).is_forward());
    assert_eq!(lab.shared.totals().flows, 1);
    assert!(lab.pass(Side::Outside, message(far, host, 8)).is_forward());
    assert_eq!(lab.shared.totals().flows, 2);
    assert!(lab.pass(Side::Outside, message(far, host, 0)).is_forward());
    assert!(lab.pass(Side::Inside, message(host, far, 0)).is_forward());
    assert_eq!(lab.shared.totals().flows, 2);
}

#[test]
fn a_flow_belongs_to_its_sides() {
    let mut lab = Lab::new();
    let wire = session(&mut lab);
    let stolen = wire.segment(Client, 0, b"QUIT\r\n").frame();
    let verdict = lab.pass(Side::Inside, stolen).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::WrongSide));
}
