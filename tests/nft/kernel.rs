//! The interpreter against the kernel: random rulesets at prerouting of the loopback, random packets, and every counter,
//! quota and counted element must be what the kernel says afterwards.
//!
//! Packets are sent by a packet socket, one after the other on one processor, so that expressions with a memory see them in
//! one order. Limits have a rate so low that only their burst counts. BYPATH_NFT_RULESETS says how many rulesets, BYPATH_SEED where
//! to begin.

use super::env::number;
use super::netns::{FrameSocket, ifindex, isolated, sh};
use super::{load, read};
use bypath::table::rules::expr::{Base, ChecksumFix, Expr, Stateful};
use bypath::table::rules::interpret::{Interpreter, Outcome};
use bypath::table::rules::keys::{CtKey, MetaKey};
use bypath::table::rules::packet::{Answer, Fact, Packet};
use bypath::table::rules::program::{Chain, NFPROTO_IPV4, ObjectKind, Ruleset, SetId};
use bypath::table::rules::state::{Cell, State};
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use std::time::{Duration, Instant};

const RULESETS: u64 = 25;
const PACKETS: usize = 300;
const CHAINS: usize = 4;

/// Conditions; H is a host's last byte, P a port, N a small number.
const CONDITIONS: &[&str] = &[
    "ip saddr 10.0.0.H",
    "ip saddr != 10.0.0.H",
    "ip saddr < 10.0.0.H",
    "ip saddr { 10.0.0.1, 10.0.0.4-10.0.0.6 }",
    "ip saddr 10.0.0.0/30",
    "ip daddr != { 10.0.1.2, 10.0.1.H }",
    "ip daddr & 0.0.0.3 == 1",
    "tcp dport P",
    "udp sport > P",
    "th dport { 1000-1003, P }",
    "th sport != 1002-1005",
    "meta l4proto { tcp, udp }",
    "ip protocol != icmp",
    "ip saddr . ip daddr { 10.0.0.1 . 10.0.1.1, 10.0.0.2 . 10.0.1.0/30, 10.0.0.4-10.0.0.7 . 10.0.1.H }",
    "ip saddr . th dport @pairs",
    "ip saddr . ip daddr . th dport { 10.0.0.1 . 10.0.1.H . P, 10.0.0.H . 10.0.1.3 . 1001 }",
    "ip daddr @hosts",
    "ip daddr != @hosts",
    "ip saddr @counted",
    "meta length 20-50",
    "ip length & 1 == 1",
    "ip ttl > 100",
    "ip dscp { cs0, cs1, af11 }",
    "ip frag-off & 0x1fff != 0",
    "tcp flags & (syn | ack) == syn",
    "tcp flags { syn, ack }",
    "tcp option maxseg size > 600",
    "tcp option sack-perm exists",
    "tcp option maxseg missing",
    "@nh,64,8 > 50",
    "@th,8,8 0xeN",
    "@th,64,32 != 0",
    "@th,32,64 != 0",
    "meta mark & 0x3 == 1",
    "meta mark > N",
    "meta iifname \"lo\"",
    "meta iif lo",
    "meta protocol ip",
    "meta nfproto ipv4",
    "icmp type echo-request",
    "numgen inc mod 3 < 2",
    "jhash ip saddr . ip daddr mod 8 seed 0x5 < 4",
    "jhash ip saddr mod 5 seed 0xN offset 2 > 4",
    "quota 2N00 bytes",
    "quota over 1N00 bytes",
    "limit rate 1/week burst 9 packets",
    "limit rate over 1/week burst N packets",
    "limit rate 1 bytes/week burst 2000 bytes",
];

/// What is done behind the conditions.
const STATEMENTS: &[&str] = &[
    "counter name total",
    "quota name little",
    "meta mark set meta mark or 0x2",
    "meta mark set meta mark and 0xfffffff5",
    "meta mark set meta mark xor 0xN",
    "meta mark set meta mark << 2",
    "meta mark set meta mark >> 1",
    "meta mark set N",
    "meta mark set numgen inc mod 7 offset 1",
    "meta mark set jhash ip daddr mod 16 seed 0x9",
    "meta mark set tcp dport map { 1000 : 7, 1001-1004 : 9 }",
    "meta mark set ip saddr map @marks",
    "ip ttl set N",
    "ip dscp set af11",
    "tcp option maxseg size set 60N",
    "reset tcp option sack-perm",
    "ip saddr vmap @verdicts",
    "counter name ip daddr map @objects",
];

