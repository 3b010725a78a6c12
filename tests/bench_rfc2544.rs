//! `bypath bench rfc2544`, the whole of it, through a router that forwards a known number of frames per second and drops
//! what is above.
//!
//! ```text
//!   client: c0 10.1.0.2 ==veth== d0 10.1.0.1 [router: nft limit] d1 10.2.0.1 ==veth== s0 10.2.0.2 :server
//! ```
//!
//! The limit is nftables' token bucket, so the right answers are known whatever this machine is worth: the throughput is its
//! rate, a loss is what is above it, the longest burst is what it holds. Tolerances are wide, since trials are short. Needs
//! root, ip, nft, ethtool.

mod lab {
    #![allow(dead_code, reason = "a part of the lab is used here")]
    pub mod namespace;
    pub mod sys;
}

use bypath::bench::report::{Report, json};
use lab::namespace::Namespace;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What the router lets through, frames per second.
const LIMIT_PPS: f64 = 20_000.0;
/// What it lets through at once.
const BURST: u64 = 500;
/// A run that takes longer hangs.
const RUN_MAX: Duration = Duration::from_secs(240);

/// The three namespaces. A process in each end gives it a name for `--port`.
struct Net {
    client: Namespace,
    router: Namespace,
    server: Namespace,
    ends: [Sleeper; 2],
}

/// A process that does nothing, in a namespace; gone with this, or by itself.
struct Sleeper(Child);

