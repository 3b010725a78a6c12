//! The punt device: what the kernel sees of a punted frame is compared with what it sees of the same frame when it really
//! arrives, sent by the port's far end; and the kernel must act on it.

use crate::frames::*;
use crate::lab::*;
use bypath::control::punt_device::{PuntDevice, PuntError, PuntOpenError, PuntWay};
use bypath::control::steer::{Attach, Decision, HEARTBEAT_LIMIT, Steer, SteerPort};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const WAYS: [PuntWay; 2] = [PuntWay::Metadata, PuntWay::Tail];
const NEIGHBOR: [u8; 4] = [10, 0, 1, 2];
const ADDRESS: [u8; 4] = [10, 0, 1, 1];

/// Runs a test once for each way, in a namespace of its own.
fn both_ways(test: impl Fn(PuntDevice) + Send + Copy + 'static) {
    for way in WAYS {
        in_netns(move || {
            let device = PuntDevice::create_by(way).unwrap();
            assert_eq!(device.way(), way);
            test(device);
        });
    }
}

fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let v4 = |edit: fn(&mut Vec<u8>)| ipv4(NEIGHBOR, [10, 0, 2, 2], 17, &udp(22), edit);
    let sized = |len: usize| ethernet(MAC, 0x0800, &ipv4(NEIGHBOR, [10, 0, 2, 2], 17, &udp(len - 42), |_| ()));
    let tag = |rest: &[u8]| [&[0x60, 5][..], rest].concat();
    let ip = [&[8, 0][..], &v4(|_| ())].concat();
    vec![
        ("ipv4", ethernet(MAC, 0x0800, &v4(|_| ()))),
        (
            "ipv6",
            ethernet(MAC, 0x86dd, &ipv6(v6(1, 2), v6(2, 2), 17, &udp(22), |_| ())),
        ),
        ("arp", ethernet(BROADCAST, 0x0806, &[0, 1, 8, 0, 6, 4, 0, 1])),
        ("802.1q", ethernet(MAC, 0x8100, &tag(&ip))),
        ("802.1ad", ethernet(MAC, 0x88a8, &tag(&ip))),
        (
            "qinq",
            ethernet(MAC, 0x88a8, &tag(&[&[0x81, 0, 0, 7][..], &ip].concat())),
        ),
        ("priority tag", ethernet(MAC, 0x8100, &[&[0xa0, 0][..], &ip].concat())),
        (
            "stp",
            ethernet(
                [1, 0x80, 0xc2, 0, 0, 0],
                39,
                &[[0x42, 0x42, 3].as_slice(), &[0; 36]].concat(),
            ),
        ),
        ("header only", ethernet(MAC, 0x0800, &[])),
        ("runt", ethernet(MAC, 0x0800, &[0x45, 0])),
        ("broadcast", ethernet(BROADCAST, 0x0800, &v4(|_| ()))),
        ("multicast", ethernet([1, 0, 0x5e, 0, 0, 5], 0x0800, &v4(|_| ()))),
        ("foreign mac", ethernet([2, 0, 0, 0, 0, 9], 0x0800, &v4(|_| ()))),
        ("first fragment", ethernet(MAC, 0x0800, &v4(|p| p[6] = 0x20))),
        ("later fragment", ethernet(MAC, 0x0800, &v4(|p| p[7] = 0x10))),
        ("ttl 1", ethernet(MAC, 0x0800, &v4(|p| p[8] = 1))),
        ("options", ethernet(MAC, 0x0800, &v4(|p| p[0] = 0x46))),
        (
            "bad header checksum",
            ethernet(MAC, 0x0800, &{
                let mut packet = v4(|_| ());
                packet[10] ^= 0xff;
                packet
            }),
        ),
        ("ip length beyond the frame", ethernet(MAC, 0x0800, &v4(|p| p[2] = 9))),
        ("padding", ethernet(MAC, 0x0800, &[&v4(|_| ())[..], &[0; 14]].concat())),
        ("unknown ethertype", ethernet(MAC, 0x9999, &[7; 60])),
        ("mtu", sized(1514)),
        ("a page", sized(4096)),
        ("oversize", sized(9014)),
    ]
}

