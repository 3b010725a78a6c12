//! Matches and targets of iptables-nft: what nft_compat carries in nf_tables rules as the structs of x_tables.
//!
//! ```text
//!  name, revision, struct  --decode-->  Match | Target     one that is not understood whole is uncarried, under its name
//!  a packet                --says---->  on | break: the next rule | drop (hotdrop) | a translation | not known here
//!
//!  info       the struct's bytes
//!  conntrack  conntrack, state, connmark, CONNMARK  nat     SNAT, DNAT, MASQUERADE, REDIRECT, NETMAP
//!  ports      tcp, udp, multiport, icmp, icmp6      tcpmss  TCPMSS
//!  header     length, ttl, hl, dscp, tos, iprange, tcpmss, mac
//!  physdev    physdev
//!  facts      mark, addrtype, pkttype, statistic, extension headers, and what is the same for all packets
//! ```
//!
//! Each is the kernel's match or target function of net/netfilter/xt_*.c. Those that remember (limit, recent, hashlimit, nth),
//! look outside nf_tables (set) or log are not here; REJECT, CT --notrack and
//! `statistic` are expressions of their own. nft_compat gives the struct in the table's family, so there are
//! none for tables of family inet.

mod conntrack;
mod facts;
mod header;
mod info;
mod nat;
mod physdev;
mod ports;
mod tcpmss;
#[cfg(test)]
mod tests;

pub use conntrack::{Connmark, ConnmarkTarget, Conntrack, State};
pub use facts::{Addrtype, Chance, Mark, Pkttype};
pub use header::Header;
pub use nat::NatTarget;
pub use physdev::Physdev;
pub use ports::{Icmp, Multiport, Tcp, Udp};
pub use tcpmss::Tcpmss;

use super::carried::Depends;
use super::expr::{Expr, Reject, Stateful, Xt};
use super::interpret::NatRequest;
use super::keys::MetaKey;
use super::packet::{Answer, Fact, Packet};
use super::program::{NFPROTO_IPV4, NFPROTO_IPV6, StateId};

/// A match: the rule goes on where it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// The same for all forwarded packets: its name, and whether it holds.
    Constant(Box<str>, bool),
    /// `conntrack`
    Conntrack(Box<Conntrack>),
    /// `state`
    State(State),
    /// `connmark`
    Connmark(Connmark),
    /// `tcp`
    Tcp(Tcp),
    /// `udp`, `udplite`
    Udp(Udp),
    /// `multiport`
    Multiport(Multiport),
    /// `icmp`, `icmp6`
    Icmp(Icmp),
    /// `length`, `ttl` and more: its name, and what it asks for.
    Header(Box<str>, Box<Header>),
    /// `mark`
    Mark(Mark),
    /// `addrtype`
    Addrtype(Addrtype),
    /// `pkttype`
    Pkttype(Pkttype),
    /// `physdev`
    Physdev(Box<Physdev>),
    /// `rt`, `frag`, `hbh`, `dst`: asks for an extension header of that name.
    Extension(Box<str>),
}

/// A target that is not a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `MARK`: these bits of the packet's mark become those.
    Mark {
        /// Which bits.
        mask: u32,
        /// What they are exchanged with.
        mark: u32,
    },
    /// `SNAT` and its like.
    Nat(Box<NatTarget>),
    /// `CONNMARK`
    Connmark(ConnmarkTarget),
    /// `TCPMSS`
    Tcpmss(Tcpmss),
}

/// What one of them says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The rule goes on.
    On,
    /// The next rule.
    Break,
    /// It is lost.
    Drop,
    /// Its connection is to be translated.
    Nat(NatRequest),
    /// It is not known here.
    Unknown,
}

impl Said {
    fn of(holds: bool) -> Self {
        if holds { Said::On } else { Said::Break }
    }

    /// Of a match that knows, or does not.
    fn if_known(holds: Option<bool>) -> Self {
        holds.map_or(Said::Unknown, Said::of)
    }
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => Said::On,
            Answer::Break => Said::Break,
            Answer::Unknown => Said::Unknown,
        }
    }
}

