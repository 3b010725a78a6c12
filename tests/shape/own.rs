//! What the box itself sends, and what is punted, leaves by the kernel's qdisc; what is forwarded by bypath's. Both are of one
//! rate.

use crate::judge::mbit;
use crate::lab::namespace::Namespace;
use crate::net::{Demand, Flow, OWN, Shaped};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FRAME: usize = 1000;

/// A socket of the box that sends by the clock to the far end of port 1, until it is dropped.
struct Source {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    fn start(router: &Namespace, bits_per_second: u64) -> Self {
        let socket = router.enter(|| UdpSocket::bind("0.0.0.0:0")).expect("bind");
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (begin, mut sent) = (Instant::now(), 0u32);
            let mut payload = vec![0; FRAME - 42];
            while !stopped.load(Ordering::Relaxed) {
                let due = begin.elapsed().as_nanos() * u128::from(bits_per_second) / 8_000_000_000 / FRAME as u128;
                while u128::from(sent) < due {
                    payload[..4].copy_from_slice(&sent.to_be_bytes());
                    sent += 1;
                    // What the qdisc has no room for is an error, and gone.
                    let _ = socket.send_to(&payload, ("10.0.1.2", 5000 + OWN));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Source {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The time after the first burst in which both flows are there.
const WINDOW: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(4900)];

/// What a rate of 8 Mbit/s is good for in that time, in bytes.
fn wanted() -> f64 {
    let [from, until] = WINDOW;
    mbit(8.0) * (until - from).as_secs_f64()
}

/// In both labs both flows together have the 8 Mbit/s; the bytes of each, forwarded and own, in the lab with bypath.
fn assert_together(shaped: &Shaped) -> Vec<f64> {
    let [from, until] = WINDOW;
    let [kernel, tested] = shaped.amounts(&[0, OWN], from, until);
    println!(
        "twin {}: forwarded and own bytes {tested:?}, of the kernel {kernel:?}",
        shaped.name
    );
    let wanted = wanted();
    for sum in [&kernel, &tested].map(|amounts| amounts.iter().sum::<f64>()) {
        assert!(
            (sum - wanted).abs() < wanted * 0.02,
            "together {sum} bytes, not {wanted}"
        );
    }
    tested
}

fn sources(shaped: &Shaped, bits_per_second: u64) -> Vec<Source> {
    let start = |router: &Namespace| Source::start(router, bits_per_second);
    shaped.routers().map(start).into()
}

/// Half of the rate is the box's own, and more than the other half is forwarded: together they have the rate.
#[test]
fn own_and_forwarded_keep_the_rate_together() {
    let line = "tc qdisc add dev d1 root handle 1: tbf rate 8mbit burst 20000 limit 300000";
    let mut shaped = Shaped::start("own_tbf", 2, &[line]);
    let sources = sources(&shaped, 4_000_000);
    shaped.offer(&[Demand::new(Flow::new(0, FRAME), 12_000_000)], Duration::from_secs(5));
    drop(sources);
    shaped.rest(Duration::from_millis(500));
    let tested = assert_together(&shaped);
    // What the box sends does not starve what is forwarded.
    assert!(tested[0] > wanted() * 0.4, "forwarded {tested:?} of {}", wanted());
    shaped.finish(0.98);
}

/// The same by classes: the box's packets are of the class that rules at output say, those that are forwarded of another, and
/// what one leaves is the other's.
#[test]
fn own_and_forwarded_share_a_tree() {
    let rules = "ruleset table ip t { chain o { type filter hook output priority 0; udp dport 5090 meta priority set 0x10010; }; }";
    let lines = [
        rules,
        "tc qdisc add dev d1 root handle 1: htb default 20",
        "tc class add dev d1 parent 1: classid 1:1 htb rate 8mbit burst 20000 cburst 20000",
        "tc class add dev d1 parent 1:1 classid 1:10 htb rate 4mbit ceil 8mbit quantum 2000",
        "tc class add dev d1 parent 1:1 classid 1:20 htb rate 4mbit ceil 8mbit quantum 2000",
        "tc qdisc add dev d1 parent 1:10 handle 10: pfifo limit 300",
        "tc qdisc add dev d1 parent 1:20 handle 20: pfifo limit 300",
    ];
    let mut shaped = Shaped::start("own_htb", 2, &lines);
    let sources = sources(&shaped, 3_000_000);
    shaped.offer(&[Demand::new(Flow::new(0, FRAME), 12_000_000)], Duration::from_secs(5));
    drop(sources);
    shaped.rest(Duration::from_millis(500));
    assert_together(&shaped);
    shaped.finish(0.98);
}

/// Packets that bypath leaves to the kernel (here by their IPv4 options) pay from the same bucket.
#[test]
fn punted_and_forwarded_keep_the_rate_together() {
    let line = "tc qdisc add dev d1 root handle 1: tbf rate 8mbit burst 20000 limit 300000";
    let mut shaped = Shaped::start("own_punted", 2, &[line]);
    let demands = [
        Demand::new(Flow::new(0, FRAME), 12_000_000),
        Demand::new(Flow::new(OWN, FRAME).options(), 3_000_000),
    ];
    shaped.offer(&demands, Duration::from_secs(5));
    shaped.rest(Duration::from_millis(500));
    assert_together(&shaped);
    shaped.finish(0.75);
}
