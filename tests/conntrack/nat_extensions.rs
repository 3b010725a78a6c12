//! NAT of IPv6 packets with extension headers, so long that what lies behind them is far into the frame: they are the kernel's,
//! and must come there as they came here, of whichever connection, direction and manip.

use crate::flow::{ACK, CLIENT, Flow, SERVER, SYN, Segment, c, s};
use crate::lab::packet::Packet;
use crate::lab::twin::{Share, Twin};
use crate::nat::{BOTH, FORWARDED, Kind, MASQUERADED, flows, start};
use crate::script::{Step, one, play_for};

/// Destination options, a header of `length` bytes, all of them padding: Pad1.
fn destination_options(length: usize) -> Vec<(u8, Vec<u8>)> {
    let mut header = vec![0; length];
    header[1] = (length / 8 - 1) as u8;
    vec![(60, header)]
}

/// Lengths before and behind what is put aside of a frame, and such that a part of the ports, or of the checksum, lies within.
const LENGTHS: [usize; 6] = [8, 96, 128, 136, 144, 512];

/// Plain packets between such with extension headers, which also begin connections.
fn traffic(twin: &mut Twin, title: &str, kind: &Kind) {
    let fresh = || flows(kind, &[false]);
    for length in LENGTHS {
        let with = move |packet: Packet| packet.with(|packet| packet.extensions = destination_options(length));
        let long = |from: usize| one("udp, extended", from, move |flow: &Flow| with(flow.udp(from, 20)));
        let plain = |from: usize| one("udp", from, move |flow: &Flow| flow.udp(from, 20));
        let title = format!("{title}, {length}");
        let within = [
            plain(CLIENT),
            long(CLIENT),
            plain(SERVER),
            long(SERVER),
            long(CLIENT),
            plain(CLIENT),
            plain(SERVER),
            plain(CLIENT),
        ];
        play_for(twin, &format!("{title}: udp"), &fresh(), within.map(Step::passes));
        let first = [long(CLIENT), long(SERVER), plain(CLIENT), plain(SERVER), plain(CLIENT)];
        play_for(twin, &format!("{title}: udp begun"), &fresh(), first.map(Step::passes));
        let extended = |segment: Segment| {
            let text = segment.text();
            one(&text, segment.from, move |flow: &Flow| with(flow.tcp(&segment)))
        };
        let tcp = [
            Step::from(c(SYN, 0, 0).mss()),
            s(SYN | ACK, 0, 1).mss().into(),
            c(ACK, 1, 1).into(),
            extended(c(ACK, 1, 1).data(100)),
            s(ACK, 1, 101).into(),
            extended(s(ACK, 1, 101).data(11)),
            c(ACK, 101, 12).into(),
            c(ACK, 101, 12).data(9).into(),
        ];
        play_for(twin, &format!("{title}: tcp"), &fresh(), tcp.map(Step::passes));
    }
}

#[test]
fn masquerade() {
    let mut twin = start(
        "nat_extensions_masquerade",
        "table inet nat {
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname \"d1\" masquerade
            }
        }",
    );
    traffic(&mut twin, "masqueraded", &MASQUERADED);
    twin.finish(Share::AtLeast(0.55));
}

#[test]
fn port_forwarding() {
    let mut twin = start(
        "nat_extensions_destination",
        "table inet nat {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                iifname \"d0\" meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [fd00:101::7]:80
            }
        }",
    );
    traffic(&mut twin, "forwarded", &FORWARDED);
    twin.finish(Share::AtLeast(0.55));
}

#[test]
fn both() {
    let mut twin = start(
        "nat_extensions_both",
        "table inet nat {
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                iifname \"d0\" meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [fd00:101::7]:80
            }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname \"d1\" masquerade
            }
        }",
    );
    traffic(&mut twin, "both", &BOTH);
    twin.finish(Share::AtLeast(0.55));
}
