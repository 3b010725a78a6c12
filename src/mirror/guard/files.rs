//! What only files tell: legacy iptables and ebtables, IPVS, and conntrack's own table. All of the calling thread's namespace.
//!
//! A table in ip_tables_names stays there once any `iptables-legacy` command has touched it, empty or not, and its rules
//! are invisible to nft (net/ipv4/netfilter/ip_tables.c): it counts as standing in the path. A file that is there stays open, for a
//! reading is one `pread` then; while there is none, each look costs a walk through /proc.

use super::super::turns::Lookout;
use super::READ_AFTER;
use super::findings::{Collector, names};
use crate::packet::Family;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

const DIR: &str = "/proc/thread-self/net";
/// Modules of legacy ebtables, each a table whose rules no listing shows. One that is loaded counts as in use.
const EBTABLES: [&str; 3] = ["ebtable_broute", "ebtable_filter", "ebtable_nat"];

/// Reads files.
#[derive(Debug)]
pub(super) struct Files {
    ip_tables: Kept,
    ip6_tables: Kept,
    ip_vs: Kept,
    /// Of what is read once a second: whether the directory can be, and whether connections are tracked.
    lookout: Lookout,
    unreadable: Option<String>,
    has_connections: bool,
    modules: Modules,
}

/// A file of [`DIR`].
#[derive(Debug)]
struct Kept {
    name: &'static str,
    file: Option<File>,
}

/// Which modules of [`EBTABLES`] are loaded. /proc/modules is long, and /sys/module has as many links as modules.
#[derive(Debug)]
struct Modules {
    lookout: Lookout,
    links: Option<u64>,
    loaded: io::Result<Vec<&'static str>>,
}

impl Files {
    pub(super) fn open() -> Self {
        let kept = |name| Kept { name, file: None };
        Self {
            ip_tables: kept("ip_tables_names"),
            ip6_tables: kept("ip6_tables_names"),
            ip_vs: kept("ip_vs"),
            lookout: Lookout::new(READ_AFTER),
            unreadable: None,
            has_connections: false,
            modules: Modules {
                lookout: Lookout::new(READ_AFTER),
                links: None,
                loaded: Ok(Vec::new()),
            },
        }
    }

    pub(super) fn read(&mut self, found: &mut Collector) {
        legacy(found, Family::V4, &mut self.ip_tables, "iptables");
        legacy(found, Family::V6, &mut self.ip6_tables, "ip6tables");
        ipvs(found, &mut self.ip_vs);
        if self.lookout.is_due(false) {
            self.unreadable = std::fs::metadata(DIR).err().map(|e| e.to_string());
            let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
            self.has_connections = count.is_ok_and(|n| n.trim().parse() != Ok(0u32));
        }
        if let Some(e) = &self.unreadable {
            let text = format!("{DIR} cannot be read ({e}): legacy iptables and IPVS would not be seen");
            found.leave_families(&Family::ALL, text, "mount /proc");
        }
    }

    /// Entries in the table prove nothing: they may be left from rules that are gone, or put there by hand.
    pub(super) fn remark_conntrack(&self, found: &mut Collector) {
        let untracked: Vec<_> = Family::ALL
            .into_iter()
            .filter(|f| !found.is_left(*f) && !found.is_tracked(*f))
            .collect();
        if self.has_connections && !untracked.is_empty() {
            let text = format!(
                "the conntrack table has entries; whether {} is tracked is told by the rules",
                names(&untracked)
            );
            found.remark(text, "no traffic stays with the kernel for this alone");
        }
    }

    /// Legacy ebtables, where there is no list of hooks.
    pub(super) fn read_ebtables(&mut self, found: &mut Collector) {
        if !found.has_bridge_ports() {
            return;
        }
        let remedy = "legacy tables are not carried; move the rules to ebtables-nft and unload the ebtable modules";
        match self.modules.read() {
            Ok(loaded) => {
                for table in loaded {
                    found.leave_bridging(format!("legacy ebtables may be in use: module {table}"), remedy);
                }
            }
            Err(e) => found.leave_bridging(format!("/proc/modules cannot be read: {e}"), remedy),
        }
    }
}

impl Kept {
    /// All of it. A file that is not there says that the kernel has no such thing.
    fn contents(&mut self) -> io::Result<String> {
        // The module that it was of may be gone.
        if let Some(Ok(text)) = self.file.as_ref().map(whole) {
            return Ok(text);
        }
        self.file = match File::open(format!("{DIR}/{}", self.name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        self.file.as_ref().map_or_else(|| Ok(String::new()), whole)
    }
}

/// All that a file has from its beginning.
fn whole(file: &File) -> io::Result<String> {
    let (mut text, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        match file.read_at(&mut buf, text.len() as u64)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            len => text.extend_from_slice(&buf[..len]),
        }
    }
}

impl Modules {
    fn read(&mut self) -> &io::Result<Vec<&'static str>> {
        let links = std::fs::metadata("/sys/module").ok().map(|dir| dir.nlink());
        let is_other = links.is_none() || links != self.links;
        self.links = links;
        if self.lookout.is_due(is_other) {
            self.loaded = match std::fs::read_to_string("/proc/modules") {
                Ok(modules) => {
                    let loaded = |table: &&str| modules.lines().any(|line| line.split(' ').next() == Some(table));
                    Ok(EBTABLES.into_iter().filter(loaded).collect())
                }
                // A kernel without modules.
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(e) => Err(e),
            };
        }
        &self.loaded
    }
}

fn legacy(found: &mut Collector, family: Family, file: &mut Kept, command: &str) {
    let text = match file.contents() {
        Ok(tables) if tables.trim().is_empty() => return,
        Ok(tables) => {
            let tables = tables.split_whitespace().collect::<Vec<_>>().join(", ");
            format!("legacy {command} is in use, table {tables}")
        }
        Err(e) => format!("{} cannot be read: {e}", file.name),
    };
    let remedy = "legacy tables are not carried; move the rules to nft or iptables-nft and unload the iptable modules";
    found.leave_families(&[family], text, remedy);
}

fn ipvs(found: &mut Collector, file: &mut Kept) {
    let remedy = "IPVS is not carried; it is until `ipvsadm -C`";
    match file.contents() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_empty_and_one_that_is_stays_open() {
        let mut none = Kept {
            name: "no_such_file",
            file: None,
        };
        assert_eq!(none.contents().unwrap(), "");
        assert!(none.file.is_none());
        let mut there = Kept {
            name: "dev",
            file: None,
        };
        let first = there.contents().unwrap();
        assert!(first.contains("lo:"), "{first}");
        assert!(there.file.is_some());
        assert!(there.contents().unwrap().contains("lo:"), "from its beginning, again");
    }

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
