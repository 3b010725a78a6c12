//! The guard and chains at forward, against a real kernel: what nft makes of rules is read and asked about packets; each kind
//! of rule that is not carried is named, and leaves nothing but what reaches it; and what only tracks leaves nothing.

mod netns;

use bypath::mirror::guard::{Findings, Guard, Note};
use bypath::packet::{Family, PortIndex};
use bypath::port::MemPool;
use bypath::stage::prerouting::{Aside, Of, Tracked};
use bypath::stage::rules::{AtHook, run};
use bypath::stage::rx::parse_bytes;
use bypath::table::Snapshot;
use bypath::table::conntrack::CtState;
use bypath::table::iface::Iface;
use bypath::table::rules::carried::Depends;
use bypath::table::rules::interpret::{Changes, Outcome};
use bypath::table::rules::live::Point;
use etherparse::PacketBuilder;
use netns::{ifindex, isolated, links, readable, sh};
use std::io::Write;
use std::ops::ControlFlow::Continue;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    STATES
        .iter()
        .filter(|state| outcome(found, family, iif, oif, **state) == Outcome::Accept)
        .map(|state| &state.word()[..1])
        .collect()
}

/// What the rules say of an UDP packet without a connection.
fn outcome(found: &Findings, family: Family, iif: &str, oif: &str, state: CtState) -> Outcome {
    let ethernet = PacketBuilder::ethernet2([2; 6], [2, 0, 0, 0, 0, 1]);
    let ip = match family {
        Family::V4 => ethernet.ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64),
        Family::V6 => ethernet.ipv6([0x20; 16], [0x21; 16], 64),
    };
    let mut bytes = Vec::new();
    ip.udp(1000, 53).write(&mut bytes, b"?").expect("a frame");
    let Continue(mut packet) = parse_bytes(&bytes, PortIndex(0), &[2, 0, 0, 0, 0, 1]) else {
        panic!("it is right");
    };
    let mut frame = MemPool::new(1, 2048, 256).take(1).remove(0);
    frame.fill(&bytes);
    let (iif, oif) = (iface(iif), iface(oif));
    let tracked = Tracked {
        state,
        of: Of::Nothing,
        kill: false,
    };
    let at = AtHook {
        point: Point::Forward,
        packet: &mut packet,
        frame: &mut frame,
        iif: &iif,
        oif: Some((&oif, 1500)),
        ports: None,
        tracked: Some(&tracked),
        aside: &mut Aside::default(),
        snapshot: &Snapshot::default(),
        now: 0,
    };
    run(at, &found.rules, 0, &mut Changes::default())
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
    ("counter; udp dport 53 counter accept; drop", "iernu", "iernu"),
    ("tcp dport 53 accept; udp dport { 1-52, 54 } accept; drop", "", ""),
    ("meta l4proto udp ct state { new, related } accept; drop", "rn", "rn"),
    ("jump other; ct state new drop", "ieru", "ieru"),
    ("ct state new goto last; accept", "ieru", "ieru"),
    ("ct state @states accept; drop", "n", "n"),
    ("ct state vmap @verdicts", "ieru", "ieru"),
    ("ct state vmap { new : jump last, invalid : drop }", "eru", "eru"),
    (
        "iifname { \"d*\", lo } oifname { d1, \"e*\" } accept; drop",
        "iernu",
        "",
    ),
    ("iifname . oifname { d0 . d1 } accept; drop", "iernu", ""),
    ("ct state > 3 accept; drop", "rnu", "rnu"),
    (
        "meta mark 0 meta length 29-49 ct state != 2-4 accept; drop",
        "inu",
        "inu",
    ),
    ("iiftype ether ct state new drop", "ieru", "ieru"),
    ("ct mark 1 drop; ct direction reply drop", "iernu", "iernu"),
    // There is no connection.
    ("ct mark set 7 ct state new drop; ct mark 7 drop", "ieru", "ieru"),
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
                    "nft 'add table {table} t; add chain {table} t other; add chain {table} t last; \
                     add rule {table} t last drop; add rule {table} t other ct state related return; \
                     add set {table} t states {{ type ct_state; elements = {{ new }}; }}; \
                     add map {table} t verdicts {{ type ct_state : verdict; elements = {{ new : drop }}; }}; \
                     add chain {table} t c {{ type filter hook forward priority 0; }}; \
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
                    assert_eq!(is, expected, "{add}: {family:?} {:#?}", found.rules);
                    assert_eq!(found.tracked[family as usize], touched, "{add}: {family:?}");
                }
                let depends = found.rules.at(families[0], Point::Forward).depends;
                let each = ["length", "status"].iter().any(|word| rules.contains(word));
                assert_eq!(depends == Depends::Packet, each, "{add}: {depends:?}");
                assert_eq!(guard.read(&links(PORTS)), found, "{add}: read again");
                let found = after(&mut guard, &format!("nft delete table {table} t"));
                assert_eq!(found, Findings::default(), "{add}: removed");
            }
        }
    });
}