impl Sleeper {
    fn new(namespace: &Namespace) -> Self {
        let child = namespace.spawn(Command::new("sleep").arg("600"));
        Sleeper(child.expect("sleep(1)"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Net {
    fn new() -> Self {
        let [client, router, server] = [(); 3].map(|()| Namespace::new());
        for namespace in [&client, &router, &server] {
            namespace.sysctl(&[("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv4.ip_forward", "1")]);
        }
        let links = format!(
            "link add d0 type veth peer name c0 netns {}\nlink add d1 type veth peer name s0 netns {}\n\
             addr add 10.1.0.1/24 dev d0\naddr add 10.2.0.1/24 dev d1\nlink set d0 up\nlink set d1 up\n",
            client.path(),
            server.path()
        );
        router.run_with("ip -batch -", &links);
        client.run("ip link set c0 up");
        server.run("ip link set s0 up");
        // So that it runs NAPI, without which no frame of an XDP source is taken.
        router.run("ethtool -K d0 gro on");
        let neighbor = format!(
            "ip neigh replace 10.2.0.2 lladdr {} dev d1 nud permanent",
            mac(&server, "s0")
        );
        router.run(&neighbor);
        let ends = [Sleeper::new(&client), Sleeper::new(&server)];
        Net {
            client,
            router,
            server,
            ends,
        }
    }

    /// Drops what is above the limit.
    fn limit(&self) {
        let rules = format!(
            "table ip limit {{ chain forward {{ type filter hook forward priority 0; policy drop;\n\
             limit rate {LIMIT_PPS}/second burst {BURST} packets accept; }}; }}\n"
        );
        self.router.run_with("nft -f -", &rules);
    }

    /// Runs `bypath bench rfc2544` from the client to the server.
    fn bench(&self, flags: &str) -> Output {
        let [from, to] = &self.ends;
        let line = format!(
            "bench rfc2544 --port {}:c0 --port {}:s0 --dst-mac {} --src 10.1.0.2 --dst 10.2.0.2 {flags}",
            from.0.id(),
            to.0.id(),
            mac(&self.router, "d0")
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_bypath"));
        command
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self.client.spawn(&mut command).expect("bypath");
        within(RUN_MAX, child)
    }
}

/// What a child said, which is killed after so long.
fn within(time: Duration, child: Child) -> Output {
    let id = child.id().to_string();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let began = Instant::now();
        if is_done.recv_timeout(time).is_err() && began.elapsed() >= time {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
        }
    });
    let output = child.wait_with_output().expect("wait for a child");
    let _ = done.send(());
    watch.join().expect("the watch");
    output
}

fn mac(namespace: &Namespace, link: &str) -> String {
    let shown: serde_json::Value =
        serde_json::from_str(&namespace.run(&format!("ip -j link show {link}"))).expect("ip -j");
    shown[0]["address"].as_str().expect("an address").to_owned()
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.lines().any(|l| l.starts_with("Uid:\t0\t")))
}

/// A file of its own, gone with this.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        Temporary(std::env::temp_dir().join(format!("bypath-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).expect("the report's file")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn skipped(test: &str) -> bool {
    if is_root() {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "not root, and CI is set");
    eprintln!("SKIPPED {test}: needs root");
    true
}

#[test]
fn the_rate_of_a_limit_is_found_and_its_loss_and_its_burst() {
    if skipped("the_rate_of_a_limit_is_found_and_its_loss_and_its_burst") {
        return;
    }
    let net = Net::new();
    net.limit();
    let (json_file, csv, hgrm) = (
        Temporary::new("r.json"),
        Temporary::new("r.csv"),
        Temporary::new("r.hgrm"),
    );
    let output = net.bench(&format!(
        "--size 64 --seconds 0.5 --max-rate 80k --resolution 0.02 --accepted-loss 0.1 --retry 2 --shares 50 --loss-step 25 \
         --repeat 2 --json {} --csv {} --hgrm {}",
        json_file.path(),
        csv.path(),
        hgrm.path()
    ));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    let report: Report = json::read("r.json", &json_file.text()).unwrap();
    let [result] = &report.rfc2544[..] else {
        panic!("{out}\n{err}");
    };

    // What the bucket holds at the beginning comes on top of the rate: 5 % of half a second.
    let pps = result.throughput_pps;
    assert!(
        (0.7 * LIMIT_PPS..1.15 * LIMIT_PPS).contains(&pps),
        "{pps} for {LIMIT_PPS}\n{out}\n{err}"
    );
    assert!(
        err.contains("64 bytes, throughput: ") && err.contains("64 bytes, back-to-back: "),
        "{err}"
    );

    // The loss at 80k, 60k, 40k and 20k is what is above the limit.
    assert!(result.loss_curve.len() >= 3, "{:?}\n{out}", result.loss_curve);
    for &(offered, loss) in &result.loss_curve {
        let right = (1.0 - LIMIT_PPS / offered).max(0.0);
        assert!(
            (loss - right).abs() < 0.15,
            "{loss} for {right} at {offered}\n{out}\n{err}"
        );
    }

    let [(share, delays)] = &result.latency[..] else {
        panic!("{:?}\n{out}", result.latency);
    };
    assert!(
        *share == 0.5 && delays.count > 1000 && delays.min_ns > 0 && delays.min_ns <= delays.p50_ns,
        "{delays:?}"
    );

    // Nothing but the bucket holds frames back, and the accepted loss of 0.1 % is less than a frame of these.
    assert_eq!(result.back_to_back.len(), 2, "{out}\n{err}");
    for &frames in &result.back_to_back {
        assert!(
            (BURST * 7 / 10..BURST * 2).contains(&frames),
            "{frames} for {BURST}\n{out}\n{err}"
        );
    }

    // All of it in the other forms.
    for part in [
        "Throughput (RFC 2544, 26.1)",
        "Latency (RFC",
        "Frame loss (RFC",
        "Back-to-back (RFC",
        "machine ",
    ] {
        assert!(out.contains(part), "{part} in\n{out}");
    }
    let rows = csv.text();
    assert!(rows.starts_with("record,case,subject,"), "{rows}");
    assert!(
        rows.lines().filter(|row| row.starts_with("trial,path,")).count() > 10,
        "{rows}"
    );
    assert!(
        hgrm.text().contains(&format!("Total count    = {:12}]", delays.count)),
        "{}",
        hgrm.text()
    );
}

#[test]
fn a_router_that_drops_everything_is_one_line_of_error() {
    if skipped("a_router_that_drops_everything_is_one_line_of_error") {
        return;
    }
    let net = Net::new();
    net.router.run_with(
        "nft -f -",
        "table ip none { chain f { type filter hook forward priority 0; policy drop; }; }\n",
    );
    let output = net.bench("--size 64 --seconds 0.5 --max-rate 10k --no-own-error");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let said: Vec<&str> = err.lines().filter(|line| line.starts_with("bypath: error: ")).collect();
    assert!(said.len() == 1 && said[0].contains("received none"), "{err}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let _ = &net.server;
}
