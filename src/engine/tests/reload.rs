//! Another ruleset comes into force while packets pass.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const CLIENT: &str = "192.0.2.10:5353";
const SERVER: &str = "192.0.2.20:53";
const ACCEPT_UDP: &str = "udp dport 53 accept";
const DROP: Verdict = Verdict::Drop(DropReason::RuleDrop);

/// A policy of drop with these rules, and helper objects before them.
fn rules(objects: &str, rules: &str) -> Ruleset {
    let text = format!(
        "table bridge t {{ {objects}\n chain c {{ type filter hook forward priority 0; policy drop;\n\
         {rules}\n }} }}"
    );
    parse(&text)
}

fn question(lab: &mut Lab) -> Verdict {
    let frame = testing::udp(socket(CLIENT), socket(SERVER), b"who?");
    lab.pass(Side::Inside, frame).verdict
}

fn answer(lab: &mut Lab) -> Verdict {
    let frame = testing::udp(socket(SERVER), socket(CLIENT), b"me");
    lab.pass(Side::Outside, frame).verdict
}

#[test]
fn a_flow_is_judged_again_with_its_present_state() {
    let first = "ct state established accept\n udp dport 53 ct state new accept";
    let mut lab = Lab::of(rules("", first), Settings::default());
    assert_eq!(question(&mut lab), Verdict::Forward);
    assert_eq!(answer(&mut lab), Verdict::Forward);
    assert_eq!(question(&mut lab), Verdict::Forward);
    for (number, (text, expected)) in [
        ("ct state established drop\n udp dport 53 accept", DROP),
        // Nothing new may come: the flow is not new any more.
        (
            "ct state new drop\n ct state established accept",
            Verdict::Forward,
        ),
        ("udp dport 54 accept", Verdict::Drop(DropReason::PolicyDrop)),
        (first, Verdict::Forward),
    ]
    .into_iter()
    .enumerate()
    {
        let generation = lab.shared.replace_rules(rules("", text));
        assert_eq!(generation, Ok(number as u32 + 2));
        for _ in 0..2 {
            assert_eq!(question(&mut lab), expected, "{text}");
            assert_eq!(answer(&mut lab), expected, "{text}");
        }
    }
    assert_eq!(lab.shared.totals().flows_begun, 1);
}

#[test]
fn a_batch_is_judged_by_the_rules_with_which_it_began() {
    let accept = || rules("", ACCEPT_UDP);
    let drop = || rules("", "udp dport 53 drop");
    let mut lab = Lab::of(accept(), Settings::default());
    let mut frames: Vec<_> = (1..=6)
        .map(|port| {
            testing::udp(
                SocketAddr::new([192, 0, 2, 1].into(), port),
                socket(SERVER),
                b"",
            )
        })
        .collect();
    let mut judged = |lab: &mut Lab, from: usize, to: usize| {
        let mut verdicts = Vec::new();
        for frame in &mut frames[from..to] {
            let mut parsed = Parsed::default();
            lab.engine.parse(frame, &mut parsed);
            let (meta, mut out) = (Meta::default(), Out::default());
            verdicts.push(
                lab.engine
                    .judge(&parsed, Side::Inside, frame, &meta, lab.now, &mut out),
            );
        }
        verdicts
    };
    lab.engine.begin_batch();
    assert_eq!(judged(&mut lab, 0, 2), [Verdict::Forward; 2]);
    lab.shared.replace_rules(drop()).unwrap();
    assert_eq!(judged(&mut lab, 2, 4), [Verdict::Forward; 2]);
    lab.engine.begin_batch();
    assert_eq!(judged(&mut lab, 4, 6), [DROP; 2]);
    // Those that the old rules let in, too.
    assert_eq!(judged(&mut lab, 0, 2), [DROP; 2]);
}

/// Both drop the probe, one in its first table, the other in its second. The first table of the one
/// and the second of the other would let it pass.
fn halves() -> [String; 2] {
    let table = |name: &str, rule: &str, priority: usize| {
        format!(
            "table bridge {name} {{ chain c {{ type filter hook forward priority {priority}; \
             policy accept;\n {rule}\n }} }}\n"
        )
    };
    let (drop, other) = ("udp dport 9 counter drop", "udp dport 10 counter accept");
    [[drop, other], [other, drop]]
        .map(|[first, second]| table("a", first, 0) + &table("b", second, 10))
}

#[test]
fn no_packet_is_judged_by_parts_of_two_rulesets() {
    const RELOADS: usize = 20_000;
    let lab = Lab::of(parse(&halves()[0]), Settings::default());
    let Lab { shared, now, .. } = &lab;
    let over = AtomicBool::new(false);
    let probes = std::thread::scope(|scope| {
        let worker = |number: u16| {
            let over = &over;
            move || {
                let counters = Arc::new(Counters::default());
                let mut engine = Engine::new(Arc::clone(shared), counters);
                let (meta, mut out) = (Meta::default(), Out::default());
                let mut probes = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    // Another flow each time, and one that is there.
                    let from = [
                        SocketAddr::new([10, 0, number as u8, 1].into(), probes as u16 | 1),
                        SocketAddr::new([10, 0, number as u8, 2].into(), 7),
                    ];
                    for (from, to, expected) in [
                        (from[0], "192.0.2.20:9", DROP),
                        (from[1], "192.0.2.20:10", Verdict::Forward),
                    ] {
                        let mut frame = testing::udp(from, socket(to), b"probe");
                        let verdict =
                            engine.process(Side::Inside, &mut frame, &meta, *now, &mut out);
                        assert_eq!(verdict, expected, "probe {probes}");
                    }
                    probes += 1;
                }
                probes
            }
        };
        let workers = [1, 2].map(|number| scope.spawn(worker(number)));
        for number in 0..RELOADS {
            let text = &halves()[(number + 1) % 2];
            shared.replace_rules(parse(text)).unwrap();
            shared.tick(*now, 1, &lab.counters);
        }
        over.store(true, Ordering::Relaxed);
        workers.map(|worker| worker.join().unwrap())
    });
    assert!(probes.iter().all(|&probes| probes > 0), "{probes:?}");
    assert_eq!(shared.generation() as usize, RELOADS + 1);
    // Two engines that are gone, and one that did nothing since the first.
    shared.tick(*now, 1, &lab.counters);
    assert_eq!(shared.rules.waiting(), 1);
}

