//! One lab: a router's namespace with ports d0, d1, ..., each the end of a veth whose peer is a far end.
//!
//! Everything that would make two equal labs differ by chance is off: offloads, rate limits of ICMP, duplicate address
//! detection, made-up addresses, router solicitations, and the timers of neighbour entries are far away. Both labs of a
//! twin have equal link addresses and interface indexes.

use super::namespace::Namespace;
use super::packet::{self, text};
use super::wire::Wire;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const IN_FORCE_WITHIN: Duration = Duration::from_secs(3);

/// What ethtool switches off on every interface of a lab.
pub const OFFLOADS_OFF: &str = "rx off tx off sg off tso off gso off gro off rxvlan off txvlan off";

/// How a lab is built.
#[derive(Clone)]
pub struct Layout {
    /// Number of ports.
    pub ports: usize,
    /// The MTU of each port's router side, in bytes; 1500 for ports beyond its end.
    pub mtu: Vec<u32>,
    /// Receive and transmit queues of each port.
    pub queues: usize,
}

impl Layout {
    /// `ports` ports with an MTU of 1500 and one queue.
    pub fn ports(ports: usize) -> Self {
        Layout {
            ports,
            mtu: Vec::new(),
            queues: 1,
        }
    }

    fn mtu(&self, port: usize) -> u32 {
        self.mtu.get(port).copied().unwrap_or(1500)
    }
}

/// A router and its far ends.
pub struct Lab {
    /// The router's namespace.
    pub router: Namespace,
    /// The far ends, by port.
    pub wires: Vec<Wire>,
}

impl Lab {
    /// Builds it; nothing is configured but the links, which are up.
    pub fn new(layout: &Layout) -> Self {
        let router = Namespace::new();
        router.sysctl(ROUTER_SYSCTLS);
        let far: Vec<Namespace> = (0..layout.ports).map(|_| far_namespace()).collect();
        // A far end takes more than the router's port does: a longer frame is the router's to refuse. But a native XDP
        // program on a veth wants its peer's MTU to fit a page.
        let mut links = String::new();
        for (port, far) in far.iter().enumerate() {
            let (mtu, queues) = (layout.mtu(port), layout.queues);
            links += &format!(
                "link add name d{port} address {} mtu {mtu} numtxqueues {queues} numrxqueues {queues} type veth \
                 peer name w{port} address {} mtu {} numtxqueues {queues} numrxqueues {queues} netns {}\n",
                text(packet::router_mac(port)),
                text(packet::wire_mac(port)),
                mtu + 400,
                far.path(),
            );
        }
        router.run_with("ip -batch -", &links);
        let wires = far
            .into_iter()
            .enumerate()
            .map(|(port, far)| Wire::new(far, port))
            .collect();
        let lab = Lab { router, wires };
        lab.switch_offloads_off();
        let up: String = (0..layout.ports).map(|port| format!("link set d{port} up\n")).collect();
        lab.router.run_with("ip -batch -", &up);
        for port in 0..layout.ports {
            lab.calm_neighbours(port);
        }
        lab
    }

    /// Switches the offloads of the router's ports off; again after an XDP program was attached, which brings GRO back.
    pub fn switch_offloads_off(&self) {
        for port in 0..self.wires.len() {
            self.router.run(&format!("ethtool -K d{port} {OFFLOADS_OFF}"));
        }
    }

    /// The router's own addresses.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let text = self.router.run("ip -o addr show");
        let mut words = text.split_whitespace().peekable();
        let mut own = Vec::new();
        while let Some(word) = words.next() {
            if matches!(word, "inet" | "inet6") {
                let address = words
                    .peek()
                    .and_then(|address| address.split('/').next())
                    .expect("an address");
                own.push(address.parse().expect("an address"));
            }
        }
        own
    }

    /// Applies a configuration and waits until it is in force. The kernel makes an IPv6 address usable from a work queue, a
    /// little after the command has returned: its entry in the table `local` tells.
    pub fn apply(&self, commands: &[String]) {
        self.router.apply(commands);
        let until = Instant::now() + IN_FORCE_WITHIN;
        while Instant::now() < until {
            let local = self.router.run("ip -6 -o route show table local");
            let in_force = |address: &IpAddr| {
                let entry = format!("local {address} ");
                address.is_ipv4() || local.lines().any(|line| line.starts_with(&entry))
            };
            if self.own_addresses().iter().all(in_force) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("an IPv6 address is not in force after {IN_FORCE_WITHIN:?}");
    }

    /// Takes what has arrived at all far ends.
    pub fn drain(&mut self) {
        self.wires.iter_mut().for_each(Wire::drain);
    }

    /// Neighbour entries neither grow stale nor are probed while a test runs.
    fn calm_neighbours(&self, port: usize) {
        for family in ["ipv4", "ipv6"] {
            let base = format!("net.{family}.neigh.d{port}");
            self.router.sysctl(&[
                (&format!("{base}.base_reachable_time_ms"), "3600000"),
                (&format!("{base}.delay_first_probe_time"), "600"),
                (&format!("{base}.gc_stale_time"), "3600"),
            ]);
        }
    }
}

fn far_namespace() -> Namespace {
    let far = Namespace::new();
    far.sysctl(&[
        ("net.ipv6.conf.default.disable_ipv6", "1"),
        ("net.ipv6.conf.all.disable_ipv6", "1"),
    ]);
    far
}

/// Whether this kernel knows a qdisc; says so where it does not, since a scenario is then left out.
pub fn kernel_has_qdisc(kind: &str) -> bool {
    let output = Namespace::new().output(&format!("tc qdisc add dev lo root {kind}"), "");
    let unknown = String::from_utf8_lossy(&output.stderr).contains("kind is unknown");
    if unknown {
        println!("left out: this kernel has no qdisc {kind}");
    }
    !unknown
}

const ROUTER_SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv4.icmp_ratemask", "0"),
    ("net.ipv4.icmp_msgs_per_sec", "1000000"),
    ("net.ipv4.icmp_msgs_burst", "1000000"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv6.conf.default.forwarding", "1"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.addr_gen_mode", "1"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
    // Nothing at all would not be written.
    ("net.ipv6.icmp.ratemask", "\n"),
    ("net.ipv6.auto_flowlabels", "0"),
];
