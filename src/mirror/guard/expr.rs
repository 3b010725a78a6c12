//! Does an nf_tables expression make the kernel track connections?
//!
//! The kernel tracks a family from the moment that any rule with such an expression exists, wherever it stands, in a chain
//! that no packet reaches too: `nf_ct_netns_get` runs when the rule is made, and not when it matches. So a rule in an input
//! chain changes what happens to forwarded packets (they are reassembled, tracked, perhaps dropped as invalid). `tproxy`
//! and xt `socket` do not track but reassemble (`nf_defrag_ipv4_enable`), which is as bad.
//!
//! Two lists of names that are known not to: anything else tracks, until somebody has read its `init` function.

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

const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const XT_NAME: u16 = 1;
const DYNSET_EXPR: u16 = 7;
const DYNSET_EXPRESSIONS: u16 = 10;

/// The first expression of a list (NFTA_LIST_ELEM of `nft_expr_attributes`) that tracks, in words.
pub(super) fn tracking_in_list(list: &[u8]) -> Option<String> {
    Attrs(list)
        .filter(|(kind, _)| *kind == LIST_ELEM)
        .find_map(|(_, expr)| tracking(expr))
}

/// Whether this expression (`nft_expr_attributes`) tracks; its name if so.
pub(super) fn tracking(expr: &[u8]) -> Option<String> {
    let attrs = Attrs(expr);
    let name = get_str(attrs.find(EXPR_NAME).unwrap_or_default());
    let data = Attrs(attrs.find(EXPR_DATA).unwrap_or_default());
    match name.as_str() {
        "match" | "target" => {
            let xt = get_str(data.find(XT_NAME).unwrap_or_default());
            (!HARMLESS_XT.contains(&xt.as_str())).then(|| format!("xt {name} {xt}"))
        }
        "dynset" => {
            let one = data.find(DYNSET_EXPR).and_then(tracking);
            one.or_else(|| data.find(DYNSET_EXPRESSIONS).and_then(tracking_in_list))
        }
        _ => (!HARMLESS.contains(&name.as_str())).then_some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::nlattr::{HEADER_LEN, Request};
    use super::*;

    fn attrs(list: &[(u16, &[u8])]) -> Vec<u8> {
        let request = list
            .iter()
            .fold(Request::new(0, 0, &[]), |r, (kind, payload)| r.attr(*kind, payload));
        request.finish(0).split_off(HEADER_LEN)
    }

    fn expr(name: &str, data: &[u8]) -> Vec<u8> {
        attrs(&[(EXPR_NAME, name.as_bytes()), (EXPR_DATA, data)])
    }

    #[test]
    fn what_is_not_known_tracks() {
        for name in HARMLESS {
            assert_eq!(tracking(&expr(name, &[])), None);
        }
        for name in [
            "ct",
            "nat",
            "masq",
            "redir",
            "synproxy",
            "connlimit",
            "flow_offload",
            "tproxy",
            "ct_helper",
            "x",
            "",
        ] {
            assert_eq!(tracking(&expr(name, &[])).as_deref(), Some(name));
        }
    }

    #[test]
    fn xt_is_judged_by_its_name() {
        let xt = |kind: &str, name: &str| tracking(&expr(kind, &attrs(&[(XT_NAME, name.as_bytes())])));
        assert_eq!(xt("match", "comment"), None);
        assert_eq!(xt("target", "MARK"), None);
        for name in [
            "conntrack",
            "state",
            "connmark",
            "connlimit",
            "helper",
            "socket",
            "CT",
            "MASQUERADE",
            "unheard-of",
        ] {
            assert_eq!(xt("match", name), Some(format!("xt match {name}")));
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
            assert_eq!(tracking(&dynset).as_deref(), Some("connlimit"));
        }
        let limit = expr("limit", &[]);
        assert_eq!(tracking(&expr("dynset", &attrs(&[(DYNSET_EXPR, &limit)]))), None);
        assert_eq!(
            tracking_in_list(&attrs(&[(LIST_ELEM, &limit), (LIST_ELEM, &inner)])).as_deref(),
            Some("connlimit")
        );
    }
}
