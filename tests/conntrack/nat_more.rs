//! NAT that chooses: ports that clash, ranges, random ones, maps, prefixes, hairpins, the box itself.
//! What changes while translated connections live is in `nat_changes`.
//!
//! A port that is drawn may be another in each lab (`view`); who is answered, tables and counters must be the same.

use crate::flow::{ACK, CLIENT, FIN, Flow, SERVER, SYN, c, s};
use crate::lab::packet::neighbor_mac;
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat::start;
use crate::script::{Step, one, play_each};
use crate::view::View;

/// A datagram.
pub fn udp(from: usize, length: usize) -> Step {
    one("udp", from, move |flow: &Flow| flow.udp(from, length))
}

pub fn error(from: usize) -> Step {
    one("error", from, move |flow: &Flow| flow.unreachable_udp(from, 20))
}

fn echo(from: usize, sequence: u16) -> Step {
    one("echo", from, move |flow: &Flow| flow.echo(from, sequence))
}

/// Datagrams of both ends, and errors about them.
pub fn datagrams() -> Vec<Step> {
    vec![
        udp(CLIENT, 20).passes(),
        udp(SERVER, 33).passes(),
        udp(CLIENT, 900),
        error(SERVER),
        error(CLIENT),
        udp(SERVER, 0),
        udp(CLIENT, 1400),
    ]
}

/// A connection from its beginning to its end.
pub fn stream() -> Vec<Step> {
    [
        c(SYN, 0, 0).mss(),
        s(SYN | ACK, 0, 1).mss(),
        c(ACK, 1, 1),
        c(ACK, 1, 1).data(600),
        s(ACK, 1, 601).data(11),
        c(ACK, 601, 12),
        c(FIN | ACK, 601, 12),
        s(FIN | ACK, 12, 602),
        c(ACK, 602, 13),
    ]
    .into_iter()
    .map(Step::from)
    .collect()
}

fn echoes() -> Vec<Step> {
    vec![
        echo(CLIENT, 1).passes(),
        echo(SERVER, 1).passes(),
        echo(CLIENT, 2),
        echo(SERVER, 2),
    ]
}

/// Views of two flows of both families.
pub fn views(alter: impl Fn(&mut Flow)) -> Vec<View> {
    let one = |four: bool| {
        let mut flow = Flow::new(four);
        alter(&mut flow);
        View::new(flow)
    };
    [true, false, true, false].map(one).into()
}

/// Every kind of traffic through fresh flows.
pub fn traffic(twin: &mut Twin, title: &str, fresh: impl Fn() -> Vec<View>) -> Vec<View> {
    let mut all = Vec::new();
    for (what, steps) in [("udp", datagrams()), ("tcp", stream()), ("echo", echoes())] {
        let mut views = fresh();
        play_each(twin, &format!("{title}: {what}"), &mut views, steps);
        all.extend(views);
    }
    all
}

pub fn table(chains: &str) -> String {
    format!("table inet nat {{\n{chains}\n}}")
}

/// A table with one chain of source NAT.
pub fn postrouting(rules: &str) -> String {
    table(&format!(
        "chain postrouting {{\n type nat hook postrouting priority srcnat; policy accept;\n {rules}\n }}"
    ))
}

pub fn prerouting(rules: &str) -> String {
    table(&format!(
        "chain prerouting {{\n type nat hook prerouting priority dstnat; policy accept;\n {rules}\n }}"
    ))
}

/// Clients with one port and one server: the first keeps it, the others get others.
pub fn clashing(count: usize) -> Vec<View> {
    let same = [true, false].map(Flow::new);
    let one = |at: usize| {
        let model = &same[at % 2];
        let mut flow = Flow::new(at.is_multiple_of(2));
        flow.ends[SERVER] = model.ends[SERVER];
        flow.ports = model.ports;
        View::new(flow)
    };
    (0..count).map(one).collect()
}

#[test]
fn clients_of_one_port() {
    let mut twin = start("nat_clash", &postrouting("oifname \"d1\" counter masquerade"));
    let views = traffic(&mut twin, "clash", || clashing(6));
    for (at, view) in views.iter().enumerate() {
        let own = view.labs[0].ports[CLIENT];
        let kept = view.ports().map(|port| port == own);
        assert_eq!(kept, [at % 6 < 2; 2], "flow {at}: {:?} of {own}", view.ports());
    }
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
}

