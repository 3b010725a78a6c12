//! Bridges, their ports and what they learned: the mirror's snapshot against what `bridge` was told, and against a new mirror.

use super::env::number;
use super::lab::*;
use super::random::{Random, SEED};
use bypath::mirror::Mirror;
use bypath::packet::PortIndex;
use bypath::table::bridge::{Bridge, BridgePort};
use bypath::table::fdb::{Entry, EntryFlags};
use std::sync::Arc;

/// br0 with the ports d0 and d1, up; no IPv6 on them, so that nothing is sent by itself.
fn bridged() {
    router();
    for name in ["d0", "d1"] {
        ip(&format!("addr flush dev {name}"));
        sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
    }
    ip("link add br0 type bridge");
    sysctl("ipv6/conf/br0/disable_ipv6", "1");
    for name in ["d0", "d1"] {
        ip(&format!("link set {name} master br0"));
    }
    ip("link set br0 up");
}

fn port(mirror: &mut Mirror, name: &str) -> Arc<BridgePort> {
    iface(mirror, name).unwrap().bridge_port.unwrap()
}

fn br0(mirror: &mut Mirror) -> Arc<Bridge> {
    iface(mirror, "br0").unwrap().bridge.unwrap()
}

/// By which port an address is reached, and with which flags; as it stands, nothing is taken in.
fn known(mirror: &mut Mirror, mac: [u8; 6]) -> Option<(String, u8)> {
    let snapshot = mirror.snapshot();
    let bridge = snapshot.ifaces.iter().find_map(|iface| iface.bridge.clone())?;
    let Entry { port, flags } = bridge.fdb.lookup(&mac, 0)?.entry;
    Some((snapshot.iface(port)?.name.to_string(), flags.0))
}

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];

#[test]
fn ports_of_a_bridge_and_their_flags() {
    namespace(|| {
        bridged();
        let mut mirror = Mirror::open().unwrap();
        let d0 = port(&mut mirror, "d0");
        let snapshot = mirror.snapshot();
        assert_eq!(&*snapshot.iface(d0.bridge).unwrap().name, "br0");
        assert!(d0.forwarding && d0.learning && !d0.isolated && !d0.hairpin && !d0.locked && d0.left.is_none());
        assert!(iface(&mut mirror, "br0").unwrap().bridge_port.is_none());
        assert!(iface(&mut mirror, "p0").unwrap().bridge_port.is_none());

        bridge("link set dev d0 isolated on learning off");
        ip("link set d1 type bridge_slave hairpin on locked on");
        let (d0, d1) = (port(&mut mirror, "d0"), port(&mut mirror, "d1"));
        assert!(d0.isolated && !d0.learning && d1.hairpin && d1.locked && d1.learning);
        bridge("link set dev d1 state 0");
        assert!(!port(&mut mirror, "d1").forwarding);
        bridge("link set dev d1 state 3");
        assert!(port(&mut mirror, "d1").forwarding);
        assert!(!br0(&mut mirror).neigh_suppress);
        bridge("link set dev d0 neigh_suppress on");
        assert!(br0(&mut mirror).neigh_suppress && port(&mut mirror, "d0").left.is_none());
        bridge("link set dev d0 vlan_tunnel on");
        assert_eq!(port(&mut mirror, "d0").left.as_deref(), Some("vlan_tunnel is on"));
        bridge("link set dev d0 vlan_tunnel off");
        bridge("link set dev d0 backup_port d1");
        let d0 = port(&mut mirror, "d0");
        assert_eq!(
            (d0.left.as_deref(), d0.left_egress.as_deref()),
            (None, Some("backup_port is set"))
        );
        assert_as_new(&mut mirror, "after flags");

        ip("link set d1 down");
        assert!(!port(&mut mirror, "d1").forwarding);
        ip("link set d0 nomaster");
        assert!(iface(&mut mirror, "d0").unwrap().bridge_port.is_none());
        ip("link del br0");
        assert!(iface(&mut mirror, "d1").unwrap().bridge_port.is_none());
        assert_as_new(&mut mirror, "after the bridge went");
    });
}

