//! `bypath wire d0 d1`: whatever comes in on one end leaves on the other, untouched.
//!
//! Hosts at the ends find themselves on one network; frames that no router would forward are injected and compared byte
//! for byte, in both directions.

use crate::lab::bypath::Bypath;
use crate::lab::router::{Lab, Layout};
use crate::net::Net;
use std::time::{Duration, Instant};

fn words() -> Vec<String> {
    ["wire", "d0", "d1"].map(str::to_owned).to_vec()
}

#[test]
fn hosts_at_both_ends_of_a_wire_are_neighbours() {
    let net = Net::new(2);
    // One network: the router's addresses are out of the way, and its kernel forwards nothing.
    net.router.run("ip addr flush dev d0");
    net.router.run("ip addr flush dev d1");
    net.router
        .sysctl(&[("net.ipv4.ip_forward", "0"), ("net.ipv6.conf.all.forwarding", "0")]);
    for (host, address) in net.hosts.iter().zip(["192.0.2.1/24", "192.0.2.2/24"]) {
        host.run(&format!("ip addr add {address} dev e0"));
    }
    let bypath = Bypath::launch(&net.router, &words());
    bypath.wait_ready();
    assert_eq!(net.ping(0, "192.0.2.2", 10), 10);
    // Senders leave checksums to their (virtual) hardware.
    let there = net.iperf_to(0, &net.hosts[1], "192.0.2.2", "-t 1");
    let back = net.iperf_to(0, &net.hosts[1], "192.0.2.2", "-t 1 -R");
    println!("wire: TCP {:.0} and {:.0} Mbit/s", there / 1e6, back / 1e6);
    assert!(there.min(back) > 1e7, "TCP stalls: {there} {back}");
    // A whole frame fits, and one byte more than the MTU does not.
    let output = net.hosts[0].output("ping -n -c 2 -i 0.05 -W 1 -M do -s 1472 192.0.2.2", "");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(" 2 received"), "{said}");
    net.assert_audit(&bypath);
    bypath.stop();
    net.assert_nothing_left();
}

/// Frames that no router would forward.
fn strange_frames() -> Vec<Vec<u8>> {
    let frame = |dst: [u8; 6], rest: &[u8], len: usize| {
        let mut frame = dst.to_vec();
        frame.extend([0x02, 0, 0, 0, 0x55, 0x01]);
        frame.extend(rest);
        while frame.len() < len {
            frame.push((frame.len() * 7) as u8);
        }
        frame
    };
    let broadcast = [0xff; 6];
    let foreign = [0x02, 0, 0, 0, 0x66, 0x01];
    let stp = [0x01, 0x80, 0xc2, 0, 0, 0];
    vec![
        frame(broadcast, &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1], 60),
        frame(foreign, &[0x81, 0x00, 0x00, 0x64, 0x08, 0x00, 0x45], 200),
        frame(
            foreign,
            &[0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x65, 0x08, 0x00],
            300,
        ),
        frame(stp, &[0x00, 0x26, 0x42, 0x42, 0x03], 60),
        frame([0x01, 0, 0x5e, 0, 0, 1], &[0x08, 0x00, 0x46], 100),
        frame([0x33, 0x33, 0, 0, 0, 1], &[0x86, 0xdd, 0x60], 100),
        // Says it is IPv4, and is not; its lengths lie; options; TTL 1.
        frame(foreign, &[0x08, 0x00, 0x6f, 0xff, 0xff, 0xff], 64),
        frame(foreign, &[0x08, 0x00, 0x45, 0, 0xff, 0xff, 0, 0, 0, 0, 1, 17], 90),
        frame(foreign, &[0x86, 0xdd, 0x60, 0, 0, 0, 0xff, 0xff, 0, 1], 90),
        frame(foreign, &[0x12, 0x34], 60),
        frame(foreign, &[0x12, 0x34], 15),
        frame(foreign, &[0x12, 0x34], 1514),
    ]
}

#[test]
fn frames_pass_a_wire_untouched_both_ways() {
    let mut lab = Lab::new(&Layout::ports(2));
    let bypath = Bypath::launch(&lab.router, &words());
    bypath.wait_ready();
    lab.switch_offloads_off();
    lab.drain();
    for wire in &mut lab.wires {
        wire.captured.clear();
    }
    let frames = strange_frames();
    for (from, to) in [(0, 1), (1, 0)] {
        lab.wires[from].inject(&frames);
        let until = Instant::now() + Duration::from_secs(3);
        // The router's own IPv6 chatter leaves by the same port.
        let ours = |frame: &Vec<u8>| frame.get(6..12) == Some(&[0x02, 0, 0, 0, 0x55, 0x01]);
        loop {
            lab.drain();
            let arrived: Vec<Vec<u8>> = lab.wires[to]
                .captured
                .iter()
                .filter(|frame| ours(frame))
                .cloned()
                .collect();
            if arrived.len() >= frames.len() || Instant::now() > until {
                for frame in &frames {
                    assert!(
                        arrived.contains(frame),
                        "{from} to {to} did not pass as it was: {frame:02x?}\nof {arrived:02x?}"
                    );
                }
                assert_eq!(arrived.len(), frames.len(), "{from} to {to}");
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    bypath.totals_at_rest().assert_balanced();
    bypath.stop();
}
