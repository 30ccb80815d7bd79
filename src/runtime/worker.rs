//! The loop of one worker: batches in at both ports, verdicts, batches out.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::conntrack::Time;
use crate::engine::{Engine, Origin, Out, OutFrame, Parsed, Verdict};
use crate::io::{BATCH_FRAMES, Port, Received, Sent};
use crate::observe::{Counters, DropReason};
use crate::wire::{Meta, Side, VNET_HEADER_BYTES};

/// Why a worker's loop ended.
#[derive(Debug)]
pub enum Exit {
    /// The stop flag was set.
    Stopped,
    /// A port can't go on. [`io::ErrorKind::NotFound`] if its interface is gone.
    Port {
        /// Which one.
        side: Side,
        /// Why.
        error: io::Error,
    },
}

/// How a worker waits for frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polling {
    /// Looks again and again for this long, then sleeps until a frame comes. Waking takes some
    /// 50 us on a virtual machine, so that spinning about as long again costs little. While frames
    /// come soon after it fell asleep it looks longer.
    Adaptive {
        /// How long to look before sleeping.
        spin: Duration,
    },
    /// Never sleeps: the lowest latency, for a whole core.
    Spin,
}

impl Default for Polling {
    fn default() -> Self {
        Polling::Adaptive {
            spin: Duration::from_micros(50),
        }
    }
}

/// How long a worker looks for frames before it sleeps: longer while sleeps are short, so that two
/// who answer each other (FTP, file by file) need not wake it each time. As the kernel's
/// halt polling grows and shrinks (virt/kvm/kvm_main.c).
#[derive(Debug)]
struct Patience {
    usual: Duration,
    now: Duration,
}

/// It grows up to so many times what is usual.
const PATIENCE_GROWTH: u32 = 8;

impl Patience {
    fn new(usual: Duration) -> Patience {
        Patience { usual, now: usual }
    }

    /// It fell asleep, and that was how long it slept.
    fn slept(&mut self, time: Duration) {
        let most = self.usual * PATIENCE_GROWTH;
        self.now = if time <= most {
            (self.now * 2).min(most)
        } else {
            self.usual
        };
    }
}

/// Who decides on frames: the engine, or nobody. A batch is begun, then all its frames are parsed,
/// then all are fetched, then all are judged; see [`Engine::parse`].
pub trait Judge: Send {
    /// A frame as it was understood.
    type Parsed: Default + Send + std::fmt::Debug;

    /// As [`Engine::begin_batch`].
    fn begin_batch(&mut self) {}

    /// As [`Engine::parse`].
    fn parse(&self, frame: &[u8], parsed: &mut Self::Parsed);

    /// As [`Engine::fetch`].
    fn fetch(&self, parsed: &Self::Parsed);

    /// As [`Engine::judge`], which says who counts what.
    fn judge(
        &mut self,
        parsed: &Self::Parsed,
        side: Side,
        frame: &mut [u8],
        meta: &Meta,
        now: Time,
        out: &mut Out,
    ) -> Verdict;
}

impl Judge for Engine {
    type Parsed = Parsed;

    #[inline]
    fn begin_batch(&mut self) {
        Engine::begin_batch(self);
    }

    #[inline]
    fn parse(&self, frame: &[u8], parsed: &mut Parsed) {
        Engine::parse(self, frame, parsed);
    }

    #[inline]
    fn fetch(&self, parsed: &Parsed) {
        Engine::fetch(self, parsed);
    }

    #[inline]
    fn judge(
        &mut self,
        parsed: &Parsed,
        side: Side,
        frame: &mut [u8],
        meta: &Meta,
        now: Time,
        out: &mut Out,
    ) -> Verdict {
        Engine::judge(self, parsed, side, frame, meta, now, out)
    }
}

/// Forwards everything: a wire, to measure against and to find out what is lotus's fault.
#[derive(Debug)]
pub struct Passthrough {
    counters: Arc<Counters>,
}

impl Passthrough {
    /// Counts in `counters`, which is this worker's own block.
    #[must_use]
    pub fn new(counters: Arc<Counters>) -> Passthrough {
        Passthrough { counters }
    }
}

impl Judge for Passthrough {
    type Parsed = ();

    fn parse(&self, _: &[u8], (): &mut ()) {}

    fn fetch(&self, (): &()) {}

    fn judge(
        &mut self,
        (): &(),
        side: Side,
        frame: &mut [u8],
        _: &Meta,
        _: Time,
        _: &mut Out,
    ) -> Verdict {
        self.counters.received(side.index(), frame.len());
        Verdict::Forward
    }
}

/// One worker: both ports as it has them, who judges, and its own block of counters.
#[derive(Debug)]
pub struct Worker<P, J: Judge> {
    ports: [P; 2],
    judge: J,
    counters: Arc<Counters>,
    polling: Polling,
    scratch: Scratch<J::Parsed>,
}

