//! Changes mid-stream: rules, routes, sysctls, deletions by the user. What is established goes on, or ends, as in the kernel.

use crate::flow::{ACK, CLIENT, Flow, PSH, SERVER, Segment, c, s};
use crate::lab::conntrack::Free;
use crate::lab::namespace::Namespace;
use crate::lab::packet::{neighbor_mac, text};
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::rules::{NOT_INVALID, STRICT};
use crate::script::{Step, play_for};
use crate::tcp_open::handshake;
use std::time::{Duration, Instant};

/// A few TCP connections and datagram streams that live through changes.
struct Streams {
    tcp: Vec<Flow>,
    udp: Vec<Flow>,
    sent: u32,
}

impl Streams {
    fn begin(twin: &mut Twin) -> Self {
        let streams = Streams {
            tcp: Flow::several(),
            udp: Flow::several(),
            sent: 0,
        };
        play_for(twin, "handshake", &streams.tcp, handshake());
        let udp = |from: usize| crate::script::one("udp", from, move |flow: &Flow| flow.udp(from, 20));
        play_for(twin, "first datagrams", &streams.udp, [udp(CLIENT), udp(SERVER)]);
        streams
    }

    /// Some data each way; `lossless` where nothing of it may be lost by the kernel.
    fn go_on(&mut self, twin: &mut Twin, title: &str, lossless: bool) {
        let seq = 1 + self.sent;
        let data: [Segment; 4] = [
            c(ACK | PSH, seq, seq).data(500),
            s(ACK, seq, seq + 500),
            s(ACK | PSH, seq, seq + 500).data(500),
            c(ACK, seq + 500, seq + 500),
        ];
        self.sent += 500;
        let judged = |step: Step| if lossless { step.passes() } else { step };
        play_for(twin, title, &self.tcp, data.map(|segment| judged(segment.into())));
        let udp = |from: usize| judged(crate::script::one("udp", from, move |flow: &Flow| flow.udp(from, 20)));
        play_for(twin, title, &self.udp, [udp(CLIENT), udp(SERVER)]);
    }
}

fn strict(name: &str, more: &[&str]) -> Twin {
    let loose = "sysctl net.netfilter.nf_conntrack_tcp_loose=0";
    Twin::start(Setup::tracked(name, 3, STRICT).with(&[loose]).with(more))
}

/// A NAT rule comes and goes: meanwhile the family is the kernel's, and the kernel knows every connection.
#[test]
fn a_nat_rule_comes_and_goes() {
    let mut twin = strict("change_nat", &[]);
    let mut streams = Streams::begin(&mut twin);
    streams.go_on(&mut twin, "before", true);
    let nat = "ruleset table inet nat {\n chain post {\n type nat hook postrouting priority 100; policy accept;\n oifname \"d9\" \
               masquerade\n }\n}";
    twin.hand_over();
    twin.change(&[nat]);
    streams.go_on(&mut twin, "with a NAT rule", true);
    let late = Streams::begin(&mut twin);
    twin.change(&["nft delete table inet nat"]);
    streams.go_on(&mut twin, "without it again", true);
    let mut late = late;
    late.go_on(&mut twin, "what began meanwhile", true);
    // The kernel's connections are adopted when they are next seen established.
    twin.wait(Duration::from_millis(300));
    for round in 0..6 {
        streams.go_on(&mut twin, &format!("round {round}"), true);
        late.go_on(&mut twin, &format!("late round {round}"), true);
    }
    twin.finish(Share::AtLeast(0.55));
}

