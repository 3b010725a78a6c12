//! A network namespace for one test: a thread of its own that has left the others' namespace. Nothing of it outlives the
//! thread, whatever happens. Needs root; without it a test says SKIPPED, and fails where CI is set.

#[path = "../netns/thread.rs"]
mod thread;

use bypath::mirror::Mirror;
use bypath::packet::{Addr, Family};
use bypath::table::Snapshot;
use bypath::table::bridge::{Bridge, BridgePort};
use bypath::table::fdb::EntryFlags;
use bypath::table::fib::{Fib, Gateway, Route, RouteKind};
use bypath::table::iface::{Iface, IfaceIndex};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thread::in_namespace;

/// Runs `test` in a new network namespace, with the loopback up.
pub fn namespace(test: impl FnOnce() + Send + 'static) {
    in_namespace(|| {
        ip("link set lo up");
        test();
    });
}

/// Runs `ip` with arguments; it must succeed.
pub fn ip(arguments: &str) {
    command("ip", arguments);
}

/// Runs `bridge` with arguments; it must succeed.
pub fn bridge(arguments: &str) {
    command("bridge", arguments);
}

/// Runs a program with arguments; it must succeed.
pub fn command(program: &str, arguments: &str) {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .expect(program);
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs lines of `ip -batch`; lines that the kernel refuses are passed over if `force`.
pub fn batch(lines: &str, force: bool) {
    let mut child = spawn_batch("ip", lines.to_string(), force);
    let status = child.wait().expect("ip");
    assert!(force || status.success(), "ip -batch failed");
}

/// Has `ip -batch -force` run lines in the background.
pub fn feed(lines: String) -> Child {
    spawn_batch("ip", lines, true)
}

/// Has `bridge -batch -force` run lines in the background.
pub fn feed_bridge(lines: String) -> Child {
    spawn_batch("bridge", lines, true)
}

fn spawn_batch(program: &str, lines: String, force: bool) -> Child {
    let mut child = Command::new(program)
        .args(if force {
            &["-force", "-batch", "-"][..]
        } else {
            &["-batch", "-"]
        })
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(if force { Stdio::null() } else { Stdio::inherit() })
        .spawn()
        .expect("ip");
    let mut stdin = child.stdin.take().expect("stdin");
    // It may end early, with lines unread: some refusals end it in spite of -force.
    std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    child
}

/// Writes a sysctl below net/.
pub fn sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{path}"), value).unwrap_or_else(|e| panic!("{path}: {e}"));
}

/// A router with two veths, `d0` (10.0.0.1/24, 2001:db8::1/64) and `d1` (10.0.1.1/24, 2001:db8:1::1/64), whose other ends
/// `p0` and `p1` are in the same namespace, without addresses.
pub fn router() {
    for i in 0..2 {
        ip(&format!("link add d{i} type veth peer name p{i}"));
        sysctl(&format!("ipv6/conf/d{i}/accept_dad"), "0");
        sysctl(&format!("ipv6/conf/p{i}/disable_ipv6"), "1");
        ip(&format!("link set d{i} up"));
        ip(&format!("link set p{i} up"));
        ip(&format!("addr add 10.0.{i}.1/24 dev d{i}"));
        let net = if i == 0 { String::new() } else { i.to_string() + ":" };
        ip(&format!("addr add 2001:db8:{net}:1/64 dev d{i} nodad"));
    }
    sysctl("ipv4/ip_forward", "1");
    sysctl("ipv6/conf/all/forwarding", "1");
    for name in ["all", "d0", "d1"] {
        sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0");
    }
}

