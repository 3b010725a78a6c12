//! The addressing plan that the hand-written scenarios share.
//!
//! ```text
//!   port i:      10.0.i.1/24    fd00:0:0:i::1/64   fe80::i:1/64      the router
//!   neighbours:  10.0.i.2..4    fd00:0:0:i::2..4                     static; .2 is the far end's own link address
//!   behind .2:   10.(100+i).0.0/16   fd00:(100+i)::/32
//! ```

use super::packet::{ip, neighbor_mac, text};
use std::net::IpAddr;

/// The plan as commands, for `ports` ports.
pub fn config(ports: usize) -> Vec<String> {
    let addresses = (0..ports).flat_map(addresses);
    let neighbours = (0..ports).flat_map(neighbours);
    let routes = (0..ports).flat_map(routes);
    addresses.chain(neighbours).chain(routes).collect()
}

/// The plan with more commands behind it.
pub fn config_with(ports: usize, more: &[&str]) -> Vec<String> {
    config(ports)
        .into_iter()
        .chain(more.iter().map(|line| line.to_string()))
        .collect()
}

/// The router's addresses on port `i`.
pub fn addresses(i: usize) -> Vec<String> {
    vec![
        format!("ip addr add 10.0.{i}.1/24 dev d{i}"),
        format!("ip addr add fd00:0:0:{i}::1/64 dev d{i} nodad"),
        format!("ip addr add fe80::{i}:1/64 dev d{i} nodad"),
    ]
}

/// The static neighbours of port `i`.
pub fn neighbours(i: usize) -> Vec<String> {
    let both = |host: usize| {
        let mac = text(neighbor_mac(i, host as u8 - 2));
        [format!("10.0.{i}.{host}"), format!("fd00:0:0:{i}::{host}")]
            .map(|address| format!("ip neigh replace {address} lladdr {mac} dev d{i} nud permanent"))
    };
    (2..=4).flat_map(both).collect()
}

/// The networks behind port `i`.
pub fn routes(i: usize) -> Vec<String> {
    vec![
        format!("ip route add 10.{}.0.0/16 via 10.0.{i}.2", 100 + i),
        format!("ip route add fd00:{}::/32 via fd00:0:0:{i}::2", 100 + i),
    ]
}

/// Host `host` of the IPv4 network behind port `i`.
pub fn behind4(i: usize, host: u16) -> IpAddr {
    ip(&format!("10.{}.{}.{}", 100 + i, host >> 8, host & 0xff))
}

/// Host `host` of the IPv6 network behind port `i`.
pub fn behind6(i: usize, host: u16) -> IpAddr {
    ip(&format!("fd00:{}::{host:x}", 100 + i))
}

/// The router's IPv4 and IPv6 addresses on port `i`.
pub fn own(i: usize) -> [IpAddr; 2] {
    [ip(&format!("10.0.{i}.1")), ip(&format!("fd00:0:0:{i}::1"))]
}

/// A source behind port `from` and a destination behind port `to`, in both families.
pub fn pairs(from: usize, to: usize, host: u16) -> [(IpAddr, IpAddr); 2] {
    [
        (behind4(from, host), behind4(to, host)),
        (behind6(from, host), behind6(to, host)),
    ]
}
