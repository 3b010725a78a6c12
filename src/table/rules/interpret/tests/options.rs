//! `exthdr`: TCP options that are right, cut, of length 0, at odd places, or not there; and the options and extension headers
//! of IP, of which only packets without any are decided here. The kernel's file is net/netfilter/nft_exthdr.c, whose loops
//! over options these cases walk through.

use super::*;

/// The probe with these TCP options.
fn with(options: &[u8]) -> Probe {
    let mut packet = probe();
    packet.bytes.truncate(40);
    packet.bytes[32] = (((20 + options.len()) / 4) << 4) as u8;
    packet.bytes.extend(options);
    packet
}

fn exthdr(options: Options, kind: u8, offset: u8, len: u8, act: ExthdrDo) -> Expr {
    Expr::Exthdr {
        options,
        kind,
        offset,
        len,
        act,
    }
}

fn mss(act: ExthdrDo) -> Expr {
    exthdr(Options::Tcp, 2, 2, 2, act)
}

fn eq(data: &[u8]) -> Expr {
    Expr::Cmp {
        source: reg(1),
        op: CmpOp::Eq,
        data: data.into(),
    }
}

#[test]
fn tcp_options_are_found_and_loaded() {
    let load = mss(ExthdrDo::Load(reg(1)));
    let finds = |options: &[u8]| holds(&[load.clone(), eq(&[5, 0xb4])], &mut with(options));
    assert!(finds(&[2, 4, 5, 0xb4]));
    assert!(finds(&[1, 1, 1, 1, 3, 3, 7, 2, 4, 5, 0xb4, 0]));
    assert!(finds(&[9, 0, 1, 1, 2, 4, 5, 0xb4]), "a length of 0 is 1");
    assert!(!finds(&[2, 3, 5, 0xb4]), "the option ends before");
    assert!(!finds(&[1, 1, 1, 1, 1, 2, 4, 5]), "the header ends before");
    assert!(!finds(&[]));
    let mut other = with(&[2, 4, 5, 0xb4]);
    other.bytes[9] = 17;
    assert!(!holds(std::slice::from_ref(&load), &mut other), "no TCP");
    let mut short = with(&[2, 4, 5, 0xb4]);
    short.bytes.truncate(42);
    assert!(!holds(&[load], &mut short), "no whole header");
}

#[test]
fn presence_is_a_number_in_any_case() {
    let present = |packet: &mut Probe, byte: u8| holds(&[mss(ExthdrDo::Present(reg(1))), eq(&[byte, 0, 0, 0])], packet);
    assert!(present(&mut with(&[2, 4, 5, 0xb4]), 1) && present(&mut with(&[1, 1, 1, 1]), 0));
    let mut other = with(&[]);
    other.bytes[9] = 17;
    assert!(present(&mut other, 0));
}

#[test]
fn an_mss_is_only_made_smaller() {
    let clamp = |options: &[u8], to: u16| {
        let mut packet = with(options);
        let set = Expr::Immediate {
            dest: reg(1),
            data: to.to_be_bytes().into(),
        };
        assert!(holds(&[set, mss(ExthdrDo::Store(reg(1)))], &mut packet));
        packet.bytes.split_off(40)
    };
    assert_eq!(clamp(&[2, 4, 5, 0xb4], 1200), [2, 4, 4, 0xb0]);
    assert_eq!(clamp(&[2, 4, 5, 0xb4], 1500), [2, 4, 5, 0xb4]);
    assert_eq!(clamp(&[1, 1, 1, 1], 1200), [1, 1, 1, 1]);
    let odd = rule([mss(ExthdrDo::Store(reg(1)))]);
    assert!(matches!(
        run(&ruleset(vec![vec![odd]]), &mut with(&[1, 2, 4, 5, 0xb4, 0, 0, 0])),
        Outcome::Punt(_)
    ));
}

#[test]
fn an_option_is_stripped_whole() {
    let strip = exthdr(Options::Tcp, 3, 0, 0, ExthdrDo::Strip);
    let mut packet = with(&[1, 3, 3, 7, 2, 4, 5, 0xb4]);
    assert!(holds(std::slice::from_ref(&strip), &mut packet));
    assert_eq!(packet.bytes.split_off(40), [1, 1, 1, 1, 2, 4, 5, 0xb4]);
    assert!(holds(std::slice::from_ref(&strip), &mut with(&[])));
    let cut = run(&ruleset(vec![vec![rule([strip])]]), &mut with(&[3, 9, 1, 1]));
    assert_eq!(cut, Outcome::Drop(place(ChainId(0), 0, 0)));
}

#[test]
fn ip_without_options_has_none() {
    let present = |options| {
        let exprs = [exthdr(options, 7, 0, 0, ExthdrDo::Present(reg(1))), eq(&[0])];
        holds(&exprs, &mut probe())
    };
    assert!(present(Options::Ipv4));
    assert!(!present(Options::Ipv6), "not of that family");
    let load = || exthdr(Options::Ipv4, 7, 0, 1, ExthdrDo::Load(reg(1)));
    assert!(!holds(&[load()], &mut probe()));
    let mut packet = probe();
    packet.bytes[0] = 0x46;
    assert!(matches!(
        run(&ruleset(vec![vec![rule([load()])]]), &mut packet),
        Outcome::Punt(_)
    ));
}
