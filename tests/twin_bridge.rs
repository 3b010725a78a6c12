//! The twin over bridges: for the same frames, the far ends must see the same with bypath and without, and the forwarding
//! databases of both kernels must be equal, whoever carried the frames that are in them.
//!
//! A scenario is a router whose ports are members of bridges, or routed, or both; frames; and the least share of them that
//! bypath must have forwarded itself. Then come seeded random bridges (module `random`).
//!
//! `BYPATH_TWIN=kernel` compares two kernels, to judge the harness (see `lab`).

mod lab;

#[path = "bridge/chains.rs"]
mod chains;
#[path = "bridge/changes.rs"]
mod changes;
#[path = "bridge/flags.rs"]
mod flags;
#[path = "bridge/floods.rs"]
mod floods;
#[path = "bridge/frames.rs"]
mod frames;
#[path = "bridge/harness.rs"]
mod harness;
#[path = "bridge/hooks.rs"]
mod hooks;
#[path = "bridge/learning.rs"]
mod learning;
#[path = "bridge/net.rs"]
mod net;
#[path = "bridge/netfilter.rs"]
mod netfilter;
#[path = "bridge/random.rs"]
mod random;
#[path = "bridge/routing.rs"]
mod routing;
#[path = "bridge/vlans.rs"]
mod vlans;
