//! steer on a port of a bridge: what bears the bridge's MAC is as on any other port; what bears a station's is bridged.

use crate::decisions::*;
use crate::frames::*;
use crate::lab::*;
use crate::steer::Lab;
use bypath::control::steer::{Decision, SteerPort};

const STATION: Mac = [2, 0, 0, 0, 0, 0x22];

/// IPv4, IPv6, all else may be bridged.
fn bridge(v4: bool, v6: bool, other: bool) -> impl FnOnce(&mut SteerPort) {
    move |port| (port.bridge, port.bridge_v4, port.bridge_v6, port.bridge_other) = (true, v4, v6, other)
}

/// The frame, to the station.
fn to_station(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&STATION);
    frame
}

#[test]
fn what_bears_the_bridges_mac_is_as_on_any_other_port() {
    in_netns(|| {
        let lab = Lab::new();
        for carried in [false, true] {
            lab.set(bridge(carried, carried, carried));
            for (name, frame, expected) in table() {
                if expected != Decision::ForeignMac {
                    assert_eq!(lab.decision(&frame), expected, "{name}");
                }
            }
        }
    });
}

#[test]
fn what_bears_a_stations_mac_is_redirected_by_its_type() {
    in_netns(|| {
        let lab = Lab::new();
        let mut bridged = 0;
        for flags in 0..8u8 {
            let [v4, v6, other] = [0, 1, 2].map(|bit| flags >> bit & 1 == 1);
            lab.set(bridge(v4, v6, other));
            for (name, frame, _) in table() {
                if frame[0] & 1 != 0 {
                    continue;
                }
                let carried = match frame[12..14] {
                    [0x08, 0x00] => v4,
                    [0x86, 0xdd] => v6,
                    [0x08, 0x06] => {
                        assert_eq!(lab.decision(&to_station(frame)), Decision::NotIp, "{name}");
                        continue;
                    }
                    _ => other,
                };
                let expected = if carried {
                    Decision::Redirect
                } else {
                    Decision::BridgingLeft
                };
                assert_eq!(lab.decision(&to_station(frame)), expected, "{name}, flags {flags}");
                bridged += u32::from(carried);
            }
        }
        assert!(bridged > 100, "{bridged} frames were bridged");
    });
}

#[test]
fn what_the_kernels_bridge_answers_or_keeps_passes() {
    in_netns(|| {
        let lab = Lab::new();
        lab.set(bridge(true, true, true));
        for ethertype in [0x0806, 0x8035, 0x888e, 0x88e3, 0x8902] {
            let frame = ethernet(STATION, ethertype, &[0; 46]);
            assert_eq!(lab.decision(&frame), Decision::NotIp, "{ethertype:04x}");
        }
        for group in [BROADCAST, [1, 0x80, 0xc2, 0, 0, 0], [0x33, 0x33, 0, 0, 0, 1]] {
            assert_eq!(lab.decision(&ethernet(group, 0x86dd, &[0; 46])), Decision::Group);
        }
        // A header alone, a tag alone, and what is cut in the middle of them are frames of their type.
        for len in [14, 15, 20] {
            let frame = &ethernet(STATION, 0x8100, &[0; 46])[..len];
            assert_eq!(lab.decision(frame), Decision::Redirect, "{len} bytes");
        }
    });
}

#[test]
fn a_port_of_no_bridge_takes_no_others_frames() {
    in_netns(|| {
        let lab = Lab::new();
        assert_eq!(lab.decision(&to_station(transit())), Decision::ForeignMac);
        // Nor do flags alone make it one.
        lab.set(|port| (port.bridge_v4, port.bridge_other) = (true, true));
        assert_eq!(lab.decision(&to_station(transit())), Decision::ForeignMac);
    });
}

#[test]
fn pairs_that_are_left_pass_when_they_are_bridged_too() {
    in_netns(|| {
        let lab = Lab::new();
        lab.set(bridge(true, true, true));
        let (four, six) = (to_station(transit()), to_station(v6_of(17, |_| ())));
        let both = || [&four, &six].map(|frame| lab.decision(frame));
        lab.steer.set_generation(5);
        assert_eq!(both(), [Decision::Redirect; 2]);
        lab.steer.leave(lab.ifindex, SRC.into(), DST.into(), 5).unwrap();
        assert_eq!(both(), [Decision::Left, Decision::Redirect]);
        let half = &four[..14 + 19];
        assert_eq!(lab.decision(half), Decision::Redirect, "no addresses to look at");
        lab.steer
            .leave(lab.ifindex, v6(1, 2).into(), v6(2, 2).into(), 5)
            .unwrap();
        assert_eq!(both(), [Decision::Left; 2]);
        lab.steer.set_generation(6);
        assert_eq!(both(), [Decision::Redirect; 2]);
    });
}

#[test]
fn a_port_where_there_may_be_some_passes_merged_segments() {
    in_netns(|| {
        let lab = Lab::new();
        let frame = to_station(transit());
        for (len_max, expected) in [(0, Decision::Redirect), (-1, Decision::Merged)] {
            lab.set(|port| {
                bridge(true, true, true)(port);
                port.may_merge = true;
                port.len_max = (frame.len() as i32 + len_max) as u16;
            });
            assert_eq!(lab.decision(&frame), expected);
        }
    });
}

/// The kernel would track them there, and does not know the connection.
#[test]
fn merged_segments_that_pass_hooks_where_connections_are_tracked_are_lost_at_first() {
    in_netns(|| {
        let lab = Lab::new();
        let frames = [to_station(transit()), to_station(v6_of(17, |_| ()))];
        for (family, frame) in frames.iter().enumerate() {
            for (hooked, beyond, expected) in [
                ([family == 0, family == 1], 5, Decision::MergedLost),
                ([family == 0, family == 1], 4, Decision::Merged),
                ([family == 1, family == 0], 5, Decision::Merged),
            ] {
                lab.set(|port| {
                    bridge(true, true, true)(port);
                    // What is routed is tracked, too: that says nothing of what is bridged.
                    (port.track_v4, port.track_v6) = (true, true);
                    [port.hooked_v4, port.hooked_v6] = hooked;
                    port.may_merge = true;
                    port.len_max = frame.len() as u16 - beyond;
                });
                assert_eq!(lab.decision(frame), expected, "{hooked:?}, {beyond} bytes");
            }
        }
        let mut tagged = frames[0].clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        lab.set(|port| {
            bridge(true, true, true)(port);
            (port.hooked_v4, port.hooked_v6, port.may_merge) = (true, true, true);
            port.len_max = tagged.len() as u16 - 5;
        });
        assert_eq!(lab.decision(&tagged), Decision::Merged, "no packet of IP to the hooks");
    });
}
