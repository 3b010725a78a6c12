//! The mirror against a real kernel: namespaces are changed with `ip` and sysctls, and the snapshot must say what the kernel
//! now does. Needs root, `ip` and network namespaces; the namespaces are unnamed and end with their test.

#[path = "mirror/lab.rs"]
mod lab;

use bypath::mirror::Mirror;
use bypath::packet::{Family, PortIndex};
use bypath::table::fib::{FibKey, Found, RouteKind};
use bypath::table::iface::RpFilter;
use lab::*;

const MAIN: u32 = 254;
const LOCAL: u32 = 255;

fn iface(mirror: &mut Mirror, name: &str) -> Option<bypath::table::iface::Iface> {
    settle(mirror);
    mirror
        .snapshot()
        .ifaces
        .iter()
        .find(|iface| &*iface.name == name)
        .cloned()
}

fn main_route(mirror: &mut Mirror, prefix: &str) -> String {
    settle(mirror);
    route(&mirror.snapshot(), MAIN, prefix)
}

#[test]
fn links_addresses_and_connected_routes() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let d0 = iface(&mut mirror, "d0").unwrap();
        assert!(d0.up && d0.family(Family::V4).forwarding && d0.family(Family::V6).forwarding);
        assert_eq!(d0.mtu, [1500, 1500]);
        let snapshot = mirror.snapshot();
        assert_eq!(route(&snapshot, MAIN, "10.0.0.0/24"), "dev d0");
        assert_eq!(route(&snapshot, LOCAL, "10.0.0.1/32"), "local");
        assert_eq!(route(&snapshot, LOCAL, "10.0.0.255/32"), "broadcast");
        assert_eq!(route(&snapshot, MAIN, "2001:db8:1::/64"), "dev d1");
        assert_eq!(route(&snapshot, LOCAL, "2001:db8::1/128"), "local");
        assert!(snapshot.own_v4.contains(&addr("10.0.1.1").1));
        assert!(!snapshot.full_source_check);
        assert_eq!(&*snapshot.ifaces[0].name, "lo");
        assert_eq!(mirror.not_carried(10), [""; 0]);

        ip("addr add 10.9.0.1/16 dev d1");
        ip("addr del 10.0.0.1/24 dev d0");
        assert_eq!(main_route(&mut mirror, "10.9.0.0/16"), "dev d1");
        assert_eq!(main_route(&mut mirror, "10.0.0.0/24"), "-");
        let own = mirror.snapshot().own_v4;
        assert!(own.contains(&addr("10.9.0.1").1) && !own.contains(&addr("10.0.0.1").1));
        assert_as_new(&mut mirror, "after address changes");
    });
}

#[test]
fn neighbours_come_change_and_go() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let mac = |mirror: &mut Mirror, text: &str| {
            settle(mirror);
            let (family, addr) = addr(text);
            let snapshot = mirror.snapshot();
            let d0 = snapshot.ifaces.iter().position(|iface| &*iface.name == "d0").unwrap();
            snapshot
                .neighbors
                .lookup(bypath::table::iface::IfaceIndex(d0 as u16), family, addr)
                .copied()
        };
        ip("neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev d0 nud permanent");
        ip("neigh add 2001:db8::9 lladdr 02:00:00:00:00:19 dev d0 nud stale");
        ip("neigh add 10.0.0.8 dev d0 nud incomplete");
        ip("neigh add proxy 10.0.0.7 dev d0");
        assert_eq!(mac(&mut mirror, "10.0.0.9"), Some([2, 0, 0, 0, 0, 9]));
        assert_eq!(mac(&mut mirror, "2001:db8::9"), Some([2, 0, 0, 0, 0, 0x19]));
        assert_eq!(mac(&mut mirror, "10.0.0.8"), None);
        assert_eq!(mac(&mut mirror, "10.0.0.7"), None);
        ip("neigh replace 10.0.0.9 lladdr 02:00:00:00:00:aa dev d0 nud reachable");
        assert_eq!(mac(&mut mirror, "10.0.0.9"), Some([2, 0, 0, 0, 0, 0xaa]));
        ip("neigh del 10.0.0.9 dev d0");
        assert_eq!(mac(&mut mirror, "10.0.0.9"), None);
        ip("link del d0");
        assert_as_new(&mut mirror, "after the link went");
        assert!(
            mirror
                .snapshot()
                .neighbors
                .iter()
                .all(|(_, family, _, _)| family == Family::V6)
        );
    });
}

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
        assert!(!iface(&mut mirror, "d1").unwrap().up);
        assert_as_new(&mut mirror, "without carrier");
        assert_eq!(main_route(&mut mirror, net), both);
        sysctl("ipv4/conf/d1/ignore_routes_with_linkdown", "1");
        assert_eq!(main_route(&mut mirror, net), "via 10.0.0.9 dev d0");
        assert_as_new(&mut mirror, "without carrier, where that counts");
        ip("link set p1 up");
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
        assert_eq!(to(&mut mirror), "left: rule 8: not");
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

