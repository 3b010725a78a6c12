//! The rulesets that run containers and clusters install (tests/rulesets): Docker with a container that publishes a port, and
//! kube-proxy on a node with pods behind two ports and clients out there behind the third.
//!
//! ```text
//!   containers 192.0.2.2, .3 -- d0 (bridge1 there) [host] d1 -- clients 10.101.0.0/16; 192.0.2.2:80 is 10.0.1.1:8080
//!
//!   pods 10.100.0.0/16 -- d0 [node 192.168.0.2] d2 -- clients 203.0.113.0/24, and the rest of the world
//!   pods 10.180.0.0/16 -- d1    the endpoints
//! ```

use crate::firewalls::lines;
use crate::flow::{ACK, CLIENT, Flow, SERVER, SYN, c};
use crate::lab::packet::{ip, neighbor_mac, text};
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat_more::{datagrams, stream, traffic, udp};
use crate::script::{Step, one, play_each};
use crate::view::View;

const PODS: usize = 0;
const ENDPOINTS: usize = 1;
const WORLD: usize = 2;

/// Flows from the pods to an address and a port.
fn from_pods(address: &str, port: u16) -> Vec<View> {
    flows(address, port, [PODS, ENDPOINTS], |_| None)
}

/// Flows from clients out there.
fn from_the_world(address: &str, port: u16) -> Vec<View> {
    flows(address, port, [WORLD, ENDPOINTS], |at| {
        Some(format!("203.0.113.{}", 2 + at))
    })
}

fn flows(address: &str, port: u16, behind: [usize; 2], client: impl Fn(usize) -> Option<String>) -> Vec<View> {
    let one = |at: usize| {
        let mut flow = Flow::new(true);
        flow.ends[SERVER] = ip(address);
        flow.ports[SERVER] = port;
        if let Some(client) = client(at) {
            flow.ends[CLIENT] = ip(&client);
        }
        View::new(flow).behind(behind)
    };
    (0..4).map(one).collect()
}

fn syns() -> [Step; 2] {
    [Step::from(c(SYN, 0, 0).mss()), Step::from(c(SYN, 0, 0).mss())]
}

/// A host of containers. Its bridge is a port here.
fn docker(name: &str, file: &str) {
    let mac = text(neighbor_mac(PODS, 0));
    let mut config = plan::config_with(
        2,
        &[
            "ip addr add 192.0.2.1/24 dev d0",
            &format!("ip neigh replace 192.0.2.2 lladdr {mac} dev d0 nud permanent"),
            &format!("ip neigh replace 192.0.2.3 lladdr {mac} dev d0 nud permanent"),
        ],
    );
    config.extend(lines(&[file], &[("bridge1", "d0")]));
    let mut twin = start(Setup::new(name, 2, config));
    let container = |_| Some("192.0.2.2".to_owned());
    let server = |port: u16| flows("10.101.7.7", port, [PODS, ENDPOINTS], container);
    let client = |address: &str, port: u16| {
        flows(address, port, [ENDPOINTS, PODS], |at| {
            Some(format!("10.101.0.{}", 9 + at))
        })
    };
    traffic(&mut twin, "out", || server(443));
    traffic(&mut twin, "another port", || server(8443));
    play_each(&mut twin, "published", &mut client("10.0.1.1", 8080), stream());
    play_each(
        &mut twin,
        "direct, which is not for others",
        &mut client("192.0.2.2", 80),
        syns(),
    );
    play_each(&mut twin, "another container", &mut client("192.0.2.3", 80), syns());
    play_each(
        &mut twin,
        "another port of it",
        &mut client("192.0.2.3", 22),
        [udp(CLIENT, 20)],
    );
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.85));
}

#[test]
fn docker_nftables() {
    docker("installed_docker_nftables", "docker-nftables.nft");
}

#[test]
fn docker_iptables() {
    docker("installed_docker_iptables", "docker-iptables.iptables");
}

fn start(setup: Setup) -> Twin {
    let mut twin = Twin::start(Setup {
        filters: true,
        fence: Fence::None,
        ..setup
    });
    twin.hand_over();
    twin
}

