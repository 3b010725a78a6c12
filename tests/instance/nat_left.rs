//! Masqueraded connections of bypath's that the kernel gets while bypath runs: it must know them before it meets a packet of
//! theirs, and what it says of them afterwards holds.
//!
//! The net is that of `nat.rs`: clients on host 0, servers on host 1, the router masquerades and drops what is invalid.

use crate::lab::bypath::{BINARY, Bypath};
use crate::lab::sys::StoppedThread;
use crate::life::thread_of;
use crate::nat::{SERVER, SHARED, Talk, assert_carries, echo, go_on, net};
use crate::net::Net;
use std::time::{Duration, Instant};

/// Until what is older is in the kernel's table.
const OLD_ENOUGH: Duration = Duration::from_secs(3);

/// The net, with a server and all neighbours known: what the kernel resolves first it begins.
fn served() -> Net {
    let net = net();
    echo(&net.hosts[1], 7000);
    net.ping_until(0, SERVER);
    net
}

fn talk(net: &Net, name: &str) -> Talk {
    Talk::begin(name.to_owned(), &net.hosts[0], (SERVER, 7000), SHARED)
}

/// The connections to the server that bypath takes for established, as `bypath show conntrack` prints them.
fn established(net: &Net) -> Vec<String> {
    let shown = net.router.run(&format!("{BINARY} show conntrack"));
    let lines = shown.lines().map(str::to_owned);
    lines
        .filter(|line| line.contains("dport=7000") && line.contains("ESTABLISHED"))
        .collect()
}

