//! The twin over seeded random connections, under random rulesets of the carried shape and random switches.
//!
//! | variable | default | what |
//! |---|---|---|
//! | BYPATH_TWIN_CONNTRACK_CONFIGS | 16 | configurations |
//! | BYPATH_TWIN_CONNTRACK_PACKETS | 64000 | packets over all configurations |
//! | BYPATH_TWIN_SEED | 1 | the seed of the first configuration; the others follow. Printed; replays with CONFIGS=1 |
//!
//! Even seeds have packets among the others that go by the kernel (options, spent hop limits, fragments of datagrams), and
//! between them and the kernel's own words both tables must stay the same.

use crate::generator::Connections;
use crate::lab::bypath::Totals;
use crate::lab::conntrack::Free;
use crate::lab::env::number;
use crate::lab::setup::seeded_arguments;
use crate::lab::twin::{Mode, Setup, Share, Twin};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::Instant;

/// Tables are compared so often in each configuration; between two a switch may change.
const PARTS: usize = 4;
/// Connections of a configuration.
const CONNECTIONS: usize = 160;
/// Connections that send in a round.
const AT_ONCE: usize = 48;
/// What must be forwarded of all packets.
const SHARE_LEAST: f64 = 0.7;

#[test]
fn random_connections() {
    let configs = number("BYPATH_TWIN_CONNTRACK_CONFIGS", 16);
    let packets = number("BYPATH_TWIN_CONNTRACK_PACKETS", 64_000).div_ceil(configs);
    let seed = number("BYPATH_TWIN_SEED", 1);
    println!(
        "twin conntrack-random: {:?}, {configs} configurations of {packets} packets, seeds from {seed}",
        Mode::from_env()
    );
    let since = Instant::now();
    let (mut injected, mut sent, mut forwarded) = (0, 0, 0);
    let mut punted: BTreeMap<String, u64> = BTreeMap::new();
    for seed in (seed..).take(configs as usize) {
        let outcome = run(seed, packets);
        injected += outcome.injected;
        sent += outcome.sent;
        forwarded += outcome.totals.forwarded;
        for (reason, count) in outcome.totals.punted {
            *punted.entry(reason).or_default() += count;
        }
    }
    // A packet that a rule drops is nobody's to forward.
    let share = forwarded as f64 / sent as f64;
    println!(
        "twin conntrack-random: {injected} packets, {sent} sent by the kernel, {configs} configurations (seeds from {seed}), 0 \
         divergences, {:.1} % of those forwarded by bypath; punted: {}; {:.0} s",
        share * 100.0,
        Totals::list(&punted),
        since.elapsed().as_secs_f64()
    );
    assert!(
        Mode::from_env() == Mode::Kernel || share >= SHARE_LEAST,
        "{share:.3} forwarded, {SHARE_LEAST} wanted"
    );
}

fn run(seed: u64, packets: u64) -> crate::lab::twin::Outcome {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let ruleset = ruleset(&mut random);
    let lines = switches(&mut random);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut setup = Setup::tracked(&format!("conntrack-random-{seed}"), 2, &ruleset).with(&lines);
    setup.seed = Some(seed);
    setup.arguments = seeded_arguments(seed);
    let mut twin = Twin::start(setup);
    // Every other configuration has packets that go by the kernel, and then the kernel's words about some connections.
    let mixed = seed.is_multiple_of(2);
    if mixed {
        twin.hand_over();
    }
    let mut connections = Connections::random(&mut random, CONNECTIONS, mixed);
    for part in 0..PARTS {
        let mut left = packets as i64 / PARTS as i64;
        while left > 0 {
            let frames = connections.round(&mut random, AT_ONCE);
            for (port, frames) in frames.iter().enumerate() {
                left -= frames.len() as i64;
                twin.inject(port, frames);
                twin.fence(port);
            }
        }
        twin.compare_tables(&format!("part {part}"), Free::default());
        if random.random_bool(0.5) {
            let line = one_switch(&mut random);
            twin.change(&[&line]);
        }
    }
    twin.finish(Share::AtLeast(0.0))
}

