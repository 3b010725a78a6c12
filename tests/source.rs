//! The sources of `bypath bench` on a veth pair: c0 sends, a packet socket on c1 sees every frame. Needs root.
//!
//! ```text
//!   source ── c0 ======== c1 ── XDP that passes (so that c1 runs NAPI) ── packet socket
//! ```

mod netns;

use bypath::bench::frames::{Fields, Frames, Sender};
use bypath::bench::order::Picker;
use bypath::bench::source::{Limit, LiveSource, SourceKind, SourceOptions, open};
use bypath::bench::tag::{Seen, Tag, judge};
use bypath::bench::work::{Flows, Kind, Order, Rate, Size, Work};
use bypath::port::link::Link;
use bypath::port::wait::monotonic_ns;
use netns::{Attached, attach_bpf, ifindex, isolated, sh};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const RUN: u16 = 0x7e57;
const XDP_REDIRECT: u32 = 4;
const KINDS: [Kind; 4] = [Kind::Udp, Kind::TcpSyn, Kind::TcpAck, Kind::Icmp];
const BOTH: [SourceKind; 2] = [SourceKind::Live, SourceKind::Xsk];

fn work(kind: Kind, v6: bool, size: Size) -> Work {
    let (src, dst) = if v6 {
        ("fd00:1::2", "fd00:2::ffff:fff0")
    } else {
        ("10.1.0.2", "10.2.255.250")
    };
    Work {
        kind,
        size,
        flows: Flows {
            count: 100,
            order: Order::RoundRobin,
            new_per_second: 0,
        },
        rate: Rate::Unpaced,
        duration: Duration::from_secs(1),
        seed: 0x1234_5678_9abc_def0,
        src_mac: None,
        dst_mac: [2, 0, 0, 0, 0, 2],
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        dsts: 7,
        sport: 1_024,
        dport: 9,
    }
}

fn options(kind: SourceKind, timed: bool) -> SourceOptions {
    SourceOptions {
        kind,
        cpu: None,
        timed,
        queue: 0,
    }
}

/// The pair, both ends up, and a program on c1 that passes all.
fn pair() -> Attached {
    sh("ip link add c0 type veth peer name c1; ip link set c0 up; ip link set c1 up");
    attach_bpf(6, 2, [ifindex("c1"), 37, 4, 0, 0, 0, 0]).expect("XDP on c1")
}

/// What arrives at c1.
struct Tap(OwnedFd);