#[test]
fn sysctls_are_in_force_within_100_ms() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let ifindex = mirror.links().find(|link| &*link.name == "d0").unwrap().ifindex;
        mirror.set_port(ifindex, Some(PortIndex(3)));
        // As control does it: poll(2) on the events, sysctls every 50 ms.
        let mut seen = |path: &str, value: &str, is: fn(&bypath::table::iface::Iface) -> bool| {
            sysctl(path, value);
            std::thread::sleep(std::time::Duration::from_millis(50));
            mirror.process().unwrap();
            mirror.poll_sysctls();
            let snapshot = mirror.snapshot();
            let (_, d0) = snapshot.port(PortIndex(3)).expect("the port");
            assert!(is(d0), "{path} = {value}: {d0:?}");
        };
        seen("ipv4/conf/d0/rp_filter", "1", |d0| {
            d0.family[0].rp_filter == RpFilter::Strict
        });
        seen("ipv4/conf/all/rp_filter", "2", |d0| {
            d0.family[0].rp_filter == RpFilter::Loose
        });
        seen("ipv4/conf/d0/accept_local", "1", |d0| d0.family[0].accept_local);
        seen("ipv4/conf/d0/send_redirects", "0", |d0| d0.family[0].redirects);
        seen("ipv4/conf/all/send_redirects", "0", |d0| !d0.family[0].redirects);
        seen("ipv4/conf/d0/forwarding", "0", |d0| !d0.family[0].forwarding);
        seen("ipv4/ip_forward", "0", |d0| !d0.family[0].forwarding);
        seen("ipv4/ip_forward", "1", |d0| d0.family[0].forwarding);
        seen("ipv6/conf/all/proxy_ndp", "1", |d0| {
            d0.family[1].left.as_deref() == Some("proxy_ndp")
        });
        seen("ipv6/conf/all/proxy_ndp", "0", |d0| d0.family[1].left.is_none());
        seen("ipv6/conf/d0/mtu", "1400", |d0| d0.mtu == [1500, 1400]);
        seen("ipv6/conf/d0/disable_ipv6", "1", |d0| !d0.family[1].forwarding);
        seen("ipv6/conf/d0/disable_ipv6", "0", |d0| d0.family[1].forwarding);
        seen("ipv6/conf/all/forwarding", "0", |d0| !d0.family[1].forwarding);
        if std::path::Path::new("/proc/sys/net/ipv6/conf/d0/force_forwarding").exists() {
            seen("ipv6/conf/d0/force_forwarding", "1", |d0| d0.family[1].forwarding);
        }
        seen("ipv6/conf/all/forwarding", "1", |d0| d0.family[1].forwarding);
        assert_as_new_but_port(&mut mirror, ifindex);

        let epoch = mirror.snapshot().multipath_epoch;
        sysctl("ipv4/fib_multipath_hash_policy", "1");
        mirror.poll_sysctls();
        let snapshot = mirror.snapshot();
        assert!(snapshot.multipath_epoch > epoch);
        assert_eq!(snapshot.multipath_policy, [1, 0]);
        ip("route add 192.0.2.0/24 via 10.0.1.9");
        assert_eq!(main_route(&mut mirror, "192.0.2.0/24"), "via 10.0.1.9 dev d1");
        sysctl("ipv4/ip_forward_use_pmtu", "1");
        let left = "left: ip_forward_use_pmtu (PMTU exceptions apply)";
        assert_eq!(main_route(&mut mirror, "192.0.2.0/24"), left);
        sysctl("ipv4/ip_forward_use_pmtu", "0");
        sysctl("ipv4/conf/all/accept_redirects", "1");
        sysctl("ipv4/conf/d1/accept_redirects", "1");
        let d1 = mirror.links().find(|link| &*link.name == "d1").unwrap().ifindex;
        mirror.set_port(d1, Some(PortIndex(0)));
        let left = "left: accept_redirects (the kernel may hold redirected nexthops)";
        assert_eq!(main_route(&mut mirror, "192.0.2.0/24"), left);
    });
}

