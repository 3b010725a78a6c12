//! Policers at the ingress of a port: which frames pass, frame for frame, and what each side has counted. At 8 kbit/s, a byte a
//! millisecond, what comes at once finds the same tokens in both labs. A frame counts without its Ethernet header.

use super::knows;
use crate::lab::bypath::{BINARY, Totals};
use crate::lab::namespace::Namespace;
use crate::lab::plan;
use crate::lab::router::Layout;
use crate::net::{Demand, Flow, Shaped};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A bucket of 3000 bytes is full again.
const FULL: Duration = Duration::from_millis(3500);
const COUNTED_WITHIN: Duration = Duration::from_secs(4);
const INGRESS: &str = "tc qdisc add dev d0 handle ffff: ingress";

/// Bytes, packets and drops.
type Counts = [u64; 3];

/// Those of lines that begin so, in the manner of `tc -s`.
fn counts(text: &str, begin: &str) -> Counts {
    let mut sum = Counts::default();
    for line in text
        .lines()
        .filter(|line| line.trim_start_matches('\t').starts_with(begin))
    {
        let numbers = line
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok());
        let numbers: Vec<u64> = numbers.collect();
        (0..3).for_each(|at| sum[at] += numbers[at]);
    }
    sum
}

fn output(router: &Namespace, command: &str) -> String {
    String::from_utf8_lossy(&router.output(command, "").stdout).into_owned()
}

/// What the kernel's policers at d0 counted: `action` has a tab before its counts, the old way a blank.
fn of_kernel(router: &Namespace) -> Counts {
    let text = output(router, "tc -s filter show dev d0 ingress").replace("\n Sent", "\nSent");
    // Each once, of however many filters it is.
    let all = text.split(" police 0x").skip(1);
    let by_number: BTreeMap<_, _> = all.map(|one| (one.split(' ').next(), counts(one, "Sent "))).collect();
    by_number.values().fold(Counts::default(), |sum, one| {
        std::array::from_fn(|at| sum[at] + one[at])
    })
}

/// What bypath's counted.
fn of_bypath(router: &Namespace) -> Counts {
    let text = output(router, &format!("{BINARY} show qdisc"));
    let actions = text.split("\naction police").skip(1);
    actions.fold(Counts::default(), |sum, action| {
        let one = counts(action, " Sent ");
        std::array::from_fn(|at| sum[at] + one[at])
    })
}

