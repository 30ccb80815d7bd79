//! A table that is full.

use super::*;

/// A SYN from an address that nobody has.
fn spoofed(random: &mut u64) -> Vec<u8> {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    let from = SocketAddr::new(
        std::net::Ipv4Addr::from_bits((*random >> 32) as u32).into(),
        (*random >> 16) as u16 | 1024,
    );
    testing::Tcp::new(from, socket("192.0.2.20:21"), SYN, *random as u32, 0).frame()
}

#[test]
fn a_flood_of_spoofed_syns_shuts_nobody_out() {
    let mut lab = Lab::set(&[
        ("conntrack.max", "2000"),
        ("conntrack.source_halfopen", "20"),
    ]);
    let mut random = 1;
    let mut flood = |lab: &mut Lab, syns: usize| {
        for _ in 0..syns {
            let frame = spoofed(&mut random);
            let verdict = lab.pass(Side::Outside, frame).verdict;
            // A few meet counters that others have filled.
            let reason = Verdict::Drop(DropReason::SourceHalfOpen);
            assert!(verdict == Verdict::Forward || verdict == reason);
            assert!(lab.shared.totals().flows <= 2000);
        }
    };
    let mut old: Vec<_> = (0..100)
        .map(|n| {
            let client = format!("203.0.113.{n}:30000");
            let mut wire = Wire::new(&client, "192.0.2.20:21", Side::Outside);
            assert!(wire.connect(&mut lab));
            wire
        })
        .collect();
    flood(&mut lab, 10_000);
    assert_eq!(lab.shared.totals().flows, 2000);
    // Honest clients still get in, though 500 SYNs come between any two segments of theirs.
    for n in 0..100 {
        let client = format!("198.51.100.{n}:40000");
        let mut wire = Wire::new(&client, "192.0.2.20:21", Side::Outside);
        assert!(wire.begin(&mut lab).is_forward());
        *wire.next(Client) += 1;
        flood(&mut lab, 500);
        let answer = wire.segment(Server, SYN | ACK, b"");
        assert!(lab.pass(Side::Inside, answer.frame()).is_forward());
        *wire.next(Server) = wire.next(Server).wrapping_add(1);
        flood(&mut lab, 500);
        let last = wire.segment(Client, ACK, b"").frame();
        assert!(lab.pass(Side::Outside, last).is_forward());
        old.push(wire);
    }
    // Everybody who was there still is.
    for wire in &mut old {
        assert!(wire.say(&mut lab, Server, b"220 ready\r\n").is_forward());
        assert!(wire.say(&mut lab, Client, b"USER joe\r\n").is_forward());
    }
    assert_eq!(lab.shared.totals().flows, 2000);
    assert_eq!(lab.dropped(DropReason::TableFull), 0);
    // Most of the flood passed: the cap is for those who flood from one address.
    assert!(lab.dropped(DropReason::SourceHalfOpen) < 1000);
    // When it is over, what it left goes by itself.
    lab.later(121);
    lab.tick();
    assert_eq!(lab.shared.totals().flows, 200);
}

#[test]
fn a_flood_from_one_address_does_not_push_out_others() {
    let mut lab = Lab::set(&[
        ("conntrack.max", "1000"),
        ("conntrack.source_halfopen", "50"),
    ]);
    // An honest client that waits for its answer.
    let mut wire = Wire::new("198.51.100.7:40000", "192.0.2.20:21", Side::Outside);
    assert!(wire.begin(&mut lab).is_forward());
    *wire.next(Client) += 1;
    for port in 1024..11_024 {
        let from = SocketAddr::new([203, 0, 113, 66].into(), port);
        let frame = testing::Tcp::new(from, socket("192.0.2.20:21"), SYN, 7, 0).frame();
        lab.pass(Side::Outside, frame);
    }
    assert_eq!(lab.shared.totals().flows, 801, "80 % and the first above");
    assert_eq!(lab.dropped(DropReason::SourceHalfOpen), 10_000 - 800);
    let answer = wire.segment(Server, SYN | ACK, b"");
    assert!(lab.pass(Side::Inside, answer.frame()).is_forward());
    assert!(connects(
        &mut lab,
        "198.51.100.8:40000",
        "192.0.2.20:21",
        Side::Outside
    ));
}

#[test]
fn only_a_table_full_of_connections_refuses_a_new_one() {
    let mut lab = Lab::set(&[("conntrack.max", "3")]);
    let connect =
        |lab: &mut Lab, port: u16| connects(lab, &at(V4[0], port), &at(V4[1], 21), Side::Outside);
    assert!((1..=3).all(|port| connect(&mut lab, 1000 + port)));
    assert!(!connect(&mut lab, 2000));
    assert_eq!(lab.dropped(DropReason::TableFull), 1);
}

#[test]
fn the_table_is_never_fuller_than_told() {
    let mut lab = Lab::set(&[("conntrack.max", "50")]);
    let mut wire = session(&mut lab);
    for port in 0..200 {
        let frame = testing::udp(
            ([192, 0, 2, 10], 10_000 + port).into(),
            ([198, 51, 100, 1], 53).into(),
            b"x",
        );
        assert!(lab.pass(Side::Inside, frame).is_forward());
        assert!(lab.shared.totals().flows <= 50);
    }
    wire.dialogue(&mut lab, &[(Client, "NOOP"), (Server, "200 still here")]);
}
