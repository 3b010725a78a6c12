//! Segments that their sender's offload has merged beyond the MTU, as a guest behind a TAP sends them: no socket has room for
//! them, so they are the kernel's.
//!
//! ```text
//!   guest 10.0.9.2: a test with the TAP's descriptor ==tap== t0 10.0.9.1 [router] d0 ==veth== host 0, 10.0.0.2
//! ```

use crate::lab::bypath::Bypath;
use crate::lab::packet;
use crate::lab::sys::Tap;
use crate::net::Net;
use std::time::{Duration, Instant};

const PORT: u16 = 7777;
/// Of a TCP header.
const ACK: u8 = 0x10;

/// The net, and the guest's end of the TAP.
fn guest() -> (Net, Tap) {
    let net = Net::new(1);
    net.router.run("ip tuntap add dev t0 mode tap vnet_hdr");
    net.router.run("ip link set t0 address 02:00:00:00:09:01 up");
    let tap = net.router.enter(|| Tap::open("t0")).expect("open the TAP");
    net.router.run_with(
        "ip -batch -",
        "addr add 10.0.9.1/24 dev t0\nneigh add 10.0.9.2 lladdr 02:00:00:00:09:02 dev t0\n",
    );
    assert_eq!(net.ping(0, "10.0.0.1", 1), 1, "the box knows its neighbour");
    let rules = format!(
        "table ip t {{ chain c {{ type filter hook prerouting priority 0; tcp dport {PORT} counter drop; }}; }}"
    );
    net.hosts[0].run_with("nft -f -", &rules);
    (net, tap)
}

fn ports() -> Vec<String> {
    ["d0", "t0"].map(str::to_owned).to_vec()
}

/// TCP from the guest to host 0 with `length` bytes of data.
fn segment(length: usize) -> Vec<u8> {
    let (src, dst) = (packet::ip("10.0.9.2"), packet::ip("10.0.0.2"));
    let mut segment = packet::tcp(src, dst, (40_000, PORT), ACK, length);
    (segment.dst_mac, segment.src_mac) = ([2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2]);
    segment.build()
}

/// Bytes of IP that host 0 has had from the guest, once they are so many; or after a second.
fn arrived(net: &Net, wanted: u64) -> u64 {
    let until = Instant::now() + Duration::from_secs(1);
    loop {
        let shown = net.hosts[0].run("nft list table ip t");
        let bytes = shown
            .split("bytes ")
            .nth(1)
            .and_then(|text| text.split_whitespace().next());
        let bytes = bytes.and_then(|text| text.parse().ok()).expect("a count of bytes");
        if bytes >= wanted || Instant::now() > until {
            return bytes;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_guest_s_merged_segments_are_the_kernel_s_and_others_are_carried() {
    const DATA: usize = 4000;
    let (net, mut tap) = guest();
    let bypath = Bypath::start(&net.router, &ports(), &[]);
    tap.send_tcp(&segment(1000), None).expect("a segment");
    assert_eq!(arrived(&net, 1040), 1040);
    assert_eq!(bypath.totals_at_rest().forwarded, 1, "{:?}", bypath.totals());
    tap.send_tcp(&segment(DATA), Some(1400)).expect("merged segments");
    assert!(arrived(&net, 1040 + DATA as u64) > 1040 + DATA as u64, "they were lost");
    let totals = bypath.totals_at_rest();
    assert_eq!((totals.received, totals.forwarded), (1, 1), "{totals:?}");
    assert_eq!(net.show("ports")[1]["steer"]["merged"], 1, "{}", net.show("ports"));
    bypath.stop();
}

/// The kernel would meet them without their connection.
#[test]
fn where_connections_are_tracked_what_passes_by_such_a_guest_is_the_kernel_s() {
    let (net, mut tap) = guest();
    net.router.run_with(
        "nft -f -",
        "table ip f { chain c { type filter hook forward priority 0; ct state invalid drop; }; }",
    );
    let (code, said) = net.command("check d0 t0");
    assert_eq!(code, Some(3), "{said}");
    let line = said.lines().find(|line| line.contains("port t0"));
    assert!(
        line.is_some_and(|line| line.contains("TAP t0 may merge segments")),
        "{said}"
    );
    let bypath = Bypath::start(&net.router, &ports(), &[]);
    let back = |length: usize| net.hosts[0].output(&format!("ping -n -c 1 -W 1 -s {length} 10.0.9.2"), "");
    tap.send_tcp(&segment(1000), None).expect("a segment");
    assert_eq!(arrived(&net, 1040), 1040);
    back(100);
    let totals = bypath.totals_at_rest();
    assert_eq!(totals.forwarded, 0, "{totals:?}");
    let steer = net.show("ports")[1]["steer"].clone();
    assert!(steer["family_left"].as_u64() >= Some(1), "{steer}");
    // Without tracking all of it but these is carried.
    net.router.run("nft flush ruleset");
    let until = Instant::now() + Duration::from_secs(5);
    while bypath.totals().forwarded == 0 {
        assert!(Instant::now() < until, "{:?}", bypath.totals());
        tap.send_tcp(&segment(100), None).expect("a segment");
        std::thread::sleep(Duration::from_millis(50));
    }
    bypath.stop();
}
