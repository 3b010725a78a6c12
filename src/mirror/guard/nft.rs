//! nf_tables: base chains in the path of forwarded packets, and whatever makes the kernel track connections.
//!
//! ```text
//!  family      hook                               left
//!  ip ip6 inet prerouting forward postrouting,    nothing: its rules are run; those that are not carried are named
//!              of type filter or nat
//!  ip ip6 inet the same, of another type, or at   that family on every port
//!              the priority of conntrack or NAT
//!  ip ip6 inet prerouting before conntrack, with  that family on every port
//!              a rule that is not carried
//!  inet        ingress  } on a device             that device, arriving
//!  netdev      ingress  }
//!  netdev      egress                             that device, leaving
//!  bridge      any, of type filter                nothing: its rules are run, and those that are not carried are named
//!  bridge      any other                          bridging on every port of a bridge
//!  any         any, with an expression that       the families that it tracks, on every port (see `expr`)
//!              does more than to track
//! ```
//!
//! Harmless: an empty base chain with policy accept, a base chain of a dormant table, the family arp (and a
//! `ct` in a bridge chain tracks IPv4 and IPv6 too: nf_ct_netns_get in nf_conntrack_proto.c; that is left). A chain of type
//! nat at any hook, empty too, has NAT see every connection of its family ([`Rules::nat`]).
//!
//! Read by nfnetlink dumps of all families at once. A change in mid-dump mixes generations without any flag, so the 16 bits
//! of the generation in each message are compared, and the whole number asked before and after; three tries, then the last
//! good one counts for [`STALE_MAX`], and both families are left until it can be read. The generation is asked for at events and
//! once a second, and while it stays the same nothing is dumped again: what is judged here (chains, rules, sets, objects) changes
//! by commits only, of which each is an event. One of nothing but elements is not even read, see `events`. But for what `tables`
//! says: where there is such a table, the tables are read once a second, and all is dumped if they are others than they were. Devices are matched by name at every reading.

mod events;
mod tables;

use self::events::Events;
pub(super) use self::events::ROOM;
use self::tables::Tables;
use super::super::nft::{self as ruleset, NftError};
use super::super::nlattr::{Attrs, Message, Request, get_be32, get_str};
use super::super::nlsock::{Listener, NlSock};
use super::super::turns::Lookout;
use super::READ_AFTER;
use super::base::{BaseChain, Judged};
use super::expr;
use super::findings::{Collector, Way, names};
use super::sets;
use crate::packet::Family;
use crate::port::wait::monotonic_ns;
use crate::table::rules::live::{Point, Rules};
use crate::table::rules::program::ChainId;
pub(super) use crate::table::rules::program::family_word as word;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// NFNL_SUBSYS_NFTABLES in the high byte of a message type.
pub(super) const SUBSYS: u16 = 10 << 8;
const NEWTABLE: u16 = SUBSYS;
const GETTABLE: u16 = SUBSYS | 1;
const NEWCHAIN: u16 = SUBSYS | 3;
const GETCHAIN: u16 = SUBSYS | 4;
const NEWRULE: u16 = SUBSYS | 6;
const GETRULE: u16 = SUBSYS | 7;
const GETGEN: u16 = SUBSYS | 16;

pub(super) const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_ARP: u8 = 3;
pub(super) const NFPROTO_NETDEV: u8 = 5;
pub(super) const NFPROTO_BRIDGE: u8 = 7;
pub(super) const NFPROTO_IPV6: u8 = 10;
/// Bytes of a `struct nfgenmsg`.
pub(super) const GENMSG_LEN: usize = 4;
pub(super) const NF_INET_INGRESS: u32 = 5;
pub(super) const NF_INET_FORWARD: u32 = 2;
/// Readings of a ruleset that changes meanwhile.
const TRIES: usize = 3;
/// How long the last good ruleset counts when the next one cannot be read, for it changes meanwhile.
const STALE_MAX: Duration = Duration::from_millis(150);
const REMEDY: &str = "it is the kernel's until the chain is one of type filter or nat at another priority, or empty (policy accept), or deleted";
const REMEDY_BRIDGE: &str = "bridging is the kernel's until it is deleted";
const REMEDY_RULE_BRIDGED: &str = "frames that reach it are the kernel's, all others are carried";
const REMEDY_RULE: &str = "packets that reach it are the kernel's, all others are carried";
const REMEDY_FAMILY: &str = "it is the kernel's until the rule is deleted";
/// Expressions of a rule that leave its family: who gets the packet may do anything with it, or what is asked for is the sum
/// of all packets of a connection, of which the kernel would miss those that do not reach the rule.
const REACH_FURTHER: [&str; 7] = [
    "queue",
    "verdict",
    "xt target NFQUEUE",
    "ct packets",
    "ct bytes",
    "ct avgpkt",
    "xt match connbytes",
];
const REMEDY_TRACK: &str =
    "tracking is carried, this is not; it is the kernel's until no rule, set or object of the family needs it";
