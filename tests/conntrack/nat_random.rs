//! The twin over random rulesets with NAT, with random connections of both directions, that are answered by the addresses and
//! ports that their servers saw, in each lab its own.
//!
//! | variable | default | what |
//! |---|---|---|
//! | BYPATH_TWIN_NAT_CONFIGS | 3 | rulesets |
//! | BYPATH_TWIN_NAT_PACKETS | 4500 | packets over all of them |
//! | BYPATH_TWIN_SEED | 1 | the seed of the first ruleset; the others follow. Printed; replays with CONFIGS=1 |
//!
//! A connection has a model for each lab, with the same chance; they differ in no more than where a server's packets go. What
//! is on its way when another port was drawn is forgotten in both. Ports that were drawn are compared up to a renaming.

use crate::flow::{CLIENT, Flow, SERVER};
use crate::generator::{Model, Queue};
use crate::lab::bypath::Totals;
use crate::lab::conntrack::Free;
use crate::lab::env::number;
use crate::lab::packet::Packet;
use crate::lab::plan;
use crate::lab::twin::{Mode, Outcome, Setup, Share, Twin};
use crate::nat_rules::ruleset;
use crate::view::{View, Watch};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

const PARTS: usize = 3;
const CONNECTIONS: usize = 60;
const AT_ONCE: usize = 32;
/// Connections that begin in a round, each in the place of another.
const FRESH: usize = 2;
/// What must be forwarded of all that the kernel sends.
const SHARE_LEAST: f64 = 0.7;

/// The same for both labs, with the same chance.
fn twice<T>(random: &mut ChaCha8Rng, mut make: impl FnMut(usize, &mut ChaCha8Rng) -> T) -> [T; 2] {
    let seed = random.random();
    [0, 1].map(|lab| make(lab, &mut ChaCha8Rng::seed_from_u64(seed)))
}

struct Connection {
    models: [Model; 2],
    queues: [Queue; 2],
    begun: bool,
    /// To an address of the box, from which nobody but a server behind it answers.
    own: bool,
}

impl Connection {
    /// A connection and what it looks like; sometimes of the port and to the server of an earlier one.
    fn random(random: &mut ChaCha8Rng, [draws, strict]: [bool; 2], others: &[View]) -> (Self, View) {
        let mut flow = Flow::new(random.random_bool(0.6)).shuffled(random);
        let mut behind = [CLIENT, SERVER];
        if random.random_bool(0.2) {
            flow.ends.reverse();
            behind.reverse();
        }
        if random.random_bool(0.5) {
            flow.ports[SERVER] = [80, 443, 8080, 53, 123][random.random_range(0..5)];
        }
        let mut alike = others
            .iter()
            .filter(|view| view.behind == behind && view.labs[0].is_ipv4() == flow.is_ipv4())
            .filter(|view| !plan::own(behind[CLIENT]).contains(&view.labs[0].ends[SERVER]));
        match random.random_range(0..100) {
            0..8 => {
                if let Some(other) = alike.next_back() {
                    flow.ends[SERVER] = other.labs[0].ends[SERVER];
                    flow.ports = other.labs[0].ports;
                }
            }
            // From one socket to several servers.
            8..14 => {
                if let Some(other) = alike.next_back() {
                    flow.ends[CLIENT] = other.labs[0].ends[CLIENT];
                    flow.ports[CLIENT] = other.labs[0].ports[CLIENT];
                }
            }
            _ => {}
        }
        let mut models = twice(random, |_, random| Model::random(random, flow.clone()));
        // Node information, whose drawn identifier no packet shows, so that it cannot be learned.
        while twice(random, |lab, random| {
            models[lab].first(random).body.first() == Some(&139)
        }) == [true; 2]
        {
            models = twice(random, |_, random| Model::random(random, flow.clone()));
        }
        // A query to the box itself may be one of the time.
        let own = strict && random.random_bool(0.04) && matches!(models[0], Model::Stream(_));
        if own {
            flow.ends[SERVER] = plan::own(behind[CLIENT])[usize::from(!flow.is_ipv4())];
            models.iter_mut().for_each(|model| model.flow_mut().ends = flow.ends);
        }
        let view = View::new(flow).behind(behind);
        let connection = Connection {
            models,
            queues: Default::default(),
            begun: false,
            own,
        };
        (connection, if draws { view.random() } else { view })
    }

    /// What is sent next in both labs, and from which end.
    fn next(&mut self, random: &mut ChaCha8Rng) -> (usize, [Vec<Packet>; 2]) {
        if !self.begun {
            self.begun = true;
            let first = twice(random, |lab, random| vec![self.models[lab].first(random)]);
            return (CLIENT, first);
        }
        while self.queues[0].is_empty() {
            twice(random, |lab, random| {
                self.models[lab].act(random, &mut self.queues[lab])
            });
        }
        let answers = self.models[0].flow_mut().beyond.is_some();
        let items = self
            .queues
            .each_mut()
            .map(|queue| queue.pop_front().expect("both act alike"));
        let from = items[0].from;
        if self.own && from == SERVER && !answers {
            return (from, Default::default());
        }
        (from, items.map(|item| item.packets))
    }

    /// Has the server answer what it saw last.
    fn follow(&mut self, view: &View) {
        for (at, flow) in view.labs.iter().enumerate() {
            let own = self.models[at].flow_mut();
            if own.beyond != flow.beyond {
                own.beyond = flow.beyond;
                self.queues.iter_mut().for_each(Queue::clear);
            }
        }
    }
}