/// A template with its letters filled in; see [`CONDITIONS`].
pub(super) fn fill(template: &str, rng: &mut ChaCha8Rng) -> String {
    let mut text = template.to_owned();
    for (letter, value) in [
        ("H", rng.random_range(0..8)),
        ("P", rng.random_range(1000..1008)),
        ("N", rng.random_range(1..8)),
    ] {
        // Only letters that stand for themselves: no word of nft's has them.
        text = text.replace(letter, &value.to_string());
    }
    text
}

/// Whether a rule speaks of two transport protocols, which nft refuses.
fn contradicts(rule: &str) -> bool {
    let of = |words: &[&str]| words.iter().any(|word| rule.contains(word));
    let one = [
        of(&["tcp dport", "tcp flags", "tcp option"]),
        of(&["udp sport"]),
        of(&["icmp type"]),
    ];
    let any = one.iter().filter(|is| **is).count();
    any > 1 || any > 0 && of(&["l4proto", "ip protocol"]) || one[2] && of(&["th "])
}

fn rule(chain: usize, rng: &mut ChaCha8Rng) -> String {
    loop {
        let text = any_rule(chain, rng);
        if !contradicts(&text) {
            return text;
        }
    }
}

fn any_rule(chain: usize, rng: &mut ChaCha8Rng) -> String {
    let mut text = String::new();
    for _ in 0..rng.random_range(0..3) {
        text += &fill(CONDITIONS.choose(rng).unwrap(), rng);
        text.push(' ');
    }
    if rng.random_bool(0.5) {
        text += &fill(STATEMENTS.choose(rng).unwrap(), rng);
        text.push(' ');
    }
    text += "counter ";
    let later = rng.random_range(chain + 1..CHAINS + 1).min(CHAINS - 1).max(chain);
    let verdicts = match later > chain {
        true => vec![
            format!("jump c{later}"),
            format!("jump c{later}"),
            format!("goto c{later}"),
            "return".into(),
        ],
        false => vec!["return".into(), "accept".into(), "drop".into(), "continue".into()],
    };
    if rng.random_bool(if chain == 0 { 0.4 } else { 0.15 }) {
        text += verdicts.choose(rng).unwrap();
    }
    text.push('\n');
    text
}

