//! nf_tables: base chains in the path of forwarded packets, and whatever makes the kernel track connections.
//!
//! ```text
//!  family      hook                               left
//!  ip ip6 inet prerouting forward postrouting     that family on every port
//!  inet        ingress  } on a device             that device, arriving
//!  netdev      ingress  }
//!  netdev      egress                             that device, leaving
//!  any         any, with a tracking expression    the families that it tracks, on every port (see `expr`)
//! ```
//!
//! Harmless: an empty base chain with policy accept, a base chain of a dormant table, the families arp and bridge (but a
//! `ct` in a bridge chain tracks IPv4 and IPv6 too: nf_ct_netns_get in nf_conntrack_proto.c).
//!
//! Read by nfnetlink dumps of all families at once. A change in mid-dump mixes generations without any flag, so the 16 bits
//! of the generation in each message are compared, and the whole number asked before and after; three tries, then both
//! families are left until the next reading. While the generation stays the same nothing is dumped again: what is judged
//! here (chains, rules, sets, objects) changes by commits only, and devices are matched by name at every reading.

use super::super::nlattr::{Attrs, Message, Request, get_be32, get_str};
use super::super::nlsock::NlSock;
use super::expr;
use super::findings::{Collector, Way, names};
use crate::packet::Family;
use std::collections::HashSet;
use std::io;

/// NFNL_SUBSYS_NFTABLES in the high byte of a message type.
const SUBSYS: u16 = 10 << 8;
const NEWTABLE: u16 = SUBSYS;
const GETTABLE: u16 = SUBSYS | 1;
const NEWCHAIN: u16 = SUBSYS | 3;
const GETCHAIN: u16 = SUBSYS | 4;
const NEWRULE: u16 = SUBSYS | 6;
const GETRULE: u16 = SUBSYS | 7;
const NEWSET: u16 = SUBSYS | 9;
const GETSET: u16 = SUBSYS | 10;
const GETSETELEM: u16 = SUBSYS | 13;
const GETGEN: u16 = SUBSYS | 16;
const NEWOBJ: u16 = SUBSYS | 18;
const GETOBJ: u16 = SUBSYS | 19;

pub(super) const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_ARP: u8 = 3;
pub(super) const NFPROTO_NETDEV: u8 = 5;
pub(super) const NFPROTO_BRIDGE: u8 = 7;
pub(super) const NFPROTO_IPV6: u8 = 10;
/// Bytes of a `struct nfgenmsg`.
pub(super) const GENMSG_LEN: usize = 4;
const NF_INET_INGRESS: u32 = 5;
const NF_ACCEPT: u32 = 1;
const TABLE_DORMANT: u32 = 1;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
/// Readings of a ruleset that changes meanwhile.
const TRIES: usize = 3;
const REMEDY: &str =
    "nf_tables is not carried yet; it is the kernel's until the chain is empty (policy accept) or deleted";
const REMEDY_TRACK: &str =
    "connection tracking is not carried yet; it is the kernel's until no rule of the family needs it";

pub(super) fn open() -> io::Result<NlSock> {
    NlSock::open(libc::NETLINK_NETFILTER, false)
}

/// A base chain that stands in the path.
#[derive(Debug)]
struct BaseChain {
    family: u8,
    hook: u32,
    /// Names of devices, or prefixes with a `*`, of a chain on devices.
    devices: Vec<String>,
    text: String,
}

/// Something that tracks: the families, and what it is.
#[derive(Debug)]
struct Tracking {
    families: &'static [Family],
    text: String,
}

#[derive(Debug, Default)]
struct Ruleset {
    generation: u32,
    chains: Vec<BaseChain>,
    tracking: Vec<Tracking>,
}

/// Reads rulesets.
#[derive(Debug)]
pub(super) struct Nft {
    sock: Option<NlSock>,
    /// The kernel said that it has no nf_tables; asking would have it try to load a module.
    absent: bool,
    ruleset: Option<Ruleset>,
}

impl Nft {
    /// `None` where the kernel has no netfilter.
    pub(super) fn new(sock: Option<NlSock>) -> Self {
        Self {
            sock,
            absent: false,
            ruleset: None,
        }
    }

