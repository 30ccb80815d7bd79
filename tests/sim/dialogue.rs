//! A few FTP sessions from the first SYN to the last FIN, by a plan, and what is checked about
//! them.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use lotus::engine::Settings;
use lotus::wire::Side;

use crate::client::{Client, Progress};
use crate::ftp::{CONTROL_PORT, DataMode, Files, Meanwhile, Op, Transfer};
use crate::host::{Family, address};
use crate::hostile::{Hostile, Kind, LISTENER_PORT};
use crate::link::LinkPlan;
use crate::middle::{Firewall, INSIDE, InOrder, Middle, OUTSIDE, Spread};
use crate::oracle::{ControlPair, Note, Oracle};
use crate::rng::Rng;
use crate::server::{Habits, Server};
use crate::world::{Program, World};

/// Attacks go on this long after the last session, when every port must be shut.
const AFTERMATH: Duration = Duration::from_secs(3);
/// Longest dialogue in virtual time. Retransmission on a very bad link backs off to a minute.
const SESSION_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Sessions begin this long after one another, so that they overlap in every phase.
const STAGGER: Duration = Duration::from_millis(700);
/// More flows than any dialogue has; the table of a real firewall would take longer to make than
/// the dialogue takes.
const MAX_FLOWS: usize = 4096;
/// For states that a connection leaves soon. smoltcp's retransmission timer doubles to a minute and
/// stays there whatever is acknowledged; Linux's defaults (30 s to 120 s) are for TCPs whose timer
/// recovers.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The accounting law is checked after each so many frames of a dialogue.
const LAW_EVERY: u64 = 16;

/// The four scenarios of DESIGN.md section 1: where the server is, and who opens the data
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Server inside, active.
    S1,
    /// Server inside, passive.
    S2,
    /// Clients inside, active.
    S3,
    /// Clients inside, passive.
    S4,
}

impl Scenario {
    pub const ALL: [Scenario; 4] = [Scenario::S1, Scenario::S2, Scenario::S3, Scenario::S4];

    pub fn of(server_side: Side, mode: DataMode) -> Scenario {
        match (server_side, mode.is_active()) {
            (Side::Inside, true) => Scenario::S1,
            (Side::Inside, false) => Scenario::S2,
            (Side::Outside, true) => Scenario::S3,
            (Side::Outside, false) => Scenario::S4,
        }
    }

    pub fn server_side(self) -> Side {
        match self {
            Scenario::S1 | Scenario::S2 => Side::Inside,
            Scenario::S3 | Scenario::S4 => Side::Outside,
        }
    }

    pub fn is_active(self) -> bool {
        matches!(self, Scenario::S1 | Scenario::S3)
    }

    /// The commands with which a client can ask for this.
    pub fn modes(self, family: Family) -> Vec<DataMode> {
        match (self.is_active(), family) {
            (true, Family::V4) => vec![DataMode::Port, DataMode::Eprt],
            (true, Family::V6) => vec![DataMode::Eprt],
            (false, Family::V4) => vec![DataMode::Pasv, DataMode::Epsv],
            (false, Family::V6) => vec![DataMode::Epsv],
        }
    }
}

/// What stands between the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    Wire,
    OrderedWire,
    Engines(usize, Spread),
}

/// What a transfer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Download,
    Upload,
    Listing,
}

/// One transfer of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferPlan {
    pub mode: DataMode,
    pub way: Way,
    pub bytes: usize,
    pub meanwhile: Meanwhile,
}

/// One session of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPlan {
    pub server_side: Side,
    pub family: Family,
    pub habits: Habits,
    pub transfers: Vec<TransferPlan>,
    /// The client asks for one more data connection and quits.
    pub parting: Option<DataMode>,
}

/// Everything about one dialogue; the same plan always gives the same packets.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub between: Between,
    pub link: LinkPlan,
    /// Whether the rules name the helper.
    pub helper: bool,
    /// Whether there are attackers.
    pub hostile: bool,
    pub sessions: Vec<SessionPlan>,
    /// How often a failed data connection is tried again, as a client on a bad link does: a port
    /// that was open for its time and found no SYN in it is nobody's mistake.
    pub retries: u32,
}

