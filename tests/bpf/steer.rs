//! steer, decision by decision.

use crate::decisions::*;
use crate::frames::*;
use crate::lab::*;
use bypath::control::jiffies::Jiffies;
use bypath::control::steer::{Attach, AttachError, AttachedMode, Decision, HEARTBEAT_LIMIT, Steer, SteerPort};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// p0 with three queues: 0 has a socket and a live worker, 1 a socket and a stalled worker, 2 no socket. The slot
/// behind them, which its fourth queue would reach, is another port's and in use.
pub struct Lab {
    pub steer: Steer,
    port: SteerPort,
    pub ifindex: u32,
    pub far: u32,
    _sockets: Vec<XdpSocket>,
}

const INDEX: u16 = 7;
const LIVE: u16 = 3;
const DEAD: u16 = 4;

impl Lab {
    pub fn new() -> Self {
        Self::with_mtu(1500)
    }

    fn with_mtu(mtu: u32) -> Self {
        let (ifindex, far) = veth_pair(mtu);
        let steer = Steer::open(HEARTBEAT_LIMIT).unwrap();
        let port = SteerPort {
            mac: MAC,
            index: INDEX,
            first_slot: 10,
            queues: 3,
            carry_v4: true,
            carry_v6: true,
            ..SteerPort::default()
        };
        steer
            .set_local([own(LOCAL), broadcast(NET_BROADCAST), own(v6(1, 1))])
            .unwrap();
        steer.set_port(ifindex, &port).unwrap();
        let sockets = vec![XdpSocket::new(), XdpSocket::new(), XdpSocket::new()];
        steer.set_slot(10, sockets[0].fd(), LIVE).unwrap();
        steer.set_slot(11, sockets[1].fd(), DEAD).unwrap();
        steer.set_slot(13, sockets[2].fd(), LIVE).unwrap();
        let lab = Self {
            steer,
            port,
            ifindex,
            far,
            _sockets: sockets,
        };
        lab.beat();
        lab
    }

    /// The live worker gives a sign of life.
    fn beat(&self) {
        let now = self.steer.jiffies().now_from_ns(monotonic_ns());
        self.steer.heartbeats()[usize::from(LIVE)].store(now, Ordering::Relaxed);
    }

    pub fn set(&self, edit: impl FnOnce(&mut SteerPort)) {
        let mut port = self.port;
        edit(&mut port);
        self.steer.set_port(self.ifindex, &port).unwrap();
    }

    /// What became of a frame: exactly one counter moves, and the frame is as it was.
    fn decision_on(&self, queue: u32, frame: &[u8]) -> Decision {
        let before = self.steer.stats(INDEX).unwrap();
        let trial = self.steer.trial(self.ifindex, queue, frame).unwrap();
        let after = self.steer.stats(INDEX).unwrap();
        let moved: Vec<Decision> = after
            .iter()
            .filter(|&(d, count)| count != before.of(d))
            .map(|(d, _)| d)
            .collect();
        assert_eq!(moved.len(), 1, "counters moved: {moved:?}");
        assert_eq!(after.of(moved[0]), before.of(moved[0]) + 1);
        assert_eq!(trial.redirected, moved[0] == Decision::Redirect);
        assert_eq!(trial.frame, frame, "the frame was changed");
        moved[0]
    }

    pub fn decision(&self, frame: &[u8]) -> Decision {
        self.beat();
        self.decision_on(0, frame)
    }
}

#[test]
fn each_frame_meets_its_decision() {
    in_netns(|| {
        let lab = Lab::new();
        let mut met = HashSet::new();
        for (name, frame, expected) in table() {
            assert_eq!(lab.decision(&frame), expected, "{name}");
            met.insert(expected);
        }
        // These have tests of their own, below.
        met.extend([
            Decision::Reinjected,
            Decision::Merged,
            Decision::MergedLost,
            Decision::FamilyLeft,
            Decision::BridgingLeft, // bridge.rs
            Decision::Left,
            Decision::NoSocket,
            Decision::Stalled,
        ]);
        assert_eq!(met.len(), Decision::ALL.len(), "a decision without a frame");
    });
}