fn assert_as_new_but_port(mirror: &mut Mirror, ifindex: u32) {
    mirror.set_port(ifindex, None);
    assert_as_new(mirror, "after sysctls");
}

#[test]
fn links_are_renamed_recreated_and_enslaved() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        let before = mirror.snapshot().generation;
        assert_eq!(mirror.snapshot().generation, before, "nothing changed");
        ip("link set d0 name wan");
        assert!(iface(&mut mirror, "wan").unwrap().up);
        assert!(iface(&mut mirror, "d0").is_none());
        assert!(mirror.snapshot().generation > before);
        for i in 0..20 {
            ip(&format!("link add v{i} type veth peer name w{i}"));
            ip(&format!("link set v{i} up"));
            ip(&format!("addr add 10.1.{i}.1/24 dev v{i}"));
            settle(&mut mirror);
            ip(&format!("link del v{i}"));
            settle(&mut mirror);
        }
        assert!(mirror.snapshot().ifaces.len() < 12, "places are used again");
        ip("link set wan mtu 1270");
        let wan = iface(&mut mirror, "wan").unwrap();
        assert_eq!(wan.mtu[0], 1270);
        assert!(!wan.family[1].forwarding && wan.family[1].left_egress.is_some());
        ip("link set wan mtu 1500");
        ip("link add br0 type bridge");
        ip("link set wan master br0");
        assert_eq!(
            iface(&mut mirror, "wan").unwrap().family[0].left.as_deref(),
            Some("member of br0")
        );
        let info = mirror.links().find(|link| &*link.name == "wan").unwrap().clone();
        assert_eq!(
            (info.kind.as_str(), info.num_rx_queues > 0, info.xdp),
            ("veth", true, false)
        );
        ip("link set wan nomaster");
        assert_eq!(iface(&mut mirror, "wan").unwrap().family[0].left, None);
        assert_as_new(&mut mirror, "after all");
    });
}

#[test]
fn an_overrun_leads_to_reading_everything_again() {
    namespace(|| {
        router();
        let mut mirror = Mirror::with_buffer(4096).unwrap();
        let mut lines = String::new();
        for i in 0..2000u32 {
            let net = format!("172.16.{}.{}/30", i >> 6, (i & 63) << 2);
            lines += &format!("route add {net} via 10.0.{}.9\n", i & 1);
            lines += &format!(
                "neigh replace 10.0.0.{} lladdr 02:00:00:00:00:01 dev d0 nud permanent\n",
                i % 200 + 10
            );
        }
        for i in 0..1000u32 {
            lines += &format!(
                "route replace 172.16.{}.{}/30 via 10.0.{}.8\n",
                i >> 6,
                (i & 63) << 2,
                i & 1
            );
        }
        lines += "link add late type veth peer name later\nrule add pref 3 from 10.3.0.0/16 blackhole\n";
        batch(&lines, true);
        let changed = mirror.process().unwrap();
        assert!(changed.overrun, "the flood must not fit");
        settle(&mut mirror);
        assert_as_new(&mut mirror, "after an overrun");
        assert_eq!(main_route(&mut mirror, "172.16.0.4/30"), "via 10.0.1.8 dev d1");
    });
}

/// Numbers from a seed (xorshift), so that a failure can be replayed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

fn random_prefix(random: &mut Random) -> String {
    let len = 8 + random.below(25) as u32;
    let addr = 0x0a10_0000u32 | (random.below(1 << 6) as u32) << 10 | random.below(4) as u32;
    format!(
        "{}/{len}",
        std::net::Ipv4Addr::from_bits(addr & (u32::MAX << (32 - len)))
    )
}