/// Lets `mirror` take in all that has happened, until it wants nothing more.
pub fn settle(mirror: &mut Mirror) {
    let end = Instant::now() + Duration::from_secs(20);
    let mut quiet = 0;
    while quiet < 3 {
        assert!(Instant::now() < end, "the mirror does not come to rest");
        let changed = mirror.process().expect("process");
        mirror.poll_sysctls();
        let still = !changed.any() && !changed.more && mirror.is_settled();
        quiet = if still { quiet + 1 } else { 0 };
        if !changed.more {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// An address as the tables have it.
pub fn addr(text: &str) -> (Family, Addr) {
    match text.parse().expect("address") {
        IpAddr::V4(a) => (Family::V4, a.to_bits().into()),
        IpAddr::V6(a) => (Family::V6, a.to_bits()),
    }
}

fn show_addr(family: Family, addr: Addr) -> String {
    match family {
        Family::V4 => std::net::Ipv4Addr::from_bits(addr as u32).to_string(),
        Family::V6 => std::net::Ipv6Addr::from_bits(addr).to_string(),
    }
}

/// A route in words, with link names: `via 10.0.1.9 dev d1`, `dev d0`, `local`, `left: why`.
pub fn show_route(snapshot: &Snapshot, route: &Route) -> String {
    if let Some(why) = &route.left {
        return format!("left: {why}");
    }
    let mut words = Vec::new();
    match route.kind {
        RouteKind::Unicast => {}
        other => words.push(format!("{other:?}").to_lowercase()),
    }
    for nexthop in &route.nexthops {
        let name = snapshot
            .iface(nexthop.iface)
            .map_or("?".into(), |iface| iface.name.to_string());
        words.push(match nexthop.gateway {
            Gateway::Onlink => format!("dev {name}"),
            Gateway::Via(family, addr) => format!("via {} dev {name}", show_addr(family, addr)),
        });
    }
    if route.mtu != 0 {
        words.push(format!("mtu {}", route.mtu));
    }
    words.join(" ")
}

/// The route of exactly this prefix in a table, in words; "-" if there is none.
pub fn route(snapshot: &Snapshot, table: u32, prefix: &str) -> String {
    let (text, len) = prefix.split_once('/').expect("a prefix");
    let (family, addr) = addr(text);
    let table = snapshot.fib(family).tables.iter().find(|t| t.0 == table);
    let route = table.and_then(|(_, lpm)| lpm.get(addr, len.parse().expect("a length")));
    route.map_or("-".into(), |route| show_route(snapshot, route))
}

fn show_rules(snapshot: &Snapshot, fib: &Fib) -> Vec<String> {
    use bypath::table::fib::Action;
    let name = |iif| snapshot.iface(iif).map(|iface| iface.name.clone());
    let rule = |rule: &bypath::table::fib::Rule| {
        let action = match rule.action {
            Action::Lookup(place) => format!("lookup {}", fib.tables[place].0),
            other => format!("{other:?}"),
        };
        let (from, to, iif) = (rule.from, rule.to, rule.iif.and_then(name));
        format!(
            "rule {}: {from:?} {to:?} {iif:?} {} {action} {} {:?}",
            rule.pref, rule.tos, rule.suppress_prefix_len, rule.left
        )
    };
    fib.rules.iter().map(rule).collect()
}

/// All that a snapshot says, in an order that does not depend on how it came to be.
pub fn describe(snapshot: &Snapshot) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for family in Family::ALL {
        let fib = snapshot.fib(family);
        lines.extend(
            show_rules(snapshot, fib)
                .iter()
                .enumerate()
                .map(|(i, rule)| format!("{family:?} {i} {rule}")),
        );
        for (number, table) in &fib.tables {
            for (addr, len, route) in table.iter() {
                let words = show_route(snapshot, route);
                lines.insert(format!(
                    "{family:?} table {number} {}/{len}: {words}",
                    show_addr(family, addr)
                ));
            }
        }
    }
    for iface in snapshot.ifaces.iter().filter(|iface| iface.ifindex != 0) {
        let plain = Iface {
            bridge: None,
            bridge_port: None,
            ..iface.clone()
        };
        lines.insert(format!("{plain:?}"));
        lines.extend(describe_bridge(snapshot, iface));
    }
    for (iface, family, addr, mac) in snapshot.neighbors.iter() {
        let name = snapshot.iface(iface).map(|iface| iface.name.clone());
        lines.insert(format!("neighbor {name:?} {} {mac:?}", show_addr(family, addr)));
    }
    lines.extend(
        snapshot
            .own_v4
            .iter()
            .map(|&addr| format!("own {}", show_addr(Family::V4, addr))),
    );
    lines.insert(format!("multipath policy {:?}", snapshot.multipath_policy));
    lines
}

/// What a link is as a bridge, or as a port of one, and what the bridge learned.
pub fn describe_bridge(snapshot: &Snapshot, iface: &Iface) -> Vec<String> {
    let name = |index| snapshot.iface(index).map_or("?".into(), |iface| iface.name.to_string());
    let mut lines = Vec::new();
    if let Some(port) = &iface.bridge_port {
        let plain = BridgePort {
            bridge: IfaceIndex(0),
            ..(**port).clone()
        };
        lines.push(format!("{} port of {}: {plain:?}", iface.name, name(port.bridge)));
    }
    if let Some(bridge) = &iface.bridge {
        let plain = Bridge {
            fdb: Default::default(),
            ..(**bridge).clone()
        };
        lines.push(format!(
            "{} bridge: vlans {:?} {:#x} nf_call {:?} ageing {} suppress {} left {:?}",
            iface.name,
            plain.vlans,
            plain.vlan_protocol,
            plain.nf_call,
            plain.ageing_time,
            plain.neigh_suppress,
            plain.left
        ));
        lines.extend(bridge.fdb.iter().map(|(mac, vid, entry, _)| {
            let flags = entry.flags.0;
            // Whose a local entry is changes without a word, where several links have the address; nobody decides by it.
            let is_local = entry.flags.any(EntryFlags::LOCAL);
            let port = if is_local { "here".into() } else { name(entry.port) };
            format!("{} fdb {mac:x?} vlan {vid}: {port} flags {flags:#x}", iface.name)
        }));
    }
    lines
}

/// The snapshot of `mirror` must say what a new one says; the differences otherwise.
pub fn assert_as_new(mirror: &mut Mirror, what: &str) {
    settle(mirror);
    let mut live = describe(&mirror.snapshot());
    let end = Instant::now() + Duration::from_secs(20);
    let new = loop {
        let new = describe(&Mirror::open().expect("a second mirror").snapshot());
        settle(mirror);
        let later = describe(&mirror.snapshot());
        if later == live {
            break new;
        }
        // The kernel changed something between the two, a carrier for one, and both must have seen that.
        assert!(Instant::now() < end, "{what}: it goes on changing");
        live = later;
    };
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert!(
        live == new,
        "{what}\nonly live: {:#?}\nonly new: {:#?}",
        only(&live, &new),
        only(&new, &live)
    );
}

/// The main table's number.
pub const MAIN: u32 = 254;
/// The local table's number.
pub const LOCAL: u32 = 255;

/// A link of the snapshot, once all has been taken in.
pub fn iface(mirror: &mut Mirror, name: &str) -> Option<Iface> {
    settle(mirror);
    mirror
        .snapshot()
        .ifaces
        .iter()
        .find(|iface| &*iface.name == name)
        .cloned()
}

/// A route of table main in words, once all has been taken in.
pub fn main_route(mirror: &mut Mirror, prefix: &str) -> String {
    settle(mirror);
    route(&mirror.snapshot(), MAIN, prefix)
}
