//! A full Internet table, and how fast changes of it are taken in. Only with BYPATH_SCALE=1.

use super::lab::*;
use bypath::mirror::Mirror;
use bypath::packet::Family;

/// One million IPv4 and 200,000 IPv6 routes, and 10,000 changes a second. Takes a minute: only with BYPATH_SCALE=1.
#[test]
fn a_full_table_and_ten_thousand_changes_a_second() {
    if std::env::var_os("BYPATH_SCALE").is_none() {
        eprintln!("SKIPPED a_full_table: BYPATH_SCALE=1 runs it");
        return;
    }
    namespace(|| {
        use std::fmt::Write;
        router();
        let mut lines = String::new();
        for i in 0..1_000_000u32 {
            let net = std::net::Ipv4Addr::from_bits(0x1400_0000 + (i * 64));
            let _ = writeln!(lines, "route add {net}/26 via 10.0.{}.{}", i & 1, 5 + i % 7);
        }
        for i in 0..200_000u32 {
            let net = std::net::Ipv6Addr::from_bits(0x2a00_u128 << 112 | u128::from(i) << 64);
            let side = if i & 1 == 0 { "::" } else { ":1::" };
            let _ = writeln!(lines, "route add {net}/64 via 2001:db8{side}{:x}", 5 + i % 7);
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
            let net = std::net::Ipv4Addr::from_bits(0x1400_0000 + (i * 7 * 64));
            let _ = writeln!(lines, "route replace {net}/26 via 10.0.{}.{}", i & 1, 20 + i % 7);
        }
        let start = std::time::Instant::now();
        let mut child = feed(lines);
        let (mut spent, mut longest, mut calls) = (std::time::Duration::ZERO, std::time::Duration::ZERO, 0);
        while child.try_wait().unwrap().is_none() {
            let turn = std::time::Instant::now();
            mirror.process().unwrap();
            let _ = mirror.snapshot();
            spent += turn.elapsed();
            longest = longest.max(turn.elapsed());
            calls += 1;
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        settle(&mut mirror);
        eprintln!(
            "100,000 changes in {:?}: {spent:?} of processing in {calls} calls, the longest {longest:?}",
            start.elapsed()
        );
        assert_eq!(main_route(&mut mirror, "20.0.0.0/26"), "via 10.0.0.20 dev d0");
        assert!(
            spent < std::time::Duration::from_secs(5),
            "more than half a core at 10,000 changes a second"
        );

        let start = std::time::Instant::now();
        ip("link set d1 down");
        let mut longest = std::time::Duration::ZERO;
        while !mirror.is_settled() || start.elapsed() < std::time::Duration::from_millis(50) {
            let turn = std::time::Instant::now();
            mirror.process().unwrap();
            let _ = mirror.snapshot();
            longest = longest.max(turn.elapsed());
        }
        eprintln!(
            "half the table flushed silently: seen after {:?}, the longest call {longest:?}",
            start.elapsed()
        );
        assert_eq!(main_route(&mut mirror, "20.0.0.64/26"), "-");
        assert_as_new(&mut mirror, "after all");
    });
}

/// A bridge is told 300,000 addresses: as many as there is room for are known, the others are counted; what changes routes goes
/// on, and none is read anew. Then all go at once.
#[test]
fn a_flood_of_addresses() {
    use std::time::{Duration, Instant};
    if std::env::var_os("BYPATH_SCALE").is_none() {
        eprintln!("SKIPPED a_flood_of_addresses: BYPATH_SCALE=1 runs it");
        return;
    }
    namespace(|| {
        router();
        ip("link add br0 type bridge");
        ip("link set d1 master br0");
        ip("link set br0 up");
        let mut mirror = Mirror::open().unwrap();
        settle(&mut mirror);
        let follow = |mirror: &mut Mirror, mut child: std::process::Child, what: &str| {
            let (start, mut longest) = (Instant::now(), Duration::ZERO);
            let mut ended = false;
            while !ended {
                ended = child.try_wait().unwrap().is_some();
                loop {
                    let turn = Instant::now();
                    let changed = mirror.process().unwrap();
                    assert!(!changed.routes && !changed.neighbors, "{changed:?}");
                    let _ = mirror.snapshot();
                    longest = longest.max(turn.elapsed());
                    if !changed.more {
                        break;
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            eprintln!("{what} in {:?}, the longest turn {longest:?}", start.elapsed());
        };
        let line = |n: u32| {
            let [_, a, b, c] = n.to_be_bytes();
            format!("fdb replace 02:00:02:{a:02x}:{b:02x}:{c:02x} dev d1 master static\n")
        };
        let child = feed_bridge((0..300_000).map(line).collect());
        follow(&mut mirror, child, "300,000 addresses");
        settle(&mut mirror);
        let snapshot = mirror.snapshot();
        let bridge = snapshot.ifaces.iter().find_map(|iface| iface.bridge.clone()).unwrap();
        assert_eq!(bridge.fdb.capacity(), 1 << 18);
        assert!(
            bridge.fdb.len() > 250_000 && bridge.fdb.refused() > 30_000,
            "{} {}",
            bridge.fdb.len(),
            bridge.fdb.refused()
        );
        let start = Instant::now();
        let new = Mirror::open().unwrap();
        eprintln!("a new mirror reads all of it in {:?}", start.elapsed());
        drop(new);
        let child = feed_bridge("fdb flush dev br0 static\n".into());
        follow(&mut mirror, child, "a flush");
        settle(&mut mirror);
        assert!(bridge.fdb.len() < 10);
        assert_eq!(main_route(&mut mirror, "10.0.0.0/24"), "dev d0");
    });
}
