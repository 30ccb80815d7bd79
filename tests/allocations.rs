//! How often a frame makes the engine ask for memory: never, once its flow is there.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};

#[path = "../benches/common/mod.rs"]
mod common;

use common::BATCH;
use common::allocations::{Counting, during};
use common::load::{self, Load, Order, Source};
use common::ring::{BATCHES, Ring};
use common::traffic::Protocol::{Tcp, Udp};
use lotus::io::{Port, Received, Sent};
use lotus::runtime::worker::{Polling, Worker};
use lotus::wire::{Meta, Side};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FRAMES: u64 = (BATCHES * BATCH) as u64;

/// A ring full, after one that made what is made once.
fn in_a_ring_full<S: Source>(mut load: Load<S>) -> u64 {
    for _ in 0..2 {
        load.fill(BATCHES);
        load.run();
    }
    load.fill(BATCHES);
    during(|| load.run())
}

#[test]
fn the_allocator_counts() {
    let mut kept = Vec::new();
    assert_eq!(during(|| kept.push(Box::new(1))), 2);
    assert_eq!(during(|| kept.clear()), 0);
}

#[test]
fn frames_of_established_flows_take_none() {
    for protocol in [Udp, Tcp] {
        for flows in [1, 1024] {
            for order in [Order::InTurn, Order::Shuffled] {
                let load = Load::established(protocol, flows, order);
                let asked = in_a_ring_full(load);
                assert_eq!(asked, 0, "{protocol:?}, {flows} flows, {order:?}");
            }
        }
    }
}

#[test]
fn dropped_frames_take_none() {
    for protocol in [Udp, Tcp] {
        let asked = in_a_ring_full(Load::unwanted(protocol));
        assert_eq!(asked, 0, "{protocol:?}");
    }
}

/// One for each: the flow and its name, in a box. Beside that the queue of unanswered flows grows by
/// 1,024 nodes at a time, and the maps grow; neither does in a table that has been in use.
#[test]
fn a_new_flow_takes_one() {
    for protocol in [Udp, Tcp] {
        let mut load = Load::beginning(protocol);
        let fill = |load: &mut Load<load::Beginning>| {
            for _ in 0..load::MOST_BEGINNING as usize / (BATCHES * BATCH) {
                load.fill(BATCHES);
                load.run();
            }
        };
        // The keys are random: not every time do the same maps grow, until all of them have room.
        for _ in 0..4 {
            fill(&mut load);
            load.lab.forget();
        }
        load.fill(BATCHES);
        let asked = during(|| load.run());
        assert_eq!(asked, FRAMES, "{protocol:?}");
    }
}

/// NOOP and its reply, PASV and its reply.
#[test]
fn what_is_said_to_an_ftp_server_takes_a_few() {
    for (name, load, at_most) in [("NOOP", load::noop(), 8), ("PASV", load::pasv(), 10)] {
        let asked = in_a_ring_full(load);
        assert!(
            asked <= FRAMES * at_most,
            "{name}: {asked} in {FRAMES} frames"
        );
    }
}

#[test]
fn a_worker_takes_none() {
    for protocol in [Udp, Tcp] {
        for flows in [1, 1024] {
            let load = Load::established(protocol, flows, Order::Shuffled);
            assert_eq!(
                through_a_worker(load, BATCH),
                0,
                "{protocol:?}, {flows} flows"
            );
        }
        let asked = through_a_worker(Load::unwanted(protocol), 0);
        assert_eq!(asked, 0, "{protocol:?}, dropped");
    }
}

/// A ring full through a worker's loop; so many frames of each batch must leave.
fn through_a_worker<S: Source>(load: Load<S>, passing: usize) -> u64 {
    let (lab, mut ring, mut source) = load.into_parts();
    let (engine, counters, now) = lab.into_engine();
    let wires = [Wire::default(), Wire::default()];
    let ports = wires.clone().map(|wire| SlotPort { wire, batch: None });
    let mut worker = Worker::new(ports, engine, counters, Polling::Spin);
    let mut asked = 0;
    for _ in 0..BATCHES {
        let batch = source.fill(&mut ring);
        let [from, to] = match ring.side(batch) {
            Side::Inside => [0, 1],
            Side::Outside => [1, 0],
        };
        wires[from].state().waiting = Some((ring, batch));
        asked += during(|| {
            let frames = worker.turn(now).expect("ports of memory work");
            assert_eq!(frames, BATCH);
        });
        ring = wires[from].state().done.take().expect("it was released");
        assert_eq!(std::mem::take(&mut wires[to].state().sent), passing);
    }
    asked
}

/// A port that takes its batches from a ring that the test fills, and asks for no memory itself.
struct SlotPort {
    wire: Wire,
    batch: Option<(Ring, usize)>,
}

/// The test's end of it.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: Option<(Ring, usize)>,
    done: Option<Ring>,
    sent: usize,
}

impl Wire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Port for SlotPort {
    fn receive(&mut self) -> io::Result<usize> {
        self.batch = self.wire.state().waiting.take();
        Ok(self.batch.as_ref().map_or(0, |_| BATCH))
    }

    fn frame(&mut self, index: usize) -> Received<'_> {
        let (ring, batch) = self.batch.as_mut().expect("it was received");
        Received::Frame(ring.frame(*batch, index), Meta::default())
    }

    fn to_send(&self, index: usize) -> &[u8] {
        let (ring, batch) = self.batch.as_ref().expect("it was received");
        ring.with_header(*batch, index)
    }

    fn release(&mut self) {
        self.wire.state().done = self.batch.take().map(|(ring, _)| ring);
    }

    fn send(&mut self, frames: &[IoSlice<'_>], results: &mut Vec<Sent>) {
        self.wire.state().sent += frames.len();
        results.extend(frames.iter().map(|_| Ok(())));
    }

    fn lost(&mut self) -> u64 {
        0
    }

    fn check(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