fn node(name: &str) -> Twin {
    let mut config = plan::config_with(
        3,
        &[
            "ip addr add 192.168.0.2/24 dev d2",
            "ip route add 10.180.0.0/16 via 10.0.1.2",
            "ip route add default via 10.0.2.2",
            "sysctl net.ipv4.conf.all.send_redirects=0",
            "sysctl net.ipv4.conf.d1.send_redirects=0",
        ],
    );
    config.extend(lines(&["kube-proxy.nft"], &[]));
    start(Setup::new(name, 3, config))
}

#[test]
fn kube_proxy() {
    let mut twin = node("installed_kube_proxy");
    play_each(
        &mut twin,
        "pod to a cluster address",
        &mut from_pods("172.30.0.41", 80),
        stream(),
    );
    play_each(&mut twin, "another", &mut from_pods("172.30.0.43", 80), stream());
    let random = |views: Vec<View>| views.into_iter().map(View::random).collect::<Vec<_>>();
    let mut clients = random(from_the_world("192.168.0.2", 3003));
    play_each(&mut twin, "client to the node's port", &mut clients, stream());
    assert!(
        clients
            .iter()
            .all(|view| view.labs[0].seen_by(SERVER).ends[CLIENT] == plan::own(ENDPOINTS)[0]),
        "masqueraded: {:?}",
        clients[0].labs
    );
    let mut clients = random(from_the_world("5.6.7.8", 80));
    play_each(&mut twin, "client to the load balancer", &mut clients, stream());
    let strangers = |at: usize| Some(format!("203.0.113.{}", 130 + at));
    let mut views = flows("5.6.7.8", 80, [WORLD, ENDPOINTS], strangers);
    play_each(&mut twin, "of the wrong range", &mut views, syns());
    play_each(
        &mut twin,
        "no local endpoint",
        &mut from_the_world("1.2.3.4", 80),
        syns(),
    );
    play_each(&mut twin, "with affinity", &mut from_pods("172.30.0.45", 80), stream());
    let mut again = from_pods("172.30.0.45", 80);
    let first = again[0].labs[0].ends[CLIENT];
    again
        .iter_mut()
        .flat_map(|view| &mut view.labs)
        .for_each(|flow| flow.ends[CLIENT] = first);
    play_each(&mut twin, "with affinity, again", &mut again, stream());
    // Refused, refused, dropped.
    play_each(&mut twin, "no endpoints", &mut from_pods("172.30.0.46", 80), syns());
    play_each(&mut twin, "no such port", &mut from_pods("172.30.0.41", 443), syns());
    let datagram = [udp(CLIENT, 20), udp(CLIENT, 21)];
    play_each(
        &mut twin,
        "no such port, udp",
        &mut from_pods("172.30.0.41", 80),
        datagram,
    );
    play_each(&mut twin, "no such service", &mut from_pods("172.30.0.99", 80), syns());
    // A pod that is its own endpoint comes back to itself by the node.
    let own = |_| Some("10.180.0.1".to_owned());
    let mut views = random(flows("172.30.0.41", 80, [ENDPOINTS, ENDPOINTS], own));
    play_each(&mut twin, "to itself", &mut views, stream());
    ordinary(&mut twin);
    twin.finish(Share::AtLeast(0.7));
}

/// What has nothing to do with services.
fn ordinary(twin: &mut Twin) {
    traffic(twin, "pod to pod", || {
        flows("10.180.3.3", 8443, [PODS, ENDPOINTS], |_| None)
    });
    play_each(
        twin,
        "pod to the world",
        &mut flows("198.51.100.7", 443, [PODS, WORLD], |_| None),
        stream(),
    );
    play_each(
        twin,
        "the world to a pod",
        &mut flows("10.180.3.3", 53, [WORLD, ENDPOINTS], |at| {
            Some(format!("198.51.100.{at}"))
        }),
        datagrams(),
    );
    let middle = one("middle", CLIENT, |flow: &Flow| flow.tcp(&c(ACK, 1, 1).data(20)));
    play_each(
        twin,
        "the middle of nothing",
        &mut from_pods("172.30.0.41", 80),
        [middle],
    );
}
