//! Targets one by one: the struct as iptables writes it, and what becomes of a packet.
//!
//! Of the translations only what they ask NAT for; what that does is tested where it is done.

use super::*;

fn target(name: &str, revision: u32, info: &[u8], nfproto: u8) -> Option<Target> {
    match expr(true, name, revision, info, nfproto)? {
        Expr::Target(it) => Some(it),
        other => panic!("{other:?}"),
    }
}

/// What a target says of a packet, and the packet afterwards.
fn done(name: &str, revision: u32, info: &[u8], packet: &Probe) -> (Said, Probe) {
    let it = target(name, revision, info, packet.nfproto()).unwrap_or_else(|| panic!("{name} is not carried"));
    let mut packet = packet.clone();
    (it.says(&mut packet), packet)
}

fn request(name: &str, revision: u32, info: &[u8], packet: &Probe) -> NatRequest {
    match done(name, revision, info, packet).0 {
        Said::Nat(request) => request,
        other => panic!("{name}: {other:?}"),
    }
}

/// By enum ipt_reject_with and ip6t_reject_with, to codes of ICMP.
#[test]
fn rejects_are_those_of_nft() {
    let reject = |number: u32, nfproto: u8| expr(true, "REJECT", 0, &info(4, &[(0, &longs(&[number]))]), nfproto);
    let code = |code: u8| Some(Expr::Reject(Reject::Icmp(code)));
    let reset = Some(Expr::Reject(Reject::TcpReset));
    let of_v4 = [
        code(0),
        code(1),
        code(2),
        code(3),
        None,
        code(9),
        code(10),
        reset.clone(),
        code(13),
        None,
    ];
    let of_v6 = [
        code(0),
        code(1),
        code(2),
        code(3),
        code(4),
        None,
        reset,
        code(5),
        code(6),
        None,
    ];
    for (number, (four, six)) in (0..).zip(of_v4.into_iter().zip(of_v6)) {
        assert_eq!((reject(number, 2), reject(number, 10)), (four, six), "{number}");
    }
    assert_eq!(expr(true, "REJECT", 0, &[0; 4], 2), None, "too short");
    assert_eq!(expr(true, "REJECT", 1, &[0; 8], 2), None);
}

#[test]
fn marks() {
    for (mark, mask, becomes) in [(1, 0xff, 1), (0x10, 0xf0, 0x17), (2, 0, 5), (0, 0, 7)] {
        let (said, packet) = done("MARK", 2, &info(8, &[(0, &longs(&[mark, mask]))]), &v4());
        assert_eq!((said, packet.meta[&MetaKey::Mark]), (Said::On, Fact::U32(becomes)));
    }
}

#[test]
fn marks_of_connections() {
    const MARK: (CtKey, Option<bool>) = (CtKey::Mark, None);
    // Mark and masks, direction and bits of a shift, what is done; that of the connection and of the packet afterwards.
    for (masks, [right, bits, act], marks) in [
        ([1, 0xff, 0], [0, 0, 0], [0x1201, 7]),
        ([1, 0xff, 0], [0, 4, 0], [0x12010, 7]),
        ([1, 0xff, 0], [1, 8, 0], [0x12, 7]),
        ([0, 0xff, 3], [0, 0, 1], [0x1203, 7]),
        ([0, 0xff00, 7], [0, 8, 1], [0x734, 7]),
        ([0, 0xff, 0xff], [0, 0, 2], [0x1234, 0x34]),
        ([0, 0xff00, 0xf0], [1, 4, 2], [0x1234, 0x127]),
    ] {
        let second = info(16, &[(0, &longs(&masks)), (12, &[right, bits, act])]);
        let tracked = v4().with_ct(MARK, Fact::U32(0x1234));
        let (said, after) = done("CONNMARK", 2, &second, &tracked);
        let found = [after.ct[&MARK], after.meta[&MetaKey::Mark]];
        assert_eq!(
            (said, found),
            (Said::On, marks.map(Fact::U32)),
            "{masks:x?} {act} {bits}"
        );
        if bits == 0 {
            let first = info(16, &[(0, &longs(&masks)), (12, &[act])]);
            let (_, after) = done("CONNMARK", 1, &first, &tracked);
            assert_eq!([after.ct[&MARK], after.meta[&MetaKey::Mark]], marks.map(Fact::U32));
        }
        let (said, after) = done("CONNMARK", 2, &second, &v4());
        assert_eq!(
            (said, after.ct.len(), after.meta[&MetaKey::Mark]),
            (Said::On, 0, Fact::U32(7))
        );
    }
    for wrong in [[2, 0, 0], [0, 32, 0], [0, 0, 3]] {
        assert_eq!(target("CONNMARK", 2, &info(16, &[(12, &wrong)]), 2), None, "{wrong:?}");
    }
}