    /// Reads; `events` says that something changed since the last reading.
    pub(super) fn read(&mut self, found: &mut Collector, events: bool) {
        self.absent &= !events;
        if self.absent {
            return;
        }
        let Some(sock) = &mut self.sock else { return };
        match refresh(sock, &mut self.ruleset) {
            Ok(Some(ruleset)) => report(found, ruleset),
            Ok(None) => self.absent = true,
            Err(e) => found.leave_families(&Family::ALL, format!("nf_tables cannot be read: {e}"), REMEDY),
        }
    }
}

fn report(found: &mut Collector, ruleset: &Ruleset) {
    for chain in &ruleset.chains {
        match chain.family {
            NFPROTO_NETDEV => on_devices(found, chain, if chain.hook == 0 { Way::Ingress } else { Way::Egress }),
            NFPROTO_INET if chain.hook == NF_INET_INGRESS => on_devices(found, chain, Way::Ingress),
            _ => found.leave_families(families(chain.family), chain.text.clone(), REMEDY),
        }
    }
    for tracking in &ruleset.tracking {
        let text = format!("conntrack active for {}: {}", names(tracking.families), tracking.text);
        found.leave_families(tracking.families, text, REMEDY_TRACK);
    }
}

/// Leaves the ports that a chain on devices names.
fn on_devices(found: &mut Collector, chain: &BaseChain, way: Way) {
    for (ifindex, name) in found.ports().to_vec() {
        let names = |d: &String| {
            d.strip_suffix('*')
                .map_or(**d == *name, |prefix| name.starts_with(prefix))
        };
        if chain.devices.iter().any(names) {
            found.leave_port(ifindex, way, chain.text.clone(), REMEDY);
        }
    }
}

/// The ruleset of now: the one at hand if its generation still holds. `None` if the kernel has no nf_tables.
fn refresh<'a>(sock: &mut NlSock, at_hand: &'a mut Option<Ruleset>) -> io::Result<Option<&'a Ruleset>> {
    for _ in 0..TRIES {
        let before = match generation(sock) {
            // nfnetlink's answer for a subsystem that is not there.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => return Ok(None),
            other => other?,
        };
        if at_hand.as_ref().is_some_and(|r| r.generation == before) {
            return Ok(at_hand.as_ref());
        }
        *at_hand = None;
        match load(sock, before) {
            Ok(ruleset) if generation(sock)? == before => return Ok(Some(at_hand.insert(ruleset))),
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
    }
    Err(io::Error::other("it changes all the time"))
}

fn generation(sock: &mut NlSock) -> io::Result<u32> {
    let mut generation = None;
    sock.get(Request::new(GETGEN, 0, &[0; GENMSG_LEN]), |m| {
        generation = m.attrs(GENMSG_LEN).find(1).and_then(get_be32);
    })?;
    generation.ok_or_else(|| io::Error::other("no generation in the answer"))
}

/// Dumps what there is of a kind, in all families. Interrupted if a message is of another generation.
fn dump(
    sock: &mut NlSock,
    request: Request,
    kind: u16,
    generation: u32,
    mut each: impl FnMut(u8, &Message),
) -> io::Result<()> {
    let mut mixed = false;
    sock.dump(request, |m| {
        let of = m.payload.get(2..4).map(|b| u16::from_be_bytes([b[0], b[1]]));
        mixed |= of != Some(generation as u16);
        if m.kind == kind {
            each(m.payload.first().copied().unwrap_or_default(), m);
        }
    })?;
    if mixed {
        Err(io::ErrorKind::Interrupted.into())
    } else {
        Ok(())
    }
}

fn all(get: u16) -> Request {
    Request::new(get, libc::NLM_F_DUMP as u16, &[0; GENMSG_LEN])
}