#[test]
fn what_a_bridge_is_set_to() {
    namespace(|| {
        bridged();
        let mut mirror = Mirror::open().unwrap();
        let bridge = br0(&mut mirror);
        assert_eq!((bridge.ageing_time, bridge.vlan_protocol), (30000, 0x8100));
        assert!(bridge.vlans.is_none() && bridge.left.is_none());
        if !std::path::Path::new("/proc/sys/net/bridge").exists() {
            println!("SKIPPED what_a_bridge_is_set_to: no br_netfilter here");
            assert_eq!(bridge.nf_call, [false; 2]);
            return;
        }
        assert_eq!(bridge.nf_call, [true; 2], "as the sysctls are at first");
        sysctl("bridge/bridge-nf-call-iptables", "0");
        assert_eq!(br0(&mut mirror).nf_call, [false, true]);
        sysctl("bridge/bridge-nf-filter-vlan-tagged", "1");
        assert!(br0(&mut mirror).left.is_some() && port(&mut mirror, "d0").left.is_some());
        sysctl("bridge/bridge-nf-call-ip6tables", "0");
        assert!(br0(&mut mirror).left.is_none(), "nobody asks it");
        ip("link set br0 type bridge nf_call_iptables 1");
        let bridge = br0(&mut mirror);
        assert!(bridge.nf_call == [true, false] && bridge.left.is_some());
        sysctl("bridge/bridge-nf-filter-vlan-tagged", "0");
        assert!(br0(&mut mirror).left.is_none());
        ip("link set br0 type bridge ageing_time 700");
        assert_eq!(br0(&mut mirror).ageing_time, 700);
        assert_as_new(&mut mirror, "after settings");
    });
}

#[test]
fn entries_come_move_and_go() {
    namespace(|| {
        bridged();
        let mut mirror = Mirror::open().unwrap();
        let own = iface(&mut mirror, "d0").unwrap().mac;
        assert_eq!(known(&mut mirror, own), Some(("d0".into(), EntryFlags::LOCAL)));
        let before = mirror.snapshot().generation;
        bridge("fdb add 02:00:00:00:00:0a dev d0 master dynamic");
        bridge("fdb add 02:00:00:00:00:0b dev d0 master static sticky");
        bridge("fdb add 02:00:00:00:00:0c dev d1 master extern_learn");
        bridge("fdb add 02:00:00:00:00:0d dev d1 self");
        bridge("fdb add 02:00:00:00:00:0e dev br0 self local");
        settle(&mut mirror);
        let mac = |last| [2, 0, 0, 0, 0, last];
        let (d0, d1) = ("d0".to_string(), "d1".to_string());
        assert_eq!(known(&mut mirror, A), Some((d0.clone(), 0)));
        let sticky = EntryFlags::STATIC | EntryFlags::STICKY;
        assert_eq!(known(&mut mirror, mac(0xb)), Some((d0.clone(), sticky)));
        assert_eq!(known(&mut mirror, mac(0xc)), Some((d1.clone(), EntryFlags::EXTERN)));
        assert_eq!(known(&mut mirror, mac(0xd)), None, "not of the bridge");
        assert_eq!(known(&mut mirror, mac(0xe)), Some(("br0".into(), EntryFlags::LOCAL)));
        assert_eq!(mirror.snapshot().generation, before, "nothing was decided without them");

        bridge("fdb replace 02:00:00:00:00:0a dev d1 master dynamic");
        settle(&mut mirror);
        assert_eq!(known(&mut mirror, A), Some((d1, 0)));
        let moved = mirror.snapshot().generation;
        assert!(moved > before);
        bridge("fdb del 02:00:00:00:00:0a dev d1 master");
        settle(&mut mirror);
        assert_eq!(known(&mut mirror, A), None);
        assert!(mirror.snapshot().generation > moved);
        assert_as_new(&mut mirror, "after entries");
        bridge("fdb flush dev br0");
        ip("link set d0 nomaster");
        assert_as_new(&mut mirror, "after a flush");
        assert_eq!(known(&mut mirror, own), None);
    });
}

