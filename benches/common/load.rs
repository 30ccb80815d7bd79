//! Kinds of traffic. A [`Load`] puts batches into a ring, which takes no measured time, and then has
//! the engine judge them, which does.

use std::sync::Arc;

use lotus::engine::Shared;
use lotus::wire::TcpFlags;

use super::lab::{Lab, shared_for};
use super::ring::{BATCHES, Ring};
use super::traffic::{
    CLIENT_ISN, Dialogue, FTP, From, LOGIN, OPEN, Protocol, SERVER_ISN, SHUT, Template, handshake,
};
use super::{BATCH, shuffled};

/// What comes in.
pub trait Source {
    /// Puts the next batch into the ring.
    fn fill(&mut self, ring: &mut Ring) -> usize;

    /// What must be done before more can come. It is not measured.
    fn make_room(&mut self, _lab: &mut Lab) {}

    /// How many of its frames must pass.
    fn passing(&self) -> usize {
        BATCH
    }
}

pub struct Load<S> {
    pub lab: Lab,
    ring: Ring,
    source: S,
    /// Batches that wait in the ring.
    waiting: Vec<usize>,
}

impl<S: Source> Load<S> {
    fn new(lab: Lab, source: S) -> Load<S> {
        Load {
            lab,
            ring: Ring::new(),
            source,
            waiting: Vec::with_capacity(BATCHES),
        }
    }

    /// Puts so many batches into the ring, in place of those that were there.
    pub fn fill(&mut self, batches: usize) {
        assert!(batches <= BATCHES, "they must not overwrite each other");
        self.source.make_room(&mut self.lab);
        self.waiting.clear();
        for _ in 0..batches {
            self.waiting.push(self.source.fill(&mut self.ring));
        }
    }

    /// Judges what waits.
    #[inline(never)]
    pub fn run(&mut self) {
        let passing = self.source.passing();
        for &batch in &self.waiting {
            let forwarded = self.lab.judge(&mut self.ring, batch);
            assert_eq!(forwarded, passing, "not all frames met what they should");
        }
    }

    /// The parts, for those who have a worker of their own.
    pub fn into_parts(self) -> (Lab, Ring, S) {
        (self.lab, self.ring, self.source)
    }

    fn judge(&mut self, batch: usize) {
        let forwarded = self.lab.judge(&mut self.ring, batch);
        assert_eq!(forwarded, BATCH, "the set-up must pass");
    }
}

/// In which order the flows' frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the flows began.
    InTurn,
    /// In an order that no cache foresees; the same one in each pass.
    Shuffled,
}

/// Flows that both ends have spoken in. Each frame is what its flow says next: over TCP a client's
/// data and a server's acknowledgment take turns; over UDP a question and an answer. A batch is
/// of one direction.
pub struct Established {
    protocol: Protocol,
    first_flow: u32,
    order: Vec<u32>,
    /// Where in the order the next batch begins.
    at: usize,
    /// How often the whole order was gone through.
    pass: u32,
    client: Template,
    server: Template,
}

/// After these the rules were asked all that they are asked in a flow's life: about new packets, and
/// about established ones in both directions.
const FIRST_STEPS: u32 = 4;

/// Bytes of a client's data segment.
const DATA_BYTES: u32 = 6;

impl Load<Established> {
    /// `flows` is 1 or a multiple of [`BATCH`].
    pub fn established(protocol: Protocol, flows: u32, order: Order) -> Self {
        Load::established_in(shared_for(flows), protocol, 0..flows, order)
    }

    /// These flows, in a table that others may use too.
    pub fn established_in(
        shared: Arc<Shared>,
        protocol: Protocol,
        flows: std::ops::Range<u32>,
        order: Order,
    ) -> Self {
        let count = flows.end - flows.start;
        assert!(count == 1 || (count as usize).is_multiple_of(BATCH));
        let template = |from| match (protocol, from) {
            (Protocol::Udp, from) => Template::udp(from, OPEN),
            (Protocol::Tcp, From::Client) => {
                let flags = TcpFlags::ACK | TcpFlags::PSH;
                Template::tcp(from, OPEN, flags, &[0x55; DATA_BYTES as usize])
            }
            (Protocol::Tcp, From::Server) => Template::tcp(from, OPEN, TcpFlags::ACK, &[]),
        };
        let source = Established {
            protocol,
            first_flow: flows.start,
            order: (0..count).collect(),
            at: 0,
            pass: 0,
            client: template(From::Client),
            server: template(From::Server),
        };
        let mut load = Load::new(Lab::sharing(shared), source);
        load.open();
        if order == Order::Shuffled {
            load.source.order = shuffled(count);
        }
        // Every other batch is one step ahead, so that both directions are there at any time.
        for at in load.source.batches().skip(1).step_by(2) {
            let batch = load.source.fill_step(&mut load.ring, at, FIRST_STEPS);
            load.judge(batch);
        }
        load.source.pass = FIRST_STEPS;
        load
    }