/// Without any rule: what clashes with a translated connection gets another port (null binding).
#[test]
fn an_untranslated_client_that_clashes() {
    let mut twin = start(
        "nat_clash_null",
        &postrouting("ip saddr 10.100.0.0/17 oifname \"d1\" snat ip to 10.100.200.1"),
    );
    twin.answer_for(
        SERVER,
        "10.100.200.1".parse().expect("an address"),
        neighbor_mac(SERVER, 0),
    );
    let fresh = || {
        let translated = Flow::new(true);
        let mut other = translated.clone();
        other.ends[CLIENT] = "10.100.200.1".parse().expect("an address");
        vec![View::new(translated), View::new(other)]
    };
    let views = traffic(&mut twin, "null", fresh);
    assert!(
        views
            .iter()
            .skip(1)
            .step_by(2)
            .all(|view| view.ports()[0] != view.labs[0].ports[CLIENT])
    );
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn ranges_and_random_ports() {
    for (name, how, ports) in [
        ("nat_range", "to :2000-2999", 2000..=2999),
        ("nat_random", "random", 1024..=65535),
        ("nat_fully_random", "fully-random", 1024..=65535),
        ("nat_range_random", "to :3000-3999 random", 3000..=3999),
        ("nat_range_persistent", "to :4000-4999 persistent", 4000..=4999),
    ] {
        // Ports are of protocols that have any.
        let rule = match how.starts_with("to") {
            true => format!("oifname \"d1\" meta l4proto {{ tcp, udp }} counter masquerade {how}"),
            false => format!("oifname \"d1\" counter masquerade {how}"),
        };
        let mut twin = start(name, &postrouting(&rule));
        let fresh = || -> Vec<View> {
            let mut views = views(|_| {});
            views.extend(clashing(4));
            views.into_iter().map(View::random).collect()
        };
        for (what, steps) in [("udp", datagrams()), ("tcp", stream())] {
            let mut views = fresh();
            play_each(&mut twin, &format!("{name}: {what}"), &mut views, steps);
            for view in &views {
                assert!(
                    view.ports().iter().all(|port| ports.contains(port)),
                    "{how}: {:?}",
                    view.ports()
                );
            }
        }
        twin.compare_counters();
        twin.finish(Share::AtLeast(0.8));
    }
}

/// Sources go to one address of a range each, by destination or not.
#[test]
fn ranges_of_addresses() {
    for (name, how) in [("nat_addresses", ""), ("nat_addresses_persistent", "persistent")] {
        let rules = format!(
            "oifname \"d1\" ip saddr 10.100.0.0/16 counter snat ip to 10.0.1.200-10.0.1.213 {how}
             oifname \"d1\" ip6 saddr fd00:100::/32 counter snat ip6 to fd00:0:0:1::200-fd00:0:0:1::20d {how}"
        );
        let mut twin = start(name, &postrouting(&rules));
        traffic(&mut twin, name, || {
            let mut all = views(|_| {});
            all.extend(views(|_| {}));
            all
        });
        twin.compare_counters();
        twin.finish(Share::AtLeast(0.8));
    }
}

/// A network becomes another one, host by host.
#[test]
fn prefixes() {
    let ruleset = table(
        "chain prerouting {
            type nat hook prerouting priority dstnat; policy accept;
            iifname \"d0\" dnat ip prefix to ip daddr map { 10.201.0.0/16 : 10.101.0.0/16 }
        }
        chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            oifname \"d1\" snat ip prefix to ip saddr map { 10.100.0.0/16 : 10.200.0.0/16 }
        }",
    );
    let mut twin = start("nat_prefix", &ruleset);
    let named = |flow: &mut Flow| {
        if let std::net::IpAddr::V4(server) = flow.ends[SERVER] {
            let [_, _, high, low] = server.octets();
            flow.ends[SERVER] = std::net::Ipv4Addr::new(10, 201, high, low).into();
        }
    };
    let all = traffic(&mut twin, "prefix", || views(named));
    for view in all.iter().filter(|view| view.labs[0].is_ipv4()) {
        let [client, server] = view.labs[0].seen_by(SERVER).ends.map(|end| end.to_string());
        assert!(
            client.starts_with("10.200.") && server.starts_with("10.101."),
            "{client} {server}"
        );
    }
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn maps_and_verdict_maps() {
    let ruleset = table(
        "chain web {
            meta l4proto { tcp, udp } counter dnat ip to 10.101.0.8:8081
        }
        chain mail {
            meta l4proto { tcp, udp } counter dnat ip6 to [fd00:101::8]:25
            meta l4proto { tcp, udp } counter dnat ip to 10.101.0.9:26
        }
        chain prerouting {
            type nat hook prerouting priority dstnat; policy accept;
            iifname \"d0\" dnat ip to tcp dport map { 80 : 10.101.0.7 . 8080, 81 : 10.101.0.7 . 8081 }
            iifname \"d0\" counter dnat ip to udp dport map { 80 : 10.101.0.7 . 8080 }
            iifname \"d0\" meta l4proto { tcp, udp } th dport vmap { 82 : jump web, 83 : goto mail }
            iifname \"d0\" udp dport 84 dnat ip to 10.101.0.11:9000-9003
            iifname \"d0\" tcp dport 84 dnat ip to 10.101.0.12-10.101.0.14
        }",
    );
    let mut twin = start("nat_maps", &ruleset);
    for port in [80, 81, 82, 83, 84, 85] {
        let fresh = || {
            let mut all = views(|flow| flow.ports[SERVER] = port);
            all.extend(clashing(2));
            all
        };
        traffic(&mut twin, &format!("port {port}"), fresh);
    }
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
}

