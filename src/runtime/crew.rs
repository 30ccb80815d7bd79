//! The worker threads: started together, watched, stopped together.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel;

use super::cores::Core;
use super::worker::pin_to_core;

/// How long all workers together may take to start: pinning and the first look at a ring.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// A worker sees the stop flag after its poll at the latest; this is many times that.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// How long a worker may still take when the user is in a hurry (second Ctrl-C).
const HURRIED_PATIENCE: Duration = Duration::from_millis(200);
/// How often to look whether a stopping worker is done.
const STOP_GLANCE: Duration = Duration::from_millis(2);

/// What one worker does: it runs until the flag is set.
pub(super) type Body = Box<dyn FnOnce(&AtomicBool) -> io::Result<()> + Send>;

/// The running workers.
#[derive(Debug)]
pub(super) struct Crew {
    stop: Arc<AtomicBool>,
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    name: String,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// A worker that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// The kernel gave no thread.
    #[error("cannot start worker {worker}: {error}")]
    Spawn {
        /// Its thread's name.
        worker: String,
        /// Why.
        error: io::Error,
    },
    /// It did not begin in time.
    #[error("the workers did not start within {} s", START_PATIENCE.as_secs())]
    Slow,
    /// Its port failed.
    #[error("worker {worker} stopped: {error}")]
    Failed {
        /// Its thread's name.
        worker: String,
        /// Why.
        error: io::Error,
    },
    /// A bug.
    #[error("worker {worker} panicked (a bug in lotus, please report it): {message}")]
    Panicked {
        /// Its thread's name.
        worker: String,
        /// What it said.
        message: String,
    },
    /// It ended although nobody asked it to.
    #[error("worker {worker} ended by itself (a bug in lotus, please report it)")]
    Deserted {
        /// Its thread's name.
        worker: String,
    },
    /// It did not end.
    #[error("worker {worker} did not stop in time (a bug in lotus, please report it)")]
    Stuck {
        /// Its thread's name.
        worker: String,
    },
}

impl CrewError {
    /// Whether trying again would only hide it.
    pub(super) fn is_bug(&self) -> bool {
        match self {
            CrewError::Panicked { .. } | CrewError::Deserted { .. } | CrewError::Stuck { .. } => {
                true
            }
            CrewError::Spawn { .. } | CrewError::Slow | CrewError::Failed { .. } => false,
        }
    }
}

impl Crew {
    /// Starts one pinned thread for each body and waits until all of them run.
    ///
    /// # Errors
    ///
    /// One could not start; those that did are stopped again.
    pub(super) fn start(bodies: Vec<(Core, Body)>) -> Result<Crew, CrewError> {
        let mut crew = Crew {
            stop: Arc::default(),
            workers: Vec::new(),
        };
        let (begun, all_begun) = channel::bounded(bodies.len());
        for (index, (core, body)) in bodies.into_iter().enumerate() {
            let name = format!("lotus-w{index}");
            let (stop, begun) = (Arc::clone(&crew.stop), begun.clone());
            let spawned = thread::Builder::new().name(name.clone()).spawn(move || {
                pin_to_core(core.number())?;
                // Nobody listens any more if another worker failed to start: then stop is set.
                let _ = begun.send(());
                drop(begun);
                body(&stop)
            });
            match spawned {
                Ok(thread) => crew.workers.push(Worker {
                    name,
                    thread: Some(thread),
                }),
                Err(error) => {
                    return Err(CrewError::Spawn {
                        worker: name,
                        error,
                    });
                }
            }
        }
        drop(begun);
        let deadline = Instant::now() + START_PATIENCE;
        for _ in 0..crew.workers.len() {
            match all_begun.recv_deadline(deadline) {
                Ok(()) => {}
                Err(channel::RecvTimeoutError::Timeout) => return Err(CrewError::Slow),
                Err(channel::RecvTimeoutError::Disconnected) => {
                    return Err(crew.first_failure(deadline));
                }
            }
        }
        Ok(crew)
    }

