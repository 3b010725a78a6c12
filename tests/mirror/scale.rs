//! A full Internet table, and how fast changes of it are taken in. Only with BYPATH_SCALE=1.

use super::lab::*;
use bypath::mirror::Mirror;
use bypath::packet::Family;

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
