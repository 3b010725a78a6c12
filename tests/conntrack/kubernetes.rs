//! The walk of a pod's packet: bridge, service, DNAT to a pod of the same bridge or of another node, and back. The rules are those
//! of kube-proxy (tests/rulesets/kube-proxy.nft), with a pod of the other node for one of its endpoints; the script k8s-walk shows
//! the same with real pods, and services of several endpoints.
//!
//! ```text
//!   clients 10.180.0.16, .17, ..  -- d0 \
//!                                        cni0 10.180.0.254 [node 192.168.0.2] d2 -- the other node, and the world
//!   pod 10.180.0.1                -- d1 /                                            pod 10.181.0.3
//! ```
//!
//! Pods of one bridge answer each other at Ethernet, without the node as a hop. Whether the answer bears the service's address
//! is decided by `bridge-nf-call-iptables`.

use crate::firewalls::lines;
use crate::flow::{CLIENT, Flow, SERVER, SYN, c};
use crate::lab::bridge::{plain_frame, unknown_mac};
use crate::lab::packet::{Mac, ip, neighbor_mac, text};
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat_more::{datagrams, stream, udp};
use crate::script::{Step, play_each};
use crate::view::View;

const CLIENTS: usize = 0;
const POD: usize = 1;
const UPLINK: usize = 2;

const CNI0: Mac = [0x02, 0, 0, 0, 0, 0xb0];
const POD_ADDRESS: &str = "10.180.0.1";
/// Clients behind their port.
const COUNT: u8 = 4;

fn client_mac(at: usize) -> Mac {
    neighbor_mac(CLIENTS, at as u8)
}

fn client_address(at: usize) -> String {
    format!("10.180.0.{}", 16 + at)
}

fn pod_mac() -> Mac {
    neighbor_mac(POD, 0)
}

/// A node with pods on a bridge; `call` is bridge-nf-call-iptables.
fn node(name: &str, call: bool) -> Twin {
    let mut config: Vec<String> = [
        &format!("sysctl net.bridge.bridge-nf-call-iptables={}", u8::from(call)),
        &format!(
            "ip link add cni0 address {} type bridge mcast_snooping 0 forward_delay 0",
            text(CNI0)
        ),
        "ip link set d0 master cni0",
        "ip link set d1 master cni0",
        "ip link set cni0 up",
        // A pod may be its own endpoint.
        "bridge link set dev d0 hairpin on",
        "bridge link set dev d1 hairpin on",
        "ip addr add 10.180.0.254/24 dev cni0",
        &format!(
            "ip neigh replace {POD_ADDRESS} lladdr {} dev cni0 nud permanent",
            text(pod_mac())
        ),
    ]
    .map(str::to_owned)
    .into();
    config.extend((0..usize::from(COUNT)).map(|at| {
        let (address, mac) = (client_address(at), text(client_mac(at)));
        format!("ip neigh replace {address} lladdr {mac} dev cni0 nud permanent")
    }));
    config.extend(plan::addresses(UPLINK));
    config.extend(plan::neighbours(UPLINK));
    config.extend(
        [
            "ip addr add 192.168.0.2/24 dev d2",
            "ip route add 10.181.0.0/16 via 10.0.2.2",
            "ip route add default via 10.0.2.2",
            "sysctl net.ipv4.conf.all.send_redirects=0",
            "sysctl net.ipv4.conf.cni0.send_redirects=0",
            "sysctl net.ipv4.conf.d2.send_redirects=0",
        ]
        .map(str::to_owned),
    );
    config.extend(lines(&["kube-proxy.nft"], &[("10.180.0.3", "10.181.0.3")]));
    let mut twin = Twin::start(Setup {
        filters: true,
        drops: true,
        fence: Fence::None,
        run: vec!["cni0".into(), "d2".into()],
        ..Setup::new(&format!("kubernetes_{name}_{call}"), 3, config)
    });
    twin.hand_over();
    // The kernel learns where everybody is.
    let pods = (0..usize::from(COUNT))
        .map(|at| (CLIENTS, client_mac(at)))
        .chain([(POD, pod_mac())]);
    for (number, (port, mac)) in pods.enumerate() {
        twin.inject(port, &[plain_frame(unknown_mac(0xf000 | number as u16), mac, 46)]);
    }
    twin.settle();
    twin.wait_in_force();
    twin
}