/// Lines of `bridge -batch` that add `count` addresses.
fn many(count: u32) -> String {
    let line = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        format!(
            "fdb replace 02:00:01:{a:02x}:{b:02x}:{c:02x} dev d{} master static\n",
            n % 2
        )
    };
    (0..count).map(line).collect()
}

#[test]
fn a_table_grows_and_an_overrun_of_its_events_leaves_routes_alone() {
    namespace(|| {
        bridged();
        let mut mirror = Mirror::with_buffer(4096).unwrap();
        settle(&mut mirror);
        let small = br0(&mut mirror).fdb.capacity();
        assert!(feed_bridge(many(3000)).wait().unwrap().success());
        let changed = mirror.process().unwrap();
        assert!(changed.overrun, "the flood must not fit");
        assert!(!changed.routes && !changed.neighbors && !changed.links);
        settle(&mut mirror);
        let fdb = br0(&mut mirror).fdb.clone();
        assert!(fdb.len() > 3000 && fdb.capacity() > small && fdb.refused() == 0);
        assert_as_new(&mut mirror, "after growth");
        bridge("fdb flush dev br0 static");
        assert!(mirror.process().unwrap().overrun);
        settle(&mut mirror);
        assert!(br0(&mut mirror).fdb.len() < 10);
        assert_as_new(&mut mirror, "after all went");
    });
}

#[test]
fn an_overrun_while_a_table_is_read_begins_that_anew() {
    namespace(|| {
        bridged();
        let mut mirror = Mirror::with_buffer(4096).unwrap();
        settle(&mut mirror);
        assert!(feed_bridge(many(40_000)).wait().unwrap().success());
        mirror.process().unwrap();
        assert!(!mirror.is_settled(), "40,000 addresses must take more than one step");
        bridge("fdb flush dev br0 static");
        assert!(mirror.process().unwrap().overrun);
        settle(&mut mirror);
        assert!(br0(&mut mirror).fdb.len() < 10);
        assert_as_new(&mut mirror, "after an overrun in a read");
    });
}

/// A line for `bridge -batch -force`, or for `ip`; the kernel may refuse it.
fn random_change(random: &mut Random) -> (bool, String) {
    let (port, mac) = (random.below(3), random.below(12));
    match random.below(16) {
        0..7 => {
            let verb = random.of(&["add", "replace", "replace", "del", "del"]);
            let kind = random.of(&["static", "dynamic", "dynamic", "static sticky", "extern_learn"]);
            let kind = if verb == "del" { "" } else { kind };
            (
                true,
                format!("fdb {verb} 02:00:00:00:01:{mac:02x} dev d{port} master {kind}"),
            )
        }
        7 => (
            true,
            format!("fdb replace 02:00:00:00:01:{mac:02x} dev d{port} master dynamic use"),
        ),
        8 => (
            true,
            format!(
                "fdb replace 02:00:00:00:01:{mac:02x} dev br{} self local",
                random.below(2)
            ),
        ),
        9 => (true, format!("fdb flush dev br{}", random.below(2))),
        10 => {
            let flag = random.of(&[
                "isolated",
                "learning",
                "hairpin",
                "locked",
                "neigh_suppress",
                "vlan_tunnel",
            ]);
            (
                true,
                format!("link set dev d{port} {flag} {}", random.of(&["on", "off"])),
            )
        }
        11 => (
            true,
            format!("link set dev d{port} state {}", random.of(&["0", "1", "2", "3", "3"])),
        ),
        12 => (false, format!("link set d{port} {}", random.of(&["up", "up", "down"]))),
        13 => (false, format!("link set d{port} master br{}", random.below(2))),
        14 => (
            false,
            format!("link set d{port} {}", random.of(&["nomaster", "master br0"])),
        ),
        _ => (
            false,
            random
                .of(&[
                    "link add br1 type bridge",
                    "link del br1",
                    "link set br0 type bridge ageing_time 60000",
                    "link set br0 type bridge ageing_time 30000",
                    "link set br0 down",
                    "link set br0 up",
                ])
                .into(),
        ),
    }
}

