//! Sysctls. The kernel tells changes of some by netconf notifications (forwarding, rp_filter, ignore_routes_with_linkdown,
//! force_forwarding); the others are read again and again: of the whole namespace, and of the links that are ports. Links
//! that are no ports keep what their last link message said (see `link`): nothing is decided by those.
//!
//! A file is opened once, and a reading is one `pread`, about 1 us. /proc/sys/net shows the namespace of the *thread* that
//! opens; an open file stays with its namespace. Bounds: [`GLOBALS`] and [`PORT`] per port.

use super::link::Link;
use super::netlink::{Message, as_u32, family};
use crate::packet::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// RTM_NEWNETCONF
pub const RTM_NEWNETCONF: u16 = 80;
/// RTM_DELNETCONF
pub const RTM_DELNETCONF: u16 = 81;
/// NETCONFA_IFINDEX_ALL
const ALL: i32 = -1;

/// One file. What cannot be read (an older kernel, no IPv6) is 0.
#[derive(Debug)]
pub(super) struct Watched {
    file: Option<File>,
}

impl Watched {
    /// Below /proc/sys/net.
    pub(super) fn open(path: &str) -> Self {
        Self::at(&format!("/proc/sys/net/{path}"))
    }

    /// By its whole path.
    pub(super) fn at(path: &str) -> Self {
        Self {
            file: File::open(path).ok(),
        }
    }

    pub(super) fn read(&self) -> Option<u32> {
        let mut text = [0; 32];
        let len = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..len]).ok()?;
        let first = text.split_ascii_whitespace().next()?;
        first.parse::<i64>().ok().map(|value| value as u32)
    }
}

