//! NAT by targets of iptables-nft in all its forms, of both families, and segment sizes: the scenarios of `nat`, `nat_more`
//! and `nat_marks` once more, under rules that the kernel has as structs of x_tables.

use crate::flow::{ACK, CLIENT, Flow, SERVER, SYN, c, s};
use crate::lab::twin::Share;
use crate::nat::{FORWARDED, FROM_POOL, MASQUERADED, PLAIN, flows, pool, traffic};
use crate::nat_more::{self, clashing, datagrams, stream};
use crate::script::{Step, one, play_each, play_for};
use crate::view::View;
use crate::xt_rules::start;

fn nat_table(rules: &str) -> String {
    let rules: String = rules.lines().map(|rule| format!("-A {}\n", rule.trim())).collect();
    format!("*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{rules}COMMIT\n")
}

#[test]
fn sources_of_both_families() {
    let mut twin = start(
        "xt_snat",
        &nat_table("POSTROUTING -s 10.100.0.0/16 -o d1 -j SNAT --to-source 10.0.1.200"),
        &nat_table("POSTROUTING -s fd00:100::/32 -j SNAT --to-source fd00:0:0:1::200"),
    );
    twin.answer_for(SERVER, pool(true), crate::lab::packet::neighbor_mac(SERVER, 0));
    traffic(&mut twin, "pool", &FROM_POOL, &[true, false]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
    let rule = nat_table("POSTROUTING -o d1 -j MASQUERADE");
    let mut twin = start("xt_masquerade", &rule, &rule);
    traffic(&mut twin, "masquerade", &MASQUERADED, &[true, false]);
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn destinations_of_both_families() {
    let rules = |to: &str| {
        nat_table(&format!(
            "PREROUTING -i d0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination {to}
             PREROUTING -i d0 -p udp -m udp --dport 8080 -j DNAT --to-destination {to}"
        ))
    };
    let mut twin = start("xt_dnat", &rules("10.101.0.7:80"), &rules("[fd00:101::7]:80"));
    traffic(&mut twin, "forwarded", &FORWARDED, &[true, false]);
    traffic(&mut twin, "plain", &PLAIN, &[true, false]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn ranges_and_random_ports() {
    for (name, how, ports) in [
        ("xt_random", "MASQUERADE --random", 1024..=65535),
        ("xt_range", "MASQUERADE --to-ports 2000-2999", 2000..=2999),
        (
            "xt_range_random",
            "MASQUERADE --to-ports 3000-3999 --random-fully",
            3000..=3999,
        ),
        (
            "xt_snat_range",
            "SNAT --to-source OWN:4000-4999 --persistent",
            4000..=4999,
        ),
    ] {
        let table = |own: &str| {
            let how = how.replace("OWN", own);
            nat_table(&format!(
                "POSTROUTING -o d1 -p tcp -j {how}
                 POSTROUTING -o d1 -p udp -j {how}"
            ))
        };
        let mut twin = start(name, &table("10.0.1.1"), &table("[fd00:0:0:1::1]"));
        let fresh = || -> Vec<View> {
            let mut views = nat_more::views(|_| {});
            views.extend(clashing(4));
            views.into_iter().map(View::random).collect()
        };
        for (what, steps) in [("udp", datagrams()), ("tcp", stream())] {
            let mut views = fresh();
            play_each(&mut twin, &format!("{name}: {what}"), &mut views, steps);
            for view in &views {
                let all = view.ports();
                assert!(all.iter().all(|port| ports.contains(port)), "{how}: {all:?}");
            }
        }
        twin.compare_counters();
        twin.finish(Share::AtLeast(0.8));
    }
}

/// A network becomes another one, host by host; ports are counted from a base; all that asks for the box is its own.
#[test]
fn networks_offsets_and_redirects() {
    let mut twin = start(
        "xt_netmap",
        &nat_table(
            "PREROUTING -i d0 -d 10.201.0.0/16 -j NETMAP --to 10.101.0.0/16
             PREROUTING -i d0 -p tcp -m tcp --dport 5000:5100 -j DNAT --to-destination 10.101.0.7:6000-6100/5000
             PREROUTING -i d0 -p udp -m udp --dport 7000 -j REDIRECT --to-ports 9999
             POSTROUTING -o d1 -s 10.100.0.0/16 -j NETMAP --to 10.200.0.0/16",
        ),
        &nat_table(
            "PREROUTING -i d0 -d fd00:201::/32 -j NETMAP --to fd00:101::/32
             PREROUTING -i d0 -p tcp -m tcp --dport 5000 -j REDIRECT --to-ports 9999
             POSTROUTING -o d1 -s fd00:100::/32 -j NETMAP --to fd00:200::/32",
        ),
    );
    let named = |flow: &mut Flow| {
        flow.ends[SERVER] = match flow.ends[SERVER] {
            std::net::IpAddr::V4(server) => {
                let [_, _, high, low] = server.octets();
                std::net::Ipv4Addr::new(10, 201, high, low).into()
            }
            std::net::IpAddr::V6(server) => {
                let mut words = server.segments();
                words[1] = 0x201;
                std::net::Ipv6Addr::from(words).into()
            }
        };
    };
    let all = nat_more::traffic(&mut twin, "prefix", || nat_more::views(named));
    for view in all {
        let [client, server] = view.labs[0].seen_by(SERVER).ends.map(|end| end.to_string());
        let mapped = [["10.200.", "10.101."], ["fd00:200:", "fd00:101:"]];
        assert!(
            mapped
                .iter()
                .any(|[from, to]| client.starts_with(from) && server.starts_with(to)),
            "{client} {server}"
        );
    }
    let mut views = nat_more::views(|flow| flow.ports[SERVER] = 5042);
    views.retain(|view| view.labs[0].is_ipv4());
    play_each(&mut twin, "offset", &mut views, stream());
    assert!(
        views
            .iter()
            .all(|view| view.labs[0].seen_by(SERVER).ports[SERVER] == 6042)
    );
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
}

/// The size of segments is cut where connections begin; where it is not there, the kernel makes room for it.
#[test]
fn segment_sizes() {
    for (name, how, mtu, share) in [
        ("xt_clamp", "--clamp-mss-to-pmtu", 1400, 0.6),
        ("xt_set_mss", "--set-mss 1200", 1500, 0.6),
        ("xt_set_mss_larger", "--set-mss 9000", 1500, 0.6),
    ] {
        let rules = format!(
            "*mangle
             :FORWARD ACCEPT [0:0]
             -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS {how}
             -A FORWARD -m conntrack --ctstate INVALID -j DROP
             COMMIT
             *nat
             :POSTROUTING ACCEPT [0:0]
             -A POSTROUTING -o d1 -j MASQUERADE
             COMMIT"
        );
        let mut twin = start(name, &rules, &rules);
        twin.change(&[&format!("ip link set d1 mtu {mtu}")]);
        let steps = [
            Step::from(c(SYN, 0, 0).mss()),
            Step::from(s(SYN | ACK, 0, 1).mss()),
            Step::from(c(ACK, 1, 1)),
            Step::from(c(ACK, 1, 1).data(600)),
            Step::from(s(ACK, 1, 601).data(11)),
            Step::from(c(ACK, 601, 12).mss()),
        ];
        play_for(&mut twin, "tcp", &flows(&MASQUERADED, &[true, false]), steps);
        let steps = [
            Step::from(c(SYN, 0, 0).option(&[1]).mss()),
            Step::from(c(SYN, 0, 0).option(&[2, 4, 0, 100])),
            Step::from(c(SYN, 0, 0).option(&[2, 3, 1]).mss()),
        ];
        play_for(&mut twin, "odd", &flows(&MASQUERADED, &[true, false]), steps);
        let steps = [
            Step::from(c(SYN, 0, 0)),
            Step::from(s(SYN | ACK, 0, 1)),
            Step::from(c(ACK, 1, 1)),
            Step::from(c(ACK, 1, 1).data(60)),
        ];
        play_for(&mut twin, "without", &flows(&MASQUERADED, &[true, false]), steps);
        let udp = |from: usize| one("udp", from, move |flow: &Flow| flow.udp(from, 20));
        let steps = [udp(CLIENT), udp(SERVER)];
        play_for(&mut twin, "udp", &flows(&MASQUERADED, &[true, false]), steps);
        twin.compare_counters();
        twin.finish(Share::AtLeast(share));
    }
}