#[test]
fn random_changes_of_bridges_leave_the_mirror_as_a_new_one() {
    let seed = number("BYPATH_SEED", SEED);
    eprintln!("seed {seed} (BYPATH_SEED sets another)");
    namespace(move || {
        bridged();
        ip("link add d2 type veth peer name p2");
        let mut random = Random(seed);
        let mut mirror = Mirror::with_buffer(64 << 10).unwrap();
        let mut entries = 0;
        for round in 0..8 {
            let mut children = vec![];
            for _ in 0..3 {
                let (bridge, ip): (Vec<_>, Vec<_>) = (0..150)
                    .map(|_| random_change(&mut random))
                    .partition(|(is_bridge, _)| *is_bridge);
                let lines = |all: Vec<(bool, String)>| all.into_iter().map(|(_, line)| line + "\n").collect::<String>();
                children.push(feed_bridge(lines(bridge)));
                children.push(feed(lines(ip)));
            }
            while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
                mirror.process().unwrap();
            }
            // What is down may be changed without a word: when it comes up all of it is told.
            let up = ["br0", "br1", "d0", "d1", "d2"].map(|name| format!("link set {name} up\n"));
            batch(&up.concat(), true);
            // And something is there to be compared.
            batch(
                "link add br0 type bridge\nlink set br0 up\nlink set d0 master br0\n",
                true,
            );
            let entries_line = |random: &mut Random| {
                let kind = random.of(&["static", "dynamic", "static sticky", "extern_learn"]);
                format!(
                    "fdb replace 02:00:00:00:01:{:02x} dev d0 master {kind}\n",
                    random.below(12)
                )
            };
            let lines: String = (0..8).map(|_| entries_line(&mut random)).collect();
            feed_bridge(lines).wait().unwrap();
            // Carrier follows within a second, in its own time.
            std::thread::sleep(std::time::Duration::from_millis(1200));
            settle(&mut mirror);
            let snapshot = mirror.snapshot();
            entries += snapshot
                .ifaces
                .iter()
                .filter_map(|iface| iface.bridge.as_ref())
                .map(|b| b.fdb.len())
                .sum::<usize>();
            assert_as_new(&mut mirror, &format!("seed {seed}, round {round}"));
        }
        assert!(entries > 20, "only {entries} entries were there to be compared");
    });
}

#[test]
fn where_bridging_is_tracked_all_ports_must_be_ours() {
    use bypath::mirror::Findings;
    namespace(|| {
        bridged();
        for name in ["p0", "p1"] {
            sysctl(&format!("ipv4/conf/{name}/forwarding"), "0");
        }
        let mut mirror = Mirror::open().unwrap();
        let index = |mirror: &mut Mirror, name: &str| iface(mirror, name).unwrap().ifindex;
        let (d0, d1) = (index(&mut mirror, "d0"), index(&mut mirror, "d1"));
        mirror.set_port(d0, Some(PortIndex(0)));
        let left = |mirror: &mut Mirror| iface(mirror, "br0").unwrap().family[0].left.clone();
        assert_eq!(left(&mut mirror), None, "nothing is tracked");
        mirror.set_findings(Findings {
            tracked: [true, false],
            ..Findings::default()
        });
        assert_eq!(
            left(&mut mirror).as_deref(),
            Some("port d1 of the bridge is the kernel's")
        );
        assert!(!mirror.snapshot().conntrack.alone[0]);
        mirror.set_port(d1, Some(PortIndex(1)));
        assert_eq!(left(&mut mirror), None);
        assert!(mirror.snapshot().conntrack.alone[0]);
        // One that joins is given a second.
        ip("link add d2 type veth peer name p2");
        sysctl("ipv6/conf/d2/disable_ipv6", "1");
        ip("link set d2 master br0 up");
        assert_eq!(left(&mut mirror), None);
        assert!(!mirror.snapshot().conntrack.alone[0]);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(
            left(&mut mirror).as_deref(),
            Some("port d2 of the bridge is the kernel's")
        );
    });
}

