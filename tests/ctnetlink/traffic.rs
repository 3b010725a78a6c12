//! A connection that the kernel has not seen is entered, and then its packets pass, in both directions.
//!
//! ```text
//!  host 0 10.0.0.2 ---- d0 [ router: ct state invalid drop, loose=0, NAT ] d1 ---- host 1 10.0.1.2
//! ```
//!
//! The kernel's own entry is taken as the true one and deleted: from then on nothing may pass (that is looked at, else the
//! test would prove nothing), until it is entered again in our form.

use super::*;
use bypath::packet::Family;
use bypath::table::conntrack::Record;
use bypath::wire::Protocol;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

pub struct Net {
    pub router: Namespace,
    pub hosts: [Namespace; 2],
}

/// The hosts, and a router that drops what it does not know, with these rules of NAT.
pub fn net(nat: &str) -> Net {
    let (router, hosts) = (Namespace::new(), [Namespace::new(), Namespace::new()]);
    router.sysctl(&[
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv6.conf.default.accept_dad", "0"),
    ]);
    for (port, host) in hosts.iter().enumerate() {
        router.run(&format!(
            "ip link add name d{port} type veth peer name e0 netns {}",
            host.path()
        ));
        router.run_with(
            "ip -batch -",
            &format!("link set d{port} up\naddr add 10.0.{port}.1/24 dev d{port}\naddr add fd00:{port}::1/64 dev d{port} nodad\n"),
        );
        host.run_with(
            "ip -batch -",
            &format!(
                "link set e0 up\naddr add 10.0.{port}.2/24 dev e0\naddr add fd00:{port}::2/64 dev e0 nodad\n\
                 route add default via 10.0.{port}.1\nroute add default via fd00:{port}::1\n"
            ),
        );
    }
    let filter = "table inet f { chain forward { type filter hook forward priority 0; policy drop; \
                  ct state invalid drop; ct state established,related accept; iifname d0 accept; }; \
                  chain input { type filter hook input priority 0; meta l4proto { tcp, udp } drop; }; }";
    router.run_with("nft -f -", &format!("{filter}\n{nat}\n"));
    router.sysctl(&[("net.netfilter.nf_conntrack_tcp_loose", "0")]);
    Net { router, hosts }
}

pub const NAT: [(&str, &str); 4] = [
    ("none", ""),
    (
        "masquerade",
        "table inet n { chain post { type nat hook postrouting priority 100; oifname d1 masquerade random; }; }",
    ),
    (
        "redirected port",
        "table inet n { chain pre { type nat hook prerouting priority -100; \
         ip daddr 10.0.1.99 meta l4proto { tcp, udp } dnat ip to 10.0.1.2:7000; ip6 daddr fd00:1::99 meta l4proto { tcp, udp } dnat ip6 to [fd00:1::2]:7000; }; }",
    ),
    (
        "both",
        "table inet n { chain pre { type nat hook prerouting priority -100; \
         ip daddr 10.0.1.99 meta l4proto { tcp, udp } dnat ip to 10.0.1.2:7000; ip6 daddr fd00:1::99 meta l4proto { tcp, udp } dnat ip6 to [fd00:1::2]:7000; }; \
         chain post { type nat hook postrouting priority 100; oifname d1 masquerade random; }; }",
    ),
];

/// Where a client turns to: with a destination NAT elsewhere.
pub fn server(family: Family, nat: &str) -> SocketAddr {
    let moved = matches!(nat, "redirected port" | "both");
    let (v4, v6, port) = match moved {
        true => ("10.0.1.99", "fd00:1::99", 80),
        false => ("10.0.1.2", "fd00:1::2", 7000),
    };
    let text = if family == Family::V4 { v4 } else { v6 };
    SocketAddr::new(text.parse().expect("an address"), port)
}

pub fn any(family: Family, port: u16) -> SocketAddr {
    let text = if family == Family::V4 { "0.0.0.0" } else { "::" };
    SocketAddr::new(text.parse::<IpAddr>().expect("an address"), port)
}

fn only(ctnetlink: &mut Ctnetlink, proto: Protocol) -> Record {
    let mut entries = dump(ctnetlink);
    entries.retain(|entry| entry.record.original.proto == proto.0);
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0].oddity, None);
    entries.remove(0).record
}

/// Sends a word one way; whether it arrives within `wait`.
fn says(from: &mut TcpStream, to: &mut TcpStream, word: &[u8; 4], wait: Duration) -> bool {
    from.write_all(word).expect("write");
    to.set_read_timeout(Some(wait)).expect("timeout");
    let mut heard = [0; 4];
    match to.read_exact(&mut heard) {
        Ok(()) => {
            assert_eq!(&heard, word);
            true
        }
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(e) => panic!("read: {e}"),
    }
}