/// The expression of an extension in a table of a family, to which `state` gives a memory if it needs one; none if it is not
/// carried.
pub fn decode(xt: &Xt, nfproto: u8, state: impl FnOnce(Stateful) -> StateId) -> Option<Expr> {
    if !matches!(nfproto, NFPROTO_IPV4 | NFPROTO_IPV6) {
        return None;
    }
    match xt.target {
        false if &*xt.name == "statistic" => {
            let of = Chance::decode(xt.revision, &xt.info)?;
            let state = state(Stateful::Choice);
            Some(Expr::Chance { state, of })
        }
        false => decode_match(&xt.name, xt.revision, &xt.info, nfproto).map(Expr::Match),
        true if &*xt.name == "REJECT" => decode_reject(xt.revision, &xt.info, nfproto).map(Expr::Reject),
        true if is_notrack(&xt.name, xt.revision, &xt.info) => Some(Expr::Notrack),
        true => decode_target(&xt.name, xt.revision, &xt.info, nfproto).map(Expr::Target),
    }
}

fn decode_match(name: &str, revision: u32, info: &[u8], nfproto: u8) -> Option<Match> {
    Some(match name {
        "conntrack" => Match::Conntrack(Conntrack::decode(revision, info)?.into()),
        "state" => Match::State(State::decode(revision, info)?),
        "connmark" => Match::Connmark(Connmark::decode(revision, info)?),
        "tcp" => Match::Tcp(Tcp::decode(revision, info)?),
        "udp" | "udplite" => Match::Udp(Udp::decode(revision, info)?),
        "multiport" => Match::Multiport(Multiport::decode(revision, info)?),
        "icmp" if nfproto == NFPROTO_IPV4 => Match::Icmp(Icmp::decode(revision, info, nfproto)?),
        "icmp6" if nfproto == NFPROTO_IPV6 => Match::Icmp(Icmp::decode(revision, info, nfproto)?),
        "mark" => Match::Mark(Mark::decode(revision, info)?),
        "addrtype" => Match::Addrtype(Addrtype::decode(revision, info, nfproto)?),
        "pkttype" => Match::Pkttype(Pkttype::decode(revision, info)?),
        "physdev" => Match::Physdev(Physdev::decode(revision, info)?.into()),
        "rt" | "frag" | "hbh" | "dst" if nfproto == NFPROTO_IPV6 => {
            facts::extension(name, revision, info).then(|| Match::Extension(name.into()))?
        }
        _ => match facts::constant(name, revision, info) {
            Some(holds) => Match::Constant(name.into(), holds),
            None => Match::Header(name.into(), Header::decode(name, revision, info, nfproto)?.into()),
        },
    })
}

fn decode_target(name: &str, revision: u32, info: &[u8], nfproto: u8) -> Option<Target> {
    match (name, revision) {
        ("MARK", 2) => {
            let info = info::Info::of(info, 8)?;
            Some(Target::Mark {
                mask: info.u32(4),
                mark: info.u32(0),
            })
        }
        ("CONNMARK", _) => ConnmarkTarget::decode(revision, info).map(Target::Connmark),
        ("TCPMSS", _) => Tcpmss::decode(revision, info).map(Target::Tcpmss),
        _ => NatTarget::decode(name, revision, info, nfproto).map(|target| Target::Nat(target.into())),
    }
}

/// Whether it is `CT --notrack` and nothing else, or `NOTRACK`.
fn is_notrack(name: &str, revision: u32, info: &[u8]) -> bool {
    const NOTRACK: u16 = 1;
    let size = match (name, revision) {
        ("NOTRACK", 0) => return info.is_empty(),
        ("CT", 0) => 40,
        ("CT", 1 | 2) => 72,
        _ => return false,
    };
    info::Info::of(info, size).is_some_and(|info| info.u16(0) == NOTRACK)
}

/// `REJECT`, which is nft's own by another number (enum ipt_reject_with, ip6t_reject_with).
fn decode_reject(revision: u32, info: &[u8], nfproto: u8) -> Option<Reject> {
    let info = info::Info::of(info, 4)?;
    (revision == 0).then_some(())?;
    Some(match (nfproto, info.u32(0)) {
        (NFPROTO_IPV4, 7) | (NFPROTO_IPV6, 6) => Reject::TcpReset,
        (NFPROTO_IPV4, code @ 0..=3) | (NFPROTO_IPV6, code @ 0..=4) => Reject::Icmp(code as u8),
        (NFPROTO_IPV4, 5) => Reject::Icmp(9),
        (NFPROTO_IPV4, 6) => Reject::Icmp(10),
        (NFPROTO_IPV4, 8) => Reject::Icmp(13),
        (NFPROTO_IPV6, 7) => Reject::Icmp(5),
        (NFPROTO_IPV6, 8) => Reject::Icmp(6),
        _ => return None,
    })
}