pub(super) fn open() -> io::Result<NlSock> {
    NlSock::open(libc::NETLINK_NETFILTER, false)
}

/// Something that tracks: the families, what it is, and whether that is all that it does.
#[derive(Debug)]
struct Tracking {
    families: &'static [Family],
    text: String,
    plainly: bool,
    /// Bridged frames are tracked too (nf_conntrack_bridge).
    in_bridges: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) generation: u32,
    /// What stands in the path and is not carried.
    chains: Vec<BaseChain>,
    /// What is.
    carried: Vec<BaseChain>,
    /// How it is run.
    pub(super) rules: Arc<Rules>,
    /// There are base chains of type nat.
    pub(super) nat: bool,
    /// The tables that it was read with.
    tables: Tables,
    tracking: Vec<Tracking>,
    /// Rules of `rules` that are the kernel's.
    punted: Vec<PuntedRule>,
}

/// The rules of chains, by family, table and name.
type Counts = HashMap<(u8, String, String), usize>;

/// A rule that is the kernel's.
#[derive(Debug)]
struct PuntedRule {
    text: String,
    whose: Whose,
    /// It leaves whole families, or bridging; else what reaches it.
    leaves: bool,
}

#[derive(Debug)]
enum Whose {
    Families(Vec<Family>),
    Bridging,
}

/// Reads rulesets.
#[derive(Debug)]
pub(super) struct Nft {
    sock: Option<NlSock>,
    events: Events,
    /// Of the generation.
    lookout: Lookout,
    /// The kernel said that it has no nf_tables; asking would have it try to load a module.
    absent: bool,
    /// Reads what is run; opened when there is something to read.
    reader: Option<ruleset::Nft>,
    ruleset: Option<Ruleset>,
    /// The names of links that it was read for: a chain keeps a device that is renamed.
    names: HashMap<u32, Arc<str>>,
    /// Since when the ruleset cannot be read.
    failing: Option<Instant>,
}

impl Nft {
    /// `None` where the kernel has no netfilter.
    pub(super) fn new(sock: Option<NlSock>, listener: Option<Listener>) -> Self {
        Self {
            sock,
            events: Events::new(listener),
            reader: None,
            lookout: Lookout::new(READ_AFTER),
            absent: false,
            ruleset: None,
            names: HashMap::new(),
            failing: None,
        }
    }

    /// Readable when something changed.
    pub(super) fn fd(&self) -> Option<RawFd> {
        self.events.fd()
    }

    /// Reads; whether anything was told since the last time.
    pub(super) fn read(&mut self, found: &mut Collector) -> bool {
        let told = self.events.hear();
        self.look(found, told);
        told
    }

    fn look(&mut self, found: &mut Collector, events: bool) {
        self.absent &= !events;
        if self.absent {
            return;
        }
        let Some(sock) = &mut self.sock else { return };
        let passed: HashMap<_, _> = found.passed().into_iter().collect();
        let is_renamed = |(ifindex, name): (&u32, &Arc<str>)| self.names.get(ifindex).is_some_and(|was| was != name);
        if passed.iter().any(is_renamed) {
            self.ruleset = None;
        }
        self.names = passed;
        let holds = self.ruleset.is_some() && self.failing.is_none() && !self.lookout.is_due(events);
        let refreshed = match holds {
            true => Ok(true),
            false => refresh(sock, &mut self.reader, &mut self.events, &mut self.ruleset),
        };
        match (refreshed, &self.ruleset) {
            (Ok(true), Some(ruleset)) => {
                self.failing = None;
                report(found, ruleset);
            }
            // Its generations begin anew where it comes back.
            (Ok(_), _) => (self.absent, self.ruleset) = (true, None),
            (Err(_), Some(last)) if self.failing.get_or_insert_with(Instant::now).elapsed() < STALE_MAX => {
                report(found, last);
            }
            (Err(e), _) => {
                let text = format!("nf_tables cannot be read: {e}");
                found.leave_bridging(text.clone(), REMEDY_BRIDGE);
                found.leave_families(&Family::ALL, text, REMEDY);
            }
        }
    }
}

