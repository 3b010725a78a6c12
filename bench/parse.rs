//! What rx and the wire layer cost: parsing, looking for a partial checksum, sums, the TTL step.
//! `cargo bench --no-default-features --bench parse`. The aim for parsing is under 10 ns.

#[path = "setup/frames.rs"]
mod frames;

use bypath::packet::PortIndex;
use bypath::stage::rx;
use bypath::wire::{checksum, ipv4};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use frames::{MAC, frame};
use std::hint::black_box;
use std::ops::ControlFlow::Continue;

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, v6, tcp) in [
        ("v4_udp", false, false),
        ("v4_tcp", false, true),
        ("v6_udp", true, false),
        ("v6_tcp", true, true),
    ] {
        let bytes = frame(v6, tcp, 18);
        group.bench_function(name, |b| {
            b.iter(|| {
                // By reference: a later stage reads fields where rx left them, and a copy would be half of the time.
                black_box(&rx::parse_bytes(black_box(&bytes), PortIndex(0), black_box(&MAC)));
            })
        });
    }
    group.finish();
}

/// The common case: a finished checksum, so nothing to complete; and the rare one.
fn complete(c: &mut Criterion) {
    let mut group = c.benchmark_group("complete_checksum");
    for (name, v6) in [("v4_no_match", false), ("v6_no_match", true)] {
        let mut bytes = frame(v6, true, 18);
        let Continue(parsed) = rx::parse_bytes(&bytes, PortIndex(0), &MAC) else {
            panic!("a right frame is parsed")
        };
        group.bench_function(name, |b| {
            b.iter(|| rx::complete_bytes(black_box(&mut bytes), black_box(&parsed)))
        });
    }
    let mut bytes = frame(false, true, 1446);
    let Continue(parsed) = rx::parse_bytes(&bytes, PortIndex(0), &MAC) else {
        panic!("a right frame is parsed")
    };
    let pseudo = checksum::pseudo_v4(
        parsed.src as u32,
        parsed.dst as u32,
        parsed.proto,
        parsed.end - parsed.l4,
    );
    let partial = checksum::fold(pseudo).to_be_bytes();
    group.bench_function("v4_partial_1500", |b| {
        b.iter(|| {
            bytes[50..52].copy_from_slice(&partial);
            rx::complete_bytes(black_box(&mut bytes), black_box(&parsed))
        })
    });
    group.finish();
}

fn sum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [20, 64, 1500] {
        let bytes = vec![0xa5; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(len.to_string(), |b| b.iter(|| checksum::checksum(black_box(&bytes))));
    }
    group.finish();
}

fn ttl(c: &mut Criterion) {
    let mut bytes = frame(false, false, 18);
    c.bench_function("decrement_ttl", |b| {
        b.iter(|| {
            if let Ok(mut ip) = ipv4::Packet::new_checked(black_box(&mut bytes[14..])) {
                ip.decrement_ttl();
            }
        })
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_millis(1000));
    targets = parse, complete, sum, ttl
}
criterion_main!(benches);
