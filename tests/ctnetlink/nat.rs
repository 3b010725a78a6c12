//! Entries with NAT: what is entered from a record is the kernel's own entry again, to the bit of its status and the letter of
//! its line, and pings pass by it in both directions. The network is that of traffic.rs.

use super::traffic::{LONG, NAT, Net, SHORT, any, net, server};
use super::*;
use bypath::packet::Family;
use bypath::table::conntrack::{Record, Status};
use bypath::wire::Protocol;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};

/// The same four kinds of NAT for pings.
const OF_PINGS: [(&str, &str); 4] = [
    ("none", ""),
    (
        "masquerade",
        "table inet n { chain post { type nat hook postrouting priority 100; oifname d1 masquerade random; }; }",
    ),
    (
        "other host",
        "table inet n { chain pre { type nat hook prerouting priority -100; \
         ip daddr 10.0.1.99 dnat ip to 10.0.1.2; ip6 daddr fd00:1::99 dnat ip6 to fd00:1::2; }; }",
    ),
    (
        "both",
        "table inet n { chain pre { type nat hook prerouting priority -100; \
         ip daddr 10.0.1.99 dnat ip to 10.0.1.2; ip6 daddr fd00:1::99 dnat ip6 to fd00:1::2; }; \
         chain post { type nat hook postrouting priority 100; oifname d1 masquerade random; }; }",
    ),
];

const IDENTIFIER: u16 = 777;

fn icmp(family: Family) -> (Protocol, [i32; 2]) {
    match family {
        Family::V4 => (Protocol::ICMP, [libc::AF_INET, libc::IPPROTO_ICMP]),
        Family::V6 => (Protocol::ICMPV6, [libc::AF_INET6, libc::IPPROTO_ICMPV6]),
    }
}

/// A socket of ICMP: one for pings with [`IDENTIFIER`], or a raw one.
fn icmp_socket(host: &Namespace, family: Family, is_raw: bool) -> UdpSocket {
    let [domain, protocol] = icmp(family).1;
    let kind = if is_raw { libc::SOCK_RAW } else { libc::SOCK_DGRAM };
    host.sysctl(&[("net.ipv4.ping_group_range", "0 0")]);
    // SAFETY: numbers in, a descriptor out.
    let fd = host.enter(|| unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) });
    assert!(fd >= 0, "socket: {}", std::io::Error::last_os_error());
    // SAFETY: fresh. A socket of ICMP has the addresses of UDP's.
    UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a ping socket to its identifier, which stands where a port would.
fn bind_identifier(socket: &UdpSocket, family: Family) {
    use std::os::fd::AsRawFd;
    let port = IDENTIFIER.to_be_bytes();
    let [domain, _] = icmp(family).1;
    let rest = if family == Family::V4 { 12 } else { 24 };
    let address = [&(domain as u16).to_ne_bytes()[..], &port, &vec![0; rest]].concat();
    // SAFETY: an address of the stated size.
    let done = unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as u32) };
    assert_eq!(done, 0, "bind: {}", std::io::Error::last_os_error());
}

/// An echo request or its reply.
fn echo(family: Family, is_reply: bool, id: u16, sequence: u8) -> Vec<u8> {
    let kind = match (family, is_reply) {
        (Family::V4, false) => 8,
        (Family::V4, true) => 0,
        (Family::V6, false) => 128,
        (Family::V6, true) => 129,
    };
    let [high, low] = id.to_be_bytes();
    let mut message = vec![kind, 0, 0, 0, high, low, 0, sequence];
    // The kernel makes the sum of ICMPv6, for it has the addresses.
    let mut sum: u32 = message
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    message
}

fn address(family: Family, addr: u128) -> SocketAddr {
    SocketAddr::new(family.show(addr), 0)
}

/// The one entry of `proto`.
fn only(ctnetlink: &mut Ctnetlink, proto: Protocol) -> Record {
    let mut entries = dump(ctnetlink);
    entries.retain(|entry| entry.record.original.proto == proto.0);
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0).record
}

/// Its line in `conntrack -L`, without the time that is left, and without who holds it just now: that may be another reader, or
/// the packet that began it.
fn line(router: &Namespace, family: Family, proto: Protocol) -> String {
    let (family, proto) = (["ipv4", "ipv6"][family as usize], proto.0);
    let lines = router.run(&format!("conntrack -L -f {family} -p {proto}"));
    let mut words: Vec<&str> = lines.split_whitespace().collect();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    words.remove(2);
    words.retain(|word| !word.starts_with("use="));
    words.join(" ")
}

/// Takes the kernel's own entry away and enters the record of it: the same record again, and the same line.
fn is_the_same_again(router: &Namespace, family: Family, proto: Protocol) -> Record {
    let (mut ctnetlink, _) = open(router);
    let (own, own_line) = (only(&mut ctnetlink, proto), line(router, family, proto));
    ctnetlink.flush(None).expect("flush");
    enter(&mut ctnetlink, &own);
    let entered = only(&mut ctnetlink, proto);
    assert_eq!(line(router, family, proto), own_line);
    assert_eq!(
        (entered.original, entered.reply, entered.status),
        (own.original, own.reply, own.status)
    );
    own
}

fn enter(ctnetlink: &mut Ctnetlink, record: &Record) {
    let refuse = |_, errno| panic!("{record:?} was refused: {errno}");
    ctnetlink
        .create(std::slice::from_ref(record), NOW, refuse)
        .expect("create");
}

