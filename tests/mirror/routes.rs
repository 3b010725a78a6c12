//! Routes of both families: which one of a prefix is used, multipath, nexthop objects, and what the kernel changes silently.

use super::lab::*;
use bypath::mirror::Mirror;
use std::time::{Duration, Instant};

#[test]
fn routes_are_added_replaced_appended_and_deleted() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let net = "192.0.2.0/24";
        ip("route add 192.0.2.0/24 via 10.0.1.9 metric 20");
        assert_eq!(main_route(&mut mirror, net), "via 10.0.1.9 dev d1");
        ip("route add 192.0.2.0/24 via 10.0.0.9 metric 10");
        assert_eq!(main_route(&mut mirror, net), "via 10.0.0.9 dev d0");
        ip("route replace 192.0.2.0/24 via 10.0.0.8 metric 10");
        assert_eq!(main_route(&mut mirror, net), "via 10.0.0.8 dev d0");
        ip("route append 192.0.2.0/24 via 10.0.0.7 metric 10");
        assert_eq!(main_route(&mut mirror, net), "left: several equal routes");
        assert_eq!(
            mirror.not_carried(9),
            ["IPv4 route 192.0.2.0/24 table main: several equal routes"]
        );
        ip("route prepend 192.0.2.0/24 via 10.0.0.6 metric 10");
        ip("route del 192.0.2.0/24 via 10.0.0.7 metric 10");
        ip("route del 192.0.2.0/24 via 10.0.0.8 metric 10");
        assert_eq!(main_route(&mut mirror, net), "via 10.0.0.6 dev d0");
        ip("route del 192.0.2.0/24 metric 10");
        assert_eq!(main_route(&mut mirror, net), "via 10.0.1.9 dev d1");
        ip("route add 192.0.2.0/24 tos 0x10 via 10.0.1.8");
        assert_eq!(main_route(&mut mirror, net), "left: TOS routes");
        ip("route del 192.0.2.0/24 tos 0x10 via 10.0.1.8");
        assert_eq!(main_route(&mut mirror, net), "via 10.0.1.9 dev d1");
        ip("route del 192.0.2.0/24");
        assert_eq!(main_route(&mut mirror, net), "-");

        ip("addr add 10.0.1.66/32 dev d1");
        ip("route add 192.0.2.0/24 via 10.0.1.66");
        let on_link = "left: its router is or was an address of the box";
        assert_eq!(main_route(&mut mirror, net), on_link);
        ip("addr del 10.0.1.66/32 dev d1");
        assert_eq!(main_route(&mut mirror, net), on_link);
        ip("route del 192.0.2.0/24");

        for (kind, shown) in [("blackhole", "refused"), ("prohibit", "refused"), ("throw", "throw")] {
            ip(&format!("route replace {kind} 198.51.100.0/24"));
            assert_eq!(main_route(&mut mirror, "198.51.100.0/24"), shown);
            ip(&format!("-6 route add {kind} 2001:db8:f::/48"));
            assert_eq!(main_route(&mut mirror, "2001:db8:f::/48"), shown);
            ip(&format!("-6 route del {kind} 2001:db8:f::/48"));
            assert_eq!(main_route(&mut mirror, "2001:db8:f::/48"), "-");
        }
        ip("route add 203.0.113.0/25 via 10.0.1.9 mtu 1300");
        ip("route add 203.0.113.128/25 via 10.0.1.9 mtu lock 1300");
        ip("-4 route add default via inet6 2001:db8:1::9 dev d1");
        assert_eq!(
            main_route(&mut mirror, "203.0.113.0/25"),
            "via 10.0.1.9 dev d1 mtu 1300"
        );
        let locked = main_route(&mut mirror, "203.0.113.128/25");
        assert_eq!(locked, "left: locked MTU (PMTU exceptions apply)");
        assert_eq!(main_route(&mut mirror, "0.0.0.0/0"), "via 2001:db8:1::9 dev d1");
        assert_as_new(&mut mirror, "after all");
    });
}

