//! Bridges that filter VLANs: access ports, trunks, hybrids, of 802.1Q and 802.1ad, from the start and changed while stations
//! talk; and the way up and down where the bridge itself is in one VLAN.
//!
//! ```text
//!   d0, d1   10, untagged     d2   10 and 20, tagged, no PVID     d3   20 untagged, 10 tagged
//! ```
//!
//! Kernels without CONFIG_BRIDGE_VLAN_FILTERING skip this: `scripts/vm` has one with it.

use crate::lab::bridge::unknown_mac;
use crate::lab::namespace::Namespace;
use crate::lab::twin::{Share, Twin};
use crate::net::{Station, at, bridge_mac, bridge_with, finish, finish_aged, forwards, routed, setup};

const PORTS: usize = 4;
const CTAG: u16 = 0x8100;
const STAG: u16 = 0x88a8;

/// Whether this kernel filters VLANs in bridges; says so where it does not.
fn kernel_filters(name: &str) -> bool {
    let lines = [
        "ip link add br0 type bridge vlan_filtering 1",
        "bridge vlan show dev br0",
    ];
    let namespace = Namespace::new();
    let shown = lines.map(|line| String::from_utf8_lossy(&namespace.output(line, "").stdout).into_owned());
    let filters = shown[1].contains("PVID");
    if !filters {
        println!("SKIPPED {name}: this kernel has no VLAN filtering in bridges");
    }
    filters
}

fn config(more: &str) -> Vec<String> {
    let mut lines = bridge_with(0, &[0, 1, 2, 3], &format!("vlan_filtering 1 {more}"));
    lines.extend((0..PORTS).map(|port| format!("bridge vlan del dev d{port} vid 1")));
    lines.extend(
        [
            "dev d0 vid 10 pvid untagged",
            "dev d1 vid 10 pvid untagged",
            "dev d2 vid 10",
            "dev d2 vid 20",
            "dev d3 vid 20 pvid untagged",
            "dev d3 vid 10",
        ]
        .map(|words| format!("bridge vlan add {words}")),
    );
    lines
}

/// None, then (protocol, priority and VID): both VLANs, one that nobody carries, priority alone, and double tags.
fn tags() -> Vec<Vec<(u16, u16)>> {
    let both = [CTAG, STAG];
    let single = [10, 20, 30, 0, 0xa000, 0xa00a, 0x1014, 4095];
    let mut all = vec![vec![]];
    all.extend(both.iter().flat_map(|&proto| single.map(|tci| vec![(proto, tci)])));
    all.extend([
        vec![(CTAG, 10), (CTAG, 20)],
        vec![(STAG, 10), (CTAG, 20)],
        vec![(STAG, 20), (STAG, 10)],
        vec![(CTAG, 0), (CTAG, 10)],
    ]);
    all
}

fn stations() -> Vec<Station> {
    (0..PORTS).flat_map(|port| [at(port, 1), at(port, 2)]).collect()
}

/// A frame of IP with these tags.
fn tagged(from: Station, to: [u8; 6], tags: &[(u16, u16)], number: u16) -> Vec<u8> {
    let packet = from.udp(at(9, 9), number % 2 == 1, (number, 7));
    from.sends_to(to, packet)
        .with(|packet| packet.tags = tags.to_vec())
        .build()
}

/// Every station is learned in the VLANs that its port has, by each kind of tag.
fn learn(twin: &mut Twin) {
    for from in stations() {
        let number = 0xe000 | (from.port as u16) << 8 | u16::from(from.host);
        for tags in tags() {
            twin.inject(from.port, &[tagged(from, unknown_mac(number), &tags, 1)]);
        }
    }
    twin.wait_in_force();
}

fn all_talk(twin: &mut Twin) {
    for from in stations() {
        for tags in tags() {
            let others = stations().into_iter().filter(|to| *to != from);
            let frames: Vec<_> = others
                .enumerate()
                .map(|(number, to)| tagged(from, to.mac(), &tags, number as u16))
                .collect();
            twin.inject(from.port, &frames);
        }
    }
}

fn judge(name: &str, more: &str, changes: &[&[&str]], share: f64) {
    judge_frames(name, more, changes, share, true);
}