impl Tap {
    fn open() -> Self {
        let buffer = 256 << 20;
        let all = i32::from((libc::ETH_P_ALL as u16).to_be());
        // SAFETY: no pointers but to what lives through the calls, as large as said; the descriptor is checked before it is owned.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, all);
            assert!(fd >= 0, "a packet socket");
            let mut at: libc::sockaddr_ll = std::mem::zeroed();
            at.sll_family = libc::AF_PACKET as u16;
            at.sll_protocol = all as u16;
            at.sll_ifindex = ifindex("c1") as i32;
            let (len, of_int) = (size_of_val(&at) as u32, size_of::<i32>() as u32);
            assert_eq!(libc::bind(fd, (&raw const at).cast(), len), 0);
            let set = libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const buffer).cast(),
                of_int,
            );
            assert_eq!(set, 0);
            Self(OwnedFd::from_raw_fd(fd))
        }
    }

    /// The tags of `count` frames of the run, in the order in which they came; fewer where no more come.
    fn take(&self, count: usize) -> Vec<Tag> {
        let mut tags = Vec::new();
        let end = Instant::now() + Duration::from_secs(5);
        let mut frame = [0u8; 2048];
        while tags.len() < count && Instant::now() < end {
            // SAFETY: the kernel writes no more than the buffer has.
            let n = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            match usize::try_from(n) {
                Ok(n) => match judge(&frame[..n], RUN) {
                    Seen::Intact(tag) => tags.push(tag),
                    Seen::Corrupted(tag) => panic!("{tag:?} arrived broken"),
                    Seen::Foreign => {}
                },
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        tags
    }
}

/// The program makes the same frames, byte for byte, as the model: all kinds, sizes and orders.
#[test]
fn the_program_makes_the_frames_of_the_model() {
    isolated("the_program_makes_the_frames_of_the_model", || {
        let _pass = pair();
        let link = Link::query("c0").unwrap();
        let sender = Sender {
            mac: link.mac,
            mtu: link.mtu,
        };
        let mut compared = 0;
        for (kind, v6) in KINDS.iter().flat_map(|&kind| [(kind, false), (kind, true)]) {
            for size in [
                Size::Bytes(64),
                Size::Bytes(67),
                Size::Bytes(101),
                Size::Bytes(1514),
                Size::Imix,
            ] {
                for (order, count) in [
                    (Order::RoundRobin, 5),
                    (Order::Random, 10_000_000),
                    (Order::Zipf { exponent: 1.0 }, 3_000),
                ] {
                    let mut work = work(kind, v6, size);
                    (work.flows.order, work.flows.count) = (order, count);
                    compared += compare(&work, &sender, kind == Kind::Udp);
                }
            }
        }
        assert_eq!(compared, 8 * 5 * 3 * 30);
    });
}

fn compare(work: &Work, sender: &Sender, timed: bool) -> usize {
    let frames = Frames::new(work, RUN, sender).unwrap();
    let picker = Picker::new(&work.flows, work.seed).unwrap();
    let made = dry_run(work, timed, 30);
    for (sequence, (verdict, frame)) in (0u64..).zip(&made) {
        assert_eq!(*verdict, XDP_REDIRECT, "{work:?} {sequence}");
        let Seen::Intact(tag) = judge(frame, RUN) else {
            panic!("{work:?} {sequence}: {frame:02x?}");
        };
        assert_eq!(tag.time != 0, timed);
        let fields = Fields {
            sequence,
            flow: picker.flow(picker.slot(sequence), picker.gone(0)),
            time: tag.time,
        };
        assert_eq!(*frame, frames.make(&fields), "{work:?} {sequence}");
    }
    made.len()
}

fn dry_run(work: &Work, timed: bool, count: usize) -> Vec<(u32, Vec<u8>)> {
    let mut source = LiveSource::open("c0", options(SourceKind::Live, timed)).unwrap();
    source.dry_run(work, RUN, count).unwrap()
}

#[test]
fn every_frame_arrives_with_its_number_and_its_time() {
    isolated("every_frame_arrives_with_its_number_and_its_time", || {
        let _pass = pair();
        let tap = Tap::open();
        for (kind, size, frames) in BOTH
            .iter()
            .flat_map(|&kind| [(kind, Size::Bytes(64), 20_000), (kind, Size::Imix, 2_400)])
        {
            let mut work = work(Kind::Udp, false, size);
            work.rate = Rate::Paced(20_000.0);
            let before = monotonic_ns();
            let mut source = open("c0", options(kind, true)).unwrap();
            let sent = source
                .run(&work, RUN, Limit::Frames(frames), &mut |_| true)
                .unwrap_or_else(|e| panic!("{kind:?}: {e}"));
            assert_eq!((sent.offered, sent.refused), (frames, 0), "{kind:?}: {sent:?}");
            let tags = tap.take(frames as usize);
            let numbers: Vec<u64> = tags.iter().map(|tag| u64::from(tag.sequence)).collect();
            assert_eq!(numbers, (0..frames).collect::<Vec<_>>(), "{kind:?}");
            assert!(tags.iter().all(|tag| tag.flow == Some(tag.sequence % 100)));
            assert!(before <= sent.first_ns && sent.first_ns < sent.last_ns && sent.last_ns <= monotonic_ns());
            let times: Vec<u32> = tags
                .iter()
                .map(|tag| tag.time.wrapping_sub(sent.first_ns as u32))
                .collect();
            assert!(times.is_sorted(), "{kind:?}");
            assert!(
                times.last() <= Some(&((sent.last_ns - sent.first_ns) as u32)),
                "{kind:?}"
            );
        }
    });
}

#[test]
fn flows_that_are_new_come_by_their_rate() {
    isolated("flows_that_are_new_come_by_their_rate", || {
        let _pass = pair();
        let tap = Tap::open();
        for kind in BOTH {
            let mut work = work(Kind::TcpSyn, false, Size::Bytes(100));
            work.rate = Rate::Paced(10_000.0);
            work.flows.new_per_second = 1_000;
            let mut source = open("c0", options(kind, true)).unwrap();
            let sent = source.run(&work, RUN, Limit::Frames(5_000), &mut |_| true).unwrap();
            let picker = Picker::new(&work.flows, work.seed).unwrap();
            let tags = tap.take(5_000);
            assert_eq!(tags.len(), 5_000);
            for tag in tags {
                // By the frame's own time, whatever the machine did meanwhile; what `time` rounds is one flow at most.
                let elapsed = tag.time.wrapping_sub(sent.first_ns as u32);
                let expected = picker.flow(picker.slot(tag.sequence.into()), picker.gone(elapsed.into()));
                assert_eq!(tag.flow, Some(expected), "{kind:?} {tag:?}");
            }
        }
    });
}

#[test]
fn time_and_the_caller_end_a_run_and_a_rate_beyond_reach_is_said() {
    isolated("time_and_the_caller_end_a_run_and_a_rate_beyond_reach_is_said", || {
        let _pass = pair();
        for kind in BOTH {
            let mut source = open("c0", options(kind, false)).unwrap();
            let mut work = work(Kind::Udp, true, Size::Bytes(72));
            let long = Limit::Time(Duration::from_millis(300));
            let unpaced = source.run(&work, RUN, long, &mut |_| true).unwrap();
            assert!(
                unpaced.offered > 100 && unpaced.notes.is_empty(),
                "{kind:?}: {unpaced:?}"
            );
            let mut told = 0;
            let hour = Limit::Time(Duration::from_secs(3_600));
            let stopped = source.run(&work, RUN, hour, &mut |offered| {
                told = offered;
                false
            });
            assert!(told > 0 && stopped.unwrap().offered >= told, "{kind:?}");
            work.rate = Rate::Paced(200e6);
            let sent = source.run(&work, RUN, long, &mut |_| true).unwrap();
            assert!(
                sent.missed > 0 && sent.notes[0].contains("not reached"),
                "{kind:?}: {sent:?}"
            );
            // Frames of one source and one port, one work after the other, and a number of them.
            work.rate = Rate::Unpaced;
            let burst = source.run(&work, RUN, Limit::Frames(1_000), &mut |_| true).unwrap();
            assert_eq!(burst.offered, 1_000, "{kind:?}");
            assert!(burst.first_ns <= burst.last_ns);
        }
    });
}

#[test]
fn a_port_that_cannot_send_is_refused_in_one_line() {
    isolated("a_port_that_cannot_send_is_refused_in_one_line", || {
        let refused = |name| open(name, options(SourceKind::Xsk, false)).err().expect("refused");
        assert!(refused("c0").contains("no interface c0"));
        let pass = pair();
        drop(pass);
        sh("ip link set c1 down");
        assert!(refused("c0").contains("no carrier"), "{}", refused("c0"));
        sh("ip link set c0 down");
        assert_eq!(refused("c0"), "c0 is down: ip link set c0 up");
    });
}
