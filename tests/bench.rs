//! `bypath bench` in network namespaces of its own: what it counts is held against paths that lose, repeat, damage, reorder,
//! translate and route in known ways, and what it says of ports that cannot be is one line.
//!
//! Rates are low, so that nothing but the path loses. Needs root, and ip, tc, nft, ethtool.

mod lab;

#[path = "bench/faults.rs"]
mod faults;
#[path = "bench/net.rs"]
mod net;
#[path = "bench/paths.rs"]
mod paths;
#[path = "bench/refused.rs"]
mod refused;
#[path = "bench/rfc2544.rs"]
mod rfc2544;
