#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::io::memory::{MemoryPort, MemoryWire};
use crate::observe::{Snapshot, Traffic};
use crate::wire::OwnedFrame;

/// Does what a frame's first byte says.
struct Scripted {
    counters: Arc<Counters>,
    held: Vec<OwnedFrame>,
}

const DROP: u8 = 0xd0;
const HOLD: u8 = 0x40;
/// Releases what is held, after itself.
const RELEASE: u8 = 0x41;
/// Dropped; a frame of lotus's own goes to both sides.
const RESET: u8 = 0x42;
/// Overwritten with this on its way.
const REWRITE: u8 = 0x43;
const REWRITTEN: u8 = 0x44;
const GENERATED: u8 = 0x99;

impl Judge for Scripted {
    /// The first byte.
    type Parsed = u8;

    fn parse(&self, frame: &[u8], parsed: &mut u8) {
        *parsed = frame[0];
    }

    fn fetch(&self, parsed: &u8) {
        assert_ne!(*parsed, REWRITTEN, "all are fetched before one is judged");
    }

    fn judge(
        &mut self,
        parsed: &u8,
        side: Side,
        frame: &mut [u8],
        meta: &Meta,
        _: Time,
        out: &mut Out,
    ) -> Verdict {
        self.counters.received(side.index(), frame.len());
        assert_eq!(*parsed, frame[0], "another frame's");
        match *parsed {
            DROP => {
                self.counters.dropped(DropReason::RuleDrop, frame.len());
                return Verdict::Drop(DropReason::RuleDrop);
            }
            HOLD => {
                self.counters.held(frame.len());
                self.held.push(OwnedFrame::copy_of(frame, meta));
                return Verdict::Held;
            }
            RELEASE => out.frames.extend(self.held.drain(..).map(|frame| OutFrame {
                to: side.other(),
                origin: Origin::Released,
                frame,
            })),
            RESET => {
                for to in Side::BOTH {
                    let frame = OwnedFrame::copy_of(&[GENERATED; 54], &Meta::default());
                    out.frames.push(OutFrame {
                        to,
                        origin: Origin::Generated,
                        frame,
                    });
                }
                self.counters.dropped(DropReason::HelperHeld, frame.len());
                return Verdict::Drop(DropReason::HelperHeld);
            }
            REWRITE => frame.fill(REWRITTEN),
            _ => {}
        }
        Verdict::Forward
    }
}

struct Bench<J: Judge> {
    worker: Worker<MemoryPort, J>,
    wires: [MemoryWire; 2],
    counters: Arc<Counters>,
}

fn bench<J: Judge>(judge: impl FnOnce(Arc<Counters>) -> J) -> Bench<J> {
    let ((inside, inside_wire), (outside, outside_wire)) = (MemoryPort::new(), MemoryPort::new());
    let counters = Arc::new(Counters::default());
    let judge = judge(Arc::clone(&counters));
    let polling = Polling::default();
    let worker = Worker::new([inside, outside], judge, Arc::clone(&counters), polling);
    Bench {
        worker,
        wires: [inside_wire, outside_wire],
        counters,
    }
}

fn scripted() -> Bench<Scripted> {
    bench(|counters| Scripted {
        counters,
        held: Vec::new(),
    })
}

impl<J: Judge> Bench<J> {
    fn put(&self, side: Side, first_bytes: &[u8]) {
        for &byte in first_bytes {
            self.wires[side.index()].put(frame(byte));
        }
    }

    /// Until nothing waits any more.
    fn settle(&mut self) {
        while self.worker.turn(Time::default()).unwrap() > 0 {}
    }

    fn sent(&self, side: Side) -> Vec<u8> {
        self.wires[side.index()]
            .sent()
            .iter()
            .map(|frame| frame.frame()[0])
            .collect()
    }