fn script(rng: &mut ChaCha8Rng) -> String {
    let mut text = "table inet t {
        counter total { }
        counter even { }
        counter odd { }
        quota little { 3000 bytes }
        set hosts { type ipv4_addr; flags interval; elements = { 10.0.1.0/31, 10.0.1.5-10.0.1.6 }; }
        set pairs { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/30 . 1000-1003, 10.0.0.5 . 1000-1007, 10.0.0.3-10.0.0.6 . 1007 }; }
        set counted { type ipv4_addr; counter; elements = { 10.0.0.1, 10.0.0.3, 10.0.0.6 }; }
        map marks { type ipv4_addr : mark; elements = { 10.0.0.1 : 1, 10.0.0.2 : 2, * : 13 }; }
        map objects { type ipv4_addr : counter; elements = { 10.0.1.0 : \"even\", 10.0.1.2 : \"even\", 10.0.1.3 : \"odd\" }; }
        map verdicts { type ipv4_addr : verdict; flags interval; elements = { 10.0.0.0/31 : accept, 10.0.0.3 : return, 10.0.0.4-10.0.0.5 : continue, 10.0.0.7 : jump end }; }
        chain end { counter; }
    "
    .to_owned();
    // The last one first: a chain must be there before something jumps to it.
    for chain in (0..CHAINS).rev() {
        text += &format!("chain c{chain} {{\n");
        if chain == 0 {
            text += "type filter hook prerouting priority 0; policy accept;\ncounter\n";
        }
        for _ in 0..rng.random_range(6..20) {
            text += &rule(chain, rng);
        }
        text += "}\n";
    }
    text + "}\n"
}

/// Options of TCP: right ones, and wrong ones.
const OPTIONS: &[&[u8]] = &[
    &[],
    &[2, 4, 5, 0xb4],
    &[2, 4, 1, 0xf4, 4, 2, 1, 1],
    &[1, 1, 4, 2, 2, 4, 5, 0xb4],
    &[4, 9, 1, 1],
    &[2, 3, 1, 1, 4, 0, 4, 2],
    &[1, 4, 2, 0],
];

/// An IPv4 packet.
fn packet(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let protocol = *[6, 6, 17, 1].choose(rng).unwrap();
    let mut inner = Vec::new();
    let port = |rng: &mut ChaCha8Rng| rng.random_range(1000u16..1008).to_be_bytes();
    match protocol {
        6 => {
            let options = *OPTIONS.choose(rng).unwrap();
            inner.extend([port(rng), port(rng)].concat());
            inner.extend([0, 0, 0, rng.random_range(0..2), 0, 0, 0, 0]);
            inner.extend([
                ((20 + options.len() as u8) / 4) << 4,
                *[2, 18, 16, 4].choose(rng).unwrap(),
                1,
                0,
                0,
                0,
                0,
                0,
            ]);
            inner.extend(options);
        }
        17 => inner.extend([&port(rng)[..], &port(rng), &[0, 12, 0, 0, 1, 2, 3, 4]].concat()),
        _ => inner.extend([*[8, 0, 3].choose(rng).unwrap(), 0, 0, 0, 0, 1, 0, 1]),
    }
    inner.extend((0..rng.random_range(0..20)).map(|n| n as u8));
    if rng.random_bool(0.1) {
        inner.truncate(rng.random_range(0..inner.len()));
    }
    let len = (20 + inner.len()) as u16;
    // A first one: about later ones kernels differ, and rules punt.
    let fragment = if rng.random_bool(0.1) { 0x20 } else { 0 };
    let tos = *[0, 0x20, 0x28, 0xb8].choose(rng).unwrap();
    let mut bytes = vec![
        0x45,
        tos,
        (len >> 8) as u8,
        len as u8,
        0,
        1,
        fragment,
        0,
        rng.next_u32() as u8 | 1,
        protocol,
    ];
    bytes.extend([0, 0, 10, 0, 0, rng.random_range(0..8), 10, 0, 1, rng.random_range(0..8)]);
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(inner);
    bytes
}

struct OnLoopback {
    bytes: Vec<u8>,
    mark: u32,
}

impl Packet for OnLoopback {
    fn nfproto(&self) -> u8 {
        NFPROTO_IPV4
    }

    fn length(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn l4proto(&self) -> Option<u8> {
        Some(self.bytes[9])
    }

    fn is_later_fragment(&self) -> bool {
        self.bytes[7] != 0
    }

    fn payload(&self, base: Base, offset: usize, out: &mut [u8]) -> Answer {
        let start = match base {
            Base::Link => return Answer::Unknown,
            Base::Network => offset,
            Base::Transport => offset + 20,
        };
        match self.bytes.get(start..start + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Answer::Break,
        }
        Answer::Done
    }

    fn meta(&self, key: MetaKey) -> Fact {
        match key {
            MetaKey::Iif => Fact::U32(1),
            MetaKey::Iifname => Fact::name("lo"),
            MetaKey::Mark => Fact::U32(self.mark),
            MetaKey::Protocol => Fact::Bytes2([8, 0]),
            _ => Fact::Unknown,
        }
    }

    fn ct(&self, _: CtKey, _: Option<bool>) -> Fact {
        Fact::Unknown
    }

    fn set_meta(&mut self, key: MetaKey, value: [u8; 4]) -> Answer {
        assert_eq!(key, MetaKey::Mark);
        self.mark = u32::from_ne_bytes(value);
        Answer::Done
    }

    fn set_ct(&mut self, _: CtKey, _: Option<bool>, _: [u8; 16]) -> Answer {
        Answer::Unknown
    }

    fn store(&mut self, base: Base, offset: usize, bytes: &[u8], _: ChecksumFix) -> Answer {
        assert_eq!(base, Base::Network);
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        Answer::Done
    }

    fn store_tcp(&mut self, offset: usize, bytes: &[u8]) -> Answer {
        self.bytes[20 + offset..][..bytes.len()].copy_from_slice(bytes);
        Answer::Done
    }
}

#[test]
fn counters_are_those_of_the_kernel() {
    isolated("kernel::counters_are_those_of_the_kernel", || {
        let cores = core_affinity::get_core_ids().expect("cores");
        assert!(core_affinity::set_for_current(cores[0]));
        // Strange sources are dropped behind prerouting; that need not be told.
        sh("sysctl -qw net.ipv4.conf.all.log_martians=0");
        let socket = FrameSocket::open(ifindex("lo")).unwrap();
        let first = number("BYPATH_SEED", 1);
        let mut seen = 0;
        for seed in first..first + number("BYPATH_NFT_RULESETS", RULESETS) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let script = script(&mut rng);
            let packets: Vec<_> = (0..PACKETS).map(|_| packet(&mut rng)).collect();
            seen += compare(&socket, &script, &packets, seed);
        }
        println!("{seen} counters that were not 0 are equal");
    });
}

/// How many counters are equal and not 0.
fn compare(socket: &FrameSocket, script: &str, packets: &[Vec<u8>], seed: u64) -> usize {
    let ruleset = load(script);
    let (state, bases) = (State::new(&ruleset, 0), ruleset.bases(NFPROTO_IPV4, 0));
    for bytes in packets {
        socket.send(&[&[0; 12][..], &[8, 0], bytes].concat()).unwrap();
        let mut packet = OnLoopback {
            bytes: bytes.clone(),
            mark: 0,
        };
        let outcome = Interpreter::new(&ruleset, &state, 0).hook(&bases, &mut packet);
        assert!(
            !matches!(outcome, Outcome::Punt(_)),
            "seed {seed}: {outcome:?} of {bytes:x?}\n{script}"
        );
    }
    let kernel = settled(packets.len(), |ruleset| &ruleset[ruleset.bases(NFPROTO_IPV4, 0)[0]]);
    let (mut equal, mut wrong) = (0, Vec::new());
    let mut check = |cell: &Cell, stateful: &Stateful, what: String| {
        let (ours, theirs) = match stateful {
            Stateful::Counter { packets, bytes } => (cell.counted(), Some((*packets, *bytes))),
            Stateful::Quota { consumed, .. } => (cell.consumed().map(|used| (used, 0)), Some((*consumed, 0))),
            _ => return,
        };
        if ours != theirs {
            wrong.push(format!("{what}: {ours:?}, in the kernel {theirs:?}"));
        }
        equal += usize::from(theirs != Some((0, 0)));
    };
    for rule in kernel.chains.iter().flat_map(|chain| &chain.rules) {
        for expr in &rule.exprs {
            if let Expr::State(id) = expr {
                check(
                    state.cell(*id),
                    &kernel[*id],
                    format!("rule {}, {:?}", rule.handle, rule.exprs),
                );
            }
        }
    }
    for object in kernel.objects.iter() {
        if let ObjectKind::State(id) = object.kind {
            check(state.cell(id), &kernel[id], format!("object {}", object.name));
        }
    }
    for (set, theirs) in (0u32..).zip(&kernel.sets) {
        for (number, stateful) in (0u32..).zip(theirs.states()) {
            check(
                state.of_element(SetId(set), number),
                stateful,
                format!("set {}", theirs.spec.name),
            );
        }
    }
    assert!(wrong.is_empty(), "seed {seed}:\n{}\n{script}", wrong.join("\n"));
    equal
}

/// The ruleset when the first counter of `first`, which every packet meets, has counted all.
pub(super) fn settled(packets: usize, first: impl Fn(&Ruleset) -> &Chain) -> Ruleset {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let ruleset = read();
        let Expr::State(first) = first(&ruleset).rules[0].exprs[0] else {
            panic!("the first rule counts");
        };
        match ruleset[first] {
            Stateful::Counter { packets: seen, .. } if seen == packets as u64 => return ruleset,
            ref other => assert!(Instant::now() < end, "not all packets came: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