/// One line for `ip -batch -force`; the kernel may refuse it.
fn random_change(random: &mut Random) -> String {
    let (i, j) = (random.below(2), random.below(5) + 5);
    let metric = random.of(&["", " metric 5", " metric 9"]);
    let table = random.of(&["", "", "", " table 100"]);
    match random.below(22) {
        0..7 => {
            let verb = random.of(&["add", "add", "replace", "append", "prepend"]);
            format!("route {verb} {} via 10.0.{i}.{j}{metric}{table}", random_prefix(random))
        }
        7..10 => format!("route del {}{metric}{table}", random_prefix(random)),
        10 => {
            let kind = random.of(&["blackhole", "prohibit", "throw", "unreachable"]);
            format!("route replace {kind} {}{metric}", random_prefix(random))
        }
        11 => format!(
            "route replace {} nexthop via 10.0.0.{j} nexthop via 10.0.1.{j}",
            random_prefix(random)
        ),
        12 => format!("route replace {} nhid {}", random_prefix(random), random.below(4) + 1),
        13 => format!("nexthop replace id {} via 10.0.{i}.{j} dev d{i}", random.below(3) + 1),
        14 => random
            .of(&["nexthop replace id 4 group 1/2", "nexthop del id 1", "nexthop del id 4"])
            .into(),
        15 => format!(
            "link set {} {}",
            random.of(&["d0", "d1", "p1"]),
            random.of(&["up", "up", "down"])
        ),
        16 => format!("addr {} 10.0.{i}.1{j}/32 dev d{i}", random.of(&["add", "del"])),
        17 => format!(
            "route replace {} via 10.0.{i}.9 src 10.0.{i}.1{j}{metric}",
            random_prefix(random)
        ),
        18 => format!(
            "rule {} pref {j} to {} lookup 100",
            random.of(&["add", "del"]),
            random_prefix(random)
        ),
        19 => format!("-6 route append 2001:db8:a:{j}::/64 via 2001:db8:1::{j}{metric}"),
        20 => format!(
            "-6 route {} 2001:db8:a:{j}::/64 via 2001:db8:1::{i}{metric}",
            random.of(&["replace", "del"])
        ),
        _ => format!(
            "neigh {} 10.0.{i}.{j} lladdr 02:00:00:00:00:0{j} dev d{i}",
            random.of(&["replace", "del"])
        ),
    }
}

/// What `ip route get` says of packets that come in by d0, one line per question; empty where it refuses.
fn kernel_answers(questions: &[(String, String)]) -> Vec<String> {
    let mut answers = Vec::new();
    for (src, dst) in questions {
        let output = std::process::Command::new("ip")
            .args(["-o", "route", "get", dst, "from", src, "iif", "d0"])
            .output()
            .expect("ip");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<_> = text.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|other| *other == word)?;
            words.get(at + 1).map(|value| format!("{word} {value}"))
        };
        let said = output.status.success() && words.first() != Some(&"local");
        answers.push(if said {
            [after("via"), after("dev")]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ")
        } else {
            String::new()
        });
    }
    answers
}

#[test]
fn random_changes_leave_the_mirror_as_a_new_one_and_as_the_kernel() {
    let seed = std::env::var("BYPATH_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
    eprintln!("seed {seed} (BYPATH_SEED replays it)");
    namespace(move || {
        router();
        let mut random = Random(seed);
        let mut mirror = Mirror::open().unwrap();
        let mut compared = 0;
        for round in 0..12 {
            // Written while the mirror reads, so that changes fall between its reads.
            let mut children = vec![];
            for _ in 0..4 {
                let lines: Vec<_> = (0..120).map(|_| random_change(&mut random)).collect();
                children.push(feed(lines.join("\n") + "\n"));
            }
            while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
                mirror.process().unwrap();
            }
            batch("link set d0 up\nlink set d1 up\nlink set p1 up\n", false);
            assert_as_new(&mut mirror, &format!("seed {seed}, round {round}"));
            let snapshot = mirror.snapshot();
            let d0 = snapshot.ifaces.iter().position(|iface| &*iface.name == "d0").unwrap();
            let iif = Some(bypath::table::iface::IfaceIndex(d0 as u16));
            let mut questions = vec![];
            let mut expected = vec![];
            for _ in 0..60 {
                let dst = (0x0a10_0000u32 | random.below(1 << 17) as u32).to_string();
                let dst = std::net::Ipv4Addr::from_bits(dst.parse().unwrap()).to_string();
                let key = FibKey {
                    src: addr("10.0.0.200").1,
                    dst: addr(&dst).1,
                    iif,
                    tos: 0,
                };
                let Found::Route(_, route) = snapshot.fib(Family::V4).lookup(&key) else {
                    continue;
                };
                if route.left.is_none() && route.kind == RouteKind::Unicast && route.nexthops.len() == 1 {
                    questions.push(("10.0.0.200".to_string(), dst));
                    expected.push(show_route(&snapshot, route));
                }
            }
            compared += questions.len();
            let answers = kernel_answers(&questions);
            for ((question, expected), answer) in questions.iter().zip(&expected).zip(&answers) {
                assert_eq!(expected, answer, "seed {seed}, round {round}, {question:?}");
            }
        }
        assert!(compared > 100, "only {compared} answers could be compared");
    });
}

