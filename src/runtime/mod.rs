//! Runs the firewall: looks whether it can, starts the workers, watches over them, tells what
//! happens, and takes everything down again.
//!
//! The control thread is the one that called [`run`]. It never waits for anybody outside: writing
//! ([`output`]) and answering (`lotus status`, [`control`]) have threads of their own.

pub mod control;
pub mod cores;
pub mod output;
pub mod reload;
pub mod rules_file;
pub mod status;
pub mod worker;

mod clock;
mod crew;
mod hold;
mod preflight;
mod settings;
mod signals;
mod supervisor;

use std::io;
use std::path::PathBuf;

use crate::rules::Ruleset;

pub use crew::CrewError;
pub use preflight::Refusal;
pub use settings::{IoSettings, SettingError, SettingInfo, Settings};
pub use status::Mode;

/// What to run.
#[derive(Debug)]
pub struct Options {
    /// Names of the inside and the outside interface.
    pub names: [String; 2],
    /// The rules.
    pub ruleset: Ruleset,
    /// Where the rules come from, and what they are, in a few words.
    pub rules: String,
    /// The file of the rules, if they are not the built-in ones: a reload reads it again.
    pub rules_file: Option<PathBuf>,
    /// One worker on each of these.
    pub cores: Vec<cores::Core>,
    /// Whether packets are judged.
    pub mode: Mode,
    /// Start although a port has an IP address.
    pub force: bool,
    /// Where events go as JSON lines.
    pub events: Option<output::EventsTo>,
    /// Limits and times.
    pub settings: Settings,
}

/// Why lotus did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something is not as it must be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another lotus works there.
    #[error("another lotus already uses {0}: `lotus status --port {0}` shows it; stop it first")]
    InUse(String),
    /// The interface vanished while lotus started.
    #[error("{0} vanished while lotus started")]
    Vanished(String),
    /// A port could not be made ready.
    #[error("cannot {what}: {error}")]
    Port {
        /// What failed, with the name of the port.
        what: String,
        /// Why.
        error: io::Error,
    },
    /// A worker failed.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// The kernel gave no thread or descriptor.
    #[error("cannot {what}: {error}")]
    System {
        /// What failed.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl RunError {
    /// Whether what was asked for can never be, so that it counts as wrong usage.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, RunError::Refused(refusal) if refusal.is_usage())
    }
}

/// The name that the kernel calls an interface by, if it was given by another one of its names
/// (`altname`). A name that nobody has stays as it is.
#[must_use]
pub fn canonical_name(name: &str) -> String {
    crate::io::link::canonical(name).unwrap_or_else(|_| name.to_owned())
}

/// Looks whether the two interfaces can be ports. Needs no privileges; [`run`] does it too.
///
/// # Errors
///
/// They can't.
pub fn check_names(names: &[String; 2]) -> Result<(), RunError> {
    preflight::look_at_both(names)?;
    Ok(())
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
///
/// It could not start, or a worker failed. Everything was taken down again.
pub fn run(options: Options) -> Result<(), RunError> {
    supervisor::run(options)
}
