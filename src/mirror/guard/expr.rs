//! Does an nf_tables expression make the kernel track connections, and is it tracking alone?
//!
//! The kernel tracks a family from the moment that any rule with such an expression exists, wherever it stands, in a chain
//! that no packet reaches too: `nf_ct_netns_get` runs when the rule is made, and not when it matches. So a rule in an input
//! chain changes what happens to forwarded packets (they are reassembled, tracked, perhaps dropped as invalid). `tproxy`
//! and xt `socket` do not track but reassemble (`nf_defrag_ipv4_enable`), which is not the same.
//!
//! ```text
//!  nothing   HARMLESS, _XT, _EBT       the init function touches neither conntrack nor defragmentation
//!  tracks    ct that reads or marks,   connections are tracked, and what else happens to a forwarded packet is carried
//!            NAT, PLAIN_XT, NAT_XT
//!  more      all others                helpers, zones that are set ...; unknown until somebody has read its init
//! ```

use super::super::nlattr::{Attrs, get_str};

/// Expressions whose init function touches neither conntrack nor defragmentation. net/netfilter/nft_*.c
const HARMLESS: &[&str] = &[
    "bitwise",
    "byteorder",
    "cmp",
    "counter",
    "dup",
    "exthdr",
    "fib",
    "fwd",
    "hash",
    "immediate",
    "inner",
    "last",
    "limit",
    "log",
    "lookup",
    "meta",
    "notrack",
    "numgen",
    "objref",
    "osf",
    "payload",
    "queue",
    "quota",
    "range",
    "reject",
    "rt",
    "secmark",
    "socket",
    "tunnel",
    "xfrm",
];

/// xt matches and targets (behind nf_tables' `match` and `target`), likewise. net/netfilter/xt_*.c, net/ipv{4,6}/netfilter
const HARMLESS_XT: &[&str] = &[
    "",
    "ACCEPT",
    "DROP",
    "RETURN",
    "ERROR",
    "addrtype",
    "ah",
    "AUDIT",
    "bpf",
    "cgroup",
    "CHECKSUM",
    "CLASSIFY",
    "comment",
    "cpu",
    "dccp",
    "devgroup",
    "dscp",
    "DSCP",
    "dst",
    "ecn",
    "ECN",
    "esp",
    "eui64",
    "frag",
    "hashlimit",
    "hbh",
    "hl",
    "HL",
    "icmp",
    "icmp6",
    "IDLETIMER",
    "ipcomp",
    "iprange",
    "ipv6header",
    "length",
    "limit",
    "LOG",
    "mac",
    "mark",
    "MARK",
    "mh",
    "multiport",
    "nfacct",
    "NOTRACK",
    "NFLOG",
    "NFQUEUE",
    "osf",
    "owner",
    "physdev",
    "pkttype",
    "policy",
    "quota",
    "realm",
    "recent",
    "REJECT",
    "rpfilter",
    "rt",
    "sctp",
    "set",
    "SET",
    "statistic",
    "string",
    "tcp",
    "tcpmss",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "time",
    "tos",
    "TOS",
    "TRACE",
    "ttl",
    "TTL",
    "u32",
    "udp",
    "udplite",
];

/// Matches, watchers and targets of ebtables, likewise. net/bridge/netfilter/ebt_*.c
const HARMLESS_EBT: &[&str] = &[
    "802_3", "among", "arp", "arpreply", "dnat", "ip", "ip6", "log", "mark_m", "nflog", "redirect", "snat", "stp",
    "vlan",
];

/// xt matches that read a connection, and only that: their checkentry function is `nf_ct_netns_get` (and accounting on).
const PLAIN_XT: &[&str] = &["conntrack", "state", "connmark", "connbytes"];

/// xt targets that translate connections, or set their mark, and only that, as nft's own expressions do.
const NAT_XT: &[&str] = &["SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP", "CONNMARK"];

pub(super) const LIST_ELEM: u16 = 1;
pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;
pub(super) const CT_DREG: u16 = 1;
pub(super) const CT_SREG: u16 = 4;
const CT_KEY: u16 = 2;
/// NFT_CT_MARK, as it is in a message.
const CT_KEY_MARK: &[u8] = &[0, 0, 0, 3];
const NAT_FAMILY: u16 = 2;
const NFPROTO_IPV4: u8 = libc::NFPROTO_IPV4 as u8;
const NFPROTO_IPV6: u8 = libc::NFPROTO_IPV6 as u8;
const XT_NAME: u16 = 1;
const XT_INFO: u16 = 3;
const DYNSET_EXPR: u16 = 7;
const DYNSET_EXPRESSIONS: u16 = 10;