fn load(sock: &mut NlSock, generation: u32) -> io::Result<Ruleset> {
    let mut ruleset = Ruleset {
        generation,
        ..Ruleset::default()
    };
    let mut dormant = HashSet::new();
    dump(sock, all(GETTABLE), NEWTABLE, generation, |family, m| {
        let attrs = m.attrs(GENMSG_LEN);
        if attrs
            .find(2)
            .and_then(get_be32)
            .is_some_and(|flags| flags & TABLE_DORMANT != 0)
        {
            dormant.insert((family, text(&attrs, 1)));
        }
    })?;
    dump(sock, all(GETCHAIN), NEWCHAIN, generation, |family, m| {
        let attrs = m.attrs(GENMSG_LEN);
        if !dormant.contains(&(family, text(&attrs, 1))) {
            ruleset.chains.extend(base_chain(family, &attrs));
        }
    })?;
    let mut seen = HashSet::new();
    dump(sock, all(GETRULE), NEWRULE, generation, |family, m| {
        let attrs = m.attrs(GENMSG_LEN);
        let Some(name) = attrs.find(4).and_then(expr::tracking_in_list) else {
            return;
        };
        let [table, chain] = [text(&attrs, 1), text(&attrs, 2)];
        if seen.insert((family, table.clone(), chain.clone())) {
            let handle = attrs
                .find(3)
                .and_then(|h| h.first_chunk())
                .map_or(0, |h| u64::from_be_bytes(*h));
            let what = format!(
                "nft table {} {table}, chain {chain}, rule handle {handle}: {name}",
                word(family)
            );
            ruleset.track(family, what);
        }
    })?;
    load_objects(sock, &mut ruleset)?;
    load_sets(sock, &mut ruleset)?;
    Ok(ruleset)
}

/// Objects that track by being there: helpers, timeouts, expectations, connection limits, SYN proxies.
fn load_objects(sock: &mut NlSock, ruleset: &mut Ruleset) -> io::Result<()> {
    dump(sock, all(GETOBJ), NEWOBJ, ruleset.generation, |family, m| {
        let attrs = m.attrs(GENMSG_LEN);
        // counter, quota, limit, tunnel, secmark
        if !matches!(attrs.find(3).and_then(get_be32), Some(1 | 2 | 4 | 6 | 8)) {
            let what = format!(
                "nft table {} {}, object {}",
                word(family),
                text(&attrs, 1),
                text(&attrs, 2)
            );
            ruleset.track(family, what);
        }
    })
}

/// Sets whose elements carry an expression. Where the set itself does not say which, the elements tell; that can be only in
/// sets that packets may fill and that never forget (a connlimit needs exactly those).
fn load_sets(sock: &mut NlSock, ruleset: &mut Ruleset) -> io::Result<()> {
    let mut ask = Vec::new();
    dump(sock, all(GETSET), NEWSET, ruleset.generation, |family, m| {
        let attrs = m.attrs(GENMSG_LEN);
        let [table, set] = [text(&attrs, 1), text(&attrs, 2)];
        let flags = attrs.find(3).and_then(get_be32).unwrap_or(0);
        match element_tracking(&attrs, 17, 18) {
            Some(name) => ruleset.track(family, format!("nft table {} {table}, set {set}: {name}", word(family))),
            None if flags & (SET_EVAL | SET_TIMEOUT) == SET_EVAL => ask.push((family, table, set)),
            None => {}
        }
    })?;
    for (family, table, set) in ask {
        let request = Request::new(GETSETELEM, libc::NLM_F_DUMP as u16, &[family, 0, 0, 0]);
        let request = request.attr_str(1, &table).attr_str(2, &set);
        let mut tracking = None;
        dump(sock, request, SUBSYS | 12, ruleset.generation, |_, m| {
            let elements = Attrs(m.attrs(GENMSG_LEN).find(3).unwrap_or_default());
            tracking = tracking
                .take()
                .or_else(|| elements.clone().find_map(|(_, e)| element_tracking(&Attrs(e), 7, 11)));
        })?;
        if let Some(name) = tracking {
            ruleset.track(family, format!("nft table {} {table}, set {set}: {name}", word(family)));
        }
    }
    Ok(())
}

/// A tracking expression among those that a set or an element carries: one attribute for one, another for a list.
fn element_tracking(attrs: &Attrs, one: u16, list: u16) -> Option<String> {
    attrs
        .find(one)
        .and_then(expr::tracking)
        .or_else(|| attrs.find(list).and_then(expr::tracking_in_list))
}

impl Ruleset {
    fn track(&mut self, family: u8, text: String) {
        if family != NFPROTO_ARP {
            self.tracking.push(Tracking {
                families: families(family),
                text,
            });
        }
    }
}

