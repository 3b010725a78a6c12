//! A set of which elements come and go many times a second, while traffic that is not in it flows: each change is in force
//! at once, nothing is left to the kernel, and the ruleset is not read anew.

use crate::net::Net;
use crate::stream::Stream;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// On a busy machine, too; what the design asks for, `live.rs` judges.
const IN_FORCE_WITHIN: Duration = Duration::from_millis(500);
const ROUNDS: u32 = 100;

/// Whole readings and commits of elements so far.
fn taken(net: &Net) -> [u64; 2] {
    let text = net.router.run("curl -s http://127.0.0.1:9309/metrics");
    ["reading", "delta"].map(|way| {
        let head = format!("bypath_rules_taken_total{{way=\"{way}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&head));
        line.expect("the metric").parse().expect("a number")
    })
}

#[test]
fn elements_that_come_and_go_are_obeyed_and_leave_nothing() {
    let net = Net::new(2);
    net.router.run("ip link set lo up");
    net.hosts[0].run("ip addr add 10.0.0.3/24 dev e0");
    let elements: Vec<_> = (0..20_000u32)
        .map(|n| std::net::Ipv4Addr::from(0x1400_0000 + n).to_string())
        .collect();
    net.router.run_with(
        "nft -f -",
        &format!(
            "table inet t {{\n set s {{ type ipv4_addr; elements = {{ {} }}; }}\n chain c {{\n \
             type filter hook forward priority 0; policy drop;\n ip saddr @s drop\n \
             ct state established,related accept\n udp dport {{ 7000-7999 }} accept\n }}\n}}\n",
            elements.join(", ")
        ),
    );
    let receiver = net.hosts[1].enter(|| UdpSocket::bind("10.0.1.2:7900")).expect("bind");
    receiver.set_nonblocking(true).expect("nonblocking");
    let sender = net.hosts[0].enter(|| UdpSocket::bind("10.0.0.3:0")).expect("bind");
    let bypath = net.bypath("--metrics 127.0.0.1:9309");
    let flow = Stream::start(&net.hosts[0], &net.hosts[1], "10.0.1.2", Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(500));
    let mut packet = [0; 8];
    let mut came = |within: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < within {
            sender.send_to(&[0; 8], "10.0.1.2:7900").expect("send");
            std::thread::sleep(Duration::from_micros(300));
            if receiver.recv(&mut packet).is_ok() {
                return Some(begun.elapsed());
            }
        }
        None
    };
    assert!(came(Duration::from_secs(3)).is_some(), "{}", bypath.said());
    let (before, [readings, deltas]) = (bypath.totals(), taken(&net));
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        net.router.run("nft add element inet t s { 10.0.0.3 }");
        let added = Instant::now();
        while came(Duration::from_millis(3)).is_some() {
            assert!(added.elapsed() < IN_FORCE_WITHIN, "{round}: it passes still");
        }
        closed.push(added.elapsed());
        net.router.run("nft delete element inet t s { 10.0.0.3 }");
        let passes = came(IN_FORCE_WITHIN);
        open.push(passes.unwrap_or_else(|| panic!("{round}: it does not pass")));
    }
    let (after, now) = (bypath.totals(), taken(&net));
    closed.sort_unstable();
    open.sort_unstable();
    println!(
        "in force after: in the set {:.1?}, out of it {:.1?}",
        closed[50], open[50]
    );
    // One whose end the kernel is kept from telling for some milliseconds is read.
    let [read, told] = [now[0] - readings, now[1] - deltas];
    println!("{read} readings for {} commits", 2 * ROUNDS);
    assert!(
        read <= u64::from(ROUNDS) / 10 && read + told >= u64::from(2 * ROUNDS) - read,
        "{read} readings, {told} commits told"
    );
    let punted = |totals: &crate::lab::bypath::Totals| totals.punted.values().sum::<u64>();
    assert!(
        punted(&after) - punted(&before) < 50,
        "{:?} became {:?}",
        before.punted,
        after.punted
    );
    let flow = flow.end();
    flow.assert_whole(&net);
    net.assert_audit(&bypath);
    bypath.stop();
}