/// One million IPv4 and 200,000 IPv6 routes, and 10,000 changes a second. Takes a minute: only with BYPATH_SCALE=1.
#[test]
fn a_full_table_and_ten_thousand_changes_a_second() {
    if std::env::var_os("BYPATH_SCALE").is_none() {
        eprintln!("SKIPPED: BYPATH_SCALE=1 runs it");
        return;
    }
    namespace(|| {
        use std::fmt::Write;
        router();
        let mut lines = String::new();
        for i in 0..1_000_000u32 {
            let net = std::net::Ipv4Addr::from_bits(0x1400_0000 + (i << 8 >> 2));
            let _ = writeln!(lines, "route add {net}/26 via 10.0.{}.{}", i & 1, 5 + i % 7);
        }
        for i in 0..200_000u32 {
            let net = std::net::Ipv6Addr::from_bits(0x2a00_u128 << 112 | u128::from(i) << 64);
            let side = if i & 1 == 0 { ":" } else { ":1::" };
            let _ = writeln!(lines, "-6 route add {net}/64 via 2001:db8:{side}{:x}", 5 + i % 7);
        }
        let start = std::time::Instant::now();
        batch(&lines, false);
        eprintln!("ip -batch: {:?}", start.elapsed());
        let start = std::time::Instant::now();
        let mut mirror = Mirror::open().unwrap();
        let snapshot = mirror.snapshot();
        eprintln!("load: {:?}", start.elapsed());
        let count = |family| {
            snapshot
                .fib(family)
                .tables
                .iter()
                .map(|(_, table)| table.len())
                .sum::<usize>()
        };
        assert!(count(Family::V4) >= 1_000_000 && count(Family::V6) >= 200_000);
        settle(&mut mirror);

        let mut lines = String::new();
        for i in 0..100_000u32 {
            let net = std::net::Ipv4Addr::from_bits(0x1400_0000 + (i * 7 << 8 >> 2));
            let _ = writeln!(lines, "route replace {net}/26 via 10.0.{}.{}", i & 1, 20 + i % 7);
        }
        let start = std::time::Instant::now();
        let mut child = feed(lines);
        let (mut spent, mut calls) = (std::time::Duration::ZERO, 0);
        while child.try_wait().unwrap().is_none() {
            let turn = std::time::Instant::now();
            mirror.process().unwrap();
            let _ = mirror.snapshot();
            spent += turn.elapsed();
            calls += 1;
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        settle(&mut mirror);
        eprintln!(
            "100,000 changes in {:?}: {spent:?} of processing in {calls} calls",
            start.elapsed()
        );
        assert_eq!(main_route(&mut mirror, "20.0.0.0/26"), "via 10.0.0.20 dev d0");
        assert!(
            spent < std::time::Duration::from_secs(5),
            "more than half a core at 10,000 changes a second"
        );

        let start = std::time::Instant::now();
        ip("link set d1 down");
        settle(&mut mirror);
        eprintln!("half the table flushed silently: seen after {:?}", start.elapsed());
        assert_eq!(main_route(&mut mirror, "20.0.0.64/26"), "-");
        assert_as_new(&mut mirror, "after all");
    });
}