/// Used again for each batch, so that none of it is allocated anew.
#[derive(Debug)]
struct Scratch<T> {
    /// The frames of the batch, where they can be used.
    parsed: [T; BATCH_FRAMES],
    /// For each frame of the batch whether it is to be forwarded.
    forward: [bool; BATCH_FRAMES],
    out: Out,
    /// Frames that leave beside those of the batch, each with the index of the one that it follows.
    beside: Vec<(usize, OutFrame)>,
    results: Vec<Sent>,
}

/// The longest time that the stop flag, a vanished interface or lost frames go unseen.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// How long one sleep lasts at most; half of the above, so that a slow wake-up does not break it.
const SLEEP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// The same for ports that can't be waited for (memory, files).
const NAP: Duration = Duration::from_micros(100);

impl<P: Port, J: Judge> Worker<P, J> {
    /// A worker between two ports, in the order of [`Side::BOTH`].
    #[must_use]
    pub fn new(ports: [P; 2], judge: J, counters: Arc<Counters>, polling: Polling) -> Self {
        let scratch = Scratch {
            parsed: std::array::from_fn(|_| J::Parsed::default()),
            forward: [false; BATCH_FRAMES],
            out: Out::default(),
            beside: Vec::with_capacity(BATCH_FRAMES),
            results: Vec::with_capacity(BATCH_FRAMES),
        };
        Worker {
            ports,
            judge,
            counters,
            polling,
            scratch,
        }
    }

    /// Works until `stop` is set or a port is gone for good.
    pub fn run(&mut self, stop: &AtomicBool) -> Exit {
        let ended = self.work(stop);
        // What was lost up to the end counts too, and what nobody will take out of the rings.
        for port in &mut self.ports {
            self.counters.ring_lost(port.abandon());
        }
        self.count_lost();
        match ended {
            Ok(()) => Exit::Stopped,
            Err((side, error)) => Exit::Port { side, error },
        }
    }

    /// One batch in each direction; returns how many frames there were.
    ///
    /// # Errors
    ///
    /// The port that can't go on, and why.
    pub fn turn(&mut self, now: Time) -> Result<usize, (Side, io::Error)> {
        let mut frames = 0;
        for side in Side::BOTH {
            frames += self.one_way(side, now).map_err(|error| (side, error))?;
        }
        Ok(frames)
    }

    fn work(&mut self, stop: &AtomicBool) -> Result<(), (Side, io::Error)> {
        let mut busy_at = clock();
        let mut housekeeping_at = busy_at;
        let mut patience = match self.polling {
            Polling::Adaptive { spin } => Some(Patience::new(spin)),
            Polling::Spin => None,
        };
        while !stop.load(Ordering::Relaxed) {
            let now = clock();
            if now >= housekeeping_at {
                housekeeping_at = now + HOUSEKEEPING;
                self.check()?;
                self.count_lost();
            }
            if self.turn(now)? > 0 {
                busy_at = now;
                continue;
            }
            match &mut patience {
                Some(patience) if now.since(busy_at) >= patience.now => {
                    self.sleep()?;
                    patience.slept(clock().since(now));
                }
                _ => std::hint::spin_loop(),
            }
        }
        Ok(())
    }

    /// Waits for a frame at either port.
    fn sleep(&mut self) -> Result<(), (Side, io::Error)> {
        let [inside, outside] = &self.ports;
        let (Some(inside), Some(outside)) = (inside.descriptor(), outside.descriptor()) else {
            thread::sleep(NAP);
            return Ok(());
        };
        let mut waiting = [inside, outside].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        // An error of poll itself (a signal came) is answered by looking for frames again.
        if poll(&mut waiting, Some(&SLEEP)).is_err() {
            return Ok(());
        }
        let usual = PollFlags::IN;
        if waiting.iter().all(|port| usual.contains(port.revents())) {
            return Ok(());
        }
        // The link went down, or the interface away. This also clears the error, so that the next
        // sleep is one.
        self.check()
    }

    fn check(&mut self) -> Result<(), (Side, io::Error)> {
        for (side, port) in Side::BOTH.into_iter().zip(&mut self.ports) {
            port.check().map_err(|error| (side, error))?;
        }
        Ok(())
    }

    fn count_lost(&mut self) {
        for port in &mut self.ports {
            match port.lost() {
                0 => {}
                lost => self.counters.ring_lost(lost),
            }
        }
    }

