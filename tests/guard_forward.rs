//! The guard and the one shape of forward chain that is carried, against a real kernel: what nft makes of rules is compiled
//! and asked about packets; each kind of rule that is not carried is named; and what only tracks leaves nothing.

mod netns;

use bypath::mirror::guard::{Findings, Guard};
use bypath::packet::Family;
use bypath::table::conntrack::CtState;
use bypath::table::filter;
use bypath::table::iface::Iface;
use netns::{ifindex, isolated, links, readable, sh};

const PORTS: &[&str] = &["d0", "d1"];
const STATES: [CtState; 5] = [
    CtState::INVALID,
    CtState::ESTABLISHED,
    CtState::RELATED,
    CtState::NEW,
    CtState::UNTRACKED,
];

fn ports() {
    for n in 0..2 {
        sh(&format!(
            "ip link add d{n} type veth peer p{n}; ip link set d{n} up; ip link set p{n} up"
        ));
    }
}

fn iface(name: &str) -> Iface {
    Iface {
        ifindex: ifindex(name),
        name: name.into(),
        ..Iface::default()
    }
}

/// The states in which a packet passes, as letters: i e r n u.
fn passes(found: &Findings, family: Family, iif: &str, oif: &str) -> String {
    let (iif, oif) = (iface(iif), iface(oif));
    let pass = |state: &CtState| filter::run(&found.filter[family as usize], *state, &iif, &oif).is_ok();
    STATES.iter().filter(|s| pass(s)).map(|s| &s.word()[..1]).collect()
}

/// Reads after a change, which must have been told.
fn after(guard: &mut Guard, change: &str) -> Findings {
    sh(change);
    assert!(readable(&guard.fds(), 1000), "{change}: no event");
    guard.read(&links(PORTS))
}

/// Rules of a chain at forward, and who passes from d0 to d1 and back.
const CARRIED: &[(&str, &str, &str)] = &[
    (
        "ct state established,related accept; ct state new iifname d0 accept; drop",
        "ern",
        "er",
    ),
    ("ct state invalid drop", "ernu", "ernu"),
    ("ct state != { new, established } drop", "en", "en"),
    (
        "ct state vmap { established : accept, related : accept, invalid : drop }; iifname != \"d1\" accept; drop",
        "ernu",
        "er",
    ),
    (
        "ct state & (new | untracked) == untracked drop; ct state untracked accept",
        "iern",
        "iern",
    ),
    ("iifname \"d*\" oifname d1 accept; drop", "iernu", ""),
    ("iif d1 oif d0 drop", "iernu", ""),
    ("iifname { d1, lo } drop", "iernu", ""),
    ("iif != { d0, lo } drop", "iernu", ""),
    ("oifname vmap { d0 : drop, d1 : accept }; drop", "iernu", ""),
    (
        "ct state new; ct state established comment \"nothing\"; iifname d0 accept; ct state new drop",
        "iernu",
        "ieru",
    ),
    ("accept; drop", "iernu", "iernu"),
    ("drop", "", ""),
];

#[test]
fn what_is_carried_says_what_the_kernel_says() {
    isolated("what_is_carried_says_what_the_kernel_says", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        for (table, families) in [
            ("ip", &[Family::V4][..]),
            ("ip6", &[Family::V6]),
            ("inet", &Family::ALL),
        ] {
            for (rules, there, back) in CARRIED {
                let rules: Vec<_> = rules
                    .split("; ")
                    .map(|rule| format!("add rule {table} t c {rule}"))
                    .collect();
                let rules = rules.join("; ");
                let add = format!(
                    "nft 'add table {table} t; add chain {table} t c {{ type filter hook forward priority 0; }}; \
                     {rules}'"
                );
                let found = after(&mut guard, &add);
                assert!(
                    !found.leaves() && found.by_iface.is_empty(),
                    "{add}: {:#?}",
                    found.notes
                );
                let says = format!("nft table {table} t, chain c: base chain at forward with");
                assert!(found.notes.iter().any(|n| n.text.contains(&says)), "{:#?}", found.notes);
                for family in Family::ALL {
                    let touched = families.contains(&family);
                    let expected = if touched { [*there, *back] } else { ["iernu"; 2] };
                    let is = [("d0", "d1"), ("d1", "d0")].map(|(iif, oif)| passes(&found, family, iif, oif));
                    assert_eq!(is, expected, "{add}: {family:?} {:#?}", found.filter);
                    assert_eq!(
                        found.tracked[family as usize],
                        touched && add.contains("ct state"),
                        "{add}: {family:?}"
                    );
                }
                assert_eq!(guard.read(&links(PORTS)), found, "{add}: read again");
                let found = after(&mut guard, &format!("nft delete table {table} t"));
                assert_eq!(found, Findings::default(), "{add}: removed");
            }
        }
    });
}

