//! 64 ports of one bridge, all busy, while others come and go ten times a second: no flow loses a packet.
//!
//! Ten seconds of it; BYPATH_CHURN_SECONDS=60 is the full minute. Every packet of every flow is counted at its receiver. What is
//! lost must have been counted by bypath as frames that a ring had no room for, which happens where the machine is so busy that
//! a worker waits for its CPU.

use crate::lab::bypath::Bypath;
use crate::net::Net;
use crate::stream::{Flow, Stream};
use std::time::{Duration, Instant};

const PORTS: usize = 64;

/// Between two packets of a flow.
const EVERY: Duration = Duration::from_millis(10);

/// One port comes and one goes each time.
const CHANGES_PER_SECOND: u32 = 10;

/// Ports that come and go and are there at once.
const PASSING: usize = 5;

fn churn_seconds() -> u64 {
    let asked = std::env::var("BYPATH_CHURN_SECONDS").ok();
    asked.map_or(10, |seconds| {
        seconds.parse().expect("BYPATH_CHURN_SECONDS is a number of seconds")
    })
}

/// Has ports come and go, until `end`; how many came.
fn churn(net: &Net, end: Instant) -> u32 {
    // Coming and going wait for the kernel in places of their own.
    let (came_to, came) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let going = scope.spawn(|| going(net, came));
        let coming = scope.spawn(move || coming(net, end, &came_to));
        let count = coming.join().expect("no port failed to come");
        going.join().expect("no port failed to go");
        count
    })
}

fn coming(net: &Net, end: Instant, tell: &std::sync::mpsc::Sender<u32>) -> u32 {
    let guest = &net.hosts[0];
    let mut next = Instant::now();
    let mut came = 0;
    while Instant::now() < end {
        net.router.run_with(
            "ip -batch -",
            &format!(
                "link add name pod{came} type veth peer name pod{came} netns {}\nlink set pod{came} master br0 up\n",
                guest.path()
            ),
        );
        guest.run(&format!("ip link set pod{came} up"));
        let _ = tell.send(came);
        came += 1;
        next += Duration::from_secs(1) / CHANGES_PER_SECOND;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    came
}

/// Has all of them but the last few go again. One of three leaves the bridge first; the others go at once.
fn going(net: &Net, came: std::sync::mpsc::Receiver<u32>) {
    for last in came {
        let Some(gone) = last.checked_sub(PASSING as u32) else {
            continue;
        };
        if gone.is_multiple_of(3) {
            net.router.run(&format!("ip link set pod{gone} nomaster"));
        }
        net.router.run(&format!("ip link del pod{gone}"));
    }
}

/// Waits until `count` ports are up, and says how long that took.
fn wait_up(net: &Net, bypath: &Bypath, count: usize) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let ports = net.show("ports");
        let up = ports
            .as_array()
            .expect("a list")
            .iter()
            .filter(|row| row["state"] == "up")
            .count();
        if up == count {
            return;
        }
        assert!(
            Instant::now() < until,
            "{up} ports are up, not {count}; it said:\n{}",
            bypath.said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn sixty_four_busy_ports_while_others_come_and_go() {
    let net = Net::bridged(PORTS);
    let launched = Instant::now();
    let bypath = Bypath::start(&net.router, &["br0".to_owned()], &[]);
    println!("{PORTS} ports: ready after {:.0?}", launched.elapsed());
    wait_up(&net, &bypath, PORTS);
    // Everybody knows everybody's address, so that what is lost is lost on the way.
    for from in 0..PORTS {
        net.ping_until(from, &address(to(from)));
    }
    let before = bypath.totals_at_rest();
    let flow = |from: usize| Stream::start(&net.hosts[from], &net.hosts[to(from)], &address(to(from)), EVERY);
    let flows: Vec<Stream> = (0..PORTS).map(flow).collect();
    let end = Instant::now() + Duration::from_secs(churn_seconds());
    let came = churn(&net, end);
    flows.iter().for_each(Stream::stop);
    let flows: Vec<Flow> = flows.into_iter().map(Stream::end).collect();

    let sent: usize = flows.iter().map(|flow| flow.sent.len()).sum();
    let lost: usize = flows.iter().map(Flow::lost).sum();
    let doubled: usize = flows.iter().map(Flow::doubled).sum();
    let longest = flows.iter().map(Flow::outage).max().unwrap_or_default();
    let totals = net.assert_audit(&bypath);
    let forwarded = totals.forwarded - before.forwarded;
    println!(
        "{PORTS} flows, {came} ports came and went: {sent} sent, {lost} lost, {doubled} doubled, bypath forwarded {forwarded}; longest \
         time without an arrival {longest:.0?}"
    );
    for (from, flow) in flows.iter().enumerate().filter(|(_, flow)| flow.lost() > 0) {
        println!("from host {from}: {}", flow.said());
    }
    // On a busy machine the kernel itself takes longer than a tenth of a second to make a link or to end one.
    assert!(
        u64::from(came) >= churn_seconds(),
        "only {came} ports came in {} s",
        churn_seconds()
    );
    assert_eq!(doubled, 0);
    // While a port comes or goes the others' frames may be the kernel's for a moment.
    assert!(
        forwarded as usize >= sent * 9 / 10,
        "bypath forwarded {forwarded} of {sent}: {totals:?}"
    );
    let starved = net.starved();
    assert!(
        lost as u64 <= starved,
        "{lost} lost, {starved} counted; it said:\n{}",
        bypath.said()
    );
    // The last ones are ports, and the earlier ones no more.
    wait_up(&net, &bypath, PORTS + PASSING);
    bypath.stop();
    net.assert_nothing_left();
}

fn to(from: usize) -> usize {
    (from + 7) % PORTS
}

fn address(host: usize) -> String {
    format!("10.0.0.{}", host + 2)
}
