//! Which cores the workers run on.

use std::fmt;
use std::num::NonZeroUsize;

use rustix::thread::{CpuSet, sched_getaffinity};

/// A core, by the number that the kernel gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Core(usize);

impl Core {
    /// The kernel's number.
    #[must_use]
    pub fn number(self) -> usize {
        self.0
    }
}

/// What the user asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Nothing: half of the allowed cores, at least one. The other half is left to the kernel,
    /// which does the receive work of both ports in interrupts, and to whatever else runs here;
    /// a worker spins while frames come, so it leaves nothing over on its own core.
    #[default]
    Half,
    /// So many workers, on cores that lotus chooses.
    Count(NonZeroUsize),
    /// One worker on each of these.
    Cores(Vec<Core>),
}

/// A wish that this machine cannot fulfil.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// More workers than cores.
    #[error(
        "{wanted} workers, but this process may use only {}: two workers on one core would only \
         take turns; ask for at most {}", describe(.allowed), .allowed.len()
    )]
    TooMany {
        /// So many.
        wanted: usize,
        /// The cores there are.
        allowed: Vec<Core>,
    },
    /// A core that is not there, or not for this process.
    #[error(
        "core {} does not exist or is not allowed for this process, which may use {} \
         (taskset, cgroups and systemd's CPUAffinity= limit this)", .core.0, describe(.allowed)
    )]
    NotAllowed {
        /// The core asked for.
        core: Core,
        /// The cores there are.
        allowed: Vec<Core>,
    },
    /// The kernel does not say.
    #[error("cannot find out which cores this process may use: {0}")]
    Unknown(std::io::Error),
}

impl Placement {
    /// The cores of the workers, one each.
    ///
    /// # Errors
    ///
    /// This machine does not have them.
    pub fn resolve(&self) -> Result<Vec<Core>, PlacementError> {
        self.choose(&allowed()?)
    }

    fn choose(&self, allowed: &[Core]) -> Result<Vec<Core>, PlacementError> {
        let count = match self {
            Placement::Half => (allowed.len() / 2).max(1),
            Placement::Count(count) => count.get(),
            Placement::Cores(cores) => {
                return match cores.iter().find(|core| !allowed.contains(core)) {
                    None => Ok(cores.clone()),
                    Some(&core) => Err(PlacementError::NotAllowed {
                        core,
                        allowed: allowed.to_vec(),
                    }),
                };
            }
        };
        // The last ones: interrupts and other programs gather on the first.
        allowed
            .len()
            .checked_sub(count)
            .map(|first| allowed[first..].to_vec())
            .ok_or_else(|| PlacementError::TooMany {
                wanted: count,
                allowed: allowed.to_vec(),
            })
    }
}

/// A list as in `0,2-5`.
///
/// # Errors
///
/// A sentence about what is wrong with it.
pub fn parse_core_list(text: &str) -> Result<Vec<Core>, String> {
    let number = |text: &str| {
        text.trim()
            .parse::<usize>()
            .ok()
            .filter(|&number| number < CpuSet::MAX_CPU)
            .ok_or_else(|| format!("'{text}' is not the number of a core; write a list as 0,2-5"))
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("'{part}' runs backwards; write {last}-{first}"));
        }
        for core in (first..=last).map(Core) {
            if cores.contains(&core) {
                return Err(format!("core {} is named twice: one worker a core", core.0));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// `2 cores (0-1)`.
#[must_use]
pub fn describe(cores: &[Core]) -> String {
    let plural = if cores.len() == 1 { "core" } else { "cores" };
    format!("{} {plural} ({})", cores.len(), CoreList(cores))
}

/// Writes cores as in `0,2-5`.
#[derive(Debug)]
pub struct CoreList<'a>(pub &'a [Core]);

impl fmt::Display for CoreList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, run) in self.0.chunk_by(|a, b| a.0 + 1 == b.0).enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            match run {
                [only] => write!(f, "{}", only.0)?,
                [first, .., last] => write!(f, "{}-{}", first.0, last.0)?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// The cores that this process may use.
///
/// # Errors
///
/// The kernel does not say.
pub fn allowed() -> Result<Vec<Core>, PlacementError> {
    let set = sched_getaffinity(None).map_err(|error| PlacementError::Unknown(error.into()))?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .map(Core)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(numbers: &[usize]) -> Vec<Core> {
        numbers.iter().copied().map(Core).collect()
    }

    #[test]
    fn lists_are_read_and_written_alike() {
        for (text, numbers) in [
            ("0", vec![0]),
            ("0,2-5", vec![0, 2, 3, 4, 5]),
            ("7,3-4", vec![7, 3, 4]),
        ] {
            assert_eq!(parse_core_list(text).unwrap(), cores(&numbers));
            assert_eq!(CoreList(&cores(&numbers)).to_string(), text);
        }
        for (text, part) in [
            ("", "'' is not the number"),
            ("a", "'a' is not"),
            ("3-1", "write 1-3"),
            ("1,0-2", "core 1 is named twice"),
            ("99999999999", "is not the number"),
            ("-1", "'' is not"),
        ] {
            let message = parse_core_list(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn half_of_the_cores_at_least_one_and_the_last() {
        let choose = |placement: Placement, allowed: &[usize]| placement.choose(&cores(allowed));
        assert_eq!(choose(Placement::Half, &[0]).unwrap(), cores(&[0]));
        assert_eq!(choose(Placement::Half, &[0, 1]).unwrap(), cores(&[1]));
        assert_eq!(
            choose(Placement::Half, &[2, 3, 6, 7, 9]).unwrap(),
            cores(&[7, 9])
        );
        let two = Placement::Count(NonZeroUsize::new(2).unwrap());
        assert_eq!(choose(two.clone(), &[0, 1, 2]).unwrap(), cores(&[1, 2]));
        let message = choose(two, &[4]).unwrap_err().to_string();
        assert!(
            message.contains("2 workers") && message.contains("1 core (4)"),
            "{message}"
        );
        let message = choose(Placement::Cores(cores(&[99])), &[0, 1])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("core 99") && message.contains("2 cores (0-1)"),
            "{message}"
        );
    }
}
