//! Ports that are down, come, go, and change under traffic; the other ports notice nothing.
//!
//! A port counts as carried when pings are answered and its sockets have received them. Afterwards every frame must be in its
//! pool or in a ring again, those that were in the rings of a deleted port too.

use crate::lab::bypath::Bypath;
use crate::net::Net;
use crate::stream::Stream;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// A packet every millisecond between hosts 0 and 1.
fn stream(net: &Net) -> Stream {
    Stream::start(&net.hosts[0], &net.hosts[1], "10.0.1.2", Duration::from_millis(1))
}

/// Waits until pings from host 0 to `address` go through bypath; at most five seconds.
#[track_caller]
fn assert_carried(net: &Net, bypath: &Bypath, port: usize) {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let before = received(net, port);
        let answered = net.ping(0, &format!("10.0.{port}.2"), 4);
        std::thread::sleep(Duration::from_millis(50));
        let after = received(net, port);
        if answered == 4 && after >= before + 4 {
            return;
        }
        assert!(
            Instant::now() < until,
            "d{port} carries nothing: {answered} of 4 answered, {} frames; it said:\n{}",
            after - before,
            bypath.said()
        );
    }
}

/// Waits until `bypath show ports` has its port of this index in `state`; at most five seconds.
#[track_caller]
fn assert_state(net: &Net, bypath: &Bypath, index: usize, state: &str) {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let port = &net.show("ports")[index];
        if port["state"] == state {
            return;
        }
        assert!(
            Instant::now() < until,
            "not {state}: {port}; it said:\n{}",
            bypath.said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Frames that bypath has received on the sockets of port `port`.
fn received(net: &Net, port: usize) -> u64 {
    let ports = net.show("ports");
    let queues = ports[port]["queues"].as_array().expect("queues");
    queues.iter().map(|queue| queue["rx"].as_u64().expect("a count")).sum()
}

#[test]
fn a_port_that_is_down_at_the_start_is_waited_for() {
    let net = Net::new(2);
    net.router.run("ip link set d1 down");
    let bypath = Bypath::launch(&net.router, &["run".into(), "d0".into(), "d1".into()]);
    bypath.wait_said("port d1 waits, it is down: `ip link set d1 up`");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!bypath.is_ready(), "ready with a port down");
    assert_eq!(net.show("ports")[1]["state"], "down");
    net.router.run("ip link set d1 up");
    bypath.wait_ready();
    // The kernel has taken the port's addresses for a moment; neighbours are asked anew.
    net.ping_until(0, "10.0.1.2");
    assert_carried(&net, &bypath, 1);
    bypath.stop();
}

#[test]
fn a_port_without_carrier_at_the_start_holds_nothing_up() {
    let net = Net::new(2);
    net.hosts[1].run("ip link set e0 down");
    let bypath = Bypath::launch(&net.router, &["run".into(), "d0".into(), "d1".into()]);
    // A socket without a cable must not be what a unit of systemd waits for at each boot.
    bypath.wait_ready();
    bypath.wait_said("port d1 waits, it has no carrier");
    assert_eq!(net.show("ports")[1]["state"], "down");
    net.hosts[1].run("ip link set e0 up");
    net.hosts[1].run("ip route replace default via 10.0.1.1");
    bypath.wait_said("port d1 forwards");
    assert_carried(&net, &bypath, 1);
    bypath.stop();
}

#[test]
fn a_port_that_is_deleted_and_made_again() {
    delete_and_make_again(Net::new(3), "--workers 1");
}

#[test]
fn a_port_of_another_worker_is_deleted_and_made_again() {
    // Frames for it are on their way from one worker to the other when it goes.
    delete_and_make_again(Net::new(3), "--workers 2");
    delete_and_make_again(Net::with_queues(3, 2), "--workers 2");
}

fn delete_and_make_again(mut net: Net, arguments: &str) {
    let bypath = net.bypath(arguments);
    assert_carried(&net, &bypath, 2);
    let others = stream(&net);
    for mac in ["", "address 02:00:00:00:77:01"] {
        let flood = Stream::start(&net.hosts[0], &net.hosts[2], "10.0.2.2", Duration::from_micros(200));
        std::thread::sleep(Duration::from_millis(300));
        net.router.run("ip link del d2");
        // As long at least as the flood goes on towards a port that is no more.
        std::thread::sleep(Duration::from_millis(300));
        assert_state(&net, &bypath, 2, "gone");
        drop(flood.end());
        net.plug(2, mac);
        assert_carried(&net, &bypath, 2);
    }
    others.end().assert_whole(&net);
    net.assert_audit(&bypath);
    bypath.stop();
    net.assert_nothing_left();
}

#[test]
fn a_port_comes_back_with_more_queues_than_memory_was_planned_for() {
    let mut net = Net::new(2);
    let bypath = net.bypath("--workers 1");
    assert_carried(&net, &bypath, 1);
    net.router.run("ip link del d1");
    bypath.wait_said("port d1 waits, it is gone");
    net.queues = 16;
    net.plug(1, "");
    bypath.wait_said("port d1 forwards");
    net.ping_until(1, "10.0.0.2");
    let before = received(&net, 1);
    assert_all_flows_arrive(&net, &bypath);
    assert!(
        received(&net, 1) > before,
        "nothing of it went through bypath; it said:\n{}",
        bypath.said()
    );
    bypath.wait_said("15 of the 16 queues of port d1 stay with the kernel");
    net.assert_audit(&bypath);
    bypath.stop();
    net.assert_nothing_left();
}

/// Sends from 256 UDP ports of host 1, which its link spreads over its queues, to host 0 until something of each has arrived; for ten
/// seconds at most.
#[track_caller]
fn assert_all_flows_arrive(net: &Net, bypath: &Bypath) {
    let input = net.hosts[0]
        .enter(|| UdpSocket::bind("10.0.0.2:7000"))
        .expect("bind the receiver");
    input
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("timeout");
    let mut missing: BTreeSet<u16> = (20_000..20_256).collect();
    let until = Instant::now() + Duration::from_secs(10);
    while !missing.is_empty() {
        assert!(
            Instant::now() < until,
            "nothing comes from {} of 256 UDP ports; it said:\n{}",
            missing.len(),
            bypath.said()
        );
        net.hosts[1].enter(|| {
            for &port in &missing {
                let output = UdpSocket::bind(("0.0.0.0", port)).expect("bind a sender");
                output.send_to(&[0; 64], "10.0.0.2:7000").expect("send");
            }
        });
        while let Ok((_, from)) = input.recv_from(&mut [0; 64]) {
            missing.remove(&from.port());
        }
    }
}

#[test]
fn the_first_port_is_deleted_and_made_again() {
    // The pool of frames lives on the first socket.
    let mut net = Net::new(3);
    let bypath = Bypath::start(&net.router, &["d2".into(), "d0".into(), "d1".into()], &[]);
    let others = stream(&net);
    for _ in 0..2 {
        net.router.run("ip link del d2");
        std::thread::sleep(Duration::from_millis(300));
        net.plug(2, "");
        assert_state(&net, &bypath, 0, "up");
        assert_eq!(net.ping(0, "10.0.2.2", 5), 5);
    }
    others.end().assert_whole(&net);
    net.assert_audit(&bypath);
    bypath.stop();
}

#[test]
fn a_port_goes_down_and_up() {
    let net = Net::new(3);
    let bypath = net.bypath("");
    assert_carried(&net, &bypath, 2);
    let others = stream(&net);
    for _ in 0..2 {
        net.router.run("ip link set d2 down");
        bypath.wait_said("port d2 waits");
        let (_, said) = (net.ping(0, "10.0.2.2", 1), bypath.said());
        assert!(!said.contains("panicked"), "{said}");
        net.router.run("ip link set d2 up");
        assert_carried(&net, &bypath, 2);
    }
    others.end().assert_whole(&net);
    net.assert_audit(&bypath);
    bypath.stop();
}

#[test]
fn a_port_is_renamed_and_named_back() {
    let net = Net::new(3);
    let bypath = net.bypath("");
    let others = stream(&net);
    net.router.run("ip link set d2 name other");
    bypath.wait_said("port d2 waits, it is gone");
    // Under its new name it is the kernel's.
    net.ping_until(0, "10.0.2.2");
    assert_eq!(net.ping(0, "10.0.2.2", 3), 3);
    net.router.run("ip link set other name d2");
    bypath.wait_said("port d2 forwards");
    assert_carried(&net, &bypath, 2);
    others.end().assert_whole(&net);
    net.assert_audit(&bypath);
    bypath.stop();
}

#[test]
fn the_mac_of_a_port_changes() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    assert_carried(&net, &bypath, 1);
    net.router.run("ip link set d0 address 02:00:00:00:88:01");
    net.hosts[0].run("ip neigh flush dev e0");
    net.ping_until(0, "10.0.1.2");
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let before = received(&net, 0);
        assert_eq!(net.ping(0, "10.0.1.2", 10), 10);
        std::thread::sleep(Duration::from_millis(100));
        let frames = received(&net, 0) - before;
        if frames >= 10 {
            break;
        }
        assert!(
            Instant::now() < until,
            "traffic to the new MAC is not carried: {frames} of 10 frames"
        );
    }
    // And the host sees the new source address.
    let neighbor = net.hosts[0].run("ip neigh show 10.0.0.1");
    assert!(neighbor.contains("02:00:00:00:88:01"), "{neighbor}");
    bypath.stop();
}