#[test]
fn notrack_is_that_of_nft() {
    for (revision, size) in [(0, 40), (1, 72), (2, 72)] {
        let ct = |flags: u16| expr(true, "CT", revision, &info(size, &[(0, &words(&[flags]))]), 2);
        assert_eq!((ct(1), ct(0), ct(3)), (Some(Expr::Notrack), None, None));
    }
    assert_eq!(expr(true, "CT", 2, &info(40, &[(0, &[1])]), 2), None);
    assert_eq!(expr(true, "NOTRACK", 0, &[], 10), Some(Expr::Notrack));
}

/// An IPv4 address as a range has it.
fn padded(address: [u8; 4]) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..4].copy_from_slice(&address);
    padded
}

/// How many, flags, addresses, ports.
fn compat(flags: u32, first: [u8; 4], last: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    let ports = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    info(20, &[(0, &longs(&[1, flags])), (8, &first), (12, &last), (16, &ports)])
}

fn range(size: usize, flags: u32, first: [u8; 16], last: [u8; 16], ports: [u16; 3]) -> Vec<u8> {
    let ports = ports.map(u16::to_be_bytes).concat();
    let len = if size > 40 { 6 } else { 4 };
    info(
        size,
        &[(0, &longs(&[flags])), (4, &first), (20, &last), (36, &ports[..len])],
    )
}

#[test]
fn translations_of_ipv4() {
    let (first, last) = ([10, 0, 0, 7], [10, 0, 0, 9]);
    let plain = |kind| NatRequest {
        kind,
        addresses: Some((padded(first), padded(last))),
        ports: None,
        base: 0,
        flags: 0,
    };
    assert_eq!(
        request("SNAT", 0, &compat(1, first, last, (0, 0)), &v4()),
        plain(NatKind::Source)
    );
    let ports = NatRequest {
        ports: Some((80, 90)),
        flags: 0x1c,
        ..plain(NatKind::Destination)
    };
    assert_eq!(request("DNAT", 0, &compat(0x1f, first, last, (80, 90)), &v4()), ports);
    let offset = NatRequest {
        ports: Some((80, 90)),
        base: 1000,
        flags: 0x20,
        ..plain(NatKind::Destination)
    };
    let second = range(44, 0x23, padded(first), padded(last), [80, 90, 1000]);
    assert_eq!(request("DNAT", 2, &second, &v4()), offset);
    let only_port = NatRequest {
        addresses: None,
        ports: Some((8080, 8080)),
        ..plain(NatKind::Destination)
    };
    let second = range(44, 2, [0; 16], [0; 16], [8080, 8080, 0]);
    assert_eq!(request("DNAT", 2, &second, &v4()), only_port);
    let masquerade = NatRequest {
        addresses: None,
        ports: Some((1000, 2000)),
        flags: 4,
        ..plain(NatKind::Masquerade)
    };
    assert_eq!(
        request("MASQUERADE", 0, &compat(6, [0; 4], [0; 4], (1000, 2000)), &v4()),
        masquerade
    );
    let redirect = request("REDIRECT", 0, &compat(2, [0; 4], [0; 4], (99, 99)), &v4());
    assert_eq!((redirect.kind, redirect.ports), (NatKind::Redirect, Some((99, 99))));
    for wrong in [
        info(20, &[(0, &longs(&[2, 1]))]),
        compat(0x80, first, last, (0, 0)),
        info(20, &[]),
    ] {
        assert_eq!(target("SNAT", 0, &wrong, 2), None, "{wrong:?}");
    }
    assert_eq!(target("MASQUERADE", 0, &compat(1, first, last, (0, 0)), 2), None);
    assert_eq!(target("NETMAP", 0, &compat(0, first, last, (0, 0)), 2), None);
    assert_eq!(
        target("SNAT", 0, &compat(1, first, last, (0, 0)), 10),
        None,
        "of IPv4 alone"
    );
}

#[test]
fn translations_of_ipv6() {
    let snat = request("SNAT", 1, &range(40, 1, [1; 16], [2; 16], [0; 3]), &v6());
    assert_eq!((snat.kind, snat.addresses), (NatKind::Source, Some(([1; 16], [2; 16]))));
    let masquerade = request("MASQUERADE", 0, &range(40, 0x10, [0; 16], [0; 16], [0; 3]), &v6());
    assert_eq!(
        (masquerade.kind, masquerade.addresses, masquerade.flags),
        (NatKind::Masquerade, None, 0x10)
    );
}

