//! The guard against a real kernel: each kind of thing that could stand in the path is set up, must be found on exactly
//! the ports, families and directions that it touches, must wake the caller where the kernel gives an event, and must be
//! gone after its removal. What this kernel lacks (netkit, IPVS, other qdiscs, the list of hooks) is tested as text only,
//! beside the code.

mod netns;

use bypath::mirror::guard::{Findings, Guard, LinkFacts, Note};
use bypath::packet::Family;
use netns::{attach_bpf, ifindex, isolated, links, readable, sh};
use std::collections::BTreeSet;
use std::time::Instant;

const PORTS: &[&str] = &["d0", "d1"];

/// Two ports, and what is at their other ends.
fn ports() {
    for n in 0..2 {
        sh(&format!(
            "ip link add d{n} type veth peer p{n}; ip link set d{n} up; ip link set p{n} up"
        ));
    }
}

/// Everything that is left, as "d0 4 in", or "d0 bridging in".
fn left(found: &Findings, links: &[LinkFacts]) -> BTreeSet<String> {
    let name = |index: u32| &links.iter().find(|l| l.ifindex == index).expect("a link").name;
    let families = found.by_iface.iter();
    let families = families.flat_map(|(index, both)| ["4", "6"].iter().zip(both).map(move |of| (*index, of)));
    let bridging = found
        .bridging
        .iter()
        .map(|(index, finding)| (*index, (&"bridging", finding)));
    let mut all = BTreeSet::new();
    for (index, (what, finding)) in families.chain(bridging) {
        all.extend(finding.ingress.iter().map(|_| format!("{} {what} in", name(index))));
        all.extend(finding.egress.iter().map(|_| format!("{} {what} out", name(index))));
    }
    all
}

/// Every combination of these.
fn each(ports: &[&str], families: &[&str], ways: &[&str]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for port in ports {
        for family in families {
            all.extend(ways.iter().map(|way| format!("{port} {family} {way}")));
        }
    }
    all
}

/// A thing in the path.
struct Case {
    add: &'static str,
    remove: &'static str,
    ports: &'static [&'static str],
    families: &'static [&'static str],
    ways: &'static [&'static str],
    /// Part of the sentence that names it.
    says: &'static str,
    /// Whether the kernel tells of it.
    event: bool,
}

const BOTH_WAYS: &[&str] = &["in", "out"];
const V4: &[&str] = &["4"];
const V6: &[&str] = &["6"];
const V46: &[&str] = &["4", "6"];

fn check(cases: &[Case]) {
    ports();
    check_there(cases);
}

/// The same where there are ports already.
fn check_there(cases: &[Case]) {
    let mut guard = Guard::open().expect("guard");
    let clean = guard.read(&links(PORTS));
    assert_eq!(clean, Findings::default(), "a clean namespace");
    for case in cases {
        let Case { add, .. } = case;
        guard.read(&links(PORTS));
        assert!(!readable(&guard.fds(), 0), "before {add}: readable without a change");
        sh(add);
        assert_eq!(
            readable(&guard.fds(), if case.event { 1000 } else { 0 }),
            case.event,
            "{add}: event"
        );
        let now = links(PORTS);
        let found = guard.read(&now);
        assert_eq!(
            left(&found, &now),
            each(case.ports, case.families, case.ways),
            "{add}: {:#?}",
            found.notes
        );
        assert_eq!(found.leaves(), !case.ports.is_empty(), "{add}: {:#?}", found.notes);
        if found.leaves() {
            assert!(
                found.notes.iter().any(|n| n.leaves && n.text.contains(case.says)),
                "{add}: {:#?}",
                found.notes
            );
        }
        assert_eq!(guard.read(&now), found, "{add}: read again");
        sh(case.remove);
        let after = guard.read(&links(PORTS));
        assert!(
            !after.leaves() && after.by_iface.is_empty(),
            "{}: {:#?}",
            case.remove,
            after.notes
        );
    }
}

