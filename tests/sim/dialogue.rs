//! One FTP session from the first SYN to the last FIN, by a plan, and what is checked about it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use lotus::engine::Settings;
use lotus::wire::Side;

use crate::ftp::{CONTROL_PORT, Client, DataMode, LISTING, Op, Progress, Server};
use crate::host::{Family, address};
use crate::link::LinkPlan;
use crate::middle::{Firewall, INSIDE, Middle, OUTSIDE, Spread};
use crate::oracle::Oracle;
use crate::probe::Prober;
use crate::rng::Rng;
use crate::world::{Program, World};

/// Probes run this long before the session and after it.
const PROBE_ALONE: Duration = Duration::from_secs(5);
/// Longest session in virtual time. Retransmission on a very bad link backs off to a minute.
const SESSION_LIMIT: Duration = Duration::from_secs(3600);

/// The four scenarios of DESIGN.md section 1: where the server is, and who opens the data
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    Engines(usize, Spread),
}

/// Everything about one dialogue; the same plan always gives the same packets.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub scenario: Scenario,
    pub family: Family,
    pub between: Between,
    pub link: LinkPlan,
    /// Whether the rules name the helper.
    pub helper: bool,
    pub from_port_20: bool,
    pub file_bytes: usize,
    /// How often a failed data connection is tried again, as a client on a bad link does: a port
    /// that was open for its time and found no SYN in it is nobody's mistake.
    pub retries: u32,
}

impl Plan {
    /// One engine, a clean link, the helper on.
    pub fn new(scenario: Scenario, family: Family) -> Plan {
        Plan {
            seed: 1,
            scenario,
            family,
            between: Between::Engines(1, Spread::Hash),
            link: LinkPlan::default(),
            helper: true,
            from_port_20: true,
            file_bytes: 20_000,
            retries: 0,
        }
    }

    /// The rules: whatever the helper does not open is dropped in both directions.
    pub fn rules(&self) -> String {
        let server_side = self.scenario.server_side();
        let client_port = if server_side == Side::Inside {
            OUTSIDE
        } else {
            INSIDE
        };
        let server = address(server_side, self.family, false);
        let client = address(server_side.other(), self.family, false);
        let (family, from, to) = match (self.family, server_side) {
            (Family::V4, Side::Inside) => ("ip", "", format!("ip daddr {server}")),
            (Family::V6, Side::Inside) => ("ip6", "", format!("ip6 daddr {server}")),
            (Family::V4, Side::Outside) => ("ip", "ip saddr 192.0.2.0/24", String::new()),
            (Family::V6, Side::Outside) => ("ip6", "ip6 saddr 2001:db8::/64", String::new()),
        };
        debug_assert!(client.is_ipv4() == (family == "ip"));
        let helper = if self.helper {
            "ct helper set \"ftp-std\""
        } else {
            ""
        };
        format!(
            "table bridge sim {{
  ct helper ftp-std {{ type \"ftp\" protocol tcp; }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    ct state invalid drop
    ct state established,related accept
    iifname \"{client_port}\" {from}{to} tcp dport {CONTROL_PORT} ct state new {helper} accept
  }}
}}
"
        )
    }
}

