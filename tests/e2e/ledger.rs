//! The accounting law, held against counts that lotus has no part in: the kernel's counters of
//! the four interfaces.

use std::time::Duration;

use serde_json::Value;

use crate::dut::{Dut, Status};
use crate::net::{Host, Lab, Ns, eventually};

/// Neighbour discovery and group reports of the hosts' own kernels come at any time; they are over
/// soon, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A frame that is on its way moves a counter within this, also on a machine with others' work.
const REST: Duration = Duration::from_millis(60);
/// So many times in a row nothing must have moved.
const RESTS: usize = 4;

/// Frames as the kernel counts them, at both ends of both wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// What the hosts sent.
    hosts_sent: u64,
    /// What came in at lotus's two ports.
    entered: u64,
    /// What left at lotus's two ports.
    left: u64,
    /// What the hosts got.
    hosts_received: u64,
}

impl Counts {
    fn read(lab: &Lab) -> Counts {
        let (c_rx, c_tx) = interface(&lab.client, Host::Client.interface());
        let (s_rx, s_tx) = interface(&lab.server, Host::Server.interface());
        let (in_rx, in_tx) = interface(&lab.fw, Host::Client.port());
        let (out_rx, out_tx) = interface(&lab.fw, Host::Server.port());
        Counts {
            hosts_sent: c_tx + s_tx,
            entered: in_rx + out_rx,
            left: in_tx + out_tx,
            hosts_received: c_rx + s_rx,
        }
    }

    fn since(self, start: Counts) -> Counts {
        Counts {
            hosts_sent: self.hosts_sent - start.hosts_sent,
            entered: self.entered - start.entered,
            left: self.left - start.left,
            hosts_received: self.hosts_received - start.hosts_received,
        }
    }
}

/// Books opened while it was quiet.
#[derive(Debug)]
pub(crate) struct Ledger {
    counts: Counts,
    status: Option<Status>,
}

/// What closed books say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    pub(crate) entered: u64,
    pub(crate) hosts_received: u64,
    pub(crate) ring_lost: u64,
    pub(crate) dropped: u64,
}

impl Ledger {
    /// Waits until nothing moves and notes where all counters stand.
    pub(crate) fn open(lab: &Lab, dut: &mut Dut<'_>) -> Ledger {
        let mut look = || {
            let status = dut.lotus().map(|lotus| lotus.status());
            (Counts::read(lab), status)
        };
        // What entered may still wait for lotus to have a core: so its own counters must stand
        // still, too.
        let still = |(counts, status): &(Counts, Option<Status>)| {
            (*counts, status.as_ref().map(Status::frames))
        };
        let (counts, status) = come_to_rest(&mut look, still);
        Ledger { counts, status }
    }

    /// Checks that each frame is accounted for since the opening. Waits for a while, for the last
    /// frames may be on their way.
    pub(crate) fn close(&self, lab: &Lab, dut: &mut Dut<'_>) -> Totals {
        let mut verdict = Err("not looked yet".to_owned());
        eventually(PATIENCE, || {
            let before = Counts::read(lab);
            let status = dut.lotus().map(|lotus| lotus.status());
            verdict = if before == Counts::read(lab) {
                self.judge(before.since(self.counts), status.as_ref())
            } else {
                Err("the testbed does not come to rest".to_owned())
            };
            verdict.is_ok()
        });
        verdict.unwrap_or_else(|wrong| panic!("accounting: {wrong}"))
    }

