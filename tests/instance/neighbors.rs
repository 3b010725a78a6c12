//! Neighbours that only bypath sends to: the kernel asks them as if it sent itself, so that one that is gone is found out.

use crate::net::Net;
use crate::stream::Stream;
use std::time::{Duration, Instant};

/// A host gets another Ethernet address and tells nobody. By the old one nothing arrives; the router finds out, for it asks a
/// neighbour of which it has not heard for a while, first as it knows it and then all.
#[test]
fn one_that_is_gone_is_found_out_while_bypath_sends_to_it() {
    let net = Net::new(2);
    for family in ["ipv4", "ipv6"] {
        let of = |name: &str| format!("net.{family}.neigh.d1.{name}");
        for (name, value) in [
            ("base_reachable_time_ms", "1000"),
            ("delay_first_probe_time", "1"),
            ("retrans_time_ms", "200"),
        ] {
            net.router.sysctl(&[(&of(name), value)]);
        }
    }
    let bypath = net.bypath("");
    let addresses = ["10.0.1.2", "fd00:0:0:1::2"];
    for address in addresses {
        assert!(net.ping(0, address, 2) > 0, "{address}");
    }
    let every = Duration::from_millis(5);
    let streams = addresses.map(|address| Stream::start(&net.hosts[0], &net.hosts[1], address, every));
    std::thread::sleep(Duration::from_secs(4));
    let before = bypath.totals().forwarded;
    assert!(before > 1000, "only {before} forwarded");
    net.hosts[1].run("ip link set e0 address 02:00:00:00:00:77");
    let until = Instant::now() + Duration::from_secs(10);
    for address in addresses {
        let neighbor = || net.router.run(&format!("ip neigh show {address} dev d1"));
        while !neighbor().contains("02:00:00:00:00:77") {
            assert!(Instant::now() < until, "still {}", neighbor());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    for (stream, address) in streams.into_iter().zip(addresses) {
        let flow = stream.end();
        let last = flow.arrived.last().expect("some").0;
        assert!(
            flow.sent.len() as u64 - last < 20,
            "{address}: packet {last} was the last"
        );
        println!(
            "{address}: {} of {} packets arrived over a change of the Ethernet address",
            flow.arrived.len(),
            flow.sent.len()
        );
    }
    bypath.stop();
}