fn report(found: &mut Collector, ruleset: &Ruleset) {
    for chain in &ruleset.chains {
        match chain.family {
            NFPROTO_NETDEV => on_devices(found, chain, if chain.hook == 0 { Way::Ingress } else { Way::Egress }),
            NFPROTO_INET if chain.hook == NF_INET_INGRESS => on_devices(found, chain, Way::Ingress),
            NFPROTO_BRIDGE => found.leave_bridging(chain.text.clone(), REMEDY_BRIDGE),
            _ => found.leave_families(families(chain.family), chain.text.clone(), REMEDY),
        }
    }
    for chain in &ruleset.carried {
        match chain.family {
            NFPROTO_BRIDGE => found.carry_bridged(&chain.text),
            family => found.carry(families(family), &chain.text),
        }
    }
    found.run(&ruleset.rules);
    report_punted(found, &ruleset.punted);
    for tracking in &ruleset.tracking {
        let text = format!("conntrack active for {}: {}", names(tracking.families), tracking.text);
        if tracking.plainly {
            found.track(tracking.families, text);
        } else {
            found.track(tracking.families, String::new());
            if tracking.in_bridges {
                found.leave_bridging(text.clone(), REMEDY_TRACK);
            }
            found.leave_families(tracking.families, text, REMEDY_TRACK);
        }
    }
}

/// Names the rules that are the kernel's.
fn report_punted(found: &mut Collector, punted: &[PuntedRule]) {
    for PuntedRule { text, whose, leaves } in punted {
        match (whose, leaves) {
            (Whose::Families(families), true) => found.leave_families(families, text.clone(), REMEDY_FAMILY),
            (Whose::Families(families), false) => found.punt_in_part(families, text.clone(), REMEDY_RULE),
            (Whose::Bridging, true) => found.leave_bridging(text.clone(), REMEDY_BRIDGE),
            (Whose::Bridging, false) => found.punt_bridged_in_part(text.clone(), REMEDY_RULE_BRIDGED),
        }
    }
}

/// The rules that are the kernel's. Who gets the packet at some of them may do anything with it ([`REACH_FURTHER`]).
fn punted(rules: &Rules) -> Vec<PuntedRule> {
    let mut named: BTreeMap<_, (Vec<Family>, String)> = BTreeMap::new();
    for family in Family::ALL {
        for punted in rules.punted(family) {
            let entry = named.entry((punted.chain, punted.rule));
            entry.or_insert_with(|| (Vec::new(), punted.why)).0.push(family);
        }
    }
    let text = |chain: ChainId, rule: usize, why: &str| {
        let handle = rules.ruleset[chain].rules[rule].handle;
        let chain = rules.ruleset.describe(chain);
        format!("nft {chain}, rule handle {handle} is not carried: {why}")
    };
    let of_families = named.into_iter().map(|((chain, rule), (families, why))| {
        // Whether the kernel lets it pass is known here by no sign, and its connection would go on or not.
        let is_before_tracking = |&family: &Family| rules.at(family, Point::Raw).chains.contains(&chain);
        PuntedRule {
            text: text(chain, rule, &why),
            leaves: families.iter().any(is_before_tracking) || REACH_FURTHER.contains(&&*why),
            whose: Whose::Families(families),
        }
    });
    let of_bridges = rules
        .bridged
        .punted(&rules.ruleset)
        .into_iter()
        .map(|punted| PuntedRule {
            text: text(punted.chain, punted.rule, &punted.why),
            leaves: REACH_FURTHER.contains(&&*punted.why),
            whose: Whose::Bridging,
        });
    of_families.chain(of_bridges).collect()
}

/// Leaves the ports that a chain on devices names.
fn on_devices(found: &mut Collector, chain: &BaseChain, way: Way) {
    for (ifindex, name) in found.passed() {
        let names = |d: &String| {
            d.strip_suffix('*')
                .map_or(**d == *name, |prefix| name.starts_with(prefix))
        };
        if chain.devices.iter().any(names) {
            found.leave_port(ifindex, way, chain.text.clone(), REMEDY);
        }
    }
}

