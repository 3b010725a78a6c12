//! The mirror against a real kernel: namespaces are changed with `ip` and sysctls, and the snapshot must say what the kernel
//! now does. Needs root, `ip` and network namespaces; the namespaces are unnamed and end with their test.

#[path = "mirror/bridges.rs"]
mod bridges;
#[path = "env/mod.rs"]
mod env;
#[path = "mirror/lab.rs"]
mod lab;
#[path = "mirror/random.rs"]
mod random;
#[path = "mirror/routes.rs"]
mod routes;
#[path = "mirror/rules.rs"]
mod rules;
#[path = "mirror/scale.rs"]
mod scale;
#[path = "mirror/sysctls.rs"]
mod sysctls;
#[path = "mirror/tc.rs"]
mod tc;
#[path = "mirror/tracking.rs"]
mod tracking;
#[path = "mirror/vlans.rs"]
mod vlans;

use bypath::mirror::Mirror;
use bypath::packet::Family;
use bypath::table::iface::IfaceIndex;
use lab::*;

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

/// What is still queued may say anything: that is not to be taken for what the kernel has told.
#[test]
fn a_call_that_leaves_events_in_the_queue_says_so() {
    namespace(|| {
        router();
        let mut mirror = Mirror::open().unwrap();
        settle(&mut mirror);
        let line = |n: u32| format!("route add 20.{}.{}.0/24 dev d0\n", n >> 8, n & 0xff);
        batch(&(0..5000).map(line).collect::<String>(), false);
        let mut calls = 0;
        let said = std::iter::repeat_with(|| mirror.process().unwrap()).take(100);
        for changed in said {
            calls += 1;
            if changed.drained {
                break;
            }
            assert!(changed.more);
        }
        assert!((2..100).contains(&calls), "{calls} calls");
        assert_eq!(
            route(&mirror.snapshot(), MAIN, "20.19.135.0/24"),
            "dev d0",
            "the last one"
        );
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
            snapshot.neighbors.lookup(IfaceIndex(d0 as u16), family, addr).copied()
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
        assert_eq!((info.kind.as_str(), info.num_rx_queues > 0), ("veth", true));
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

#[test]
fn an_overrun_while_routes_are_read_begins_that_anew() {
    namespace(|| {
        router();
        let net = |i: u32| format!("172.{}.{}.{}/32", 16 + (i >> 16), (i >> 8) & 255, i & 255);
        let routes = |via: &str| {
            (0..50_000)
                .map(|i| format!("route replace {} via {via}\n", net(i)))
                .collect::<String>()
        };
        batch(&routes("10.0.0.9"), true);
        let mut mirror = Mirror::with_buffer(4096).unwrap();
        settle(&mut mirror);
        // Its nexthops may be dead now.
        ip("link set d1 down");
        mirror.process().unwrap();
        assert!(!mirror.is_settled(), "50,000 routes must take more than one step");
        let lines = |via: &str| {
            (0..3000)
                .map(|i| format!("route replace {} via {via}\n", net(i)))
                .collect::<String>()
        };
        batch(&lines("10.0.0.8"), true);
        let changed = mirror.process().unwrap();
        assert!(changed.overrun, "the flood must not fit");
        settle(&mut mirror);
        assert_as_new(&mut mirror, "after an overrun in a read");
        assert_eq!(main_route(&mut mirror, "172.16.0.4/32"), "via 10.0.0.8 dev d0");
    });
}
