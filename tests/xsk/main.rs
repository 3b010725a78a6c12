//! AF_XDP queues on real interfaces: veth pairs in network namespaces of their own. Needs root.
//!
//! ```text
//!   gen0 ======== d0  forwarder  d1 ======== gen1          ==== a veth pair
//! ```
//!
//! All four ends are AF_XDP queues on one UMEM, so that every frame is accounted for in one sum, and the generators send no
//! faster than they receive, so that no packet may be missing. Each test lives in an unnamed network namespace of its thread:
//! nothing is left behind, whatever happens.

mod lab;

use bypath::packet::Frame;
use bypath::port::link::{Link, LinkError};
use bypath::port::umem::{Mode, Umem, UmemConfig};
use bypath::port::xsk::{Config, XskQueue};
use bypath::port::{OpenError, Promiscuous, Queue, audit, take_stamp};
use lab::*;
use std::process::Command;
use std::time::{Duration, Instant};
#[test]
fn a_hundred_thousand_frames_both_ways_and_none_is_lost() {
    in_namespace(|| {
        let mut chain = Chain::new(1, false);
        assert_eq!(chain.send(0, 3, 50_000, 200), 50_000);
        chain.check_held();
        assert_eq!(chain.send(3, 0, 50_000, 200), 50_000);
        let counters = chain.queues[2][0].counters();
        assert_eq!((counters.rx, counters.tx), (50_000, 50_000));
        assert!(counters.kicks > 0);
        assert_eq!(
            (counters.kick_down, counters.xsk_invalid, counters.rx_oversize),
            (0, 0, 0)
        );
        assert!(!chain.queues[0][0].zero_copy(), "a veth has no zero-copy");
        chain.close();
    });
}

#[test]
fn the_arrival_stamp_lies_just_before_the_packet() {
    in_namespace(|| {
        let mut chain = Chain::new(1, true);
        let mut burst = vec![chain.free.pop().unwrap()];
        packet(&mut burst[0], 7, 60);
        chain.queues[1][0].refill(&mut chain.free);
        pump(&mut chain.queues[0][0], &mut burst, &mut chain.free);
        let end = Instant::now() + Duration::from_secs(2);
        while burst.is_empty() && Instant::now() < end {
            chain.queues[1][0].receive(&mut burst, 64);
        }
        let first = take_stamp(&mut burst[0]).expect("a stamp");
        assert_eq!(take_stamp(&mut burst[0]), None);
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
        let now_ns = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        assert!(first < now_ns && now_ns - first < 2_000_000_000, "{first} at {now_ns}");
        chain.free.append(&mut burst);
        chain.close();
    });
}

#[test]
fn several_queues_each_with_a_socket() {
    in_namespace(|| {
        let mut chain = Chain::new(2, false);
        for name in ["d0", "d1"] {
            let link = Link::query(name).unwrap();
            assert_eq!((link.rx_queues, link.tx_queues, link.driver.as_str()), (2, 2, "veth"));
        }
        // A veth keeps the sender's queue, so each of the two carries its own stream.
        let mut count = [0; 2];
        let end = Instant::now() + Duration::from_secs(5);
        while count.iter().any(|&n| n < 1000) && Instant::now() < end {
            for queue in 0..2 {
                let mut burst: Vec<Frame> = chain.free.drain(chain.free.len() - 16..).collect();
                burst.iter_mut().for_each(|frame| packet(frame, queue as u64, 60));
                pump(&mut chain.queues[0][queue], &mut burst, &mut chain.free);
                chain.free.append(&mut burst);
            }
            chain.forward(1, 2);
            for (queue, count) in count.iter_mut().enumerate() {
                let mut burst = Vec::new();
                chain.queues[3][queue].refill(&mut chain.free);
                *count += burst_of(&mut chain.queues[3][queue], &mut burst)
                    .filter(|f| number(f) == queue as u64)
                    .count();
                chain.free.append(&mut burst);
            }
        }
        assert!(count.iter().all(|&n| n >= 1000), "{count:?}");
        chain.close();
    });
}

#[test]
fn a_closed_queue_opens_again() {
    in_namespace(|| {
        let mut chain = Chain::new(1, false);
        for _ in 0..3 {
            assert_eq!(chain.send(0, 3, 500, 100), 500);
            for (port, name) in [(1, "d0"), (2, "d1")] {
                let queue = chain.queues[port].pop().unwrap();
                assert_eq!(queue.close(&mut chain.free), 0);
                let queue = open(&chain.umem, name, 0);
                chain.programs[port].insert(&queue);
                chain.queues[port].push(queue);
            }
            chain.refill();
            chain.check_held();
        }
        chain.close();
    });
}

