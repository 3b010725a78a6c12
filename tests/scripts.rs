//! What a newcomer runs first: `scripts/demo`, `scripts/home-router` and `scripts/k8s-walk` end well with the bypath of this build,
//! and what README.md and docs/KUBERNETES.md quote of them is what they print. Needs root, and the programs of `scripts/setup lab`.
//!
//! Each runs in network, mount and PID namespaces of its own, which end with it whatever happens; /run/netns, where it keeps its
//! namespaces by name, is one of those and must be empty afterwards. One after the other: all of them wait for answers in time. Of
//! what is quoted numbers, times and Ethernet addresses may be others.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Mutex;

/// Of a script, in seconds; it takes a minute or two at most.
const SECONDS_MAX: &str = "300";
static ONE: Mutex<()> = Mutex::new(());

/// Runs a script, which must exit with 0 and leave nothing; what it printed. `None` where that cannot be.
fn run(name: &str) -> Option<String> {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let can = Command::new("unshare").args(namespaces).arg("true").output();
    if !can.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "unshare does not work, and CI is set");
        println!("SKIPPED scripts/{name}: needs root and unshare(1)");
        return None;
    }
    let inside = "mkdir -p /run/netns; mount -t tmpfs netns /run/netns; ip link set lo up; code=0; \
                  timeout --kill-after=20 \"$0\" \"scripts/$1\" || code=$?; \
                  [ -z \"$(ls -A /run/netns)\" ] || { echo \"left: $(ls /run/netns)\"; code=1; }; exit $code";
    let output = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", inside, SECONDS_MAX, name])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("BYPATH", env!("CARGO_BIN_EXE_bypath"))
        .env_remove("SUDO_USER")
        .output()
        .expect("unshare");
    let [said, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        output.status.success(),
        "scripts/{name}: {}\n{said}\n{errors}",
        output.status
    );
    assert!(!said.contains("FAILED"), "{said}");
    Some(said)
}

/// A line with what may differ from run to run taken out: numbers, units of time, Ethernet addresses, the width of columns.
fn pattern(line: &str) -> String {
    let word = |word: &str| match word {
        "ns" | "us" | "ms" | "s" => "time".to_owned(),
        word if word.matches(':').count() == 5 => "lladdr".to_owned(),
        word => {
            let numbers = word.replace(|c: char| c.is_ascii_digit(), "#");
            let parts = numbers.split(['#', ',']).filter(|part| !matches!(*part, "" | "."));
            let is_number = numbers.starts_with('#');
            let joined = parts.collect::<Vec<_>>().join("#");
            if is_number { format!("#{joined}") } else { joined }
        }
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// The lines of the blocks of text behind `head` in a document, without commands.
fn quoted<'a>(document: &'a str, head: &str) -> Vec<&'a str> {
    let section = document.split(head).nth(1).expect(head);
    let section = section.split("\n## ").next().unwrap_or(section);
    let blocks = section.split("```text\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or(block).lines());
    lines
        .filter(|line| !line.starts_with("$ ") && !line.trim().is_empty())
        .collect()
}

/// Every line that is quoted must have been printed.
fn printed(quoted: &[&str], said: &str) {
    let all: HashSet<String> = said.lines().map(pattern).collect();
    for line in quoted {
        assert!(all.contains(&pattern(line)), "quoted, and not printed: {line}\n{said}");
    }
}

#[test]
fn patterns_forget_numbers_and_nothing_else() {
    let same = [
        ("received   257,304", "received 3"),
        ("d0  2  91.6 us  1.2 ms", "d0 12 1 ms 77.0 ns"),
        (
            "#1 d0  tx  rewrote f6:ec:f0:6b:cd:4e > c6:d4:c6:00:8c:b4, ttl 64 -> 63",
            "#2 d0 tx rewrote 02:00:00:00:00:01 > 02:00:00:00:00:02, ttl 9 -> 8",
        ),
    ];
    for (one, other) in same {
        assert_eq!(pattern(one), pattern(other));
    }
    let differ = [
        ("forward  out by d1, mtu 1500", "forward  out by d1, 84 bytes fit"),
        ("punted 1", "dropped 1"),
        ("held 0", "held"),
    ];
    for (one, other) in differ {
        assert_ne!(pattern(one), pattern(other));
    }
}

#[test]
fn the_demo_is_what_the_readme_shows() {
    let Some(said) = run("demo") else { return };
    let session = quoted(include_str!("../README.md"), "## A session\n");
    assert!(
        session.len() >= 20,
        "the session of README.md is not found: {session:?}"
    );
    printed(&session, &said);
}

#[test]
fn the_home_router_keeps_its_sessions() {
    let Some(said) = run("home-router") else { return };
    for session in ["ssh", "dns", "curl", "forwarded", "iperf3"] {
        assert!(said.contains(&format!("ok: {session} went on all the time")), "{said}");
    }
}

#[test]
fn a_pods_packet_goes_as_the_page_about_it_says() {
    if !std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() {
        println!("SKIPPED scripts/k8s-walk: br_netfilter is not in this kernel, or not loaded");
        return;
    }
    let Some(said) = run("k8s-walk") else { return };
    let page = include_str!("../docs/KUBERNETES.md");
    let traced = [
        "## A service whose endpoint is on the same bridge\n",
        "## A service whose endpoint is on another node\n",
    ];
    let traced: Vec<&str> = traced.into_iter().flat_map(|head| quoted(page, head)).collect();
    assert!(
        traced.len() >= 30,
        "the traces of docs/KUBERNETES.md are not found: {traced:?}"
    );
    printed(&traced, &said);
}