    fn open(&mut self) {
        if self.source.protocol == Protocol::Tcp {
            for (template, seq, ack) in handshake(OPEN) {
                for at in self.source.batches() {
                    let batch = self.ring.fill(template.side(), |index, slot| {
                        template.write(slot, self.source.flow(at, index), seq, ack)
                    });
                    self.judge(batch);
                }
            }
        }
        for step in 0..FIRST_STEPS {
            for at in self.source.batches() {
                let batch = self.source.fill_step(&mut self.ring, at, step);
                self.judge(batch);
            }
        }
    }
}

impl Established {
    /// Where batches begin in the order.
    fn batches(&self) -> std::iter::StepBy<std::ops::Range<usize>> {
        (0..self.order.len()).step_by(BATCH)
    }

    fn flow(&self, at: usize, index: usize) -> u32 {
        self.first_flow + self.order[(at + index) % self.order.len()]
    }

    /// What the flows at this place say in this step of theirs. One that is alone says as much as
    /// fills the batch.
    fn fill_step(&self, ring: &mut Ring, at: usize, step: u32) -> usize {
        let flows = self.order.len();
        let burst = BATCH.div_ceil(flows) as u32;
        let template = match step % 2 {
            0 => &self.client,
            _ => &self.server,
        };
        ring.fill(template.side(), |index, slot| {
            let number = step / 2 * burst + (index / flows) as u32;
            let said = |segments: u32| CLIENT_ISN + 1 + segments.wrapping_mul(DATA_BYTES);
            let (seq, ack) = match step % 2 {
                0 => (said(number), SERVER_ISN + 1),
                _ => (SERVER_ISN + 1, said(number + 1)),
            };
            template.write(slot, self.flow(at, index), seq, ack)
        })
    }
}

impl Source for Established {
    fn fill(&mut self, ring: &mut Ring) -> usize {
        let is_ahead = (self.at / BATCH % 2) as u32;
        let batch = self.fill_step(ring, self.at, self.pass + is_ahead);
        self.at += BATCH;
        if self.at >= self.order.len() {
            self.at = 0;
            self.pass += 1;
        }
        batch
    }
}

/// [`Established`] over UDP, where the order of frames does not matter: batches of these steps in turn.
pub struct Steps {
    flows: Established,
    steps: &'static [u32],
    batches: usize,
}

impl Source for Steps {
    fn fill(&mut self, ring: &mut Ring) -> usize {
        let Established { at, order, .. } = &mut self.flows;
        *at = (*at + BATCH) % order.len();
        let step = self.steps[self.batches % self.steps.len()];
        self.batches += 1;
        self.flows.fill_step(ring, self.flows.at, step)
    }
}

/// Flows that begin, in the table at most; then they are forgotten, so that the table is as large as
/// its use has made it.
pub const MOST_BEGINNING: u32 = 65_536;

/// The first frames of flows that nobody has seen before.
pub struct Beginning {
    next: u32,
    template: Template,
}

impl Load<Beginning> {
    pub fn beginning(protocol: Protocol) -> Self {
        let shared = shared_for(MOST_BEGINNING);
        Load::beginning_in(shared, protocol, 0)
    }

    /// These flows and those behind them, in a table that others may use too.
    pub fn beginning_in(shared: Arc<Shared>, protocol: Protocol, first: u32) -> Self {
        let template = match protocol {
            Protocol::Udp => Template::udp(From::Client, OPEN),
            Protocol::Tcp => Template::tcp(From::Client, OPEN, TcpFlags::SYN, &[]),
        };
        let source = Beginning {
            next: first,
            template,
        };
        Load::new(Lab::sharing(shared), source)
    }
}

impl Source for Beginning {
    fn make_room(&mut self, lab: &mut Lab) {
        if lab.shared.totals().flows >= u64::from(MOST_BEGINNING) {
            lab.forget();
        }
    }

    fn fill(&mut self, ring: &mut Ring) -> usize {
        let (template, first) = (&self.template, self.next);
        self.next += BATCH as u32;
        ring.fill(template.side(), |index, slot| {
            template.write(slot, first + index as u32, CLIENT_ISN, 0)
        })
    }
}

