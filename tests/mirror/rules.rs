//! `ip rule`: what is followed, decided at load, or left to the kernel.

use super::lab::*;
use bypath::mirror::Mirror;
use bypath::table::fib::{FibKey, Found};

/// What the IPv4 rules and routes say of a packet, in words.
fn look_up(mirror: &mut Mirror, src: &str, dst: &str, iif: &str) -> String {
    settle(mirror);
    let snapshot = mirror.snapshot();
    let iif = snapshot.ifaces.iter().position(|iface| &*iface.name == iif);
    let (family, dst) = addr(dst);
    let iif = iif.map(|at| bypath::table::iface::IfaceIndex(at as u16));
    match snapshot.fib(family).lookup(&FibKey {
        src: addr(src).1,
        dst,
        iif,
        tos: 0,
    }) {
        Found::Route(_, route) => show_route(&snapshot, route),
        Found::Refused => "refused".into(),
        Found::Left(why) => format!("left: {why}"),
        Found::Nothing => "nothing".into(),
    }
}

#[test]
fn rules_are_followed_as_far_as_they_are_carried() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let (a, b) = ("10.0.0.50", "192.0.2.1");
        let to = |mirror: &mut Mirror| look_up(mirror, a, b, "d0");
        assert_eq!(to(&mut mirror), "nothing");
        ip("route add 192.0.2.0/24 via 10.0.1.9 table 100");
        ip("route add default via 10.0.1.8");
        assert_eq!(to(&mut mirror), "via 10.0.1.8 dev d1");
        assert!(!mirror.snapshot().full_source_check);
        ip("rule add pref 10 from 10.0.0.0/24 to 192.0.2.0/25 iif d0 lookup 100");
        assert_eq!(to(&mut mirror), "via 10.0.1.9 dev d1");
        assert!(mirror.snapshot().full_source_check);
        assert_eq!(look_up(&mut mirror, a, b, "d1"), "via 10.0.1.8 dev d1");
        ip("rule add pref 5 fwmark 7 blackhole");
        ip("rule add pref 6 oif d1 prohibit");
        ip("rule add pref 7 iif nowhere unreachable");
        assert_eq!(to(&mut mirror), "via 10.0.1.9 dev d1");
        ip("rule add pref 8 not fwmark 7 goto 32766");
        assert_eq!(to(&mut mirror), "via 10.0.1.8 dev d1");
        ip("rule del pref 8");
        ip("rule add pref 8 ipproto udp lookup 100");
        assert_eq!(to(&mut mirror), "left: rule 8: ipproto");
        assert_eq!(mirror.not_carried(9), ["IPv4 rule 8: ipproto"]);
        ip("rule del pref 8");
        ip("rule add pref 8 not from 10.0.0.0/24 lookup 100");
        assert_eq!(to(&mut mirror), "via 10.0.1.9 dev d1");
        assert_eq!(look_up(&mut mirror, a, b, "d1"), "via 10.0.1.8 dev d1");
        assert_eq!(look_up(&mut mirror, "10.9.9.9", b, "d1"), "via 10.0.1.9 dev d1");
        ip("rule del pref 8");
        ip("rule del pref 10");
        ip("rule add pref 9 lookup 100 suppress_prefixlength 24");
        assert_eq!(to(&mut mirror), "via 10.0.1.8 dev d1");
        ip("rule del pref 9");
        ip("rule add pref 9 lookup 100 suppress_prefixlength 23");
        assert_eq!(to(&mut mirror), "via 10.0.1.9 dev d1");
        ip("rule add pref 4 to 192.0.2.0/24 prohibit");
        assert_eq!(to(&mut mirror), "refused");
        ip("link add late type veth peer name later");
        ip("link set later name nowhere");
        assert_eq!(look_up(&mut mirror, a, "192.0.3.1", "nowhere"), "refused");
        ip("-6 rule add pref 5 from 2001:db8:5::/48 blackhole");
        assert_eq!(look_up(&mut mirror, "2001:db8:5::1", "2001:db8:1::5", "d0"), "refused");
        assert_eq!(look_up(&mut mirror, "2001:db8:6::1", "2001:db8:1::5", "d0"), "dev d1");
        assert_as_new(&mut mirror, "after all");
    });
}
