//! What iptables-nft really installs, read from the kernel: each form of a match or target is carried, or is not under its
//! name; and the structs say what was asked for.

use super::netns::{isolated, sh};
use super::{chain, read, uncarried};
use bypath::table::rules::expr::{Expr, Reject};
use bypath::table::rules::program::Ruleset;
use bypath::table::rules::xt::{Match, Target, Tcpmss};
use std::collections::BTreeMap;

/// What is carried, in the chain FORWARD: `4` of IPv4, `6` of IPv6, else of both.
const CARRIED: &[&str] = &[
    "-m comment --comment x",
    "-m conntrack --ctstate NEW,UNTRACKED,SNAT --ctproto tcp --ctdir REPLY",
    "-m conntrack --ctorigsrcport 1:2 --ctproto udp --ctstatus ASSURED --ctexpire 1:5",
    "4 -m conntrack --ctorigsrc 10.0.0.0/8 ! --ctrepldst 10.0.0.1",
    "6 -m conntrack --ctorigdst fd00::/8 --ctreplsrc fd00::1",
    "-m state --state INVALID",
    "-m addrtype --src-type LOCAL ! --dst-type MULTICAST",
    "4 -m addrtype --dst-type BROADCAST,ANYCAST,UNREACHABLE",
    "-p tcp -m tcp --tcp-option 2 --sport 1:2",
    "-p tcp -m multiport --dports 1,2:3",
    "-p udp -m multiport ! --ports 9",
    "-p udp -m udp --sport 1:2 --dport 3",
    "4 -p icmp -m icmp --icmp-type 3/1",
    "6 -p icmpv6 -m icmp6 --icmpv6-type 128",
    "-m mark --mark 1/3",
    "-m connmark --mark 1/3",
    "-m length --length 1:2",
    "4 -m ttl --ttl-lt 3",
    "6 -m hl --hl-gt 3",
    "-m dscp --dscp-class EF",
    "-m tos --tos 0x10",
    "-m physdev --physdev-is-in",
    "-m pkttype --pkt-type multicast",
    "-m policy --dir in --pol ipsec --strict --reqid 3",
    "-m statistic --mode random --probability 0.5",
    "4 -m iprange --src-range 10.0.0.1-10.0.0.2",
    "6 -m iprange ! --dst-range fd00::1-fd00::2",
    "-m mac --mac-source 02:00:00:00:00:01",
    "-p tcp -m tcpmss --mss 1:2",
    "-j MARK --set-mark 3",
    "-j MARK --and-mark 3",
    "-j CONNMARK --set-mark 3",
    "-j CONNMARK --save-mark --mask 3",
    "-j CONNMARK --restore-mark",
    "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400",
    "-p tcp -j TCPMSS --clamp-mss-to-pmtu",
    "-j REJECT",
    "-p tcp -j REJECT --reject-with tcp-reset",
    "4 -j REJECT --reject-with icmp-admin-prohibited",
    "6 -j REJECT --reject-with icmp6-adm-prohibited",
    "-j RETURN",
];

/// In the table nat, with the chain.
const NAT: &[&str] = &[
    "POSTROUTING -j MASQUERADE",
    "POSTROUTING -p tcp -j MASQUERADE --to-ports 1-2 --random",
    "POSTROUTING -j MASQUERADE --random-fully",
    "4 POSTROUTING -j SNAT --to-source 10.0.0.1-10.0.0.2 --persistent",
    "6 POSTROUTING -p tcp -j SNAT --to-source [fd00::1]:1-2",
    "4 PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1:80",
    "4 PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1:80-90/100",
    "4 PREROUTING -p tcp -j DNAT --to-destination :80",
    "6 PREROUTING -p tcp -j DNAT --to-destination [fd00::1]:80",
    "PREROUTING -p udp -j REDIRECT --to-ports 99",
    "4 PREROUTING -d 10.0.0.0/24 -j NETMAP --to 10.1.0.0/24",
    "6 POSTROUTING -j NETMAP --to fd00::/64",
    "POSTROUTING -m policy --dir out --pol none -j ACCEPT",
];

/// Rules, and what of each is not carried.
const KERNELS: &[(&str, &str)] = &[
    ("-m recent --set", "xt match recent"),
    ("-m statistic --mode nth --every 3 --packet 1", "xt match statistic"),
    ("-m addrtype --dst-type LOCAL --limit-iface-in", "xt match addrtype"),
    ("6 -m addrtype --dst-type ANYCAST", "xt match addrtype"),
    (
        "-m hashlimit --hashlimit-upto 1/sec --hashlimit-name x",
        "xt match hashlimit",
    ),
    ("-m string --algo bm --string x", "xt match string"),
    ("-p udp -j CHECKSUM --checksum-fill", "xt target CHECKSUM"),
];

