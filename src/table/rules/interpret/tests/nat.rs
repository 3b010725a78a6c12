//! What rules ask for of NAT: addresses and ports from registers, prefixes, families.
//!
//! As nft_nat.c, nft_masq.c and nft_redir.c. What becomes of a request is `table::nat`; that the bytecode of `nft`
//! comes out as these expressions is tests/nft.rs.

use super::*;

/// An IPv6 packet: nothing but its header.
#[derive(Clone, Debug)]
struct Probe6([u8; 40]);

impl Packet for Probe6 {
    fn nfproto(&self) -> u8 {
        NFPROTO_IPV6
    }

    fn length(&self) -> u32 {
        40
    }

    fn l4proto(&self) -> Option<u8> {
        Some(6)
    }

    fn is_later_fragment(&self) -> bool {
        false
    }

    fn payload(&self, base: Base, offset: usize, out: &mut [u8]) -> Answer {
        assert_eq!(base, Base::Network);
        out.copy_from_slice(&self.0[offset..offset + out.len()]);
        Answer::Done
    }

    fn meta(&self, _: MetaKey) -> Fact {
        Fact::Absent
    }

    fn ct(&self, _: CtKey, _: Option<bool>) -> Fact {
        Fact::Absent
    }

    fn set_meta(&mut self, _: MetaKey, _: [u8; 4]) -> Answer {
        Answer::Unknown
    }

    fn set_ct(&mut self, _: CtKey, _: Option<bool>, _: [u8; 16]) -> Answer {
        Answer::Unknown
    }

    fn store(&mut self, _: Base, _: usize, _: &[u8], _: ChecksumFix) -> Answer {
        Answer::Unknown
    }

    fn store_tcp(&mut self, _: usize, _: &[u8]) -> Answer {
        Answer::Unknown
    }
}

fn put(number: u32, data: &[u8]) -> Expr {
    Expr::Immediate {
        dest: reg(number),
        data: data.into(),
    }
}

/// What `exprs` and then `nat` say to a packet.
fn say(exprs: &[Expr], nat: Nat, packet: &mut impl Packet) -> Outcome {
    let mut exprs = exprs.to_vec();
    exprs.extend([Expr::Nat(nat), Expr::Verdict(Verdict::Drop)]);
    let ruleset = ruleset(vec![vec![rule(exprs)]]);
    let state = State::new(&ruleset, 0);
    Interpreter::new(&ruleset, &state, 0).chain(ChainId(0), packet)
}

fn asked(exprs: &[Expr], nat: Nat, packet: &mut impl Packet) -> NatRequest {
    match say(exprs, nat, packet) {
        Outcome::Nat(request, _) => request,
        other => panic!("no nat: {other:?}"),
    }
}

const PLAIN: Nat = Nat {
    kind: NatKind::Destination,
    family: NFPROTO_IPV4,
    addresses: None,
    ports: None,
    flags: 0,
};
const NETMAP: u32 = 0x40;

fn v4(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    bytes
}

#[test]
fn addresses_and_ports_come_from_registers() {
    let exprs = [
        put(1, &[192, 168, 0, 1]),
        put(2, &[192, 168, 0, 9]),
        put(3, &8000u16.to_be_bytes()),
        put(4, &8010u16.to_be_bytes()),
    ];
    let nat = Nat {
        addresses: Some((reg(1), reg(2))),
        ports: Some((reg(3), reg(4))),
        flags: 0x14,
        ..PLAIN
    };
    let request = asked(&exprs, nat, &mut probe());
    assert_eq!(request.kind, NatKind::Destination);
    assert_eq!(request.addresses, Some((v4([192, 168, 0, 1]), v4([192, 168, 0, 9]))));
    assert_eq!((request.ports, request.flags), (Some((8000, 8010)), 0x14));
    // Only a port: the address stays.
    let nat = Nat {
        addresses: None,
        ports: Some((reg(4), reg(4))),
        ..nat
    };
    let request = asked(&exprs, nat, &mut probe());
    assert_eq!((request.addresses, request.ports), (None, Some((8010, 8010))));
}