/// Rules that are not carried, with what is said of them.
const NOT_CARRIED: &[(&str, &str)] = &[
    ("counter accept", "counter"),
    ("ct state new counter", "counter"),
    ("log prefix \"x\"", "log"),
    ("limit rate 1/second accept", "limit"),
    ("ip saddr 192.0.2.1 drop", "meta nfproto"),
    ("tcp dport 22 accept", "meta l4proto"),
    ("meta nfproto ipv4 drop", "meta nfproto"),
    ("meta mark 1 drop", "meta mark"),
    ("iiftype ether drop", "meta iiftype"),
    ("oifgroup 1 drop", "meta oifgroup"),
    ("meta mark set 1", "immediate"),
    ("jump other", "jump"),
    ("goto other", "goto"),
    ("return", "return"),
    ("continue", "continue"),
    ("reject", "reject"),
    ("ct mark 1 accept", "ct mark"),
    ("ct status snat accept", "ct status"),
    ("ct direction reply accept", "ct direction"),
    ("ct state @states accept", "lookup in set states"),
    ("ct state vmap @verdicts", "lookup in set verdicts"),
    ("iifname { \"d*\", lo } accept", "lookup in set __set"),
    ("iifname . oifname { d0 . d1 } accept", "lookup in set __set"),
    ("ct state vmap { new : jump other }", "lookup in set __map"),
    ("ct state > 3 accept", "byteorder"),
    ("ct state 1-3 accept", "byteorder"),
];

#[test]
fn every_other_rule_leaves_its_family_and_is_named() {
    isolated("every_other_rule_leaves_its_family_and_is_named", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        sh("nft 'add table inet t; add chain inet t other; \
            add set inet t states { type ct_state; elements = { new }; }; \
            add map inet t verdicts { type ct_state : verdict; elements = { new : drop }; }; \
            add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ct state established accept'");
        let clean = guard.read(&links(PORTS));
        assert!(!clean.leaves() && clean.filter[0].len() == 1, "{:#?}", clean.notes);
        for (rule, what) in NOT_CARRIED {
            let found = after(&mut guard, &format!("nft add rule inet t c '{rule}'"));
            let says = format!(", {what}");
            let note = found.notes.iter().find(|n| n.leaves).expect(rule);
            assert!(
                note.text.contains(
                    "nft table inet t, chain c: base chain at forward with 2 rules; not carried: rule handle"
                ) && note.text.contains(&says),
                "{rule}: {:#?}",
                found.notes
            );
            assert!(found.filter.iter().all(|chains| chains.is_empty()), "{rule}");
            assert_eq!(found.tracked, [true; 2], "{rule}");
            for port in PORTS {
                for family in Family::ALL {
                    let finding = found.on(ifindex(port), family).expect(rule);
                    assert!(finding.ingress.is_some() && finding.egress.is_some(), "{rule}");
                }
            }
            let back = after(
                &mut guard,
                "nft flush chain inet t c; nft add rule inet t c ct state established accept",
            );
            assert_eq!(left_and_filter(&back), left_and_filter(&clean), "{rule}: removed");
        }
    });
}

/// Handles of rules differ between readings: without the notes.
fn left_and_filter(found: &Findings) -> Findings {
    Findings {
        notes: Vec::new(),
        ..found.clone()
    }
}