/// A base chain of a family at a hook, with a rule.
macro_rules! nft_chain {
    ($family:literal, $at:literal, $ports:expr, $families:expr, $ways:expr, $says:literal) => {
        Case {
            add: concat!(
                "nft 'add table ",
                $family,
                " t; add chain ",
                $family,
                " t c { type filter hook ",
                $at,
                "; }; add rule ",
                $family,
                " t c counter'"
            ),
            remove: concat!("nft delete table ", $family, " t"),
            ports: $ports,
            families: $families,
            ways: $ways,
            says: $says,
            event: true,
        }
    };
}

/// Something of nf_tables that leaves nothing.
macro_rules! nft_harmless {
    ($add:literal, $remove:literal) => {
        Case {
            add: $add,
            remove: $remove,
            ports: &[],
            families: &[],
            ways: &[],
            says: "",
            event: true,
        }
    };
}

/// Something of nf_tables that tracks.
macro_rules! nft_tracking {
    ($family:literal, $add:literal, $families:expr, $says:literal) => {
        Case {
            add: concat!("nft 'add table ", $family, " t; ", $add, "'"),
            remove: concat!("nft delete table ", $family, " t"),
            ports: PORTS,
            families: $families,
            ways: BOTH_WAYS,
            says: $says,
            event: true,
        }
    };
}

#[test]
#[rustfmt::skip]
fn nft_base_chains() {
    isolated("nft_base_chains", || check(&[
        // Where tracking is, and where NAT is.
        nft_chain!("ip", "prerouting priority -200", PORTS, V4, BOTH_WAYS, "nft table ip t, chain c: base chain at prerouting with 1 rule"),
        nft_chain!("ip", "postrouting priority 100", PORTS, V4, BOTH_WAYS, "base chain at postrouting"),
        nft_chain!("ip6", "prerouting priority -100", PORTS, V6, BOTH_WAYS, "nft table ip6 t, chain c: base chain at prerouting"),
        // Run.
        nft_chain!("ip", "prerouting priority -199", &[], &[], &[], ""),
        nft_chain!("ip6", "prerouting priority -99", &[], &[], &[], ""),
        nft_chain!("inet", "postrouting priority 99", &[], &[], &[], ""),
        nft_chain!("ip", "postrouting priority 101", &[], &[], &[], ""),
        nft_chain!("inet", "prerouting priority -201", &[], &[], &[], ""),
        Case {
            add: "nft 'add table ip t; add chain ip t c { type filter hook prerouting priority -300; }; add rule ip t c log'",
            remove: "nft delete table ip t",
            ports: PORTS, families: V4, ways: BOTH_WAYS, says: "chain c, rule handle", event: true,
        },
        nft_chain!("inet", "ingress device d0 priority 0", &["d0"], V46, &["in"], "chain c: base chain at ingress"),
        nft_chain!("netdev", "ingress device d1 priority 0", &["d1"], V46, &["in"], "nft table netdev t"),
        nft_chain!("netdev", "egress device d0 priority 0", &["d0"], V46, &["out"], "base chain at egress"),
        nft_chain!("netdev", "ingress devices = { d0, d1 } priority 0", PORTS, V46, &["in"], "base chain at ingress"),
        nft_chain!("netdev", "ingress device p0 priority 0", &[], &[], &[], ""),
        nft_chain!("ip", "input priority 0", &[], &[], &[], ""),
        nft_chain!("inet", "output priority 0", &[], &[], &[], ""),
        nft_chain!("bridge", "forward priority 0", &[], &[], &[], ""),
        nft_chain!("arp", "input priority 0", &[], &[], &[], ""),
        nft_harmless!("nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; }'", "nft delete table ip t"),
        nft_harmless!("nft 'add table ip t; add chain ip t c; add rule ip t c drop'", "nft delete table ip t"),
        nft_harmless!("nft 'add table ip t { flags dormant; }; add chain ip t c { type filter hook forward priority 0; }; \
                       add rule ip t c drop'", "nft delete table ip t"),
        Case {
            add: "nft 'add table ip6 t; add chain ip6 t c { type filter hook postrouting priority 100; policy drop; }'",
            remove: "nft delete table ip6 t",
            ports: PORTS, families: V6, ways: BOTH_WAYS, says: "base chain at postrouting with policy drop", event: true,
        },
        // The commit that adds a rule to a chain that was harmless.
        Case {
            add: "nft 'add table ip t; add chain ip t c { type filter hook postrouting priority 100; }'; nft add rule ip t c accept; \
                  nft add rule ip t c counter",
            remove: "nft flush chain ip t c; nft delete table ip t",
            ports: PORTS, families: V4, ways: BOTH_WAYS, says: "with 2 rules", event: true,
        },
    ]));
}