    /// One batch that came in at `side`.
    fn one_way(&mut self, side: Side, now: Time) -> io::Result<usize> {
        let [inside, outside] = &mut self.ports;
        let (from, to) = match side {
            Side::Inside => (inside, outside),
            Side::Outside => (outside, inside),
        };
        let count = from.receive()?;
        if count == 0 {
            return Ok(0);
        }
        let Scratch {
            parsed,
            forward,
            out,
            beside,
            results,
        } = &mut self.scratch;
        self.judge.begin_batch();
        for (index, parsed) in parsed.iter_mut().enumerate().take(count) {
            if let Received::Frame(frame, _) = from.frame(index) {
                self.judge.parse(frame, parsed);
            }
        }
        for parsed in parsed.iter().take(count) {
            self.judge.fetch(parsed);
        }
        let each = forward.iter_mut().zip(&*parsed).enumerate();
        for (index, (forward, parsed)) in each.take(count) {
            *forward = match from.frame(index) {
                Received::Frame(frame, meta) => {
                    let verdict = self.judge.judge(parsed, side, frame, &meta, now, out);
                    verdict == Verdict::Forward
                }
                Received::Unusable { reason, bytes } => {
                    self.counters.received(side.index(), bytes);
                    self.counters.dropped(reason, bytes);
                    false
                }
            };
            beside.extend(out.frames.drain(..).map(|frame| (index, frame)));
        }
        let (counters, towards) = (&*self.counters, side.other());
        let mut leaving = Leaving::new(to, towards, counters, results);
        let mut following = beside.iter().peekable();
        for (index, _) in forward
            .iter()
            .enumerate()
            .take(count)
            .filter(|&(_, forward)| *forward)
        {
            while let Some((_, frame)) = following.next_if(|(after, _)| *after < index) {
                leaving.push_beside(frame);
            }
            leaving.push(Kind::Received, from.to_send(index));
        }
        following.for_each(|(_, frame)| leaving.push_beside(frame));
        leaving.flush();
        if !beside.is_empty() {
            let mut back = Leaving::new(from, side, counters, results);
            beside.iter().for_each(|(_, frame)| back.push_beside(frame));
            back.flush();
            beside.clear();
        }
        from.release();
        Ok(count)
    }
}

/// Frames on their way out of one port.
struct Leaving<'a, P> {
    port: &'a mut P,
    side: Side,
    counters: &'a Counters,
    results: &'a mut Vec<Sent>,
    frames: [IoSlice<'a>; BATCH_FRAMES],
    kinds: [Kind; BATCH_FRAMES],
    count: usize,
}

/// What a leaving frame counts as.
#[derive(Clone, Copy)]
enum Kind {
    Received,
    Released,
    Generated,
}

impl<'a, P: Port> Leaving<'a, P> {
    fn new(
        port: &'a mut P,
        side: Side,
        counters: &'a Counters,
        results: &'a mut Vec<Sent>,
    ) -> Leaving<'a, P> {
        let frames = [IoSlice::new(&[]); BATCH_FRAMES];
        let kinds = [Kind::Received; BATCH_FRAMES];
        Leaving {
            port,
            side,
            counters,
            results,
            frames,
            kinds,
            count: 0,
        }
    }

    /// A frame of [`Out`], if this is where it leaves.
    fn push_beside(&mut self, frame: &'a OutFrame) {
        if frame.to == self.side {
            let kind = match frame.origin {
                Origin::Released => Kind::Released,
                Origin::Generated => Kind::Generated,
            };
            self.push(kind, frame.frame.with_header());
        }
    }

    fn push(&mut self, kind: Kind, with_header: &'a [u8]) {
        if self.count == BATCH_FRAMES {
            self.flush();
        }
        if let (Some(frame), Some(kept)) = (
            self.frames.get_mut(self.count),
            self.kinds.get_mut(self.count),
        ) {
            *frame = IoSlice::new(with_header);
            *kept = kind;
            self.count += 1;
        }
    }

    /// Sends what has gathered and counts what became of it.
    fn flush(&mut self) {
        let Some(frames) = self
            .frames
            .get(..self.count)
            .filter(|frames| !frames.is_empty())
        else {
            return;
        };
        self.results.clear();
        self.port.send(frames, self.results);
        debug_assert_eq!(
            self.results.len(),
            frames.len(),
            "one result for each frame"
        );
        // A port that forgets a result must not break the law.
        let results = self
            .results
            .iter()
            .copied()
            .chain(std::iter::repeat(FORGOTTEN));
        for ((frame, kind), result) in frames.iter().zip(&self.kinds).zip(results) {
            let bytes = frame.len().saturating_sub(VNET_HEADER_BYTES);
            if let Kind::Released = kind {
                self.counters.unheld(bytes);
            }
            match (kind, result) {
                (Kind::Received | Kind::Released, Ok(())) => {
                    self.counters.forwarded(self.side.index(), bytes);
                }
                (Kind::Received | Kind::Released, Err(reason)) => {
                    self.counters.dropped(reason, bytes);
                }
                (Kind::Generated, Ok(())) => self.counters.generated(bytes),
                // It was never received: a drop would break the law, and nobody waits for it.
                (Kind::Generated, Err(_)) => {}
            }
        }
        self.count = 0;
    }
}

const FORGOTTEN: Sent = Err(DropReason::TxError);

/// Binds the calling thread to a core.
///
/// # Errors
///
/// There is no such core, or this process may not use it.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// The clock that the engine's time stands for: CLOCK_MONOTONIC.
#[must_use]
pub fn clock() -> Time {
    let now = clock_gettime(ClockId::Monotonic);
    // Both are never negative on this clock.
    Time::from_nanos(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests;
