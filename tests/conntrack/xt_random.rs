//! The twin over random rulesets of iptables-nft, with random connections: the same packets come out, and every counter, those
//! of policies too, counts in both labs the same.
//!
//! | variable | default | what |
//! |---|---|---|
//! | BYPATH_TWIN_XT_CONFIGS | 8 | rulesets, each of both families |
//! | BYPATH_TWIN_XT_PACKETS | 24000 | packets over all of them |
//! | BYPATH_TWIN_SEED | 1 | the seed of the first ruleset; the others follow. Printed; replays with CONFIGS=1 |
//!
//! One ruleset in four has rules that are the kernel's; of the others nearly all must be forwarded.

use crate::generator::Connections;
use crate::lab::conntrack::Free;
use crate::lab::env::number;
use crate::lab::plan;
use crate::lab::twin::{Fence, Mode, Outcome, Setup, Share, Twin};
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const CHAINS: usize = 4;
const CONNECTIONS: usize = 120;
const AT_ONCE: usize = 48;
/// What must be forwarded of all that the kernel sends, where no rule is the kernel's.
const SHARE_LEAST: f64 = 0.8;

/// Conditions: of connections, of the packet, of the transport layer; `4` of IPv4 alone, `6` of IPv6. %p is a port, %n a
/// small number.
const CONNECTION: &[&str] = &[
    "-m conntrack --ctstate NEW",
    "-m conntrack ! --ctstate NEW,INVALID",
    "-m conntrack --ctstate RELATED,INVALID",
    "-m conntrack --ctdir REPLY",
    "-m conntrack --ctproto tcp",
    "-m conntrack ! --ctproto 17 --ctdir ORIGINAL",
    "-m conntrack --ctstatus SEEN_REPLY",
    "-m conntrack ! --ctstatus CONFIRMED",
    "-m conntrack --ctproto tcp --ctorigdstport 0:%p",
    "-m conntrack --ctproto udp ! --ctreplsrcport %p:65535",
    "4 -m conntrack --ctorigsrc 10.100.0.0/25",
    "6 -m conntrack ! --ctrepldst fd00:100::/126",
    "-m state --state ESTABLISHED",
    "-m connmark --mark 0",
];
const PACKET: &[&str] = &[
    "-m length --length %n0:%n00",
    "-m length ! --length 0:%n0",
    "-m addrtype --dst-type UNICAST",
    "-m addrtype ! --src-type LOCAL",
    "-m mark --mark %n/0xf",
    "-m mark ! --mark 0/%n",
    "-m physdev ! --physdev-is-bridged",
    "-m pkttype --pkt-type unicast",
    "-m dscp --dscp 0",
    "-m tos ! --tos %n0/0xff",
    "-m mac ! --mac-source 02:00:00:00:00:0%n",
    "-i d0",
    "! -o d0",
    "4 -m ttl --ttl-gt 6%n",
    "6 -m hl --hl-lt 64",
    "4 -m iprange --src-range 10.100.0.1-10.101.0.%n",
    "6 -m iprange ! --dst-range fd00:100::1-fd00:100::9",
    "4 -s 10.100.0.0/16",
    "6 -d fd00:101::/32",
];
const TRANSPORT: &[&str] = &[
    "-p tcp -m tcp --syn",
    "-p tcp -m tcp ! --syn --dport 0:%p",
    "-p tcp -m tcp --tcp-flags SYN,ACK,FIN ACK",
    "-p tcp -m tcp --tcp-option 2",
    "-p tcp -m tcp ! --tcp-option %n --sport %p:65535",
    "-p tcp -m tcpmss --mss %n00:1460",
    "-p tcp -m multiport --dports 80,%p,100:900",
    "-p udp -m udp ! --dport 0:%p",
    "-p udp -m multiport ! --ports %p,0:%n000",
    "4 -p icmp -m icmp --icmp-type echo-request",
    "4 -p icmp -m icmp ! --icmp-type 3",
    "6 -p ipv6-icmp -m icmp6 --icmpv6-type echo-reply",
];
const TARGETS: &[&str] = &[
    "-j MARK --set-xmark %n/0xf",
    "-j MARK --or-mark %n",
    "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss %n00",
];
const KERNELS: &[&str] = &[
    "-j LOG --log-prefix x",
    "-m recent --set",
    "-j REJECT",
    "-m conntrack --ctstatus ASSURED",
];

/// One of these for a family, if the one that is drawn is of it.
fn pick(random: &mut ChaCha8Rng, all: &[&str], family: &str) -> String {
    let text = *all.choose(random).expect("not empty");
    let text = match text.split_once(' ') {
        Some((of, text)) if of == family => text,
        Some(("4" | "6", _)) => "",
        _ => text,
    };
    text.replace("%p", &random.random_range(1000..65000).to_string())
        .replace("%n", &random.random_range(1..9).to_string())
}

