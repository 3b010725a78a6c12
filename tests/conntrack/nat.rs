//! NAT: source and destination, of both families, with every protocol that has ports or identifiers, and errors about them
//! from both ends. Ports that the kernel keeps must be kept; frames at the far ends, tables and counters are compared.

use crate::flow::{ACK, CLIENT, FIN, Flow, RST, SERVER, SYN, c, s};
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::script::{Step, one, play_for};
use std::net::IpAddr;

/// An address, of IPv4 or not.
type Address = fn(bool) -> IpAddr;

/// What the two ends of a kind of flow see.
pub struct Kind {
    /// What the client calls the server, and at which port, where it is not what the server calls itself.
    server: Option<(Address, u16)>,
    /// What the server calls the client, and whether the port stays.
    client: Option<Address>,
}

/// The router's own address on the port of that end.
fn own(end: usize, four: bool) -> IpAddr {
    plan::own(end)[usize::from(!four)]
}

fn own_far(four: bool) -> IpAddr {
    own(SERVER, four)
}

fn own_near(four: bool) -> IpAddr {
    own(CLIENT, four)
}

/// An address that nobody has, of the network behind the router on the server's side.
pub fn pool(four: bool) -> IpAddr {
    let [v4, v6] = ["10.0.1.200", "fd00:0:0:1::200"].map(|text| text.parse().expect("an address"));
    if four { v4 } else { v6 }
}

pub const PLAIN: Kind = Kind {
    server: None,
    client: None,
};
pub const MASQUERADED: Kind = Kind {
    server: None,
    client: Some(own_far),
};
pub const FORWARDED: Kind = Kind {
    server: Some((own_near, 8080)),
    client: None,
};
pub const BOTH: Kind = Kind {
    server: Some((own_near, 8080)),
    client: Some(own_far),
};
pub const FROM_POOL: Kind = Kind {
    server: None,
    client: Some(pool),
};

/// Flows of a kind, of both families.
pub fn flows(kind: &Kind, families: &[bool]) -> Vec<Flow> {
    let kind_of = |four: bool| {
        let mut flow = Flow::new(four);
        let (mut ends, ports) = (flow.ends, flow.ports);
        if let Some(client) = kind.client {
            ends[CLIENT] = client(four);
        }
        if let Some((server, port)) = kind.server {
            // All clients are sent to one server.
            ends[SERVER] = plan::pairs(CLIENT, SERVER, 7)[usize::from(!four)].1;
            flow.ends[SERVER] = server(four);
            flow.ports[SERVER] = port;
        }
        flow.beyond = Some((ends, ports));
        flow
    };
    families
        .iter()
        .flat_map(|&four| [kind_of(four), kind_of(four)])
        .collect()
}

/// Connections, datagrams, echoes, and errors from both ends.
pub fn traffic(twin: &mut Twin, title: &str, kind: &Kind, families: &[bool]) {
    let flows = || flows(kind, families);
    let udp = |from: usize, length: usize| one("udp", from, move |flow: &Flow| flow.udp(from, length));
    let error = |from: usize| one("error", from, move |flow: &Flow| flow.unreachable_udp(from, 20));
    let steps = [
        udp(CLIENT, 20).passes(),
        error(SERVER).passes(),
        udp(CLIENT, 21),
        udp(SERVER, 900).passes(),
        udp(CLIENT, 1),
        error(CLIENT),
        error(SERVER),
        udp(SERVER, 0),
        udp(CLIENT, 1400),
    ];
    play_for(twin, &format!("{title}: udp"), &flows(), steps);
    let tcp = [
        Step::from(c(SYN, 0, 0).mss()),
        Step::from(s(SYN | ACK, 0, 1).mss()),
        Step::from(c(ACK, 1, 1)),
        Step::from(c(ACK, 1, 1).data(600)),
        Step::from(s(ACK, 1, 601).data(11)),
        Step::from(c(ACK, 601, 12)),
        Step::from(c(0, 1, 1)),
        Step::from(c(FIN | ACK, 601, 12)),
        Step::from(s(FIN | ACK, 12, 602)),
        Step::from(c(ACK, 602, 13)),
    ];
    play_for(twin, &format!("{title}: tcp"), &flows(), tcp);
    let reset = [Step::from(c(SYN, 0, 0).mss()), Step::from(s(RST | ACK, 0, 1))];
    play_for(twin, &format!("{title}: refused"), &flows(), reset);
    if kind.server.is_none() {
        let echo = |from: usize, sequence: u16| one("echo", from, move |flow: &Flow| flow.echo(from, sequence));
        let echoes = [
            echo(CLIENT, 1).passes(),
            echo(SERVER, 1).passes(),
            echo(CLIENT, 2),
            echo(SERVER, 2),
        ];
        play_for(twin, &format!("{title}: echo"), &flows(), echoes);
        let other = |from: usize| one("other", from, move |flow: &Flow| flow.other(from, 99, 40));
        play_for(
            twin,
            &format!("{title}: other"),
            &flows(),
            [other(CLIENT), other(SERVER)],
        );
    }
}