/// Both counted the same, everything was carried, and some of it dropped here.
fn finish(shaped: Shaped, least: f64) -> Totals {
    let until = Instant::now() + COUNTED_WITHIN;
    let has_bypath = shaped.bypath().is_some();
    loop {
        let [kernel, tested] = shaped.routers();
        let (wanted, mut found) = (of_kernel(kernel), of_kernel(tested));
        if has_bypath {
            let ours = of_bypath(tested);
            (0..3).for_each(|at| found[at] += ours[at]);
        }
        if wanted == found {
            println!("twin {}: bytes, packets and drops {found:?}", shaped.name);
            break;
        }
        assert!(
            Instant::now() < until,
            "{}: bytes, packets, drops of the kernel {wanted:?}, of the tested {found:?}",
            shaped.name
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let totals = shaped.finish(least);
    assert!(!has_bypath || totals.dropped.get("policed").is_some_and(|&count| count > 0));
    totals
}

/// [`bursts_of`], at once.
fn bursts(name: &str, lines: &[&str], flows: &[Flow]) {
    bursts_of(name, lines, flows, Duration::ZERO);
}

/// After a time, bursts of 12 of each flow alone, to a full bucket, then to one that has got some tokens.
fn bursts_of(name: &str, lines: &[&str], flows: &[Flow], after: Duration) {
    if !knows("police", &on_d1(lines)) {
        return;
    }
    let mut shaped = Shaped::start(name, 2, lines);
    shaped.wait(after);
    for flow in flows {
        shaped.burst(&[(*flow, 12)]);
        shaped.wait(Duration::from_millis(1050));
        shaped.burst(&[(*flow, 12)]);
        shaped.rest(FULL);
        shaped.same_frames();
    }
    finish(shaped, 1.0);
}

/// `knows` has a d1.
fn on_d1<'a>(lines: &[&str]) -> Vec<&'a str> {
    let moved = lines.iter().map(|line| line.replace("dev d0", "dev d1"));
    moved.map(|line| &*line.leak()).collect()
}

/// As wondershaper and LARTC have it.
#[test]
fn u32_with_a_police() {
    let police = "tc filter add dev d0 parent ffff: protocol ip prio 50 u32 match ip src 0.0.0.0/0 \
                  police rate 8kbit burst 3000 drop flowid :1";
    bursts(
        "police_u32",
        &[INGRESS, police],
        &[Flow::new(0, 500), Flow::new(1, 990)],
    );
}

#[test]
fn clsact_and_matchall() {
    let lines = [
        "tc qdisc add dev d0 clsact",
        "tc filter add dev d0 ingress protocol ip matchall action police rate 8kbit burst 3000 conform-exceed drop",
    ];
    bursts("police_matchall", &lines, &[Flow::new(0, 500)]);
}

/// Several filters: each with its own policer, one with none, and two of one.
#[test]
fn filters_choose_a_policer() {
    let lines = [
        INGRESS,
        "tc filter add dev d0 parent ffff: protocol ip prio 1 flower ip_proto udp dst_port 5000 \
         action police rate 8kbit burst 2000 index 5 conform-exceed drop/pipe",
        "tc filter add dev d0 parent ffff: protocol ip prio 2 u32 match ip dport 5001 0xffff action pass",
        "tc filter add dev d0 parent ffff: protocol ip prio 3 u32 match ip dport 5002 0xffff action police index 5",
        "tc filter add dev d0 parent ffff: protocol ip prio 4 matchall action police rate 8kbit burst 1200 conform-exceed drop/ok",
    ];
    bursts("police_filters", &lines, &[0, 1, 2, 3].map(|id| Flow::new(id, 500)));
}

/// The second bucket, what is around frames, and the longest that conforms, with its header.
#[test]
fn peakrate_overhead_and_mtu() {
    let peak = "tc filter add dev d0 parent ffff: protocol ip matchall action police rate 8kbit burst 3000 peakrate 16kbit mtu 1000 \
                conform-exceed drop";
    bursts(
        "police_peak",
        &[INGRESS, peak],
        &[Flow::new(0, 300), Flow::new(1, 1000), Flow::new(2, 1001)],
    );
    let overhead = "tc filter add dev d0 parent ffff: protocol ip matchall action police rate 8kbit burst 3000 overhead 100 \
                    linklayer atm conform-exceed drop";
    bursts(
        "police_overhead",
        &[INGRESS, overhead],
        &[Flow::new(0, 300), Flow::new(1, 60)],
    );
}

/// By packets, not bytes: one each 500 ms. The kernel begins with an empty bucket there (tcf_police_init leaves tcfp_pkttoks as it
/// was).
#[test]
fn packets_per_second() {
    let police = "tc filter add dev d0 parent ffff: protocol ip matchall action police pkts_rate 2 pkts_burst 6 conform-exceed drop";
    let flows = [Flow::new(0, 300), Flow::new(1, 1000)];
    bursts_of("police_packets", &[INGRESS, police], &flows, FULL);
}

/// What exceeds goes on, and is counted.
#[test]
fn what_exceeds_may_pass() {
    let police =
        "tc filter add dev d0 parent ffff: protocol ip matchall action police rate 8kbit burst 1000 conform-exceed ok";
    if !knows("police", &on_d1(&[INGRESS, police])) {
        return;
    }
    let mut shaped = Shaped::start("police_ok", 2, &[INGRESS, police]);
    shaped.burst(&[(Flow::new(0, 500), 20)]);
    shaped.rest(Duration::from_millis(500));
    assert_eq!(shaped.came(0), 20);
    shaped.same_order();
    shaped.finish(1.0);
}

/// Two ports share a policer, and the queues of one; several workers.
#[test]
fn workers_share_a_policer() {
    let lines = [
        INGRESS,
        "tc qdisc add dev d2 handle ffff: ingress",
        "tc filter add dev d0 parent ffff: protocol ip matchall action police rate 8kbit burst 3000 index 9 conform-exceed drop",
        "tc filter add dev d2 parent ffff: protocol ip matchall action police index 9",
    ];
    if !knows("police", &on_d1(&[lines[0], lines[2]])) {
        return;
    }
    let off = (0..3).map(|port| format!("sysctl net.ipv6.conf.d{port}.disable_ipv6=1"));
    let plan = plan::config(3).into_iter();
    let plan = plan.filter(|line| !line.contains("fd00:") && !line.contains("fe80:"));
    let config = plan.chain(off).chain(lines.map(str::to_owned)).collect();
    let layout = Layout {
        queues: 2,
        ..Layout::ports(3)
    };
    let mut shaped = Shaped::with("police_workers", layout, config, "--workers 2");
    let flows = [Flow::new(0, 500), Flow::new(1, 500), Flow::new(2, 500).ports(2, 1)];
    for (at, flow) in flows.into_iter().enumerate() {
        shaped.burst_on(at % 2, flow, 2);
        shaped.wait(Duration::from_millis(50));
    }
    // Six have passed: 84 bytes are left, and what came since.
    for (at, flow) in flows.into_iter().enumerate() {
        shaped.burst_on(at % 2, flow, 3);
    }
    shaped.rest(FULL);
    for (at, flow) in flows.into_iter().enumerate() {
        shaped.burst_on(1 - at % 2, flow, 2);
    }
    shaped.rest(FULL);
    let [kernel, tested] = shaped.sides().map(|side| side.came.len());
    // 1.5 s pass until the second round, in which 3 more may.
    println!("twin police_workers: came {tested}, of the kernel {kernel}");
    assert!(kernel.abs_diff(tested) <= 1 && tested >= 12);
    shaped.finish(1.0);
}

/// Packets that bypath leaves to the kernel (here by their IPv4 options) meet the kernel's own policer, and pay from the same bucket.
#[test]
fn punted_and_forwarded_keep_the_rate_together() {
    let police = "tc filter add dev d0 parent ffff: protocol ip matchall action police rate 800kbit burst 20000 conform-exceed drop";
    if !knows("police", &on_d1(&[INGRESS, police])) {
        return;
    }
    let mut shaped = Shaped::start("police_punted", 2, &[INGRESS, police]);
    let demands = [
        Demand::new(Flow::new(0, 1000), 1_200_000),
        Demand::new(Flow::new(1, 1000).options(), 300_000),
    ];
    let lasts = Duration::from_secs(8);
    shaped.offer(&demands, lasts);
    shaped.rest(Duration::from_millis(500));
    let [from, until] = [Duration::from_secs(2), lasts];
    let amounts = shaped.amounts(&[0, 1], from, until);
    println!("twin police_punted: forwarded and punted bytes, kernel's and tested {amounts:?}");
    // The rate is of what is behind Ethernet headers.
    let wanted = 100_000.0 * (until - from).as_secs_f64() * 1000.0 / 986.0;
    for amounts in &amounts {
        let sum: f64 = amounts.iter().sum();
        assert!(
            (sum - wanted).abs() < wanted * 0.03,
            "together {sum} bytes, not {wanted}"
        );
    }
    assert!(amounts[1][0] > wanted * 0.6, "what is punted starves what is not");
    shaped.finish(0.7);
}

/// What the list names as not carried leaves what arrives, and says why.
#[test]
fn what_is_not_carried_stays() {
    let of = |more: &str| format!("tc filter add dev d0 parent ffff: protocol ip matchall action {more}");
    for (name, more, words) in [
        (
            "police_again",
            "police rate 8kbit burst 3000",
            "its action police says reclassify",
        ),
        (
            "police_goes_on",
            "police rate 8kbit burst 3000 conform-exceed drop/continue",
            "its action police says continue",
        ),
        (
            "police_and",
            "police rate 8kbit burst 3000 conform-exceed drop/pipe action pass",
            "it has a policer and other actions",
        ),
    ] {
        let police = of(more);
        if !knows("police", &on_d1(&[INGRESS, &police])) {
            return;
        }
        let mut shaped = Shaped::start(name, 2, &[INGRESS, &police]);
        shaped.burst(&[(Flow::new(0, 500), 12)]);
        shaped.rest(Duration::from_millis(500));
        shaped.same_frames();
        shaped.stays(words);
        shaped.finish(0.0);
    }
}

/// Another rate, another filter, none: each as in the kernel, at once.
#[test]
fn changes() {
    let line = |verb: &str, more: &str| {
        format!(
            "tc filter {verb} dev d0 parent ffff: protocol ip prio 7 handle 1 matchall action police {more} conform-exceed drop"
        )
    };
    let first = line("add", "rate 8kbit burst 3000");
    if !knows("police", &on_d1(&[INGRESS, &first])) {
        return;
    }
    let mut shaped = Shaped::start("police_changes", 2, &[INGRESS, &first]);
    let burst = |shaped: &mut Shaped, id| {
        shaped.burst(&[(Flow::new(id, 500), 12)]);
        shaped.rest(Duration::from_millis(600));
        shaped.same_frames();
        shaped.came(id)
    };
    assert_eq!(burst(&mut shaped, 0), 6);
    shaped.change(&["tc actions replace action police rate 8kbit burst 5000 conform-exceed drop index 1"]);
    assert_eq!(burst(&mut shaped, 1), 10);
    shaped.change(&["tc filter add dev d0 parent ffff: protocol ip prio 6 matchall action pass"]);
    assert_eq!(burst(&mut shaped, 2), 12);
    shaped.change(&[
        "tc filter del dev d0 parent ffff: prio 6",
        "tc qdisc del dev d0 ingress",
    ]);
    assert_eq!(burst(&mut shaped, 3), 12);
    shaped.change(&[INGRESS, &line("add", "rate 8kbit burst 1000")]);
    assert_eq!(burst(&mut shaped, 4), 2);
    shaped.finish(1.0);
}
