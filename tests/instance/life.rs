//! Start, end, crash, stall: the kernel forwards again within a second, whatever happens to bypath.
//!
//! The gap is the longest time without an arrival of a stream of one packet a millisecond (`Flow::outage`). A whole process is
//! stalled by SIGSTOP, a single worker by ptrace. 750 ms of a gap are the heartbeat's limit.

use crate::lab::bypath::{BINARY, Bypath};
use crate::lab::sys::{self, StoppedThread};
use crate::net::Net;
use crate::stream::Stream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const FAIL_OPEN_WITHIN: Duration = Duration::from_secs(1);

fn stream(net: &Net, from: usize, to: usize) -> Stream {
    Stream::start(&net.hosts[from], &net.hosts[to], &format!("10.0.{to}.2"), MS)
}

/// Waits until bypath forwards more than it did.
fn assert_carries_again(bypath: &Bypath) {
    let before = bypath.totals().forwarded;
    std::thread::sleep(Duration::from_millis(1000));
    let after = bypath.totals().forwarded;
    assert!(
        after > before,
        "it carries nothing: {after}; it said:\n{}",
        bypath.said()
    );
}

#[test]
fn it_starts_and_ends_again_and_again() {
    let net = Net::new(2);
    // Who runs this test may ignore it.
    // SAFETY: sets what becomes of a signal of this process to the kernel's default.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let bypath = net.bypath("");
        assert_eq!(net.ping(0, "10.0.1.2", 5), 5);
        let flow = stream(&net, 0, 1);
        std::thread::sleep(Duration::from_millis(500));
        let flow = flow.end();
        flow.assert_whole(&net);
        let totals = net.assert_audit(&bypath);
        assert!(totals.forwarded + net.starved() >= flow.sent.len() as u64, "{totals:?}");
        bypath.signal(signal);
        let (status, said) = bypath.ended();
        assert!(status.success(), "{status} on signal {signal}:\n{said}");
        let last = said.lines().last().unwrap_or_default();
        assert_summary(last);
        net.assert_nothing_left();
        assert_eq!(net.ping(0, "10.0.1.2", 2), 2, "the kernel does not forward again");
    }
}

#[test]
fn systemd_is_told_that_it_is_ready_though_a_cable_is_out() {
    let net = Net::new(2);
    net.hosts[1].run("ip link set e0 down");
    let path = std::env::temp_dir().join(format!("bypath-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("a socket to be told by");
    socket.set_read_timeout(Some(10_000 * MS)).expect("a timeout");
    let mut command = Command::new(BINARY);
    command.args(["run", "d0", "d1"]).env("NOTIFY_SOCKET", &path);
    let mut child = net.router.spawn(&mut command).expect("bypath run");
    let mut told = [0; 64];
    let bytes = socket.recv(&mut told);
    let _ = sys::signal(child.id(), libc::SIGTERM);
    let status = child.wait().expect("wait for bypath");
    let _ = std::fs::remove_file(&path);
    assert_eq!(&told[..bytes.expect("READY=1 in time")], b"READY=1");
    assert!(status.success(), "{status}");
}

fn assert_summary(line: &str) {
    let numbers = line
        .strip_prefix("bypath: ended, ")
        .unwrap_or_else(|| panic!("`{line}` is no summary"));
    let of = |word: &str| -> u64 {
        let parts = numbers.split(", ").find_map(|part| part.strip_prefix(word));
        parts
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {word} in `{line}`"))
    };
    assert_eq!(
        of("received"),
        of("forwarded") + of("punted") + of("dropped") + of("held"),
        "{line}"
    );
}

#[test]
fn an_end_under_traffic_loses_little_and_accounts_for_all() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    let flow = stream(&net, 0, 1);
    std::thread::sleep(Duration::from_millis(500));
    bypath.signal(libc::SIGTERM);
    let (status, said) = bypath.ended();
    std::thread::sleep(Duration::from_millis(300));
    let flow = flow.end();
    println!("end under traffic: {}", flow.said());
    assert!(status.success(), "{status}:\n{said}");
    assert_summary(said.lines().last().unwrap_or_default());
    assert!(flow.outage() < FAIL_OPEN_WITHIN, "{}", flow.said());
    assert_eq!(flow.doubled(), 0);
}

#[test]
fn killed_under_traffic_it_leaves_nothing_and_the_kernel_goes_on() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    let flow = stream(&net, 0, 1);
    std::thread::sleep(Duration::from_millis(500));
    assert!(bypath.totals().forwarded > 100);
    bypath.signal(libc::SIGKILL);
    bypath.ended();
    net.assert_nothing_left();
    std::thread::sleep(Duration::from_millis(1200));
    let flow = flow.end();
    println!("kill -9: {}", flow.said());
    assert!(flow.outage() < FAIL_OPEN_WITHIN, "{}", flow.said());
    let bypath = net.bypath("");
    net.ping_until(0, "10.0.1.2");
    let before = bypath.totals_at_rest().forwarded;
    assert_eq!(net.ping(0, "10.0.1.2", 3), 3);
    assert!(bypath.totals_at_rest().forwarded >= before + 6);
    bypath.stop();
}

