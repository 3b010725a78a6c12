//! Changes of the kernel's configuration under traffic, and how soon they are in force.
//!
//! A latency counts from the return of `ip` or `nft` to the first packet that takes the new way, or to the last that takes
//! the old; 0 is a change that was in force before the command had returned. The bound is 100 ms. Both are told by when packets
//! were sent and arrived, by the kernel's clock where the test might be late: that a test waited for its CPU is no latency.

use crate::net::Net;
use crate::stream::Stream;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const IN_FORCE_WITHIN: Duration = Duration::from_millis(100);

#[test]
fn a_route_change_is_in_force_at_once() {
    let net = Net::new(3);
    let receivers: Vec<UdpSocket> = [1, 2]
        .map(|host: usize| {
            net.hosts[host].run("ip addr add 10.9.0.1/32 dev lo");
            let socket = net.hosts[host]
                .enter(|| UdpSocket::bind("10.9.0.1:7000"))
                .expect("bind");
            socket.set_nonblocking(true).expect("nonblocking");
            socket
        })
        .into();
    let sender = net.hosts[0].enter(|| UdpSocket::bind("10.0.0.2:0")).expect("bind");
    let bypath = net.bypath("");
    net.ping_until(0, "10.0.1.2");
    net.ping_until(0, "10.0.2.2");
    let mut latencies = Vec::new();
    // When each packet was sent; a packet is its number.
    let mut sent: Vec<Instant> = Vec::new();
    for round in 0..20 {
        let (way, first) = (round % 2, sent.len());
        net.router
            .run(&format!("ip route replace 10.9.0.1 via 10.0.{}.2", way + 1));
        let changed = Instant::now();
        let mut packet = [0; 8];
        let took = loop {
            assert!(
                changed.elapsed() < Duration::from_secs(3),
                "round {round}: no packet takes the new way"
            );
            let number = sent.len() as u64;
            sent.push(Instant::now());
            sender.send_to(&number.to_be_bytes(), "10.9.0.1:7000").expect("send");
            std::thread::sleep(Duration::from_micros(200));
            let took = receivers[way]
                .recv(&mut packet)
                .map(|_| u64::from_be_bytes(packet) as usize);
            // One that was sent before the change may be late.
            if let Ok(took) = took
                && took >= first
            {
                break took;
            }
        };
        // The one before it was the last that took the old way.
        let last = sent[first..took].last();
        latencies.push(last.map_or(Duration::ZERO, |sent| sent.saturating_duration_since(changed)));
        std::thread::sleep(Duration::from_millis(30));
        for receiver in &receivers {
            while receiver.recv(&mut packet).is_ok() {}
        }
    }
    latencies.sort_unstable();
    println!(
        "a route change, until the last packet took the old way: median {:.1?}, worst {:.1?}",
        latencies[10], latencies[19]
    );
    assert!(latencies[19] < IN_FORCE_WITHIN, "{latencies:?}");
    assert!(bypath.totals_at_rest().forwarded >= 20);
    bypath.stop();
}

#[test]
fn a_chain_that_is_added_stops_forwarding_around_it() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    let flow = Stream::start(&net.hosts[0], &net.hosts[1], "10.0.1.2", Duration::from_micros(500));
    std::thread::sleep(Duration::from_millis(500));
    assert!(bypath.totals().forwarded > 100);
    let ruleset = "table ip t {\n chain c {\n type filter hook forward priority 0; policy drop;\n }\n}\n";
    net.router.run_with("nft -f -", ruleset);
    let added = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let before = bypath.totals_at_rest().forwarded;
    let deleted = Instant::now();
    net.router.run("nft delete table ip t");
    std::thread::sleep(Duration::from_millis(1000));
    let after = bypath.totals().forwarded;
    let flow = flow.end();
    let until_deleted = flow.arrived.iter().map(|(_, at)| *at).filter(|at| *at < deleted);
    let late = until_deleted
        .max()
        .map_or(Duration::ZERO, |last| last.saturating_duration_since(added));
    println!("a chain that drops, until the last packet passed around it: {late:.1?}");
    assert!(late < IN_FORCE_WITHIN, "{late:?}");
    assert!(
        after > before + 100,
        "it does not carry again: {before} to {after}; it said:\n{}",
        bypath.said()
    );
    net.assert_audit(&bypath);
    bypath.stop();
}

/// `count` commands for routes to distinct /32s, behind host 1.
fn routes(verb: &str, count: u32) -> String {
    let one = |n: u32| {
        format!(
            "route {verb} {} via 10.0.1.2\n",
            std::net::Ipv4Addr::from(0x1400_0000 + n)
        )
    };
    (0..count).map(one).collect()
}

#[test]
fn fifty_thousand_route_changes_disturb_nobody() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    net.ping_until(0, "10.0.1.2");
    let flow = Stream::start(&net.hosts[0], &net.hosts[1], "10.0.1.2", Duration::from_millis(1));
    let (add, del) = (routes("add", 5_000), routes("del", 5_000));
    let since = Instant::now();
    let mut changes = 0u32;
    while since.elapsed() < Duration::from_secs(5) && changes < 50_000 {
        for batch in [&add, &del] {
            net.router.run_with("ip -batch -", batch);
            changes += 5_000;
            // 10,000 changes a second.
            std::thread::sleep(Duration::from_millis(u64::from(changes) / 10).saturating_sub(since.elapsed()));
        }
    }
    let took = since.elapsed();
    let flow = flow.end();
    println!("{changes} route changes in {took:.1?}: {}", flow.said());
    flow.assert_whole(&net);
    // The mirror is right afterwards.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let routes = net.show("routes");
        let is_left =
            |route: &&serde_json::Value| route["destination"].as_str().is_some_and(|to| to.starts_with("20."));
        let left = routes.as_array().expect("a list").iter().filter(is_left).count();
        if left == 0 {
            break;
        }
        assert!(Instant::now() < until, "{left} routes that were deleted are left");
    }
    let totals = net.assert_audit(&bypath);
    assert!(
        totals.forwarded as usize >= flow.sent.len() * 9 / 10,
        "most was not carried: {totals:?}"
    );
    bypath.stop();
}

#[test]
fn a_million_routes_are_loaded_under_traffic() {
    if std::env::var_os("BYPATH_SCALE").is_none() {
        println!("left out: a million routes, set BYPATH_SCALE=1");
        return;
    }
    let net = Net::new(2);
    let bypath = net.bypath("");
    let flow = Stream::start(&net.hosts[0], &net.hosts[1], "10.0.1.2", Duration::from_millis(1));
    let since = Instant::now();
    net.router.run_with("ip -batch -", &routes("add", 1_000_000));
    println!("a million routes in {:.1?}", since.elapsed());
    net.hosts[1].run("ip addr add 20.15.66.63/32 dev lo");
    net.ping_until(0, "20.15.66.63");
    let flow = flow.end();
    println!("while they were loaded: {}", flow.said());
    flow.assert_whole(&net);
    bypath.stop();
}
