//! A frame to an address of the box, where NAT is in force: the kernel's only where a socket of this namespace has its whole
//! 4-tuple. The sockets are real ones; the frames are what their peers would send.

use crate::decisions::*;
use crate::frames::*;
use crate::lab::*;
use crate::steer::Lab;
use bypath::control::steer::Decision;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// The box's address and its peer's, both of which are here.
fn pair(v6_wanted: bool) -> [IpAddr; 2] {
    match v6_wanted {
        true => [v6(1, 1).into(), v6(1, 2).into()],
        false => [LOCAL.into(), SRC.into()],
    }
}

fn any(v6_wanted: bool) -> IpAddr {
    match v6_wanted {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// NAT in force for both families, and the addresses of the pairs on lo.
fn nat_lab() -> Lab {
    let lab = Lab::new();
    lab.set(|port| (port.track_v4, port.track_v6, port.nat_v4, port.nat_v6) = (true, true, true, true));
    for address in [pair(false), pair(true)].concat() {
        ip(&format!("addr add {address} dev lo"));
    }
    lab
}

/// Ports, and for TCP a header of 20 bytes with these flags.
fn transport(proto: u8, ports: [u16; 2], flags: u8) -> Vec<u8> {
    let mut bytes = ports.map(u16::to_be_bytes).concat();
    match proto {
        TCP => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]),
        _ => bytes.extend([0, 12, 0, 0, 1, 2, 3, 4]),
    }
    bytes
}

fn packet(src: SocketAddr, dst: SocketAddr, proto: u8, flags: u8) -> Vec<u8> {
    let payload = transport(proto, [src.port(), dst.port()], flags);
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet(MAC, 0x0800, &ipv4(s.octets(), d.octets(), proto, &payload, |_| ())),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet(MAC, 0x86dd, &ipv6(s.octets(), d.octets(), proto, &payload, |_| ())),
        _ => panic!("two families"),
    }
}

fn udp_from(src: SocketAddr, dst: SocketAddr) -> Vec<u8> {
    packet(src, dst, UDP, 0)
}

fn tcp_from(src: SocketAddr, dst: SocketAddr) -> Vec<u8> {
    packet(src, dst, TCP, ACK)
}

fn moved(mut address: SocketAddr) -> SocketAddr {
    address.set_port(address.port() ^ 1);
    address
}