impl Plan {
    /// One engine, a clean link, the helper on, one session of four transfers.
    pub fn new(scenario: Scenario, family: Family) -> Plan {
        let modes = scenario.modes(family);
        let ways = [Way::Listing, Way::Download, Way::Upload, Way::Download];
        let transfers = ways
            .into_iter()
            .zip(modes.into_iter().cycle())
            .map(|(way, mode)| TransferPlan {
                mode,
                way,
                bytes: 20_000,
                meanwhile: Meanwhile::Nothing,
            })
            .collect();
        Plan {
            seed: 1,
            between: Between::Engines(1, Spread::Hash),
            link: LinkPlan::default(),
            helper: true,
            hostile: true,
            sessions: vec![SessionPlan {
                server_side: scenario.server_side(),
                family,
                habits: Habits {
                    from_port_20: true,
                    answers_noop_at_once: true,
                },
                transfers,
                parting: None,
            }],
            retries: 0,
        }
    }

    pub fn transfers(&mut self) -> impl Iterator<Item = &mut TransferPlan> {
        self.sessions
            .iter_mut()
            .flat_map(|session| &mut session.transfers)
    }

    /// No file is larger.
    pub fn limit_files(&mut self, max_bytes: usize) {
        self.transfers()
            .for_each(|transfer| transfer.bytes = transfer.bytes.min(max_bytes));
    }

    fn controls(&self) -> Vec<ControlPair> {
        let mut pairs: Vec<ControlPair> = Vec::new();
        for session in &self.sessions {
            let pair = ControlPair {
                client: address(session.server_side.other(), session.family, false),
                server: session.server(),
            };
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        pairs
    }

    /// The rules: whatever the helper does not open is dropped in both directions.
    pub fn rules(&self) -> String {
        let helper = if self.helper {
            "ct helper set \"ftp-std\""
        } else {
            ""
        };
        let mut control = BTreeSet::new();
        for session in &self.sessions {
            let server = session.server().ip();
            let client = address(session.server_side.other(), session.family, false);
            let port = match session.server_side {
                Side::Inside => OUTSIDE,
                Side::Outside => INSIDE,
            };
            let ip = match session.family {
                Family::V4 => "ip",
                Family::V6 => "ip6",
            };
            control.insert(format!(
                "    iifname \"{port}\" {ip} saddr {client} {ip} daddr {server} \
                 tcp dport {CONTROL_PORT} ct state new {helper} accept\n"
            ));
        }
        let control: String = control.into_iter().collect();
        format!(
            "table bridge sim {{
  ct helper ftp-std {{ type \"ftp\" protocol tcp; }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    ct state invalid drop
    ct state established,related accept
{control}  }}
}}
"
        )
    }
}

impl SessionPlan {
    fn server(&self) -> SocketAddr {
        SocketAddr::new(address(self.server_side, self.family, false), CONTROL_PORT)
    }
}

/// What a dialogue that went well tells.
#[derive(Debug, Default)]
pub struct Done {
    pub transfers: u64,
    pub retried: u64,
    pub attacks: HashMap<Kind, u64>,
    pub virtual_time: Duration,
    /// Frames that came to lotus.
    pub frames: u64,
}

/// Runs a plan and panics with the plan and the last packets when anything is wrong.
pub fn must_pass(plan: &Plan) -> Done {
    match run(plan) {
        Ok(done) => done,
        Err(failure) => panic!("{}", failure.report(plan)),
    }
}

/// Why a dialogue failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub why: String,
    /// A session did not get what it should. Anything else is something that got through.
    pub is_honest: bool,
}

