//! The twin over random rulesets at forward, with random connections: the same packets come out, and every counter counts in
//! both labs the same.
//!
//! | variable | default | what |
//! |---|---|---|
//! | BYPATH_TWIN_RULES_CONFIGS | 12 | rulesets |
//! | BYPATH_TWIN_RULES_PACKETS | 36000 | packets over all of them |
//! | BYPATH_TWIN_RULES_EACH | 0 | 1: compares tables and counters after each round, to find out which packets made a difference |
//! | BYPATH_TWIN_SEED | 1 | the seed of the first ruleset; the others follow. Printed; replays with CONFIGS=1 |
//!
//! Every other ruleset has rules that are the kernel's: seeds divisible by four log, mark and set priorities; of the other even
//! ones every other rejects, also with resets, and every other limits and rejects without (a reset behind a log is a limitation,
//! see docs/LIMITATIONS.md). Of those of odd seeds nearly all must be forwarded.

use crate::generator::Connections;
use crate::lab::bypath::Totals;
use crate::lab::conntrack::Free;
use crate::lab::env::number;
use crate::lab::report::summary;
use crate::lab::twin::{Mode, Outcome, Setup, Share, Twin};
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

const CHAINS: usize = 4;
const CONNECTIONS: usize = 120;
const AT_ONCE: usize = 48;
/// What must be forwarded of all that the kernel sends, where no rule is the kernel's.
const SHARE_LEAST: f64 = 0.8;

/// Conditions: of links and connections, of the network layer, of the transport layer. P is a port, N a small number.
const ANY: &[&str] = &[
    "ct state new",
    "ct state established",
    "ct state { related, invalid }",
    "ct direction original",
    "ct direction reply ct state established",
    "ct status assured",
    "ct status & seen-reply == 0",
    "ct mark 0",
    "ct state != invalid",
    "meta length > N00",
    "meta length 28-N00",
    "iifname \"d0\"",
    "oifname { \"d0\", \"e*\" }",
    "iif d1",
    "meta pkttype host",
    "meta protocol ip",
];
const NETWORK: &[&str] = &[
    "ip saddr 10.100.0.0/16",
    "ip saddr & 0.0.0.3 == 1",
    "ip daddr != { 10.101.0.0/25, 10.101.1.1-10.101.1.N }",
    "ip daddr @hosts",
    "ip6 daddr & ::3 == ::1",
    "ip6 saddr fd00:101::/32",
    "ip ttl 63",
    "ip6 hoplimit < 64",
    "ip dscp cs0",
    "ip length & 1 == 1",
    "ct original ip saddr 10.100.0.0/17",
    "@nh,64,8 6N",
];
const TRANSPORT: &[&str] = &[
    "tcp dport < P",
    "tcp sport P-65535",
    "udp dport > P",
    "udp length > N0",
    "th dport { 0-1000, P, 60000-60500 }",
    "th sport != @ports",
    "tcp flags syn",
    "tcp flags & (syn | ack) == syn",
    "tcp flags { fin | ack, ack }",
    "tcp option maxseg size > 1000",
    "tcp window > N000",
    "meta l4proto { tcp, icmp, ipv6-icmp }",
    "@th,0,16 > P",
];
const STATEMENTS: &[&str] = &["counter", "counter name total", "counter"];
const KERNELS: &[&str] = &[
    "log prefix \"x\" ",
    "meta mark set N ",
    "meta priority set 1:N ",
    "ip dscp set N ",
    "meta priority 0 ",
];
const LIMITS: &[&str] = &[
    "limit rate 1/day burst N packets ",
    "limit rate over 1/day burst N0 packets ",
    "quota N000 bytes ",
    "log prefix \"x\" ",
];
const REJECTS: &[&str] = &[
    "reject",
    "reject with icmpx admin-prohibited",
    "reject with icmpx host-unreachable",
];
const RESETS: &[&str] = &["reject with tcp reset", "reject"];

/// What of a ruleset is the kernel's.
#[derive(Clone, Copy)]
struct Kernels {
    statements: &'static [&'static str],
    verdicts: &'static [&'static str],
}

impl Kernels {
    fn of(seed: u64) -> Option<Self> {
        let of = |statements, verdicts| Some(Kernels { statements, verdicts });
        match seed % 8 {
            0 | 4 => of(KERNELS, &[]),
            2 => of(&[], RESETS),
            6 => of(LIMITS, REJECTS),
            _ => None,
        }
    }

    /// One rule in ten may say no.
    fn verdict(self, random: &mut ChaCha8Rng) -> Option<&'static str> {
        let verdict = self.verdicts.choose(random).copied()?;
        random.random_bool(0.1).then_some(verdict)
    }
}

fn pick(random: &mut ChaCha8Rng, all: &[&str]) -> String {
    let text = *all.choose(random).expect("not empty");
    text.replace('P', &random.random_range(1000..65000).to_string())
        .replace('N', &random.random_range(1..9).to_string())
}

