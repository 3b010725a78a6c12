//! What a bridge learns while bypath bridges: shown in the words of `bridge`, kept in the kernel while it is in use, and gone
//! when it is not.

use crate::lab::bypath::Bypath;
use crate::net::Net;
use crate::stream::Stream;
use std::time::{Duration, Instant};

/// What `show fdb` says of an address.
fn entry(net: &Net, mac: &str) -> Option<serde_json::Value> {
    let rows = net.show("fdb");
    rows.as_array()
        .expect("a list")
        .iter()
        .find(|row| row["mac"] == mac)
        .cloned()
}

/// The Ethernet address of a host.
fn mac(net: &Net, host: usize) -> String {
    let text = net.hosts[host].run("ip -j link show e0");
    let links: serde_json::Value = serde_json::from_str(&text).expect("ip -j");
    links[0]["address"].as_str().expect("an address").to_owned()
}

#[test]
fn what_is_in_use_is_kept_and_shown_and_what_is_not_goes() {
    let net = Net::bridged(3);
    net.router.run("ip link set br0 type bridge ageing_time 150");
    net.router.sysctl(&[("net.bridge.bridge-nf-call-iptables", "0")]);
    // Whose solicitations would be seen, too.
    for host in &net.hosts {
        host.sysctl(&[("net.ipv6.conf.all.disable_ipv6", "1")]);
    }
    let bypath = Bypath::start(&net.router, &["br0".to_owned()], &[]);
    assert_eq!(net.ping(0, "10.0.0.3", 2), 2);
    let (from, to, idle) = (mac(&net, 0), mac(&net, 1), mac(&net, 2));
    // No ARP any more, whose answers would renew what is looked at here: neighbours are asked again after five seconds.
    for (host, address, of) in [
        (0, "10.0.0.3", &to),
        (1, "10.0.0.2", &from),
        (1, "10.0.0.4", &idle),
        (2, "10.0.0.3", &to),
    ] {
        net.hosts[host].run(&format!("ip neigh replace {address} lladdr {of} dev e0 nud permanent"));
    }
    let _ = net.ping(2, "10.0.0.3", 1);
    let until = Instant::now() + Duration::from_secs(1);
    while entry(&net, &idle).is_none() {
        assert!(Instant::now() < until, "it was not learned");
        std::thread::sleep(Duration::from_millis(10));
    }
    let every = Duration::from_millis(2);
    let there = Stream::start(&net.hosts[0], &net.hosts[1], "10.0.0.3", every);
    let back = Stream::start(&net.hosts[1], &net.hosts[0], "10.0.0.2", every);
    std::thread::sleep(Duration::from_secs(5));
    let row = entry(&net, &from).expect("the sender is known");
    assert_eq!(
        (&row["ifname"], &row["master"], &row["state"]),
        (&"d0".into(), &"br0".into(), &"".into())
    );
    assert!(row["seen_ms"].as_u64().is_some_and(|ms| ms < 1000), "{row}");
    assert!(
        net.router.run("bridge fdb show br br0").contains(&from),
        "in the kernel, too"
    );
    assert_eq!(entry(&net, &idle), None, "it aged out");
    let (code, text) = net.command("show fdb");
    assert!(
        code == Some(0) && text.contains(&format!("{from} dev d0 master br0")),
        "{text}"
    );
    there.end().assert_whole(&net);
    back.end().assert_whole(&net);
    let totals = bypath.totals();
    let punted: u64 = totals.punted.values().sum();
    assert!(totals.forwarded > 4000 && punted < 100, "{totals:?}");
    let (code, text) = net.command("show bridge");
    assert!(
        code == Some(0) && text.contains("master br0 state forwarding") && text.contains("ageing_time 150"),
        "{text}"
    );

    let until = Instant::now() + Duration::from_secs(5);
    while entry(&net, &from).is_some() {
        assert!(Instant::now() < until, "nobody sends, and it stays");
        std::thread::sleep(Duration::from_millis(50));
    }
    bypath.stop();
}
