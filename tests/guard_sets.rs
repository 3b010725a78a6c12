//! The guard and sets whose elements come and go, against a real kernel: commits of nothing but elements are followed without a
//! reading, whatever else is in a commit has all read, and the elements are the kernel's after each.
//!
//! Needs root and nft.

mod netns;

use bypath::mirror::guard::{Findings, Guard, LinkFacts};
use bypath::mirror::nft::Nft;
use bypath::table::rules::set::Set;
use netns::{isolated, links, readable, sh};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PORTS: &[&str] = &["d0", "d1"];

/// What follows a ruleset.
struct Follower {
    guard: Guard,
    links: Vec<LinkFacts>,
}

impl Follower {
    /// Of a table `t` with these sets, and a chain that asks `s`.
    fn of(sets: &str) -> Self {
        for n in 0..2 {
            sh(&format!(
                "ip link add d{n} type veth peer p{n}; ip link set d{n} up; ip link set p{n} up"
            ));
        }
        nft(&format!(
            "table ip t {{\n{sets}\nchain c {{ type filter hook forward priority 0; ip saddr @s drop; }}\n}}"
        ));
        let mut follower = Self {
            guard: Guard::open().expect("guard"),
            links: links(PORTS),
        };
        let found = follower.read();
        assert_eq!(found.rules.taken.readings, 1);
        follower
    }

    fn read(&mut self) -> Findings {
        let found = self.guard.read(&self.links);
        assert!(found.by_iface.is_empty() && !found.leaves(), "{:#?}", found.notes);
        found
    }

    /// What is known after these commands, which must have been told.
    fn after(&mut self, commands: &str) -> Findings {
        nft(commands);
        assert!(readable(&self.guard.fds(), 1000), "{commands}: no event");
        self.read()
    }
}

fn nft(commands: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(commands.as_bytes()).expect("commands");
    drop(stdin);
    let begin: String = commands.chars().take(300).collect();
    assert!(child.wait().expect("nft").success(), "{begin}");
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number)
}

/// A set `s` of `count` elements from `10.0.0.0` on.
fn set_of(count: u32) -> String {
    let elements: Vec<_> = (0..count).map(|n| address(n).to_string()).collect();
    format!("set s {{ type ipv4_addr; elements = {{ {} }}; }}", elements.join(", "))
}

fn set<'a>(found: &'a Findings, name: &str) -> &'a Set {
    let sets = &found.rules.ruleset.sets;
    sets.iter().find(|set| *set.spec.name == *name).expect("the set")
}

fn has(found: &Findings, name: &str, address: Ipv4Addr) -> bool {
    set(found, name).lookup(&address.octets(), now_ns()).is_some()
}

fn now_ns() -> u64 {
    bypath::port::wait::monotonic_ns()
}

/// Whether the kernel has it.
fn kernel_has(name: &str, address: Ipv4Addr) -> bool {
    let output = Command::new("nft")
        .args(["get", "element", "ip", "t", name, &format!("{{ {address} }}")])
        .output()
        .expect("nft");
    output.status.success()
}

/// All sets have what a reading of now finds.
fn assert_as_read(found: &Findings) {
    let read = Nft::open().expect("nft").read(now_ns()).expect("a ruleset");
    assert_eq!(read.generation, found.rules.ruleset.generation);
    assert_eq!(read.sets.len(), found.rules.ruleset.sets.len());
    for (ours, theirs) in found.rules.ruleset.sets.iter().zip(&read.sets) {
        assert!(ours.has_what(theirs, now_ns()), "{}", ours.spec.name);
        assert_eq!(ours.len(), theirs.len(), "{}", ours.spec.name);
    }
}

