//! What moves through the walk: the owned [`Frame`], the [`Parsed`] packet on top of it, and the one [`Verdict`] in which
//! every packet ends.
//!
//! Layer 1. Knows `wire` and nothing else: no tables, no ports, no I/O.

mod frame;
mod parsed;
mod verdict;

pub use frame::{Frame, FrameId};
pub use parsed::{Addr, Family, Flags, Parsed};
pub use verdict::{DropReason, PuntReason, Step, Verdict};

/// The most packets that walk together: by one configuration, at one time.
pub const BURST: usize = 64;

/// A port's number inside this process: dense, stable while the port lives, reused after it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub u16);

/// The most ports one process serves. Sizes the counters per port, here and in steer (`bpf/steer.h`), and queues to workers.
pub const PORTS_MAX: usize = 256;
