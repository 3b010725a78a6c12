//! `bypath run br0`: the ports of a bridge that it has and those that it gets, while the others notice nothing.
//!
//! That a port is one is judged by `show ports` and by the XDP program on its link, whether its frames are carried yet or not.

use crate::lab::bypath::Bypath;
use crate::net::Net;
use crate::stream::Stream;
use bypath::control::steer::{Attach, HEARTBEAT_LIMIT, Steer};
use std::time::{Duration, Instant};

/// Waits until the ports that bypath has are these, all of them up; at most five seconds.
#[track_caller]
fn assert_ports(net: &Net, bypath: &Bypath, names: &[&str]) {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let ports = net.show("ports");
        let rows = ports.as_array().expect("a list").iter();
        let mut seen: Vec<&str> = rows
            .filter(|row| row["state"] == "up")
            .map(|row| row["port"].as_str().expect("a name"))
            .collect();
        seen.sort_unstable();
        if seen == names {
            return;
        }
        assert!(
            Instant::now() < until,
            "{seen:?}, not {names:?}; it said:\n{}",
            bypath.said()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The number of a port's queue counter, by its name.
fn received(net: &Net, port: &str) -> u64 {
    let ports = net.show("ports");
    let row = ports.as_array().expect("a list").iter().find(|row| row["port"] == port);
    let queues = row.unwrap_or_else(|| panic!("no {port} in {ports}"))["queues"].as_array();
    queues
        .expect("queues")
        .iter()
        .map(|queue| queue["rx"].as_u64().expect("a count"))
        .sum()
}

fn words(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_bridge_stands_for_its_ports() {
    let net = Net::bridged(3);
    // d1 is named as well, and one port all the same.
    let bypath = Bypath::start(&net.router, &words("br0 d1"), &[]);
    assert_ports(&net, &bypath, &["d0", "d1", "d2"]);
    let ports = net.show("ports");
    let bridge_of = |name: &str| {
        let row = ports.as_array().expect("a list").iter().find(|row| row["port"] == name);
        row.expect("a row")["bridge"].clone()
    };
    assert_eq!(
        (bridge_of("d0"), bridge_of("d1")),
        ("br0".into(), serde_json::Value::Null)
    );
    assert!(bypath.said().contains("room for 64 ports of br0"), "{}", bypath.said());
    assert_eq!(net.ping(0, "10.0.0.4", 3), 3);
    let (code, said) = net.command("check br0");
    assert!(matches!(code, Some(0 | 3)), "{said}");
    let (_, said) = net.command("doctor br0");
    assert!(
        said.contains("a bridge with 3 ports") && said.contains("d2       "),
        "{said}"
    );
    bypath.stop();
    net.assert_nothing_left();
}

#[test]
fn a_missing_bridge_ends_the_start_and_one_without_ports_is_ready() {
    let mut net = Net::bridged(0);
    let (code, said) = net.command("run br7");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("port br7 does not exist"), "{said}");
    let (code, said) = net.command("wire br0 lo");
    assert_eq!(code, Some(1), "{said}");
    let bypath = Bypath::start(&net.router, &words("br0"), &[]);
    bypath.wait_said("bridge br0 has no ports; each that it gets is taken up");
    net.plug(0, "");
    net.plug(1, "");
    assert_ports(&net, &bypath, &["d0", "d1"]);
    assert_eq!(net.ping(0, "10.0.0.3", 3), 3);
    bypath.stop();
}

#[test]
fn ports_of_a_bridge_that_are_down_or_have_no_carrier_hold_nothing_up() {
    let net = Net::bridged(4);
    net.hosts[2].run("ip link set e0 down");
    net.router.run("ip link set d3 down");
    let bypath = Bypath::start(&net.router, &words("br0"), &[]);
    bypath.wait_said("port d2 waits, it has no carrier");
    bypath.wait_said("port d3 waits, it is down");
    assert_ports(&net, &bypath, &["d0", "d1"]);
    assert_eq!(net.ping(0, "10.0.0.3", 3), 3);
    net.router.run("ip link set d3 up");
    net.hosts[2].run("ip link set e0 up");
    assert_ports(&net, &bypath, &["d0", "d1", "d2", "d3"]);
    bypath.stop();
}

#[test]
fn ports_come_and_go_and_the_others_notice_nothing() {
    let mut net = Net::bridged(3);
    let bypath = Bypath::start(&net.router, &words("br0 --workers 2"), &[]);
    assert_ports(&net, &bypath, &["d0", "d1", "d2"]);
    let others = Stream::start(&net.hosts[0], &net.hosts[1], "10.0.0.3", Duration::from_millis(1));
    for _ in 0..3 {
        // Leaves the bridge, and comes back at once: the kernel needs a while to let go of its queue.
        net.router.run("ip link set d2 nomaster");
        net.router.run("ip link set d2 master br0");
        assert_ports(&net, &bypath, &["d0", "d1", "d2"]);
        net.router.run("ip link set d2 nomaster");
        assert_ports(&net, &bypath, &["d0", "d1"]);
        let until = Instant::now() + Duration::from_secs(2);
        while net.router.run("ip link show d2").contains("xdp") {
            assert!(Instant::now() < until, "its XDP program stays");
            std::thread::sleep(Duration::from_millis(10));
        }
        net.router.run("ip link set d2 master br0");
        assert_ports(&net, &bypath, &["d0", "d1", "d2"]);
        // Is deleted, and another one is made.
        net.router.run("ip link del d2");
        assert_ports(&net, &bypath, &["d0", "d1"]);
        net.plug(2, "");
        assert_ports(&net, &bypath, &["d0", "d1", "d2"]);
    }
    net.ping_until(0, "10.0.0.4");
    // Is renamed: it is the same port.
    net.router.run("ip link set d2 name other");
    assert_ports(&net, &bypath, &["d0", "d1", "other"]);
    assert_eq!(net.ping(0, "10.0.0.4", 3), 3);
    others.end().assert_whole(&net);
    net.assert_audit(&bypath);
    bypath.stop();
    net.assert_nothing_left();
}

#[test]
fn a_name_that_comes_back_has_its_counts_and_another_one_begins_anew() {
    let mut net = Net::bridged(2);
    let bypath = Bypath::start(&net.router, &words("br0"), &[]);
    net.router.run("ip link set d1 down");
    bypath.wait_said("port d1 waits, it is down");
    net.router.run("ip link set d1 up");
    bypath.wait_said("port d1 forwards");
    let before = received(&net, "d1");
    net.router.run("ip link del d1");
    assert_ports(&net, &bypath, &["d0"]);
    net.plug(1, "");
    assert_ports(&net, &bypath, &["d0", "d1"]);
    assert!(received(&net, "d1") >= before);
    bypath.stop();
}

#[test]
fn a_bridge_that_is_deleted_is_waited_for() {
    let mut net = Net::bridged(8);
    let bypath = Bypath::start(&net.router, &words("br0"), &[]);
    let all = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];
    assert_ports(&net, &bypath, &all);
    net.router.run("ip link del br0");
    bypath.wait_said("bridge br0 is gone; its ports are taken up again when it comes back");
    assert_ports(&net, &bypath, &[]);
    net.make_bridge();
    for port in all {
        net.router.run(&format!("ip link set {port} master br0"));
    }
    assert_ports(&net, &bypath, &all);
    net.ping_until(0, "10.0.0.9");
    net.plug(8, "");
    assert_eq!(net.hosts.len(), 9);
    net.assert_audit(&bypath);
    bypath.stop();
    net.assert_nothing_left();
}

#[test]
fn what_does_not_suit_or_finds_no_room_stays_with_the_kernel() {
    let mut net = Net::bridged(1);
    net.router
        .run("ip link add big mtu 9000 type veth peer name big1 mtu 9000");
    net.router.run("ip link set big1 up");
    net.router.run("ip link set big master br0 up");
    let bypath = Bypath::start(&net.router, &words("br0"), &[]);
    bypath.wait_said("port big stays with the kernel, MTU 9000 of big does not fit");
    assert_ports(&net, &bypath, &["d0"]);
    // As soon as it suits it is taken up.
    net.router.run("ip link set big mtu 1500");
    assert_ports(&net, &bypath, &["big", "d0"]);
    // More than there is room for.
    let make: String = (0..70)
        .map(|n| format!("link add m{n} type veth peer name n{n}\nlink set n{n} up\nlink set m{n} master br0 up\n"))
        .collect();
    net.router.run_with("ip -batch -", &make);
    bypath.wait_said(
        "stays with the kernel: there was room for 64 ports of bridges at the start; start again to have more",
    );
    let until = Instant::now() + Duration::from_secs(30);
    let up = |net: &Net| {
        let ports = net.show("ports");
        ports
            .as_array()
            .expect("a list")
            .iter()
            .filter(|row| row["state"] == "up")
            .count()
    };
    while up(&net) < 64 {
        assert!(
            Instant::now() < until,
            "{} ports are up; it said:\n{}",
            up(&net),
            bypath.said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // One leaves, and another one gets its room.
    net.router.run("ip link del d0");
    let said = || bypath.said().matches("is taken up").count();
    let (before, until) = (said(), Instant::now() + Duration::from_secs(5));
    while up(&net) < 64 || said() < before {
        assert!(
            Instant::now() < until,
            "{} ports are up; it said:\n{}",
            up(&net),
            bypath.said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    net.plug(0, "");
    net.assert_audit(&bypath);
    bypath.stop();
    net.assert_nothing_left();
}

#[test]
fn a_port_with_somebody_else_s_program_keeps_no_bridge_from_being_ready() {
    let net = Net::bridged(3);
    let line = net.router.run("ip -o link show d2");
    let ifindex = line.split(':').next().and_then(|n| n.parse().ok()).expect("an ifindex");
    let _foreign = net.router.enter(|| {
        let steer = Steer::open(HEARTBEAT_LIMIT).expect("load a program");
        let attached = steer.attach(ifindex, Attach::Native).expect("attach it");
        (steer, attached)
    });
    let bypath = Bypath::start(&net.router, &words("br0"), &[]);
    assert_ports(&net, &bypath, &["d0", "d1"]);
    bypath.wait_said("port d2 waits, another XDP program is attached");
    // It is not asked all the time whether it is free.
    std::thread::sleep(Duration::from_millis(1500));
    let before = switches(&bypath);
    std::thread::sleep(Duration::from_millis(1000));
    let after = switches(&bypath) - before;
    assert!(after < 100, "{after} turns of the control loop in a second");
    bypath.stop();
}

/// How often the control loop has gone to sleep.
fn switches(bypath: &Bypath) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bypath.pid())).expect("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("a count")
}