#[test]
fn the_mtu_of_a_port_changes() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    assert_carried(&net, &bypath, 1);
    net.router.run("ip link set d1 mtu 1200");
    let large = |bytes: u32| {
        let output = net.hosts[0].output(&format!("ping -n -c 1 -W 1 -M do -s {bytes} 10.0.1.2"), "");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let said = large(1300);
        if said.contains("mtu = 1200") || said.contains("mtu=1200") {
            break;
        }
        assert!(Instant::now() < until, "no answer on the MTU: {said}");
    }
    let said = large(1100);
    assert!(said.contains(" 1 received"), "{said}");
    net.router.run("ip link set d1 mtu 1500");
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        // An answer on the MTU before would keep the host from sending any more.
        net.hosts[0].run("ip route flush cache");
        std::thread::sleep(Duration::from_millis(100));
        let said = large(1400);
        if said.contains(" 1 received") {
            break;
        }
        assert!(Instant::now() < until, "{said}");
    }
    assert_carried(&net, &bypath, 1);
    net.assert_audit(&bypath);
    bypath.stop();
}

#[test]
fn an_mtu_that_no_longer_fits_a_frame_leaves_the_port_to_the_kernel() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    assert_carried(&net, &bypath, 1);
    let set_mtu = |mtu: u32| {
        net.router.run(&format!("ip link set d1 mtu {mtu}"));
        net.hosts[1].run(&format!("ip link set e0 mtu {mtu}"));
    };
    set_mtu(3000);
    bypath.wait_said("port d1 waits, MTU 3000 of d1 does not fit");
    let output = net.hosts[1].output("ping -n -c 3 -i 0.05 -W 1 -M dont -s 2500 10.0.0.2", "");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(" 3 received"), "{said}");
    set_mtu(1500);
    bypath.wait_said("port d1 forwards");
    assert_carried(&net, &bypath, 1);
    net.assert_audit(&bypath);
    bypath.stop();
}