#[test]
fn a_prefix_keeps_the_packets_own_host_part() {
    // 10.0.0.1 -> 10.0.0.2, to 192.168.16.0/20
    let exprs = [put(1, &[192, 168, 16, 0]), put(2, &[192, 168, 31, 255])];
    for (kind, expected) in [
        (NatKind::Source, [192, 168, 16, 1]),
        (NatKind::Destination, [192, 168, 16, 2]),
    ] {
        let nat = Nat {
            kind,
            addresses: Some((reg(1), reg(2))),
            flags: NETMAP,
            ..PLAIN
        };
        let request = asked(&exprs, nat, &mut probe());
        assert_eq!(request.addresses, Some((v4(expected), v4(expected))));
        assert_eq!(request.flags, NETMAP);
    }
    // A prefix of IPv6 that ends within a byte.
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut header = [0; 40];
    header[8..24].copy_from_slice(&address("2001:db8::1234:5678:9abc:def0"));
    header[24..].copy_from_slice(&address("2001:db8::f:1"));
    let exprs = [
        put(1, &address("fd00:0:0:20::")),
        put(2, &address("fd00:0:0:3f:ffff:ffff:ffff:ffff")),
    ];
    for (kind, expected) in [
        (NatKind::Source, "fd00:0:0:20:1234:5678:9abc:def0"),
        (NatKind::Destination, "fd00:0:0:20::f:1"),
    ] {
        let nat = Nat {
            kind,
            family: NFPROTO_IPV6,
            addresses: Some((reg(1), reg(2))),
            flags: NETMAP,
            ..PLAIN
        };
        let request = asked(&exprs, nat, &mut Probe6(header));
        assert_eq!(request.addresses, Some((address(expected), address(expected))));
    }
    // Without addresses there is nothing to map, whatever the flag says.
    let nat = Nat {
        ports: Some((reg(1), reg(1))),
        flags: NETMAP,
        ..PLAIN
    };
    assert_eq!(asked(&exprs, nat, &mut probe()).addresses, None);
}

#[test]
fn a_packet_of_another_family_passes_by() {
    for (family, takes_v4, takes_v6) in [
        (NFPROTO_IPV4, true, false),
        (NFPROTO_IPV6, false, true),
        (NFPROTO_INET, true, true),
    ] {
        let nat = Nat {
            family,
            ports: Some((reg(1), reg(1))),
            ..PLAIN
        };
        let exprs = [put(1, &[0, 80])];
        let is_nat = |outcome| matches!(outcome, Outcome::Nat(..));
        assert_eq!(is_nat(say(&exprs, nat, &mut probe())), takes_v4);
        assert_eq!(is_nat(say(&exprs, nat, &mut Probe6([0; 40]))), takes_v6);
        // And then goes on with the rule.
        if !takes_v4 {
            assert_eq!(say(&exprs, nat, &mut probe()), Outcome::Drop(place(ChainId(0), 0, 2)));
        }
    }
}

#[test]
fn masquerade_and_redirect_leave_the_address_to_the_moment() {
    for kind in [NatKind::Masquerade, NatKind::Redirect] {
        for (ports, expected) in [(None, None), (Some((reg(1), reg(2))), Some((1000, 2000)))] {
            let nat = Nat {
                kind,
                family: NFPROTO_INET,
                ports,
                flags: 0x10,
                ..PLAIN
            };
            let exprs = [put(1, &1000u16.to_be_bytes()), put(2, &2000u16.to_be_bytes())];
            for request in [
                asked(&exprs, nat, &mut probe()),
                asked(&exprs, nat, &mut Probe6([0; 40])),
            ] {
                assert_eq!((request.kind, request.addresses), (kind, None));
                assert_eq!((request.ports, request.flags), (expected, 0x10));
            }
        }
    }
}

#[test]
fn a_header_that_is_not_there_is_no_prefix() {
    let nat = Nat {
        addresses: Some((reg(1), reg(1))),
        flags: NETMAP,
        ..PLAIN
    };
    let mut cut = probe();
    cut.bytes.truncate(12);
    let policy = Outcome::Drop(Place {
        chain: ChainId(0),
        rule: None,
        expr: 0,
    });
    assert_eq!(say(&[put(1, &[1, 2, 3, 4])], nat, &mut cut), policy, "the rule breaks");
}
