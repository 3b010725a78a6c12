//! Rules in memory: nanoseconds that a hook's chains take for one packet, compiled as workers run them and by the
//! interpreter, and allocations (none, or it says so and fails). `linear` are so many rules of one kind that the packet does
//! not match, in the form in which nft writes them for a table of family inet; `router` is what a home router has at forward,
//! for the first packet of a connection and for one in its middle. `load` is what 10,000 rules take when they are read.

mod allocations;
mod cpu_time;
#[path = "../tests/box/mod.rs"]
mod lab;
#[path = "setup/rulesets.rs"]
mod rulesets;

use allocations::allocations;
use bypath::table::conntrack::CtState;
use bypath::table::rules::expr::{Expr, Verdict};
use bypath::table::rules::live::Rules;
use bypath::table::rules::program::Ruleset;
use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rulesets::{Hook, linear, router, ruleset};

fn bench(c: &mut Criterion<CpuTime>, name: &str, id: &str, ruleset: Ruleset, state: CtState) {
    let mut hook = Hook::new(ruleset, state);
    let mut group = c.benchmark_group(name);
    group.sample_size(20);
    for compiled in [true, false] {
        let mut allocated = 0;
        hook.run(compiled);
        let by = if compiled { "compiled" } else { "interpreted" };
        group.bench_function(BenchmarkId::new(by, id), |b| {
            let before = allocations();
            b.iter(|| hook.run(compiled));
            allocated += allocations() - before;
        });
        assert_eq!(allocated, 0, "rules allocated");
    }
    group.finish();
}

fn bench_linear(c: &mut Criterion<CpuTime>) {
    for kind in ["saddr", "both", "prefixes", "iif-saddr", "dport", "unlike"] {
        for count in [10, 100, 1_000, 10_000] {
            if count == 1_000 || kind == "saddr" {
                let id = format!("{kind}/{count}");
                bench(c, "linear", &id, linear(kind, count), CtState::NEW);
            }
        }
    }
}

fn bench_router(c: &mut Criterion<CpuTime>) {
    bench(c, "router", "first", router(), CtState::NEW);
    bench(c, "router", "established", router(), CtState::ESTABLISHED);
    bench(
        c,
        "router",
        "accept",
        ruleset(vec![vec![Expr::Verdict(Verdict::Accept)]]),
        CtState::NEW,
    );
}

fn bench_load(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("load");
    group.sample_size(10);
    for kind in ["saddr", "prefixes", "iif-saddr", "unlike"] {
        let ruleset = linear(kind, 10_000);
        group.bench_function(BenchmarkId::new(kind, 10_000), |b| {
            b.iter(|| Rules::new(ruleset.clone(), None, 0));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = bench_linear, bench_router, bench_load
}
criterion_main!(benches);
