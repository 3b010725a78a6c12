//! NAT while things change: chains, addresses, routes; sockets of the box on a client's port; ports that run out. And the
//! renaming itself, judged.

use crate::flow::{ACK, CLIENT, Flow, SERVER, SYN, c, s};
use crate::lab::names::{Ends, ends_of};
use crate::lab::packet::{neighbor_mac, text};
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat::start;
use crate::nat_more::{clashing, datagrams, postrouting, stream, udp, views};
use crate::script::{Step, play_each};
use crate::view::View;
use std::net::UdpSocket;

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

/// NAT has gone, and the server sends to where the client really is: what would begin so has answers that are another's.
#[test]
fn servers_find_clients_when_nat_is_gone() {
    let mut twin = start("nat_gone", &postrouting(MASQUERADE));
    let mut translated = views(|_| {});
    play_each(&mut twin, "udp", &mut translated, talk());
    let mut streams = views(|_| {});
    play_each(&mut twin, "tcp", &mut streams, stream().into_iter().take(6));
    let filter = "table inet fw {
        chain forward {
            type filter hook forward priority filter; policy accept;
            ct state new counter
        }
    }";
    twin.change(&[&format!("ruleset {filter}"), "nft delete table inet nat"]);
    let untranslated = |views: &[View]| -> Vec<View> {
        let flow = |view: &View| Flow {
            beyond: None,
            ..view.labs[0].clone()
        };
        views.iter().map(|view| View::new(flow(view))).collect()
    };
    let [datagram, again] = [30, 31].map(|length| udp(SERVER, length));
    play_each(&mut twin, "udp", &mut untranslated(&translated), [datagram, again]);
    let syn = [Step::from(s(SYN, 900, 0).mss()), Step::from(s(SYN, 900, 0).mss())];
    play_each(&mut twin, "tcp", &mut untranslated(&streams), syn);
    twin.finish(Share::AtLeast(0.5));
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

/// The link gets another address, by which what begins goes out: what has the first one keeps it, and is not over.
#[test]
fn the_link_gets_another_address() {
    let mut twin = start("nat_another_address", &postrouting(MASQUERADE));
    let mut old = views(|_| {});
    play_each(&mut twin, "before", &mut old, talk());
    let mut stream_of = views(|_| {});
    play_each(&mut twin, "before, tcp", &mut stream_of, stream().into_iter().take(6));
    let mac = text(neighbor_mac(SERVER, 0));
    twin.change(&[
        "ip addr add 10.9.1.1/24 dev d1",
        "ip addr add fd00:9:0:1::1/64 dev d1 nodad",
        &format!("ip neigh replace 10.9.1.2 lladdr {mac} dev d1 nud permanent"),
        &format!("ip neigh replace fd00:9:0:1::2 lladdr {mac} dev d1 nud permanent"),
        "ip route replace 10.101.0.0/16 via 10.9.1.2",
        "ip route replace fd00:101::/32 via fd00:9:0:1::2",
    ]);
    let passes = talk().into_iter().map(Step::passes);
    play_each(&mut twin, "after", &mut old, passes);
    play_each(
        &mut twin,
        "after, tcp",
        &mut stream_of,
        [c(ACK, 601, 12).passes(), c(ACK, 601, 12).data(9).passes()],
    );
    let mut new = views(|_| {});
    play_each(&mut twin, "new", &mut new, talk());
    let seen = |views: &[View]| views[0].labs[0].seen_by(SERVER).ends[CLIENT].to_string();
    assert_eq!((seen(&old), seen(&new)), ("10.0.1.1".into(), "10.9.1.1".into()));
    // An old address is good for what has it.
    twin.change(&["ip addr change fd00:0:0:1::1/64 dev d1 valid_lft forever preferred_lft 0"]);
    play_each(&mut twin, "deprecated", &mut old, talk().into_iter().map(Step::passes));
    twin.compare_counters();
    // What begins by a link of several addresses of IPv6 is the kernel's.
    twin.finish(Share::AtLeast(0.8));
}

/// The way moves to another link, of another address.
#[test]
fn the_route_moves() {
    the_route_moves_to_a_link("nat_route_moves", &[]);
}

/// ... or of several, of which the kernel would choose one for what begins.
#[test]
fn the_route_moves_to_several_addresses() {
    let more = [
        "ip addr add 10.9.2.1/24 dev d2",
        "ip addr add fd00:9:0:2::1/64 dev d2 nodad",
    ];
    the_route_moves_to_a_link("nat_route_moves_to_several", &more);
}