/// What `bridge fdb` says of an address.
fn kernel_knows(mac: &str) -> Option<String> {
    let output = std::process::Command::new("bridge")
        .args(["fdb", "show", "br", "br0"])
        .output()
        .expect("bridge");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.starts_with(mac)).map(ToString::to_string)
}

/// With an ageing time of 1.5 s: who is seen all the time stays, who was seen at first goes, and so does who never was; by a
/// port that does not learn, being seen does not help; and who moved is not moved back.
#[test]
fn what_is_in_use_does_not_age_out() {
    use bypath::mirror::refresh::Refresh;
    use bypath::table::conntrack::ticks;
    use std::time::{Duration, Instant};
    namespace(|| {
        bridged();
        ip("link add d2 type veth peer name p2");
        for name in ["d2", "p2"] {
            sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
            ip(&format!("link set {name} up"));
        }
        ip("link set d2 master br0");
        bridge("link set dev d2 learning off");
        ip("link set br0 type bridge ageing_time 150");
        let mut mirror = Mirror::open().unwrap();
        let mut refresh = Refresh::open().unwrap();
        for (last, port) in [(0xa, "d0"), (0xb, "d0"), (0xc, "d0"), (0xd, "d2"), (0xe, "d0")] {
            bridge(&format!(
                "fdb replace 02:00:00:00:00:{last:02x} dev {port} master dynamic"
            ));
        }
        settle(&mut mirror);
        let fdb = br0(&mut mirror).fdb.clone();
        let (began, mut moved) = (Instant::now(), false);
        while began.elapsed() < Duration::from_millis(5000) {
            let now = ticks(bypath::port::wait::monotonic_ns());
            let early = began.elapsed() < Duration::from_millis(100);
            let seen: &[u8] = if early { &[0xa, 0xb, 0xd, 0xe] } else { &[0xa, 0xd, 0xe] };
            for &last in seen {
                if let Some(hit) = fdb.lookup(&[2, 0, 0, 0, 0, last], 0) {
                    hit.see(now);
                }
            }
            if began.elapsed() > Duration::from_millis(1000) && !std::mem::replace(&mut moved, true) {
                bridge("fdb replace 02:00:00:00:00:0e dev d1 master dynamic");
            }
            while mirror.process().unwrap().more {}
            assert!(!refresh.turn(&mirror, now).unwrap(), "so few are renewed in one turn");
            std::thread::sleep(Duration::from_millis(20));
        }
        let known: Vec<_> = [0xa, 0xb, 0xc, 0xd, 0xe]
            .map(|last: u8| known(&mut mirror, [2, 0, 0, 0, 0, last]))
            .into();
        let (d0, d1) = (Some(("d0".to_string(), 0)), Some(("d1".to_string(), 0)));
        assert_eq!(known, [d0, None, None, None, d1]);
        for (last, port) in [
            (0xa, Some("d0")),
            (0xb, None),
            (0xc, None),
            (0xd, None),
            (0xe, Some("d1")),
        ] {
            let line = kernel_knows(&format!("02:00:00:00:00:{last:02x}"));
            assert_eq!(line.is_some(), port.is_some(), "{line:?}");
            assert!(line.is_none_or(|line| line.contains(port.unwrap_or_default())));
        }
        assert!(refresh.renewed > 20, "{}", refresh.renewed);
    });
}
