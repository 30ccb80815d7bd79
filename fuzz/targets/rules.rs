//! The rule parser: any text is a ruleset or a list of what is wrong with it.

use lotus::conntrack::{CtState, Direction, Time};
use lotus::rules::{PortNames, Query, Ruleset};
use lotus::wire::{self, Side};

use super::lab::{self, Ends, Tcp};

const STATES: [CtState; 5] = [
    CtState::New,
    CtState::Established,
    CtState::Related,
    CtState::Invalid,
    CtState::Untracked,
];

/// Takes any bytes; what is not UTF-8 in them is replaced, as in a file read leniently.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let ports = PortNames {
        inside: "in".into(),
        outside: "out".into(),
    };
    match Ruleset::parse("fuzz.nft", &text, &ports) {
        Ok(rules) => run(&rules),
        Err(problems) => assert!(
            problems.to_string().contains("error"),
            "refused without saying why"
        ),
    }
}

/// A checked program runs over every kind of packet, twice the same.
fn run(rules: &Ruleset) {
    for frame in frames() {
        let packet = wire::parse(&frame).expect("the lab's frames are good");
        for side in Side::BOTH {
            for state in STATES {
                for direction in [Direction::Original, Direction::Reply] {
                    let query = Query {
                        packet: &packet,
                        frame: &frame,
                        side,
                        state,
                        direction,
                        is_expected: state == CtState::Related,
                        now: Time::default(),
                    };
                    let outcome = rules.evaluate(&query);
                    let again = rules.evaluate(&query);
                    // A limit may say something else the next time.
                    assert!(outcome == again || !(outcome.cacheable || again.cacheable));
                    rules.count(outcome.hits, frame.len());
                    if let Some(helper) = outcome.helper {
                        assert!(!rules.helper(helper).name.is_empty());
                    }
                }
            }
        }
    }
    // What is printed means the same.
    let ports = PortNames {
        inside: "in".into(),
        outside: "out".into(),
    };
    let listed = rules.list();
    match Ruleset::parse("listed.nft", &listed, &ports) {
        Ok(again) => assert_eq!(again.list(), listed),
        Err(errors) => panic!("{errors}"),
    }
    let _ = rules.explain("tcp dport 21");
    let _ = rules.summary();
    assert!(rules.counters().all(|counter| counter.line > 0));
}

fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for is_v6 in [false, true] {
        let ends = Ends::new(is_v6, 40_000, 21);
        frames.push(Tcp::new(ends, Side::Inside).syn().frame());
        frames.push(lab::udp(ends.from(Side::Outside), b"x"));
        frames.push(lab::echo_request(ends.from(Side::Inside), 7));
    }
    let mut arp = lab::ethernet(Side::Inside, 0x0806);
    arp.extend([0; 28]);
    frames.push(arp);
    frames
}
