//! Changes mid-stream: whatever the kernel's configuration becomes is in force 100 ms later.

use crate::lab::packet::{ip, udp};
use crate::lab::plan;
use crate::lab::twin::{Setup, Share, Twin};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

fn twin(name: &str, ports: usize) -> Twin {
    Twin::start(Setup::new(name, ports, plan::config(ports)))
}

/// How many streams there were, in all tests here.
static STREAMS: AtomicU16 = AtomicU16::new(0);

/// A few flows to 10.50/16 and fd00:50::/32, and to the networks behind port 1. IPv4 tells a sender five times that there is no way,
/// and then once a second (ip_error): each stream has senders of its own for that.
fn stream(twin: &mut Twin) {
    let senders = STREAMS.fetch_add(1, Ordering::Relaxed) << 8;
    for at in 0..10u16 {
        let packets = [
            (plan::behind4(0, senders | at), ip("10.50.0.1")),
            (plan::behind6(0, at), ip("fd00:50::1")),
        ];
        let [four, six] = plan::pairs(0, 1, at);
        for (src, dst) in packets.into_iter().chain([four, six]) {
            twin.send(0, (0..4).map(|port| udp(src, dst, (port, at), 30)));
        }
    }
}

#[test]
fn of_routes() {
    let mut twin = twin("changes_of_routes", 3);
    stream(&mut twin);
    let steps: &[&[&str]] = &[
        &[
            "ip route add 10.50.0.0/16 via 10.0.1.2",
            "ip route add fd00:50::/32 via fd00:0:0:1::2",
        ],
        &[
            "ip route replace 10.50.0.0/16 via 10.0.1.3",
            "ip route replace fd00:50::/32 via fd00:0:0:1::3",
        ],
        &[
            "ip route add 10.50.0.0/24 via 10.0.2.2",
            "ip route add fd00:50::/64 via fd00:0:0:2::2",
        ],
        &[
            "ip route add blackhole 10.50.0.1/32",
            "ip route add unreachable fd00:50::1/128",
        ],
        &["ip route del 10.50.0.1/32", "ip route del unreachable fd00:50::1/128"],
        &["ip route del 10.50.0.0/24", "ip route del fd00:50::/64"],
        &[
            "ip route replace 10.50.0.0/16 via 10.0.2.3",
            "ip route replace fd00:50::/32 via fd00:0:0:2::3",
        ],
        &["ip route replace 10.50.0.0/16 nexthop via 10.0.1.2 nexthop via 10.0.2.2"],
        &["ip route del 10.50.0.0/16", "ip route del fd00:50::/32"],
        &[
            "ip route add default via 10.0.2.4",
            "ip route add default via fd00:0:0:2::4",
        ],
    ];
    for step in steps {
        twin.change(step);
        stream(&mut twin);
    }
    twin.finish(Share::AtLeast(0.7));
}

/// A route whose lifetime is over gives way to the next one, or to none, before the kernel tells that it is gone.
#[test]
fn of_lifetimes() {
    let mut twin = twin("changes_of_lifetimes", 3);
    twin.change(&[
        "ip route add fd00:50::/64 via fd00:0:0:1::2 expires 5",
        "ip route add fd00:50::/64 via fd00:0:0:2::2 metric 2048",
        "ip route add fd00:51::/64 via fd00:0:0:1::2 expires 5",
        "ip route add fd00:52::/64 via fd00:0:0:1::2 expires 60",
    ]);
    let all = |twin: &mut Twin| {
        stream(twin);
        for to in ["fd00:51::1", "fd00:52::1"] {
            twin.send(0, (0..10).map(|at| udp(plan::behind6(0, at), ip(to), (at, 7), 30)));
        }
    };
    all(&mut twin);
    twin.settle();
    twin.wait(Duration::from_millis(5500));
    all(&mut twin);
    twin.change(&[
        "ip route replace fd00:51::/64 via fd00:0:0:1::3 expires 60",
        "ip route replace fd00:52::/64 via fd00:0:0:1::2",
    ]);
    all(&mut twin);
    twin.finish(Share::AtLeast(0.6));
}

#[test]
fn of_nexthop_objects() {
    let mut twin = twin("changes_of_nexthop_objects", 3);
    let steps: &[&[&str]] = &[
        &[
            "ip nexthop add id 1 via 10.0.1.2 dev d1",
            "ip route add 10.50.0.0/16 nhid 1",
        ],
        &["ip nexthop replace id 1 via 10.0.2.2 dev d2"],
        &[
            "ip nexthop add id 2 via 10.0.1.3 dev d1",
            "ip nexthop add id 10 group 1/2",
            "ip route replace 10.50.0.0/16 nhid 10",
        ],
        &["ip nexthop replace id 10 group 2"],
        &["ip nexthop del id 10"],
    ];
    for step in steps {
        twin.change(step);
        stream(&mut twin);
    }
    twin.finish(Share::AtLeast(0.55));
}

#[test]
fn of_rules() {
    let mut twin = twin("changes_of_rules", 3);
    let steps: &[&[&str]] = &[
        &[
            "ip route add 10.50.0.0/16 via 10.0.1.2",
            "ip route add 10.50.0.0/16 via 10.0.2.2 table 101",
        ],
        &["ip rule add from 10.100.0.0/16 lookup 101 pref 100"],
        &["ip rule add from 10.100.0.0/29 prohibit pref 50"],
        &["ip rule del pref 50"],
        &["ip rule del pref 100"],
    ];
    for step in steps {
        twin.change(step);
        stream(&mut twin);
    }
    twin.finish(Share::AtLeast(0.6));
}