    fn judge(&self, counts: Counts, status: Option<&Status>) -> Result<Totals, String> {
        let totals = Totals {
            entered: counts.entered,
            hosts_received: counts.hosts_received,
            ring_lost: 0,
            dropped: 0,
        };
        let law = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        law(
            counts.hosts_sent == counts.entered,
            "the wires themselves lose frames",
        )?;
        law(
            counts.left == counts.hosts_received,
            "the wires themselves lose frames",
        )?;
        let (Some(start), Some(end)) = (&self.status, status) else {
            return Ok(totals);
        };
        let grown = |name: &str| end.number(name) - start.number(name);
        let own = end.json["generated"].as_u64().unwrap_or(0)
            - start.json["generated"].as_u64().unwrap_or(0);
        let show = format!(
            "{counts:?}, lotus before {} and after {}",
            start.json, end.json
        );
        law(
            grown("received") + grown("ring_lost") == counts.entered,
            &format!("received + ring_lost is not what entered: {show}"),
        )?;
        law(
            grown("forwarded") + own == counts.hosts_received,
            &format!("forwarded is not what the hosts received: {show}"),
        )?;
        for status in [start, end] {
            let sum = ["forwarded", "dropped", "held"].map(|name| status.number(name));
            law(
                status.number("received") == sum.iter().sum::<u64>(),
                &format!(
                    "received is not forwarded + dropped + held: {}",
                    status.json
                ),
            )?;
            law(
                status.number("dropped") == status.drops_sum(),
                &format!("dropped is not the sum over the reasons: {}", status.json),
            )?;
        }
        Ok(Totals {
            ring_lost: grown("ring_lost"),
            dropped: grown("dropped"),
            ..totals
        })
    }
}

/// Waits until no frame moves on either wire: all that was sent before has arrived, or never will.
pub(crate) fn rest(lab: &Lab) {
    come_to_rest(&mut || Counts::read(lab), |counts| *counts);
}

/// Looks again and again until it sees the same several times in a row.
fn come_to_rest<T, S: PartialEq>(look: &mut impl FnMut() -> T, what: impl Fn(&T) -> S) -> T {
    let (mut seen, mut rests) = (look(), 0);
    let rested = eventually(PATIENCE, || {
        // In one go, for every pause between two looks would be one more chance to be disturbed.
        while rests < RESTS {
            std::thread::sleep(REST);
            let now = look();
            let moved = what(&now) != what(&seen);
            seen = now;
            if moved {
                rests = 0;
                return false;
            }
            rests += 1;
        }
        true
    });
    assert!(rested, "the testbed does not come to rest");
    seen
}

/// Frames received and sent by an interface.
fn interface(ns: &Ns, name: &str) -> (u64, u64) {
    let text = ns.ip(&format!("-s -j link show {name}"));
    let json: Value = serde_json::from_str(&text).expect("JSON of ip");
    let packets = |direction: &str| {
        json[0]["stats64"][direction]["packets"]
            .as_u64()
            .expect("a packet counter")
    };
    (packets("rx"), packets("tx"))
}

mod tests {
    use serde_json::json;

    use super::{Counts, Ledger};
    use crate::dut::Status;

    fn status(received: u64, forwarded: u64, dropped: u64, held: u64, ring_lost: u64) -> Status {
        Status {
            json: json!({"received": received, "forwarded": forwarded, "dropped": dropped,
                "held": held, "ring_lost": ring_lost, "drops": {"policy_drop": dropped}}),
        }
    }

    fn judge(end: &Status, hosts_received: u64) -> bool {
        let zero = Counts {
            hosts_sent: 0,
            entered: 0,
            left: 0,
            hosts_received: 0,
        };
        let ledger = Ledger {
            counts: zero,
            status: Some(status(0, 0, 0, 0, 0)),
        };
        let counts = Counts {
            hosts_sent: 10,
            entered: 10,
            left: hosts_received,
            hosts_received,
        };
        ledger.judge(counts, Some(end)).is_ok()
    }

    #[test]
    fn honest_books_close_and_others_do_not() {
        assert!(judge(&status(8, 5, 2, 1, 2), 5));
        assert!(
            !judge(&status(8, 5, 2, 1, 1), 5),
            "a frame vanished before the ring"
        );
        assert!(
            !judge(&status(8, 5, 1, 1, 2), 5),
            "a frame vanished in lotus"
        );
        assert!(
            !judge(&status(8, 5, 2, 1, 2), 4),
            "a frame vanished after lotus"
        );
        let mut end = status(8, 5, 2, 1, 2);
        end.json["drops"] = json!({"policy_drop": 1});
        assert!(!judge(&end, 5), "a drop without a reason");
    }
}
