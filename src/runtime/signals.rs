//! Ctrl-C and its kin, as something the control thread can wait for.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

/// Counts requests to stop.
#[derive(Debug)]
pub(super) struct Signals {
    arrived: UnixStream,
    seen: Cell<u32>,
    handlers: Vec<SigId>,
}

impl Signals {
    /// From now on SIGINT, SIGTERM and SIGHUP (the terminal was closed) no longer end the process
    /// but are counted.
    pub(super) fn catch() -> io::Result<Signals> {
        let (arrived, write) = UnixStream::pair()?;
        arrived.set_nonblocking(true)?;
        let mut signals = Signals {
            arrived,
            seen: Cell::new(0),
            handlers: Vec::new(),
        };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signals
                .handlers
                .push(pipe::register(signal, write.try_clone()?)?);
        }
        Ok(signals)
    }

    /// The user wants it to end.
    pub(super) fn stop_wanted(&self) -> bool {
        self.count() >= 1
    }

    /// The user has said so twice.
    pub(super) fn hurry_wanted(&self) -> bool {
        self.count() >= 2
    }

    /// Waits for a signal, or so long.
    pub(super) fn wait(&self, at_most: Duration) {
        let mut fds = [PollFd::from_borrowed_fd(
            self.arrived.as_fd(),
            PollFlags::IN,
        )];
        let timeout = Timespec::try_from(at_most).ok();
        // Interrupted by the very signal that is waited for.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn count(&self) -> u32 {
        let mut bytes = [0; 16];
        while let Ok(count @ 1..) = (&self.arrived).read(&mut bytes) {
            self.seen.set(
                self.seen
                    .get()
                    .saturating_add(u32::try_from(count).unwrap_or(1)),
            );
        }
        self.seen.get()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for &handler in &self.handlers {
            unregister(handler);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn signals_are_counted_and_wake_the_waiting() {
        let signals = Signals::catch().unwrap();
        assert!(!signals.stop_wanted());
        let begun = Instant::now();
        signals.wait(Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20));
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::HUP).unwrap();
        signals.wait(Duration::from_secs(5));
        assert!(signals.stop_wanted() && !signals.hurry_wanted());
        rustix::process::kill_process(own, rustix::process::Signal::HUP).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !signals.hurry_wanted() {
            assert!(Instant::now() < deadline);
        }
    }
}