#[test]
fn stopped_as_a_whole_the_kernel_forwards_and_continued_it_carries_again() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    let flow = stream(&net, 0, 1);
    std::thread::sleep(Duration::from_millis(500));
    bypath.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(2000));
    bypath.signal(libc::SIGCONT);
    std::thread::sleep(Duration::from_millis(200));
    assert_carries_again(&bypath);
    let flow = flow.end();
    println!("kill -STOP, 2 s: {}", flow.said());
    assert!(flow.outage() < FAIL_OPEN_WITHIN, "{}", flow.said());
    net.assert_audit(&bypath);
    bypath.stop();
}

#[test]
fn one_stalled_worker_leaves_the_traffic_to_the_kernel_and_is_named() {
    let net = Net::new(2);
    let bypath = net.bypath("--workers 2");
    let there = stream(&net, 0, 1);
    let back = stream(&net, 1, 0);
    std::thread::sleep(Duration::from_millis(500));
    let stopped = StoppedThread::stop(thread_of(&bypath, "bypath-worker1")).expect("stop a thread");
    std::thread::sleep(Duration::from_millis(2000));
    bypath.wait_said("worker 1 stalls");
    let workers = net.show("workers");
    let age = |worker: usize| workers[worker]["heartbeat_age_ms"].as_u64().expect("an age");
    assert!(age(0) < 750 && age(1) >= 750, "{workers}");
    assert_eq!(
        (&workers[0]["stale"], &workers[1]["stale"]),
        (&false.into(), &true.into()),
        "{workers}"
    );
    assert_eq!(bypath.totals().stale_workers, [1]);
    assert_eq!(workers[1]["queues"][0], "d1:0", "{workers}");
    drop(stopped);
    bypath.wait_said("worker 1 goes on");
    assert_carries_again(&bypath);
    for (name, flow) in [("to", there.end()), ("from", back.end())] {
        println!("one of two workers stalled, 2 s, {name} its port: {}", flow.said());
        assert!(flow.outage() < FAIL_OPEN_WITHIN, "{name}: {}", flow.said());
    }
    net.assert_audit(&bypath);
    bypath.stop();
}

#[test]
fn an_end_with_a_stalled_worker() {
    let net = Net::new(2);
    let bypath = net.bypath("--workers 2");
    net.ping_until(0, "10.0.1.2");
    let stopped = StoppedThread::stop(thread_of(&bypath, "bypath-worker1")).expect("stop a thread");
    std::thread::sleep(Duration::from_millis(1000));
    bypath.signal(libc::SIGTERM);
    bypath.wait_said("bypath: ended, ");
    std::thread::sleep(Duration::from_millis(300));
    drop(stopped);
    let (status, said) = bypath.ended();
    assert!(status.success(), "{status}:\n{said}");
    assert!(said.contains("worker 1 does not end"), "{said}");
    net.assert_nothing_left();
    assert_eq!(net.ping(0, "10.0.1.2", 3), 3);
}

/// A port that closes while its worker stalls is closed when the worker goes on, and may be opened again then.
#[test]
fn a_port_that_closes_while_its_worker_stalls_gives_its_frames_back() {
    let net = Net::new(2);
    let bypath = net.bypath("--workers 2");
    net.ping_until(0, "10.0.1.2");
    let stopped = StoppedThread::stop(thread_of(&bypath, "bypath-worker1")).expect("stop a thread");
    net.router.run("ip link set d1 mtu 3000");
    // Longer than the worker is waited for.
    std::thread::sleep(Duration::from_millis(3000));
    drop(stopped);
    bypath.wait_said("worker 1 goes on");
    bypath.wait_said("port d1 waits");
    net.assert_audit(&bypath);
    net.router.run("ip link set d1 mtu 1500");
    bypath.wait_said("port d1 forwards");
    net.ping_until(0, "10.0.1.2");
    assert_carries_again_with(&net, &bypath);
    net.assert_audit(&bypath);
    bypath.stop();
    net.assert_nothing_left();
}

/// The same with something to carry.
fn assert_carries_again_with(net: &Net, bypath: &Bypath) {
    let flow = stream(net, 0, 1);
    assert_carries_again(bypath);
    flow.end();
}

pub fn thread_of(bypath: &Bypath, name: &str) -> i32 {
    let tasks = format!("/proc/{}/task", bypath.pid());
    let mut ids = std::fs::read_dir(&tasks).expect("tasks").flatten();
    let named = ids.find(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        comm.trim() == name
    });
    let named = named.unwrap_or_else(|| panic!("no thread {name}"));
    named
        .file_name()
        .to_str()
        .and_then(|id| id.parse().ok())
        .expect("a number")
}

#[test]
fn an_idle_instance_sleeps() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    std::thread::sleep(Duration::from_millis(500));
    let before = cpu_ticks(bypath.pid());
    std::thread::sleep(Duration::from_secs(3));
    let ticks = cpu_ticks(bypath.pid()) - before;
    // Ticks are hundredths of a second.
    println!("idle, 3 s: {:.2} % CPU", ticks as f64 / 3.0);
    bypath.stop();
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let behind_name = stat.rsplit(") ").next().expect("fields");
    let fields: Vec<u64> = behind_name.split(' ').map(|n| n.parse().unwrap_or(0)).collect();
    fields[11] + fields[12]
}