/// Flows to an address and a port, from clients behind `from`, whose server is behind `to`.
fn flows(address: &str, port: u16, [from, to]: [usize; 2], masqueraded: bool) -> Vec<View> {
    let one = |at: usize| {
        let mut flow = Flow::new(true);
        flow.ends[SERVER] = ip(address);
        flow.ports[SERVER] = port;
        let client = match from {
            CLIENTS => client_address(at),
            POD => POD_ADDRESS.to_owned(),
            _ => format!("203.0.113.{}", 2 + at),
        };
        flow.ends[CLIENT] = ip(&client);
        let src = match from {
            CLIENTS => Some((CNI0, client_mac(at))),
            POD => Some((CNI0, pod_mac())),
            _ => None,
        };
        let back = match (to, from) {
            (UPLINK, _) => None,
            // It is on the same bridge as the client, as far as it sees.
            (_, CLIENTS) if !masqueraded => Some((client_mac(at), pod_mac())),
            _ => Some((CNI0, pod_mac())),
        };
        View::new(flow).behind([from, to]).with_macs([src, back])
    };
    (0..usize::from(COUNT)).map(one).collect()
}

fn random(views: Vec<View>) -> Vec<View> {
    views.into_iter().map(View::random).collect()
}

fn syns() -> [Step; 2] {
    [Step::from(c(SYN, 0, 0).mss()), Step::from(c(SYN, 0, 0).mss())]
}

/// What does not depend on whether bridged packets meet the hooks.
fn services(twin: &mut Twin) {
    let elsewhere = || flows("172.30.0.43", 80, [CLIENTS, UPLINK], false);
    play_each(twin, "pod to a pod of another node", &mut elsewhere(), stream());
    let mut clients = random(flows("192.168.0.2", 3003, [UPLINK, UPLINK], true));
    play_each(twin, "client to a node port", &mut clients, stream());
    let affine = || flows("172.30.0.45", 80, [CLIENTS, UPLINK], false);
    play_each(twin, "with affinity", &mut affine(), stream());
    play_each(twin, "with affinity, again", &mut affine(), stream());
    let refused = |address, port| flows(address, port, [CLIENTS, UPLINK], false);
    play_each(twin, "no endpoints", &mut refused("172.30.0.46", 80), syns());
    play_each(twin, "no such port", &mut refused("172.30.0.41", 443), syns());
    let datagram = [udp(CLIENT, 20), udp(CLIENT, 21)];
    play_each(twin, "no such port, udp", &mut refused("172.30.0.41", 80), datagram);
    play_each(twin, "no such service", &mut refused("172.30.0.99", 80), syns());
    let world = || flows("198.51.100.7", 443, [CLIENTS, UPLINK], false);
    play_each(twin, "pod to the world", &mut world(), stream());
    let into = || flows(POD_ADDRESS, 8080, [UPLINK, POD], false);
    play_each(twin, "the world to a pod", &mut into(), datagrams());
}

/// At Ethernet, from pod to pod.
fn bridged() -> Vec<View> {
    let to_pod = |(at, view): (usize, View)| {
        view.with_macs([Some((pod_mac(), client_mac(at))), Some((client_mac(at), pod_mac()))])
    };
    let views = flows(POD_ADDRESS, 8443, [CLIENTS, POD], false);
    views.into_iter().enumerate().map(to_pod).collect()
}

#[test]
fn with_bridge_nf_call() {
    let mut twin = node("walk", true);
    let near = || flows("172.30.0.41", 80, [CLIENTS, POD], false);
    play_each(&mut twin, "pod to a pod of the same bridge", &mut near(), stream());
    // A pod that is its own endpoint: masqueraded, and out by the port that it came by.
    let mut views = random(flows("172.30.0.41", 80, [POD, POD], true));
    play_each(&mut twin, "to itself", &mut views, stream());
    assert!(
        views
            .iter()
            .all(|view| view.labs[0].seen_by(SERVER).ends[CLIENT] == ip("10.180.0.254")),
        "masqueraded: {:?}",
        views[0].labs
    );
    services(&mut twin);
    play_each(&mut twin, "pod to pod", &mut bridged(), stream());
    play_each(&mut twin, "pod to pod, udp", &mut bridged(), datagrams());
    twin.finish(Share::AtLeast(0.7));
}

#[test]
fn without_bridge_nf_call() {
    let mut twin = node("walk", false);
    // The pod's answer passes the bridge as it is: from the pod's address, which the client did not ask.
    let mut near = flows("172.30.0.41", 80, [CLIENTS, POD], false);
    play_each(
        &mut twin,
        "pod to a pod of the same bridge",
        &mut near,
        stream().into_iter().take(2),
    );
    let answers = twin.captured(CLIENTS)[0]
        .iter()
        .filter(|frame| frame.len() >= 34 && frame[12..14] == [8, 0] && frame[26..30] == [10, 180, 0, 1]);
    assert_eq!(
        answers.count(),
        usize::from(COUNT),
        "answers from the pod's own address"
    );
    services(&mut twin);
    play_each(&mut twin, "pod to pod", &mut bridged(), stream());
    twin.finish(Share::AtLeast(0.7));
}
