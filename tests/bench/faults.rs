//! Paths with faults of a known kind and number: each is counted, and nothing else is. Rules of nft count frames (`numgen inc`),
//! so that one of ten is exactly one of ten.

use crate::net::{Between, outcome};
use bypath::bench::outcome::Outcome;

const FRAMES: &str = "--rate 4k --seconds 1 --size 64 --flows 1";

/// `count` is a tenth of what was offered.
fn assert_tenth(count: u64, of: &Outcome) {
    assert!(
        of.offered > 100 && count.abs_diff(of.offered / 10) <= 1,
        "{count} of a tenth: {of:?}"
    );
}

fn bridged(rules: &str) -> Outcome {
    let net = Between::bridged();
    net.rules(rules);
    let of = outcome(&net.client, &format!("{} {FRAMES}", net.ports()));
    let counts = format!("{of:?}");
    assert!(of.latency.is_some(), "{counts}");
    of
}

#[test]
fn a_bridge_without_rules_changes_nothing() {
    let of = bridged("");
    assert_eq!((of.lost, of.duplicated, of.corrupted, of.reordered), (0, 0, 0, 0));
}

#[test]
fn one_of_ten_dropped_is_one_of_ten_lost() {
    let of = bridged(
        "table bridge t {\n chain f { type filter hook forward priority 0\n meta protocol ip numgen inc mod 10 == 3 drop\n }\n}\n",
    );
    assert_tenth(of.lost, &of);
    assert_eq!((of.duplicated, of.corrupted, of.reordered), (0, 0, 0));
}

#[test]
fn one_of_ten_sent_twice_is_a_duplicate() {
    let of = bridged(
        "table netdev t {\n chain in { type filter hook ingress device \"d0\" priority 0\n\
         meta protocol ip numgen inc mod 10 == 5 dup to \"d1\"\n }\n}\n",
    );
    assert_tenth(of.duplicated, &of);
    assert_eq!((of.lost, of.corrupted, of.reordered), (0, 0, 0));
}

#[test]
fn one_of_ten_damaged_is_corrupted_and_not_received() {
    let of = bridged(
        "table netdev t {\n chain in { type filter hook ingress device \"d0\" priority 0\n\
         meta protocol ip numgen inc mod 10 == 7 @th,224,8 set 0xff\n }\n}\n",
    );
    assert_tenth(of.corrupted, &of);
    assert_eq!(of.lost, of.corrupted, "a damaged frame is not what was sent");
    assert_eq!((of.duplicated, of.reordered), (0, 0));
}

#[test]
fn frames_of_another_kind_are_foreign() {
    let net = Between::bridged();
    // A ping from the box goes to the server all the while; the receiver leaves it, and what it answers, to the kernel.
    net.between.run("ip addr add 10.2.0.9/24 dev br0");
    let pings = net.between.enter(|| {
        let mut ping = std::process::Command::new("ping");
        ping.args(["-n", "-q", "-c", "15", "-i", "0.1", "10.2.0.2"])
            .stdout(std::process::Stdio::piped());
        ping.spawn().expect("ping")
    });
    let of = outcome(&net.client, &format!("{} {FRAMES}", net.ports()));
    let said = pings.wait_with_output().expect("ping ends");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("15 received"),
        "the port does not serve its address any more: {said}"
    );
    assert!(of.foreign > 0 && of.lost == 0, "{of:?}");
}

#[test]
fn frames_that_wait_while_others_pass_are_reordered() {
    let net = Between::bridged();
    net.rules(
        "table bridge t {\n chain f { type filter hook forward priority 0\n\
         meta protocol ip numgen inc mod 10 == 4 meta priority set 1:30\n }\n}\n",
    );
    // One of ten waits for tokens: 64 bytes of 24 kbit/s take longer than ten frames of 1,000 a second.
    net.between.run_with(
        "tc -batch -",
        "qdisc add dev d1 root handle 1: htb default 10\n\
         class add dev d1 parent 1: classid 1:10 htb rate 1gbit\n\
         class add dev d1 parent 1: classid 1:30 htb rate 24kbit ceil 24kbit burst 100 cburst 100\n",
    );
    let flags = format!("{} --rate 1k --seconds 1 --size 64", net.ports());
    let of = outcome(&net.client, &flags);
    assert_eq!((of.lost, of.duplicated, of.corrupted), (0, 0, 0));
    assert!(of.reordered > 0 && of.reordered <= of.offered / 10 + 1, "{of:?}");
    let latency = of.latency.expect("timed");
    assert!(latency.max_ns > 2_000_000, "the last of them wait longest: {latency:?}");
}
