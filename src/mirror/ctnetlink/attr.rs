//! The numbers of ctnetlink: messages, groups, and attributes with their nests, as far as they are read or written here.
//!
//! include/uapi/linux/netfilter/nfnetlink_conntrack.h and nfnetlink_compat.h have them all. Integers in attributes are in
//! network order.

use super::super::netlink::af;
use crate::packet::Family;

/// NFNL_SUBSYS_CTNETLINK and IPCTNL_MSG_CT_NEW.
pub const CT_NEW: u16 = 1 << 8;
/// IPCTNL_MSG_CT_GET
pub const CT_GET: u16 = CT_NEW | 1;
/// IPCTNL_MSG_CT_DELETE
pub const CT_DELETE: u16 = CT_NEW | 2;

/// NFNLGRP_CONNTRACK_NEW, _UPDATE, _DESTROY
pub const GROUPS: [u32; 3] = [1, 2, 3];

/// Bytes of a `struct nfgenmsg`.
pub const HEADER_LEN: usize = 4;

/// The `struct nfgenmsg` of a request: family, version 0, no resource.
pub fn header(family: Option<Family>) -> [u8; HEADER_LEN] {
    [family.map_or(0, af), 0, 0, 0]
}

/// CTA_*
pub mod cta {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const PROTOINFO: u16 = 4;
    pub const HELP: u16 = 5;
    pub const NAT_SRC: u16 = 6;
    pub const TIMEOUT: u16 = 7;
    pub const MARK: u16 = 8;
    pub const COUNTERS_ORIG: u16 = 9;
    pub const COUNTERS_REPLY: u16 = 10;
    pub const ID: u16 = 12;
    pub const NAT_DST: u16 = 13;
    pub const TUPLE_MASTER: u16 = 14;
    pub const SEQ_ADJ_ORIG: u16 = 15;
    pub const SEQ_ADJ_REPLY: u16 = 16;
    pub const ZONE: u16 = 18;
    pub const LABELS: u16 = 22;
    pub const SYNPROXY: u16 = 24;
}

/// CTA_TUPLE_*
pub mod tuple {
    pub const IP: u16 = 1;
    pub const PROTO: u16 = 2;
    pub const ZONE: u16 = 3;
}

/// CTA_IP_*
pub mod ip {
    pub const V4_SRC: u16 = 1;
    pub const V4_DST: u16 = 2;
    pub const V6_SRC: u16 = 3;
    pub const V6_DST: u16 = 4;
}

/// CTA_PROTO_*
pub mod proto {
    pub const NUM: u16 = 1;
    pub const SRC_PORT: u16 = 2;
    pub const DST_PORT: u16 = 3;
    /// Identifier, type, code.
    pub const ICMP: [u16; 3] = [4, 5, 6];
    /// Identifier, type, code.
    pub const ICMPV6: [u16; 3] = [7, 8, 9];
}

/// CTA_PROTOINFO_*
pub mod protoinfo {
    pub const TCP: u16 = 1;
    pub const TCP_STATE: u16 = 1;
    /// By direction.
    pub const TCP_WSCALE: [u16; 2] = [2, 3];
    /// By direction: flags and mask, a byte each.
    pub const TCP_FLAGS: [u16; 2] = [4, 5];
    pub const SCTP: u16 = 3;
    pub const SCTP_STATE: u16 = 1;
    /// By direction.
    pub const SCTP_VTAG: [u16; 2] = [2, 3];
}

/// CTA_NAT_*
pub mod nat {
    /// Least and greatest address.
    pub const V4_IP: [u16; 2] = [1, 2];
    pub const PROTO: u16 = 3;
    /// Least and greatest address.
    pub const V6_IP: [u16; 2] = [4, 5];
    /// CTA_PROTONAT_PORT_MIN and _MAX, within `PROTO`.
    pub const PORT: [u16; 2] = [1, 2];
}

/// CTA_COUNTERS_*
pub mod counters {
    pub const PACKETS: u16 = 1;
    pub const BYTES: u16 = 2;
}
