//! Everyday traffic, with offloads on at the ends as they come.
//!
//! TCP with partial checksums and segmentation, a file byte for byte, what the router answers itself, cold neighbours,
//! broadcasts: with bypath running nobody may notice it.

use crate::net::{Net, Server};
use std::time::Duration;

#[test]
fn tcp_both_ways_and_to_the_router_itself() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    let there = net.iperf(0, 1, "-t 1");
    let back = net.iperf(0, 1, "-t 1 -R");
    let six = net.iperf_to(0, &net.hosts[1], "fd00:0:0:1::2", "-t 1");
    let own = net.iperf_to(0, &net.router, "10.0.0.1", "-t 1");
    println!(
        "TCP: {:.0} there, {:.0} back, {:.0} by IPv6, {:.0} to the router, Mbit/s",
        there / 1e6,
        back / 1e6,
        six / 1e6,
        own / 1e6
    );
    assert!(there.min(back).min(six).min(own) > 1e7, "TCP stalls");
    let totals = net.assert_audit(&bypath);
    assert!(totals.forwarded > 10_000, "{totals:?}");
    bypath.stop();
}

#[test]
fn a_connection_outlives_start_and_end() {
    let net = Net::new(2);
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| net.iperf(0, 1, "-t 8 -b 50M"));
        std::thread::sleep(Duration::from_millis(800));
        let bypath = net.bypath("");
        std::thread::sleep(Duration::from_millis(1000));
        assert!(bypath.totals().forwarded > 100);
        bypath.stop();
        let bits = transfer.join().expect("iperf3");
        assert!(bits > 2e7, "the connection stalled: {bits}");
    });
}

#[test]
fn a_file_arrives_as_it_was() {
    let net = Net::new(2);
    let folder = std::env::temp_dir().join(format!("bypath-instance-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let bytes: Vec<u8> = (0..20_000_000u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    std::fs::write(folder.join("file"), &bytes).expect("a file");
    let bypath = net.bypath("");
    let line = format!("python3 -m http.server --directory {} 8000", folder.display());
    let server = Server::start(&net.hosts[1], &line, 8000);
    let output = net.hosts[0].output("curl -sS -m 60 http://10.0.1.2:8000/file", "");
    drop(server);
    let _ = std::fs::remove_dir_all(&folder);
    assert!(
        output.stdout == bytes,
        "{} bytes came, {}",
        output.stdout.len(),
        String::from_utf8_lossy(&output.stderr)
    );
    net.assert_audit(&bypath);
    bypath.stop();
}

#[test]
fn the_kernel_answers_what_is_its_own() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    for (ping, wanted) in [
        (
            "ping -n -c 1 -W 1 -t 1 10.0.1.2",
            "From 10.0.0.1 icmp_seq=1 Time to live exceeded",
        ),
        ("ping -n -c 1 -W 1 10.0.0.1", " 1 received"),
        ("ping -n -c 1 -W 1 10.0.1.1", " 1 received"),
        ("ping -n -c 1 -W 1 203.0.113.1", "Unreachable"),
        ("ping -n -c 1 -W 1 -t 1 fd00:0:0:1::2", "Time exceeded"),
        ("ping -n -c 1 -W 1 -b 10.0.0.255", "BROADCAST"),
    ] {
        let output = net.hosts[0].output(ping, "");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        if ping.contains(" -b ") {
            assert!(said.to_uppercase().contains(wanted), "`{ping}`: {said}");
        } else {
            assert!(said.contains(wanted), "`{ping}`: {said}");
        }
    }
    net.assert_audit(&bypath);
    bypath.stop();
}

#[test]
fn the_first_packet_to_a_cold_neighbour_arrives() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    for address in ["10.0.1.2", "fd00:0:0:1::2"] {
        for _ in 0..5 {
            net.router.run("ip neigh flush dev d1");
            net.router.run("ip -6 neigh flush dev d1");
            assert_eq!(net.ping(0, address, 1), 1, "the first packet to {address} was lost");
        }
    }
    let totals = net.assert_audit(&bypath);
    assert!(totals.punted["neighbor_unresolved"] >= 2, "{totals:?}");
    bypath.stop();
}

#[test]
fn a_broadcast_reaches_the_router() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    let server = net
        .router
        .enter(|| std::net::UdpSocket::bind("0.0.0.0:67"))
        .expect("bind");
    server.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
    let client = net.hosts[0]
        .enter(|| std::net::UdpSocket::bind("0.0.0.0:68"))
        .expect("bind");
    client.set_broadcast(true).expect("broadcast");
    for n in 0..10u8 {
        client.send_to(&[n; 300], "255.255.255.255:67").expect("send");
        let mut packet = [0; 512];
        let (bytes, _) = server.recv_from(&mut packet).expect("the broadcast");
        assert_eq!(packet[..bytes], [n; 300]);
    }
    bypath.stop();
}