/// The frame as it arrived on p0, once from its far end and once punted.
#[test]
fn punted_frames_look_as_if_they_had_arrived() {
    both_ways(|mut device| {
        let (port, far) = veth_pair(9000);
        let (near, far) = (Packets::on(port), Packets::on(far));
        for (name, frame) in kinds() {
            far.send(&frame);
            let arrived = near
                .wait_for(|_| true)
                .unwrap_or_else(|| panic!("{name}: did not even arrive"));
            device.punt(port, &frame).unwrap();
            let punted = near
                .wait_for(|_| true)
                .unwrap_or_else(|| panic!("{name}: punted and not seen"));
            assert_eq!(punted, arrived, "{name}");
            assert_eq!(near.receive(), None, "{name}: seen twice");
        }
        let (counters, outcomes) = (device.counters(), device.outcomes().unwrap());
        assert_eq!(counters.punted, kinds().len() as u64);
        assert_eq!(outcomes.redirected, counters.punted);
        assert_eq!((outcomes.untagged, outcomes.no_metadata, outcomes.uncut), (0, 0, 0));
    });
}

/// The known difference of the ways: the end of a packet that ends within its IP header. The kernel drops it anyhow.
#[test]
fn the_tail_way_loses_packets_that_end_within_their_header() {
    both_ways(|mut device| {
        let (port, _) = veth_pair(1500);
        let near = Packets::on(port);
        let frame = ethernet(MAC, 0x0800, &ipv4(NEIGHBOR, ADDRESS, 17, &[], |_| ())[..18]);
        device.punt(port, &frame).unwrap();
        let lost = u64::from(device.way() == PuntWay::Tail);
        assert_eq!(near.wait_for(|_| true).is_none(), lost == 1);
        assert_eq!(device.outcomes().unwrap().uncut, lost);
    });
}

fn neighbor() {
    ip("addr add 10.0.1.1/24 dev p0");
    ip("neigh add 10.0.1.2 lladdr 02:00:00:00:00:11 dev p0 nud permanent");
}

/// Where the ICMP message begins in a frame to the neighbor, if it is one of this type.
fn icmp(bytes: &[u8], of_type: u8) -> Option<&[u8]> {
    let icmp = bytes.get(34..)?;
    (bytes[..6] == PEER && bytes[12..14] == [8, 0] && bytes[23] == 1 && icmp[0] == of_type).then_some(icmp)
}

#[test]
fn the_kernel_answers_a_punted_ping_on_its_port() {
    both_ways(|mut device| {
        let (port, far) = veth_pair(1500);
        neighbor();
        let far = Packets::on(far);
        let packet = ipv4(NEIGHBOR, ADDRESS, 1, &echo_request(0x4242), |_| ());
        device.punt(port, &ethernet(MAC, 0x0800, &packet)).unwrap();
        let answer = far
            .wait_for(|seen| icmp(&seen.bytes, 0).is_some())
            .expect("no echo reply");
        assert_eq!(icmp(&answer.bytes, 0).unwrap()[4..6], [0x42, 0x42]);
        assert_eq!(answer.bytes[26..34], [ADDRESS, NEIGHBOR].concat());
    });
}

#[test]
fn the_kernel_answers_a_punted_expired_packet() {
    both_ways(|mut device| {
        let (port, far) = veth_pair(1500);
        neighbor();
        ip("route add 10.0.2.0/24 via 10.0.1.2");
        for name in ["all", "p0"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/forwarding"), "1").unwrap();
        }
        let far = Packets::on(far);
        let packet = ipv4(NEIGHBOR, [10, 0, 2, 2], 17, &udp(22), |p| p[8] = 1);
        device.punt(port, &ethernet(MAC, 0x0800, &packet)).unwrap();
        let answer = far
            .wait_for(|seen| icmp(&seen.bytes, 11).is_some())
            .expect("no time exceeded");
        assert_eq!(icmp(&answer.bytes, 11).unwrap()[8..28], packet[..20]);
    });
}

