//! Sysctls are in force within 100 ms, told by the kernel or not.

use super::lab::*;
use bypath::mirror::Mirror;
use bypath::packet::PortIndex;
use bypath::table::iface::RpFilter;

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