impl Failure {
    /// Runs the plan again to show the last packets.
    pub fn report(&self, plan: &Plan) -> String {
        let (_, log) = play(plan, true);
        let mut text = format!("{}\n", self.why);
        let _ = writeln!(text, "--- the last packets\n{log}--- the plan\n{plan:#?}");
        let _ = write!(text, "--- {}", self.why);
        text
    }
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Result<Done, Failure> {
    play(plan, false).0
}

/// The outcome, and the last packets if they are wanted.
fn play(plan: &Plan, keeps_log: bool) -> (Result<Done, Failure>, String) {
    let mut rng = Rng::new(plan.seed);
    let (spread, world_rng, hostile_rng) = (rng.fork(), rng.fork(), rng.fork());
    let middle = match plan.between {
        Between::Wire => Middle::Wire,
        Between::OrderedWire => Middle::OrderedWire(InOrder::default()),
        Between::Engines(count, how) => {
            let mut settings = Settings::default();
            let timeouts = &mut settings.conntrack;
            timeouts.max_flows = MAX_FLOWS;
            timeouts.tcp_syn_recv = PATIENCE;
            timeouts.tcp_fin_wait = PATIENCE;
            timeouts.tcp_close_wait = PATIENCE;
            timeouts.tcp_last_ack = PATIENCE;
            timeouts.tcp_retrans = PATIENCE;
            timeouts.tcp_unacknowledged = PATIENCE;
            let mut firewall = Firewall::new(&plan.rules(), settings, count, how, spread);
            firewall.law_every = LAW_EVERY;
            Middle::Firewall(Box::new(firewall))
        }
    };
    let families = [Family::V4, Family::V6];
    let inside = families
        .iter()
        .flat_map(|&family| [false, true].map(|second| address(Side::Inside, family, second)))
        .collect();
    let oracle = Oracle::new(plan.controls(), inside, plan.link.tags.clone());
    let mut world = World::new(plan.link.clone(), middle, Some(oracle), world_rng);
    world.keeps_log = keeps_log;
    world.forbids = matches!(plan.between, Between::Engines(..));
    world.demands = world.forbids && plan.helper;
    if plan.hostile && world.forbids {
        let tags = plan.link.tags.clone();
        world.hostile = Some(Hostile::new(plan.controls(), tags, hostile_rng));
    }
    for side in Side::BOTH {
        for family in families {
            let at = SocketAddr::new(address(side, family, false), LISTENER_PORT);
            world.host(side).listen(at);
        }
    }
    let mut dialogue = Dialogue::new(plan, world, rng);
    let outcome = dialogue.run();
    (outcome, dialogue.world.packet_log())
}

struct Dialogue<'a> {
    plan: &'a Plan,
    world: World,
    servers: Vec<(Side, Server)>,
    clients: Vec<(Side, Client)>,
    /// What each session's client shall do; taken when it begins.
    jobs: Vec<Vec<Transfer>>,
    /// The files of the servers.
    files: Files,
    /// What each session must have fetched, in order.
    expected: Vec<Vec<(String, Vec<u8>)>>,
    uploads: Vec<(String, Vec<u8>)>,
}

