//! The mirror against a real kernel: namespaces are changed with `ip` and sysctls, and the snapshot must say what the kernel
//! now does. Needs root, `ip` and network namespaces; the namespaces are unnamed and end with their test.

#[path = "mirror/lab.rs"]
mod lab;

use bypath::mirror::Mirror;
use bypath::packet::{Family, PortIndex};
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