/// Rules that are not carried, with what is said of them.
const NOT_CARRIED: &[(&str, &str)] = &[
    ("log prefix \"x\"", "log"),
    ("reject", "reject"),
    ("meta hour \"10:00\"-\"11:00\" drop", "meta hour"),
    ("meta nftrace set 1", "meta nftrace set"),
    ("tcp dport set 9", "payload set"),
    ("fib saddr . iif type local drop", "fib"),
    ("meta mark set jhash ip saddr mod 3", "jhash without a seed"),
    ("update @seen { ip saddr }", "dynset"),
    ("ip saddr @seen drop", "a set that packets add to"),
    ("ip saddr @counted drop", "a set whose elements have a memory"),
    ("limit rate 1/second log", "limit, which has a memory"),
    (
        "counter name shared limit name shared drop",
        "limit, which has a memory",
    ),
];

#[test]
fn a_rule_that_is_not_carried_is_named_and_leaves_what_reaches_it() {
    isolated("a_rule_that_is_not_carried_is_named_and_leaves_what_reaches_it", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        sh(
            "nft 'add table inet t; add counter inet t shared; add limit inet t shared { rate 1/second; }; \
            add set inet t seen { type ipv4_addr; flags dynamic; size 9; }; \
            add set inet t counted { type ipv4_addr; counter; elements = { 192.0.2.9 }; }; \
            add chain inet t i { type filter hook input priority 0; }; add rule inet t i limit name shared drop; \
            add chain inet t c { type filter hook forward priority 0; }; add rule inet t c ct state established accept'",
        );
        let clean = guard.read(&links(PORTS));
        assert!(!clean.leaves() && clean.by_iface.is_empty(), "{:#?}", clean.notes);
        for (rule, what) in NOT_CARRIED {
            let found = after(&mut guard, &format!("nft add rule inet t c '{rule}'"));
            let note = found.notes.iter().find(|n| n.leaves).expect(rule);
            assert!(
                note.text.starts_with("nft table inet t, chain c, rule handle ")
                    && note.text.ends_with(&format!(" is not carried: {what}")),
                "{rule}: {:#?}",
                found.notes
            );
            assert!(found.by_iface.is_empty() && found.tracked == [true; 2], "{rule}");
            for family in Family::ALL {
                let says = outcome(&found, family, "d0", "d1", CtState::ESTABLISHED);
                assert_eq!(says, Outcome::Accept, "{rule}: another rule is before it");
            }
            let back = after(
                &mut guard,
                "nft flush chain inet t c; nft add rule inet t c ct state established accept",
            );
            assert!(!back.leaves() && back.by_iface.is_empty(), "{rule}: removed");
        }
        let found = after(&mut guard, "nft add rule inet t c meta l4proto udp log");
        for state in [CtState::NEW, CtState::INVALID] {
            let says = outcome(&found, Family::V4, "d0", "d1", state);
            assert!(matches!(says, Outcome::Punt(_)), "{says:?}");
        }
    });
}

/// Rules that leave their family, though not all packets reach them.
const LEAVES: &[(&str, &str)] = &[
    ("ct event set new", "ct set"),
    ("ct bytes > 1000 drop", "ct bytes"),
    ("tcp dport 80 ct original packets 3 counter", "ct packets"),
    ("ct avgpkt > 900 counter", "ct avgpkt"),
];