/// What a dialogue that went well tells.
#[derive(Debug)]
pub struct Done {
    pub retried: u32,
    pub data_connections: usize,
    pub probes: u32,
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
#[derive(Debug)]
pub struct Failure {
    pub why: String,
    pub log: String,
}

impl Failure {
    pub fn report(&self, plan: &Plan) -> String {
        let mut text = format!("{}\n", self.why);
        let _ = writeln!(
            text,
            "--- the last packets\n{}--- the plan\n{plan:?}",
            self.log
        );
        let _ = write!(text, "--- {}\n--- seed {}", self.why, plan.seed);
        text
    }
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Result<Done, Failure> {
    let mut rng = Rng::new(plan.seed);
    let middle = match plan.between {
        Between::Wire => Middle::Wire,
        Between::Engines(count, spread) => {
            let settings = Settings::default();
            let firewall = Firewall::new(&plan.rules(), settings, count, spread, rng.fork());
            Middle::Firewall(Box::new(firewall))
        }
    };
    let server_side = plan.scenario.server_side();
    let control = SocketAddr::new(address(server_side, plan.family, false), CONTROL_PORT);
    let client = address(server_side.other(), plan.family, false);
    let oracle = Oracle::new(client, control);
    let world = World::new(plan.link.clone(), middle, Some(oracle), rng.fork());
    let mut session = Session::new(plan, world, rng);
    session.run().map_err(|why| Failure {
        why,
        log: session.world.packet_log(),
    })
}

struct Session<'a> {
    plan: &'a Plan,
    world: World,
    server: Server,
    client: Option<Client>,
    /// At inside, outside; none where a bare wire would let them through.
    probers: Vec<(Side, Prober)>,
    uploads: Vec<(String, Vec<u8>)>,
    ops: Vec<Op>,
}

impl<'a> Session<'a> {
    fn new(plan: &'a Plan, mut world: World, mut rng: Rng) -> Session<'a> {
        let server_side = plan.scenario.server_side();
        let server_address = address(server_side, plan.family, false);
        let mut server = Server::new(server_address, plan.from_port_20, world.host(server_side));
        let mut size = |share: usize| plan.file_bytes * share / 4 + rng.below(7) as usize;
        let sizes = [size(4), size(3), size(1), size(2)];
        let [down, up, list, down_again] = sizes.map(|size| rng.bytes(size));
        server.files.insert("down".into(), down);
        server.files.insert("again".into(), down_again);
        server.files.insert(LISTING.into(), list);
        let ops = vec![
            Op::List,
            Op::Retr("down".into()),
            Op::Stor("up".into(), up.clone()),
            Op::Retr("again".into()),
        ];
        let probers = match plan.between {
            Between::Wire => Vec::new(),
            Between::Engines(..) => Side::BOTH
                .into_iter()
                .map(|side| {
                    let own = address(side, plan.family, false);
                    let second = address(side, plan.family, true);
                    let other = address(side.other(), plan.family, false);
                    (side, Prober::new(own, second, other, world.host(side)))
                })
                .collect(),
        };
        let uploads = vec![("up".to_owned(), up)];
        Session {
            plan,
            world,
            server,
            client: None,
            probers,
            uploads,
            ops,
        }
    }

    fn run(&mut self) -> Result<Done, String> {
        let begin = self.world.now;
        if !self.probers.is_empty() {
            self.run_until(|session| session.world.now.since(begin) > PROBE_ALONE)?;
        }
        let before = self.probes();

        let plan = self.plan;
        let server_side = plan.scenario.server_side();
        let server = SocketAddr::new(address(server_side, plan.family, false), CONTROL_PORT);
        let own = address(server_side.other(), plan.family, false);
        let modes = plan.scenario.modes(plan.family);
        let host = self.world.host(server_side.other());
        self.client = Some(Client::new(
            own,
            server,
            modes,
            self.ops.clone(),
            plan.retries,
            host,
        ));
        let start = self.world.now;
        self.run_until(|session| {
            session
                .client
                .as_ref()
                .is_none_or(|client| client.progress != Progress::Working)
                || session.world.now.since(start) > SESSION_LIMIT
        })?;
        let virtual_time = self.world.now.since(start);
        let during = self.probes();

        // Also when the session failed: what stays open then is wrong too.
        let end = self.world.now;
        self.run_until(|session| session.world.now.since(end) > PROBE_ALONE)?;
        self.judge_transfers()?;
        let oracle = self.world.oracle.as_ref().ok_or("no oracle")?;
        if oracle.taken() < self.ops.len() {
            return Err(format!(
                "the oracle saw only {} data connections",
                oracle.taken()
            ));
        }
        let in_all_parts = 0 < before && before < during && during < self.probes();
        if !self.probers.is_empty() && !in_all_parts {
            return Err("probes must have run before, during and after".to_owned());
        }
        let frames = match &self.world.middle {
            Middle::Wire => 0,
            Middle::Firewall(firewall) => firewall.snapshot().received_total().frames,
        };
        let retried = self.client.as_ref().map_or(0, |client| client.retried);
        Ok(Done {
            retried,
            data_connections: oracle.taken(),
            probes: self.probes(),
            virtual_time,
            frames,
        })
    }

    fn probes(&self) -> u32 {
        self.probers
            .iter()
            .map(|(_, prober)| prober.attempts)
            .min()
            .unwrap_or(0)
    }

    fn run_until(&mut self, done: impl Fn(&Session<'_>) -> bool) -> Result<(), String> {
        while !done(self) {
            let (now, server_side) = (self.world.now, self.plan.scenario.server_side());
            self.server.step(now, self.world.host(server_side));
            let mut agreed = std::mem::take(&mut self.server.agreed);
            if let Some(client) = &mut self.client {
                client.step(now, self.world.host(server_side.other()));
                agreed.append(&mut client.agreed);
            }
            for agreement in agreed {
                if let Some(oracle) = &mut self.world.oracle {
                    oracle.agree(agreement, now);
                }
                for (side, prober) in &mut self.probers {
                    if address(side.other(), self.plan.family, false) == agreement.to.ip() {
                        prober.also = Some(agreement.to);
                    }
                }
            }
            for (side, prober) in &mut self.probers {
                prober.step(now, self.world.host(*side));
                if let Some(breach) = prober.breach.take() {
                    return Err(breach);
                }
            }
            self.world.advance()?;
        }
        Ok(())
    }

    /// Both ends have the same bytes of every file.
    fn judge_transfers(&self) -> Result<(), String> {
        let client = self.client.as_ref().ok_or("no client")?;
        match &client.progress {
            Progress::Done => {}
            Progress::Working => return Err("the session did not end in an hour".to_owned()),
            Progress::Failed(why) => return Err(why.clone()),
        }
        let fetched: Vec<_> = client
            .fetched
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        if fetched != [LISTING, "down", "again"] {
            return Err(format!("fetched {fetched:?}"));
        }
        for (name, content) in client.fetched.iter().chain(&self.uploads) {
            if self.server.files.get(name) != Some(content) {
                return Err(format!("'{name}' differs between client and server"));
            }
        }
        Ok(())
    }
}
