//! A router and real hosts, with offloads as the kernel brings them.
//!
//! ```text
//!   host 0: e0 10.0.0.2/24 fd00:0:0:0::2/64 ==veth== d0 10.0.0.1 [router] d1 10.0.1.1 ==veth== e0 10.0.1.2 :host 1   ...
//! ```

use crate::lab::bypath::{BINARY, Bypath, Totals};
use crate::lab::namespace::Namespace;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A router, its ports d0, d1, ..., and a host behind each.
pub struct Net {
    pub router: Namespace,
    pub hosts: Vec<Namespace>,
    /// Queues of the ports that are made.
    pub queues: usize,
    /// The router's ports are of the bridge `br0`.
    bridged: bool,
}

impl Net {
    /// `ports` ports of one queue.
    pub fn new(ports: usize) -> Self {
        Self::with_queues(ports, 1)
    }

    /// `ports` ports of `queues` queues.
    pub fn with_queues(ports: usize, queues: usize) -> Self {
        let router = Namespace::new();
        router.sysctl(&[
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv6.conf.all.accept_dad", "0"),
        ]);
        let hosts: Vec<Namespace> = (0..ports).map(|_| Namespace::new()).collect();
        let mut net = Net {
            router,
            hosts,
            queues,
            bridged: false,
        };
        (0..ports).for_each(|port| net.plug(port, ""));
        net
    }

    /// A bridge `br0` with 10.0.0.1/24, and `ports` ports of it, a host behind each: 10.0.0.2, 10.0.0.3, ...
    pub fn bridged(ports: usize) -> Self {
        let mut net = Self::new(0);
        net.bridged = true;
        net.make_bridge();
        (0..ports).for_each(|port| net.plug(port, ""));
        net
    }

    /// Makes the bridge, without ports.
    pub fn make_bridge(&self) {
        let lines =
            "link add br0 address 02:00:00:00:00:01 type bridge\nlink set br0 up\naddr add 10.0.0.1/24 dev br0\n";
        self.router.run_with("ip -batch -", lines);
    }

    /// Makes port `port` of the bridge, and its host if there is none.
    fn plug_bridged(&mut self, port: usize, extra: &str) {
        if port == self.hosts.len() {
            self.hosts.push(Namespace::new());
        }
        let host = &self.hosts[port];
        self.router.run_with(
            "ip -batch -",
            &format!(
                "link add name d{port} {extra} type veth peer name e0 netns {}\nlink set d{port} master br0 up\n",
                host.path()
            ),
        );
        let address = port + 2;
        host.run_with(
            "ip -batch -",
            &format!("link set e0 up\naddr add 10.0.0.{address}/24 dev e0\nroute replace default via 10.0.0.1\n"),
        );
    }

    /// Makes the link of port `port`, with `extra` arguments for the router's end, and both ends' addresses.
    pub fn plug(&mut self, port: usize, extra: &str) {
        if self.bridged {
            return self.plug_bridged(port, extra);
        }
        let (queues, host) = (self.queues, &self.hosts[port]);
        self.router.run(&format!(
            "ip link add name d{port} {extra} numtxqueues {queues} numrxqueues {queues} type veth \
             peer name e0 numtxqueues {queues} numrxqueues {queues} netns {}",
            host.path()
        ));
        self.router.run_with(
            "ip -batch -",
            &format!(
                "link set d{port} up\naddr add 10.0.{port}.1/24 dev d{port}\n\
                 addr add fd00:0:0:{port}::1/64 dev d{port} nodad\n"
            ),
        );
        host.run_with(
            "ip -batch -",
            &format!(
                "link set e0 up\naddr add 10.0.{port}.2/24 dev e0\naddr add fd00:0:0:{port}::2/64 dev e0 nodad\n\
                 route replace default via 10.0.{port}.1\nroute replace default via fd00:0:0:{port}::1\n"
            ),
        );
    }

    /// The ports' names.
    pub fn names(&self) -> Vec<String> {
        (0..self.hosts.len()).map(|port| format!("d{port}")).collect()
    }

    /// `bypath run` on all ports, ready.
    pub fn bypath(&self, arguments: &str) -> Bypath {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        Bypath::start(&self.router, &self.names(), &arguments)
    }