/// A bridge member: the frame enters the bridge, is learned on p0 and answered by the bridge's own address.
#[test]
fn a_punted_frame_enters_the_bridge_of_its_port() {
    both_ways(|mut device| {
        let (port, far) = veth_pair(1500);
        ip("link add br0 address 02:00:00:00:00:01 type bridge");
        ip("link set p0 master br0");
        ip("link set br0 up");
        ip("addr add 10.0.1.1/24 dev br0");
        ip("neigh add 10.0.1.2 lladdr 02:00:00:00:00:11 dev br0 nud permanent");
        let far = Packets::on(far);
        let packet = ipv4(NEIGHBOR, ADDRESS, 1, &echo_request(0x17), |_| ());
        device.punt(port, &ethernet(MAC, 0x0800, &packet)).unwrap();
        far.wait_for(|seen| icmp(&seen.bytes, 0).is_some())
            .expect("no echo reply through the bridge");
        let learned = Command::new("bridge")
            .args(["fdb", "show", "br", "br0"])
            .output()
            .unwrap();
        let learned = String::from_utf8_lossy(&learned.stdout).into_owned();
        assert!(learned.contains("02:00:00:00:00:11 dev p0"), "{learned}");
    });
}

/// A VLAN device on the port gets the tagged frame, without the tag.
#[test]
fn a_punted_tagged_frame_reaches_the_vlan_device() {
    both_ways(|mut device| {
        let (port, _) = veth_pair(1500);
        if !try_ip("link add link p0 name v5 type vlan id 5") {
            eprintln!("SKIPPED vlan_device: this kernel has none (scripts/vm has)");
            return;
        }
        ip("link set v5 up");
        let vlan = Packets::on(ifindex("v5"));
        let packet = ipv4(NEIGHBOR, ADDRESS, 17, &udp(22), |_| ());
        device
            .punt(port, &ethernet(MAC, 0x8100, &[&[0, 5, 8, 0][..], &packet].concat()))
            .unwrap();
        let seen = vlan
            .wait_for(|seen| seen.protocol == 0x0800)
            .expect("nothing on the VLAN device");
        assert_eq!(
            (seen.bytes, seen.kind),
            (ethernet(MAC, 0x0800, &packet), libc::PACKET_HOST)
        );
    });
}

/// With steer in generic mode on the port, a punted frame meets it again: the cookie, and nothing else, stops the loop.
#[test]
fn the_cookie_stops_the_loop_of_generic_ports() {
    both_ways(|mut device| {
        let (port, _) = veth_pair(9000);
        let steer = Steer::open(HEARTBEAT_LIMIT).unwrap();
        let known = SteerPort {
            mac: MAC,
            queues: 1,
            wire: true,
            generic: true,
            ..SteerPort::default()
        };
        steer.set_port(port, &known).unwrap();
        let socket = XdpSocket::new();
        steer.set_slot(0, socket.fd(), 0).unwrap();
        let _link = steer.attach(port, Attach::Generic).unwrap();
        let near = Packets::on(port);
        let beat = || steer.heartbeats()[0].store(steer.jiffies().now_from_ns(monotonic_ns()), Ordering::Relaxed);
        let count = |decision| steer.stats(0).unwrap().of(decision);

        // With a cookie behind it, what ends within its IP header is what the tail way cannot cut.
        let cut = |(name, _): &(&str, Vec<u8>)| device.way() == PuntWay::Tail && ["header only", "runt"].contains(name);
        let kinds: Vec<_> = kinds().into_iter().filter(|kind| !cut(kind)).collect();
        for (number, (name, frame)) in kinds.iter().enumerate() {
            beat();
            device.punt_guarded(port, frame, &steer.cookie()).unwrap();
            let seen = near.wait_for(|_| true).unwrap_or_else(|| {
                panic!("{name}: not seen, {:?}, {:?}", device.way(), steer.stats(0).unwrap());
            });
            let tag = 4 * usize::from(seen.vlan.is_some());
            assert_eq!(seen.bytes[12..], frame[12 + tag..], "{name}: the cookie is still there");
            assert_eq!(count(Decision::Reinjected), number as u64 + 1, "{name}");
        }
        assert_eq!(count(Decision::Redirect), 0);

        beat();
        device.punt(port, &kinds[0].1).unwrap();
        assert_eq!(near.receive(), None, "a bare frame passed steer");
        assert_eq!(count(Decision::Redirect), 1);
    });
}