#[test]
#[rustfmt::skip]
fn what_tracks_connections() {
    isolated("what_tracks_connections", || check(&[
        nft_tracking!("ip", "add chain ip t c { type filter hook input priority 0; }; add rule ip t c ct event set new", V4,
                      "conntrack active for IPv4: nft table ip t, chain c, rule handle"),
        nft_tracking!("ip6", "add chain ip6 t c { type filter hook output priority 0; }; add rule ip6 t c ct mark 1 ct event set new", V6, ": ct set"),
        nft_tracking!("inet", "add chain inet t c; add rule inet t c ct state established; add rule inet t c ct event set new", V46, ": ct set"),
        nft_harmless!("nft 'add table inet t; add chain inet t c { type filter hook output priority 0; }; \
                       add rule inet t c ct mark set meta mark'", "nft delete table inet t"),
        // NAT is run.
        nft_harmless!("nft 'add table inet t; add chain inet t c { type nat hook output priority 0; }; add chain inet t d; \
                       add rule inet t d ct state new'", "nft delete table inet t"),
        nft_harmless!("nft 'add table ip t; add chain ip t c { type nat hook output priority 0; }; \
                       add rule ip t c dnat to 192.0.2.1'", "nft delete table ip t"),
        nft_harmless!("nft 'add table ip t; add chain ip t c { type nat hook input priority 0; }; \
                       add rule ip t c snat to 192.0.2.1'", "nft delete table ip t"),
        nft_harmless!("nft 'add table ip6 t; add chain ip6 t c; add rule ip6 t c masquerade'", "nft delete table ip6 t"),
        nft_harmless!("nft 'add table inet t; add chain inet t c { type nat hook prerouting priority -100; }; \
                       add rule inet t c tcp dport 80 redirect'", "nft delete table inet t"),
        nft_tracking!("ip", "add chain ip t c; add rule ip t c tcp dport 22 ct count over 2 drop", V4, ": connlimit"),
        nft_tracking!("ip", "add set ip t s { type ipv4_addr; flags dynamic; }; add chain ip t c; \
                             add rule ip t c add @s { ip saddr ct count over 2 }", V4, ": connlimit"),
        nft_tracking!("ip", "add set ip t s { type ipv4_addr; flags dynamic; }; \
                             add element ip t s { 192.0.2.1 ct count over 2 }", V4, "set s: connlimit"),
        // A helper for the box's own connections, and one that forwarded ones may come to.
        nft_harmless!("nft 'add table ip t; add ct helper ip t h { type \"ftp\" protocol tcp; }; \
                       add chain ip t c { type filter hook input priority 0; }; add rule ip t c tcp dport 21 ct helper set \"h\"'",
                      "nft delete table ip t"),
        nft_tracking!("ip", "add ct helper ip t h { type \"ftp\" protocol tcp; }; add chain ip t d; \
                             add chain ip t c { type filter hook forward priority 0; }; add rule ip t c tcp dport 21 jump d; \
                             add rule ip t d ct helper set \"h\"", V4, "object h"),
        nft_tracking!("ip", "add ct helper ip t h { type \"sip\" protocol udp; }", V4, "object h"),
        nft_tracking!("ip", "add ct helper ip t h { type \"ftp\" protocol tcp; }; \
                             add chain ip t c { type nat hook prerouting priority -100; }", V4, "object h"),
        nft_tracking!("ip", "add ct timeout ip t h { protocol tcp; policy = { established: 100 }; }", V4, "object h"),
        Case {
            add: "iptables-nft -t raw -A PREROUTING -j CT --zone 3",
            remove: "nft flush ruleset",
            ports: PORTS, families: V4, ways: BOTH_WAYS, says: "conntrack active for IPv4: nft table ip raw", event: true,
        },
        nft_harmless!("iptables-nft -t raw -A PREROUTING -p udp -j CT --notrack", "nft flush ruleset"),
        Case {
            add: "ip6tables-nft -A OUTPUT -p tcp -m connlimit --connlimit-above 3",
            remove: "nft flush ruleset",
            ports: PORTS, families: V6, ways: BOTH_WAYS, says: "conntrack active for IPv6: nft table ip6 filter", event: true,
        },
        // A helper for what the box itself asks its network.
        nft_harmless!("nft 'add table ip t; add ct helper ip t h { type \"netbios-ns\" protocol udp; }'", "nft delete table ip t"),
        // A chain of type nat does nothing where nothing is tracked.
        nft_harmless!("nft 'add table ip t; add chain ip t c { type nat hook postrouting priority 100; }'", "nft delete table ip t"),
        nft_harmless!("iptables-nft -A INPUT -p tcp -m comment --comment x -m multiport --dports 1,2 -m limit --limit 1/s -j LOG",
                      "nft flush ruleset"),
        nft_harmless!("nft 'add table ip t; add set ip t s { type ipv4_addr; flags dynamic; }; add chain ip t c; \
                       add rule ip t c meta mark 1 add @s { ip saddr limit rate 1/second } counter log; \
                       add element ip t s { 192.0.2.1 limit rate 1/second }'", "nft delete table ip t"),
    ]));
}