/// Brings the ruleset at hand up to date, if its generation does not hold any more; where that fails it stays. False if the
/// kernel has no nf_tables.
fn refresh(
    sock: &mut NlSock,
    reader: &mut Option<ruleset::Nft>,
    events: &mut Events,
    at_hand: &mut Option<Ruleset>,
) -> io::Result<bool> {
    for _ in 0..TRIES {
        let asked = match generation(sock) {
            // nfnetlink's answer for a subsystem that is not there.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => return Ok(false),
            other => other?,
        };
        let reader = match reader {
            Some(reader) => reader,
            None => reader.insert(ruleset::Nft::open().map_err(io::Error::other)?),
        };
        if let Some(at_hand) = at_hand
            && events.follow(at_hand, asked)
            && (!at_hand.tables.change_unseen() || Tables::read(sock)? == at_hand.tables)
        {
            events.audit(sock, reader, at_hand);
            return Ok(true);
        }
        events.forget();
        let before = generation(sock)?;
        let last = at_hand.as_ref().map(|ruleset| &*ruleset.rules);
        match load(sock, reader, last, before) {
            Ok(ruleset) if generation(sock)? == before => {
                *at_hand = Some(ruleset);
                return Ok(true);
            }
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
pub(super) fn dump(
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

pub(super) fn all(get: u16) -> Request {
    Request::new(get, libc::NLM_F_DUMP as u16, &[0; GENMSG_LEN])
}

fn load(sock: &mut NlSock, reader: &mut ruleset::Nft, last: Option<&Rules>, generation: u32) -> io::Result<Ruleset> {
    let mut ruleset = Ruleset {
        generation,
        tables: Tables::read(sock)?,
        ..Ruleset::default()
    };
    let counts = load_rules(sock, &mut ruleset)?;
    load_chains(sock, &mut ruleset, &counts)?;
    if ruleset.nat || !ruleset.carried.is_empty() {
        let now_ns = monotonic_ns();
        let read = match reader.read(now_ns) {
            Ok(read) if read.generation == generation => read,
            Ok(_) | Err(NftError::Busy) => return Err(io::ErrorKind::Interrupted.into()),
            Err(NftError::Io(e)) => return Err(e),
            Err(e) => return Err(io::Error::other(e)),
        };
        let mut rules = Rules::new(read, last, now_ns);
        rules.taken.readings += 1;
        ruleset.rules = Arc::new(rules);
        ruleset.punted = punted(&ruleset.rules);
    }
    sets::load_objects(sock, &mut ruleset)?;
    sets::load_sets(sock, &mut ruleset)?;
    Ok(ruleset)
}

/// Sorts base chains: in the path, carried, of type nat, harmless.
fn load_chains(sock: &mut NlSock, ruleset: &mut Ruleset, counts: &Counts) -> io::Result<()> {
    dump(sock, all(GETCHAIN), NEWCHAIN, ruleset.generation, |family, m| {
        let attrs = m.attrs(GENMSG_LEN);
        let table = text(&attrs, 1);
        if ruleset.tables.is_dormant(family, &table) {
            return;
        }
        let rules = counts.get(&(family, table, text(&attrs, 3))).copied();
        match BaseChain::read(family, &attrs, rules.unwrap_or(0)) {
            Judged::Harmless => {}
            Judged::InPath(chain) if chain.is_carried() => ruleset.carried.push(chain),
            Judged::InPath(chain) => ruleset.chains.push(chain),
        }
        ruleset.nat |= BaseChain::is_nat(family, &attrs);
    })
}

/// Looks what tracks, and counts.
fn load_rules(sock: &mut NlSock, ruleset: &mut Ruleset) -> io::Result<Counts> {
    let (mut seen, mut counts) = (HashSet::new(), Counts::new());
    dump(sock, all(GETRULE), NEWRULE, ruleset.generation, |of, m| {
        let attrs = m.attrs(GENMSG_LEN);
        let exprs = attrs.find(4).unwrap_or_default();
        let handle = attrs.find(3).and_then(|h| h.first_chunk());
        let handle = handle.map_or(0, |h| u64::from_be_bytes(*h));
        let [table, chain] = [text(&attrs, 1), text(&attrs, 2)];
        if let Some(tracks) = expr::tracking_in_list(exprs) {
            let (word, family) = (word(of), tracks.family(of));
            let (plainly, name) = tracks.into_parts();
            // What does more is named by chain, what only tracks once.
            let place = if plainly { ("", "") } else { (&*table, &*chain) };
            if seen.insert((family, place.0.to_owned(), place.1.to_owned())) {
                let text = format!("nft table {word} {table}, chain {chain}, rule handle {handle}: {name}");
                ruleset.track(family, text, plainly);
            }
        }
        *counts.entry((of, table, chain)).or_default() += 1;
    })?;
    Ok(counts)
}

impl Ruleset {
    pub(super) fn track(&mut self, family: u8, text: String, plainly: bool) {
        if family == NFPROTO_ARP {
            return;
        }
        self.tracking.push(Tracking {
            families: families(family),
            text,
            plainly: plainly && matches!(family, NFPROTO_IPV4 | NFPROTO_IPV6 | NFPROTO_INET),
            in_bridges: family == NFPROTO_BRIDGE,
        });
    }
}

pub(super) fn text(attrs: &Attrs, kind: u16) -> String {
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

#[cfg(test)]
mod tests;