#[test]
fn of_neighbours() {
    let mut twin = twin("changes_of_neighbours", 2);
    stream(&mut twin);
    twin.change(&[
        "ip neigh replace 10.0.1.2 lladdr 02:00:00:00:ee:01 dev d1 nud permanent",
        "ip neigh replace fd00:0:0:1::2 lladdr 02:00:00:00:ee:02 dev d1 nud permanent",
    ]);
    stream(&mut twin);
    twin.change(&["ip neigh del 10.0.1.2 dev d1", "ip neigh del fd00:0:0:1::2 dev d1"]);
    twin.answer_for(1, ip("10.0.1.2"), [2, 0, 0, 0, 0xee, 3]);
    twin.answer_for(1, ip("fd00:0:0:1::2"), [2, 0, 0, 0, 0xee, 4]);
    let [four, six] = plan::pairs(0, 1, 1);
    twin.send(0, [udp(four.0, four.1, (1, 2), 3), udp(six.0, six.1, (1, 2), 3)]);
    twin.settle();
    twin.wait(std::time::Duration::from_millis(150));
    stream(&mut twin);
    // Half of the stream has no route here.
    twin.finish(Share::AtLeast(0.45));
}

#[test]
fn of_addresses() {
    let mut twin = twin("changes_of_addresses", 2);
    stream(&mut twin);
    // What was transit becomes local, and transit again.
    twin.change(&[
        "ip addr add 10.101.0.1/32 dev d1",
        "ip addr add fd00:101::1/128 dev d1 nodad",
    ]);
    stream(&mut twin);
    twin.change(&["ip addr del 10.101.0.1/32 dev d1", "ip addr del fd00:101::1/128 dev d1"]);
    stream(&mut twin);
    twin.finish(Share::AtLeast(0.4));
}

#[test]
fn of_the_mtu() {
    let mut twin = twin("changes_of_the_mtu", 2);
    let long = |twin: &mut Twin| {
        for (src, dst) in plan::pairs(0, 1, 1) {
            twin.send(
                0,
                (0..20).map(|at| udp(src, dst, (at, 2), 0).ip_length(1290 + 10 * usize::from(at)).df()),
            );
        }
    };
    long(&mut twin);
    twin.change(&["ip link set d1 mtu 1400"]);
    long(&mut twin);
    twin.change(&["ip link set d1 mtu 1500"]);
    long(&mut twin);
    twin.finish(Share::AtLeast(0.7));
}

#[test]
fn of_forwarding() {
    let mut twin = twin("changes_of_forwarding", 2);
    stream(&mut twin);
    for (off, on) in [
        (
            "sysctl net.ipv4.conf.d0.forwarding=0",
            "sysctl net.ipv4.conf.d0.forwarding=1",
        ),
        (
            "sysctl net.ipv6.conf.d0.forwarding=0",
            "sysctl net.ipv6.conf.d0.forwarding=1",
        ),
        ("sysctl net.ipv4.ip_forward=0", "sysctl net.ipv4.ip_forward=1"),
        (
            "sysctl net.ipv6.conf.all.forwarding=0",
            "sysctl net.ipv6.conf.all.forwarding=1",
        ),
    ] {
        twin.change(&[off]);
        stream(&mut twin);
        twin.change(&[on]);
        stream(&mut twin);
    }
    twin.finish(Share::AtLeast(0.35));
}

#[test]
fn of_links() {
    let mut twin = twin("changes_of_links", 3);
    stream(&mut twin);
    twin.change(&["ip link set d1 down"]);
    stream(&mut twin);
    twin.change(&["ip link set d1 up"]);
    // What goes with the link comes back by hand: addresses of IPv6, neighbours, routes.
    let again: Vec<String> = plan::addresses(1)
        .into_iter()
        .filter(|line| line.contains("::"))
        .chain(plan::neighbours(1))
        .chain(plan::routes(1))
        .collect();
    twin.change(&again.iter().map(String::as_str).collect::<Vec<_>>());
    twin.wait(std::time::Duration::from_millis(300));
    stream(&mut twin);
    twin.finish(Share::AtLeast(0.3));
}

/// Links that go down and come up again at once: an IPv6 multipath route keeps its way through them and only marks it dead
/// meanwhile, without a word.
#[test]
fn of_links_that_flap() {
    let mut setup = Setup::new("changes_of_links_that_flap", 3, plan::config(3));
    // The flows of all streams lose their routes of IPv4, and are told so five times at once.
    setup.clock_free = true;
    let mut twin = Twin::start(setup);
    let multipath = [
        "ip route replace 10.50.0.0/16 nexthop via 10.0.1.2 nexthop via 10.0.2.2",
        "ip route replace fd00:50::/32 nexthop via fd00:0:0:1::2 nexthop via fd00:0:0:2::2",
    ];
    twin.change(&multipath);
    stream(&mut twin);
    for port in [1, 2, 1] {
        let mut flap = vec![format!("ip link set d{port} down"), format!("ip link set d{port} up")];
        flap.extend(plan::addresses(port).into_iter().filter(|line| line.contains("::")));
        flap.extend(plan::neighbours(port));
        twin.change(&flap.iter().map(String::as_str).collect::<Vec<_>>());
        stream(&mut twin);
    }
    // IPv4 loses the routes, and each flow of IPv6 is asked about after each flap, several packets of it at a time.
    twin.finish(Share::AtLeast(0.15));
}
