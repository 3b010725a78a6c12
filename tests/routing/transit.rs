//! Plain transit: what bypath is for. Nearly all of it must be forwarded by bypath itself, in order.

use crate::lab;
use crate::lab::packet::{Packet, ping, raw, tcp, udp};
use crate::lab::plan;
use crate::lab::twin::{Setup, Share, Twin};

fn ordered(name: &str, ports: usize, config: Vec<String>) -> Setup {
    Setup {
        ordered: true,
        ..Setup::new(name, ports, config)
    }
}

/// UDP, TCP, echo and other protocols in both families, many sizes.
fn mixed(from: usize, to: usize, count: u16) -> Vec<Packet> {
    let each = |at: u16| {
        let length = usize::from(at) * 37 % 1400;
        plan::pairs(from, to, at % 50).into_iter().flat_map(move |(src, dst)| {
            [
                udp(src, dst, (1000 + at, 53), length),
                tcp(src, dst, (2000 + at, 443), 0x10 | (at as u8 & 0x0f), length),
                ping(src, dst, at, at, length),
                raw(src, dst, 47, length),
                raw(src, dst, 132, length),
            ]
        })
    };
    (0..count).flat_map(each).collect()
}

#[test]
fn every_protocol_is_forwarded() {
    let mut twin = Twin::start(ordered("every_protocol_is_forwarded", 2, plan::config(2)));
    twin.send(0, mixed(0, 1, 200));
    twin.send(1, mixed(1, 0, 200));
    twin.finish(Share::AtLeast(0.99));
}

#[test]
fn four_ports_to_each_other() {
    let mut twin = Twin::start(ordered("four_ports_to_each_other", 4, plan::config(4)));
    for from in 0..4 {
        for to in (0..4).filter(|to| *to != from) {
            twin.send(from, mixed(from, to, 20));
        }
    }
    twin.finish(Share::AtLeast(0.99));
}

#[test]
fn several_queues() {
    let mut setup = ordered("several_queues", 2, plan::config(2));
    setup.layout.queues = 2;
    let mut twin = Twin::start(setup);
    twin.send(0, mixed(0, 1, 100));
    twin.send(1, mixed(1, 0, 100));
    twin.finish(Share::AtLeast(0.99));
}

#[test]
fn onlink_neighbours_by_their_own_addresses() {
    let mut twin = Twin::start(ordered("onlink_neighbours", 2, plan::config(2)));
    for host in 2..=4u16 {
        let to4 = crate::lab::packet::ip(&format!("10.0.1.{host}"));
        let to6 = crate::lab::packet::ip(&format!("fd00:0:0:1::{host}"));
        twin.send(0, (0..20).map(|at| udp(plan::behind4(0, at), to4, (at, host), 100)));
        twin.send(0, (0..20).map(|at| udp(plan::behind6(0, at), to6, (at, host), 100)));
    }
    twin.finish(Share::AtLeast(0.99));
}

#[test]
fn tos_flow_label_and_identification_are_kept() {
    let mut twin = Twin::start(ordered("tos_flow_label", 2, plan::config(2)));
    let frames = (0..=255u8).flat_map(|tos| {
        plan::pairs(0, 1, 7).into_iter().map(move |(src, dst)| {
            udp(src, dst, (1, 2), 40).with(|packet| {
                packet.tos = tos;
                packet.flow_label = (u32::from(tos) * 0x1011) & 0xfffff;
                packet.id = u16::from(tos) * 257;
                packet.fragment = if tos & 1 == 0 { 0 } else { 0x4000 };
            })
        })
    });
    twin.send(0, frames);
    twin.finish(Share::AtLeast(0.99));
}

/// Ethernet pads short frames; a switch may pad any. The router sends the IP packet without it.
#[test]
fn padding_is_taken_off() {
    let mut twin = Twin::start(ordered("padding_is_taken_off", 2, plan::config(2)));
    let frames = (0..60usize).flat_map(|padding| {
        plan::pairs(0, 1, 3).into_iter().flat_map(move |(src, dst)| {
            [
                udp(src, dst, (5, 6), 0),
                tcp(src, dst, (5, 6), 0x12, 3),
                ping(src, dst, 1, 2, 64),
            ]
            .map(|packet| packet.with(|packet| packet.padding = padding))
        })
    });
    twin.send(0, frames);
    twin.finish(Share::AtLeast(0.99));
}

/// The checksum of layer 4 is the end's business: wrong, missing or right, it passes unchanged.
#[test]
fn layer4_checksums_are_not_judged() {
    let mut twin = Twin::start(ordered("layer4_checksums", 2, plan::config(2)));
    let frames = (0..40u16).flat_map(|at| {
        plan::pairs(0, 1, at).into_iter().flat_map(move |(src, dst)| {
            [
                udp(src, dst, (at, 2), 30).with(|packet| packet.sum_fault = 0x5555 ^ at),
                tcp(src, dst, (at, 2), 2, 30).with(|packet| packet.sum_fault = 1 + at),
                udp(src, dst, (at, 2), 31).with(|packet| packet.sum_at = None),
                ping(src, dst, at, 2, 30).with(|packet| packet.sum_fault = 1),
            ]
        })
    });
    twin.send(0, frames);
    twin.finish(Share::AtLeast(0.99));
}

/// What docs/LIMITATIONS.md counts as unshaped: the qdiscs that the kernel sets up by itself.
#[test]
fn unshaping_qdiscs_are_carried() {
    for qdisc in ["pfifo_fast", "fq_codel", "fq"] {
        let kind = qdisc.split(' ').next().unwrap_or(qdisc);
        if !lab::router::kernel_has_qdisc(kind) {
            continue;
        }
        let lines = [&*format!("tc qdisc replace dev d1 root {qdisc}")];
        let mut twin = Twin::start(ordered(&format!("qdisc_{kind}"), 2, plan::config_with(2, &lines)));
        twin.send(0, mixed(0, 1, 40));
        twin.finish(Share::AtLeast(0.99));
    }
}
