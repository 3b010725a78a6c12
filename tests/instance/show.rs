//! What a running instance says of itself: traces, and `show` under load.
//!
//! JSON is what scripts rely on, so it is what is judged; of the text only that there is some. A trace must end by itself
//! after its count.

use crate::lab::bypath::BINARY;
use crate::net::Net;
use crate::stream::Stream;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Until a trace that was started sees what passes, on a busy machine too; and until it has ended after its last packet.
const TRACED_WITHIN: Duration = Duration::from_millis(1500);
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// The lines of a running `bypath trace ARGUMENTS --json`, by packet, once it has ended; `during` makes the packets.
fn trace(net: &Net, arguments: &str, during: impl FnOnce()) -> BTreeMap<u64, Vec<serde_json::Value>> {
    let mut command = Command::new(BINARY);
    command.arg("trace").args(arguments.split_whitespace()).arg("--json");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = net.router.spawn(&mut command).expect("bypath trace");
    let stdout = child.stdout.take().expect("stdout is piped");
    let reader = std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(TRACED_WITHIN);
    during();
    let until = Instant::now() + ENDED_WITHIN;
    let mut ended = false;
    while !ended && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
        ended = child.try_wait().expect("wait for the trace").is_some();
    }
    let _ = child.kill();
    let _ = child.wait();
    let lines = reader.join().expect("reader");
    assert!(
        ended,
        "`bypath trace {arguments}` goes on after its packets: {lines:#?}"
    );
    let mut packets: BTreeMap<u64, Vec<serde_json::Value>> = BTreeMap::new();
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        packets
            .entry(line["packet"].as_u64().expect("a number"))
            .or_default()
            .push(line);
    }
    packets
}

#[test]
fn what_is_not_there_is_said_and_json_is_json() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    let (code, said) = net.command("show qdisc d0");
    assert!(
        code == Some(0) && said.starts_with("d0 is not shaped or policed by bypath"),
        "{said}"
    );
    let (code, said) = net.command("show qdisc d0 --json");
    assert_eq!((code, said.trim_end()), (Some(0), "[]"));
    let (code, said) = net.command("show qdisc d9");
    let line = "bypath: error: d9 is not a port of this bypath: `bypath show ports` lists them";
    assert_eq!((code, said.trim_end()), (Some(1), line));
    for words in ["show conntrack --count --json", "conntrack flush --json"] {
        let (code, said) = net.command(words);
        assert_eq!((code, said.trim_end()), (Some(0), "{\"connections\":0}"), "{words}");
    }
    bypath.stop();
}

#[test]
fn a_trace_shows_the_walk() {
    let net = Net::new(2);
    // From a host that probes the router the router learns its address again, without asking for it.
    for host in &net.hosts {
        host.sysctl(&[("net.ipv4.neigh.e0.delay_first_probe_time", "600")]);
    }
    for arguments in ["--workers 1", "--workers 2"] {
        let bypath = net.bypath(arguments);
        net.ping_until(0, "10.0.1.2");
        let packets = trace(&net, "--count 3 --proto icmp", || {
            assert_eq!(net.ping(0, "10.0.1.2", 5), 5);
        });
        assert_eq!(packets.len(), 3, "{packets:#?}");
        for lines in packets.values() {
            let boxes: Vec<&str> = lines.iter().filter_map(|line| line["box"].as_str()).collect();
            assert_eq!(boxes, ["rx", "routing", "forward", "neighbor", "tx"]);
            let last = lines.last().expect("a line");
            assert_eq!(last["verdict"], "forward", "{lines:#?}");
            let arrived = last["port"].as_str().expect("a port");
            assert_eq!(last["reason"], if arrived == "d0" { "d1" } else { "d0" });
        }
        net.router.run("ip neigh flush dev d1");
        let packets = trace(&net, "--count 1 --dst 10.0.1.2", || {
            assert_eq!(net.ping(0, "10.0.1.2", 1), 1);
        });
        let last = packets[&1].last().expect("a line");
        assert_eq!(
            (&last["box"], &last["verdict"], &last["reason"]),
            (&"neighbor".into(), &"punt".into(), &"neighbor_unresolved".into()),
            "{packets:#?}"
        );
        bypath.stop();
    }
}

#[test]
fn show_answers_under_load() {
    let net = Net::new(2);
    let bypath = net.bypath("");
    let flow = Stream::start(&net.hosts[0], &net.hosts[1], "10.0.1.2", Duration::from_micros(100));
    std::thread::sleep(Duration::from_millis(500));
    for what in [
        "totals",
        "ports",
        "workers",
        "drops",
        "routes",
        "neighbors",
        "rules",
        "latency",
    ] {
        for json in ["", " --json"] {
            let (code, said) = net.command(&format!("show {what}{json}"));
            assert_eq!(code, Some(0), "show {what}{json}: {said}");
            assert!(!said.trim().is_empty(), "show {what}{json} says nothing");
        }
    }
    let latency = net.show("latency");
    let of = |port: &str| {
        let rows = latency.as_array().expect("a list");
        let row = rows
            .iter()
            .find(|row| row["port"] == port)
            .unwrap_or_else(|| panic!("no {port} in {latency}"));
        (
            row["count"].as_u64().expect("a count"),
            row["p50_ns"].as_u64().expect("nanoseconds"),
        )
    };
    let (count, median_ns) = of("d1");
    println!(
        "latency under 10,000 packets a second: median {:.1} us of {count}",
        median_ns as f64 / 1e3
    );
    // One frame in 64 is stamped.
    assert!(count >= 10 && (1_000..1_000_000_000).contains(&median_ns), "{latency}");
    let flow = flow.end();
    flow.assert_whole(&net);
    net.assert_audit(&bypath);
    bypath.stop();
}
