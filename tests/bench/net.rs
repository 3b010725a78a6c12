//! What bench's tests send through: a plain pair, or a client, a box between, and a server.
//!
//! ```text
//!   plain:    x0 ==veth== y0          one namespace
//!   between:  c0 ==veth== d0 [box] d1 ==veth== s0       client 10.1.0.2, server 10.2.0.2; the box routes or bridges
//! ```

use crate::lab::bypath::BINARY;
use crate::lab::namespace::Namespace;
use bypath::bench::outcome::Outcome;
use bypath::bench::report::Report;
use std::path::PathBuf;

/// What bench said.
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// `bypath bench WORDS` in `namespace`.
pub fn bench(namespace: &Namespace, words: &str) -> Said {
    let output = namespace.output(&format!("{BINARY} bench {words}"), "");
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The report of `bypath bench WORDS`, which must succeed.
pub fn report(namespace: &Namespace, words: &str) -> Report {
    let said = bench(namespace, &format!("{words} --json -"));
    assert_eq!(said.code, Some(0), "bench {words}: {}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("bench {words}: {error}: {}", said.stdout))
}

/// The outcome of the one trial of `bypath bench WORDS`.
pub fn outcome(namespace: &Namespace, words: &str) -> Outcome {
    let mut report = report(namespace, &format!("--no-own-error {words}"));
    assert_eq!(report.entries.len(), 1, "{report:?}");
    let outcome = report.entries.remove(0).outcome;
    println!("bench {words}: {outcome:?}");
    assert_eq!(outcome.offered, outcome.received + outcome.lost, "{outcome:?}");
    outcome
}

/// The one line that `bypath bench WORDS` ends with.
pub fn refusal(namespace: &Namespace, words: &str, code: i32) -> String {
    let said = bench(namespace, words);
    assert_eq!(said.code, Some(code), "bench {words}: {}{}", said.stdout, said.stderr);
    let lines: Vec<&str> = said
        .stderr
        .lines()
        .filter(|line| line.starts_with("bypath: error: "))
        .collect();
    let [line] = lines[..] else {
        panic!("bench {words}: {}", said.stderr);
    };
    println!("bench {words}: {line}");
    line.to_owned()
}

/// A veth pair x0, y0 in one namespace.
pub fn plain() -> Namespace {
    let here = Namespace::new();
    here.sysctl(&[("net.ipv6.conf.default.disable_ipv6", "1")]);
    here.run_with(
        "ip -batch -",
        "link add x0 type veth peer name y0\nlink set x0 up\nlink set y0 up\n",
    );
    here
}

/// Client, box and server.
pub struct Between {
    pub client: Namespace,
    pub between: Namespace,
    pub server: Namespace,
}

impl Between {
    fn new() -> Self {
        let [client, between, server] = [(); 3].map(|()| Namespace::new());
        for namespace in [&client, &between, &server] {
            namespace.sysctl(&[("net.ipv6.conf.default.disable_ipv6", "1")]);
        }
        let pairs = format!(
            "link add d0 type veth peer name c0 netns {}\nlink add d1 type veth peer name s0 netns {}\n\
             link set d0 up\nlink set d1 up\n",
            client.path(),
            server.path()
        );
        between.run_with("ip -batch -", &pairs);
        // Frames that the kernel makes out of c0 arrive where d0 runs NAPI.
        between.run("ethtool -K d0 gro on");
        client.run_with("ip -batch -", "link set c0 up\naddr add 10.1.0.2/24 dev c0\n");
        server.run_with("ip -batch -", "link set s0 up\naddr add 10.2.0.2/24 dev s0\n");
        Self {
            client,
            between,
            server,
        }
    }

    /// The box routes; the server's address is not known to it yet.
    pub fn routed() -> Self {
        let made = Self::new();
        made.between.sysctl(&[("net.ipv4.ip_forward", "1")]);
        made.between.run_with(
            "ip -batch -",
            "addr add 10.1.0.1/24 dev d0\naddr add 10.2.0.1/24 dev d1\n",
        );
        made.server.run("ip route add default via 10.2.0.1");
        made
    }

    /// The box bridges.
    pub fn bridged() -> Self {
        let made = Self::new();
        made.between.run_with(
            "ip -batch -",
            "link add br0 type bridge mcast_snooping 0\nlink set d0 master br0\nlink set d1 master br0\nlink set br0 up\n",
        );
        let mac = made.mac_of(&made.server, "s0");
        made.between
            .run(&format!("bridge fdb replace {mac} dev d1 master static"));
        made
    }

    /// The Ethernet address of a link.
    pub fn mac_of(&self, namespace: &Namespace, link: &str) -> String {
        let said = namespace.run(&format!("ip -o link show dev {link}"));
        let mac = said.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
        mac.unwrap_or_else(|| panic!("{link}: {said}")).to_owned()
    }

    /// Has nft read a ruleset in the box.
    pub fn rules(&self, ruleset: &str) {
        self.between.run_with("nft -f -", ruleset);
    }

    /// The flags of both ports, and the addresses of what is sent through a router.
    pub fn ports(&self) -> String {
        let named = |namespace: &Namespace, link| format!("--port {}:{link}", namespace.path());
        format!("{} {}", named(&self.client, "c0"), named(&self.server, "s0"))
    }

    /// ... and the addresses of what is sent to the server by the router.
    pub fn by_router(&self) -> String {
        let gateway = self.mac_of(&self.between, "d0");
        format!("{} --dst-mac {gateway} --src 10.1.0.2 --dst 10.2.0.2", self.ports())
    }
}

/// A path for a file of a test, which nothing else writes.
pub fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("bypath-bench-{}-{name}", std::process::id()))
}
