//! Random rulesets with NAT: chains of filters at prerouting, forward and postrouting that ask for what is constant in a
//! connection, and chains of NAT of both kinds, by addresses, ports, sets and maps.
//!
//! Fences pass by the first rule of each chain, untranslated.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;

/// Conditions: of links and connections, of the network layer, of the transport layer. P is a port, N a small number, S a
/// subnet's last byte but one.
const ANY: &[&str] = &[
    "ct state new",
    "ct state established",
    "ct state { related, invalid }",
    "ct direction original",
    "ct direction reply",
    "ct status snat",
    "ct status dnat",
    "ct status & (snat | dnat) == 0",
    "ct mark 0",
    "iifname \"d0\"",
    "iif d1",
];
const NETWORK: &[&str] = &[
    "ip saddr 10.100.0.0/16",
    "ip saddr & 0.0.0.3 == 1",
    "ip daddr @hosts",
    "ip daddr != { 10.101.0.0/25, 10.101.0.128-10.101.0.20N }",
    "ip6 daddr & ::3 == ::1",
    "ip6 saddr fd00:101::/32",
    "ct original ip saddr 10.100.0.0/17",
    "ct reply ip daddr 10.0.0.0/8",
    "meta protocol ip",
];
const TRANSPORT: &[&str] = &[
    "meta l4proto tcp ct original proto-dst < P",
    "tcp dport < P",
    "udp dport > P",
    "th dport @ports",
    "th dport != @ports",
    "meta l4proto { tcp, icmp, ipv6-icmp }",
];
/// Where the way out is known.
const LEAVING: &[&str] = &["oifname \"d0\"", "oif d1", "oifname { \"d1\", \"e*\" }"];
/// What a translation may look at, of the packet that begins: of either family, of one, where it has no ports of its own.
const BEGINNING: [&[&str]; 3] = [
    &["", "", "ct state new"],
    &["ip saddr & 0.0.0.1 == 1", "ip daddr @hosts"],
    &["ip6 saddr & ::1 == ::1"],
];
const PORTS: &[&str] = &[
    "",
    "",
    "tcp dport < P",
    "udp dport > P",
    "meta l4proto { tcp, udp } th dport @ports",
    "meta l4proto { tcp, icmp, ipv6-icmp }",
];
const PORTED: &str = "meta l4proto { tcp, udp }";
const TO_SERVERS: &[&str] = &[
    "dnat ip to 10.101.S.7",
    "dnat ip to 10.101.S.10-10.101.S.20",
    "dnat ip to 10.101.S.10-10.101.S.20 persistent",
    "dnat ip6 to fd00:101::7N",
    "dnat ip6 to fd00:101::1-fd00:101::ff",
    "T dnat ip to 10.101.S.7:P",
    "T dnat ip6 to [fd00:101::7]:80",
    "T dnat ip to 10.101.S.8:4000-4900",
    "dnat ip to tcp dport map { 80 : 10.101.S.7 . 8080, 443 : 10.101.S.9 . 443, 8080 : 10.101.S.9 . P }",
    "dnat ip to ip saddr map { 10.100.0.0/25 : 10.101.S.3, 10.100.0.128-10.100.0.200 : 10.101.S.4 }",
    "dnat ip prefix to ip daddr map { 10.101.0.0/24 : 10.101.7.0/24 }",
    "udp dport { 53, 123 } dnat ip to 10.101.S.53",
    "counter accept",
    "return",
];
const TO_CLIENTS: &[&str] = &[
    "dnat ip to 10.100.S.7",
    "dnat ip6 to fd00:100::7N",
    "T th dport { 80, 443 } dnat ip to 10.100.S.8:8080",
];
const FROM_CLIENTS: &[&str] = &[
    "masquerade",
    "masquerade",
    "masquerade R",
    "T masquerade to :20000-60000",
    "T masquerade to :20000-60000 R",
    "snat ip to 10.0.1.200",
    "snat ip to 10.0.1.200-10.0.1.213 R",
    "snat ip6 to fd00:0:0:1::200",
    "snat ip6 to fd00:0:0:1::200-fd00:0:0:1::2ff R",
    "T snat ip to 10.0.1.201:1024-65535",
    "T snat ip6 to [fd00:0:0:1::201]:30000-40000",
    "snat ip prefix to ip saddr map { 10.100.0.0/16 : 10.200.0.0/16 }",
    "snat ip to ip saddr map { 10.100.0.0/25 : 10.0.1.203, 10.100.0.128-10.100.0.200 : 10.0.1.204 }",
    "counter accept",
    "return",
];
const FROM_SERVERS: &[&str] = &["snat ip to 10.0.0.200", "masquerade", "T masquerade to :50000-60000"];

fn pick(random: &mut ChaCha8Rng, all: &[&str]) -> String {
    let text = *all.choose(random).expect("not empty");
    let how = *["random", "fully-random", "persistent", ""]
        .choose(random)
        .expect("one");
    text.replace("T ", &format!("{PORTED} "))
        .replace(" R", &format!(" {how}"))
        .replace('P', &random.random_range(1000..65000).to_string())
        .replace('N', &random.random_range(1..9).to_string())
        .replace(".S.", &format!(".{}.", random.random_range(200..203)))
}