    /// The counters, after a look at the law.
    fn snapshot(&self) -> Snapshot {
        let snapshot = Snapshot::of([&*self.counters]);
        assert_eq!(snapshot.unaccounted_frames(), 0, "{snapshot:?}");
        let bytes =
            snapshot.forwarded_total().bytes + snapshot.dropped_total().bytes + snapshot.held.bytes;
        assert_eq!(snapshot.received_total().bytes, bytes, "{snapshot:?}");
        snapshot
    }
}

fn frame(first: u8) -> OwnedFrame {
    OwnedFrame::copy_of(&[first; FRAME_BYTES], &Meta::default())
}

const FRAME_BYTES: usize = 60;

fn frames(frames: u64) -> Traffic {
    Traffic {
        frames,
        bytes: frames * FRAME_BYTES as u64,
    }
}

#[test]
fn passthrough_forwards_both_ways_in_order_and_counts() {
    let mut bench = bench(Passthrough::new);
    let many: Vec<u8> = (0..200).collect();
    bench.put(Side::Inside, &many);
    bench.put(Side::Outside, &[7, 8, 9]);
    bench.settle();
    assert_eq!(bench.sent(Side::Outside), many);
    assert_eq!(bench.sent(Side::Inside), [7, 8, 9]);
    let counted = bench.snapshot();
    assert_eq!(counted.received, [frames(200), frames(3)]);
    assert_eq!(counted.forwarded, [frames(3), frames(200)]);
}

#[test]
fn verdicts_are_obeyed_and_changes_go_out() {
    let mut bench = scripted();
    bench.put(Side::Inside, &[1, DROP, 2, REWRITE, DROP, 3]);
    bench.settle();
    assert_eq!(bench.sent(Side::Outside), [1, 2, REWRITTEN, 3]);
    assert!(bench.sent(Side::Inside).is_empty());
    let counted = bench.snapshot();
    assert_eq!(counted.forwarded, [frames(0), frames(4)]);
    assert_eq!(counted.dropped_for(DropReason::RuleDrop), 2);
}

#[test]
fn released_frames_follow_the_one_that_released_them() {
    let mut bench = scripted();
    bench.put(Side::Outside, &[1, HOLD, 2, HOLD]);
    bench.settle();
    assert_eq!(bench.snapshot().held, frames(2));
    bench.put(Side::Outside, &[3, RELEASE, 4]);
    bench.settle();
    assert_eq!(bench.sent(Side::Inside), [1, 2, 3, RELEASE, HOLD, HOLD, 4]);
    let counted = bench.snapshot();
    assert_eq!(
        (counted.held, counted.forwarded),
        (frames(0), [frames(7), frames(0)])
    );
}

#[test]
fn generated_frames_go_to_their_own_ports_and_count_apart() {
    let mut bench = scripted();
    bench.put(Side::Inside, &[1, RESET, 2]);
    bench.settle();
    assert_eq!(bench.sent(Side::Outside), [1, GENERATED, 2]);
    assert_eq!(bench.sent(Side::Inside), [GENERATED]);
    let counted = bench.snapshot();
    assert_eq!(
        counted.generated,
        Traffic {
            frames: 2,
            bytes: 108
        }
    );
    assert_eq!(counted.forwarded, [frames(0), frames(2)]);
}

#[test]
fn more_frames_beside_a_batch_than_a_batch_holds_all_leave() {
    let mut bench = scripted();
    bench.put(Side::Inside, &[HOLD; 150]);
    bench.put(Side::Inside, &[RELEASE, 5]);
    bench.settle();
    let sent = bench.sent(Side::Outside);
    assert_eq!((sent.len(), sent[0], sent[151]), (152, RELEASE, 5));
    assert_eq!(bench.snapshot().forwarded, [frames(0), frames(152)]);
}