pub const LONG: Duration = Duration::from_secs(10);
pub const SHORT: Duration = Duration::from_millis(300);

fn tcp_goes_on(family: Family, nat: &str, rules: &str) {
    let net = net(rules);
    let listener = net.hosts[1]
        .enter(|| TcpListener::bind(any(family, 7000)))
        .expect("listen");
    let mut client = net.hosts[0]
        .enter(|| TcpStream::connect_timeout(&server(family, nat), LONG))
        .expect("connect");
    let (mut served, peer) = listener.accept().expect("accept");
    client.set_nodelay(true).expect("nodelay");
    served.set_nodelay(true).expect("nodelay");
    assert!(says(&mut client, &mut served, b"one ", LONG) && says(&mut served, &mut client, b"two ", LONG));

    let (mut ctnetlink, _) = open(&net.router);
    let record = only(&mut ctnetlink, Protocol::TCP);
    let (_, answered) = Family::of(peer.ip());
    let v4_in_v6 = answered & !0xffff_ffff == 0xffff_0000_0000;
    assert_eq!(
        (record.reply.dst, record.reply.dport),
        (if v4_in_v6 { answered & 0xffff_ffff } else { answered }, peer.port())
    );

    for first_is_client in [true, false] {
        ctnetlink.flush(None).expect("flush");
        let (first, second) = match first_is_client {
            true => (&mut client, &mut served),
            false => (&mut served, &mut client),
        };
        assert!(!says(first, second, b"lost", SHORT), "an unknown connection passes");
        assert_eq!(
            dump(&mut ctnetlink)
                .iter()
                .filter(|e| e.record.original.proto == 6)
                .count(),
            0
        );
        ctnetlink
            .create(std::slice::from_ref(&record), NOW, |_, errno| {
                panic!("refused: {errno}")
            })
            .expect("create");
        // The word that was lost is sent again.
        second.set_read_timeout(Some(LONG)).expect("timeout");
        let mut heard = [0; 4];
        second.read_exact(&mut heard).expect("the connection does not go on");
        assert_eq!(&heard, b"lost");
        assert!(says(second, first, b"back", LONG) && says(first, second, b"more", LONG));
        assert_eq!(only(&mut ctnetlink, Protocol::TCP).reply, record.reply);
    }

    // It also ends: both sides' FIN pass.
    drop(client);
    assert_eq!(served.read(&mut [0; 4]).expect("the end"), 0);
}

#[test]
fn tcp_connections_go_on_whatever_their_nat() {
    for family in Family::ALL {
        for (nat, rules) in NAT {
            println!("{family:?}, NAT: {nat}");
            tcp_goes_on(family, nat, rules);
        }
    }
}

#[test]
fn answers_to_udp_come_back_by_an_entered_connection() {
    for family in Family::ALL {
        for (nat, rules) in NAT {
            println!("{family:?}, NAT: {nat}");
            let net = net(rules);
            let socket = |host: usize, port| {
                let socket = net.hosts[host]
                    .enter(|| UdpSocket::bind(any(family, port)))
                    .expect("bind");
                socket.set_read_timeout(Some(LONG)).expect("timeout");
                socket
            };
            let (client, served) = (socket(0, 5000), socket(1, 7000));
            client.connect(server(family, nat)).expect("connect");
            client.send(b"ask").expect("send");
            let mut buf = [0; 16];
            let (_, peer) = served.recv_from(&mut buf).expect("the question");

            let (mut ctnetlink, _) = open(&net.router);
            let record = only(&mut ctnetlink, Protocol::UDP);
            ctnetlink.flush(None).expect("flush");
            served.send_to(b"early", peer).expect("send");
            client.set_read_timeout(Some(SHORT)).expect("timeout");
            assert!(
                client.recv(&mut buf).is_err(),
                "an answer to an unknown connection passes"
            );
            client.set_read_timeout(Some(LONG)).expect("timeout");
            ctnetlink.flush(None).expect("flush");
            ctnetlink
                .create(std::slice::from_ref(&record), NOW, |_, errno| {
                    panic!("refused: {errno}")
                })
                .expect("create");
            served.send_to(b"answer", peer).expect("send");
            assert_eq!(client.recv(&mut buf).expect("the answer"), 6);
            client.send(b"ask more").expect("send");
            assert_eq!(served.recv_from(&mut buf).expect("more").1, peer, "the same NAT");
        }
    }
}