fn pick<'a>(random: &mut ChaCha8Rng, all: &[&'a str]) -> &'a str {
    all[random.random_range(0..all.len())]
}

/// Chains of the carried shape that let fences begin at d0 and be answered.
fn ruleset(random: &mut ChaCha8Rng) -> String {
    let families = pick(random, &["inet", "inet", "inet", "both"]);
    let tables: &[&str] = if families == "both" { &["ip", "ip6"] } else { &["inet"] };
    let mut text = String::new();
    for family in tables {
        text += &format!("table {family} fw {{\n chain forward {{\n type filter hook forward priority 0; ");
        text += &format!("policy {};\n", pick(random, &["drop", "drop", "accept"]));
        let invalid = pick(
            random,
            &[
                "ct state invalid drop\n",
                "ct state invalid drop\n",
                "ct state invalid accept\n",
                "",
            ],
        );
        let related = pick(
            random,
            &["", "", "ct state related drop\n", "ct state related accept\n"],
        );
        let known = pick(
            random,
            &["ct state established accept\n", "ct state established,related accept\n"],
        );
        let fresh = pick(
            random,
            &[
                "iifname \"d0\" accept\n",
                "oifname \"d1\" ct state new accept\n",
                "iif \"d0\" accept\n",
            ],
        );
        let others = pick(
            random,
            &[
                "",
                "iifname \"d1\" ct state new drop\n",
                "iifname \"d*\" accept\n",
                "ct state != new accept\n",
            ],
        );
        text += &[invalid, related, known, fresh, others].concat();
        text += "}\n}\n";
    }
    if random.random_bool(0.3) {
        let rule = pick(
            random,
            &[
                "ct state invalid drop",
                "iifname \"d9\" drop",
                "ct state untracked drop",
            ],
        );
        text += &format!(
            "table inet more {{\n chain late {{\n type filter hook forward priority 10; policy accept;\n {rule}\n }}\n}}\n"
        );
    }
    text
}

/// Timeouts are long: what ends while packets come is a matter of milliseconds.
fn switches(random: &mut ChaCha8Rng) -> Vec<String> {
    let long = [
        "tcp_timeout_close",
        "tcp_timeout_last_ack",
        "tcp_timeout_syn_recv",
        "sctp_timeout_closed",
        "sctp_timeout_cookie_wait",
        "sctp_timeout_cookie_echoed",
        "sctp_timeout_shutdown_sent",
        "sctp_timeout_shutdown_recd",
        "sctp_timeout_shutdown_ack_sent",
        "udp_timeout",
        "icmp_timeout",
        "icmpv6_timeout",
    ];
    let mut lines: Vec<String> = long
        .iter()
        .map(|name| {
            format!(
                "sysctl net.netfilter.nf_conntrack_{name}={}",
                random.random_range(90..200)
            )
        })
        .collect();
    lines.extend((0..random.random_range(0..6)).map(|_| one_switch(random)));
    // From the start on: a connection counts if it was born so.
    lines.extend(
        random
            .random_bool(0.2)
            .then(|| "sysctl net.netfilter.nf_conntrack_acct=1".to_string()),
    );
    lines
}

fn one_switch(random: &mut ChaCha8Rng) -> String {
    let (name, value) = match random.random_range(0..8) {
        0 => ("tcp_loose", random.random_range(0..2)),
        1 => ("tcp_be_liberal", random.random_range(0..2)),
        2 => ("tcp_ignore_invalid_rst", random.random_range(0..2)),
        3 => ("tcp_max_retrans", random.random_range(1..6)),
        4 => ("checksum", random.random_range(0..2)),
        5 => ("tcp_timeout_established", random.random_range(200..500_000)),
        6 => ("tcp_timeout_unacknowledged", random.random_range(100..400)),
        _ => ("tcp_timeout_max_retrans", random.random_range(100..400)),
    };
    format!("sysctl net.netfilter.nf_conntrack_{name}={value}")
}
