//! What the tests of AF_XDP queues stand on: a namespace per thread, veths, the redirect program, and a chain of four queues
//! on one UMEM that counts every frame it sends.

#[path = "../netns/thread.rs"]
mod thread;

use bypath::packet::Frame;
use bypath::port::link::Link;
use bypath::port::umem::{Mode, Umem, UmemConfig};
use bypath::port::xsk::{Config, XskQueue};
use bypath::port::{Queue, audit};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, OpenObject};
use std::mem::MaybeUninit;
use std::process::Command;
use std::time::{Duration, Instant};

#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
mod bare {
    include!(concat!(env!("OUT_DIR"), "/bare.skel.rs"));
}

/// Runs `test` in a network namespace of its own.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    thread::in_namespace(|| {
        // The kernel's own packets (MLD, router solicitations) would be counted with ours.
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        test();
    });
}

/// Runs `ip` with these words, in this thread's network namespace.
pub fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {words}");
}

pub fn veth(a: &str, b: &str, queues: u32) {
    let count = format!("numrxqueues {queues} numtxqueues {queues}");
    ip(&format!("link add {a} {count} type veth peer name {b} {count}"));
    for end in [a, b] {
        ip(&format!("link set {end} up"));
    }
}

/// The redirect program on one interface; gone when dropped.
pub struct Program {
    pub skel: bare::BareSkel<'static>,
    _link: libbpf_rs::Link,
}

impl Program {
    pub fn attach(name: &str, stamp: bool) -> Self {
        let object: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let skel = bare::BareSkelBuilder::default().open(object).unwrap().load().unwrap();
        let ifindex = Link::query(name).unwrap().ifindex as i32;
        let program = if stamp {
            &skel.progs.bare_stamp
        } else {
            &skel.progs.bare
        };
        let link = program.attach_xdp(ifindex).unwrap();
        Self { skel, _link: link }
    }

    pub fn insert(&self, queue: &XskQueue) {
        let (key, fd) = (queue.queue_id().to_ne_bytes(), queue.fd().unwrap().to_ne_bytes());
        self.skel.maps.sockets.update(&key, &fd, MapFlags::ANY).unwrap();
    }
}

pub const RINGS: Config = Config {
    rx_size: 256,
    tx_size: 256,
    fill_frames: 256,
    busy_poll: None,
    busy_max: std::time::Duration::from_secs(1),
};

pub fn umem(workers: u16, frames_per_worker: u32) -> Umem {
    let ring = 256;
    let sizes = UmemConfig {
        workers,
        frames_per_worker,
        fill_size: ring,
        completion_size: ring,
        ..UmemConfig::default()
    };
    Umem::create(UmemConfig {
        mode: Mode::Copy,
        ..sizes
    })
    .unwrap()
}

pub fn open(umem: &Umem, name: &str, queue: u32) -> XskQueue {
    XskQueue::open(umem, name, queue, &RINGS).unwrap()
}

/// A frame with a number in it, from one generator to the other.
pub fn packet(into: &mut Frame, number: u64, len: usize) {
    let mut bytes = vec![0u8; len];
    bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..22].copy_from_slice(&number.to_be_bytes());
    into.fill(&bytes);
}

pub fn number(frame: &Frame) -> u64 {
    u64::from_be_bytes(frame.bytes()[14..22].try_into().unwrap())
}

/// Sends what there is, and takes back what was sent.
pub fn pump(queue: &mut XskQueue, frames: &mut Vec<Frame>, free: &mut Vec<Frame>) {
    queue.complete(free);
    queue.refill(free);
    queue.transmit(frames);
    queue.kick();
}

/// What one test owns: the queues of a chain gen0 = d0, d1 = gen1, and all frames that are in no ring.
pub struct Chain {
    pub umem: Umem,
    pub queues: [Vec<XskQueue>; 4],
    pub programs: Vec<Program>,
    pub free: Vec<Frame>,
}

impl Chain {
    pub fn new(queues: u32, stamp: bool) -> Self {
        veth("gen0", "d0", queues);
        veth("d1", "gen1", queues);
        let umem = umem(2, 2048 * queues);
        let mut programs = Vec::new();
        let queues = ["gen0", "d0", "d1", "gen1"].map(|name| {
            let program = Program::attach(name, stamp);
            let queues: Vec<XskQueue> = (0..queues).map(|queue| open(&umem, name, queue)).collect();
            queues.iter().for_each(|queue| program.insert(queue));
            programs.push(program);
            queues
        });
        let mut free = umem.take_slab(0);
        free.extend(umem.take_slab(1));
        let mut chain = Self {
            umem,
            queues,
            programs,
            free,
        };
        chain.refill();
        chain
    }

    /// Gives every queue frames to receive into.
    pub fn refill(&mut self) {
        self.queues
            .iter_mut()
            .flatten()
            .for_each(|queue| _ = queue.refill(&mut self.free));
    }

    /// Moves what arrived on one port to the same queue of another; how many.
    pub fn forward(&mut self, from: usize, to: usize) -> usize {
        let mut moved = 0;
        for i in 0..self.queues[from].len() {
            let mut burst = Vec::new();
            self.queues[from][i].refill(&mut self.free);
            moved += self.queues[from][i].receive(&mut burst, 64);
            pump(&mut self.queues[to][i], &mut burst, &mut self.free);
            self.free.append(&mut burst);
        }
        moved
    }

    /// Sends `count` packets from one generator to the other, at most `window` on the way; how many arrived, each once and
    /// in order. Ends early when nothing arrives for a while.
    pub fn send(&mut self, from: usize, to: usize, count: u64, window: u64) -> u64 {
        let (ingress, egress) = if from == 0 { (1, 2) } else { (2, 1) };
        let (mut sent, mut arrived, mut burst) = (0, 0, Vec::new());
        let mut last = Instant::now();
        while arrived < count && last.elapsed() < Duration::from_secs(2) {
            while sent < count && sent - arrived < window && burst.len() < 64 {
                let Some(mut frame) = self.free.pop() else { break };
                packet(&mut frame, sent, 60 + (sent % 1400) as usize);
                burst.push(frame);
                sent += 1;
            }
            pump(&mut self.queues[from][0], &mut burst, &mut self.free);
            self.forward(ingress, egress);
            for queue in &mut self.queues[to] {
                let mut burst = Vec::new();
                queue.refill(&mut self.free);
                for frame in burst_of(queue, &mut burst) {
                    assert_eq!(frame.len(), 60 + (arrived % 1400) as usize);
                    assert_eq!(number(frame), arrived, "in order, and whole");
                    arrived += 1;
                    last = Instant::now();
                }
                self.free.append(&mut burst);
            }
        }
        self.free.append(&mut burst);
        arrived
    }

    /// The audit while everything is open.
    pub fn check_held(&self) {
        let held: u32 = self
            .queues
            .iter()
            .flatten()
            .map(|queue| queue.held().fill + queue.held().tx)
            .sum();
        assert_eq!(held + self.free.len() as u32, self.umem.frame_count());
        assert!(self.queues.iter().flatten().all(|queue| queue.faults() == 0));
    }

    /// Closes every queue; every frame must be there.
    pub fn close(mut self) {
        self.check_held();
        for queue in self.queues.into_iter().flatten() {
            assert_eq!(queue.close(&mut self.free), 0);
        }
        assert_eq!(audit(self.umem.frame_count(), &self.free), Ok(()));
    }
}

pub fn burst_of<'a>(queue: &mut XskQueue, burst: &'a mut Vec<Frame>) -> impl Iterator<Item = &'a Frame> {
    queue.receive(burst, 64);
    burst.iter()
}