/// What no rule lets in, beside flows that live.
pub struct Unwanted {
    next: u32,
    template: Template,
}

impl Load<Unwanted> {
    pub fn unwanted(protocol: Protocol) -> Self {
        const OTHERS: u32 = 1024;
        let others = Load::established(Protocol::Udp, OTHERS, Order::InTurn);
        let template = match protocol {
            Protocol::Udp => Template::udp(From::Client, SHUT),
            Protocol::Tcp => Template::tcp(From::Client, SHUT, TcpFlags::SYN, &[]),
        };
        Load::new(others.lab, Unwanted { next: 0, template })
    }
}

impl Source for Unwanted {
    fn fill(&mut self, ring: &mut Ring) -> usize {
        let (template, first) = (&self.template, self.next);
        self.next += BATCH as u32;
        ring.fill(template.side(), |index, slot| {
            template.write(slot, first + index as u32, CLIENT_ISN, 0)
        })
    }

    fn passing(&self) -> usize {
        0
    }
}

/// [`BATCH`] FTP sessions, each with the same dialogue: a command, its reply, and so on.
pub struct Control {
    dialogue: Dialogue,
    command: &'static [u8],
    reply: &'static [u8],
    is_reply_next: bool,
}

impl Load<Control> {
    pub fn control(command: &'static [u8], reply: &'static [u8]) -> Self {
        let source = Control {
            dialogue: Dialogue::default(),
            command,
            reply,
            is_reply_next: false,
        };
        let mut load = Load::new(Lab::new(BATCH as u32), source);
        for (template, seq, ack) in handshake(FTP) {
            let batch = load.ring.fill(template.side(), |index, slot| {
                template.write(slot, index as u32, seq, ack)
            });
            load.judge(batch);
        }
        for (from, line) in LOGIN {
            let batch = load.source.say(&mut load.ring, from, line);
            load.judge(batch);
        }
        load
    }
}

impl Control {
    fn say(&mut self, ring: &mut Ring, from: From, line: &[u8]) -> usize {
        let line = self.dialogue.say(from, line);
        ring.fill(line.template.side(), |index, slot| {
            line.write(slot, index as u32)
        })
    }
}

impl Source for Control {
    fn fill(&mut self, ring: &mut Ring) -> usize {
        let (from, line) = match self.is_reply_next {
            false => (From::Client, self.command),
            true => (From::Server, self.reply),
        };
        self.is_reply_next = !self.is_reply_next;
        self.say(ring, from, line)
    }
}

/// The shortest of dialogues.
pub fn noop() -> Load<Control> {
    Load::control(b"NOOP\r\n", b"200 ok\r\n")
}

/// One that opens a port each time, in place of the one before.
pub fn pasv() -> Load<Control> {
    Load::control(b"PASV\r\n", b"227 go (192,0,2,20,156,64)\r\n")
}

/// Loads for workers that share a table, and the flows in it.
pub fn established_for(workers: u32, protocol: Protocol, flows: u32) -> Vec<Load<Established>> {
    let (shared, each) = (shared_for(flows), flows / workers);
    let load = |worker| {
        let flows = worker * each..(worker + 1) * each;
        Load::established_in(Arc::clone(&shared), protocol, flows, Order::Shuffled)
    };
    (0..workers).map(load).collect()
}

/// The same for flows that begin.
pub fn beginning_for(workers: u32, protocol: Protocol) -> Vec<Load<Beginning>> {
    let (shared, each) = (shared_for(MOST_BEGINNING), u32::MAX / workers);
    let load = |worker| Load::beginning_in(Arc::clone(&shared), protocol, worker * each);
    (0..workers).map(load).collect()
}

/// All workers have all flows: one has both directions, two have one each.
pub fn directions_for(workers: u32, flows: u32) -> Vec<Load<Steps>> {
    let shared = shared_for(flows);
    let load = |worker: u32| {
        let all = Load::established_in(
            Arc::clone(&shared),
            Protocol::Udp,
            0..flows,
            Order::Shuffled,
        );
        let (lab, _, mut all) = all.into_parts();
        // Far from where the other one is.
        all.at = (worker * flows / workers) as usize / BATCH * BATCH;
        let steps: &[u32] = match (workers, worker) {
            (1, _) => &[0, 1],
            (_, 0) => &[0],
            _ => &[1],
        };
        let source = Steps {
            flows: all,
            steps,
            batches: 0,
        };
        Load::new(lab, source)
    };
    (0..workers).map(load).collect()
}
