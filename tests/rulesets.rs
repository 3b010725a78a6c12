//! `bypath check` on the rulesets that programs install: each is loaded into a router in a network namespace, and what of it
//! stays in the kernel is compared with what is written down (tests/rulesets/NAME.stays), rule by rule with its reason, so
//! that a change of either is seen. Needs root, nft and iptables-nft, and no AF_XDP.
//!
//! A file of stays has a line for each: families, traffic and reason as `check` has them, rules by their place in the chain
//! instead of a handle. Above it a comment says why it stays. `left out: LINE` is a line that the kernel of the day has no
//! module for; a kernel that takes more of a file would be another test, which is said, and skipped.

#[allow(dead_code)]
#[path = "mirror/lab.rs"]
mod lab;
#[path = "rulesets/load.rs"]
mod load;

use lab::{ip, namespace, sysctl};
use serde_json::Value;
use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn run(line: &str, input: &str) -> Output {
    let mut words = line.split_whitespace();
    let mut child = Command::new(words.next().expect("a program"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // None of these writes before it has read all; one that ends early is judged by its exit code.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("wait")
}

/// A router with these two ports, of both families, on the LAN and the WAN that the rulesets are for.
fn router(ports: [&str; 2]) {
    for (i, name) in ports.iter().enumerate() {
        ip(&format!("link add {name} type veth peer name far{i}"));
        sysctl(&format!("ipv6/conf/far{i}/disable_ipv6"), "1");
        ip(&format!("link set {name} up"));
        ip(&format!("link set far{i} up"));
        ip(&format!("addr add 10.0.{i}.1/24 dev {name}"));
        ip(&format!("addr add fd00:0:0:{i}::1/64 dev {name} nodad"));
        sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0");
    }
    sysctl("ipv4/ip_forward", "1");
    sysctl("ipv6/conf/all/forwarding", "1");
    sysctl("ipv4/conf/all/rp_filter", "0");
}

/// The exit code of `check`, and a line for each that stays, rules by their place.
fn stays(ports: [&str; 2]) -> (Option<i32>, Vec<String>) {
    let output = run(
        &format!(
            "{} check --json {} {}",
            env!("CARGO_BIN_EXE_bypath"),
            ports[0],
            ports[1]
        ),
        "",
    );
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Value = serde_json::from_slice(&output.stdout).expect("JSON of check");
    let places = places();
    let line = |row: &Value| {
        let [family, traffic, why] = ["family", "traffic", "why"].map(|key| row[key].as_str().expect(key).to_owned());
        format!("{family} {traffic}: {}", by_place(&why, &places))
    };
    let stays = rows.as_array().expect("a list").iter().map(line).collect();
    (output.status.code(), stays)
}

/// `check` names a rule by its handle, which depends on the version of the program that loaded it: family, table and handle,
/// to its place in its chain.
fn places() -> HashMap<(String, String, u64), usize> {
    let all: Value = serde_json::from_slice(&run("nft -j -a list ruleset", "").stdout).expect("JSON of nft");
    let mut counts: HashMap<[String; 3], usize> = HashMap::new();
    let mut places = HashMap::new();
    for rule in all["nftables"].as_array().expect("a list") {
        let rule = &rule["rule"];
        let Some(handle) = rule["handle"].as_u64() else {
            continue;
        };
        let [family, table, chain] = ["family", "table", "chain"].map(|key| rule[key].as_str().expect(key).to_owned());
        let place = counts.entry([family.clone(), table.clone(), chain]).or_default();
        *place += 1;
        places.insert((family, table, handle), *place);
    }
    places
}

/// `nft table ip nat, chain DOCKER, rule handle 10 is ...` with `rule 1` for its handle.
fn by_place(line: &str, places: &HashMap<(String, String, u64), usize>) -> String {
    let Some((before, after)) = line.split_once("rule handle ") else {
        return line.to_owned();
    };
    let table = before.split_once("nft table ").expect("a table").1;
    let (table, _) = table.split_once(',').expect("a chain");
    let (family, table) = table.split_once(' ').expect("a family");
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let handle = after[..digits].parse().expect("a handle");
    let place = places[&(family.to_owned(), table.to_owned(), handle)];
    format!("{before}rule {place}{}", &after[digits..])
}

/// The lines of a file of stays: those of `check`, and what was left out.
fn written(file: &str) -> (Vec<String>, Vec<String>) {
    let text = std::fs::read_to_string(load::path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (mut stays, mut left_out, mut said_why) = (Vec::new(), Vec::new(), false);
    for line in text.lines() {
        if line.starts_with('#') {
            said_why = true;
            continue;
        }
        if line.trim().is_empty() {
            said_why = false;
            continue;
        }
        assert!(said_why, "{file}: no comment says why: {line}");
        match line.strip_prefix("left out: ") {
            Some(line) => left_out.push(line.to_owned()),
            None => stays.push(line.to_owned()),
        }
    }
    (stays, left_out)
}

/// Loads the files and compares what stays with `NAME.stays`.
fn judge(name: &'static str, lan: &'static str, files: &'static [&'static str]) {
    namespace(move || {
        let ports = [lan, "d1"];
        router(ports);
        let (wanted, left_out) = written(&format!("{name}.stays"));
        let mut dropped = Vec::new();
        for file in files {
            dropped.extend(load::load(file, run).1.into_iter().map(|dropped| dropped.line));
        }
        if dropped.len() < left_out.len() {
            println!("SKIPPED {name}: this kernel takes more of it: {dropped:?} of {left_out:?} was left out");
            return;
        }
        assert_eq!(dropped, left_out, "{name}: what this kernel lacks");
        let (code, found) = stays(ports);
        assert_eq!(code, Some(if found.is_empty() { 0 } else { 3 }));
        let show = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        assert!(
            found == wanted,
            "{name}: `bypath check` leaves\n{}\nbut {name}.stays says\n{}",
            show(&found),
            show(&wanted)
        );
        println!(
            "{name}: {} lines stay in the kernel, {} left out",
            found.len(),
            dropped.len()
        );
    });
}

#[test]
fn home_router() {
    judge("home-router", "d0", &["home-router.nft"]);
}

#[test]
fn openwrt_fw4() {
    judge("openwrt-fw4", "d0", &["openwrt-fw4.nft"]);
}

#[test]
fn openwrt_fw4_with_offload_and_helpers() {
    judge("openwrt-fw4-offload", "d0", &["openwrt-fw4-offload.nft"]);
}

#[test]
fn firewalld() {
    judge("firewalld", "d0", &["firewalld.nft"]);
}

#[test]
fn ufw() {
    judge("ufw", "d0", &["ufw.iptables", "ufw.ip6tables"]);
}

#[test]
fn docker_nftables() {
    judge("docker-nftables", "bridge1", &["docker-nftables.nft"]);
}

#[test]
fn docker_iptables() {
    judge("docker-iptables", "bridge1", &["docker-iptables.iptables"]);
}

#[test]
fn kube_proxy() {
    judge("kube-proxy", "d0", &["kube-proxy.nft"]);
}
