//! Fail closed: finds whatever could stand in the path of a forwarded packet, and tells what of it is carried from what is
//! not: carried are filter chains at forward, but for the rules that are named, and the tracking of connections where rules
//! need no more.
//!
//! ```text
//!             prerouting        forward        postrouting
//!  port --+-------*----------------*----------------*-------+--> port
//!         |  hooks of nf_tables, legacy iptables, IPVS,      |
//!         |  conntrack, BPF; xfrm policies: by family        |
//!   master (no bridge), upper device,                  root qdisc, clsact,
//!   ingress, clsact, tcx, XDP,                         tcx, netdev chain: by port
//!   netdev chain: by port
//! ```
//!
//! Each of these leaves what it could touch to the kernel: a family on every port, or a direction of one port, or what ports
//! of bridges bridge. A bridge that has ports of ours is looked at like a port, for IP passes by it. A fast path
//! that forwards around a firewall or a VPN is worse than none, so whatever cannot be read or is not known counts as there.
//! What is known to be harmless is listed by name in the file of its kind: `nft`, `base`, `sets` and `expr` (nf_tables),
//! `hook` (the hooks that are registered, where the kernel tells), `xfrm`, `tc`, `link`, `files` (what only /proc tells).
//!
//! [`Guard::read`] reads everything each time, but for the rules of nf_tables, whose generation tells whether they changed.
//! The descriptors of [`Guard::fds`] become readable when rules, policies or qdiscs change; what gives no event (tcx, XDP,
//! legacy iptables, IPVS, links, which the caller watches itself) is found by reading twenty times a second, tcx programs of many
//! links in four turns. Qdiscs are read when there is an event about them, and once a second.
//! Everything is asked in the network namespace of the thread that calls.

mod base;
mod expr;
mod files;
mod findings;
mod hook;
mod link;
mod nft;
mod sets;
mod tc;
mod tcx;
mod xdp;
mod xfrm;

pub use findings::{FamilyFinding, Findings, Note, Scope};
pub use link::LinkFacts;

use super::nlsock::Listener;
use crate::port::bpf_query::NewLinks;
use findings::{Collector, Way};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// NFNLGRP_NFTABLES: every change of a ruleset.
const GROUP_NFTABLES: u32 = 7;
/// XFRMNLGRP_POLICY: every change of a policy.
const GROUP_XFRM_POLICY: u32 = 4;
/// RTNLGRP_TC: every change of a qdisc, class or filter.
const GROUP_TC: u32 = 4;

/// Why the guard cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {what} by netlink: {source}; run as root or with CAP_NET_ADMIN")]
pub struct GuardError {
    what: &'static str,
    source: io::Error,
}

/// Reads what stands in the path. See the module's head.
#[derive(Debug)]
pub struct Guard {
    nft: nft::Nft,
    xfrm: xfrm::Xfrm,
    tc: tc::Tc,
    tcx: tcx::Tcx,
    xdp: xdp::Xdp,
    bpf_links: NewLinks,
    hooks: hook::Hooks,
    listeners: Vec<Listener>,
    /// The one of `listeners` that hears of qdiscs.
    of_tc: usize,
}

impl Guard {
    /// Opens the sockets, in the network namespace of this thread.
    ///
    /// # Errors
    /// Where a socket cannot be opened for another reason than that the kernel has no such thing.
    pub fn open() -> Result<Self, GuardError> {
        let mut listeners = Vec::new();
        let groups = [
            ("nf_tables", libc::NETLINK_NETFILTER, GROUP_NFTABLES),
            ("xfrm policies", libc::NETLINK_XFRM, GROUP_XFRM_POLICY),
            ("qdiscs", libc::NETLINK_ROUTE, GROUP_TC),
        ];
        for (what, protocol, group) in groups {
            listeners.extend(present(what, Listener::open(protocol, group))?);
        }
        // The kernel always has rtnetlink.
        let of_tc = listeners.len().saturating_sub(1);
        Ok(Self {
            nft: nft::Nft::new(present("nf_tables", nft::open())?),
            xfrm: xfrm::Xfrm::new(present("xfrm policies", xfrm::open())?),
            tc: tc::Tc::new(tc::open().map_err(|source| GuardError { what: "qdiscs", source })?),
            tcx: tcx::Tcx::default(),
            xdp: xdp::Xdp::default(),
            bpf_links: NewLinks::default(),
            hooks: hook::Hooks::new(present("netfilter hooks", nft::open())?),
            listeners,
            of_tc,
        })
    }

    /// What may be polled for reading: readable means that [`Guard::read`] should be called at once, which empties them.
    pub fn fds(&self) -> Vec<RawFd> {
        self.listeners.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// The kernel itself sends so much by a shaped link that what would go out there is left to it for some seconds, or longer
    /// where that is so again and again.
    pub fn leave_contended(&mut self, ifindex: u32) {
        self.tc.leave_contended(ifindex, Way::Egress);
    }

    /// The same of a policed link, and of what arrives there.
    pub fn leave_policed(&mut self, ifindex: u32) {
        self.tc.leave_contended(ifindex, Way::Ingress);
    }

    /// Reads everything and says what it found. `links` are all links of the namespace, the ports marked.
    ///
    /// Never fails: what cannot be read is left to the kernel, and the finding says why.
    pub fn read(&mut self, links: &[LinkFacts]) -> Findings {
        let news: Vec<bool> = self.listeners.iter_mut().map(Listener::drain).collect();
        let events = news.contains(&true);
        let of_tc = news.get(self.of_tc) != Some(&false);
        let mut found = Collector::new(links);
        link::read(&mut found, links);
        files::read(&mut found);
        self.nft.read(&mut found, events);
        self.xfrm.read(&mut found);
        self.tc.read(&mut found, of_tc);
        let new_bpf_links = self.bpf_links.any();
        self.tcx.read(&mut found, new_bpf_links);
        self.xdp.read(&mut found, links, new_bpf_links);
        // Last: of a family that is left already, hooks say nothing new.
        self.hooks.read(&mut found);
        if !self.hooks.listed() {
            files::read_conntrack(&mut found);
        }
        found.finish()
    }
}

/// A protocol that the kernel does not have is no error: then nothing of it can stand in the path.
fn present<T>(what: &'static str, opened: io::Result<T>) -> Result<Option<T>, GuardError> {
    match opened {
        Ok(it) => Ok(Some(it)),
        Err(e) if e.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Ok(None),
        Err(source) => Err(GuardError { what, source }),
    }
}