fn round(twin: &mut Twin, random: &mut ChaCha8Rng, connections: &mut [Connection], views: &[View]) -> usize {
    let first = random.random_range(0..connections.len());
    let mut frames = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for at in 0..AT_ONCE.min(connections.len()) {
        let index = (first + at) % connections.len();
        let (from, packets) = connections[index].next(random);
        let view = &views[index];
        for (lab, packets) in packets.into_iter().enumerate() {
            let built = packets.into_iter().map(|packet| view.finish(from, packet));
            frames[view.behind[from]][lab].extend(built);
        }
    }
    for (port, frames) in frames.iter().enumerate() {
        twin.inject_each(port, [&frames[0], &frames[1]]);
        twin.fence(port);
    }
    frames.iter().map(|frames| frames[0].len()).sum()
}

fn run(seed: u64, packets: u64) -> (Outcome, usize) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (ruleset, draws, strict) = ruleset(&mut random);
    // Shown by a test that fails.
    println!("ruleset of seed {seed}:\n{ruleset}");
    let mut setup = Setup::tracked(&format!("nat-random-{seed}"), 2, &ruleset).with(&[
        // Nobody has the addresses that packets come from by NAT: what is sent there and is no answer gets nowhere.
        "ip route add blackhole 10.0.1.192/26",
        "ip route add blackhole 10.0.0.192/26",
        "ip route add blackhole 10.200.0.0/16",
        "ip -6 route add blackhole fd00:0:0:1::200/118",
        "sysctl net.netfilter.nf_conntrack_udp_timeout=150",
        "sysctl net.netfilter.nf_conntrack_icmp_timeout=150",
        "sysctl net.netfilter.nf_conntrack_icmpv6_timeout=150",
        "sysctl net.netfilter.nf_conntrack_tcp_timeout_close=150",
        "sysctl net.netfilter.nf_conntrack_tcp_timeout_last_ack=150",
        "sysctl net.netfilter.nf_conntrack_sctp_timeout_closed=150",
        "sysctl net.netfilter.nf_conntrack_sctp_timeout_cookie_wait=150",
        "sysctl net.netfilter.nf_conntrack_sctp_timeout_cookie_echoed=150",
        "sysctl net.netfilter.nf_conntrack_sctp_timeout_shutdown_sent=150",
        "sysctl net.netfilter.nf_conntrack_sctp_timeout_shutdown_recd=150",
        "sysctl net.netfilter.nf_conntrack_sctp_timeout_shutdown_ack_sent=150",
    ]);
    setup.seed = Some(seed);
    if seed % 3 == 1 {
        setup.arguments = ["--workers", "2"].map(str::to_owned).into();
    }
    let mut twin = Twin::start(setup);
    twin.hand_over();
    let mut watch = Watch::default();
    let (mut connections, mut views) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let (connection, view) = Connection::random(&mut random, [draws, strict], &views);
        connections.push(connection);
        views.push(view);
    }
    for part in 0..PARTS {
        let mut left = packets as i64 / PARTS as i64;
        while left > 0 {
            left -= round(&mut twin, &mut random, &mut connections, &views) as i64;
            watch.learn(&mut twin, &mut views).unwrap_or_else(|error| {
                twin.compare_tables("after what was learned", Free::default());
                panic!("nat-random-{seed}: {error}\n{ruleset}");
            });
            for (connection, view) in connections.iter_mut().zip(&views) {
                connection.follow(view);
            }
            for _ in 0..FRESH {
                let place = random.random_range(0..CONNECTIONS);
                let (connection, view) = Connection::random(&mut random, [draws, strict], &views);
                (connections[place], views[place]) = (connection, view);
            }
        }
        twin.compare_tables(&format!("part {part}"), Free::default());
    }
    let counted = twin.compare_counters();
    (twin.finish(Share::AtLeast(0.0)), counted)
}

#[test]
fn random_translations() {
    let configs = number("BYPATH_TWIN_NAT_CONFIGS", 3);
    let packets = number("BYPATH_TWIN_NAT_PACKETS", 4_500).div_ceil(configs);
    let first = number("BYPATH_TWIN_SEED", 1);
    let (mut injected, mut sent, mut forwarded, mut counters) = (0, 0, 0, 0);
    let mut punted: BTreeMap<String, u64> = BTreeMap::new();
    for seed in first..first + configs {
        let (outcome, counted) = run(seed, packets);
        injected += outcome.injected;
        counters += counted;
        sent += outcome.sent;
        forwarded += outcome.totals.forwarded;
        for (reason, count) in outcome.totals.punted {
            *punted.entry(reason).or_default() += count;
        }
    }
    // A packet that a rule drops is nobody's to forward.
    let share = forwarded as f64 / (sent as f64).max(1.0);
    println!(
        "twin nat-random: {injected} packets, {sent} sent by the kernel, {configs} rulesets (seeds from {first}), 0 \
         divergences, {counters} counters equal, {:.1} % of those forwarded by bypath; punted: {}",
        share * 100.0,
        Totals::list(&punted)
    );
    assert!(
        Mode::from_env() == Mode::Kernel || share >= SHARE_LEAST,
        "{share:.3} forwarded, {SHARE_LEAST} wanted"
    );
}