#[test]
fn ipv6_routes_metrics_and_multipath() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let net = "2001:db8:a::/48";
        ip("-6 route add 2001:db8:a::/48 via 2001:db8:1::9 metric 20");
        ip("-6 route add 2001:db8:a::/48 via 2001:db8::9 metric 10");
        assert_eq!(main_route(&mut mirror, net), "via 2001:db8::9 dev d0");
        ip("-6 route append 2001:db8:a::/48 via 2001:db8::8 metric 10");
        assert_eq!(
            main_route(&mut mirror, net),
            "via 2001:db8::8 dev d0 via 2001:db8::9 dev d0"
        );
        ip("-6 route del 2001:db8:a::/48 via 2001:db8::9 metric 10");
        assert_eq!(main_route(&mut mirror, net), "via 2001:db8::8 dev d0");
        ip("-6 route replace 2001:db8:a::/48 metric 10 nexthop via 2001:db8::5 nexthop via 2001:db8:1::5");
        assert_eq!(
            main_route(&mut mirror, net),
            "via 2001:db8::5 dev d0 via 2001:db8:1::5 dev d1"
        );
        ip("-6 route replace 2001:db8:a::/48 metric 10 via 2001:db8::6");
        assert_eq!(main_route(&mut mirror, net), "via 2001:db8::6 dev d0");
        ip("-6 route replace 2001:db8:a::/48 metric 10 nexthop via 2001:db8::5 nexthop via 2001:db8:1::5");
        ip("-6 route del 2001:db8:a::/48 metric 10");
        assert_eq!(main_route(&mut mirror, net), "via 2001:db8:1::9 dev d1");
        ip("-6 route add 2001:db8:a::/48 from 2001:db8:b::/48 via 2001:db8::7");
        assert_eq!(main_route(&mut mirror, net), "left: source-specific routes");
        ip("-6 route del 2001:db8:a::/48 from 2001:db8:b::/48 via 2001:db8::7");
        assert_eq!(main_route(&mut mirror, net), "via 2001:db8:1::9 dev d1");
        ip("-6 route add 2001:db8:c::/48 dev d0 metric 5");
        ip("-6 route append 2001:db8:c::/48 dev d1 metric 5");
        assert_eq!(main_route(&mut mirror, "2001:db8:c::/48"), "left: several equal routes");
        assert_as_new(&mut mirror, "after all");
    });
}

/// Waits until d1 has carrier, or has none, which follows in its own time.
fn wait_carrier(mirror: &mut Mirror, up: bool) {
    let end = Instant::now() + Duration::from_secs(3);
    while iface(mirror, "d1").unwrap().up != up {
        assert!(Instant::now() < end, "d1 is not {}", if up { "up" } else { "down" });
    }
}

#[test]
fn multipath_dead_ways_out_and_silent_flushes() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let net = "192.0.2.0/24";
        let both = "via 10.0.0.9 dev d0 via 10.0.1.9 dev d1";
        ip("addr add 10.0.0.77/32 dev d0");
        ip("route add 192.0.2.0/24 nexthop via 10.0.0.9 nexthop via 10.0.1.9 weight 3");
        ip("route add 192.0.2.0/25 via 10.0.1.9");
        ip("route add 198.51.100.0/24 via 10.0.1.9 src 10.0.0.77");
        ip("-6 route add 2001:db8:a::/48 nexthop via 2001:db8::5 nexthop via 2001:db8:1::5");
        assert_eq!(main_route(&mut mirror, net), both);
        let epoch = mirror.snapshot().multipath_epoch;
        ip("route replace 192.0.2.0/24 nexthop via 10.0.0.9 weight 2 nexthop via 10.0.1.9");
        assert_eq!(main_route(&mut mirror, net), both);
        assert!(
            mirror.snapshot().multipath_epoch > epoch,
            "other weights are another choice"
        );

        ip("link set d1 down");
        assert_eq!(main_route(&mut mirror, net), "via 10.0.0.9 dev d0");
        assert_eq!(main_route(&mut mirror, "192.0.2.0/25"), "-");
        assert_eq!(main_route(&mut mirror, "2001:db8:a::/48"), "via 2001:db8::5 dev d0");
        assert!(!iface(&mut mirror, "d1").unwrap().up);
        assert_as_new(&mut mirror, "with d1 down");

        ip("link set d1 up");
        ip("addr add 10.0.0.78/32 dev d0");
        ip("route add 198.51.100.0/24 via 10.0.0.9 metric 5");
        ip("route add 198.51.100.0/24 via 10.0.0.9 src 10.0.0.77 metric 4");
        assert_eq!(main_route(&mut mirror, net), both);
        ip("addr del 10.0.0.77/32 dev d0");
        assert_as_new(&mut mirror, "with a preferred source gone");

        ip("link set p1 down");
        wait_carrier(&mut mirror, false);
        assert_as_new(&mut mirror, "without carrier");
        assert_eq!(main_route(&mut mirror, net), both);
        sysctl("ipv4/conf/d1/ignore_routes_with_linkdown", "1");
        assert_eq!(main_route(&mut mirror, net), "via 10.0.0.9 dev d0");
        assert_as_new(&mut mirror, "without carrier, where that counts");
        ip("link set p1 up");
        wait_carrier(&mut mirror, true);
        assert_eq!(main_route(&mut mirror, net), both);
    });
}

