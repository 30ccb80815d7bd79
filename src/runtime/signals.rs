//! Ctrl-C and its kin, as something the control thread can wait for.

use std::cell::Cell;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

/// Counts requests to stop, and notes one to reload.
#[derive(Debug)]
pub(super) struct Signals {
    stops: UnixStream,
    seen: Cell<u32>,
    hangups: UnixStream,
    /// Whether standard input, output and error were terminals at the start.
    terminals: [bool; 3],
    handlers: Vec<SigId>,
}

impl Signals {
    /// From now on SIGINT, SIGTERM and SIGHUP no longer end the process but are noted.
    pub(super) fn catch() -> io::Result<Signals> {
        let (stops, stop) = UnixStream::pair()?;
        let (hangups, hangup) = UnixStream::pair()?;
        stops.set_nonblocking(true)?;
        hangups.set_nonblocking(true)?;
        let mut signals = Signals {
            stops,
            seen: Cell::new(0),
            hangups,
            terminals: terminals(),
            handlers: Vec::new(),
        };
        for (signal, write) in [(SIGINT, &stop), (SIGTERM, &stop), (SIGHUP, &hangup)] {
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

    /// SIGHUP came, once or more often, since this was asked for the last time. If it came because
    /// the terminal was closed, it is a request to stop.
    pub(super) fn reload_wanted(&self) -> bool {
        let hangups = drain(&self.hangups);
        if hangups == 0 {
            return false;
        }
        let closed = self.terminals != terminals();
        if closed {
            self.seen.set(self.seen.get().saturating_add(hangups));
        }
        !closed
    }

    /// Waits for a signal, or so long.
    pub(super) fn wait(&self, at_most: Duration) {
        let mut fds = [&self.stops, &self.hangups]
            .map(|stream| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN));
        let timeout = Timespec::try_from(at_most).ok();
        // Interrupted by the very signal that is waited for.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn count(&self) -> u32 {
        let seen = self.seen.get().saturating_add(drain(&self.stops));
        self.seen.set(seen);
        seen
    }
}

/// How many signals have arrived.
fn drain(mut arrived: &UnixStream) -> u32 {
    let (mut bytes, mut all) = ([0; 16], 0_u32);
    while let Ok(count @ 1..) = arrived.read(&mut bytes) {
        all = all.saturating_add(u32::try_from(count).unwrap_or(1));
    }
    all
}

/// Those of the three that are one. A terminal that was closed is none any more.
fn terminals() -> [bool; 3] {
    [
        io::stdin().is_terminal(),
        io::stdout().is_terminal(),
        io::stderr().is_terminal(),
    ]
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

    use rustix::process::Signal;

    #[test]
    fn signals_are_counted_and_wake_the_waiting() {
        let signals = Signals::catch().unwrap();
        assert!(!signals.stop_wanted() && !signals.reload_wanted());
        let begun = Instant::now();
        signals.wait(Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20));
        let own = rustix::process::getpid();
        let send = |signal| rustix::process::kill_process(own, signal).unwrap();
        send(Signal::HUP);
        signals.wait(Duration::from_secs(5));
        assert!(signals.reload_wanted() && !signals.reload_wanted());
        assert!(!signals.stop_wanted());
        send(Signal::TERM);
        signals.wait(Duration::from_secs(5));
        assert!(signals.stop_wanted() && !signals.hurry_wanted());
        send(Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !signals.hurry_wanted() {
            assert!(Instant::now() < deadline);
        }
    }
}