impl Match {
    /// Its name, as iptables has it.
    pub fn name(&self) -> &str {
        match self {
            Match::Constant(name, _) | Match::Header(name, _) | Match::Extension(name) => name,
            Match::Conntrack(_) => "conntrack",
            Match::State(_) => "state",
            Match::Connmark(_) => "connmark",
            Match::Tcp(_) => "tcp",
            Match::Udp(_) => "udp",
            Match::Multiport(_) => "multiport",
            Match::Icmp(_) => "icmp",
            Match::Mark(_) => "mark",
            Match::Addrtype(_) => "addrtype",
            Match::Pkttype(_) => "pkttype",
            Match::Physdev(_) => "physdev",
        }
    }

    /// What it says of a packet.
    pub(super) fn says(&self, packet: &mut impl Packet) -> Said {
        match self {
            Match::Constant(_, holds) => Said::of(*holds),
            Match::Conntrack(it) => Said::if_known(it.holds(packet)),
            Match::State(it) => Said::if_known(it.holds(packet)),
            Match::Connmark(it) => Said::if_known(it.holds(packet)),
            Match::Tcp(it) => it.says(packet),
            Match::Udp(it) => it.says(packet),
            Match::Multiport(it) => it.says(packet),
            Match::Icmp(it) => it.says(packet),
            Match::Header(_, it) => it.says(packet),
            Match::Mark(it) => Said::if_known(it.holds(packet)),
            Match::Addrtype(it) => Said::if_known(it.holds(packet)),
            Match::Pkttype(it) => Said::if_known(it.holds(packet)),
            Match::Physdev(it) => Said::of(it.holds(packet)),
            Match::Extension(_) => Said::if_known(facts::has_extension(packet)),
        }
    }

    /// What it depends on, of a packet of a connection.
    pub fn depends(&self) -> Depends {
        match self {
            Match::Conntrack(it) => it.depends(),
            Match::Tcp(it) => it.depends(),
            Match::Udp(_) | Match::Multiport(_) | Match::Icmp(_) => Depends::FlowWithPorts,
            Match::Header(_, it) => it.depends(),
            Match::Physdev(it) => it.depends(),
            // Of a connection's mark it is seen to otherwise: see `carried::has_ct_mark`.
            Match::Connmark(_) => Depends::Flow,
            Match::Constant(..)
            | Match::State(_)
            | Match::Mark(_)
            | Match::Addrtype(_)
            | Match::Pkttype(_)
            | Match::Extension(_) => Depends::Flow,
        }
    }

    /// Whether it holds for no TCP segment but such with SYN, RST or FIN, where it depends on these.
    pub fn is_of_edges(&self) -> bool {
        matches!(self, Match::Tcp(it) if it.is_of_edges())
    }

    /// Whether its answer is known of some packets only.
    pub fn may_not_know(&self) -> bool {
        match self {
            Match::Conntrack(it) => it.asks_ports(),
            Match::Addrtype(_) => true,
            _ => false,
        }
    }

    /// Whether it may look whether a connection is assured.
    pub fn asks_assured(&self) -> bool {
        matches!(self, Match::Conntrack(it) if it.asks_assured())
    }
}

impl Target {
    /// Its name, as iptables has it.
    pub fn name(&self) -> &str {
        match self {
            Target::Mark { .. } => "MARK",
            Target::Nat(it) => it.name(),
            Target::Connmark(_) => "CONNMARK",
            Target::Tcpmss(_) => "TCPMSS",
        }
    }

    /// What it says of a packet, and does to it.
    pub(super) fn says(&self, packet: &mut impl Packet) -> Said {
        match self {
            Target::Mark { mask, mark } => match packet.meta(MetaKey::Mark) {
                Fact::U32(old) => packet
                    .set_meta(MetaKey::Mark, (old & !mask ^ mark).to_ne_bytes())
                    .into(),
                _ => Said::Unknown,
            },
            Target::Connmark(it) => it.says(packet),
            Target::Nat(it) => it.request(packet).map_or(Said::Unknown, Said::Nat),
            Target::Tcpmss(it) => it.says(packet),
        }
    }
}