fn rule(random: &mut ChaCha8Rng, chain: usize, kernels: Option<Kernels>) -> String {
    let mut words = Vec::new();
    let verdict = kernels.and_then(|kernels| kernels.verdict(random));
    if verdict == Some("reject with tcp reset") {
        // What resets what is invalid is a limitation (docs/LIMITATIONS.md).
        return "ct state != invalid meta l4proto tcp counter reject with tcp reset".into();
    }
    for (list, share) in [(ANY, 0.6), (NETWORK, 0.4), (TRANSPORT, 0.5)] {
        if random.random_bool(share) {
            words.push(pick(random, list));
        }
    }
    words.push(pick(random, STATEMENTS));
    if let Some(kernels) = kernels
        && !kernels.statements.is_empty()
        && random.random_bool(0.1)
    {
        let statement = pick(random, kernels.statements);
        // nft takes no rule for a header of IPv4 in a packet of IPv6.
        let is_ipv6 = words.iter().any(|word| word.contains("ip6"));
        if !(is_ipv6 && statement.starts_with("ip ")) {
            words.push(statement);
        }
    }
    let verdict = match random.random_range(0..10) {
        0..3 if chain + 1 < CHAINS => {
            let word = ["jump", "jump", "goto"].choose(random).expect("one");
            format!("{word} c{}", random.random_range(chain + 1..CHAINS))
        }
        3 => "return".into(),
        4 => "accept".into(),
        6 => verdict.unwrap_or_default().into(),
        5 if words.len() > 2 => "drop".into(),
        _ => String::new(),
    };
    words.push(verdict);
    words.join(" ")
}

/// Fences pass by the first rule.
fn ruleset(random: &mut ChaCha8Rng, kernels: Option<Kernels>) -> String {
    let mut text = "table inet t {
        counter total { }
        set hosts { type ipv4_addr; flags interval; elements = { 10.101.0.0/26, 10.100.0.5-10.100.0.99 }\n }
        set ports { type inet_service; flags interval; elements = { 80, 20000-40000 }\n }\n"
        .to_owned();
    for chain in (0..CHAINS).rev() {
        text += &format!("chain c{chain} {{\n");
        if chain == 0 {
            let policy = pick(random, &["accept", "accept", "drop"]);
            text += &format!("type filter hook forward priority 0; policy {policy};\n counter\n");
            text += "udp sport 7 udp dport 7 counter accept\n";
            text += pick(
                random,
                &["ct state established accept\n", "ct state invalid drop\n", "\n"],
            )
            .as_str();
        }
        for _ in 0..random.random_range(3..9) {
            text += &rule(random, chain, kernels);
            text.push('\n');
        }
        text += "}\n";
    }
    text + "}"
}

#[test]
fn random_rules() {
    let configs = number("BYPATH_TWIN_RULES_CONFIGS", 12);
    let packets = number("BYPATH_TWIN_RULES_PACKETS", 36_000).div_ceil(configs);
    let first = number("BYPATH_TWIN_SEED", 1);
    let (mut injected, mut sent, mut forwarded, mut counters) = (0, 0, 0, 0);
    let mut punted: BTreeMap<String, u64> = BTreeMap::new();
    for seed in first..first + configs {
        let kernels = Kernels::of(seed);
        let (outcome, counted) = run(seed, packets, kernels);
        injected += outcome.injected;
        counters += counted;
        if kernels.is_none() {
            sent += outcome.sent;
            forwarded += outcome.totals.forwarded;
        }
        for (reason, count) in outcome.totals.punted {
            *punted.entry(reason).or_default() += count;
        }
    }
    let share = forwarded as f64 / (sent as f64).max(1.0);
    println!(
        "twin rules-random: {injected} packets, {configs} rulesets (seeds from {first}), 0 divergences, {counters} counters \
         equal, {:.1} % forwarded by bypath where no rule is the kernel's; punted: {}",
        share * 100.0,
        Totals::list(&punted)
    );
    assert!(
        Mode::from_env() == Mode::Kernel || sent == 0 || share >= SHARE_LEAST,
        "{share:.3} forwarded, {SHARE_LEAST} wanted"
    );
}

fn run(seed: u64, packets: u64, kernels: Option<Kernels>) -> (Outcome, usize) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut setup = Setup::tracked(&format!("rules-random-{seed}"), 2, &ruleset(&mut random, kernels));
    setup.seed = Some(seed);
    if seed % 3 == 1 {
        setup.arguments = ["--workers", "2"].map(str::to_owned).into();
    }
    let mut twin = Twin::start(setup);
    twin.hand_over();
    let mut connections = Connections::random(&mut random, CONNECTIONS, false);
    let each = number("BYPATH_TWIN_RULES_EACH", 0) == 1;
    let mut left = packets as i64;
    while left > 0 {
        let frames = connections.round(&mut random, AT_ONCE);
        for (port, frames) in frames.iter().enumerate() {
            left -= frames.len() as i64;
            twin.inject(port, frames);
            twin.fence(port);
        }
        if each {
            // What the last round sent is printed by a test that fails.
            for (port, frames) in frames.iter().enumerate() {
                println!("round, port {port}:");
                frames.iter().for_each(|frame| println!("  {}", summary(frame)));
            }
            twin.compare_tables("round", Free::default());
            twin.compare_counters();
        }
    }
    twin.compare_tables("after all", Free::default());
    let counted = twin.compare_counters();
    (twin.finish(Share::AtLeast(0.0)), counted)
}
