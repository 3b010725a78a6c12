//! Bridges that filter VLANs. Not every kernel has them: `scripts/vm` runs these in one that does.

use super::lab::*;
use bypath::mirror::Mirror;
use bypath::table::bridge::Vlans;
use std::process::Command;

/// br0, which filters VLANs, with the ports d0 and d1; false where the kernel cannot.
fn filtering(name: &str) -> bool {
    router();
    let made = Command::new("ip")
        .args("link add br0 type bridge vlan_filtering 1".split(' '))
        .output()
        .expect("ip");
    if !made.status.success() {
        let _ = Command::new("ip").args(["link", "del", "br0"]).output();
        println!("SKIPPED {name}: this kernel has no bridges that filter VLANs (scripts/vm has)");
        return false;
    }
    for port in ["d0", "d1"] {
        ip(&format!("link set {port} master br0"));
    }
    ip("link set br0 up");
    true
}

fn shown(vlans: &Vlans) -> Vec<String> {
    let one = |(vid, untagged): (u16, bool)| {
        let pvid = if vid == vlans.pvid { " pvid" } else { "" };
        format!("{vid}{pvid}{}", if untagged { " untagged" } else { "" })
    };
    vlans.iter().map(one).collect()
}

fn of_port(mirror: &mut Mirror, name: &str) -> Vec<String> {
    shown(&iface(mirror, name).unwrap().bridge_port.unwrap().vlans)
}

#[test]
fn vlans_of_ports_and_of_the_bridge() {
    namespace(|| {
        if !filtering("vlans_of_ports_and_of_the_bridge") {
            return;
        }
        let mut mirror = Mirror::open().unwrap();
        let of_bridge = |mirror: &mut Mirror| iface(mirror, "br0").unwrap().bridge.unwrap();
        assert_eq!(of_port(&mut mirror, "d0"), ["1 pvid untagged"]);
        assert_eq!(
            shown(of_bridge(&mut mirror).vlans.as_ref().unwrap()),
            ["1 pvid untagged"]
        );
        bridge("vlan add dev d0 vid 10-12");
        bridge("vlan add dev d0 vid 20 pvid untagged");
        bridge("vlan del dev d1 vid 1");
        bridge("vlan add dev br0 vid 10 self");
        assert_eq!(
            of_port(&mut mirror, "d0"),
            ["1 untagged", "10", "11", "12", "20 pvid untagged"]
        );
        assert_eq!(of_port(&mut mirror, "d1"), [""; 0]);
        assert_eq!(
            shown(of_bridge(&mut mirror).vlans.as_ref().unwrap()),
            ["1 pvid untagged", "10"]
        );
        assert_as_new(&mut mirror, "after changes of VLANs");

        bridge("vlan set dev d0 vid 11 state blocking");
        let left = iface(&mut mirror, "d0").unwrap().bridge_port.unwrap().left.clone();
        assert_eq!(left.as_deref(), Some("VLAN 11 is not in state forwarding"));
        bridge("vlan set dev d0 vid 11 state forwarding");
        assert_eq!(iface(&mut mirror, "d0").unwrap().bridge_port.unwrap().left, None);

        bridge("fdb add 02:00:00:00:00:0a dev d0 master vlan 10 static");
        settle(&mut mirror);
        let fdb = of_bridge(&mut mirror).fdb.clone();
        assert!(fdb.lookup(&[2, 0, 0, 0, 0, 0xa], 10).is_some() && fdb.lookup(&[2, 0, 0, 0, 0, 0xa], 0).is_none());
        ip("link set br0 type bridge vlan_protocol 802.1ad");
        assert_eq!(of_bridge(&mut mirror).vlan_protocol, 0x88a8);
        assert_as_new(&mut mirror, "with another protocol");
        ip("link set br0 type bridge vlan_filtering 0");
        assert!(of_bridge(&mut mirror).vlans.is_none());
        assert_eq!(of_port(&mut mirror, "d0"), [""; 0]);
        ip("link set br0 type bridge vlan_filtering 1 vlan_default_pvid 7");
        ip("link set d1 nomaster");
        ip("link set d1 master br0");
        assert_eq!(of_port(&mut mirror, "d1"), ["7 pvid untagged"]);
        assert_as_new(&mut mirror, "after all");
    });
}