/// The host's part stays; of the destination before it is routed, of the source behind.
#[test]
fn networks_are_mapped() {
    let to = compat(1, [10, 50, 0, 0], [10, 50, 0, 255], (0, 0));
    let behind = request("NETMAP", 0, &to, &v4());
    let mapped = Some((padded([10, 50, 0, 1]), padded([10, 50, 0, 1])));
    assert_eq!((behind.kind, behind.addresses), (NatKind::Source, mapped));
    let before = v4().with_meta(MetaKey::Oif, Fact::U32(0));
    let before = request("NETMAP", 0, &to, &before);
    let mapped = Some((padded([10, 50, 0, 2]), padded([10, 50, 0, 2])));
    assert_eq!((before.kind, before.addresses), (NatKind::Destination, mapped));
    let (mut first, mut last) = ([9; 16], [9; 16]);
    first[8..].fill(0);
    last[8..].fill(255);
    let six = request("NETMAP", 0, &range(40, 1, first, last, [0; 3]), &v6());
    let mut own = [0x20; 16];
    own[..8].fill(9);
    assert_eq!(six.addresses, Some((own, own)));
}

#[test]
fn segment_sizes() {
    let set = |mss: u16| info(2, &[(0, &words(&[mss]))]);
    let clamp = set(0xffff);
    let becomes = |info: &[u8], packet: &Probe| {
        let (said, after) = done("TCPMSS", 0, info, packet);
        let at = after.l4() + 22;
        (said, u16::from_be_bytes([after.bytes[at], after.bytes[at + 1]]))
    };
    for packet in [v4(), v6()] {
        assert_eq!(becomes(&set(1400), &packet), (Said::On, 1400));
        assert_eq!(becomes(&set(1460), &packet), (Said::On, 1460));
        assert_eq!(becomes(&set(9000), &packet), (Said::On, 1460), "never larger");
        let path = |mss: Fact| Probe { mss, ..packet.clone() };
        assert_eq!(becomes(&clamp, &path(Fact::U16(1240))), (Said::On, 1240));
        assert_eq!(becomes(&clamp, &path(Fact::Unknown)).0, Said::Unknown);
        assert_eq!(becomes(&clamp, &path(Fact::U16(536))).0, Said::Unknown, "or too narrow");
    }
    let says = |packet: Probe| done("TCPMSS", 0, &set(1400), &packet).0;
    // Without an option: with data nothing, without it is made room for one.
    let none = v4().with(|packet| packet.bytes[40..44].fill(1));
    assert_eq!(says(none.clone()), Said::Unknown);
    assert_eq!(says(none.clone().with(|packet| packet.bytes.push(1))), Said::On);
    let full = none.with(|packet| {
        packet.bytes[32] = 0xf0;
        packet.bytes.resize(80, 1);
    });
    assert_eq!(says(full), Said::On, "no room");
    // One of another length is none; one at an odd place would get another checksum.
    let other = v4().with(|packet| {
        packet.bytes[32] = 0x70;
        packet.bytes[40..44].copy_from_slice(&[2, 3, 5, 1]);
        packet.bytes.extend([2, 4, 0x05, 0xb4, 1]);
    });
    let (said, after) = done("TCPMSS", 0, &set(1400), &other);
    assert_eq!((said, &after.bytes[44..48]), (Said::On, &[2, 4, 0x05, 0x78][..]));
    let odd = v4().with(|packet| {
        packet.bytes[32] = 0x70;
        packet.bytes[40..44].copy_from_slice(&[1, 2, 4, 5]);
        packet.bytes.extend([0xb4, 1, 1, 1]);
    });
    assert_eq!(says(odd), Said::Unknown);
    assert_eq!(says(v4().with(|packet| packet.bytes.truncate(43))), Said::Drop);
    assert_eq!(says(v4().with(|packet| packet.bytes.truncate(39))), Said::Drop);
    assert_eq!(says(v4().with(|packet| packet.bytes[32] = 0x40)), Said::Drop);
    assert_eq!(
        says(v4().with(|packet| packet.bytes[7] = 3)),
        Said::On,
        "a later fragment"
    );
    assert_eq!(says(v4().with(|packet| packet.bytes[9] = 17)), Said::Unknown, "not TCP");
}