#[test]
fn elements_come_and_go_without_a_reading() {
    isolated("elements_come_and_go_without_a_reading", || {
        let mut follower = Follower::of(&set_of(20_000));
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut generation = follower.read().rules.ruleset.generation;
        for round in 1..=60 {
            let address = address(random.random_range(19_900..20_100));
            let verb = if kernel_has("s", address) { "delete" } else { "add" };
            let found = follower.after(&format!("{verb} element ip t s {{ {address} }}"));
            assert_eq!(
                has(&found, "s", address),
                kernel_has("s", address),
                "{round}: {verb} {address}"
            );
            assert_eq!((found.rules.taken.readings, found.rules.taken.deltas), (1, round));
            assert_ne!(found.rules.ruleset.generation, generation);
            generation = found.rules.ruleset.generation;
        }
        assert_as_read(&follower.read());
        // Many at once, some of one commit and some of commits that follow each other.
        let many: String = (20_200..25_000)
            .map(|n| format!("add element ip t s {{ {} }}\n", address(n)))
            .collect();
        let found = follower.after(&many);
        assert!(has(&found, "s", address(24_999)) && found.rules.taken.readings == 1);
        for n in 30_000..30_050 {
            nft(&format!("add element ip t s {{ {} }}", address(n)));
        }
        let found = follower.read();
        assert_eq!((found.rules.taken.readings, found.rules.taken.deltas), (1, 111));
        assert_as_read(&found);
        // All of them, and another one, in one commit.
        let found = follower.after("flush set ip t s\nadd element ip t s { 192.0.2.1 }");
        assert_eq!(set(&found, "s").len(), 1);
        assert!(has(&found, "s", Ipv4Addr::new(192, 0, 2, 1)) && !has(&found, "s", address(1)));
        assert_as_read(&found);
        assert_eq!(found.rules.taken.divergences, 0);
    });
}

#[test]
fn a_commit_of_deletions_and_additions_is_one_change() {
    isolated("a_commit_of_deletions_and_additions_is_one_change", || {
        let mut follower = Follower::of(&set_of(1000));
        let commit = "delete element ip t s { 10.0.0.5, 10.0.0.6 }\nadd element ip t s { 10.0.0.5, 192.0.2.1 }";
        let found = follower.after(commit);
        let there = [5, 6, 7].map(|n| has(&found, "s", address(n)));
        assert_eq!(
            (there, has(&found, "s", Ipv4Addr::new(192, 0, 2, 1))),
            ([true, false, true], true)
        );
        assert_eq!((found.rules.taken.readings, found.rules.taken.deltas), (1, 1));
        assert_as_read(&found);
        // A set that is made anew with its elements, as list updaters do: read.
        let found = follower.after("flush set ip t s\nadd set ip t s2 { type ipv4_addr; elements = { 10.9.9.9 }; }");
        assert!(set(&found, "s").is_empty() && has(&found, "s2", Ipv4Addr::new(10, 9, 9, 9)));
        assert_eq!(found.rules.taken.readings, 2);
    });
}

#[test]
fn what_is_more_than_elements_is_read() {
    isolated("what_is_more_than_elements_is_read", || {
        let mut follower = Follower::of(&format!(
            "{}\nmap v {{ type ipv4_addr : verdict; }}\nset p {{ type ipv4_addr . inet_service; flags interval; }}",
            set_of(100)
        ));
        let mut readings = 1;
        for commands in [
            "add element ip t s { 192.0.2.1 }\nadd rule ip t c ip daddr 192.0.2.9 counter drop",
            "add rule ip t c counter",
            "add element ip t v { 192.0.2.1 : drop }",
            "add element ip t p { 192.0.2.0/24 . 1-9 }",
            "add element ip t s { 192.0.2.2 }\nadd set ip t other { type ipv4_addr; }",
            "add table ip another",
        ] {
            readings += 1;
            let found = follower.after(commands);
            assert_eq!(found.rules.taken.readings, readings, "{commands}");
            assert_as_read(&found);
            // Behind it elements are followed again.
            let found = follower.after(&format!("add element ip t s {{ 192.0.3.{readings} }}"));
            assert_eq!(found.rules.taken.readings, readings, "{commands}");
            assert!(has(&found, "s", Ipv4Addr::new(192, 0, 3, readings as u8)));
        }
        assert!(has(&follower.read(), "s", Ipv4Addr::new(192, 0, 2, 1)));
    });
}