/// A twin of two ports under a ruleset with NAT, whose connections go over to the kernel and back.
pub fn start(name: &str, ruleset: &str) -> Twin {
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..Setup::tracked(name, 2, ruleset)
    });
    twin.hand_over();
    twin
}

#[test]
fn masquerade() {
    let mut twin = start(
        "nat_masquerade",
        "table inet nat {
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname \"d1\" masquerade
            }
        }",
    );
    traffic(&mut twin, "masquerade", &MASQUERADED, &[true, false]);
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn source_nat() {
    let mut twin = start(
        "nat_source",
        "table inet nat {
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr 10.100.0.0/16 oifname \"d1\" counter snat ip to 10.0.1.200
                ip6 saddr fd00:100::/32 counter snat ip6 to fd00:0:0:1::200
            }
        }",
    );
    twin.answer_for(SERVER, pool(true), crate::lab::packet::neighbor_mac(SERVER, 0));
    traffic(&mut twin, "pool", &FROM_POOL, &[true, false]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn port_forwarding() {
    let mut twin = start(
        "nat_destination",
        "table inet nat {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                iifname \"d0\" meta l4proto { tcp, udp } th dport 8080 dnat ip to 10.101.0.7:80
                iifname \"d0\" meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [fd00:101::7]:80
            }
        }",
    );
    traffic(&mut twin, "forwarded", &FORWARDED, &[true, false]);
    traffic(&mut twin, "plain", &PLAIN, &[true, false]);
    twin.finish(Share::AtLeast(0.8));
}

/// A home router: what begins inside goes out masqueraded, one port leads to a server, nothing else comes in.
#[test]
fn home_router() {
    let mut twin = start(
        "nat_home_router",
        "table inet fw {
            chain forward {
                type filter hook forward priority filter; policy drop;
                ct state vmap { established : accept, related : accept, invalid : drop }
                iifname \"d0\" oifname \"d1\" counter accept
                ct status dnat counter accept
            }
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                tcp dport 8080 dnat ip to 10.101.0.7:80
                udp dport 8080 dnat ip to 10.101.0.7:80
            }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname \"d1\" masquerade
            }
        }",
    );
    traffic(&mut twin, "out", &MASQUERADED, &[true, false]);
    traffic(&mut twin, "in and masqueraded", &BOTH, &[true]);
    let stray = |from: usize| one("stray", from, move |flow: &Flow| flow.udp(from, 33));
    play_for(&mut twin, "stray", &flows(&PLAIN, &[true, false]), [stray(SERVER)]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.75));
}

/// A chain of type nat without rules binds connections all the same.
#[test]
fn empty_chains() {
    let mut twin = start(
        "nat_empty",
        "table inet nat {
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
            }
            chain forward {
                type filter hook forward priority filter; policy accept;
                ct state invalid drop
            }
        }",
    );
    traffic(&mut twin, "plain", &PLAIN, &[true, false]);
    twin.finish(Share::AtLeast(0.8));
}
