//! lotus's hold on its two interfaces: lock, silence, rings, workers. Taken and given back as
//! often as the interfaces come and go.

use std::io;
use std::sync::Arc;

use super::cores::Core;
use super::crew::{Body, Crew, CrewError};
use super::settings::{IoSettings, method_name};
use super::status::Mode;
use super::worker::{Exit, Judge, Passthrough, Worker};
use super::{RunError, preflight};
use crate::engine::{Engine, Shared};
use crate::io::afpacket::{self, AfPacketPort, Binding, Geometry};
use crate::io::link::{self, Link, Lro, PortLock};
use crate::io::quiet::Quiet;
use crate::observe::Counters;
use crate::wire::Side;

/// What a hold is made of, each time again.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) names: [String; 2],
    pub(super) force: bool,
    pub(super) mode: Mode,
    pub(super) io: IoSettings,
    pub(super) cores: Vec<Core>,
    pub(super) shared: Arc<Shared>,
    /// One block for each worker.
    pub(super) counters: Vec<Arc<Counters>>,
}

/// The hold. Fields are dropped in this order: first nobody sends or receives any more, then the
/// host's own stack may speak again, then others may take the interfaces.
#[derive(Debug, Default)]
pub(super) struct Hold {
    crew: Option<Crew>,
    ports: [Option<Port>; 2],
}

#[derive(Debug)]
struct Port {
    quiet: Quiet,
    link: Link,
    _lock: PortLock,
}

impl Hold {
    /// Looks at everything, takes what is not held yet, and starts the workers. Returns what is
    /// odd.
    pub(super) fn take(&mut self, plan: &Plan) -> Result<Vec<String>, RunError> {
        let links = preflight::look_at_both(&plan.names)?;
        preflight::check_privileges()?;
        let mut warnings = Vec::new();
        let [inside, outside] = &links;
        // Locks first, as a lotus that runs explains everything else that might be wrong.
        let locks = [
            self.lock(Side::Inside, inside)?,
            self.lock(Side::Outside, outside)?,
        ];
        warnings.append(&mut preflight::check_ports(&links, plan.force)?);
        for ((port, lock), link) in self.ports.iter_mut().zip(locks).zip(links) {
            let Some(lock) = lock else { continue };
            warnings.extend(switch_lro_off(&link));
            let quiet = Quiet::on(&link.name, plan.io.quiet).map_err(|error| {
                let what = format!("keep this host's own network stack silent on {}", link.name);
                port_error(what, &link, error)
            })?;
            *port = Some(Port {
                quiet,
                link,
                _lock: lock,
            });
        }
        self.crew = Some(start_crew(plan)?);
        Ok(warnings)
    }

    /// The lock for a port that is not held yet.
    fn lock(&mut self, side: Side, link: &Link) -> Result<Option<PortLock>, RunError> {
        let port = &mut self.ports[side.index()];
        match port {
            Some(held) if held.link.index == link.index => {
                held.link = link.clone();
                return Ok(None);
            }
            _ => *port = None,
        }
        let lock = PortLock::take(link.index).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => RunError::InUse(link.name.clone()),
            _ => port_error(format!("lock {}", link.name), link, error),
        })?;
        Ok(Some(lock))
    }

    /// The interface on this side as it was found.
    pub(super) fn link(&self, side: Side) -> Option<&Link> {
        self.ports[side.index()].as_ref().map(|port| &port.link)
    }

    /// How the host is kept silent, in words.
    pub(super) fn silence(&self) -> String {
        let ports: Vec<_> = self
            .ports
            .iter()
            .flatten()
            .map(|port| format!("{} on {}", method_name(port.quiet.method()), port.link.name))
            .collect();
        ports.join(", ")
    }

    /// Whether there are workers. Without them the ports that are held are held in silence only.
    pub(super) fn works(&self) -> bool {
        self.crew.is_some()
    }

    /// Looks whether all workers work.
    pub(super) fn check(&mut self) -> Result<(), CrewError> {
        self.crew.as_mut().map_or(Ok(()), Crew::check)
    }

    /// Stops the workers and lets go of a port whose interface is gone. The other port stays
    /// locked and silent.
    pub(super) fn let_go(&mut self, gone: Side, hurry: impl Fn() -> bool) -> Result<(), CrewError> {
        let stopped = self.stop(hurry);
        self.ports[gone.index()] = None;
        stopped
    }

    /// Stops the workers and lets go of both ports.
    pub(super) fn let_go_of_all(&mut self, hurry: impl Fn() -> bool) -> Result<(), CrewError> {
        let stopped = self.stop(hurry);
        self.ports = [None, None];
        stopped
    }

    /// Stops the workers; what else is held ends with this.
    pub(super) fn stop(&mut self, hurry: impl Fn() -> bool) -> Result<(), CrewError> {
        self.crew.take().map_or(Ok(()), |crew| crew.stop(hurry))
    }
}

fn switch_lro_off(link: &Link) -> Option<String> {
    match link::disable_lro(&link.name) {
        Ok(Lro::WasOff) => None,
        Ok(Lro::SwitchedOff) => Some(format!(
            "{}: large receive offload was on and is now off: frames that the NIC puts together \
             cannot be passed on as they came (ethtool -K {} lro on brings it back)",
            link.name, link.name
        )),
        Err(error) => Some(format!(
            "{}: cannot switch large receive offload off: {error}; frames that the NIC puts \
             together may be dropped",
            link.name
        )),
    }
}

fn port_error(what: String, link: &Link, error: io::Error) -> RunError {
    match error.kind() {
        io::ErrorKind::NotFound => RunError::Vanished(link.name.clone()),
        _ => RunError::Port { what, error },
    }
}

fn start_crew(plan: &Plan) -> Result<Crew, RunError> {
    let [inside, outside] = &plan.names;
    let bindings = [Binding::to(inside), Binding::to(outside)];
    let geometry = Geometry {
        slots: plan.io.ring_slots,
        ..Geometry::default()
    };
    let ports = afpacket::open(&bindings, plan.cores.len(), geometry).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::OutOfMemory => " (fewer --workers or --ring-slots take less memory)",
            _ => "",
        };
        RunError::Port {
            what: format!("open rings on {inside} and {outside}{hint}"),
            error,
        }
    })?;
    let bodies = ports.into_iter().zip(&plan.cores).zip(&plan.counters);
    let bodies = bodies.map(|((ports, &core), counters)| (core, body(plan, ports, counters)));
    Ok(Crew::start(bodies.collect())?)
}

/// What one worker does.
fn body(plan: &Plan, ports: [AfPacketPort; 2], counters: &Arc<Counters>) -> Body {
    let (polling, counters) = (plan.io.polling, Arc::clone(counters));
    match plan.mode {
        Mode::Firewall => {
            let engine = Engine::new(Arc::clone(&plan.shared), Arc::clone(&counters));
            work(Worker::new(ports, engine, counters, polling), plan)
        }
        Mode::Passthrough => {
            let judge = Passthrough::new(Arc::clone(&counters));
            work(Worker::new(ports, judge, counters, polling), plan)
        }
    }
}

fn work<J: Judge + 'static>(mut worker: Worker<AfPacketPort, J>, plan: &Plan) -> Body {
    let names = plan.names.clone();
    Box::new(move |stop| match worker.run(stop) {
        Exit::Stopped => Ok(()),
        Exit::Port { side, error } => Err(io::Error::new(
            error.kind(),
            format!("port {}: {error}", names[side.index()]),
        )),
    })
}