#[test]
#[rustfmt::skip]
fn iptables_forward_rules() {
    isolated("iptables_forward_rules", || check(&[
        Case {
            add: "iptables-nft -t raw -A PREROUTING -s 192.0.2.1 -j LOG",
            remove: "nft flush ruleset",
            ports: PORTS, families: V4, ways: BOTH_WAYS, says: "nft table ip raw, chain PREROUTING", event: true,
        },
        nft_harmless!("printf '*raw\\n:PREROUTING ACCEPT [0:0]\\nCOMMIT\\n*filter\\n:FORWARD ACCEPT [0:0]\\nCOMMIT\\n' | iptables-nft-restore",
                      "nft flush ruleset"),
        nft_harmless!("iptables-nft -t raw -A PREROUTING -s 192.0.2.1 -j DROP", "nft flush ruleset"),
        nft_harmless!("iptables-nft -t mangle -A POSTROUTING -s 192.0.2.1 -j DROP", "nft flush ruleset"),
        nft_harmless!("iptables-nft -A FORWARD -s 192.0.2.1 -j DROP", "nft flush ruleset"),
        // Tables that iptables-nft leaves behind, empty, are harmless.
        nft_harmless!("iptables-nft -A FORWARD -s 192.0.2.1 -j DROP; iptables-nft -F FORWARD", "nft flush ruleset"),
    ]));
}