#[test]
fn what_reaches_further_leaves_its_family() {
    isolated("what_reaches_further_leaves_its_family", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        sh("nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; }'");
        for (rule, what) in LEAVES {
            let found = after(&mut guard, &format!("nft add rule ip t c '{rule}'"));
            let note = found.notes.iter().find(|n| n.leaves).expect(rule);
            assert!(note.text.contains(what), "{rule}: {:#?}", found.notes);
            for port in PORTS {
                let finding = found.on(ifindex(port), Family::V4).expect(rule);
                assert!(finding.ingress.is_some() && finding.egress.is_some(), "{rule}");
                assert!(found.on(ifindex(port), Family::V6).is_none_or(|f| f.ingress.is_none()));
            }
            let back = after(&mut guard, "nft flush chain ip t c");
            assert!(!back.leaves(), "{rule}: removed");
        }
    });
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
            let bases = found.rules.at(family, Point::Forward).bases.iter();
            bases
                .map(|base| found.rules.ruleset.describe(*base))
                .collect::<Vec<_>>()
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
        // What cannot be carried of one leaves no family.
        let found = after(&mut guard, "nft add rule ip t same log");
        assert!(found.leaves() && found.by_iface.is_empty());
        let say = |found: &Findings, family| outcome(found, family, "d0", "d1", CtState::ESTABLISHED);
        assert!(matches!(say(&found, Family::V4), Outcome::Punt(_)));
        assert_eq!(say(&found, Family::V6), Outcome::Accept);
        // A dormant table takes part in nothing, but what it tracks is tracked.
        let found = after(&mut guard, "nft 'add table ip t { flags dormant; }'");
        assert!(!found.leaves(), "{:#?}", found.notes);
        assert_eq!(
            Family::ALL.map(|family| found.rules.at(family, Point::Forward).bases.len()),
            [1, 1]
        );
        assert_eq!(found.tracked, [true, false]);
    });
}

/// A table that its owner leaves behind goes without a commit and without an event, rules and policy and all.
#[test]
fn a_table_goes_with_its_owner() {
    isolated("a_table_goes_with_its_owner", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        sh(
            "nft 'add table ip stays; add chain ip stays c { type filter hook forward priority 0; }; add rule ip stays c ct state new'",
        );
        let mut owner = Command::new("nft")
            .arg("-i")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("nft");
        let mut says = owner.stdin.take().expect("its input");
        writeln!(
            says,
            "add table ip t {{ flags owner; }}; add chain ip t c {{ type filter hook forward priority 1; policy drop; }}"
        )
        .expect("a command");
        let until = Instant::now() + Duration::from_secs(5);
        let read_until = |guard: &mut Guard, expected: &str| loop {
            let found = guard.read(&links(PORTS));
            if passes(&found, Family::V4, "d0", "d1") == expected {
                return found;
            }
            assert!(Instant::now() < until, "not `{expected}`: {:#?}", found.notes);
            std::thread::sleep(Duration::from_millis(50));
        };
        let with_it = read_until(&mut guard, "");
        drop(says);
        owner.wait().expect("nft");
        let without = read_until(&mut guard, "iernu");
        assert!(with_it.rules != without.rules, "what differs is published");
    });
}

#[test]
fn many_rules_and_those_of_iptables() {
    isolated("many_rules_and_those_of_iptables", || {
        ports();
        let mut guard = Guard::open().expect("guard");
        let chain = "add table ip t; add chain ip t c { type filter hook forward priority 0; }";
        let rules = "add rule ip t c iifname lo drop; ".repeat(1025);
        let found = after(&mut guard, &format!("nft '{chain}; {rules}'"));
        let base = found.rules.at(Family::V4, Point::Forward).bases[0];
        assert!(!found.leaves() && found.rules.ruleset[base].rules.len() == 1025);
        let found = after(&mut guard, "nft delete table ip t");
        assert_eq!(found, Findings::default());
        let found = after(
            &mut guard,
            "printf '*filter\\n:FORWARD DROP [0:0]\\n-A FORWARD -m conntrack --ctstate NEW -j ACCEPT\\nCOMMIT\\n' | \
             iptables-nft-restore",
        );
        assert!(!found.leaves() && found.tracked == [true, false], "{:#?}", found.notes);
        let found = after(&mut guard, "iptables-nft -A FORWARD -m recent --set");
        let named = |n: &Note| n.leaves && n.text.contains("chain FORWARD") && n.text.ends_with("xt match recent");
        assert!(found.notes.iter().any(named), "{:#?}", found.notes);
        let found = after(
            &mut guard,
            "iptables-nft -t nat -A POSTROUTING -j MASQUERADE; iptables-nft -F FORWARD",
        );
        assert!(
            !found.leaves() && found.rules.nat == [true, false],
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
    (
        "iptables-nft -A INPUT -m conntrack --ctstate NEW -j CONNMARK --set-mark 1",
        [true, false],
    ),
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
            assert!(
                Family::ALL
                    .iter()
                    .all(|family| found.rules.at(*family, Point::Forward).bases.is_empty()),
                "{add}"
            );
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
