//! `bypath check` on a router in a network namespace: nothing to say about a clean one, and whatever stands in the path is
//! named, with exit code 3. Needs root, and no AF_XDP.
//!
//! Each kind of obstacle stands for its way into the answer: guard's notes (nft, tc, a bridge), routes and rules.

#[allow(dead_code)]
#[path = "mirror/lab.rs"]
mod lab;

use lab::{ip, namespace, router};
use std::process::Command;

/// Runs `bypath check` with `args` in this thread's namespace; exit code and stdout.
fn check(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bypath"))
        .arg("check")
        .args(args)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "", "{args:?}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// A router with two ports; it is clean before `command` and must be told of as a line with all of `parts` after it.
fn names(command: &'static str, parts: &'static [&'static str]) {
    namespace(move || {
        router();
        assert_eq!(
            check(&["d0", "d1"]),
            (Some(0), "carried: all that is configured for d0 d1\n".into())
        );
        let mut words = command.split_whitespace();
        let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
        assert!(status.success(), "{command}");
        let (code, text) = check(&["d0", "d1"]);
        assert_eq!(code, Some(3), "{command}: {text}");
        let line = text.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        assert!(line.is_some(), "{command}: no line with {parts:?} in\n{text}");
        assert_eq!(text.lines().count(), 3, "a head, one reason and the last line:\n{text}");
    });
}

#[test]
fn an_nft_base_chain() {
    namespace(|| {
        router();
        let nft = |words: &str| assert!(Command::new("nft").arg(words).status().unwrap().success(), "{words}");
        nft("table inet fw { chain forward { type filter hook forward priority 0; tcp dport 23 reject; }; }");
        let (code, text) = check(&["d0", "d1"]);
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains("fw") && text.contains("forward"), "{text}");
        let (code, json) = check(&["--json", "d0", "d1"]);
        assert_eq!(code, Some(3), "{json}");
        let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(
            rows.as_array()
                .unwrap()
                .iter()
                .all(|row| row["family"].is_string() && row["why"].is_string()),
            "{json}"
        );
        nft("delete table inet fw");
        assert_eq!(check(&["--json", "d0", "d1"]), (Some(0), "[]\n".into()));
    });
}

#[test]
fn a_shaping_qdisc_that_is_not_carried() {
    names(
        "tc qdisc add dev d1 root stab overhead 20 linklayer atm tbf rate 10mbit burst 10kb latency 50ms",
        &["port d1", "tbf", "size table"],
    );
}

#[test]
fn a_shaping_qdisc_that_is_carried_is_named_and_nothing_stays() {
    namespace(|| {
        router();
        let line = "qdisc add dev d1 root handle 1: tbf rate 10mbit burst 10kb latency 50ms";
        let status = Command::new("tc").args(line.split(' ')).status().unwrap();
        assert!(status.success(), "tc {line}");
        let (code, text) = check(&["d0", "d1"]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("qdisc tbf 1: on d1: carried"), "{text}");
    });
}

#[test]
fn an_encapsulating_route() {
    names(
        "ip route add 10.7.0.0/16 encap ip id 1 dst 10.0.1.9 via 10.0.1.2",
        &["inet ", "route 10.7.0.0/16", "encapsulation"],
    );
}

#[test]
fn a_rule_that_is_not_carried() {
    names(
        "ip rule add pref 8 ipproto tcp lookup main",
        &["inet ", "ip rule 8", "ipproto"],
    );
}

#[test]
fn a_chain_that_is_carried_is_named_and_nothing_stays() {
    namespace(|| {
        router();
        let nft = |words: &str| assert!(Command::new("nft").arg(words).status().unwrap().success(), "{words}");
        nft(
            "table inet fw { chain forward { type filter hook forward priority 0; policy drop; \
             ct state established,related accept; iifname d0 accept; }; }",
        );
        let (code, text) = check(&["d0", "d1"]);
        assert_eq!(code, Some(0), "{text}");
        let lines: Vec<_> = text.lines().collect();
        let [first, chain, tracking] = lines[..] else {
            panic!("{text}");
        };
        assert_eq!(first, "carried: all that is configured for d0 d1");
        let says = "nft table inet fw, chain forward: base chain at forward with 2 rules: carried";
        assert!(chain.starts_with("both  all  ") && chain.contains(says), "{text}");
        assert!(
            tracking.contains("conntrack active for IPv4 and IPv6: nft table inet fw"),
            "{text}"
        );
        assert_eq!(check(&["--json", "d0", "d1"]), (Some(0), "[]\n".into()));
    });
}

#[test]
fn a_rule_that_stays_is_named_by_its_handle() {
    namespace(|| {
        router();
        let nft = |words: &str| assert!(Command::new("nft").arg(words).status().unwrap().success(), "{words}");
        nft(
            "table ip fw { chain forward { type filter hook forward priority 0; ct state new accept; counter log; counter; }; }",
        );
        let (code, text) = check(&["d0", "d1"]);
        assert_eq!(code, Some(3), "{text}");
        let line = text.lines().nth(1).unwrap();
        assert!(
            line.starts_with("inet ")
                && line.contains("nft table ip fw, chain forward, rule handle 3 is not carried: log"),
            "{text}"
        );
        assert_eq!(
            text.lines().count(),
            5,
            "a head, the rule, the last line, and the chain and tracking that are carried:\n{text}"
        );
    });
}

#[test]
fn ports_of_a_bridge() {
    namespace(|| {
        router();
        ip("link add br0 type bridge");
        ip("link set br0 up");
        ip("link set d1 master br0");
        let (code, text) = check(&["d0", "d1"]);
        assert_eq!(code, Some(0), "{text}");
        ip("link set d1 type bridge_slave vlan_tunnel on");
        let (code, text) = check(&["d0", "d1"]);
        assert_eq!(code, Some(3), "{text}");
        assert!(
            text.contains("bridging, arriving on d1") && text.contains("vlan_tunnel is on"),
            "{text}"
        );
        ip("link set d1 type bridge_slave vlan_tunnel off");
        assert!(
            Command::new("tc")
                .args("qdisc add dev br0 root bfifo".split(' '))
                .status()
                .unwrap()
                .success()
        );
        let (code, text) = check(&["d0", "d1"]);
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains("port br0") && text.contains("bfifo"), "{text}");
    });
}

#[test]
fn a_port_whose_forwarding_is_off_has_nothing_to_leave() {
    namespace(|| {
        router();
        lab::sysctl("ipv4/ip_forward", "0");
        ip("route add 10.7.0.0/16 encap ip id 1 dst 10.0.1.9 via 10.0.1.2");
        let (code, text) = check(&["d0", "d1"]);
        assert_eq!(code, Some(0), "{text}");
    });
}