#[test]
fn intervals_maps_and_times_are_followed() {
    isolated("intervals_maps_and_times_are_followed", || {
        let mut follower = Follower::of(
            "set s { type ipv4_addr; flags interval; }\nset merged { type ipv4_addr; flags interval; auto-merge; }\n\
             set timed { type ipv4_addr; flags timeout; }\nmap m { type ipv4_addr : ipv4_addr; }",
        );
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let mut there = [false; 16];
        for round in 0..60 {
            // Adjacent networks of 16 addresses.
            let n = random.random_range(0..16usize);
            let verb = if there[n] { "delete" } else { "add" };
            there[n] = !there[n];
            // As list updaters do it; what is adjacent is merged.
            let ranges = there.iter().enumerate().filter(|(_, there)| **there);
            let merged: String = ranges
                .map(|(n, _)| {
                    format!(
                        "add element ip t merged {{ 10.1.0.{}-10.1.0.{} }}\n",
                        n * 16,
                        n * 16 + 15
                    )
                })
                .collect();
            let found = follower.after(&format!(
                "{verb} element ip t s {{ 10.0.0.{}/28 }}\nflush set ip t merged\n{merged}",
                n * 16
            ));
            for (n, &there) in there.iter().enumerate() {
                for host in [0, 15] {
                    let host = (n * 16 + host) as u8;
                    for (name, network) in [("s", 0), ("merged", 1)] {
                        let address = Ipv4Addr::new(10, network, 0, host);
                        assert_eq!(has(&found, name, address), there, "{round}: {name} {address}");
                    }
                }
            }
            assert_as_read(&found);
            assert_eq!(found.rules.taken.readings, 1, "{round}");
        }
        let found = follower.after("add element ip t m { 10.0.0.1 : 192.0.2.1 }\nadd element ip t timed { 10.0.0.1 timeout 2s, 10.0.0.2 timeout 1h }");
        assert!(has(&found, "m", address(1)) && has(&found, "timed", address(1)) && has(&found, "timed", address(2)));
        std::thread::sleep(Duration::from_millis(2100));
        assert!(
            !has(&found, "timed", address(1)) && has(&found, "timed", address(2)),
            "its time is over"
        );
        let found =
            follower.after("add element ip t timed { 10.0.0.1 timeout 1h }\ndelete element ip t timed { 10.0.0.2 }");
        assert!(has(&found, "timed", address(1)) && !has(&found, "timed", address(2)));
        assert_eq!(found.rules.taken.readings, 1);
        assert_as_read(&found);
    });
}

/// More than the socket holds: what was lost is found by a reading, and so is what came meanwhile.
#[test]
fn a_loss_of_events_is_made_good_by_a_reading() {
    isolated("a_loss_of_events_is_made_good_by_a_reading", || {
        let mut follower = Follower::of(&set_of(10));
        let elements: Vec<_> = (100..60_100).map(|n| address(n).to_string()).collect();
        let elements = elements.join(", ");
        for _ in 0..2 {
            nft(&format!("add element ip t s {{ {elements} }}"));
            nft(&format!("delete element ip t s {{ {elements} }}"));
        }
        nft("add element ip t s { 192.0.2.1 }");
        let until = Instant::now() + Duration::from_secs(5);
        let found = loop {
            let found = follower.guard.read(&follower.links);
            if has(&found, "s", Ipv4Addr::new(192, 0, 2, 1)) && set(&found, "s").len() == 11 {
                break found;
            }
            assert!(Instant::now() < until, "{:?}", found.rules.taken);
        };
        assert!(found.rules.taken.readings > 1, "{:?}", found.rules.taken);
        assert_as_read(&found);
        let found = follower.after("add element ip t s { 192.0.2.2 }");
        assert_as_read(&found);
    });
}

/// Of how many the median is taken.
const LOOKS: u32 = 7;

/// What a change of one element costs, beside a reading. Printed; run with `--nocapture` to read it.
#[test]
fn a_change_of_a_large_set_costs_a_part_of_a_reading() {
    isolated("a_change_of_a_large_set_costs_a_part_of_a_reading", || {
        let mut follower = Follower::of(&set_of(100_000));
        let mut median = |each: &dyn Fn(u32) -> String| {
            let mut took: Vec<_> = (0..LOOKS)
                .map(|n| {
                    nft(&each(n));
                    let begun = Instant::now();
                    follower.read();
                    begun.elapsed()
                })
                .collect();
            took.sort_unstable();
            took[LOOKS as usize / 2]
        };
        let reading = median(&|n| format!("add chain ip t c{n}"));
        let delta = median(&|n| format!("add element ip t s {{ 192.0.2.{n} }}"));
        let idle = median(&|_| String::new());
        println!("100,000 elements: a reading {reading:.1?}, an element {delta:.1?}, nothing {idle:.1?}");
        let found = follower.read();
        assert_eq!(
            (found.rules.taken.readings, found.rules.taken.deltas),
            (1 + u64::from(LOOKS), u64::from(LOOKS))
        );
    });
}
