//! `bypath wire`: frames leave by the other port as they came, but for partial checksums.

use super::{Bench, lab};
use bypath::packet::{Family, PortIndex};

#[test]
fn a_wire_carries_anything_untouched() {
    let mut bench = Bench::new(lab::snapshot(1, lab::FAR), &[(PortIndex(0), PortIndex(1))]);
    let frames = [
        vec![0xff; 60],
        vec![1; 14],
        lab::udp(Family::V6, lab::own(Family::V6), 1000),
    ];
    for frame in &frames {
        assert!(bench.ports[0].push(frame) && bench.ports[1].push(frame));
    }
    bench.turn();
    assert_eq!(bench.ports[1].sent(), frames);
    assert_eq!(bench.ports[0].sent(), frames);
    bench.assert_audit();
}

#[test]
fn a_wire_completes_partial_checksums_behind_tags_too() {
    let mut bench = Bench::new(lab::snapshot(1, lab::FAR), &[(PortIndex(0), PortIndex(1))]);
    for family in Family::ALL {
        let whole = lab::udp(family, lab::gateway(family), 100);
        let (l4, pseudo) = match family {
            Family::V4 => (34, pseudo_sum(&whole[26..34], 17, &whole[38..40])),
            Family::V6 => (54, pseudo_sum(&whole[22..54], 17, &whole[58..60])),
        };
        let mut partial = whole.clone();
        partial[l4 + 6..l4 + 8].copy_from_slice(&pseudo.to_be_bytes());
        for tags in [&[][..], &[0x81, 0, 0, 7], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 7]] {
            let tagged = |frame: &[u8]| [&frame[..12], tags, &frame[12..]].concat();
            assert!(bench.ports[0].push(&tagged(&partial)));
            bench.turn();
            assert_eq!(bench.ports[1].sent(), [tagged(&whole)], "{family:?}, {tags:x?}");
        }
    }
    bench.assert_audit();
}

/// The folded sum of a pseudo-header, as a sender with checksum offload leaves it in the field.
fn pseudo_sum(addresses: &[u8], proto: u16, len: &[u8]) -> u16 {
    let words = addresses.chunks_exact(2).chain([len]);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let sum = sum + u32::from(proto);
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}