#[test]
fn an_unknown_port_passes_everything_uncounted() {
    in_netns(|| {
        let lab = Lab::new();
        let before = lab.steer.stats(INDEX).unwrap();
        assert!(!lab.steer.trial(lab.far, 0, &transit()).unwrap().redirected);
        lab.steer.remove_port(lab.ifindex).unwrap();
        lab.steer.remove_port(lab.ifindex).unwrap();
        assert!(!lab.steer.trial(lab.ifindex, 0, &transit()).unwrap().redirected);
        assert_eq!(lab.steer.stats(INDEX).unwrap(), before);
    });
}

#[test]
fn a_family_is_left_by_its_flag() {
    in_netns(|| {
        let lab = Lab::new();
        let (four, six) = (transit(), v6_of(17, |_| ()));
        lab.set(|port| port.carry_v4 = false);
        assert_eq!(
            [&four, &six].map(|f| lab.decision(f)),
            [Decision::FamilyLeft, Decision::Redirect]
        );
        lab.set(|port| port.carry_v6 = false);
        assert_eq!(
            [&four, &six].map(|f| lab.decision(f)),
            [Decision::Redirect, Decision::FamilyLeft]
        );
    });
}

#[test]
fn a_queue_without_socket_or_live_worker_passes() {
    in_netns(|| {
        let lab = Lab::new();
        lab.beat();
        for (queue, expected) in [
            (0, Decision::Redirect),
            (1, Decision::Stalled),
            (2, Decision::NoSocket),
            (3, Decision::NoSocket),
        ] {
            assert_eq!(lab.decision_on(queue, &transit()), expected, "queue {queue}");
        }
        lab.steer.clear_slot(10).unwrap();
        assert_eq!(lab.decision(&transit()), Decision::NoSocket);
        // A socket that was closed leaves its slot by itself.
        let socket = XdpSocket::new();
        lab.steer.set_slot(10, socket.fd(), LIVE).unwrap();
        assert_eq!(lab.decision(&transit()), Decision::Redirect);
        drop(socket);
        let end = Instant::now() + Duration::from_secs(2);
        while lab.decision(&transit()) != Decision::NoSocket {
            assert!(Instant::now() < end, "the closed socket is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn the_heartbeat_decides_to_the_jiffy() {
    in_netns(|| {
        let lab = Lab::new();
        let (jiffies, heartbeats) = (lab.steer.jiffies(), lab.steer.heartbeats());
        let limit = jiffies.count(HEARTBEAT_LIMIT);
        const SLACK: Duration = Duration::from_millis(40);
        let slack = jiffies.count(SLACK);
        let cases = [
            (limit - slack, Decision::Redirect),
            (limit + 2, Decision::Stalled),
            (limit * 1000, Decision::Stalled),
            (5u64.wrapping_neg(), Decision::Redirect), // ahead
        ];
        for (age, expected) in cases {
            loop {
                let since = Instant::now();
                let now = jiffies.now_from_ns(monotonic_ns());
                heartbeats[usize::from(LIVE)].store(now.wrapping_sub(age), Ordering::Relaxed);
                let decision = lab.decision_on(0, &transit());
                // A heartbeat that is near the limit is beyond it when the machine keeps this thread waiting.
                if age != limit - slack || since.elapsed() < SLACK {
                    assert_eq!(decision, expected, "{age} jiffies old");
                    break;
                }
            }
        }
        heartbeats[usize::from(LIVE)].store(0, Ordering::Relaxed);
        assert_eq!(lab.decision_on(0, &transit()), Decision::Stalled, "never beaten");
    });
}

#[test]
fn a_pair_is_left_for_its_generation() {
    in_netns(|| {
        let lab = Lab::new();
        let (six, src6, dst6) = (v6_of(17, |_| ()), IpAddr::from(v6(1, 2)), IpAddr::from(v6(2, 2)));
        lab.steer.set_generation(5);
        assert_eq!(lab.decision(&transit()), Decision::Redirect);
        lab.steer.leave(lab.ifindex, SRC.into(), DST.into(), 4).unwrap();
        assert_eq!(lab.decision(&transit()), Decision::Redirect, "said in generation 4");
        lab.steer.leave(lab.ifindex, SRC.into(), DST.into(), 5).unwrap();
        assert_eq!(lab.decision(&transit()), Decision::Left);
        assert_eq!(
            lab.decision(&v4_addresses(SRC, [10, 0, 2, 3])),
            Decision::Redirect,
            "another destination"
        );
        assert_eq!(
            lab.decision(&v4_addresses([10, 0, 1, 3], DST)),
            Decision::Redirect,
            "another source"
        );
        assert_eq!(lab.decision(&six), Decision::Redirect);
        lab.steer.leave(lab.far, src6, dst6, 5).unwrap();
        assert_eq!(lab.decision(&six), Decision::Redirect, "another port");
        lab.steer.leave(lab.ifindex, src6, dst6, 5).unwrap();
        assert_eq!(lab.decision(&six), Decision::Left);
        lab.steer.set_generation(6);
        assert_eq!(lab.decision(&transit()), Decision::Redirect);
        lab.steer.leave(lab.ifindex, src6, dst6, 6).unwrap();
        assert_eq!(lab.decision(&transit()), Decision::Redirect, "left in generation 5");
        assert_eq!(lab.decision(&six), Decision::Left);
    });
}

#[test]
fn what_the_kernel_does_better_goes_to_the_worker_where_connections_are_tracked() {
    in_netns(|| {
        let lab = Lab::new();
        for track in [[false, false], [true, false], [false, true], [true, true]] {
            lab.set(|port| (port.track_v4, port.track_v6) = track.into());
            let mut turned = 0;
            for (name, frame, untracked) in table() {
                let tracked = match frame[12..14] {
                    [0x08, 0x00] => track[0],
                    _ => track[1],
                };
                let better = [Decision::Options, Decision::Extension, Decision::Ttl].contains(&untracked);
                let expected = if tracked && better {
                    Decision::Redirect
                } else {
                    untracked
                };
                turned += usize::from(tracked && better);
                assert_eq!(lab.decision(&frame), expected, "{name}, tracked {track:?}");
            }
            assert_eq!(turned > 0, track.contains(&true), "tracked {track:?}");
        }
    });
}

#[test]
fn to_the_box_itself_passes_tracked_or_not() {
    in_netns(|| {
        let lab = Lab::new();
        lab.set(|port| (port.track_v4, port.track_v6) = (true, true));
        let mut ttl = v4_addresses(SRC, LOCAL);
        ttl[14 + 8] = 1;
        assert_eq!(lab.decision(&ttl), Decision::Local);
        let mut hops = v6_addresses(v6(1, 2), v6(1, 1));
        (hops[14 + 6], hops[14 + 7]) = (44, 1);
        assert_eq!(lab.decision(&hops), Decision::Local);
    });
}

#[test]
fn pairs_are_not_left_where_connections_are_tracked() {
    in_netns(|| {
        let lab = Lab::new();
        let (four, six) = (transit(), v6_of(17, |_| ()));
        lab.steer.set_generation(5);
        lab.steer.leave(lab.ifindex, SRC.into(), DST.into(), 5).unwrap();
        lab.steer
            .leave(lab.ifindex, v6(1, 2).into(), v6(2, 2).into(), 5)
            .unwrap();
        let both = || [&four, &six].map(|frame| lab.decision(frame));
        assert_eq!(both(), [Decision::Left, Decision::Left]);
        lab.set(|port| port.track_v4 = true);
        assert_eq!(both(), [Decision::Redirect, Decision::Left]);
        lab.set(|port| port.track_v6 = true);
        assert_eq!(both(), [Decision::Left, Decision::Redirect]);
    });
}

#[test]
fn local_addresses_come_and_go() {
    in_netns(|| {
        let lab = Lab::new();
        lab.steer.set_local([own(DST), own(v6(1, 1))]).unwrap();
        assert_eq!(lab.decision(&transit()), Decision::Local);
        assert_eq!(lab.decision(&v4_addresses(SRC, LOCAL)), Decision::Redirect);
        assert_eq!(lab.decision(&v6_addresses(v6(1, 2), v6(1, 1))), Decision::Local);
        lab.steer.set_local([]).unwrap();
        assert_eq!(lab.decision(&v6_addresses(v6(1, 2), v6(1, 1))), Decision::Redirect);
    });
}

#[test]
fn wire_takes_every_frame_from_a_live_worker() {
    in_netns(|| {
        let lab = Lab::new();
        lab.set(|port| (port.wire, port.carry_v4, port.carry_v6) = (true, false, false));
        for (name, frame, _) in table() {
            assert_eq!(lab.decision(&frame), Decision::Redirect, "{name}");
        }
        assert_eq!(lab.decision_on(1, &transit()), Decision::Stalled);
        assert_eq!(lab.decision_on(2, &transit()), Decision::NoSocket);
    });
}

#[test]
fn one_frame_in_64_is_stamped_or_all() {
    in_netns(|| {
        let lab = Lab::new();
        let stamped = |frames: usize| {
            lab.steer.clear_stats(INDEX).unwrap();
            assert_eq!(lab.steer.stats(INDEX).unwrap(), Default::default());
            let mut count = 0;
            for _ in 0..frames {
                lab.beat();
                let before = monotonic_ns();
                let trial = lab.steer.trial(lab.ifindex, 0, &transit()).unwrap();
                assert!(trial.redirected);
                assert_eq!(trial.frame, transit());
                if let Some(stamp) = trial.stamp_ns {
                    assert!((before..=monotonic_ns()).contains(&stamp), "a stamp of another time");
                    count += 1;
                }
            }
            count
        };
        // The count is kept per CPU, and this thread may change CPUs.
        let few = stamped(256);
        let cpus = std::thread::available_parallelism().unwrap().get();
        assert!((4..4 + cpus.max(4)).contains(&few), "{few} stamps on 256 frames");
        lab.set(|port| port.stamp_all = true);
        assert_eq!(stamped(100), 100);
        // Frames for the kernel carry none.
        assert_eq!(
            lab.steer
                .trial(lab.ifindex, 0, &v4_addresses(SRC, LOCAL))
                .unwrap()
                .stamp_ns,
            None
        );
    });
}

#[test]
fn the_cookie_is_cut_on_generic_ports_only() {
    in_netns(|| {
        let lab = Lab::new();
        let cookie = lab.steer.cookie();
        assert_ne!(cookie, [0; 16]);
        let guarded = [transit(), cookie.to_vec()].concat();
        assert_eq!(
            lab.decision(&guarded),
            Decision::Redirect,
            "a native port does not look"
        );
        lab.set(|port| port.generic = true);
        assert_eq!(lab.decision(&transit()), Decision::Redirect);
        let trial = lab.steer.trial(lab.ifindex, 0, &guarded).unwrap();
        assert_eq!((trial.redirected, trial.frame), (false, transit()));
        assert_eq!(lab.steer.stats(INDEX).unwrap().of(Decision::Reinjected), 1);
        for wrong in [0, 7, 8, 15] {
            let mut frame = guarded.clone();
            let at = frame.len() - 16 + wrong;
            frame[at] ^= 1;
            assert_eq!(lab.decision(&frame), Decision::Redirect, "byte {wrong} is wrong");
        }
        // The shortest frame that can bear a cookie, and one that cannot.
        let short = [&transit()[..14], &cookie].concat();
        assert_eq!(lab.steer.trial(lab.ifindex, 0, &short).unwrap().frame, transit()[..14]);
        assert_eq!(lab.decision(&short[1..]), Decision::ForeignMac);
        // Two processes have two cookies.
        assert_ne!(Steer::open(HEARTBEAT_LIMIT).unwrap().cookie(), cookie);
    });
}

#[test]
fn jiffies_are_calibrated() {
    in_netns(|| {
        let first = Jiffies::calibrate().unwrap();
        assert!([100, 250, 300, 1000].contains(&first.hz()), "HZ = {}", first.hz());
        let second = Jiffies::calibrate().unwrap();
        assert!(first.now_from_ns(second.base_ns).abs_diff(second.base_jiffies) <= 1);
    });
}

/// Attaches, forwards nothing, beats for a while and stops: the kernel gets the traffic back within the limit.
fn fails_open(how: Attach, mode: AttachedMode) {
    let lab = Lab::new();
    let (near, far) = (Packets::on(lab.ifindex), Packets::on(lab.far));
    // Which queue a frame takes is by a hash with a seed of this boot: all four are the live worker's.
    for slot in 10..14 {
        lab.steer.set_slot(slot, lab._sockets[0].fd(), LIVE).unwrap();
    }
    lab.set(|port| (port.queues, port.generic) = (4, mode == AttachedMode::Generic));
    let link = lab.steer.attach(lab.ifindex, how).unwrap();
    assert_eq!(link.mode, mode);
    let again = lab.steer.attach(lab.ifindex, how);
    assert!(matches!(again, Err(AttachError::Busy { .. })));
    let (mine, frame) = (transit(), transit());
    let passed = || {
        far.send(&frame);
        near.receive().is_some_and(|seen| seen.bytes == mine)
    };
    // Both sides of the beat: how long it took at most and at least, should this thread wait for its CPU just here.
    let (before, (), beaten) = (Instant::now(), lab.beat(), Instant::now());
    assert!(!passed(), "a live worker's frame reached the kernel");
    loop {
        let sent = beaten.elapsed();
        if passed() {
            break;
        }
        assert!(
            sent < Duration::from_secs(1),
            "what is sent {sent:?} later is not in the kernel"
        );
    }
    assert!(
        before.elapsed() > HEARTBEAT_LIMIT - Duration::from_millis(30),
        "after {:?}",
        before.elapsed()
    );
    let counts = lab.steer.stats(INDEX).unwrap();
    assert!(counts.of(Decision::Redirect) >= 1 && counts.of(Decision::Stalled) >= 1);
    lab.beat();
    assert!(!passed());
    drop(link);
    // Whoever lists the links of this machine just then holds this one a moment longer.
    assert!((0..100).any(|_| !ip_shows("link show p0").contains("xdp")));
    assert!((0..10).any(|_| passed()));
}

#[test]
fn a_native_port_fails_open() {
    in_netns(|| fails_open(Attach::Auto, AttachedMode::Native));
}

/// A veth takes native XDP up to an MTU of a page less some room.
#[test]
fn auto_falls_back_and_says_why() {
    in_netns(|| {
        let lab = Lab::with_mtu(9000);
        let refused = lab.steer.attach(lab.ifindex, Attach::Native).unwrap_err();
        assert!(
            matches!(refused, AttachError::Refused { mode: "native", .. }),
            "{refused}"
        );
        let link = lab.steer.attach(lab.ifindex, Attach::Auto).unwrap();
        assert_eq!(link.mode, AttachedMode::Generic);
        assert!(link.refused.is_some());
        assert!(matches!(
            lab.steer.attach(4_000_000, Attach::Auto),
            Err(AttachError::NoDevice)
        ));
    });
}

#[test]
fn a_generic_port_fails_open() {
    in_netns(|| fails_open(Attach::Generic, AttachedMode::Generic));
}

/// The four documented capabilities suffice: no CAP_SYS_ADMIN, CAP_SYS_RESOURCE or CAP_PERFMON.
#[test]
fn the_documented_capabilities_suffice() {
    in_netns(|| {
        veth_pair(1500);
        drop_capabilities();
        let steer = Steer::open(HEARTBEAT_LIMIT).unwrap();
        steer.attach(ifindex("p0"), Attach::Generic).unwrap();
        let mut punt = bypath::control::punt_device::PuntDevice::create().unwrap();
        punt.punt(ifindex("p0"), &transit()).unwrap();
    });
}