/// A legacy table cannot be removed again but with its namespace.
#[test]
fn legacy_iptables() {
    isolated("legacy_iptables", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        for (command, families, table) in [
            ("iptables-legacy", V4, "iptables"),
            ("ip6tables-legacy", V46, "ip6tables"),
        ] {
            sh(&format!("{command} -A INPUT -s ::/0 2>/dev/null || {command} -A INPUT"));
            let now = links(PORTS);
            let found = guard.read(&now);
            assert_eq!(
                left(&found, &now),
                each(PORTS, families, BOTH_WAYS),
                "{:#?}",
                found.notes
            );
            let says = format!("legacy {table} is in use, table filter");
            assert!(found.notes.iter().any(|n| *n.text == says), "{:#?}", found.notes);
        }
    });
}

#[test]
#[rustfmt::skip]
fn xfrm_policies() {
    isolated("xfrm_policies", || check(&[
        Case {
            add: "ip xfrm policy add dir fwd src 192.0.2.0/24 dst 198.51.100.0/24 action block",
            remove: "ip xfrm policy flush",
            ports: PORTS, families: V4, ways: BOTH_WAYS,
            says: "1 xfrm policies for IPv4, one is dir fwd src 192.0.2.0/24 dst 198.51.100.0/24", event: true,
        },
        Case {
            add: "ip xfrm policy add dir out src 2001:db8::/32 dst ::/0 tmpl src 2001:db8::1 dst 2001:db8::2 proto esp mode tunnel",
            remove: "ip xfrm policy flush",
            ports: PORTS, families: V6, ways: BOTH_WAYS, says: "dir out src 2001:db8::/32 dst ::/0", event: true,
        },
        Case {
            add: "ip xfrm policy setdefault in accept fwd block out accept",
            remove: "ip xfrm policy setdefault in accept fwd accept out accept",
            ports: PORTS, families: V46, ways: BOTH_WAYS, says: "the default xfrm policy blocks", event: true,
        },
    ]));
}

/// Something of tc.
macro_rules! tc {
    ($add:literal, $remove:literal, $ports:expr, $ways:expr, $says:literal) => {
        tc!($add, $remove, $ports, V46, $ways, $says)
    };
    ($add:literal, $remove:literal, $ports:expr, $families:expr, $ways:expr, $says:literal) => {
        Case {
            add: $add,
            remove: $remove,
            ports: $ports,
            families: $families,
            ways: $ways,
            says: $says,
            event: true,
        }
    };
}

// Behind the macro that it uses.
#[path = "guard/links.rs"]
mod links_on_links;
#[path = "guard/qdiscs.rs"]
mod qdiscs;

#[test]
fn tcx_programs() {
    isolated("tcx_programs", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        // BPF_PROG_TYPE_SCHED_CLS, TCX_NEXT; BPF_TCX_INGRESS and BPF_TCX_EGRESS
        for (attach_type, way) in [(46, "in"), (47, "out")] {
            let attached = attach_bpf(3, -1, [ifindex("d1"), attach_type, 0, 0, 0, 0, 0]).expect("attach");
            let now = links(PORTS);
            let found = guard.read(&now);
            assert_eq!(left(&found, &now), each(&["d1"], V46, &[way]), "{:#?}", found.notes);
            drop(attached);
            assert_eq!(guard.read(&now), Findings::default());
        }
    });
}

/// A program on a bridge, of whose coming and going by a bpf_link no message tells.
#[test]
fn xdp_program_on_a_bridge() {
    isolated("xdp_program_on_a_bridge", || {
        ports();
        sh("ip link add br0 type bridge; ip link set br0 up; ip link set d0 master br0");
        let (mut guard, now) = (Guard::open().expect("guard"), links(PORTS));
        assert_eq!(guard.read(&now), Findings::default());
        // BPF_PROG_TYPE_XDP, XDP_DROP; BPF_XDP, XDP_FLAGS_SKB_MODE
        let attached = attach_bpf(6, 1, [ifindex("br0"), 37, 2, 0, 0, 0, 0]).expect("attach");
        let found = guard.read(&now);
        assert_eq!(left(&found, &now), each(&["br0"], V46, &["in"]), "{:#?}", found.notes);
        drop(attached);
        assert_eq!(guard.read(&now), Findings::default());
    });
}

