//! Rulesets of states and links: each kind of rule has its say about new, established, related, invalid and untracked
//! packets from either side; and such beside them that are not carried.

use crate::flow::{ACK, CLIENT, Flow, SERVER, SYN, c, s};
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::{OPEN, STRICT};
use crate::script::{Step, one, play};

/// Packets of every state, from both sides.
fn of_every_state(twin: &mut Twin) {
    let udp = |from: usize| one("udp", from, move |flow: &Flow| flow.udp(from, 20));
    let error = |from: usize| {
        one("error", from, move |flow: &Flow| {
            flow.unreachable(from, &flow.udp(1 - from, 20))
        })
    };
    play(
        twin,
        "from the client",
        [udp(CLIENT), udp(SERVER), udp(CLIENT), error(SERVER), error(CLIENT)],
    );
    play(
        twin,
        "from the server",
        [udp(SERVER), udp(CLIENT), udp(SERVER), error(CLIENT), error(SERVER)],
    );
    let tcp = [
        Step::from(c(SYN, 0, 0).mss()),
        Step::from(s(SYN | ACK, 0, 1).mss()),
        Step::from(c(ACK, 1, 1)),
        Step::from(s(ACK, 1, 1).data(10)),
        Step::from(c(ACK, 1, 9_000_000)),
        Step::from(c(ACK, 1, 11)),
    ];
    play(twin, "tcp", tcp);
    play(twin, "invalid", [Step::from(c(0, 1, 1)), Step::from(s(0, 1, 1))]);
}

fn judge(name: &str, rules: &str, least: f64) {
    let ruleset =
        format!("table inet fw {{\n chain forward {{\n type filter hook forward priority 0;\n {rules}\n }}\n}}");
    let mut twin = Twin::start(Setup {
        fence: crate::lab::twin::Fence::None,
        ..Setup::tracked(name, 2, &ruleset)
    });
    of_every_state(&mut twin);
    twin.finish(Share::AtLeast(least));
}

#[test]
fn state_verdicts() {
    judge("rules_new_drop", "policy accept\n ct state new drop", 0.0);
    judge(
        "rules_established_only",
        "policy drop\n ct state established accept",
        0.0,
    );
    judge("rules_related_drop", "policy accept\n ct state related drop", 0.5);
    judge(
        "rules_invalid_accept",
        "policy drop\n ct state invalid,new,established accept",
        0.5,
    );
    judge(
        "rules_not_new",
        "policy accept\n ct state != new accept\n iifname \"d1\" drop",
        0.3,
    );
    judge(
        "rules_untracked",
        "policy accept\n ct state untracked drop\n ct state new accept",
        0.6,
    );
}

#[test]
fn names_of_interfaces() {
    judge(
        "rules_oifname",
        "policy drop\n ct state established,related accept\n oifname \"d1\" ct state new accept",
        0.4,
    );
    judge(
        "rules_wildcard",
        "policy drop\n iifname \"d*\" oifname \"d1\" accept\n ct state established accept",
        0.4,
    );
    judge(
        "rules_not_named",
        "policy drop\n ct state established,related accept\n iifname != \"d1\" accept",
        0.4,
    );
    judge(
        "rules_iif",
        "policy drop\n ct state established,related accept\n iif \"d0\" oif \"d1\" accept",
        0.4,
    );
    judge(
        "rules_nothing_matches",
        "policy drop\n ct state established,related accept\n iifname \"eth*\" accept",
        0.0,
    );
}

/// Several chains: each may drop, none can make good what another has dropped.
#[test]
fn several_chains() {
    let ruleset = "table inet a {
        chain late { type filter hook forward priority 10; policy accept; ct state invalid drop; }
        chain early { type filter hook forward priority -10; policy accept; iifname \"d1\" ct state new drop; }
    }
    table ip b { chain f { type filter hook forward priority 0; policy accept; ct state related drop; } }
    table ip6 b { chain f { type filter hook forward priority 0; policy accept; ct state invalid drop; } }";
    let mut twin = Twin::start(Setup::tracked(
        "rules_several_chains",
        2,
        &ruleset.replace("; }", ";\n }").replace("} }", "}\n}"),
    ));
    of_every_state(&mut twin);
    twin.finish(Share::AtLeast(0.4));
}

/// One family is tracked, the other is not.
#[test]
fn one_family() {
    for (name, family, fence) in [
        ("rules_ip", "ip", crate::lab::twin::Fence::V4),
        ("rules_ip6", "ip6", crate::lab::twin::Fence::V6),
    ] {
        let ruleset = STRICT.replace("table inet", &format!("table {family}"));
        let mut twin = Twin::start(Setup {
            fence,
            ..Setup::tracked(name, 2, &ruleset)
        });
        of_every_state(&mut twin);
        twin.finish(Share::AtLeast(0.5));
    }
}

/// What sets something about connections leaves its family to the kernel.
#[test]
fn rules_that_stay() {
    let mut twin = Twin::start(Setup {
        fence: crate::lab::twin::Fence::None,
        ..Setup::tracked(
            "rules_events",
            2,
            "table inet fw {
                chain forward {
                    type filter hook forward priority 0; policy accept;
                    ct event set new
                    ct state invalid drop
                }
            }",
        )
    });
    of_every_state(&mut twin);
    twin.finish(Share::Nothing);
}

/// A rule that is not carried leaves what reaches it, and no more.
#[test]
fn rules_that_some_packets_reach() {
    judge(
        "rules_port",
        "policy accept\n tcp dport 443 accept\n ct state invalid drop",
        0.6,
    );
    judge(
        "rules_counter",
        "policy accept\n ct state new counter\n ct state invalid drop",
        0.6,
    );
    judge(
        "rules_log",
        "policy accept\n ct state invalid log prefix \"x\"\n ct state invalid drop",
        0.6,
    );
    judge(
        "rules_limit",
        "policy accept\n ct state new limit rate 1000/second accept\n ct state invalid drop",
        0.5,
    );
}

/// A rule in another chain has a family tracked just as well.
#[test]
fn tracked_by_another_chain() {
    let ruleset = "table inet fw {
        chain input {
            type filter hook input priority 0; policy accept;
            ct state invalid drop
        }
    }";
    let mut twin = Twin::start(Setup::tracked("rules_of_input", 2, ruleset));
    of_every_state(&mut twin);
    twin.finish(Share::AtLeast(0.6));
}

#[test]
fn counters() {
    let setup = Setup::tracked("rules_acct", 2, OPEN).with(&["sysctl net.netfilter.nf_conntrack_acct=1"]);
    let mut twin = Twin::start(setup);
    of_every_state(&mut twin);
    let udp = |from: usize| one("udp", from, move |flow: &Flow| flow.udp(from, 500));
    play(
        &mut twin,
        "long",
        [udp(CLIENT), udp(SERVER), udp(CLIENT), udp(CLIENT), udp(SERVER)],
    );
    twin.finish(Share::AtLeast(0.7));
}