/// A rule of a filter.
fn filter(random: &mut ChaCha8Rng, leaving: bool) -> String {
    let mut words = Vec::new();
    for (list, share) in [
        (ANY, 0.6),
        (NETWORK, 0.5),
        (TRANSPORT, 0.5),
        (LEAVING, if leaving { 0.3 } else { 0.0 }),
    ] {
        if random.random_bool(share) {
            // A port that NAT has drawn is a free choice: no rule looks at one.
            if list == TRANSPORT && !leaving {
                words.push("ct direction original".into());
            }
            words.push(pick(random, list));
        }
    }
    let counts = *["counter", "counter name total"].choose(random).expect("one");
    words.push(counts.to_string());
    let verdict = match random.random_range(0..10) {
        0..2 => "accept",
        2 if words.len() > 3 => "drop",
        _ => "",
    };
    words.push(verdict.to_string());
    words.join(" ")
}

/// A rule of NAT.
fn translation(random: &mut ChaCha8Rng, link: &str, all: &[&str]) -> String {
    let what = pick(random, all);
    let family = match (
        what.contains("ip6 to"),
        what.contains("nat ip to") || what.contains("ip prefix"),
    ) {
        (true, _) => 2,
        (_, true) => 1,
        _ => 0,
    };
    let which = if random.random_bool(0.4) { family } else { 0 };
    let mut condition = pick(random, BEGINNING[which]);
    if !what.contains("l4proto") && !what.contains("dport") {
        condition = format!("{condition} {}", pick(random, PORTS));
    }
    let counter = *["counter", ""].choose(random).expect("one");
    // A verdict of a translation's rule ends it, so the count comes before.
    format!("{link} {condition} {counter} {what}")
}

/// And what the box says by its own clock.
const FENCES: &str = "udp sport 7 udp dport 7 counter accept
 icmpv6 type { mld2-listener-report, mld-listener-report, mld-listener-done, nd-router-solicit } accept
 ip protocol igmp accept";

/// A ruleset; whether ports are drawn in it without a clash, and whether nothing invalid gets far.
pub fn ruleset(random: &mut ChaCha8Rng) -> (String, bool, bool) {
    let mut text = "table inet t {
        counter total { }
        set hosts { type ipv4_addr; flags interval; elements = { 10.101.0.0/26, 10.100.0.5-10.100.0.99 }\n }
        set ports { type inet_service; flags interval; elements = { 80, 443, 8080, 20000-40000 }\n }\n"
        .to_owned();
    let mut chain = |name: &str, kind: &str, rules: Vec<String>| {
        text += &format!(
            "chain {name} {{\n type {kind};\n {FENCES}\n {}\n }}\n",
            rules.join("\n ")
        );
    };
    let filters = |random: &mut ChaCha8Rng, leaving: bool| -> Vec<String> {
        let count = random.random_range(1..5);
        (0..count).map(|_| filter(random, leaving)).collect()
    };
    let strict = random.random_bool(0.4);
    if strict || random.random_bool(0.4) {
        let priority = pick(random, &["-150", "-150", "-50", "10"]);
        let mut rules = filters(random, false);
        if strict {
            rules.insert(0, "ct state invalid counter drop".into());
        }
        chain(
            "pre",
            &format!("filter hook prerouting priority {priority}; policy accept"),
            rules,
        );
    }
    if random.random_bool(0.8) {
        let mut rules = filters(random, true);
        let policy = match random.random_range(0..3) {
            0 => {
                rules.push("ct state established,related accept".into());
                rules.push("iifname \"d0\" counter accept".into());
                rules.push("ct status dnat counter accept".into());
                "drop"
            }
            _ => "accept",
        };
        chain(
            "forward",
            &format!("filter hook forward priority 0; policy {policy}"),
            rules,
        );
    }
    if random.random_bool(0.5) {
        let priority = pick(random, &["-10", "0", "150"]);
        let rules = filters(random, true);
        chain(
            "post",
            &format!("filter hook postrouting priority {priority}; policy accept"),
            rules,
        );
    }
    let translations = |random: &mut ChaCha8Rng, sides: [(&str, &[&str], f64); 2]| -> Vec<String> {
        let mut rules = Vec::new();
        for _ in 0..random.random_range(0..4) {
            for (link, all, share) in sides {
                if random.random_bool(share) {
                    rules.push(translation(random, link, all));
                }
            }
        }
        rules
    };
    let sides: [(&str, &[&str], f64); 2] = [("iifname \"d0\"", TO_SERVERS, 0.8), ("iifname \"d1\"", TO_CLIENTS, 0.3)];
    let dnat = translations(random, sides);
    let sides: [(&str, &[&str], f64); 2] = [
        ("oifname \"d1\"", FROM_CLIENTS, 0.9),
        ("oifname \"d0\"", FROM_SERVERS, 0.2),
    ];
    let snat = translations(random, sides);
    // One of them at least, so that something is translated.
    if !dnat.is_empty() {
        chain("dstnat", "nat hook prerouting priority dstnat; policy accept", dnat);
    }
    chain("srcnat", "nat hook postrouting priority srcnat; policy accept", snat);
    let draws = text.contains("random") || text.contains("to :") || text.contains("]:3") || text.contains(":1024");
    (text + "}", draws, strict)
}