    /// Why one ended before it began. Its thread may still be on its way out.
    fn first_failure(&mut self, deadline: Instant) -> CrewError {
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            if Instant::now() >= deadline {
                return CrewError::Slow;
            }
            thread::sleep(STOP_GLANCE);
        }
    }

    /// Looks whether all of them still work.
    ///
    /// # Errors
    ///
    /// One ended; it is told once.
    pub(super) fn check(&mut self) -> Result<(), CrewError> {
        for worker in &mut self.workers {
            let Some(thread) = worker.thread.take_if(|thread| thread.is_finished()) else {
                continue;
            };
            let worker = worker.name.clone();
            return Err(match thread.join() {
                Ok(Ok(())) => CrewError::Deserted { worker },
                Ok(Err(error)) => CrewError::Failed { worker, error },
                Err(panic) => CrewError::Panicked {
                    worker,
                    message: said(&*panic),
                },
            });
        }
        Ok(())
    }

    /// Stops all and waits for them; `hurry` shortens the waiting.
    ///
    /// # Errors
    ///
    /// One panicked or would not stop. A port's failure no longer matters.
    pub(super) fn stop(mut self, hurry: impl Fn() -> bool) -> Result<(), CrewError> {
        self.stop_all(hurry)
    }

    fn stop_all(&mut self, hurry: impl Fn() -> bool) -> Result<(), CrewError> {
        self.stop.store(true, Relaxed);
        let begun = Instant::now();
        let mut outcome = Ok(());
        for worker in &mut self.workers {
            let Some(thread) = worker.thread.take() else {
                continue;
            };
            let patience = |in_hurry| {
                if in_hurry {
                    HURRIED_PATIENCE
                } else {
                    STOP_PATIENCE
                }
            };
            while !thread.is_finished() && begun.elapsed() < patience(hurry()) {
                thread::sleep(STOP_GLANCE);
            }
            let worker = worker.name.clone();
            if !thread.is_finished() {
                outcome = Err(CrewError::Stuck { worker });
            } else if let Err(panic) = thread.join() {
                outcome = Err(CrewError::Panicked {
                    worker,
                    message: said(&*panic),
                });
            }
        }
        outcome
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // After `stop` there is nothing left to do; after an error, that error was told already.
        let _ = self.stop_all(|| false);
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|&text| text.to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cores::{self, Placement};

    fn core() -> Core {
        Placement::Half.resolve().unwrap()[0]
    }

    fn until_stopped(stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn first_complaint(crew: &mut Crew) -> CrewError {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match crew.check() {
                Err(error) => return error,
                Ok(()) => assert!(Instant::now() < deadline, "no complaint"),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn workers_run_until_they_are_stopped() {
        let bodies: Vec<(Core, Body)> = (0..3)
            .map(|_| (core(), Box::new(until_stopped) as Body))
            .collect();
        let mut crew = Crew::start(bodies).unwrap();
        crew.check().unwrap();
        crew.stop(|| false).unwrap();
    }

    #[test]
    fn a_panic_an_error_and_a_desertion_are_noticed() {
        let mut crew =
            Crew::start(vec![(core(), Box::new(|_| panic!("slot {} is odd", 7)))]).unwrap();
        let told = first_complaint(&mut crew).to_string();
        assert!(
            told.contains("lotus-w0 panicked") && told.contains("slot 7 is odd"),
            "{told}"
        );

        let failing: Body = Box::new(|_| Err(io::Error::other("ring broke")));
        let mut crew =
            Crew::start(vec![(core(), Box::new(until_stopped)), (core(), failing)]).unwrap();
        let told = first_complaint(&mut crew).to_string();
        assert!(told.contains("lotus-w1 stopped: ring broke"), "{told}");

        let mut crew = Crew::start(vec![(core(), Box::new(|_| Ok(())))]).unwrap();
        assert!(matches!(
            first_complaint(&mut crew),
            CrewError::Deserted { .. }
        ));
    }

    #[test]
    fn a_worker_that_cannot_begin_fails_the_start() {
        // Linux has no more than 8192 cores, and this machine not so many.
        let nowhere = cores::parse_core_list("1023").unwrap()[0];
        let bodies: Vec<(Core, Body)> = vec![
            (core(), Box::new(until_stopped)),
            (nowhere, Box::new(until_stopped)),
        ];
        let told = Crew::start(bodies).unwrap_err().to_string();
        assert!(told.contains("lotus-w1 stopped"), "{told}");
    }

    #[test]
    fn a_worker_that_hangs_does_not_hold_up_a_hurried_user() {
        let (release, held) = channel::bounded::<()>(1);
        let hang: Body = Box::new(move |_| held.recv().map_err(io::Error::other));
        let crew = Crew::start(vec![(core(), hang)]).unwrap();
        let begun = Instant::now();
        assert!(matches!(crew.stop(|| true), Err(CrewError::Stuck { .. })));
        assert!(begun.elapsed() < STOP_PATIENCE);
        release.send(()).unwrap();
    }
}