/// The chain, if it is a base chain that stands in the path.
fn base_chain(family: u8, attrs: &Attrs) -> Option<BaseChain> {
    let hook_attrs = Attrs(attrs.find(4)?);
    let hook = hook_attrs.find(1).and_then(get_be32)?;
    let place = match (family, hook) {
        (NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET, 0) => "prerouting",
        (NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET, 1 | 3) | (NFPROTO_ARP | NFPROTO_BRIDGE, _) => return None,
        (NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET, 2) => "forward",
        (NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET, 4) => "postrouting",
        (NFPROTO_INET, NF_INET_INGRESS) | (NFPROTO_NETDEV, 0) => "ingress",
        (NFPROTO_NETDEV, 1) => "egress",
        _ => "an unknown hook",
    };
    // Nothing jumps to a base chain, so its use count is its rules.
    let rules = attrs.find(6).and_then(get_be32).unwrap_or(1);
    let accepts = attrs.find(5).and_then(get_be32) == Some(NF_ACCEPT);
    if rules == 0 && accepts {
        return None;
    }
    let what = match rules {
        0 => "policy drop".to_owned(),
        1 => "1 rule".to_owned(),
        n => format!("{n} rules"),
    };
    let name = text(attrs, 3);
    let text = format!(
        "nft table {} {}, chain {name}: base chain at {place} with {what}",
        word(family),
        text(attrs, 1)
    );
    Some(BaseChain {
        family,
        hook,
        devices: devices(&hook_attrs),
        text,
    })
}

/// The devices of a hook: the first one stands alone, all of them in a list, newer kernels have prefixes.
fn devices(hook: &Attrs) -> Vec<String> {
    let mut devices: Vec<_> = hook.find(3).map(get_str).into_iter().collect();
    for (kind, name) in Attrs(hook.find(4).unwrap_or_default()) {
        devices.push(if kind == 1 { get_str(name) } else { get_str(name) + "*" });
    }
    devices
}

fn text(attrs: &Attrs, kind: u16) -> String {
    get_str(attrs.find(kind).unwrap_or_default())
}

/// The families of forwarded packets that a table's family touches.
pub(super) fn families(nfproto: u8) -> &'static [Family] {
    match nfproto {
        NFPROTO_IPV4 => &[Family::V4],
        NFPROTO_IPV6 => &[Family::V6],
        _ => &Family::ALL,
    }
}

fn word(nfproto: u8) -> &'static str {
    match nfproto {
        NFPROTO_INET => "inet",
        NFPROTO_IPV4 => "ip",
        NFPROTO_ARP => "arp",
        NFPROTO_NETDEV => "netdev",
        NFPROTO_BRIDGE => "bridge",
        NFPROTO_IPV6 => "ip6",
        _ => "of an unknown family",
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::nlattr::HEADER_LEN;
    use super::super::link::LinkFacts;
    use super::*;

    /// What nf_ct_netns_get does for a bridge rule; few kernels at hand have nf_conntrack_bridge.
    #[test]
    fn a_bridge_rule_that_tracks_touches_both_families() {
        let mut ruleset = Ruleset::default();
        ruleset.track(NFPROTO_BRIDGE, "a rule".to_owned());
        ruleset.track(NFPROTO_ARP, "no IP".to_owned());
        assert_eq!(ruleset.tracking.len(), 1);
        assert_eq!(ruleset.tracking[0].families, Family::ALL);
    }

    /// Device prefixes, which kernels since 6.17 report, match by their beginning.
    #[test]
    fn device_prefixes() {
        let list = Request::new(0, 0, &[])
            .attr_str(1, "d1")
            .attr_str(2, "eth")
            .finish(0)
            .split_off(HEADER_LEN);
        let hook = Request::new(0, 0, &[])
            .attr_str(3, "d1")
            .attr(4, &list)
            .finish(0)
            .split_off(HEADER_LEN);
        let chain = BaseChain {
            family: NFPROTO_NETDEV,
            hook: 0,
            devices: devices(&Attrs(&hook)),
            text: "c".into(),
        };
        let link = |ifindex, name: &str| LinkFacts {
            ifindex,
            name: name.into(),
            is_port: true,
            ..LinkFacts::default()
        };
        let mut found = Collector::new(&[link(1, "d1"), link(2, "eth7"), link(3, "d11"), link(4, "et")]);
        on_devices(&mut found, &chain, Way::Ingress);
        let mut left: Vec<_> = found.finish().by_iface.into_keys().collect();
        left.sort_unstable();
        assert_eq!(left, [1, 2]);
    }
}
