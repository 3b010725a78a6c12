//! Several workers, queues and ports, all ways to wait, and both ways to attach.
//!
//! With two workers and two single-queue ports every forwarded frame is handed over and comes home again; the audit of frames
//! finds those that do not.

use crate::lab::sys::PacketSocket;
use crate::net::Net;
use crate::stream::Stream;
use std::time::Duration;

/// Ping, paced and flooding UDP and TCP between hosts 0 and 1; nothing is lost but what is counted.
fn exercise(net: &Net, arguments: &str) {
    let bypath = net.bypath(arguments);
    net.ping_until(0, "10.0.1.2");
    assert_eq!(net.ping(0, "10.0.1.2", 10), 10, "{arguments}");
    let flow = Stream::start(&net.hosts[0], &net.hosts[1], "10.0.1.2", Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(500));
    let flow = flow.end();
    flow.assert_whole(net);
    let udp = net.iperf(0, 1, "-u -b 300M -l 200 -t 1");
    let tcp = net.iperf(0, 1, "-t 1");
    let back = net.iperf(0, 1, "-t 1 -R");
    let mega = 1e6;
    println!(
        "`{arguments}`: UDP {:.0}, TCP {:.0} and {:.0} Mbit/s",
        udp / mega,
        tcp / mega,
        back / mega
    );
    assert!(
        tcp > 10.0 * mega && back > 10.0 * mega,
        "{arguments}: TCP stalls: {tcp} {back}"
    );
    let totals = net.assert_audit(&bypath);
    let drops: u64 = totals.dropped.values().sum();
    println!("`{arguments}`: {} forwarded, {drops} dropped", totals.forwarded);
    assert!(totals.forwarded > 10 * drops, "{arguments}: {totals:?}");
    bypath.stop();
    net.assert_nothing_left();
}

#[test]
fn two_workers_hand_every_frame_over() {
    let net = Net::new(2);
    exercise(&net, "--workers 2 --cpus 0,1");
}

#[test]
fn frames_that_are_handed_over_are_counted_so() {
    let net = Net::new(2);
    let bypath = net.bypath("--workers 2 --cpus 0,1");
    assert_eq!(net.ping(0, "10.0.1.2", 5), 5);
    bypath.totals_at_rest();
    let workers = net.show("workers");
    for worker in workers.as_array().expect("a list") {
        assert_eq!(worker["queues"].as_array().map(Vec::len), Some(1), "{workers}");
        assert!(worker["totals"]["received"].as_u64() >= Some(5), "{workers}");
    }
    bypath.stop();
}

#[test]
fn two_workers_on_two_queues() {
    let net = Net::with_queues(2, 2);
    exercise(&net, "--workers 2");
}

#[test]
fn one_worker_spins() {
    exercise(&Net::new(2), "--workers 1 --poll spin");
}

#[test]
fn one_worker_polls_busily() {
    exercise(&Net::new(2), "--workers 1 --poll busy");
}

#[test]
fn copy_mode_by_name() {
    exercise(&Net::new(2), "--mode copy --poll adaptive");
}

#[test]
fn zero_copy_is_refused_where_there_is_none() {
    let net = Net::new(2);
    let (code, said) = net.command("run d0 d1 --mode zerocopy");
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.starts_with("bypath: error: ")).count(),
        1,
        "{said}"
    );
    net.assert_nothing_left();
}

#[test]
fn generic_attach() {
    exercise(&Net::new(2), "--attach generic");
}

#[test]
fn punted_frames_of_a_generic_port_come_by_once() {
    let net = Net::new(2);
    let bypath = net.bypath("--attach generic");
    // Unresolved neighbours: the first frame is punted, and so meets steer again.
    for _ in 0..5 {
        net.router.run("ip neigh flush dev d1");
        assert_eq!(
            net.ping(0, "10.0.1.2", 1),
            1,
            "the first packet to a cold neighbour is lost"
        );
    }
    let totals = net.assert_audit(&bypath);
    let punted: u64 = totals.punted.values().sum();
    let ports = net.show("ports");
    assert_eq!(ports[0]["attach"], "generic");
    let again = |port: usize| ports[port]["steer"]["reinjected"].as_u64().unwrap_or(0);
    assert!(punted >= 1, "nothing was punted: {totals:?}");
    assert_eq!(again(0) + again(1), punted, "{totals:?} {ports}");
    bypath.stop();
}

/// What was punted with a cookie meets steer until it is off the link, so nobody else sees one.
#[test]
fn frames_that_are_punted_as_a_generic_port_ends_leave_without_the_cookie() {
    let net = Net::bridged(2);
    let bypath = net.bypath("--attach generic");
    assert_eq!(net.ping(0, "10.0.0.3", 2), 2);
    let [output, mut input] =
        [0, 1].map(|host| net.hosts[host].enter(|| PacketSocket::open("e0").expect("a packet socket")));
    let to = net.hosts[1].enter(|| mac_of("e0"));
    // Each from another station, which the kernel's bridge has to learn.
    let from = |n: u32| [[6, 0].as_slice(), &n.to_be_bytes()].concat();
    let frame = |n: u32| [&to[..], &from(n), &[0x88, 0xb5], &[0x5a; 46]].concat();
    let (mut seen, mut sent) = (Vec::new(), 0);
    let mut send = |frames: u32, seen: &mut Vec<Vec<u8>>| {
        for _ in 0..frames / 32 {
            let burst: Vec<Vec<u8>> = (sent..sent + 32).map(frame).collect();
            sent += 32;
            output.send(&burst).expect("send");
            input.receive(seen).expect("receive");
        }
    };
    send(1024, &mut seen);
    let punted: u64 = bypath.totals_at_rest().punted.values().sum();
    assert!(punted >= 512, "{:?}", bypath.totals());
    bypath.signal(libc::SIGTERM);
    send(60_000, &mut seen);
    let (status, said) = bypath.ended();
    assert!(status.success(), "{status}:\n{said}");
    seen.retain(|frame| frame[12..14] == [0x88, 0xb5]);
    assert!(seen.len() > 1024, "{} arrived", seen.len());
    let longer = seen.iter().filter(|frame| frame.len() != 60).count();
    assert_eq!(longer, 0, "of {} that arrived", seen.len());
}

/// The address of a link of the calling thread's namespace.
fn mac_of(name: &str) -> [u8; 6] {
    let text = std::process::Command::new("ip")
        .args(["-j", "link", "show", name])
        .output();
    let shown: serde_json::Value = serde_json::from_slice(&text.expect("ip").stdout).expect("ip -j");
    let mac = shown[0]["address"].as_str().expect("an address").split(':');
    let mac: Vec<u8> = mac.map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
    mac.try_into().expect("six bytes")
}

#[test]
fn eight_ports_on_two_workers() {
    let net = Net::new(8);
    let bypath = net.bypath("--workers 2");
    let hosts = &net.hosts;
    let every = Duration::from_millis(2);
    let flows: Vec<Stream> = (0..8)
        .map(|i| {
            Stream::start(
                &hosts[i],
                &hosts[(i + 3) % 8],
                &format!("10.0.{}.2", (i + 3) % 8),
                every,
            )
        })
        .collect();
    for i in 0..8 {
        assert_eq!(
            net.ping(i, &format!("fd00:0:0:{}::2", (i + 1) % 8), 2),
            2,
            "from host {i}"
        );
    }
    for flow in flows {
        let flow = flow.end();
        flow.assert_whole(&net);
    }
    net.assert_audit(&bypath);
    bypath.stop();
    net.assert_nothing_left();
}