/// A client reaches a server of its own network by the box's outer address, and comes from the box.
#[test]
fn hairpin() {
    let ruleset = table(
        "chain prerouting {
            type nat hook prerouting priority dstnat; policy accept;
            ip daddr 10.0.1.1 tcp dport 8080 counter dnat ip to 10.100.77.7:80
            ip daddr 10.0.1.1 udp dport 8080 counter dnat ip to 10.100.77.7:80
        }
        chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            ip daddr 10.100.77.7 counter snat ip to 10.0.0.1
        }",
    );
    let setup = Setup::tracked("nat_hairpin", 2, &ruleset).with(&[
        "sysctl net.ipv4.conf.all.send_redirects=0",
        "sysctl net.ipv4.conf.d0.send_redirects=0",
    ]);
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..setup
    });
    twin.hand_over();
    for (what, steps) in [("udp", datagrams()), ("tcp", stream())] {
        let one = |_| {
            let mut flow = Flow::new(true);
            flow.ends[SERVER] = plan::own(SERVER)[0];
            flow.ports[SERVER] = 8080;
            View::new(flow).behind([CLIENT, CLIENT])
        };
        let mut views: Vec<View> = (0..4).map(one).collect();
        // Two of one port.
        let port = views[0].labs[0].ports[CLIENT];
        views[1].labs.iter_mut().for_each(|flow| flow.ports[CLIENT] = port);
        play_each(&mut twin, &format!("hairpin: {what}"), &mut views, steps);
        assert!(views[1].ports().iter().all(|mapped| *mapped != port));
    }
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.7));
}

/// Nobody listens there, so the kernel says that; it comes back from the address that was asked.
#[test]
fn redirect_to_the_box() {
    let rules = "iifname \"d0\" meta l4proto { tcp, udp } th dport { 53, 80 } counter redirect to :9999
                 iifname \"d0\" udp dport 54 counter redirect";
    let mut twin = start("nat_redirect", &prerouting(rules));
    for port in [53, 54, 80] {
        let mut views = views(|flow| flow.ports[SERVER] = port);
        views.iter().for_each(|view| twin.answers_as(view.labs[0].ends[SERVER]));
        let datagrams = [udp(CLIENT, 20), udp(CLIENT, 20)];
        play_each(&mut twin, &format!("redirect of {port}: udp"), &mut views, datagrams);
        let syns = [Step::from(c(SYN, 0, 0).mss()), Step::from(c(SYN, 0, 0).mss())];
        let mut views = self::views(|flow| flow.ports[SERVER] = port);
        views.iter().for_each(|view| twin.answers_as(view.labs[0].ends[SERVER]));
        play_each(&mut twin, &format!("redirect of {port}: tcp"), &mut views, syns);
    }
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.0));
}