impl<'a> Dialogue<'a> {
    fn new(plan: &'a Plan, mut world: World, mut rng: Rng) -> Dialogue<'a> {
        let files = Files::default();
        let (mut servers, mut jobs) = (Vec::new(), Vec::new());
        let (mut expected, mut uploads) = (Vec::new(), Vec::new());
        for (number, session) in plan.sessions.iter().enumerate() {
            let side = session.server_side;
            let server = Server::new(
                session.server().ip(),
                session.habits,
                Files::clone(&files),
                world.host(side),
            );
            servers.push((side, server));
            let (mut job, mut fetches) = (Vec::new(), Vec::new());
            for (index, transfer) in session.transfers.iter().enumerate() {
                let name = format!("file-{number}-{index}");
                let content = rng.bytes(transfer.bytes);
                let is_aborted = transfer.meanwhile == Meanwhile::Abort;
                let op = match transfer.way {
                    Way::Upload => {
                        if !is_aborted {
                            uploads.push((name.clone(), content.clone()));
                        }
                        Op::Stor(name, content)
                    }
                    Way::Download | Way::Listing => {
                        files.borrow_mut().insert(name.clone(), content.clone());
                        if !is_aborted {
                            fetches.push((name.clone(), content));
                        }
                        match transfer.way {
                            Way::Listing => Op::List(name),
                            _ => Op::Retr(name),
                        }
                    }
                };
                job.push(Transfer {
                    mode: transfer.mode,
                    op,
                    meanwhile: transfer.meanwhile,
                });
            }
            jobs.push(job);
            expected.push(fetches);
        }
        Dialogue {
            plan,
            world,
            servers,
            clients: Vec::new(),
            jobs,
            files,
            expected,
            uploads,
        }
    }

    fn run(&mut self) -> Result<Done, Failure> {
        let wrong = |why| Failure {
            why,
            is_honest: false,
        };
        let start = self.world.now;
        self.run_until(|dialogue| {
            let is_over = |(_, client): &(Side, Client)| client.progress != Progress::Working;
            let all_began = dialogue.clients.len() == dialogue.plan.sessions.len();
            (all_began && dialogue.clients.iter().all(is_over))
                || dialogue.world.now.since(start) > SESSION_LIMIT
        })
        .map_err(wrong)?;
        let end = self.world.now;
        // Also when a session failed: what stays open then is wrong too.
        self.run_until(|dialogue| dialogue.world.now.since(end) > AFTERMATH)
            .map_err(wrong)?;
        let data_connections = self.world.oracle.as_ref().map_or(0, Oracle::taken);
        self.judge_transfers(data_connections)
            .map_err(|why| Failure {
                why,
                is_honest: true,
            })?;
        let frames = match &self.world.middle {
            Middle::Wire | Middle::OrderedWire(_) => 0,
            Middle::Firewall(firewall) => firewall.snapshot().received_total().frames,
        };
        let sum = |of: fn(&Client) -> u32| -> u64 {
            self.clients
                .iter()
                .map(|(_, client)| u64::from(of(client)))
                .sum()
        };
        Ok(Done {
            transfers: sum(|client| client.completed),
            retried: sum(|client| client.retried),
            attacks: match self.world.hostile.take() {
                Some(hostile) => hostile.by_kind,
                None => HashMap::new(),
            },
            virtual_time: end.since(start),
            frames,
        })
    }

    fn run_until(&mut self, done: impl Fn(&Dialogue<'_>) -> bool) -> Result<(), String> {
        let start = self.world.now;
        while !done(self) {
            let now = self.world.now;
            let begun = self.clients.len();
            if begun < self.jobs.len() && now.since(start) >= STAGGER * begun as u32 {
                self.begin_client(begun);
            }
            let mut notes = Vec::new();
            for (side, server) in &mut self.servers {
                server.step(now, self.world.host(*side));
                notes.append(&mut server.notes);
            }
            for (side, client) in &mut self.clients {
                client.step(now, self.world.host(*side));
                notes.append(&mut client.notes);
            }
            for note in notes {
                if let Some(oracle) = &mut self.world.oracle {
                    oracle.note(note, now);
                }
                if let Some(hostile) = &mut self.world.hostile {
                    match note {
                        Note::Agreed(_) => {}
                        Note::Heard(_) => hostile.wake(now, None),
                        Note::Ended(_) => hostile.wake(now, Some(Kind::Stale)),
                    }
                }
            }
            self.world.advance()?;
        }
        Ok(())
    }

    fn begin_client(&mut self, number: usize) {
        let session = &self.plan.sessions[number];
        let side = session.server_side.other();
        let client = Client::new(
            address(side, session.family, false),
            session.server(),
            std::mem::take(&mut self.jobs[number]),
            session.parting,
            self.plan.retries,
            self.world.host(side),
        );
        self.clients.push((side, client));
    }

    /// Both ends have the same bytes of every file.
    fn judge_transfers(&self, data_connections: usize) -> Result<(), String> {
        for (number, (_, client)) in self.clients.iter().enumerate() {
            match &client.progress {
                Progress::Done => {}
                Progress::Working => {
                    return Err(format!("session {number} did not end in a day"));
                }
                Progress::Failed(why) => return Err(format!("session {number}: {why}")),
            }
            if client.fetched != self.expected[number] {
                return Err(format!("session {number} fetched something else"));
            }
        }
        for (name, content) in &self.uploads {
            if self.files.borrow().get(name) != Some(content) {
                return Err(format!("'{name}' differs between client and server"));
            }
        }
        // An aborted transfer may end before its connection begins.
        let least = self
            .plan
            .sessions
            .iter()
            .flat_map(|session| &session.transfers)
            .filter(|transfer| transfer.meanwhile != Meanwhile::Abort)
            .count();
        if data_connections < least {
            return Err(format!(
                "the oracle saw only {data_connections} data connections of {least}"
            ));
        }
        Ok(())
    }
}
