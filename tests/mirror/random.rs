//! Random changes while the mirror reads: it must end as a new mirror begins, and as `ip route get` answers.

use super::env::number;
use super::lab::*;
use bypath::mirror::Mirror;
use bypath::packet::Family;
use bypath::table::fib::{FibKey, Found, RouteKind};

/// The same seed every time, so that a failure is a change's; another by the environment hunts further.
pub const SEED: u64 = 1;

/// Numbers from a seed (xorshift), so that a failure can be replayed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

fn random_prefix(random: &mut Random) -> String {
    let len = 8 + random.below(25) as u32;
    let addr = 0x0a10_0000u32 | (random.below(1 << 6) as u32) << 10 | random.below(4) as u32;
    format!(
        "{}/{len}",
        std::net::Ipv4Addr::from_bits(addr & (u32::MAX << (32 - len)))
    )
}

/// One line for `ip -batch -force`; the kernel may refuse it.
fn random_change(random: &mut Random) -> String {
    let (i, j) = (random.below(2), random.below(5) + 5);
    let metric = random.of(&["", " metric 5", " metric 9"]);
    let table = random.of(&["", "", "", " table 100"]);
    match random.below(22) {
        0..7 => {
            let verb = random.of(&["add", "add", "replace", "append", "prepend"]);
            format!("route {verb} {} via 10.0.{i}.{j}{metric}{table}", random_prefix(random))
        }
        7..10 => format!("route del {}{metric}{table}", random_prefix(random)),
        10 => {
            let kind = random.of(&["blackhole", "prohibit", "throw", "unreachable"]);
            format!("route replace {kind} {}{metric}", random_prefix(random))
        }
        11 => format!(
            "route replace {} nexthop via 10.0.0.{j} nexthop via 10.0.1.{j}",
            random_prefix(random)
        ),
        12 => format!("route replace {} nhid {}", random_prefix(random), random.below(4) + 1),
        13 => format!("nexthop replace id {} via 10.0.{i}.{j} dev d{i}", random.below(3) + 1),
        14 => random
            .of(&["nexthop replace id 4 group 1/2", "nexthop del id 1", "nexthop del id 4"])
            .into(),
        15 => format!(
            "link set {} {}",
            random.of(&["d0", "d1", "p1"]),
            random.of(&["up", "up", "down"])
        ),
        16 => format!("addr {} 10.0.{i}.1{j}/32 dev d{i}", random.of(&["add", "del"])),
        17 => format!(
            "route replace {} via 10.0.{i}.9 src 10.0.{i}.1{j}{metric}",
            random_prefix(random)
        ),
        18 => format!(
            "rule {} pref {j} to {} lookup 100",
            random.of(&["add", "del"]),
            random_prefix(random)
        ),
        19 => format!("route append 2001:db8:a:{j}::/64 via 2001:db8:1::{j}{metric}"),
        20 => format!(
            "route {} 2001:db8:a:{j}::/64 via 2001:db8:1::{i}{metric}",
            random.of(&["replace", "del"])
        ),
        _ => format!(
            "neigh {} 10.0.{i}.{j} lladdr 02:00:00:00:00:0{j} dev d{i}",
            random.of(&["replace", "del"])
        ),
    }
}

/// What `ip route get` says of packets that come in by d0, one line per question; empty where it refuses.
fn kernel_answers(questions: &[(String, String)]) -> Vec<String> {
    let mut answers = Vec::new();
    for (src, dst) in questions {
        let output = std::process::Command::new("ip")
            .args(["-o", "route", "get", dst, "from", src, "iif", "d0"])
            .output()
            .expect("ip");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<_> = text.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|other| *other == word)?;
            words.get(at + 1).map(|value| format!("{word} {value}"))
        };
        let said = output.status.success() && words.first() != Some(&"local");
        answers.push(if said {
            [after("via"), after("dev")]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ")
        } else {
            String::new()
        });
    }
    answers
}

#[test]
fn random_changes_leave_the_mirror_as_a_new_one_and_as_the_kernel() {
    let seed = number("BYPATH_SEED", SEED);
    eprintln!("seed {seed} (BYPATH_SEED sets another)");
    namespace(move || {
        router();
        let mut random = Random(seed);
        let mut mirror = Mirror::open().unwrap();
        let mut compared = 0;
        for round in 0..12 {
            // Written while the mirror reads, so that changes fall between its reads.
            let mut children = vec![];
            for _ in 0..4 {
                let lines: Vec<_> = (0..120).map(|_| random_change(&mut random)).collect();
                children.push(feed(lines.join("\n") + "\n"));
            }
            while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
                mirror.process().unwrap();
            }
            batch("link set d0 up\nlink set d1 up\nlink set p1 up\n", false);
            assert_as_new(&mut mirror, &format!("seed {seed}, round {round}"));
            let snapshot = mirror.snapshot();
            let d0 = snapshot.ifaces.iter().position(|iface| &*iface.name == "d0").unwrap();
            let iif = Some(bypath::table::iface::IfaceIndex(d0 as u16));
            let mut questions = vec![];
            let mut expected = vec![];
            for _ in 0..60 {
                let dst = (0x0a10_0000u32 | random.below(1 << 17) as u32).to_string();
                let dst = std::net::Ipv4Addr::from_bits(dst.parse().unwrap()).to_string();
                let key = FibKey {
                    src: addr("10.0.0.200").1,
                    dst: addr(&dst).1,
                    iif,
                    tos: 0,
                };
                let Found::Route(_, route) = snapshot.fib(Family::V4).lookup(&key) else {
                    continue;
                };
                if route.left.is_none() && route.kind == RouteKind::Unicast && route.nexthops.len() == 1 {
                    questions.push(("10.0.0.200".to_string(), dst));
                    expected.push(show_route(&snapshot, route));
                }
            }
            compared += questions.len();
            let answers = kernel_answers(&questions);
            for ((question, expected), answer) in questions.iter().zip(&expected).zip(&answers) {
                assert_eq!(expected, answer, "seed {seed}, round {round}, {question:?}");
            }
        }
        assert!(compared > 100, "only {compared} answers could be compared");
    });
}
