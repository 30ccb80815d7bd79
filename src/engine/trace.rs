use super::Engine;
use crate::conntrack::{CtState, Direction, Link, TcpState, Tuple};

/// What the engine found out about one frame on the way to its verdict.
///
/// It decides nothing; `lotus explain` shows it. An engine that was not asked for it does not fill
/// it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Who spoke to whom, where the frame was tracked. For the fragment that completes a datagram
    /// it is the datagram's.
    pub tuple: Option<Tuple>,
    /// The state that the rules saw, or would have seen had the flow not kept their verdict.
    pub state: Option<CtState>,
    /// Which way it went within its flow.
    pub direction: Option<Direction>,
    /// It began a flow that the rules accepted.
    pub begun: bool,
    /// What its flow has to do with a helper's session.
    pub link: Link,
    /// For TCP: the state of the connection behind the segment.
    pub tcp: Option<TcpState>,
}

impl Engine {
    /// From now on, [`Engine::last_trace`] tells how each frame came to its verdict.
    #[must_use]
    pub fn traced(mut self) -> Engine {
        self.trace = Some(Trace::default());
        self
    }

    /// How the latest frame came to its verdict; `None` if nobody asked for that.
    #[must_use]
    pub fn last_trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// Notes something about the present frame, if anybody wants to know.
    #[inline(always)]
    pub(super) fn note(&mut self, what: impl FnOnce(&mut Trace)) {
        if let Some(trace) = &mut self.trace {
            what(trace);
        }
    }
}