/// A native port's program does not see punted frames at all.
#[test]
fn punted_frames_do_not_meet_native_steer() {
    both_ways(|mut device| {
        let (port, _) = veth_pair(1500);
        let steer = Steer::open(HEARTBEAT_LIMIT).unwrap();
        steer
            .set_port(
                port,
                &SteerPort {
                    mac: MAC,
                    queues: 1,
                    wire: true,
                    ..SteerPort::default()
                },
            )
            .unwrap();
        let _link = steer.attach(port, Attach::Native).unwrap();
        let near = Packets::on(port);
        device.punt(port, &kinds()[0].1).unwrap();
        assert_eq!(near.wait_for(|_| true).expect("not seen").bytes, kinds()[0].1);
        assert!(steer.stats(0).unwrap().iter().all(|(_, count)| count == 0));
    });
}

/// Waits for bypath0 to go: another test's child process may hold its descriptor until it executes.
fn gone() {
    let end = Instant::now() + Duration::from_secs(3);
    while !ip_shows("link show bypath0").is_empty() {
        assert!(Instant::now() < end, "bypath0 is still there");
    }
}

#[test]
fn the_device_is_the_lock_and_leaves_nothing() {
    both_ways(|device| {
        assert!(matches!(PuntDevice::create(), Err(PuntOpenError::InUse)));
        let shown = ip_shows("-d addr show bypath0");
        assert!(shown.contains("NOARP") && shown.contains("UP"), "{shown}");
        assert!(!shown.contains("inet"), "it has an address: {shown}");
        let off = std::fs::read_to_string("/proc/sys/net/ipv6/conf/bypath0/disable_ipv6").unwrap();
        assert_eq!(off.trim(), "1");
        drop(device);
        gone();
        drop(PuntDevice::create().unwrap());
        gone();
    });
}

/// Containers have a read-only /proc/sys: then the device gets no IPv6 address, by netlink.
#[test]
fn a_read_only_proc_sys_is_no_obstacle() {
    in_netns(|| {
        // SAFETY: affects this thread only, which ends with the test.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        for args in [
            "--make-rprivate /",
            "--bind /proc/sys /proc/sys",
            "-o remount,bind,ro /proc/sys",
        ] {
            let status = Command::new("mount").args(args.split(' ')).status().unwrap();
            assert!(status.success(), "mount {args}");
        }
        let device = PuntDevice::create().unwrap();
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv6/conf/bypath0/disable_ipv6")
                .unwrap()
                .trim(),
            "0"
        );
        let mode = ip_shows("-d link show bypath0");
        assert!(mode.contains("addrgenmode none"), "{mode}");
        assert!(!ip_shows("addr show bypath0").contains("inet"));
        drop(device);
    });
}

/// A device of that name which is not ours is a lock, too.
#[test]
fn a_foreign_bypath0_is_in_use() {
    in_netns(|| {
        ip("link add bypath0 type bridge");
        assert!(matches!(PuntDevice::create(), Err(PuntOpenError::InUse)));
    });
}

#[test]
fn failures_are_counted_by_kind() {
    both_ways(|mut device| {
        let (port, _) = veth_pair(1500);
        let frame = &kinds()[0].1;
        assert_eq!(device.punt(port, &frame[..13]), Err(PuntError::TooShort));
        assert_eq!(device.punt(port, &vec![0; 10_000_000]), Err(PuntError::NoMemory));
        ip("link set bypath0 down");
        assert_eq!(device.punt(port, frame), Err(PuntError::Down));
        ip("link set bypath0 up");
        device.punt(port, frame).unwrap();
        // A port that is gone: the kernel drops the frame, and the next one goes on.
        device.punt(4_000_000, frame).unwrap();
        device.punt(port, frame).unwrap();
        ip("link del bypath0");
        assert_eq!(device.punt(port, frame), Err(PuntError::Gone));
        let counters = device.counters();
        assert_eq!((counters.punted, counters.too_short, counters.no_memory), (3, 1, 1));
        assert_eq!((counters.down, counters.gone, counters.other), (1, 1, 0));
    });
}