fn assert_ended(net: &Net) {
    let until = Instant::now() + Duration::from_secs(5);
    while !established(net).is_empty() {
        assert!(Instant::now() < until, "it has ended: {:?}", established(net));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_ends_while_a_worker_stalls_has_ended() {
    let net = served();
    let bypath = net.bypath("--workers 2");
    let one = talk(&net, "one that ends meanwhile");
    let other = talk(&net, "one that goes on");
    std::thread::sleep(OLD_ENOUGH);
    assert!(one.goes_on() && established(&net).len() == 2, "{:?}", established(&net));
    let stopped = StoppedThread::stop(thread_of(&bypath, "bypath-worker1")).expect("stop a thread");
    bypath.wait_said("worker 1 stalls");
    assert!(one.goes_on() && other.goes_on(), "the kernel does not know them");
    one.end();
    other.end();
    std::thread::sleep(Duration::from_millis(300));
    drop(stopped);
    bypath.wait_said("worker 1 goes on");
    assert_ended(&net);
    assert_goes_on(&net, &bypath);
    bypath.stop();
}

#[test]
fn what_ends_while_all_is_stopped_has_ended() {
    let net = served();
    let bypath = net.bypath("");
    let one = talk(&net, "one that ends meanwhile");
    std::thread::sleep(OLD_ENOUGH);
    assert!(one.goes_on() && established(&net).len() == 1, "{:?}", established(&net));
    bypath.signal(libc::SIGSTOP);
    assert!(one.goes_on(), "the kernel does not know it");
    one.end();
    std::thread::sleep(Duration::from_millis(300));
    bypath.signal(libc::SIGCONT);
    assert_ended(&net);
    assert_goes_on(&net, &bypath);
    bypath.stop();
}

fn assert_goes_on(net: &Net, bypath: &Bypath) {
    let next = talk(net, "one that begins afterwards");
    assert!(next.goes_on());
    assert_carries(bypath);
    next.end();
}

/// What `talk` sends passes bypath by, from a moment on that comes within two seconds.
#[track_caller]
fn assert_carries_no_more(bypath: &Bypath, talk: impl Fn()) {
    let carries = || {
        let before = bypath.totals_at_rest().forwarded;
        talk();
        bypath.totals_at_rest().forwarded - before
    };
    let until = Instant::now() + Duration::from_secs(2);
    while carries() > 0 {
        assert!(Instant::now() < until, "it goes on:\n{}", bypath.said());
    }
    assert_eq!(carries(), 0, "it carries again:\n{}", bypath.said());
}

/// The kernel takes up no connection in its middle here, and counts what it finds invalid.
#[test]
fn a_port_that_the_kernel_gets_back_comes_with_its_connections() {
    let net = served();
    net.router.sysctl(&[("net.netfilter.nf_conntrack_tcp_loose", "0")]);
    net.router.run_with(
        "nft -f -",
        "table inet count { chain c { type filter hook forward priority -10; ct state invalid counter; }; }",
    );
    for round in 0..3 {
        let bypath = net.bypath("");
        // Young ones, which are not in the kernel's table yet, and busy: some packets a millisecond.
        let talks: Vec<Talk> = (0..40).map(|at| talk(&net, &format!("client {at}"))).collect();
        assert!(talks[39].goes_on());
        net.router.run("ip link set d0 mtu 3000");
        bypath.wait_said("port d0 waits");
        let broken: Vec<&str> = talks
            .iter()
            .zip(go_on(&talks))
            .filter(|(_, ok)| !ok)
            .map(|(t, _)| &*t.name)
            .collect();
        assert_eq!(broken, [""; 0], "round {round}");
        let counted = net.router.run("nft list table inet count");
        assert!(counted.contains("counter packets 0 "), "round {round}: {counted}");
        talks.into_iter().for_each(Talk::end);
        bypath.stop();
        net.router.run("ip link set d0 mtu 1500");
    }
}

/// In generic mode the hosts' segments come as their offload has merged them, which only the kernel carries.
#[test]
fn connections_on_a_port_where_segments_come_merged_are_the_kernel_s() {
    let net = served();
    let bypath = net.bypath("--attach generic");
    let lines = talk(&net, "in small segments");
    assert!(lines.goes_on());
    assert_carries(&bypath);
    let bulk = Talk::of_size("in bulk".into(), &net.hosts[0], (SERVER, 7000), SHARED, |_| 50_000);
    assert!(bulk.goes_on(), "{}", bypath.said());
    bypath.wait_said("connections go to the kernel: d0: segments that were merged arrive on d0");
    let go_on = || assert!(lines.goes_on() && bulk.goes_on(), "{}", bypath.said());
    assert_carries_no_more(&bypath, go_on);
    let steer = net.show("ports")[0]["steer"].clone();
    assert!(
        steer["merged_lost"].as_u64() > Some(0) && steer["merged"] == 0,
        "{steer}"
    );
    lines.end();
    bulk.end();
    bypath.stop();
}

/// `ethtool -L` while bypath runs: what comes on the new queues has no socket.
#[test]
fn queues_that_come_while_it_runs_leave_the_connections_to_the_kernel_until_they_go() {
    let net = Net::with_queues(2, 4);
    net.router.run("ethtool -L d0 rx 2 tx 2");
    net.router.apply(&[
        "ruleset table inet f { chain c { type filter hook forward priority 0; ct state invalid drop; }; }".to_owned(),
    ]);
    echo(&net.hosts[1], 7000);
    let bypath = net.bypath("");
    let talk = Talk::begin("one".into(), &net.hosts[0], (SERVER, 7000), "10.0.0.2");
    assert_carries(&bypath);
    net.router.run("ethtool -L d0 rx 4");
    bypath.wait_said("d0 receives on 4 queues and has sockets on 2");
    assert_carries_no_more(&bypath, || assert!(talk.goes_on()));
    net.router.run("ethtool -L d0 rx 2");
    assert_carries(&bypath);
    assert!(talk.goes_on());
    bypath.stop();
    net.router.run("ethtool -L d0 rx 4");
    let (code, said) = net.command("check d0 d1");
    assert!(code == Some(3) && said.contains("d0 receives on 4 queues"), "{said}");
    talk.end();
}
