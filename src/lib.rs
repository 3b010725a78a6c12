//! bypath carries Linux's own packet path (bridge, netfilter, conntrack, routing, tc) in userspace, over AF_XDP.
//!
//! The kernel is its configuration, its specification and its safety net: it reads links, routes and neighbours by
//! netlink, does to a packet what the kernel would have done, byte for byte, and punts (hands back, whole) every packet
//! it does not fully understand.
//!
//! The modules are layers; imports go down only, which `tests/tidy.rs` judges:
//!
//! ```text
//! wire 0 < packet 1 < table 2, port 2 < stage 3 < worker 4 < mirror 5, control 5, bench 5 < cli 6
//! ```
//!
//! Start with [`worker::pipeline`]: it is the packet's walk, and every box it names is a file in [`stage`].

pub mod bench;
pub mod cli;
pub mod control;
pub mod mirror;
pub mod packet;
pub mod port;
pub mod stage;
pub mod table;
pub mod wire;
pub mod worker;
