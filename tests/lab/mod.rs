//! The lab: network namespaces with real interfaces, and the twin, which judges bypath by the kernel.
//!
//! ```text
//!                 namespace        namespace "router"        namespace
//!   a lab:        w0 (far end) ==veth== d0   [bypath]   d1 ==veth== w1 (far end)   ... as many ports as wanted
//!
//!   the twin:     lab "kernel": the same configuration, no bypath   \  the same frames in at every wN,
//!                 lab "bypath": the same configuration, bypath run  /  the captures at every wN compared
//! ```
//!
//! All namespaces are unnamed: they are held by file descriptors of the test process and vanish with it, however it ends.
//! Needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN for setns) and the programs ip, tc, ethtool; nft, conntrack and iptables-legacy
//! where a scenario needs them.
//!
//! `BYPATH_TWIN=kernel` runs both labs without bypath. That judges the harness itself: it must find no divergence between
//! two kernels. It is never chosen by itself; a bypath that does not start fails the test.

// Each test binary includes this module whole and uses a part of it.
#![allow(dead_code)]

pub mod bridge;
pub mod bypath;
pub mod compare;
pub mod conntrack;
mod counters;
#[path = "../env/mod.rs"]
pub mod env;
pub mod names;
pub mod namespace;
pub mod neighbor;
pub mod packet;
pub mod plan;
pub mod report;
pub mod respond;
pub mod router;
pub mod setup;
pub mod streams;
pub mod sys;
pub mod tables;
pub mod twin;
pub mod wire;