#[test]
fn tcp_is_the_boxs_where_a_connection_of_its_is() {
    in_netns(|| {
        let lab = nat_lab();
        // A listener of both families has connections of both.
        for (is_v6, dual) in [(false, false), (true, false), (false, true)] {
            let [here, there] = pair(is_v6);
            let listener = TcpListener::bind((any(is_v6 || dual), 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let near = SocketAddr::new(here, port);
            let far = SocketAddr::new(there, 40_000);
            assert_eq!(
                lab.decision(&packet(far, near, TCP, SYN)),
                Decision::Redirect,
                "a listener proves nothing"
            );
            assert_eq!(lab.decision(&tcp_from(far, near)), Decision::Redirect);

            let client = connect_from(there, near);
            let far = client.local_addr().unwrap();
            let (mut served, _) = listener.accept().unwrap();
            assert_eq!(lab.decision(&tcp_from(far, near)), Decision::Local, "established");
            assert_eq!(
                lab.decision(&tcp_from(moved(far), near)),
                Decision::Redirect,
                "another port"
            );
            assert_eq!(
                lab.decision(&udp_from(far, near)),
                Decision::Redirect,
                "another protocol"
            );

            // The side that closes first is in FIN_WAIT, then in TIME_WAIT, and waits for what comes.
            drop(client);
            assert_eq!(served.read(&mut [0]).unwrap(), 0);
            assert_eq!(lab.decision(&tcp_from(far, near)), Decision::Local, "half closed");
            lab.steer.set_local([own(there)]).unwrap();
            assert_eq!(lab.decision(&tcp_from(near, far)), Decision::Local, "FIN_WAIT");
            drop(served);
            assert!(
                within(|| sockets(is_v6).contains("TIME-WAIT")),
                "no TIME_WAIT: {}",
                sockets(is_v6)
            );
            assert_eq!(lab.decision(&tcp_from(near, far)), Decision::Local, "TIME_WAIT");
            lab.steer.set_local(pairs_here()).unwrap();
            assert_eq!(lab.decision(&tcp_from(far, near)), Decision::Redirect, "closed");
        }
    });
}

/// Before the handshake is done there is no socket yet, only a request.
#[test]
fn the_end_of_a_handshake_is_the_boxs() {
    in_netns(|| {
        let lab = nat_lab();
        ip("addr add 10.0.1.1/24 dev p0");
        ip("neigh add 10.0.1.77 lladdr 02:00:00:00:00:77 dev p0");
        let listener = TcpListener::bind(("10.0.1.1", 0)).unwrap();
        let near = listener.local_addr().unwrap();
        let far = SocketAddr::new([10, 0, 1, 77].into(), 5000);
        let syn = with_tcp_sum(packet(far, near, TCP, SYN));
        assert_eq!(lab.decision(&syn), Decision::Redirect);
        let wire = Packets::on(lab.far);
        wire.send(&syn);
        let answer = wire.wait_for(|seen| seen.bytes.get(47) == Some(&(SYN | ACK)));
        assert!(answer.is_some(), "no SYN-ACK: {}", sockets(false));
        assert_eq!(lab.decision(&tcp_from(far, near)), Decision::Local, "half open");
        assert_eq!(lab.decision(&tcp_from(moved(far), near)), Decision::Redirect);
    });
}

#[test]
fn udp_is_the_boxs_where_a_socket_is_connected() {
    in_netns(|| {
        let lab = nat_lab();
        for is_v6 in [false, true] {
            let [here, there] = pair(is_v6);
            let (near, far) = (SocketAddr::new(here, 123), SocketAddr::new(there, 123));
            assert_eq!(lab.decision(&udp_from(far, near)), Decision::Redirect, "no socket");
            // The box's own NTP, on any address; and a client's answer may bear the same ports.
            let wildcard = UdpSocket::bind((any(is_v6), 123)).unwrap();
            assert_eq!(
                lab.decision(&udp_from(far, near)),
                Decision::Redirect,
                "a wildcard socket"
            );
            drop(wildcard);
            let bound = UdpSocket::bind(near).unwrap();
            assert_eq!(
                lab.decision(&udp_from(far, near)),
                Decision::Redirect,
                "bound, for anybody"
            );
            bound.connect(far).unwrap();
            assert_eq!(lab.decision(&udp_from(far, near)), Decision::Local, "connected");
            assert_eq!(
                lab.decision(&udp_from(moved(far), near)),
                Decision::Redirect,
                "another port"
            );
            assert_eq!(
                lab.decision(&tcp_from(far, near)),
                Decision::Redirect,
                "another protocol"
            );
            let elsewhere = SocketAddr::new(if is_v6 { v6(1, 9).into() } else { [10, 0, 1, 9].into() }, 123);
            assert_eq!(
                lab.decision(&udp_from(elsewhere, near)),
                Decision::Redirect,
                "another host"
            );
            // Nothing of it is left.
            drop(bound);
            assert_eq!(lab.decision(&udp_from(far, near)), Decision::Redirect, "closed");
        }
    });
}

/// Where the ports cannot be read as a socket's, the worker finds out.
#[test]
fn what_no_socket_can_prove_goes_to_the_worker() {
    in_netns(|| {
        let lab = nat_lab();
        let connected = UdpSocket::bind((Ipv4Addr::from(LOCAL), 9)).unwrap();
        connected.connect((Ipv4Addr::from(SRC), 9)).unwrap();
        let datagram = transport(UDP, [9, 9], 0);
        let decision = |proto, payload: &[u8], edit: fn(&mut Vec<u8>)| {
            lab.decision(&ethernet(MAC, 0x0800, &ipv4(SRC, LOCAL, proto, payload, edit)))
        };
        assert_eq!(decision(UDP, &datagram, |_| ()), Decision::Local);
        assert_eq!(decision(UDP, &datagram, |p| p[8] = 1), Decision::Local, "ttl 1");
        assert_eq!(decision(UDP, &datagram, |p| p[6] = 0x40), Decision::Local, "DF");
        assert_eq!(
            decision(UDP, &datagram, |p| p[6] = 0x20),
            Decision::Redirect,
            "first fragment"
        );
        assert_eq!(
            decision(UDP, &datagram, |p| p[7] = 1),
            Decision::Redirect,
            "later fragment"
        );
        let options = [&[1, 1, 1, 1], &datagram[..]].concat();
        assert_eq!(decision(UDP, &options, |p| p[0] = 0x46), Decision::Redirect, "options");
        assert_eq!(decision(UDP, &datagram[..3], |_| ()), Decision::Redirect, "no ports");
        assert_eq!(decision(1, &echo_request(7), |_| ()), Decision::Redirect, "icmp");
        assert_eq!(decision(1, &echo_request(7), |p| p[8] = 1), Decision::Redirect, "ttl 1");
        assert_eq!(decision(50, &[0; 40], |_| ()), Decision::Redirect, "esp");
        assert_eq!(decision(132, &datagram, |_| ()), Decision::Redirect, "sctp");
        let six = |next| ethernet(MAC, 0x86dd, &ipv6(v6(1, 2), v6(1, 1), next, &datagram, |_| ()));
        for next in [0, 44, 58, 59, 60, 132] {
            assert_eq!(lab.decision(&six(next)), Decision::Redirect, "next header {next}");
        }
    });
}

/// Broadcast stays with the kernel; so does every family without NAT, and every frame while no worker lives.
#[test]
fn only_unicast_under_nat_is_looked_at() {
    in_netns(|| {
        let lab = nat_lab();
        let (four, six) = (v4_addresses(SRC, LOCAL), v6_addresses(v6(1, 2), v6(1, 1)));
        assert_eq!(lab.decision(&v4_addresses(SRC, NET_BROADCAST)), Decision::Local);
        for (nat, expected) in [
            ([true, true], [Decision::Redirect, Decision::Redirect]),
            ([true, false], [Decision::Redirect, Decision::Local]),
            ([false, true], [Decision::Local, Decision::Redirect]),
            ([false, false], [Decision::Local, Decision::Local]),
        ] {
            lab.set(|port| {
                (port.track_v4, port.track_v6) = (true, true);
                (port.nat_v4, port.nat_v6) = nat.into();
            });
            assert_eq!([&four, &six].map(|frame| lab.decision(frame)), expected, "{nat:?}");
        }
        lab.set(|port| (port.track_v4, port.nat_v4) = (true, true));
        for (name, frame, expected) in table() {
            let tracked = [Decision::Options, Decision::Ttl].contains(&expected) && frame[12..14] == [8, 0];
            let expected = match tracked || name == "local" {
                true => Decision::Redirect,
                false => expected,
            };
            assert_eq!(lab.decision(&frame), expected, "{name}");
        }
        // An address may become a network's, and its own again.
        lab.steer.set_local([broadcast(LOCAL)]).unwrap();
        assert_eq!(lab.decision(&four), Decision::Local);
        lab.steer.set_local([own(LOCAL)]).unwrap();
        assert_eq!(lab.decision(&four), Decision::Redirect);
        lab.steer.clear_slot(10).unwrap();
        assert_eq!(lab.decision(&four), Decision::NoSocket);
    });
}

fn pairs_here() -> [(IpAddr, bypath::control::steer::LocalKind); 3] {
    [own(LOCAL), broadcast(NET_BROADCAST), own(v6(1, 1))]
}

/// Connects to `to` from `from`.
fn connect_from(from: IpAddr, to: SocketAddr) -> TcpStream {
    use std::os::fd::{FromRawFd, OwnedFd};
    let family = if from.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: numbers in, a descriptor out.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "socket: {}", std::io::Error::last_os_error());
    // SAFETY: fresh.
    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    for (call, address) in [("bind", SocketAddr::new(from, 0)), ("connect", to)] {
        let (bytes, len) = raw(address);
        let pointer = bytes.as_ptr().cast();
        // SAFETY: an address of the stated size.
        let done = unsafe {
            match call {
                "bind" => libc::bind(fd, pointer, len),
                _ => libc::connect(fd, pointer, len),
            }
        };
        assert_eq!(done, 0, "{call} {address}: {}", std::io::Error::last_os_error());
    }
    stream
}

/// A `struct sockaddr_in` or `sockaddr_in6`.
fn raw(address: SocketAddr) -> (Vec<u8>, u32) {
    let port = address.port().to_be_bytes();
    let bytes = match address.ip() {
        IpAddr::V4(v4) => {
            let family = (libc::AF_INET as u16).to_ne_bytes();
            [&family[..], &port, &v4.octets(), &[0; 8]].concat()
        }
        IpAddr::V6(v6) => {
            let family = (libc::AF_INET6 as u16).to_ne_bytes();
            [&family[..], &port, &[0; 4], &v6.octets(), &[0; 4]].concat()
        }
    };
    let len = bytes.len() as u32;
    (bytes, len)
}

/// The frame of an IPv4 TCP segment without data, with its checksum.
fn with_tcp_sum(mut frame: Vec<u8>) -> Vec<u8> {
    let pseudo = [&frame[26..34], &[0, TCP, 0, 20], &frame[34..54]].concat();
    let sum = checksum(&pseudo).to_be_bytes();
    frame[50..52].copy_from_slice(&sum);
    frame
}

/// TCP sockets of this namespace, as ss(8) lists them.
fn sockets(is_v6: bool) -> String {
    let output = std::process::Command::new("ss")
        .args(["-tan", if is_v6 { "-6" } else { "-4" }])
        .output()
        .expect("ss(8)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn within(it: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(2);
    while !it() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}