/// Without the kernel's list of hooks the program is seen from every namespace, and disturbs the tests that run beside it: so
/// it runs by itself, when asked to.
#[test]
fn bpf_netfilter_program() {
    if std::env::var_os("BYPATH_ALONE").is_none() {
        println!(
            "SKIPPED bpf_netfilter_program: `BYPATH_ALONE=1 cargo test --test guard bpf_netfilter` runs it by itself"
        );
        return;
    }
    isolated("bpf_netfilter_program", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        let now = links(PORTS);
        // BPF_PROG_TYPE_NETFILTER, NF_ACCEPT; BPF_NETFILTER: family, hook, priority, flags
        let attached = attach_bpf(32, 1, [0, 45, 0, u32::from(libc::AF_INET as u16), 2, 1, 0]).expect("attach");
        let found = guard.read(&now);
        assert_eq!(left(&found, &now), each(PORTS, V4, BOTH_WAYS), "{:#?}", found.notes);
        drop(attached);
        assert_eq!(guard.read(&now), Findings::default());
    });
}

/// Two kinds at once: both are named, and the one that stays keeps what it touches.
#[test]
fn kinds_overlap() {
    isolated("kinds_overlap", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        sh(
            "nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; }; add rule ip t c ct event set new'",
        );
        sh("tc qdisc add dev d1 root stab overhead 20 linklayer atm tbf rate 1mbit burst 10k latency 10ms");
        let now = links(PORTS);
        let found = guard.read(&now);
        let mut expected = each(PORTS, V4, BOTH_WAYS);
        expected.insert("d1 6 out".into());
        assert_eq!(left(&found, &now), expected);
        assert_eq!(found.notes.iter().filter(|n| n.leaves).count(), 2, "{:#?}", found.notes);
        let why = found
            .on(ifindex("d1"), Family::V6)
            .and_then(|f| f.egress.clone())
            .expect("left");
        assert!(why.starts_with("qdisc tbf"), "{why}");
        sh("nft flush ruleset");
        assert_eq!(
            left(&guard.read(&now), &now),
            BTreeSet::from(["d1 4 out".into(), "d1 6 out".into()])
        );
    });
}

/// The budget: ten readings a second on the control thread must cost nearly nothing. The bounds are those of the machine
/// in quiet times 10, so that a busy one passes; what was measured is printed.
#[test]
fn reading_is_cheap() {
    isolated("reading_is_cheap", || {
        let mut guard = Guard::open().expect("guard");
        let mut made = 0;
        for (count, bound_us) in [(4, 10_000), (64, 50_000)] {
            for n in made..count {
                sh(&format!(
                    "ip link add d{n} type veth peer p{n}; ip link set d{n} up; ip link set p{n} up"
                ));
            }
            made = count;
            let names: Vec<_> = (0..count).map(|n| format!("d{n}")).collect();
            let now = links(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let rules: String = (0..1000)
                .map(|n| format!("add rule ip t c ip saddr 192.0.2.1 tcp dport {n} drop; "))
                .collect();
            for (ruleset, what) in [(String::new(), "no rules"), (rules, "1000 rules")] {
                sh(&format!(
                    "nft 'flush ruleset; add table ip t; add chain ip t c; {ruleset}'"
                ));
                let start = Instant::now();
                guard.read(&now);
                let first = start.elapsed().as_micros();
                let mut times: Vec<_> = (0..100)
                    .map(|_| {
                        let start = Instant::now();
                        assert!(!guard.read(&now).leaves());
                        start.elapsed().as_micros()
                    })
                    .collect();
                times.sort_unstable();
                println!(
                    "read() with {count} ports, {what}: {} us (median), first after the change {first} us",
                    times[50]
                );
                assert!(times[50] < bound_us);
            }
        }
    });
}