/// What the kernel says of NAT that was decided, and of what became of it.
fn assert_decided(record: &Record, nat: &str) {
    let says = |bits| record.status.any(bits);
    let (src, dst) = match nat {
        "none" => (false, false),
        "masquerade" => (true, false),
        "both" => (true, true),
        _ => (false, true),
    };
    assert_eq!(
        (says(Status::SRC_NAT), says(Status::DST_NAT)),
        (src, dst),
        "{nat}: {record:?}"
    );
    let decided = (says(Status::SRC_NAT_DONE), says(Status::DST_NAT_DONE));
    assert_eq!(decided, (nat != "none", nat != "none"), "{nat}: {record:?}");
}

fn tcp(net: &Net, family: Family, nat: &str) -> [TcpStream; 2] {
    let listener = net.hosts[1]
        .enter(|| TcpListener::bind(any(family, 7000)))
        .expect("listen");
    let client = net.hosts[0].enter(|| TcpStream::connect_timeout(&server(family, nat), LONG));
    let mut client = client.expect("connect");
    client.write_all(b"word").expect("write");
    [client, listener.accept().expect("accept").0]
}

#[test]
fn an_entered_connection_is_the_kernels_own_again() {
    for family in Family::ALL {
        for (nat, rules) in NAT {
            println!("{family:?}, NAT: {nat}");
            let net = net(rules);
            let streams = tcp(&net, family, nat);
            assert_decided(&is_the_same_again(&net.router, family, Protocol::TCP), nat);
            drop(streams);
            let socket = net.hosts[0].enter(|| UdpSocket::bind(any(family, 5000))).expect("bind");
            let answers = net.hosts[1].enter(|| UdpSocket::bind(any(family, 7000))).expect("bind");
            socket.send_to(b"ask", server(family, nat)).expect("send");
            let mut buf = [0; 16];
            answers.set_read_timeout(Some(LONG)).expect("timeout");
            let (_, peer) = answers.recv_from(&mut buf).expect("the question");
            assert_decided(&is_the_same_again(&net.router, family, Protocol::UDP), nat);
            answers.send_to(b"answer", peer).expect("send");
            socket.set_read_timeout(Some(LONG)).expect("timeout");
            assert_eq!(socket.recv(&mut buf).expect("the answer"), 6);
            assert_decided(&is_the_same_again(&net.router, family, Protocol::UDP), nat);
        }
    }
}

/// The kernel counts a connection in its chains of NAT once. That it was decided must be known of an entry that was entered,
/// else the next packet of one that is still new is counted again.
#[test]
fn an_entered_connection_walks_no_chain_of_nat_again() {
    let rules = "table inet n { counter asked { }; \
                 chain post { type nat hook postrouting priority 100; counter name asked; }; }";
    let net = net(rules);
    let ask = || {
        let socket = net.hosts[0].enter(|| UdpSocket::bind("0.0.0.0:5000")).expect("bind");
        socket.send_to(b"ask", "10.0.1.2:7000").expect("send");
    };
    let asked = || net.router.run("nft list counter inet n asked");
    ask();
    assert!(asked().contains("packets 1 "), "{}", asked());
    is_the_same_again(&net.router, Family::V4, Protocol::UDP);
    ask();
    assert!(asked().contains("packets 1 "), "{}", asked());
}

#[test]
fn pings_pass_by_an_entered_connection() {
    for family in Family::ALL {
        for (nat, rules) in OF_PINGS {
            println!("{family:?}, NAT: {nat}");
            pings_pass(family, nat, rules);
        }
    }
}

fn pings_pass(family: Family, nat: &str, rules: &str) {
    let net = net(rules);
    let proto = icmp(family).0;
    let client = icmp_socket(&net.hosts[0], family, false);
    bind_identifier(&client, family);
    let to: IpAddr = match (family, matches!(nat, "other host" | "both")) {
        (Family::V4, false) => "10.0.1.2".parse().expect("an address"),
        (Family::V4, true) => "10.0.1.99".parse().expect("an address"),
        (Family::V6, false) => "fd00:1::2".parse().expect("an address"),
        (Family::V6, true) => "fd00:1::99".parse().expect("an address"),
    };
    let ask = |sequence| {
        let request = echo(family, false, 0, sequence);
        client.send_to(&request, SocketAddr::new(to, 0)).expect("send");
    };
    let answered = |sequence: u8, wait| {
        client.set_read_timeout(Some(wait)).expect("timeout");
        let mut buf = [0; 64];
        match client.recv_from(&mut buf) {
            Ok((len, from)) => {
                assert_eq!((len, buf[7], from.ip()), (8, sequence, to));
                assert_eq!(buf[4..6], IDENTIFIER.to_be_bytes());
                true
            }
            Err(_) => false,
        }
    };
    ask(1);
    assert!(answered(1, LONG), "the kernel's own");
    let record = is_the_same_again(&net.router, family, proto);
    assert_decided(&record, nat);

    // An answer alone, as its sender sends it: untranslated.
    let far = icmp_socket(&net.hosts[1], family, true);
    let answer = |sequence| {
        let reply = echo(family, true, record.reply.sport, sequence);
        far.send_to(&reply, address(family, record.reply.dst)).expect("send");
    };
    let (mut ctnetlink, _) = open(&net.router);
    ctnetlink.flush(None).expect("flush");
    answer(2);
    assert!(!answered(2, SHORT), "an answer to an unknown connection passes");
    ctnetlink.flush(None).expect("flush");
    enter(&mut ctnetlink, &record);
    answer(3);
    assert!(answered(3, LONG), "the answer");
    ask(4);
    assert!(answered(4, LONG), "another request");
    assert_eq!(only(&mut ctnetlink, proto).reply, record.reply, "the same NAT");
}