#[test]
fn frames_that_could_not_be_sent_are_dropped_with_the_ports_reason() {
    let mut bench = scripted();
    let [_, outside] = &bench.wires;
    outside.answer_sends([
        Err(DropReason::TxBusy),
        Ok(()),
        Err(DropReason::TxTooLong),
        // the released one
        Err(DropReason::TxDown),
    ]);
    bench.put(Side::Inside, &[HOLD, 1, 2, RELEASE, 3]);
    bench.settle();
    assert_eq!(bench.sent(Side::Outside), [2, 3]);
    let counted = bench.snapshot();
    assert_eq!(counted.forwarded, [frames(0), frames(2)]);
    assert_eq!(counted.held, frames(0));
    for reason in [
        DropReason::TxBusy,
        DropReason::TxTooLong,
        DropReason::TxDown,
    ] {
        assert_eq!(counted.dropped_for(reason), 1, "{reason}");
    }
}

#[test]
fn a_generated_frame_that_could_not_be_sent_counts_nowhere() {
    let mut bench = scripted();
    let [inside, _] = &bench.wires;
    inside.answer_sends([Err(DropReason::TxBusy)]);
    bench.put(Side::Inside, &[RESET]);
    bench.settle();
    let counted = bench.snapshot();
    assert_eq!(counted.generated.frames, 1);
    assert_eq!(counted.dropped_for(DropReason::TxBusy), 0);
}

#[test]
fn unusable_frames_are_received_and_dropped_without_a_look() {
    let mut bench = scripted();
    let [inside, _] = &bench.wires;
    inside.put_unusable(DropReason::RxOffload, 70_000);
    bench.put(Side::Inside, &[1]);
    bench.settle();
    assert_eq!(bench.sent(Side::Outside), [1]);
    let counted = bench.snapshot();
    assert_eq!(
        counted.received[0],
        Traffic {
            frames: 2,
            bytes: 70_060
        }
    );
    assert_eq!(counted.dropped_for(DropReason::RxOffload), 1);
}

#[test]
fn run_ends_on_the_flag_and_counts_what_was_lost() {
    let mut bench = bench(Passthrough::new);
    let [inside, _] = &bench.wires;
    inside.lose(5);
    bench.put(Side::Outside, &[1, 2]);
    let stop = AtomicBool::new(false);
    let exit = thread::scope(|scope| {
        let running = scope.spawn(|| bench.worker.run(&stop));
        thread::sleep(Duration::from_millis(20));
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap()
    });
    assert!(matches!(exit, Exit::Stopped));
    assert_eq!(bench.sent(Side::Inside), [1, 2]);
    assert_eq!(bench.snapshot().ring_lost, 5);
}

#[test]
fn run_ends_with_the_side_whose_interface_is_gone() {
    for (side, polling) in [
        (Side::Inside, Polling::default()),
        (Side::Outside, Polling::Spin),
    ] {
        let mut bench = bench(Passthrough::new);
        bench.worker.polling = polling;
        bench.wires[side.index()].remove();
        match bench.worker.run(&AtomicBool::new(false)) {
            Exit::Port { side: gone, error } => {
                assert_eq!((gone, error.kind()), (side, io::ErrorKind::NotFound));
            }
            Exit::Stopped => panic!("nobody said stop"),
        }
    }
}

#[test]
fn pinning_works_for_a_core_that_is_there() {
    let core = rustix::thread::sched_getcpu();
    thread::spawn(move || {
        pin_to_core(core).unwrap();
        assert_eq!(rustix::thread::sched_getcpu(), core);
        assert!(pin_to_core(CpuSet::MAX_CPU).is_err());
    })
    .join()
    .unwrap();
}

#[test]
fn a_worker_looks_longer_while_its_sleeps_are_short() {
    let us = Duration::from_micros;
    let mut patience = Patience::new(us(50));
    for expected in [100, 200, 400, 400] {
        patience.slept(us(300));
        assert_eq!(patience.now, us(expected));
    }
    // Too long to be waited for.
    patience.slept(us(401));
    assert_eq!(patience.now, us(50));
    // Who wants no spinning gets none.
    let mut none = Patience::new(Duration::ZERO);
    none.slept(us(1));
    assert_eq!(none.now, Duration::ZERO);
}