fn rule(random: &mut ChaCha8Rng, chain: usize, family: &str, kernels: bool) -> String {
    let mut words = Vec::new();
    for (list, share) in [(CONNECTION, 0.5), (PACKET, 0.5), (TRANSPORT, 0.5)] {
        if random.random_bool(share) {
            words.push(pick(random, list, family));
        }
    }
    let has_protocol = words.iter().any(|word| word.contains("-p "));
    let verdict = match random.random_range(0..12) {
        0..3 if chain + 1 < CHAINS => {
            let how = *["-j", "-j", "-g"].choose(random).expect("one");
            format!("{how} c{}", random.random_range(chain + 1..CHAINS))
        }
        3 => "-j RETURN".into(),
        4 if words.len() > 1 => "-j ACCEPT".into(),
        5 if words.len() > 1 => "-j DROP".into(),
        6 | 7 => pick(random, TARGETS, family),
        8 if kernels => pick(random, KERNELS, family),
        _ => String::new(),
    };
    if !(has_protocol && verdict.contains("-p ")) {
        words.push(verdict);
    }
    words.join(" ")
}

/// Fences pass by the first rule.
fn table(random: &mut ChaCha8Rng, family: &str, kernels: bool) -> String {
    let policy = ["ACCEPT", "ACCEPT", "DROP"].choose(random).expect("one");
    let mut text = format!("*filter\n:FORWARD {policy} [0:0]\n:c1 - [0:0]\n:c2 - [0:0]\n:c3 - [0:0]\n");
    text += "-A FORWARD -p udp -m udp --sport 7 --dport 7 -j ACCEPT\n";
    let first = [
        "-m conntrack --ctstate ESTABLISHED -j ACCEPT",
        "-m conntrack --ctstate INVALID -j DROP",
        "-m state --state NEW",
    ];
    text += &format!("-A FORWARD {}\n", first.choose(random).expect("one"));
    for chain in 0..CHAINS {
        let name = if chain == 0 {
            "FORWARD".to_owned()
        } else {
            format!("c{chain}")
        };
        for _ in 0..random.random_range(3..9) {
            text += &format!("-A {name} {}\n", rule(random, chain, family, kernels));
        }
    }
    text + "COMMIT\n"
}

#[test]
fn random_rules_of_iptables() {
    let configs = number("BYPATH_TWIN_XT_CONFIGS", 8);
    let packets = number("BYPATH_TWIN_XT_PACKETS", 24_000).div_ceil(configs);
    let first = number("BYPATH_TWIN_SEED", 1);
    let (mut injected, mut sent, mut forwarded, mut counters) = (0, 0, 0, 0);
    for seed in first..first + configs {
        let kernels = seed.is_multiple_of(4);
        let (outcome, counted) = run(seed, packets, kernels);
        injected += outcome.injected;
        counters += counted;
        if !kernels {
            sent += outcome.sent;
            forwarded += outcome.totals.forwarded;
        }
    }
    let share = forwarded as f64 / (sent as f64).max(1.0);
    println!(
        "twin xt-random: {injected} packets, {configs} rulesets (seeds from {first}), 0 divergences, {counters} counters \
         equal, {:.1} % forwarded by bypath where no rule is the kernel's",
        share * 100.0
    );
    assert!(
        Mode::from_env() == Mode::Kernel || sent == 0 || share >= SHARE_LEAST,
        "{share:.3} forwarded, {SHARE_LEAST} wanted"
    );
}

fn run(seed: u64, packets: u64, kernels: bool) -> (Outcome, usize) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let four = format!("iptables-nft-restore {}", table(&mut random, "4", kernels));
    let six = format!("ip6tables-nft-restore {}", table(&mut random, "6", kernels));
    let mut twin = Twin::start(Setup {
        filters: true,
        fence: Fence::V4,
        seed: Some(seed),
        ..Setup::new(&format!("xt-random-{seed}"), 2, plan::config_with(2, &[&four, &six]))
    });
    twin.hand_over();
    let mut connections = Connections::random(&mut random, CONNECTIONS, false);
    let mut left = packets as i64;
    while left > 0 {
        let frames = connections.round(&mut random, AT_ONCE);
        for (port, frames) in frames.iter().enumerate() {
            left -= frames.len() as i64;
            twin.inject(port, frames);
            twin.fence(port);
        }
    }
    twin.compare_tables("after all", Free::default());
    let counted = twin.compare_counters();
    (twin.finish(Share::AtLeast(0.0)), counted)
}