/// Adds them by iptables and ip6tables; how many of each.
fn add(table: &str, rules: impl IntoIterator<Item = (&'static str, &'static str)>) -> [usize; 2] {
    let mut added = [0; 2];
    for (chain, rule) in rules {
        let (family, words) = match rule.split_once(' ') {
            Some((family @ ("4" | "6"), words)) => (family, words),
            _ => ("", rule),
        };
        for (at, (number, program)) in [("4", "iptables-nft"), ("6", "ip6tables-nft")].into_iter().enumerate() {
            if family.is_empty() || family == number {
                sh(&format!("{program} -t {table} -A {chain}{words}"));
                added[at] += 1;
            }
        }
    }
    added
}

fn matches(ruleset: &Ruleset) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let rules = ruleset.chains.iter().flat_map(|chain| &chain.rules);
    for expr in rules.flat_map(|rule| &rule.exprs) {
        let name = match expr {
            Expr::Match(it) => it.name().to_owned(),
            Expr::Target(it) => it.name().to_owned(),
            Expr::Chance { .. } => "statistic".into(),
            Expr::Reject(_) => "REJECT".into(),
            _ => continue,
        };
        *found.entry(name).or_default() += 1;
    }
    found
}

#[test]
fn what_iptables_installs_is_carried() {
    isolated("xt::what_iptables_installs_is_carried", || {
        add("filter", CARRIED.iter().map(|&rule| ("FORWARD ", rule)));
        add("nat", NAT.iter().map(|&rule| ("", rule)));
        let ruleset = read();
        assert_eq!(uncarried(&ruleset), BTreeMap::new());
        let found = matches(&ruleset);
        // Those that iptables 1.8.9 has no expression of nft for.
        let names = [
            "comment",
            "conntrack",
            "addrtype",
            "tcp",
            "multiport",
            "icmp",
            "icmp6",
            "connmark",
            "length",
            "ttl",
            "hl",
            "dscp",
            "tos",
            "physdev",
            "pkttype",
            "policy",
            "statistic",
            "iprange",
            "mac",
            "tcpmss",
            "MARK",
            "TCPMSS",
            "REJECT",
            "CONNMARK",
            "MASQUERADE",
            "SNAT",
            "DNAT",
            "REDIRECT",
            "NETMAP",
        ];
        for name in names.iter().filter(|name| **name != "icmp6") {
            assert!(
                found.contains_key(*name),
                "no {name}, which is right if iptables is newer: {found:?}"
            );
        }
        let forward = chain(&ruleset, "FORWARD");
        let exprs: Vec<&Expr> = forward.rules.iter().flat_map(|rule| &rule.exprs).collect();
        for expr in [
            Expr::Target(Target::Mark {
                mask: u32::MAX,
                mark: 3,
            }),
            Expr::Target(Target::Mark { mask: !3, mark: 0 }),
            Expr::Target(Target::Tcpmss(Tcpmss::Set(1400))),
            Expr::Target(Target::Tcpmss(Tcpmss::Clamp)),
            Expr::Reject(Reject::Icmp(3)),
            Expr::Reject(Reject::Icmp(13)),
            Expr::Reject(Reject::TcpReset),
            Expr::Match(Match::Constant("comment".into(), true)),
        ] {
            assert!(exprs.contains(&&expr), "no {expr:?} in {exprs:?}");
        }
    });
}

#[test]
fn what_is_the_kernels_is_named() {
    isolated("xt::what_is_the_kernels_is_named", || {
        let mut expected = BTreeMap::new();
        for (rule, name) in KERNELS {
            let of_both = !rule.starts_with(['4', '6']);
            *expected.entry(*name).or_default() += 1 + usize::from(of_both);
        }
        add("mangle", KERNELS.iter().map(|(rule, _)| ("FORWARD ", *rule)));
        assert_eq!(uncarried(&read()), expected);
    });
}

/// `iptables-restore` has base chains count; `iptables -A` has not.
#[test]
fn policies_that_count() {
    isolated("xt::policies_that_count", || {
        sh("printf '*filter\\n:FORWARD DROP [3:99]\\n:x - [0:0]\\n-A FORWARD -j x\\nCOMMIT\\n' | iptables-nft-restore");
        sh("ip6tables-nft -A FORWARD -j ACCEPT");
        let ruleset = read();
        let counts = |table: u8| {
            let chain = ruleset
                .chains
                .iter()
                .find(|chain| ruleset[chain.table].family == table && &*chain.name == "FORWARD");
            chain
                .and_then(|chain| chain.base.as_ref())
                .expect("a base chain")
                .counter
                .is_some()
        };
        assert_eq!((counts(2), counts(10)), (true, false));
        assert!(chain(&ruleset, "x").base.is_none());
    });
}
