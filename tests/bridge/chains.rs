//! Chains of family bridge, at each of their hooks, as nft and as ebtables write them: from the start, and while frames go.
//! They see what goes from port to port, what goes up, and what comes down.

use crate::lab::packet::udp;
use crate::lab::plan;
use crate::lab::twin::{Share, Twin};
use crate::net::{at, bridge, bridge_mac, carried, finish, learn, plain, ruleset, setup, talk};
use crate::netfilter::{inject, start};

/// What a chain of family bridge has to say, at each hook, from the start and while frames go.
fn of_family_bridge(name: &str, chains: &str) {
    for live in [false, true] {
        let words = [ruleset(&format!("table bridge t {{ {chains} }}"))];
        let mut twin = start(&format!("{name}_{live}"), false, if live { &[] } else { &words });
        let all = |twin: &mut Twin| {
            talk(twin, at(0, 0), at(1, 0), 40);
            talk(twin, at(0, 1), at(1, 1), 40);
            for v6 in [false, true] {
                inject(twin, 0, (0..10).map(|from| at(0, 0).udp(at(1, 0), v6, (from, 9))));
                let (src, dst) = match v6 {
                    false => (at(0, 0).v4(), plan::behind4(2, 1)),
                    true => (at(0, 0).v6(), plan::behind6(2, 1)),
                };
                inject(
                    twin,
                    0,
                    (0..10).map(|from| at(0, 0).sends_to(bridge_mac(0), udp(src, dst, (from, 9), 10))),
                );
                inject(twin, 2, (0..10).map(|from| udp(dst, src, (9, from), 10).at(2)));
                inject(
                    twin,
                    0,
                    (0..4).map(|from| {
                        at(0, 0)
                            .udp(at(1, 0), v6, (from, 9))
                            .with(|p| p.tags = vec![(0x8100, 5)])
                    }),
                );
            }
            twin.inject(0, &plain(at(0, 0), [0xff; 6], 3));
        };
        all(&mut twin);
        if live {
            twin.change(&[&words[0]]);
            all(&mut twin);
            twin.change(&["nft flush ruleset"]);
            all(&mut twin);
        }
        finish(twin, Share::AtLeast(if live { 0.5 } else { 0.0 }));
    }
}

#[test]
fn bridge_chain_prerouting() {
    of_family_bridge(
        "prerouting",
        "chain c { type filter hook prerouting priority -300 ; ip protocol udp udp dport 9 counter drop ; \
         ether saddr 02:00:00:01:01:00 counter drop ; }",
    );
}

#[test]
fn bridge_chain_forward() {
    of_family_bridge(
        "forward",
        "chain c { type filter hook forward priority -200 ; ether type ip6 counter drop ; iifname \"d0\" oifname \"d1\" \
         ether type 0x88b5 counter drop ; vlan id 5 counter drop ; }",
    );
}

#[test]
fn bridge_chain_postrouting() {
    of_family_bridge(
        "postrouting",
        "chain c { type filter hook postrouting priority 300 ; oifname \"d0\" udp dport 0-100 counter drop ; \
         ether daddr 02:00:00:01:01:01 counter drop ; }",
    );
}

#[test]
fn bridge_chains_input_and_output() {
    of_family_bridge(
        "input_output",
        "chain i { type filter hook input priority 0 ; udp dport 9 counter drop ; } \
         chain o { type filter hook output priority 0 ; udp sport 9 counter drop ; }",
    );
}

#[test]
fn bridge_chain_with_marks_and_sets() {
    of_family_bridge(
        "marks",
        "set macs { type ether_addr ; elements = { 02:00:00:01:00:00, 02:00:00:01:01:01 } } \
         chain c { type filter hook prerouting priority 0 ; ether saddr @macs meta mark set 7 ; } \
         chain f { type filter hook forward priority 0 ; policy accept ; meta mark 7 udp dport 3 counter drop ; \
         ether daddr @macs counter ; }",
    );
}

/// A chain of family bridge that changes frames.
#[test]
fn bridge_chain_that_changes_frames() {
    of_family_bridge(
        "changes",
        "chain c { type filter hook prerouting priority -300 ; udp dport 9 ether daddr set 02:00:00:00:00:b0 ; } \
         chain p { type filter hook postrouting priority 0 ; ip ttl set 33 ; }",
    );
}

/// The same rules by `ebtables`.
#[test]
fn ebtables() {
    let mut lines = bridge(0, &[0, 1, 2]);
    lines.extend(
        [
            "ebtables-nft -A FORWARD -p IPv4 --ip-proto udp --ip-dport 9 -j DROP",
            "ebtables-nft -A FORWARD -s 02:00:00:01:02:00 -j DROP",
            "ebtables-nft -A INPUT -p IPv6 -j DROP",
            "ebtables-nft -A FORWARD -p 0x88b5 -o d2 -j DROP",
        ]
        .map(str::to_owned),
    );
    let mut twin = Twin::start(setup("ebtables", 3, lines));
    let stations = [at(0, 0), at(0, 2), at(1, 0), at(2, 0)];
    learn(&mut twin, &stations);
    for from in stations {
        for to in stations.into_iter().filter(|to| to.port != from.port) {
            twin.inject(from.port, &carried(from, to, 20));
            inject(
                &mut twin,
                from.port,
                (0..5).map(|number| from.udp(to, false, (number, 9))),
            );
        }
    }
    finish(twin, Share::AtLeast(0.2));
}