#[test]
fn chains_of_a_hook_all_have_their_say() {
    isolated("chains_of_a_hook_all_have_their_say", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        let found = after(
            &mut guard,
            "nft 'add table ip t; add chain ip t late { type filter hook forward priority 10; policy drop; }; \
             add rule ip t late ct state new,established accept; \
             add chain ip t same { type filter hook forward priority 10; }; add rule ip t same iifname lo drop; \
             add chain ip t early { type filter hook forward priority -5; }; add rule ip t early ct state new drop; \
             add table inet u; add chain inet u c { type filter hook forward priority 0; policy drop; }; \
             add rule inet u c oifname d1 accept'",
        );
        assert!(!found.leaves(), "{:#?}", found.notes);
        let names = |family: Family| {
            let chains = found.filter[family as usize].iter();
            chains.map(|chain| chain.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            names(Family::V4),
            [
                "table ip t, chain early",
                "table inet u, chain c",
                "table ip t, chain same",
                "table ip t, chain late"
            ]
        );
        assert_eq!(names(Family::V6), ["table inet u, chain c"]);
        assert_eq!(passes(&found, Family::V4, "d0", "d1"), "e");
        assert_eq!(passes(&found, Family::V4, "d1", "d0"), "");
        assert_eq!(passes(&found, Family::V6, "d0", "d1"), "iernu");
        assert_eq!(found.tracked, [true, false]);
        // One that cannot be carried takes its family with it; the other goes on.
        let found = after(&mut guard, "nft add rule ip t same counter");
        assert_eq!(found.filter[0].len(), 0);
        assert_eq!(found.filter[1].len(), 1);
        assert!(found.on(ifindex("d0"), Family::V4).is_some_and(|f| f.ingress.is_some()));
        assert!(found.on(ifindex("d0"), Family::V6).is_none_or(|f| f.ingress.is_none()));
        // A dormant table takes part in nothing, but what it tracks is tracked.
        let found = after(&mut guard, "nft 'add table ip t { flags dormant; }'");
        assert!(!found.leaves(), "{:#?}", found.notes);
        assert_eq!(found.filter.each_ref().map(|chains| chains.len()), [1, 1]);
        assert_eq!(found.tracked, [true, false]);
    });
}

#[test]
fn a_chain_is_refused_as_a_whole() {
    isolated("a_chain_is_refused_as_a_whole", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        let chain = "add table ip t; add chain ip t c { type filter hook forward priority 0; }";
        let rules = |count: usize| "add rule ip t c iifname lo drop; ".repeat(count);
        let found = after(&mut guard, &format!("nft '{chain}; {}'", rules(1024)));
        assert!(!found.leaves() && found.filter[0][0].rules.len() == 1024);
        let found = after(&mut guard, "nft add rule ip t c iifname lo drop");
        assert!(found.leaves() && found.filter[0].is_empty());
        assert!(
            found
                .notes
                .iter()
                .any(|n| n.text.contains("with 1025 rules, more than 1024")),
            "{:#?}",
            found.notes
        );
        let found = after(&mut guard, "nft delete table ip t");
        assert_eq!(found, Findings::default());
        // Rules of iptables-nft, and the counters of its chains.
        let found = after(
            &mut guard,
            "iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        );
        assert!(found.leaves() && found.tracked == [true, false], "{:#?}", found.notes);
        assert!(
            found.notes.iter().any(|n| n.leaves && n.text.contains("chain FORWARD")),
            "{:#?}",
            found.notes
        );
    });
}

/// What only tracks: family by family, and nothing is left.
const TRACKS: &[(&str, [bool; 2])] = &[
    (
        "nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c ct state new counter'",
        [true, false],
    ),
    (
        "nft 'add table ip6 t; add chain ip6 t c { type filter hook output priority 0; }; add rule ip6 t c ct mark 1 log'",
        [false, true],
    ),
    (
        "nft 'add table inet t; add chain inet t c; add rule inet t c ct original ip saddr 192.0.2.1'",
        [true, true],
    ),
    (
        "nft 'add table ip t; add chain ip t c; add rule ip t c ct bytes > 100'",
        [true, false],
    ),
    (
        "iptables-nft -A INPUT -m conntrack --ctstate NEW -j ACCEPT",
        [true, false],
    ),
    ("ip6tables-nft -A OUTPUT -m connmark --mark 1", [false, true]),
    ("iptables-nft -A INPUT -m state --state NEW -j ACCEPT", [true, false]),
];

#[test]
fn what_only_tracks_leaves_nothing() {
    isolated("what_only_tracks_leaves_nothing", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        for (add, tracked) in TRACKS {
            let found = after(&mut guard, add);
            assert_eq!(found.tracked, *tracked, "{add}: {:#?}", found.notes);
            assert!(
                !found.leaves() && found.by_iface.is_empty(),
                "{add}: {:#?}",
                found.notes
            );
            assert!(found.filter.iter().all(|chains| chains.is_empty()), "{add}");
            assert!(
                found
                    .notes
                    .iter()
                    .any(|n| n.text.starts_with("conntrack active for IP")),
                "{add}: {:#?}",
                found.notes
            );
            let found = after(&mut guard, "nft flush ruleset");
            assert_eq!(found.tracked, [false; 2], "{add}: removed");
            assert!(!found.leaves(), "{add}: {:#?}", found.notes);
        }
    });
}
