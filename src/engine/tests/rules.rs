//! What rules ask of the engine: the states they see, what may be kept in a flow, and logs.

use super::*;

const CLIENT: &str = "192.0.2.10:40000";
const SERVER: &str = "192.0.2.20:53";

fn ruleset(rules: &str) -> Ruleset {
    let text = format!(
        "table inet t {{\nct helper ftp {{ type \"ftp\" protocol tcp; }}\nchain c {{ type filter hook \
         forward priority 0; policy drop;\n{rules}\n}}\n}}"
    );
    parse(&text)
}

fn lab(rules: &str) -> Lab {
    Lab::of(ruleset(rules), Settings::default())
}

fn question() -> Vec<u8> {
    testing::udp(socket(CLIENT), socket(SERVER), b"who?")
}

fn answer() -> Vec<u8> {
    testing::udp(socket(SERVER), socket(CLIENT), b"me")
}

fn counts(lab: &Lab) -> Vec<u64> {
    lab.shared
        .with_rules(|rules| rules.counters().map(|counter| counter.packets).collect())
}

#[test]
fn counters_count_packets_whose_verdict_was_kept() {
    let mut lab = lab("ct state established counter accept\nudp dport 53 counter accept");
    for _ in 0..3 {
        assert!(lab.pass(Side::Inside, question()).is_forward());
    }
    for _ in 0..5 {
        assert!(lab.pass(Side::Outside, answer()).is_forward());
    }
    assert_eq!(counts(&lab), [5, 3]);
}

#[test]
fn a_field_that_changes_within_a_flow_is_looked_at_in_each_packet() {
    let mut lab = lab("ip ttl 1 drop\nudp dport 53 accept");
    let low = {
        let mut frame = question();
        // The header's checksum covers it.
        frame[22] = 1;
        sum_header(&mut frame);
        frame
    };
    for _ in 0..2 {
        assert!(lab.pass(Side::Inside, question()).is_forward());
        let passed = lab.pass(Side::Inside, low.clone());
        assert_eq!(passed.verdict, Verdict::Drop(DropReason::RuleDrop));
    }
    assert_eq!(lab.shared.totals().flows_begun, 1);
}

#[test]
fn a_limit_holds_for_the_packets_of_one_flow() {
    let mut lab = lab("udp dport 53 limit rate 2/second burst 3 packets accept");
    let passed = |lab: &mut Lab| {
        let pass = |_: &usize| lab.pass(Side::Inside, question()).is_forward();
        (0..10).filter(pass).count()
    };
    assert_eq!(passed(&mut lab), 3);
    lab.later(1);
    assert_eq!(passed(&mut lab), 2);
}

