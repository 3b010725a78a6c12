//! A paced UDP stream between two hosts that knows which of its packets arrived, and when.
//!
//! A packet is its number and padding, 64 bytes. Sender and receiver are threads of the test; the receiver has a large buffer,
//! so that a loss is one of the way and not of the test, and the kernel says when a packet arrived, so that a late reader is none.

use crate::lab::namespace::Namespace;
use crate::lab::sys;
use crate::net::Net;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long after the last packet arrivals are waited for: longer than a worker may stand still before the kernel forwards.
const TAIL: Duration = Duration::from_secs(1);

/// A running stream.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Vec<Instant>>,
    receiver: JoinHandle<Vec<(u64, Instant)>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Flow {
    /// When each packet was sent.
    pub sent: Vec<Instant>,
    /// Packets that arrived at the link's end, by number, and when.
    pub arrived: Vec<(u64, Instant)>,
}

impl Stream {
    /// Sends one packet each `every` from one host to UDP 7000 of `address`, which the other has.
    pub fn start(from: &Namespace, to: &Namespace, address: &str, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let target: std::net::SocketAddr = (address.parse::<std::net::IpAddr>().expect("an address"), 7000).into();
        let input = to.enter(|| UdpSocket::bind(target)).expect("bind the receiver");
        let output = from.enter(|| UdpSocket::bind(any)).expect("bind the sender");
        sys::enlarge_receive_buffer(&input).expect("receive buffer");
        sys::stamp_arrivals(&input).expect("time stamps");
        input.set_read_timeout(Some(TAIL)).expect("timeout");
        let stopped = stop.clone();
        let sender = std::thread::spawn(move || {
            let mut sent = Vec::new();
            let mut next = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let mut packet = [0; 64];
                packet[..8].copy_from_slice(&(sent.len() as u64).to_be_bytes());
                sent.push(Instant::now());
                // An error (no route at the moment) is a packet that does not arrive.
                let _ = output.send_to(&packet, target);
                next += every;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            sent
        });
        let stopped = stop.clone();
        let receiver = std::thread::spawn(move || {
            let mut arrived = Vec::new();
            let mut packet = [0; 64];
            loop {
                match sys::receive_stamped(&input, &mut packet) {
                    Ok((_, at)) => {
                        let number = u64::from_be_bytes(packet[..8].try_into().expect("8 bytes"));
                        arrived.push((number, at));
                    }
                    Err(_) if stopped.load(Ordering::Relaxed) => return arrived,
                    Err(_) => {}
                }
            }
        });
        Stream { stop, sender, receiver }
    }

    /// Sends no more; for many streams that are to end together.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends it and waits for what is on the way.
    pub fn end(self) -> Flow {
        self.stop();
        Flow {
            sent: self.sender.join().expect("sender"),
            arrived: self.receiver.join().expect("receiver"),
        }
    }
}

impl Flow {
    /// Packets that did not arrive.
    pub fn lost(&self) -> usize {
        let mut numbers: Vec<u64> = self.arrived.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        self.sent.len() - numbers.len()
    }

    /// Panics if a packet was lost or doubled. On a machine so busy that a worker waits for its CPU until its receive ring is
    /// full, packets are lost; those must be counted.
    #[track_caller]
    pub fn assert_whole(&self, net: &Net) {
        assert_eq!(self.doubled(), 0, "{}", self.said());
        if self.lost() > 0 {
            let starved = net.starved();
            println!("{}: {starved} counted, a worker waited for its CPU", self.said());
            assert!(self.lost() as u64 <= starved, "{}, {starved} counted", self.said());
        }
    }

    /// Packets that arrived more than once.
    pub fn doubled(&self) -> usize {
        self.arrived.len() + self.lost() - self.sent.len()
    }

    /// The longest time without an arrival, from the first packet to the last. In a time in which nothing was sent, since the
    /// sender waited for its CPU, nothing can arrive: the longest such time of each is not counted.
    pub fn outage(&self) -> Duration {
        let edges = [self.sent.first(), self.sent.last()].into_iter().flatten().copied();
        let mut times: Vec<Instant> = self.arrived.iter().map(|(_, at)| *at).chain(edges).collect();
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| {
            let from = self.sent.partition_point(|at| *at <= pair[0]);
            let sent = self.sent[from..].iter().take_while(|at| **at <= pair[1]).copied();
            let sent: Vec<Instant> = [pair[0]].into_iter().chain(sent).collect();
            let silent = sent.windows(2).map(|pair| pair[1] - pair[0]).max();
            pair[1] - pair[0] - silent.unwrap_or_default()
        });
        gaps.max().unwrap_or_default()
    }

    /// In words, for the output of a test.
    pub fn said(&self) -> String {
        format!(
            "{} sent, {} lost, longest time without an arrival {:.1?}",
            self.sent.len(),
            self.lost(),
            self.outage()
        )
    }
}
