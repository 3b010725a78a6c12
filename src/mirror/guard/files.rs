//! What only /proc tells: legacy iptables and ebtables, IPVS, and conntrack's own table. All of the calling thread's namespace.
//!
//! A table in ip_tables_names stays there once any `iptables-legacy` command has touched it, empty or not, and its rules
//! are invisible to nft (net/ipv4/netfilter/ip_tables.c): it counts as standing in the path.

use super::findings::{Collector, names};
use crate::packet::Family;
use std::io;

const DIR: &str = "/proc/thread-self/net";

pub(super) fn read(found: &mut Collector) {
    legacy(found, Family::V4, "ip_tables_names", "iptables");
    legacy(found, Family::V6, "ip6_tables_names", "ip6tables");
    ipvs(found);
    if let Err(e) = std::fs::metadata(DIR) {
        let text = format!("{DIR} cannot be read ({e}): legacy iptables and IPVS would not be seen");
        found.leave_families(&Family::ALL, text, "mount /proc");
    }
}

fn legacy(found: &mut Collector, family: Family, file: &str, command: &str) {
    let text = match contents(file) {
        Ok(tables) if tables.trim().is_empty() => return,
        Ok(tables) => {
            let tables = tables.split_whitespace().collect::<Vec<_>>().join(", ");
            format!("legacy {command} is in use, table {tables}")
        }
        Err(e) => format!("{file} cannot be read: {e}"),
    };
    let remedy = "legacy tables are not carried; move the rules to nft or iptables-nft and unload the iptable modules";
    found.leave_families(&[family], text, remedy);
}

fn ipvs(found: &mut Collector) {
    let remedy = "IPVS is not carried; it is until `ipvsadm -C`";
    match contents("ip_vs") {
        Ok(table) => {
            for (family, count) in Family::ALL.into_iter().zip(ipvs_services(&table)) {
                if count > 0 {
                    found.leave_families(&[family], format!("IPVS has {count} services"), remedy);
                }
            }
        }
        Err(e) => found.leave_families(&Family::ALL, format!("ip_vs cannot be read: {e}"), remedy),
    }
}

/// How many virtual services of each family /proc/net/ip_vs lists. A service by firewall mark counts for both.
fn ipvs_services(table: &str) -> [usize; 2] {
    let mut count = [0; 2];
    for line in table.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("TCP" | "UDP" | "SCTP"), Some(address)) => count[usize::from(address.starts_with('['))] += 1,
            (Some("FWM"), _) => count = count.map(|n| n + 1),
            _ => {}
        }
    }
    count
}

/// Entries in the table prove nothing: they may be left from rules that are gone, or put there by hand.
pub(super) fn read_conntrack(found: &mut Collector) {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    let entries = count.is_ok_and(|n| n.trim().parse() != Ok(0u32));
    let untracked: Vec<_> = Family::ALL
        .into_iter()
        .filter(|f| !found.is_left(*f) && !found.is_tracked(*f))
        .collect();
    if entries && !untracked.is_empty() {
        let text = format!(
            "the conntrack table has entries; whether {} is tracked is told by the rules",
            names(&untracked)
        );
        found.remark(text, "no traffic stays with the kernel for this alone");
    }
}

/// Modules of legacy ebtables, each a table whose rules no listing shows. One that is loaded counts as in use.
pub(super) fn read_ebtables(found: &mut Collector) {
    const TABLES: [&str; 3] = ["ebtable_broute", "ebtable_filter", "ebtable_nat"];
    if !found.has_bridge_ports() {
        return;
    }
    let remedy = "legacy tables are not carried; move the rules to ebtables-nft and unload the ebtable modules";
    match std::fs::read_to_string("/proc/modules") {
        Ok(modules) => {
            let loaded = |table: &str| modules.lines().any(|line| line.split(' ').next() == Some(table));
            for table in TABLES.into_iter().filter(|table| loaded(table)) {
                found.leave_bridging(format!("legacy ebtables may be in use: module {table}"), remedy);
            }
        }
        // A kernel without modules.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => found.leave_bridging(format!("/proc/modules cannot be read: {e}"), remedy),
    }
}

/// A file that is not there says that the kernel has no such thing.
fn contents(file: &str) -> io::Result<String> {
    match std::fs::read_to_string(format!("{DIR}/{file}")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipvs_services_are_counted_by_family() {
        let table = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
                     -> RemoteAddress:Port Forward Weight ActiveConn InActConn\nTCP  0A000001:0050 rr  \n  \
                     -> 0A000002:0050      Masq    1      0          0\nUDP  [20010db8000000000000000000000001]:0035 rr\n";
        assert_eq!(ipvs_services(table), [1, 1]);
        assert_eq!(ipvs_services("FWM  00000001 rr\n"), [1, 1]);
        assert_eq!(ipvs_services(""), [0, 0]);
    }
}