#[test]
fn the_helper_of_a_flow_is_that_of_the_session_behind_it() {
    let mut lab = lab("ct state established accept
        tcp dport 21 ct state new ct helper set \"ftp\" accept
        ct state related ct helper \"ftp\" counter accept
        ct state related counter accept");
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    let (from, to) = (at(V4[0], 40_001), at(V4[1], 50_000));
    assert!(connects(&mut lab, &from, &to, Side::Outside));
    assert_eq!(counts(&lab), [1, 0]);
    // An error about the control connection is related to it, and no session's.
    let segment = wire.segment(Server, ACK, b"").frame();
    let error = testing::icmp(wire.client.ip(), wire.server.ip(), 3, 3, 0, &segment[14..]);
    assert!(lab.pass(Side::Outside, error).is_forward());
    assert_eq!(counts(&lab), [1, 1]);
    // One about the data connection is the session's.
    let (client, server) = (socket(&from), socket(&to));
    let segment = Tcp::new(server, client, ACK, 1, 1).frame();
    let error = testing::icmp(client.ip(), server.ip(), 3, 3, 0, &segment[14..]);
    let _ = lab.pass(Side::Outside, error);
    assert_eq!(counts(&lab)[1], 1);
}

/// Of two such segments in a second the second one is dropped: a SYN passes, its answer only when it
/// is sent again.
const FEW_SYNS: &str = "tcp flags syn limit rate over 1/second burst 1 packets drop
        ct state established,related accept
        tcp dport 21 ct state new ct helper set \"ftp\" accept";

/// A connection whose SYN-ACK the rules dropped at first.
fn connect_at_the_second_answer(lab: &mut Lab, wire: &mut Wire) {
    let dropped = Verdict::Drop(DropReason::RuleDrop);
    assert!(wire.begin(lab).is_forward());
    *wire.next(Client) += 1;
    let answer = wire.segment(Server, SYN | ACK, b"").frame();
    assert_eq!(lab.pass(wire.side(Server), answer.clone()).verdict, dropped);
    lab.later(1);
    assert!(lab.pass(wire.side(Server), answer).is_forward());
    *wire.next(Server) = wire.next(Server).wrapping_add(1);
    let last = wire.segment(Client, ACK, b"").frame();
    assert!(lab.pass(wire.side(Client), last).is_forward());
    lab.later(1);
}

#[test]
fn a_session_begins_at_the_first_answer_that_the_rules_let_pass() {
    let mut lab = lab(FEW_SYNS);
    let mut wire = control(V4, Side::Outside);
    connect_at_the_second_answer(&mut lab, &mut wire);
    wire.log_in(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    assert_eq!(lab.shared.totals().expectations, 1);
}

#[test]
fn a_port_is_used_up_at_the_first_answer_that_the_rules_let_pass() {
    let mut lab = lab(FEW_SYNS);
    let mut wire = control(V4, Side::Outside);
    connect_at_the_second_answer(&mut lab, &mut wire);
    wire.log_in(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    lab.later(1);
    let mut data = to_port(40_001, 50_000);
    connect_at_the_second_answer(&mut lab, &mut data);
    let totals = lab.shared.totals();
    assert_eq!((totals.expectations, totals.ports_used), (0, 1));
    let second = to_port(40_002, 50_000);
    let syn = second.segment(Client, SYN, b"").frame();
    let verdict = lab.pass(Side::Outside, syn).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::PolicyDrop));
}

#[test]
fn a_port_is_free_again_after_a_reset_behind_an_answer_that_the_rules_dropped() {
    let mut lab = lab(FEW_SYNS);
    let mut wire = control(V4, Side::Outside);
    connect_at_the_second_answer(&mut lab, &mut wire);
    wire.log_in(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    let mut data = to_port(40_001, 50_000);
    assert!(data.begin(&mut lab).is_forward());
    *data.next(Client) += 1;
    let answer = data.segment(Server, SYN | ACK, b"").frame();
    assert!(!lab.pass(Side::Inside, answer).is_forward());
    *data.next(Server) = data.next(Server).wrapping_add(1);
    let reset = data.segment(Server, RST, b"").frame();
    assert!(lab.pass(Side::Inside, reset).is_forward());
    lab.later(1);
    let mut again = to_port(40_002, 50_000);
    connect_at_the_second_answer(&mut lab, &mut again);
    assert_eq!(lab.shared.totals().ports_used, 1);
    let told = lab.told();
    assert!(
        !told.iter().any(|told| told.contains("data connection")),
        "{told:?}"
    );
}

#[test]
fn the_helper_of_a_flow_is_the_same_to_its_end() {
    let mut lab = lab(
        "ct state established,related ct helper \"ftp\" counter accept
        tcp dport 21 ct state new ct helper set \"ftp\" accept
        ct state established counter accept
        ct state related counter accept",
    );
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    let of_control = counts(&lab)[1];
    let mut data = to_port(40_001, 50_000);
    assert!(data.connect(&mut lab));
    data.close(&mut lab);
    assert_eq!(counts(&lab), [6, of_control, 0]);
    // The last acknowledgment again, by rules that know nothing of it.
    let others = ruleset("ct helper \"ftp\" counter accept");
    lab.shared.replace_rules(others).expect("good rules");
    let last = data.segment(Client, ACK, b"").frame();
    assert!(lab.pass(Side::Outside, last.clone()).is_forward());
    let error = testing::icmp(data.server.ip(), data.client.ip(), 3, 3, 0, &last[14..]);
    assert!(lab.pass(Side::Inside, error).is_forward());
    assert_eq!(counts(&lab), [2]);
    // A new connection with its ports is nobody's.
    assert!(!data.begin(&mut lab).is_forward());
}

#[test]
fn a_session_does_not_begin_with_an_answer_to_another_syn() {
    let mut lab = lab(FEW_SYNS);
    let mut wire = control(V4, Side::Outside);
    assert!(wire.begin(&mut lab).is_forward());
    *wire.next(Client) += 1;
    let mut answer = wire.segment(Server, SYN | ACK, b"");
    assert!(!lab.pass(Side::Inside, answer.frame()).is_forward());
    lab.later(1);
    answer.ack += 100;
    let _ = lab.pass(Side::Inside, answer.frame());
    assert_eq!(lab.shared.totals().sessions_begun, 0);
}

#[test]
fn what_a_log_statement_meets_is_told() {
    let mut lab = lab("udp dport 53 log prefix \"dns: \" level info accept");
    for _ in 0..2 {
        assert!(lab.pass(Side::Inside, question()).is_forward());
    }
    let told = lab.told();
    let expected = "log info: dns: UDP 192.0.2.10:40000 -> 192.0.2.20:53 from inside, 46 bytes";
    assert_eq!(told, [expected, expected]);
}