#[test]
fn rules_change() {
    let mut twin = strict("change_rules", &[]);
    let mut streams = Streams::begin(&mut twin);
    streams.go_on(&mut twin, "before", true);
    let replaced = |rules: &str| format!("ruleset flush table inet fw\n{rules}");
    twin.change(&[&replaced(NOT_INVALID)]);
    streams.go_on(&mut twin, "another chain", true);
    twin.change(&[&replaced(STRICT)]);
    streams.go_on(&mut twin, "the first again", true);
    let closed = "table inet fw {\n chain forward {\n type filter hook forward priority 0; policy drop;\n ct state new accept\n }\n}";
    twin.change(&[&replaced(closed)]);
    twin.set_fence(Fence::None);
    streams.go_on(&mut twin, "nothing established", false);
    twin.change(&[&replaced(STRICT)]);
    twin.set_fence(Fence::V4);
    streams.go_on(&mut twin, "the first once more", false);
    twin.finish(Share::AtLeast(0.5));
}

/// Without a rule nothing is tracked any more; the table stays, and serves again when a rule comes back.
#[test]
fn tracking_ends_and_begins() {
    let mut twin = strict("change_tracking", &[]);
    let mut streams = Streams::begin(&mut twin);
    streams.go_on(&mut twin, "before", true);
    twin.hand_over();
    twin.change(&["nft delete table inet fw"]);
    streams.go_on(&mut twin, "untracked", true);
    twin.change(&[&format!("ruleset {STRICT}")]);
    streams.go_on(&mut twin, "tracked again", false);
    twin.finish(Share::AtLeast(0.3));
}

#[test]
fn routes_and_neighbours_change() {
    let mut twin = strict("change_routes", &[]);
    twin.set_fence(Fence::None);
    let mut streams = Streams::begin(&mut twin);
    streams.go_on(&mut twin, "before", true);
    twin.change(&[
        "ip route replace 10.101.0.0/16 via 10.0.1.3",
        "ip route replace fd00:101::/32 via fd00:0:0:1::3",
    ]);
    streams.go_on(&mut twin, "another gateway", true);
    let mac = text(neighbor_mac(1, 77));
    twin.change(&[
        &format!("ip neigh replace 10.0.1.3 lladdr {mac} dev d1 nud permanent"),
        &format!("ip neigh replace fd00:0:0:1::3 lladdr {mac} dev d1 nud permanent"),
    ]);
    streams.go_on(&mut twin, "another link address", true);
    twin.change(&[
        "ip route replace 10.101.0.0/16 via 10.0.2.2",
        "ip route replace fd00:101::/32 via fd00:0:0:2::2",
    ]);
    streams.go_on(&mut twin, "another port", true);
    twin.change(&[
        "ip route replace 10.101.0.0/16 via 10.0.1.2",
        "ip route replace fd00:101::/32 via fd00:0:0:1::2",
    ]);
    streams.go_on(&mut twin, "back", true);
    twin.hand_over();
    twin.change(&["sysctl net.ipv4.ip_forward=0"]);
    streams.go_on(&mut twin, "no forwarding of IPv4", false);
    twin.finish(Share::AtLeast(0.7));
}

#[test]
fn sysctls_change() {
    let mut twin = strict("change_sysctls", &[]);
    let mut streams = Streams::begin(&mut twin);
    for (at, line) in [
        "udp_timeout=50",
        "udp_timeout_stream=70",
        "tcp_timeout_established=300",
        "tcp_be_liberal=1",
        "tcp_be_liberal=0",
        "tcp_timeout_unacknowledged=20",
        "checksum=0",
        "tcp_max_retrans=1",
    ]
    .iter()
    .enumerate()
    {
        twin.change(&[&format!("sysctl net.netfilter.nf_conntrack_{line}")]);
        streams.go_on(&mut twin, &format!("{at}: {line}"), true);
    }
    twin.finish(Share::AtLeast(0.9));
}

/// Until bypath's connections are in the kernel's table, too, for the user to delete.
fn written_behind(twin: &mut Twin) {
    twin.wait(Duration::from_millis(2600));
    let count = |router: &Namespace| router.run("conntrack -L -p tcp").lines().count();
    let until = Instant::now() + Duration::from_secs(5);
    while count(twin.tested_router()) < count(twin.kernel_router()) && Instant::now() < until {
        twin.wait(Duration::from_millis(50));
    }
}