#[test]
fn a_ruleset_is_freed_by_the_control_thread_once_nobody_holds_it() {
    let mut lab = Lab::of(rules("", ACCEPT_UDP), Settings::default());
    for _ in 0..3 {
        lab.shared.replace_rules(rules("", ACCEPT_UDP)).unwrap();
    }
    assert_eq!(lab.shared.rules.waiting(), 3);
    lab.tick();
    assert_eq!(lab.shared.rules.waiting(), 1, "the engine has one");
    lab.engine.begin_batch();
    assert_eq!(lab.shared.rules.waiting(), 1, "the engine frees none");
    lab.tick();
    assert_eq!(lab.shared.rules.waiting(), 0);
}

#[test]
fn counters_begin_anew() {
    let counted = "udp dport 53 counter accept";
    let mut lab = Lab::of(rules("", counted), Settings::default());
    let packets = |lab: &Lab| {
        lab.shared
            .with_rules(|rules| rules.counters().map(|c| c.packets).collect::<Vec<_>>())
    };
    question(&mut lab);
    question(&mut lab);
    assert_eq!(packets(&lab), [2]);
    let text = format!("udp dport 99 counter accept\n {counted}");
    lab.shared.replace_rules(rules("", &text)).unwrap();
    assert_eq!(packets(&lab), [0, 0]);
    question(&mut lab);
    question(&mut lab);
    assert_eq!(packets(&lab), [0, 2], "not the counter of the same number");
}

const OBJECT: &str = "ct helper plain { type \"ftp\" protocol tcp; }";
const STRICT: &str = "ct helper strict { type \"ftp\" protocol tcp; comment \"lotus:strict\"; }";
const FTP: &str = "ct state established,related accept\n tcp dport 21 ct state new ct helper set";

fn strict_settings() -> Settings {
    let mut settings = Settings::default();
    settings.set("ftp.another.active", "yes").unwrap();
    settings.set("ftp.strict.active", "no").unwrap();
    settings
}

#[test]
fn a_session_keeps_its_settings_when_helper_objects_are_numbered_anew() {
    let strict = |objects: &str| rules(objects, &format!("{FTP} \"strict\" accept"));
    let plain = |objects: &str| rules(objects, &format!("{FTP} \"plain\" accept"));
    let (one, two) = (format!("{OBJECT}\n{STRICT}"), format!("{STRICT}\n{OBJECT}"));
    for (old, new, refused) in [
        (strict(&one), strict(&two), true),
        (strict(&two), plain(&one), true),
        (strict(&one), rules("", "ct state established accept"), true),
        (plain(&one), strict(&two), false),
    ] {
        let mut lab = Lab::of(old, strict_settings());
        let mut wire = control(V4, Side::Outside);
        // Its server answers under the new rules, and only then does the session begin.
        assert!(wire.begin(&mut lab).is_forward());
        *wire.next(Client) += 1;
        lab.shared.replace_rules(new).unwrap();
        for (from, flags) in [(Server, SYN | ACK), (Client, ACK)] {
            let segment = wire.segment(from, flags, b"").frame();
            assert!(lab.pass(wire.side(from), segment).is_forward());
            *wire.next(from) = wire.next(from).wrapping_add(u32::from(from == Server));
        }
        wire.log_in(&mut lab);
        let passed = wire
            .say(&mut lab, Client, b"PORT 192,0,2,10,195,80\r\n")
            .bytes();
        assert_eq!(passed.starts_with(b"XXXX"), refused, "{passed:?}");
    }
}

#[test]
fn sessions_and_what_they_announced_stay() {
    let ftp = || rules(OBJECT, &format!("{FTP} \"plain\" accept"));
    let mut lab = Lab::of(ftp(), Settings::default());
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    lab.shared.replace_rules(ftp()).unwrap();
    let (from, to) = ("192.0.2.10:40001", "192.0.2.20:50000");
    assert!(connects(&mut lab, from, to, Side::Outside));
    // A session goes on also where the new rules begin none.
    lab.shared
        .replace_rules(rules("", "ct state established,related accept"))
        .unwrap();
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,81)")],
    );
    let (from, to) = ("192.0.2.10:40002", "192.0.2.20:50001");
    assert!(connects(&mut lab, from, to, Side::Outside));
    assert!(!control(["192.0.2.11", V4[1]], Side::Outside).connect(&mut lab));
    // The port is open, but no rule lets related packets pass.
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,82)")],
    );
    lab.shared
        .replace_rules(rules("", "ct state established accept"))
        .unwrap();
    let (from, to) = ("192.0.2.10:40003", "192.0.2.20:50002");
    assert!(!connects(&mut lab, from, to, Side::Outside));
}

#[test]
fn rules_that_name_a_profile_that_is_not_set_do_not_come_into_force() {
    let mut lab = Lab::of(rules("", ACCEPT_UDP), Settings::default());
    let error = lab.shared.replace_rules(rules(STRICT, "udp dport 53 drop"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("--set ftp.strict."), "{error}");
    assert_eq!(lab.shared.generation(), 1);
    assert_eq!(question(&mut lab), Verdict::Forward);
}