#[test]
fn a_port_that_goes_down_or_away_loses_no_frame() {
    in_namespace(|| {
        let mut chain = Chain::new(1, false);
        assert_eq!(chain.send(0, 3, 1000, 100), 1000);
        // Down: what is transmitted stays in the ring, counted, and leaves when the port is up again.
        ip("link set d1 down");
        let mut burst: Vec<Frame> = chain.free.drain(chain.free.len() - 32..).collect();
        burst.iter_mut().for_each(|frame| packet(frame, 0, 60));
        pump(&mut chain.queues[2][0], &mut burst, &mut chain.free);
        assert!(chain.queues[2][0].counters().kick_down > 0);
        assert!(chain.queues[2][0].held().tx >= 32);
        chain.check_held();
        ip("link set d1 up");
        let end = Instant::now() + Duration::from_secs(2);
        while chain.queues[2][0].held().tx > 0 && Instant::now() < end {
            chain.queues[2][0].kick();
            chain.queues[2][0].complete(&mut chain.free);
        }
        assert_eq!(chain.queues[2][0].held().tx, 0);
        // Away, with frames in all its rings: the socket is dead, the frames are not, and other ports can still be opened.
        burst.extend(chain.free.drain(chain.free.len() - 32..));
        burst.iter_mut().for_each(|frame| packet(frame, 0, 60));
        chain.queues[2][0].transmit(&mut burst);
        ip("link del d1");
        chain.queues[2][0].kick();
        chain.check_held();
        veth("d2", "gen2", 1);
        chain.queues[2].push(open(&chain.umem, "d2", 0));
        chain.queues[2][1].refill(&mut chain.free);
        chain.close();
    });
}

#[test]
fn a_full_ring_takes_what_it_can_and_runts_are_not_sent() {
    in_namespace(|| {
        veth("d0", "gen0", 1);
        let umem = umem(1, 1024);
        let mut queue = open(&umem, "d0", 0);
        let mut free = umem.take_slab(0);
        assert_eq!(free.len(), 1024);
        assert!(umem.take_slab(0).is_empty(), "a slab is handed out once");
        assert!(umem.take_slab(1).is_empty());
        free.iter_mut()
            .enumerate()
            .for_each(|(i, frame)| packet(frame, i as u64, 60));
        free[5].truncate(13);
        assert_eq!(queue.transmit(&mut free), 256);
        assert_eq!(number(&free[0]), 256, "the rest stays in order");
        assert_eq!(queue.transmit(&mut free), 1, "the runt left a place");
        assert_eq!(queue.transmit(&mut free), 0);
        assert_eq!(queue.counters().xsk_invalid, 1);
        queue.kick();
        let end = Instant::now() + Duration::from_secs(2);
        while queue.held().tx > 0 && Instant::now() < end {
            queue.complete(&mut free);
        }
        assert_eq!(queue.close(&mut free), 0);
        assert_eq!(audit(1024, &free), Ok(()));
    });
}

#[test]
fn interfaces_that_do_not_suit_are_refused() {
    in_namespace(|| {
        ip("tuntap add dev tun0 mode tun");
        veth("d0", "gen0", 2);
        let umem = umem(1, 64);
        let refused = |name: &str, queue| match XskQueue::open(&umem, name, queue, &RINGS) {
            Err(e) => e,
            Ok(_) => panic!("{name} was opened"),
        };
        assert!(matches!(
            refused("tun0", 0),
            OpenError::Link(LinkError::NotEthernet {
                kind: "a TUN device",
                ..
            })
        ));
        assert!(matches!(
            refused("nosuch", 0),
            OpenError::Link(LinkError::Missing { .. })
        ));
        assert!(matches!(
            refused("d0", 2),
            OpenError::Link(LinkError::Queue {
                queue: 2,
                rx: 2,
                tx: 2,
                ..
            })
        ));
        let rings = Config { tx_size: 512, ..RINGS };
        let error = XskQueue::open(&umem, "d0", 0, &rings).err();
        assert!(matches!(
            error,
            Some(OpenError::Ring {
                what: "transmit",
                size: 512,
                max: 256
            })
        ));
        ip("link set d0 mtu 1763");
        let error = refused("d0", 0);
        let text = "MTU 1763 of d0 does not fit a 2048-byte frame (1762 at most): ip link set d0 mtu 1762";
        assert_eq!(error.to_string(), text);
        ip("link set d0 mtu 1762");
        let mut frames = Vec::new();
        assert_eq!(open(&umem, "d0", 0).close(&mut frames), 0);
    });
}

