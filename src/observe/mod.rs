//! What lotus tells about itself: drop reasons, counters, events. The lowest module: everything
//! else may speak through it, it knows nobody.

mod counters;
mod event;
mod reason;
mod text;

pub use counters::{Counters, Snapshot, Traffic};
pub use event::{
    Event, EventKind, EventQueue, Mode, PortOpened, QUEUE_EVENTS, Speaker, Stamped, Transfer,
};
pub use reason::DropReason;
pub use text::Escaped;
