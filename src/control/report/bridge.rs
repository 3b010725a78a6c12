//! Rows of `show bridge` and `show fdb`.
//!
//! The words are those of `bridge -j` where it has one. A bridge and its ports are rows of one kind, as links are: which of
//! the two a row is, its fields `bridge` and `port` tell.

use serde::{Deserialize, Serialize};

/// `show bridge`: a bridge, or a link as a port of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeLink {
    /// The kernel's number.
    pub ifindex: u32,
    /// Interface name.
    pub ifname: String,
    /// The bridge, of a port.
    pub master: Option<String>,
    /// Longest packet in bytes.
    pub mtu: u32,
    /// Of a port.
    pub port: Option<BridgePort>,
    /// Of a bridge.
    pub bridge: Option<Bridge>,
    /// Its VLANs, where the bridge filters them.
    pub vlans: Vec<Vlan>,
    /// Why frames that arrive stay with the kernel, or all of them, of a bridge; if they do.
    pub left: Option<String>,
    /// Why frames that would leave by it stay with the kernel, if they do.
    pub left_egress: Option<String>,
}

/// What a port of a bridge is set to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePort {
    /// STP lets frames through.
    pub forwarding: bool,
    /// Whether it is a port of bypath.
    pub ours: bool,
    /// As `bridge link` has it.
    pub hairpin: bool,
    /// As `bridge link` has it.
    pub learning: bool,
    /// As `bridge link` has it.
    pub isolated: bool,
    /// As `bridge link` has it.
    pub locked: bool,
}

/// What a bridge is set to, and what it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// In 100ths of a second.
    pub ageing_time: u32,
    /// Whether it filters VLANs.
    pub vlan_filtering: bool,
    /// `802.1Q` or `802.1ad`.
    pub vlan_protocol: String,
    /// Bridged IPv4 packets pass the hooks of IP.
    pub nf_call_iptables: bool,
    /// Bridged IPv6 packets do.
    pub nf_call_ip6tables: bool,
    /// How many addresses it knows.
    pub fdb_entries: u64,
    /// How many there is room for, before more room is made.
    pub fdb_capacity: u64,
    /// How many entries were given up for want of room.
    pub fdb_refused: u64,
}

/// A VLAN of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlan {
    /// Its number.
    pub vlan: u16,
    /// As `bridge vlan` has it: `PVID`, `Egress Untagged`.
    pub flags: Vec<String>,
}

/// `show fdb`: an address that a bridge knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The Ethernet address.
    pub mac: String,
    /// The port behind which it is, or the bridge itself.
    pub ifname: String,
    /// The VLAN, where the bridge filters them.
    pub vlan: Option<u16>,
    /// The bridge.
    pub master: String,
    /// `permanent`, `static`, or nothing for one that ages.
    pub state: String,
    /// `sticky`, `locked`, `extern_learn`.
    pub flags: Vec<String>,
    /// How long ago a frame of it was seen here, in milliseconds; none if none was.
    pub seen_ms: Option<u64>,
}