    /// `bypath WORDS` in the router, to its end: exit code and what it said on both streams.
    pub fn command(&self, words: &str) -> (Option<i32>, String) {
        let output = self.router.output(&format!("{BINARY} {words}"), "");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said.into_owned())
    }

    /// `bypath show WHAT --json`.
    pub fn show(&self, what: &str) -> serde_json::Value {
        let text = self.router.run(&format!("{BINARY} show {what} --json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("show {what} --json: {error}: {text}"))
    }

    /// Frames that the receive rings, of AF_XDP and of the veths whose peers have XDP, had no room for.
    pub fn starved(&self) -> u64 {
        let drops = self.show("drops");
        let rows = drops.as_array().expect("a list").iter();
        let here = rows.filter(|row| {
            let is = |key: &str, starts: &str| row[key].as_str().is_some_and(|value| value.starts_with(starts));
            is("place", "d") && (is("reason", "rx_") || is("reason", "fill_"))
        });
        let here: u64 = here.map(|row| row["frames"].as_u64().expect("a count")).sum();
        // veth counts on the side that sends.
        let links = self.hosts.iter().chain([&self.router]).map(|namespace| {
            let text = namespace.run("ip -s -j link");
            let links: serde_json::Value = serde_json::from_str(&text).expect("a list in JSON");
            let links = links.as_array().expect("a list").iter();
            let dropped = links.filter_map(|link| link["stats64"]["tx"]["dropped"].as_u64());
            dropped.sum::<u64>()
        });
        here + links.sum::<u64>()
    }

    /// Pings from host `from`; how many of `count` were answered.
    pub fn ping(&self, from: usize, address: &str, count: u32) -> u32 {
        let output = self.hosts[from].output(&format!("ping -n -c {count} -i 0.05 -W 1 {address}"), "");
        let said = String::from_utf8_lossy(&output.stdout);
        said.split(" received")
            .next()
            .and_then(|before| before.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("ping said {said}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Pings from host `from` until an answer comes, for at most five seconds.
    pub fn ping_until(&self, from: usize, address: &str) {
        let until = Instant::now() + Duration::from_secs(5);
        while self.ping(from, address, 1) == 0 {
            assert!(Instant::now() < until, "no answer from {address} to host {from}");
        }
    }

    /// iperf3 from host `from` to host `to`; the receiver's bits per second.
    pub fn iperf(&self, from: usize, to: usize, arguments: &str) -> f64 {
        self.iperf_to(from, &self.hosts[to], &format!("10.0.{to}.2"), arguments)
    }

    /// iperf3 from host `from` to a server in `to` at `address`.
    pub fn iperf_to(&self, from: usize, to: &Namespace, address: &str, arguments: &str) -> f64 {
        let _server = Server::start(to, "iperf3 -s -1", 5201);
        let text = self.hosts[from].run(&format!("iperf3 -J -c {address} {arguments}"));
        let report: serde_json::Value = serde_json::from_str(&text).expect("iperf3 -J");
        let received = if arguments.contains("-u") {
            "sum"
        } else {
            "sum_received"
        };
        let bits = report["end"][received]["bits_per_second"].as_f64();
        bits.unwrap_or_else(|| panic!("iperf3 to {address} {arguments}: {text}"))
    }

    /// Panics unless the router bears no trace of bypath.
    ///
    /// Whoever looks at all programs of this machine, another test's bypath say, keeps each alive for as long as it looks.
    pub fn assert_nothing_left(&self) {
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let links = self.router.run("ip -d link");
            let programs = self.router.run("bpftool net show");
            let of_links = ["bypath0", "xdp"].into_iter().find(|what| links.contains(what));
            let hooks = ["tcx", "clsact", "driver id", "generic id"];
            let Some(left) = of_links.or_else(|| hooks.into_iter().find(|hook| programs.contains(hook))) else {
                return;
            };
            assert!(Instant::now() < until, "{left} was left:\n{links}\n{programs}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Panics unless, at rest, every packet has one verdict and every frame is in its pool or in a ring.
    pub fn assert_audit(&self, bypath: &Bypath) -> Totals {
        let totals = bypath.totals_at_rest();
        totals.assert_balanced();
        assert_eq!(totals.held, 0, "held at rest: {totals:?}");
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let workers = self.show("workers");
            let sum = |what: &str| -> u64 {
                let of = |worker: &serde_json::Value| worker["frames"][what].as_u64().expect("a count");
                workers.as_array().expect("a list").iter().map(of).sum()
            };
            let [free, fill, tx, all] = ["free", "fill", "tx", "all"].map(sum);
            if free + fill + tx == all {
                return totals;
            }
            assert!(
                Instant::now() < until,
                "frames are missing: free {free} + fill {fill} + tx {tx} is not {all}: {workers}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A server that ends when it is dropped.
pub struct Server(Child);

impl Server {
    /// Starts it in `namespace` and waits until it listens on TCP `port`.
    pub fn start(namespace: &Namespace, line: &str, port: u16) -> Self {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server(namespace.spawn(&mut command).unwrap_or_else(|e| panic!("{line}: {e}")));
        let until = Instant::now() + Duration::from_secs(10);
        while !namespace.run("ss -Hltn").contains(&format!(":{port} ")) {
            assert!(Instant::now() < until, "`{line}` does not listen on {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