fn the_route_moves_to_a_link(name: &str, addresses: &[&str]) {
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..Setup::tracked(name, 3, &postrouting(MASQUERADE)).with(addresses)
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

/// The box has a socket on the client's port, which asks nobody: answers are the client's.
#[test]
fn a_client_with_the_port_of_a_socket_of_the_box() {
    let mut twin = start("nat_wildcard", &postrouting(MASQUERADE));
    let bind =
        |router: &crate::lab::namespace::Namespace| router.enter(|| ["0.0.0.0:123", "[::]:123"].map(UdpSocket::bind));
    let sockets = [bind(twin.kernel_router()), bind(twin.tested_router())];
    let bound = sockets.iter().flatten().filter(|socket| socket.is_ok()).count();
    assert!(bound >= 2, "{sockets:?}");
    let mut views = views(|flow| flow.ports = [123, 123]);
    play_each(&mut twin, "ntp", &mut views, datagrams());
    assert!(views.iter().all(|view| view.ports() == [123, 123]), "the port is free");
    for socket in sockets.iter().flatten().flatten() {
        socket.set_nonblocking(true).expect("nonblocking");
        assert!(socket.recv(&mut [0; 2000]).is_err(), "an answer went to the box");
    }
    twin.finish(Share::AtLeast(0.8));
}

/// Two ports for four clients of one server: who comes first has them, and the others' packets are dropped.
#[test]
fn ports_run_out() {
    let rules = "oifname \"d1\" ip saddr 10.100.0.0/16 udp dport 80 counter snat ip to 10.0.1.200:5000-5001
                 oifname \"d1\" ip saddr 10.100.0.0/16 tcp dport 80 counter snat ip to 10.0.1.200:5000-5001
                 oifname \"d1\" ip6 saddr fd00:100::/32 udp dport 80 counter snat ip6 to [fd00:0:0:1::200]:5000-5001";
    let mut twin = start("nat_run_out", &postrouting(rules));
    let fresh = || clashing(8).into_iter().map(View::random).collect::<Vec<_>>();
    let mut datagrams = fresh();
    let twice = [udp(CLIENT, 20), udp(CLIENT, 21)];
    play_each(&mut twin, "udp", &mut datagrams, twice);
    let has = |views: &[View]| {
        views
            .iter()
            .map(|view| view.labs[0].beyond.is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(has(&datagrams), [true, true, true, true, false, false, false, false]);
    let mut first: Vec<View> = datagrams.drain(..4).collect();
    play_each(&mut twin, "udp, those that have one", &mut first, talk());
    let mut streams: Vec<View> = fresh().into_iter().filter(|view| view.labs[0].is_ipv4()).collect();
    play_each(
        &mut twin,
        "tcp",
        &mut streams,
        [Step::from(c(SYN, 0, 0).mss()), Step::from(c(SYN, 0, 0).mss())],
    );
    assert_eq!(has(&streams), [true, true, false, false]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.3));
}

/// The judge judged: what has another name is renamed, whole and quoted, and nothing else.
#[test]
fn names_are_told_apart() {
    let flow = Flow::new(true);
    let seen = |port: u16| {
        let mut seen = flow.clone();
        seen.ports[CLIENT] = port;
        seen
    };
    let (kernel, tested) = (seen(40_001), seen(51_234));
    let of = |flow: &Flow| -> Ends { ends_of(&flow.udp(CLIENT, 9).build()).expect("ports") };
    let mut names = crate::lab::names::Names::default();
    names.add(of(&kernel), of(&tested));
    let renamed = |mut frame: Vec<u8>| {
        names.rename(&mut frame);
        frame
    };
    for (theirs, ours) in [
        (tested.udp(CLIENT, 100), kernel.udp(CLIENT, 100)),
        (tested.udp(SERVER, 100), kernel.udp(SERVER, 100)),
        (tested.unreachable_udp(SERVER, 20), kernel.unreachable_udp(SERVER, 20)),
        (tested.unreachable_udp(CLIENT, 20), kernel.unreachable_udp(CLIENT, 20)),
    ] {
        assert_eq!(renamed(theirs.build()), ours.build());
    }
    let tcp = tested.tcp(&c(SYN, 0, 0)).build();
    assert_eq!(renamed(tcp.clone()), tcp, "of another protocol");
    let stranger = seen(51_235).udp(CLIENT, 1).build();
    assert_eq!(renamed(stranger.clone()), stranger);
    let tuple = |port: u16| format!("src={} dst={} sport={port} dport=80", flow.ends[0], flow.ends[1]);
    assert_eq!(names.rename_tuple(17, &tuple(51_234)), tuple(40_001));
    assert_eq!(names.rename_tuple(6, &tuple(51_234)), tuple(51_234));
}
