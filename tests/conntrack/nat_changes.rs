//! NAT whose configuration changes while connections live: chains that come and go, an address, a way.

use crate::flow::{ACK, CLIENT, SERVER, c};
use crate::lab::packet::{neighbor_mac, text};
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat::start;
use crate::nat_more::{postrouting, stream, udp, views};
use crate::script::{Step, play_each};

pub const MASQUERADE: &str = "oifname { \"d1\", \"d2\" } counter masquerade";

/// Packets of both ends that tell nothing of who answered.
pub fn talk() -> Vec<Step> {
    vec![udp(CLIENT, 20), udp(SERVER, 21), udp(CLIENT, 22), udp(SERVER, 23)]
}

/// Chains come and go while connections live.
#[test]
fn chains_come_and_go() {
    let mut twin = start("nat_come_and_go", &postrouting(MASQUERADE));
    let filter = "table inet fw {
        chain forward {
            type filter hook forward priority filter; policy accept;
            ct state invalid counter drop
        }
    }";
    let mut translated = views(|_| {});
    play_each(&mut twin, "translated", &mut translated, talk());
    twin.change(&[&format!("ruleset {filter}")]);
    play_each(&mut twin, "with a filter", &mut translated, talk());
    twin.change(&["nft delete table inet nat"]);
    let mut plain = views(|_| {});
    play_each(&mut twin, "without NAT, new", &mut plain, talk());
    play_each(
        &mut twin,
        "without NAT, old",
        &mut translated,
        [udp(CLIENT, 24), udp(CLIENT, 25)],
    );
    twin.change(&[&format!("ruleset {}", postrouting(MASQUERADE))]);
    play_each(&mut twin, "with NAT again, plain", &mut plain, talk());
    let mut later = views(|_| {});
    play_each(&mut twin, "with NAT again, new", &mut later, talk());
    twin.change(&["nft flush chain inet nat postrouting"]);
    play_each(&mut twin, "with an empty chain, old", &mut later, talk());
    let mut last = views(|_| {});
    play_each(&mut twin, "with an empty chain, new", &mut last, talk());
    twin.finish(Share::AtLeast(0.6));
}

/// A connection that was unanswered when NAT came: too late for it.
#[test]
fn chains_that_come_too_late() {
    let mut twin = start(
        "nat_too_late",
        "table inet fw {
            chain forward {
                type filter hook forward priority filter; policy accept;
                ct state invalid counter drop
            }
        }",
    );
    let mut old = views(|_| {});
    play_each(&mut twin, "before", &mut old, [udp(CLIENT, 20), udp(CLIENT, 21)]);
    twin.change(&[&format!("ruleset {}", postrouting(MASQUERADE))]);
    play_each(&mut twin, "after", &mut old, talk());
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.5));
}

/// The address of the link changes: what was masqueraded behind the old one is over.
#[test]
fn the_address_changes() {
    let mut twin = start("nat_address_changes", &postrouting(MASQUERADE));
    let mut old = views(|_| {});
    play_each(&mut twin, "before", &mut old, talk());
    let mut stream_of = views(|_| {});
    play_each(&mut twin, "before, tcp", &mut stream_of, stream().into_iter().take(6));
    let mac = text(neighbor_mac(SERVER, 0));
    let neighbour4 = format!("ip neigh replace 10.0.1.2 lladdr {mac} dev d1 nud permanent");
    let neighbour6 = format!("ip neigh replace fd00:0:0:1::2 lladdr {mac} dev d1 nud permanent");
    twin.change(&[
        "ip addr del 10.0.1.1/24 dev d1",
        "ip addr add 10.0.1.9/24 dev d1",
        "ip route replace 10.101.0.0/16 via 10.0.1.2",
        "ip addr del fd00:0:0:1::1/64 dev d1",
        "ip addr add fd00:0:0:1::9/64 dev d1 nodad",
        "ip route replace fd00:101::/32 via fd00:0:0:1::2",
        &neighbour4,
        &neighbour6,
    ]);
    play_each(&mut twin, "after", &mut old, talk());
    play_each(
        &mut twin,
        "after, tcp",
        &mut stream_of,
        [Step::from(c(ACK, 601, 12)), Step::from(c(ACK, 601, 12).data(9))],
    );
    let mut new = views(|_| {});
    play_each(&mut twin, "new", &mut new, talk());
    let seen = new[0].labs[0].seen_by(SERVER).ends[CLIENT];
    assert_eq!(seen.to_string(), "10.0.1.9");
    // The old one comes back.
    twin.change(&["ip addr add 10.0.1.1/24 dev d1"]);
    play_each(&mut twin, "with both", &mut new, talk());
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.6));
}

/// The way moves to another link, of another address.
#[test]
fn the_route_moves() {
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..Setup::tracked("nat_route_moves", 3, &postrouting(MASQUERADE))
    });
    twin.hand_over();
    let mut old = views(|_| {});
    play_each(&mut twin, "before", &mut old, talk());
    let mut stream_of = views(|_| {});
    play_each(&mut twin, "before, tcp", &mut stream_of, stream().into_iter().take(6));
    twin.change(&[
        "ip route replace 10.101.0.0/16 via 10.0.2.2",
        "ip route replace fd00:101::/32 via fd00:0:0:2::2",
    ]);
    old.iter_mut().for_each(|view| view.behind[SERVER] = 2);
    play_each(
        &mut twin,
        "moved, the first is dropped",
        &mut old,
        [udp(CLIENT, 19).lost()],
    );
    play_each(&mut twin, "moved", &mut old, talk());
    stream_of.iter_mut().for_each(|view| view.behind[SERVER] = 2);
    play_each(
        &mut twin,
        "moved, tcp",
        &mut stream_of,
        [Step::from(c(ACK, 601, 12)), Step::from(c(ACK, 601, 12).data(9))],
    );
    assert_eq!(old[0].labs[0].seen_by(SERVER).ends[CLIENT].to_string(), "10.0.2.1");
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.6));
}