fn judge_frames(name: &str, more: &str, changes: &[&[&str]], share: f64, and_databases: bool) {
    if !kernel_filters(name) {
        return;
    }
    let mut twin = Twin::start(setup(name, PORTS, config(more)));
    learn(&mut twin);
    all_talk(&mut twin);
    for change in changes {
        twin.change(change);
        learn(&mut twin);
        all_talk(&mut twin);
        if and_databases {
            twin.compare_fdbs(name);
        }
    }
    if and_databases {
        finish(twin, Share::AtLeast(share));
    } else {
        twin.settle();
        twin.compare_stations("at the end");
        finish_aged(twin, Share::AtLeast(share));
    }
}

#[test]
fn of_802_1q() {
    judge("vlans_8021q", "", &[], 0.1);
}

#[test]
fn of_802_1ad() {
    judge("vlans_8021ad", "vlan_protocol 802.1ad", &[], 0.1);
}

#[test]
fn without_a_pvid() {
    judge("vlans_no_pvid", "vlan_default_pvid 0", &[], 0.1);
}

#[test]
fn vlans_come_and_go() {
    judge(
        "vlans_change",
        "",
        &[
            &["bridge vlan del dev d1 vid 10"],
            &[
                "bridge vlan add dev d1 vid 10-20",
                "bridge vlan add dev d0 vid 20 pvid untagged",
            ],
            &[
                "bridge vlan add dev d2 vid 20 untagged",
                "bridge vlan add dev d2 vid 30 pvid",
            ],
            &["ip link set br0 type bridge vlan_protocol 802.1ad"],
        ],
        0.1,
    );
}

/// Frames, and at the end the stations behind each port: an entry that is renewed while a bridge does not filter gets copies in
/// the VLANs of its port (LIMITATIONS.md).
#[test]
fn filtering_is_switched() {
    judge_frames(
        "vlans_switched",
        "",
        &[
            &["ip link set br0 type bridge vlan_filtering 0"],
            &["ip link set br0 type bridge vlan_filtering 1"],
        ],
        0.1,
        false,
    );
}

/// The bridge has addresses in VLAN 10: untagged where that is its PVID, not at all where it is only a tagged member. (IPv6
/// that leaves by the link it came in by asks for redirects, and is the kernel's; so is what goes up in a tag.)
#[test]
fn up_and_down() {
    for (name, own, least) in [
        ("vlans_up", "vid 10 pvid untagged self", 10),
        ("vlans_up_tagged", "vid 10 self", 0),
    ] {
        if !kernel_filters(name) {
            return;
        }
        let mut lines = bridge_with(0, &[0, 1], "vlan_filtering 1");
        // They leave by the link that they came in by: of IPv4 those are carried that way.
        lines.extend(["all", "br0"].map(|conf| format!("sysctl net.ipv4.conf.{conf}.send_redirects=0")));
        lines.extend(["d0 vid 1", "d1 vid 1", "br0 vid 1 self"].map(|words| format!("bridge vlan del dev {words}")));
        lines.push("bridge vlan add dev d0 vid 10 pvid untagged".into());
        lines.push("bridge vlan add dev d1 vid 10".into());
        lines.push(format!("bridge vlan add dev br0 {own}"));
        lines.extend(routed(0, &[0, 1]));
        let mut twin = Twin::start(setup(name, 3, lines));
        let untagged: &[(u16, u16)] = &[];
        for (port, tags) in [(0, untagged), (1, &[(CTAG, 10)])] {
            for station in [at(port, 0), at(port, 1)] {
                twin.inject(port, &[tagged(station, unknown_mac(0xe100), tags, 1)]);
            }
        }
        twin.wait_in_force();
        forwards(&mut twin, least, |twin| {
            for (port, tags) in [(0, untagged), (1, &[(CTAG, 10)]), (1, untagged), (0, &[(CTAG, 0)])] {
                let frames: Vec<_> = (0..20)
                    .map(|number| {
                        let to = at(1 - port, 0);
                        let packet = at(port, 0).udp(to, number % 2 == 1, (number, 9));
                        at(port, 0)
                            .sends_to(bridge_mac(0), packet)
                            .with(|packet| packet.tags = tags.to_vec())
                            .build()
                    })
                    .collect();
                twin.inject(port, &frames);
            }
        });
        finish(twin, Share::AtLeast(0.0));
    }
}
