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
//! `hook` (the hooks that are registered, where the kernel tells), `xfrm`, `tc` and `hysteresis`, `link`, `files` (what only /proc tells).
//!
//! The descriptors of [`Guard::fds`] become readable when rules, policies or qdiscs change: these [`Guard::read`] reads then, and
//! once a second all the same. What gives no event (tcx, legacy iptables, IPVS, hooks, links, which the caller watches itself) is
//! found by reading each time, twenty times a second; tcx programs of many links in four turns, and hooks in one of four.
//! Everything is asked in the network namespace of the thread that calls.

mod base;
mod expr;
mod files;
mod findings;
mod hook;
mod hysteresis;
mod link;
mod nft;
mod sets;
mod tc;
mod tcx;
mod xdp;
mod xfrm;

pub use findings::{FamilyFinding, Findings, Note, Scope};
pub use link::{LinkFacts, Unasked};

use super::nlattr::Message;
use super::nlsock::Listener;
use crate::port::bpf_query::NewLinks;
use findings::{Collector, Way};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// NFNLGRP_NFTABLES: every change of a ruleset.
const GROUP_NFTABLES: u32 = 7;
/// XFRMNLGRP_POLICY: every change of a policy.
const GROUP_XFRM_POLICY: u32 = 4;
/// RTNLGRP_TC: every change of a qdisc, class or filter.
const GROUP_TC: u32 = 4;
/// After how long what has events is read without one.
const READ_AFTER: Duration = Duration::from_secs(1);
/// For how long after a new bpf_link what it may hang on is asked again: it has its number before it is attached.
const NEW_LINK: u32 = 3;

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
    xfrm: Heard<xfrm::Xfrm>,
    tc: Heard<tc::Tc>,
    tcx: tcx::Tcx,
    xdp: xdp::Xdp,
    bpf_links: NewLinks,
    /// In so many readings what a bpf_link may hang on is asked for anew.
    new_links: u32,
    hooks: hook::Hooks,
    files: files::Files,
}

/// Who reads something, with who hears of its changes: nobody where the kernel has no such thing.
#[derive(Debug)]
struct Heard<T> {
    reader: T,
    listener: Option<Listener>,
}

impl<T> Heard<T> {
    fn open(reader: T, what: &'static str, protocol: i32, group: u32) -> Result<Self, GuardError> {
        let listener = present(what, Listener::open(protocol, group))?;
        Ok(Self { reader, listener })
    }

    /// With room for what is told while nobody listens, in bytes.
    fn with_room(self, bytes: usize) -> Self {
        Self {
            listener: self.listener.map(|listener| listener.with_room(bytes)),
            ..self
        }
    }

    /// Whether anything was told since the last time.
    fn has_news(&mut self) -> bool {
        self.hear(|_, _| {})
    }

    /// The same, and shows each event to `each`.
    fn hear(&mut self, each: impl Fn(&mut T, &Message<'_>)) -> bool {
        let (reader, listener) = (&mut self.reader, self.listener.as_mut());
        listener.is_some_and(|listener| listener.hear(|event| each(reader, event)).any)
    }

    fn fd(&self) -> Option<RawFd> {
        self.listener.as_ref().map(AsRawFd::as_raw_fd)
    }
}

impl Guard {
    /// Opens the sockets, in the network namespace of this thread.
    ///
    /// # Errors
    /// Where a socket cannot be opened for another reason than that the kernel has no such thing.
    pub fn open() -> Result<Self, GuardError> {
        let listener = present("nf_tables", Listener::open(libc::NETLINK_NETFILTER, GROUP_NFTABLES))?;
        let listener = listener.map(|listener| listener.with_room(nft::ROOM));
        let nft = nft::Nft::new(present("nf_tables", nft::open())?, listener);
        let xfrm = xfrm::Xfrm::new(present("xfrm policies", xfrm::open())?);
        let tc = tc::Tc::new(tc::open().map_err(|source| GuardError { what: "qdiscs", source })?);
        Ok(Self {
            nft,
            xfrm: Heard::open(xfrm, "xfrm policies", libc::NETLINK_XFRM, GROUP_XFRM_POLICY)?,
            tc: Heard::open(tc, "qdiscs", libc::NETLINK_ROUTE, GROUP_TC)?.with_room(tc::ROOM),
            tcx: tcx::Tcx::default(),
            xdp: xdp::Xdp::default(),
            bpf_links: NewLinks::default(),
            new_links: 0,
            hooks: hook::Hooks::new(present("netfilter hooks", nft::open())?),
            files: files::Files::open(),
        })
    }

    /// What may be polled for reading: readable means that [`Guard::read`] should be called at once, which empties them.
    pub fn fds(&self) -> Vec<RawFd> {
        [self.nft.fd(), self.xfrm.fd(), self.tc.fd()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The kernel itself sends so much by a shaped link that what would go out there is left to it for some seconds, or longer
    /// where that is so again and again.
    pub fn leave_contended(&mut self, ifindex: u32) {
        self.tc.reader.leave_contended(ifindex, Way::Egress);
    }

    /// The same of a policed link, and of what arrives there.
    pub fn leave_policed(&mut self, ifindex: u32) {
        self.tc.reader.leave_contended(ifindex, Way::Ingress);
    }

    /// Reads everything and says what it found. `links` are all links of the namespace, the ports marked.
    ///
    /// Never fails: what cannot be read is left to the kernel, and the finding says why.
    pub fn read(&mut self, links: &[LinkFacts]) -> Findings {
        let of_xfrm = self.xfrm.has_news();
        self.new_links = match self.bpf_links.any() {
            true => NEW_LINK,
            false => self.new_links.saturating_sub(1),
        };
        let new_links = self.new_links > 0;
        let mut found = Collector::new(links);
        link::read(&mut found, links);
        self.files.read(&mut found);
        let of_nft = self.nft.read(&mut found);
        self.xfrm.reader.read(&mut found, of_xfrm);
        // Heard at the last moment: an end that is heard after the dump is taken for that of what the dump had.
        let of_tc = self.tc.hear(tc::Tc::hear);
        self.tc.reader.read(&mut found, of_tc);
        self.tcx.read(&mut found, new_links);
        self.xdp.read(&mut found, links, new_links);
        // Last: of a family that is left already, hooks say nothing new.
        self.hooks.read(&mut found, of_nft || new_links);
        if !self.hooks.listed() {
            self.files.read_ebtables(&mut found);
            self.files.remark_conntrack(&mut found);
        }
        link::read_unasked(&mut found, links);
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