#[test]
fn nexthop_objects() {
    namespace(|| {
        router();
        ip("nexthop add id 1 via 10.0.0.9 dev d0");
        ip("nexthop add id 2 via 10.0.1.9 dev d1");
        ip("nexthop add id 3 group 1/2,3");
        ip("nexthop add id 4 blackhole");
        ip("route add 192.0.2.0/24 nhid 3");
        let mut mirror = Mirror::open().unwrap();
        ip("route add 198.51.100.0/24 nhid 1");
        ip("route add 203.0.113.0/24 nhid 4");
        let both = "via 10.0.0.9 dev d0 via 10.0.1.9 dev d1";
        assert_eq!(main_route(&mut mirror, "192.0.2.0/24"), both);
        assert_eq!(main_route(&mut mirror, "198.51.100.0/24"), "via 10.0.0.9 dev d0");
        assert_eq!(main_route(&mut mirror, "203.0.113.0/24"), "refused");
        ip("nexthop replace id 1 via 10.0.0.5 dev d0");
        assert_eq!(main_route(&mut mirror, "198.51.100.0/24"), "via 10.0.0.5 dev d0");
        assert_eq!(
            main_route(&mut mirror, "192.0.2.0/24"),
            "via 10.0.0.5 dev d0 via 10.0.1.9 dev d1"
        );
        ip("link set d1 down");
        assert_eq!(main_route(&mut mirror, "192.0.2.0/24"), "via 10.0.0.5 dev d0");
        assert_as_new(&mut mirror, "with a link down");
        ip("nexthop del id 1");
        assert_eq!(main_route(&mut mirror, "198.51.100.0/24"), "-");
        assert_eq!(main_route(&mut mirror, "192.0.2.0/24"), "-");
        ip("link set d1 up");
        ip("addr add 2001:db8:1::1/64 dev d1 nodad");
        sysctl("ipv4/nexthop_compat_mode", "0");
        ip("nexthop add id 2 via 10.0.1.9 dev d1");
        ip("nexthop add id 12 via 2001:db8:1::9 dev d1");
        ip("nexthop add id 13 via 2001:db8::9 dev d0");
        ip("nexthop add id 14 group 12/13");
        ip("route add 192.0.2.0/24 nhid 2");
        ip("-6 route add 2001:db8:a::/48 nhid 14");
        assert_eq!(main_route(&mut mirror, "192.0.2.0/24"), "via 10.0.1.9 dev d1");
        let both6 = "via 2001:db8:1::9 dev d1 via 2001:db8::9 dev d0";
        assert_eq!(main_route(&mut mirror, "2001:db8:a::/48"), both6);
        ip("nexthop del id 14");
        ip("nexthop replace id 2 via 10.0.1.8 dev d1");
        assert_eq!(main_route(&mut mirror, "2001:db8:a::/48"), "-");
        assert_eq!(main_route(&mut mirror, "192.0.2.0/24"), "via 10.0.1.8 dev d1");
        assert_as_new(&mut mirror, "without compat mode");
    });
}