/// What an expression means for connections; its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tracks {
    /// They are tracked.
    Plainly(String),
    /// They are tracked, of the family (NFPROTO_*) alone that a translation is of, whatever the table is of
    /// (nft_nat_init gets conntrack for that one).
    OfFamily(String, u8),
    /// Something happens to them that is not carried.
    More(String),
}

impl Tracks {
    /// The family of which connections are tracked, by an expression in a table of `family`.
    pub(super) fn family(&self, family: u8) -> u8 {
        match self {
            Tracks::OfFamily(_, one) => *one,
            _ => family,
        }
    }

    /// Whether that is all, and the name.
    pub(super) fn into_parts(self) -> (bool, String) {
        match self {
            Tracks::Plainly(name) | Tracks::OfFamily(name, _) => (true, name),
            Tracks::More(name) => (false, name),
        }
    }
}

/// The expressions of a list (NFTA_LIST_ELEM of `nft_expr_attributes`).
pub(super) fn list(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    Attrs(list).filter(|(kind, _)| *kind == LIST_ELEM).map(|(_, expr)| expr)
}

/// What the expressions of a list mean: the first that means more, else the first that tracks.
pub(super) fn tracking_in_list(exprs: &[u8]) -> Option<Tracks> {
    worst(list(exprs).filter_map(tracking))
}

/// The first that means more, else the first.
pub(super) fn worst(mut all: impl Iterator<Item = Tracks>) -> Option<Tracks> {
    let first = all.next()?;
    if let Tracks::More(_) = first {
        return Some(first);
    }
    Some(all.find(|one| matches!(one, Tracks::More(_))).unwrap_or(first))
}

/// What this expression (`nft_expr_attributes`) means; nothing for nearly all.
pub(super) fn tracking(expr: &[u8]) -> Option<Tracks> {
    let attrs = Attrs(expr);
    let name = get_str(attrs.find(EXPR_NAME).unwrap_or_default());
    let data = Attrs(attrs.find(EXPR_DATA).unwrap_or_default());
    match name.as_str() {
        "ct" if data.find(CT_SREG).is_some() && data.find(CT_KEY) == Some(CT_KEY_MARK) => {
            Some(Tracks::Plainly("ct mark set".to_owned()))
        }
        "ct" if data.find(CT_SREG).is_some() => Some(Tracks::More("ct set".to_owned())),
        "ct" if data.find(CT_DREG).is_some() => Some(Tracks::Plainly(name)),
        "nat" => Some(match data.find(NAT_FAMILY) {
            Some(&[0, 0, 0, family @ (NFPROTO_IPV4 | NFPROTO_IPV6)]) => Tracks::OfFamily(name, family),
            _ => Tracks::Plainly(name),
        }),
        "masq" | "redir" => Some(Tracks::Plainly(name)),
        "match" | "target" => {
            let xt = get_str(data.find(XT_NAME).unwrap_or_default());
            let text = format!("xt {name} {xt}");
            let plain = if name == "match" { PLAIN_XT } else { NAT_XT };
            match xt.as_str() {
                "CT" if name == "target" && is_notrack(data.find(XT_INFO)) => None,
                name if HARMLESS_XT.contains(&name) || HARMLESS_EBT.contains(&name) => None,
                _ if plain.contains(&xt.as_str()) => Some(Tracks::Plainly(text)),
                _ => Some(Tracks::More(text)),
            }
        }
        "dynset" => {
            let one = data.find(DYNSET_EXPR).and_then(tracking);
            one.or_else(|| data.find(DYNSET_EXPRESSIONS).and_then(tracking_in_list))
        }
        _ => (!HARMLESS.contains(&name.as_str())).then_some(Tracks::More(name)),
    }
}