macro_rules! globals {
    ($($(#[$doc:meta])* $field:ident = $path:literal,)*) => {
        /// Sysctls of the namespace.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Globals { $($(#[$doc])* pub $field: u32,)* }

        const GLOBALS: &[&str] = &[$($path,)*];

        impl Globals {
            fn read(files: &[Watched]) -> Self {
                let mut files = files.iter();
                Self { $($field: files.next().and_then(Watched::read).unwrap_or_default(),)* }
            }
        }
    };
}

globals! {
    /// The maximum with the link's own counts.
    rp_filter = "ipv4/conf/all/rp_filter",
    /// Either this or the link's own.
    send_redirects = "ipv4/conf/all/send_redirects",
    /// Either this or the link's own.
    accept_local = "ipv4/conf/all/accept_local",
    /// On a forwarding link this and the link's own, else either.
    accept_redirects = "ipv4/conf/all/accept_redirects",
    /// Dead nexthops may come alive or die by it.
    ignore_linkdown = "ipv4/conf/all/ignore_routes_with_linkdown",
    /// PMTU exceptions hold for forwarded packets.
    use_pmtu = "ipv4/ip_forward_use_pmtu",
    /// Forwarded packets get the priority of their TOS.
    update_priority = "ipv4/ip_forward_update_priority",
    /// What is hashed to choose a nexthop.
    hash_policy = "ipv4/fib_multipath_hash_policy",
    /// What is hashed by policy 3.
    hash_fields = "ipv4/fib_multipath_hash_fields",
    /// With what.
    hash_seed = "ipv4/fib_multipath_hash_seed",
    /// Choose among resolved neighbours.
    use_neigh = "ipv4/fib_multipath_use_neigh",
    /// IPv6 is forwarded.
    forwarding6 = "ipv6/conf/all/forwarding",
    /// Packets for proxied neighbours are the kernel's.
    proxy_ndp = "ipv6/conf/all/proxy_ndp",
    /// Dead nexthops may come alive or die by it.
    ignore_linkdown6 = "ipv6/conf/all/ignore_routes_with_linkdown",
    /// What is hashed to choose a nexthop.
    hash_policy6 = "ipv6/fib_multipath_hash_policy",
    /// What is hashed by policy 3.
    hash_fields6 = "ipv6/fib_multipath_hash_fields",
    /// Bridged IPv4 packets pass the hooks of IP.
    nf_call_iptables = "bridge/bridge-nf-call-iptables",
    /// Bridged IPv6 packets, too.
    nf_call_ip6tables = "bridge/bridge-nf-call-ip6tables",
    /// And those in a VLAN.
    nf_filter_vlan = "bridge/bridge-nf-filter-vlan-tagged",
    /// And those in a PPPoE session.
    nf_filter_pppoe = "bridge/bridge-nf-filter-pppoe-tagged",
}

impl Globals {
    /// What decides the choice among nexthops.
    pub fn choice(&self) -> [u32; 6] {
        let v4 = [self.hash_policy, self.hash_fields, self.hash_seed, self.use_neigh];
        [v4[0], v4[1], v4[2], v4[3], self.hash_policy6, self.hash_fields6]
    }
}

/// Of each port: its own part of the path, and how a value goes into what is known of the link.
type Setter = fn(&mut Link, u32);
const PORT: &[(&str, &str, Setter)] = &[
    ("ipv4", "forwarding", |link, value| {
        set4(link, |conf| conf.forwarding = value != 0)
    }),
    ("ipv4", "rp_filter", |link, value| {
        set4(link, |conf| conf.rp_filter = value)
    }),
    ("ipv4", "send_redirects", |link, value| {
        set4(link, |conf| conf.send_redirects = value != 0)
    }),
    ("ipv4", "accept_local", |link, value| {
        set4(link, |conf| conf.accept_local = value != 0)
    }),
    ("ipv4", "accept_redirects", |link, value| {
        set4(link, |conf| conf.accept_redirects = value != 0)
    }),
    ("ipv6", "forwarding", |link, value| {
        set6(link, |conf| conf.forwarding = value != 0)
    }),
    ("ipv6", "force_forwarding", |link, value| {
        set6(link, |conf| conf.force_forwarding = value != 0)
    }),
    ("ipv6", "accept_redirects", |link, value| {
        set6(link, |conf| conf.accept_redirects = value != 0)
    }),
    ("ipv6", "disable_ipv6", |link, value| {
        set6(link, |conf| conf.disable_ipv6 = value != 0)
    }),
    ("ipv6", "mtu", |link, value| set6(link, |conf| conf.mtu = value)),
];

fn port_path(name: &str, (family, file, _): &(&str, &str, Setter)) -> String {
    format!("{family}/conf/{name}/{file}")
}

fn set4(link: &mut Link, set: impl FnOnce(&mut super::link::Conf4)) {
    if let Some(conf) = &mut link.conf4 {
        set(conf);
    }
}

fn set6(link: &mut Link, set: impl FnOnce(&mut super::link::Conf6)) {
    if let Some(conf) = &mut link.conf6 {
        set(conf);
    }
}

/// All that is watched.
#[derive(Debug)]
pub struct Sysctls {
    /// The namespace's, as of the last reading.
    pub globals: Globals,
    files: Vec<Watched>,
    ports: BTreeMap<u32, Port>,
}

#[derive(Debug)]
struct Port {
    /// Asked for as one of this process; else a bridge of such.
    is_port: bool,
    name: String,
    files: Vec<Watched>,
}

impl Port {
    fn new(is_port: bool) -> Self {
        Self {
            is_port,
            name: String::new(),
            files: Vec::new(),
        }
    }
}

impl Sysctls {
    /// Opens and reads those of the calling thread's namespace.
    pub fn open() -> Self {
        let files: Vec<_> = GLOBALS.iter().map(|path| Watched::open(path)).collect();
        Self {
            globals: Globals::read(&files),
            files,
            ports: BTreeMap::new(),
        }
    }

    /// Reads the namespace's again; whether they changed.
    pub fn poll(&mut self) -> bool {
        // They are there as soon as br_netfilter is.
        let missing = |(watched, path): &(&mut Watched, &&str)| watched.file.is_none() && path.starts_with("bridge/");
        for (watched, path) in self.files.iter_mut().zip(GLOBALS).filter(missing) {
            *watched = Watched::open(path);
        }
        let new = Globals::read(&self.files);
        std::mem::replace(&mut self.globals, new) != new
    }

    /// Watches a link's from now on, or no more.
    pub fn watch(&mut self, ifindex: u32, watch: bool) {
        self.ports.remove(&ifindex);
        if watch {
            self.ports.insert(ifindex, Port::new(true));
        }
    }

    /// Watches those of these bridges, too: what comes up from their ports comes in by them. Of other bridges no more.
    pub fn watch_bridges(&mut self, bridges: &BTreeSet<u32>) {
        self.ports
            .retain(|ifindex, port| port.is_port || bridges.contains(ifindex));
        for &ifindex in bridges {
            self.ports.entry(ifindex).or_insert_with(|| Port::new(false));
        }
    }

    /// The links that are watched.
    pub fn watched(&self) -> Vec<u32> {
        self.ports.keys().copied().collect()
    }

    /// Reads a link's again; whether they changed. A link that was renamed has other files; one whose MTU went below 1280
    /// and up again, too.
    pub fn poll_link(&mut self, link: &mut Link) -> bool {
        let Some(port) = self.ports.get_mut(&link.info.ifindex) else {
            return false;
        };
        if *port.name != *link.info.name {
            port.name = link.info.name.to_string();
            port.files = PORT
                .iter()
                .map(|entry| Watched::open(&port_path(&port.name, entry)))
                .collect();
        }
        let old = (link.conf4, link.conf6);
        for (watched, entry) in port.files.iter_mut().zip(PORT) {
            // The files of a family that went and came again are new ones.
            let lost = if entry.0 == "ipv4" {
                link.conf4.is_some()
            } else {
                link.conf6.is_some()
            };
            let value = watched.read().or_else(|| {
                *watched = if lost {
                    Watched::open(&port_path(&port.name, entry))
                } else {
                    Watched { file: None }
                };
                watched.read()
            });
            if let Some(value) = value {
                (entry.2)(link, value);
            }
        }
        old != (link.conf4, link.conf6)
    }
}

/// What a netconf notification tells: `None` for other families.
pub struct Netconf {
    /// The link's ifindex; `None` for `all` or `default`.
    pub ifindex: Option<u32>,
    /// Of `all`.
    pub is_all: bool,
    /// Nexthops may have died or come alive.
    pub linkdown: bool,
    gone: bool,
    family: Family,
    values: Vec<(u16, u32)>,
}

impl Netconf {
    /// Reads RTM_NEWNETCONF or RTM_DELNETCONF.
    pub fn parse(message: Message<'_>) -> Option<Self> {
        const IFINDEX: u16 = 1;
        const IGNORE_LINKDOWN: u16 = 6;
        let (header, attributes) = message.split(4)?;
        let values: Vec<_> = attributes.map(|(kind, value)| (kind, as_u32(value))).collect();
        let ifindex = values.iter().find(|value| value.0 == IFINDEX)?.1 as i32;
        Some(Self {
            ifindex: u32::try_from(ifindex).ok(),
            is_all: ifindex == ALL,
            linkdown: values.iter().any(|value| value.0 == IGNORE_LINKDOWN),
            gone: message.kind == RTM_DELNETCONF,
            family: family(header[0])?,
            values,
        })
    }

    /// Enters it into what is known of the link; whether that was enough, or the link's message must be read again, since
    /// the family is new on it (its MTU rose to 1280).
    pub fn apply(&self, link: &mut Link) -> bool {
        const FORWARDING: u16 = 2;
        const RP_FILTER: u16 = 3;
        const FORCE_FORWARDING: u16 = 9;
        for &(kind, value) in &self.values {
            match (self.family, kind) {
                (Family::V4, FORWARDING) => set4(link, |conf| conf.forwarding = value != 0),
                (Family::V4, RP_FILTER) => set4(link, |conf| conf.rp_filter = value),
                (Family::V6, FORWARDING) => set6(link, |conf| conf.forwarding = value != 0),
                (Family::V6, FORCE_FORWARDING) => set6(link, |conf| conf.force_forwarding = value != 0),
                _ => {}
            }
        }
        match (self.family, self.gone) {
            (Family::V4, true) => link.conf4 = None,
            (Family::V6, true) => link.conf6 = None,
            (Family::V4, false) => return link.conf4.is_some(),
            (Family::V6, false) => return link.conf6.is_some(),
        }
        true
    }
}