#[test]
fn the_user_deletes() {
    let mut twin = strict("user_deletes", &[]);
    let mut streams = Streams::begin(&mut twin);
    streams.go_on(&mut twin, "before", true);
    written_behind(&mut twin);
    let one = streams.tcp[0].clone();
    twin.change(&[&format!("conntrack -D -p tcp -s {}", one.ends[CLIENT])]);
    let table = twin.compare_tables("after the deletion of one", Free::default());
    assert!(
        table.between(6, one.ends[0], one.ends[1]).is_empty(),
        "the kernel's table"
    );
    // loose=0: it is not picked up again.
    streams.go_on(&mut twin, "one deleted", false);
    streams.tcp.remove(0);
    streams.go_on(&mut twin, "the others", true);
    twin.finish(Share::AtLeast(0.8));
}

/// How long connections live that have no packet, until they have one.
#[test]
fn the_user_sets_timeouts() {
    let mut twin = strict("user_sets_timeouts", &[]);
    let mut streams = Streams::begin(&mut twin);
    streams.go_on(&mut twin, "before", true);
    written_behind(&mut twin);
    let ends = |flow: &Flow| (flow.ends[0], flow.ends[1]);
    let set = |flow: &Flow, seconds: u32| format!("conntrack -U -p tcp -s {} -t {seconds}", flow.ends[CLIENT]);
    let (soon, short, long) = (&streams.tcp[0], &streams.tcp[1], &streams.tcp[2]);
    let set_at = Instant::now();
    twin.change(&[&set(soon, 10), &set(short, 100), &set(long, 1_000_000)]);
    let seconds = |twin: &mut Twin, when: &str, flow: &Flow| {
        let table = twin.compare_tables(when, Free::default());
        let (one, other) = ends(flow);
        let timeouts: Vec<_> = table.between(6, one, other).iter().map(|known| known.timeout).collect();
        timeouts.first().copied().flatten()
    };
    for (flow, most) in [(soon, 10), (short, 100), (long, 1_000_000)] {
        let left = seconds(&mut twin, "after", flow).expect("it is there");
        let least = most - 2 - set_at.elapsed().as_secs();
        assert!((least..=most).contains(&left), "the kernel's: {left} of {most}");
    }
    let mark = format!("conntrack -U -p tcp -s {} -m 5", long.ends[CLIENT]);
    twin.change(&[&mark]);
    twin.wait(Duration::from_millis(12_000));
    assert_eq!(seconds(&mut twin, "one is over", &soon.clone()), None);
    let soon = streams.tcp.remove(0);
    streams.go_on(&mut twin, "the others", true);
    for flow in &streams.tcp {
        let left = seconds(&mut twin, "with packets", flow).expect("it is there");
        assert!((431_990..=432_000).contains(&left), "the kernel's: {left}");
    }
    // loose=0: it is not picked up again.
    play_for(&mut twin, "too late", &[soon], [c(ACK, 501, 501).lost()]);
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn the_user_flushes() {
    let mut twin = strict("user_flushes", &[]);
    let mut streams = Streams::begin(&mut twin);
    streams.go_on(&mut twin, "before", true);
    // Datagram streams are assured after two seconds.
    written_behind(&mut twin);
    streams.go_on(&mut twin, "later", true);
    written_behind(&mut twin);
    twin.change(&["conntrack -F"]);
    let table = twin.compare_tables("after the flush", Free::default());
    assert!(
        table.connections.values().all(|connection| connection.number != 6),
        "the kernel's table"
    );
    streams.go_on(&mut twin, "flushed", false);
    let mut more = Streams::begin(&mut twin);
    more.go_on(&mut twin, "new ones", true);
    twin.finish(Share::AtLeast(0.6));
}