/// Whether the struct of a CT target asks for no tracking, and so for nothing else (xt_ct_tg_check).
fn is_notrack(info: Option<&[u8]>) -> bool {
    const NOTRACK: u16 = 1;
    let flags = info.and_then(|info| info.first_chunk());
    flags.is_some_and(|flags| u16::from_ne_bytes(*flags) == NOTRACK)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::nlattr::{HEADER_LEN, Request};
    use super::*;

    pub(in super::super) fn attrs(list: &[(u16, &[u8])]) -> Vec<u8> {
        let request = list
            .iter()
            .fold(Request::new(0, 0, &[]), |r, (kind, payload)| r.attr(*kind, payload));
        request.finish(0).split_off(HEADER_LEN)
    }

    pub(in super::super) fn expr(name: &str, data: &[u8]) -> Vec<u8> {
        attrs(&[(EXPR_NAME, name.as_bytes()), (EXPR_DATA, data)])
    }

    fn more(name: &str) -> Option<Tracks> {
        Some(Tracks::More(name.into()))
    }

    fn plainly(name: &str) -> Option<Tracks> {
        Some(Tracks::Plainly(name.into()))
    }

    #[test]
    fn what_is_not_known_means_more() {
        for name in HARMLESS {
            assert_eq!(tracking(&expr(name, &[])), None);
        }
        for name in ["nat", "masq", "redir"] {
            assert_eq!(tracking(&expr(name, &[])), plainly(name));
        }
        for name in [
            "ct",
            "synproxy",
            "connlimit",
            "flow_offload",
            "tproxy",
            "ct_helper",
            "x",
            "",
        ] {
            assert_eq!(tracking(&expr(name, &[])), more(name));
        }
    }

    #[test]
    fn a_translation_of_addresses_tracks_its_family_alone() {
        let nat = |family: u8| tracking(&expr("nat", &attrs(&[(1, &[0; 4]), (NAT_FAMILY, &[0, 0, 0, family])])));
        let tracked = |family: u8| nat(family).map(|tracks| tracks.family(1));
        assert_eq!((tracked(2), tracked(10)), (Some(2), Some(10)));
        assert_eq!(
            (tracked(1), nat(1)),
            (Some(1), plainly("nat")),
            "ports alone are of both"
        );
        assert_eq!(nat(10).map(Tracks::into_parts), Some((true, "nat".into())));
    }

    #[test]
    fn ct_that_reads_or_marks_tracks_and_ct_that_sets_anything_else_means_more() {
        let reads = expr("ct", &attrs(&[(CT_DREG, &[0, 0, 0, 1]), (CT_KEY, &[0; 4])]));
        let sets = |key: u8| expr("ct", &attrs(&[(CT_KEY, &[0, 0, 0, key]), (CT_SREG, &[0, 0, 0, 1])]));
        assert_eq!(tracking(&sets(3)), plainly("ct mark set"));
        let sets = sets(17);
        assert_eq!(tracking(&reads), plainly("ct"));
        assert_eq!(tracking(&sets), more("ct set"));
        let both = attrs(&[(LIST_ELEM, &reads), (LIST_ELEM, &sets)]);
        assert_eq!(tracking_in_list(&both), more("ct set"), "the worst of a rule counts");
        let twice = attrs(&[(LIST_ELEM, &expr("counter", &[])), (LIST_ELEM, &reads)]);
        assert_eq!(tracking_in_list(&twice), plainly("ct"));
    }

    #[test]
    fn xt_is_judged_by_its_name() {
        let xt = |kind: &str, name: &str| tracking(&expr(kind, &attrs(&[(XT_NAME, name.as_bytes())])));
        assert_eq!(xt("match", "comment"), None);
        assert_eq!(xt("target", "MARK"), None);
        for name in PLAIN_XT {
            assert_eq!(xt("match", name), plainly(&format!("xt match {name}")));
            assert_eq!(xt("target", name), more(&format!("xt target {name}")));
        }
        for name in NAT_XT {
            assert_eq!(xt("target", name), plainly(&format!("xt target {name}")));
            assert_eq!(xt("match", name), more(&format!("xt match {name}")));
        }
        let ct = |flags: u16| attrs(&[(XT_NAME, b"CT"), (XT_INFO, &flags.to_ne_bytes())]);
        assert_eq!(tracking(&expr("target", &ct(1))), None, "without tracking");
        assert_eq!(
            tracking(&expr("target", &ct(0))),
            more("xt target CT"),
            "with a helper, perhaps"
        );
        for name in ["connlimit", "connlabel", "helper", "socket", "CT", "unheard-of"] {
            assert_eq!(xt("match", name), more(&format!("xt match {name}")));
        }
    }

    #[test]
    fn expressions_inside_dynset_count() {
        let inner = expr("connlimit", &[]);
        let one = expr("dynset", &attrs(&[(DYNSET_EXPR, &inner)]));
        let many = expr(
            "dynset",
            &attrs(&[(DYNSET_EXPRESSIONS, &attrs(&[(LIST_ELEM, &inner)]))]),
        );
        for dynset in [one, many] {
            assert_eq!(tracking(&dynset), more("connlimit"));
        }
        let limit = expr("limit", &[]);
        assert_eq!(tracking(&expr("dynset", &attrs(&[(DYNSET_EXPR, &limit)]))), None);
        assert_eq!(
            tracking_in_list(&attrs(&[(LIST_ELEM, &limit), (LIST_ELEM, &inner)])),
            more("connlimit")
        );
    }
}
