//! `fib` in rules: the link that the routes name for an address, at prerouting before conntrack and behind it, and at forward;
//! with sources that come in by the wrong link, and such that no route leads to.

use crate::flow::{CLIENT, Flow, SERVER};
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::script::{Step, change, one, play_for};

fn udp(from: usize, length: usize) -> Step {
    one("udp", from, move |flow: &Flow| flow.udp(from, length))
}

/// Flows of both families: as they should be, from behind the other link, from nowhere.
fn flows() -> Vec<Flow> {
    let from = |four: bool, sources: Option<[&str; 2]>| {
        let mut flow = Flow::new(four);
        if let Some(sources) = sources {
            flow.ends[CLIENT] = sources[usize::from(!four)].parse().expect("an address");
        }
        flow
    };
    let sources = [
        None,
        Some(["10.101.77.77", "fd00:101::7777"]),
        Some(["198.51.100.7", "fd00:dead::7"]),
        Some(["10.0.0.3", "fd00:0:0:0::3"]),
        Some(["10.150.0.3", "fd00:150::3"]),
    ];
    sources
        .into_iter()
        .flat_map(|source| [true, false].map(|four| from(four, source)))
        .collect()
}

/// Other routes, as `ip` makes them.
const ROUTES: &[&str] = &[
    "ip route add unreachable 10.150.0.0/16",
    "ip route add unreachable fd00:150::/32",
];

fn judge(name: &str, ruleset: &str, least: f64, counters: usize) {
    let setup = Setup::tracked(name, 2, ruleset).with(ROUTES);
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..setup
    });
    twin.hand_over();
    let steps = || [udp(CLIENT, 20), udp(SERVER, 21), udp(CLIENT, 22), udp(SERVER, 23)];
    play_for(&mut twin, "before", &flows(), steps());
    let routes = change(&[
        "ip route replace 198.51.100.0/24 via 10.0.0.2",
        "ip route replace fd00:dead::/32 via fd00:0:0:0::2",
        "ip route replace 10.101.77.0/24 via 10.0.0.3",
    ]);
    play_for(&mut twin, "routes", &[], [routes]);
    play_for(&mut twin, "behind", &flows(), steps());
    let counted = twin.compare_counters();
    assert!(counted >= counters, "{name}: only {counted} counters counted anything");
    twin.finish(Share::AtLeast(least));
}

/// As firewalld has it.
#[test]
fn reverse_path() {
    judge(
        "fib_rpfilter",
        "table inet firewalld {
            chain raw_PREROUTING {
                type filter hook prerouting priority raw + 10; policy accept;
                icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
                meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop
                meta nfproto ipv4 fib saddr . mark . iif oif missing counter drop
            }
            chain filter_FORWARD {
                type filter hook forward priority filter + 10; policy accept;
                ct state { established, related } counter accept
                ct state invalid counter drop
                counter
            }
        }",
        0.4,
        4,
    );
}

#[test]
fn each_form() {
    judge(
        "fib_forms",
        "table inet fw {
            chain prerouting {
                type filter hook prerouting priority mangle; policy accept;
                fib saddr oif missing counter
                fib saddr oif exists counter
                fib saddr oif \"d0\" counter
                fib saddr oifname \"d1\" counter
                fib daddr oif \"d1\" counter
                fib daddr oifname \"d0\" counter
                fib saddr . iif oif \"d0\" counter
                fib saddr . iif oif 0 counter
                fib saddr . mark oif exists counter
                fib daddr . iif oif exists counter
                fib daddr . iif oif missing counter
            }
            chain forward {
                type filter hook forward priority filter; policy accept;
                fib saddr . iif oif missing counter
                fib saddr . iif oif exists counter
                fib daddr . iif oif exists counter drop
                fib daddr . iif oifname \"d0\" counter
                ct state invalid drop
            }
        }",
        0.4,
        10,
    );
}

/// Rules of `ip rule` and several nexthops: what is not sure is punted, and comes to the same.
#[test]
fn where_the_mirror_is_not_sure() {
    let ruleset = "table inet fw {
        chain prerouting {
            type filter hook prerouting priority raw; policy accept;
            meta length 60-79 meta mark set 5
            fib saddr . mark . iif oif missing counter drop
            fib saddr . iif oif exists counter
            fib saddr oif \"d0\" counter
        }
        chain forward {
            type filter hook forward priority filter; policy accept;
            fib saddr . iif oif exists counter
            ct state invalid counter drop
        }
    }";
    let setup = Setup::tracked("fib_unsure", 3, ruleset).with(&[
        "ip rule add fwmark 5 table 100",
        "ip -6 rule add fwmark 5 table 100",
        "ip route add unreachable default table 100",
        "ip rule add iif d1 from 10.101.0.0/16 table 101",
        "ip route add 10.100.0.0/16 via 10.0.0.2 table 101",
        "ip route replace 10.100.0.0/16 nexthop via 10.0.0.2 nexthop via 10.0.2.2",
    ]);
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..setup
    });
    twin.hand_over();
    let steps = [
        udp(CLIENT, 10),
        udp(SERVER, 11),
        udp(CLIENT, 40),
        udp(CLIENT, 12),
        udp(SERVER, 200),
    ];
    play_for(&mut twin, "udp", &flows(), steps);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.0));
}

/// A rule that asks for no mark is one about marks: what has one is routed by the next.
#[test]
fn a_rule_for_what_has_no_mark() {
    let ruleset = "table inet fw {
        chain prerouting {
            type filter hook prerouting priority mangle; policy accept;
            meta length 60-79 meta mark set 1
        }
    }";
    let setup = Setup::tracked("fib_no_mark", 3, ruleset).with(&[
        "ip rule add pref 100 fwmark 0/0xff table 100",
        "ip route add 10.101.0.0/16 via 10.0.2.2 table 100",
    ]);
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..setup
    });
    twin.hand_over();
    let steps = [
        udp(CLIENT, 10),
        udp(CLIENT, 40),
        udp(CLIENT, 12),
        udp(CLIENT, 45),
        udp(CLIENT, 200),
    ];
    play_for(&mut twin, "udp", &flows(), steps);
    twin.finish(Share::AtLeast(0.3));
}