#[test]
fn a_queue_in_use_is_busy_and_zero_copy_is_refused_where_there_is_none() {
    in_namespace(|| {
        veth("d0", "gen0", 1);
        let (first, second) = (umem(1, 64), umem(1, 64));
        let queue = open(&first, "d0", 0);
        let started = Instant::now();
        assert!(matches!(
            XskQueue::open(&second, "d0", 0, &RINGS),
            Err(OpenError::Busy { .. })
        ));
        assert!(started.elapsed() < Duration::from_secs(5), "retried for a bounded time");
        assert_eq!(queue.close(&mut Vec::new()), 0);
        let config = UmemConfig {
            frames_per_worker: 64,
            fill_size: 256,
            completion_size: 256,
            ..UmemConfig::default()
        };
        let zero_copy = Umem::create(UmemConfig {
            mode: Mode::ZeroCopy,
            ..config
        })
        .unwrap();
        assert!(matches!(
            XskQueue::open(&zero_copy, "d0", 0, &RINGS),
            Err(OpenError::NoZeroCopy { .. })
        ));
        let auto = Umem::create(UmemConfig {
            mode: Mode::Auto,
            ..config
        })
        .unwrap();
        let queue = XskQueue::open(&auto, "d0", 0, &RINGS).unwrap();
        assert!(!queue.zero_copy());
        let mut frames = auto.take_slab(0);
        let count = auto.frame_count();
        queue.close(&mut frames);
        assert_eq!(audit(count, &frames), Ok(()));
    });
}

#[test]
fn busy_polling_is_granted_and_forwards() {
    in_namespace(|| {
        veth("d0", "gen0", 1);
        let umem = umem(1, 1024);
        let mut queue = XskQueue::open(
            &umem,
            "d0",
            0,
            &Config {
                busy_poll: Some(64),
                ..RINGS
            },
        )
        .unwrap();
        assert!(queue.busy_poll());
        let mut peer = open(&umem, "gen0", 0);
        let programs = [Program::attach("d0", false), Program::attach("gen0", false)];
        programs[0].insert(&queue);
        programs[1].insert(&peer);
        let mut free = umem.take_slab(0);
        queue.refill(&mut free);
        let (mut got, mut burst) = (0, Vec::new());
        for i in 0..100 {
            let mut frame = free.pop().unwrap();
            packet(&mut frame, i, 60);
            burst.push(frame);
        }
        let end = Instant::now() + Duration::from_secs(2);
        while got < 100 && Instant::now() < end {
            pump(&mut peer, &mut burst, &mut free);
            let mut into = Vec::new();
            got += queue.receive(&mut into, 64);
            free.append(&mut into);
        }
        assert_eq!(got, 100);
        free.append(&mut burst);
        assert_eq!(queue.close(&mut free) + peer.close(&mut free), 0);
        assert_eq!(audit(umem.frame_count(), &free), Ok(()));
    });
}

#[test]
fn facts_of_links_are_of_this_namespace() {
    in_namespace(|| {
        veth("d0", "gen0", 1);
        ip("tuntap add dev tap0 mode tap multi_queue");
        let link = Link::query("d0").unwrap();
        assert_eq!(
            (link.driver.as_str(), link.rx_queues, link.tx_queues, link.mtu, link.up),
            ("veth", 1, 1, 1500, true)
        );
        let tap = Link::query("tap0").unwrap();
        assert!(tap.check_ethernet().is_ok() && tap.rx_queues >= 1 && !tap.up);
        assert!(
            link.features()
                .unwrap()
                .iter()
                .any(|feature| feature.name == "tx-tcp-segmentation" && feature.active)
        );
        let flags = || {
            let words = ["-d", "-o", "link", "show", "d0"];
            String::from_utf8(Command::new("ip").args(words).output().unwrap().stdout).unwrap()
        };
        assert!(flags().contains("promiscuity 0"));
        let promiscuous = Promiscuous::on(link.ifindex).unwrap();
        assert!(flags().contains("promiscuity 1"));
        drop(promiscuous);
        assert!(flags().contains("promiscuity 0"), "given back");
    });
}
