//! Recorded dumps: `testdata/*.bin` is what Linux 7.3 answered to RTM_GETTFILTER, message behind message, after
//! `tc filter add dev va parent 1:` with the lines above each test.

use super::super::nlattr::Messages;
use super::*;
use crate::table::filter::{Facts, classify};
use crate::table::police::{Act, Limit};
use crate::table::qdisc::Rate;

fn recorded(bytes: &[u8]) -> Vec<Listed> {
    Messages(bytes).map(|m| listed(&m).unwrap()).collect()
}

fn carried(bytes: &[u8]) -> Vec<Filter> {
    filters(&recorded(bytes), &mut Reading::Classes).unwrap()
}

fn refused(bytes: &[u8]) -> String {
    filters(&recorded(bytes), &mut Reading::Classes).unwrap_err()
}

const U32: &[u8] = include_bytes!("testdata/u32.bin");
const FW: &[u8] = include_bytes!("testdata/fw.bin");
const MARK: &[u8] = include_bytes!("testdata/mark.bin");
const MATCHALL: &[u8] = include_bytes!("testdata/matchall.bin");
const FLOWER: &[u8] = include_bytes!("testdata/flower.bin");
const POLICE: &[u8] = include_bytes!("testdata/police.bin");
const BASIC: &[u8] = include_bytes!("testdata/basic.bin");

/// TCP from 10.0.A.1 to port B, with A as TOS, one word of options and flags SYN.
fn tcp(a: u8, port: u16) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    bytes.extend([
        0x46, a, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, a, 1, 10, 0, 0, 2, 1, 1, 1, 1,
    ]);
    bytes.extend([0, 1]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    bytes
}

fn class_of(filters: &[Filter], bytes: &[u8], mark: u32) -> Option<u32> {
    let priority = 0;
    classify(filters, &Facts { bytes, mark, priority }).map(|class| class.0 & 0xffff)
}

/// protocol ip prio 10 handle 2: u32 divisor 16
/// protocol ip prio 10 u32 ht 2:3: match tcp dst 80 0xffff flowid 1:2
/// protocol ip prio 10 u32 ht 800:: match ip protocol 6 0xff hashkey mask 0x00000f00 at 12 link 2:
///   offset at 0 mask 0x0f00 shift 6 plus 4 eat flowid 1:3
/// protocol all prio 20 u32 match ether src 02:00:00:00:00:01 flowid 1:1
#[test]
fn u32_with_a_table() {
    let filters = carried(U32);
    assert_eq!(
        filters.iter().map(|filter| filter.protocol).collect::<Vec<_>>(),
        [0x0800, 3]
    );
    // `plus 4` is beyond the header by a word, so it is the sequence number that is looked at.
    let mut hit = tcp(3, 9);
    hit[42..46].copy_from_slice(&[0, 0, 0, 80]);
    assert_eq!(class_of(&filters, &hit, 0), Some(2));
    assert_eq!(class_of(&filters, &tcp(3, 9), 0), Some(3));
    let mut other = tcp(3, 9);
    other[23] = 17;
    assert_eq!(class_of(&filters, &other, 0), Some(1));
    other[11] = 9;
    assert_eq!(class_of(&filters, &other, 0), None);
}

/// protocol all prio 7 handle 0x3/0xff fw classid 1:2
/// protocol all prio 7 handle 0x4/0xff fw classid 1:3
#[test]
fn fw_with_a_mask() {
    let filters = carried(FW);
    assert_eq!(
        [3, 0x104, 5].map(|mark| class_of(&filters, &tcp(0, 1), mark)),
        [Some(2), Some(3), None]
    );
}

/// protocol ip prio 7 u32 match mark 3 0xff flowid 1:1
#[test]
fn marks_of_u32_count_where_they_are_listed() {
    let filters = carried(MARK);
    assert_eq!(
        [0x103, 4].map(|mark| class_of(&filters, &tcp(0, 1), mark)),
        [Some(1), None]
    );
}

/// protocol 802.1q prio 9 matchall classid 1:3
/// protocol all prio 10 matchall classid 1:2 action pass
#[test]
fn matchall_and_what_passes() {
    let filters = carried(MATCHALL);
    let plain = tcp(0, 1);
    let tagged = [&plain[..12], &[0x81, 0, 0, 1], &plain[12..]].concat();
    assert_eq!(class_of(&filters, &plain, 0), Some(2));
    assert_eq!(class_of(&filters, &tagged, 0), Some(3));
}

/// protocol ip prio 3 flower src_ip 10.0.0.0/8 ip_proto tcp dst_port 80-90 tcp_flags 0x2/0x12 ip_tos 0x10/0xfc classid 1:2
/// protocol ipv6 prio 4 flower dst_ip 2001:db8::1 src_mac 02:00:00:00:00:01 ip_proto udp src_port 53 classid 1:3
#[test]
fn flower_with_ranges_and_masks() {
    let filters = carried(FLOWER);
    let frames = [tcp(0x12, 80), tcp(0x10, 90), tcp(0x10, 91), tcp(0x20, 85)];
    assert_eq!(
        frames.map(|bytes| class_of(&filters, &bytes, 0)),
        [Some(2), Some(2), None, None]
    );
    let mut six = vec![
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64,
    ];
    six.extend([0; 16]);
    six.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    six.extend([0, 53, 0, 1, 0, 8, 0, 0]);
    assert_eq!(class_of(&filters, &six, 0), Some(3));
    six[55] = 54;
    assert_eq!(class_of(&filters, &six, 0), None);
}

/// protocol ip prio 3 matchall action police rate 1mbit burst 10k conform-exceed drop; others behind
/// protocol ip prio 3 basic match cmp(u8 at 9 layer network eq 6) classid 1:2
#[test]
fn what_is_not_carried_has_a_name() {
    assert_eq!(
        refused(POLICE),
        "filter protocol ip pref 3 matchall chain 0 handle 0x1: its action police is not carried"
    );
    assert_eq!(
        refused(BASIC),
        "filter protocol ip pref 3 basic chain 0: filters of this kind are not carried"
    );
    let mut listed = recorded(FLOWER);
    listed[1].options = Some(
        [&listed[1].options.clone().unwrap()[..], &[6, 0, 200, 0, 0, 0, 0, 0]]
            .concat()
            .into(),
    );
    assert_eq!(
        filters(&listed, &mut Reading::Classes).unwrap_err(),
        "filter protocol ip pref 3 flower chain 0 handle 0x1: its attribute 200 is not known"
    );
    let mut lost = recorded(MATCHALL);
    lost.remove(1);
    assert_eq!(
        filters(&lost, &mut Reading::Classes).unwrap_err(),
        "filter protocol 802.1Q pref 9 matchall chain 0: its filter is not listed"
    );
    let mut chained = recorded(FW);
    chained.iter_mut().for_each(|one| one.chain = 4);
    assert_eq!(
        filters(&chained, &mut Reading::Classes).unwrap_err(),
        "filter protocol all pref 7 fw chain 4: only chain 0 is carried"
    );
}

#[test]
fn a_root_that_could_be_two_is_not_guessed() {
    let mut listed = recorded(U32);
    // Another table with one bucket that the kernel could have numbered, to which nothing leads.
    let mut other = listed[3].clone();
    other.handle = 0x8050_0000;
    listed.insert(3, other.clone());
    let mut inside = listed[5].clone();
    inside.handle = 0x8050_0800;
    listed.insert(4, inside);
    assert_eq!(
        filters(&listed, &mut Reading::Classes).unwrap_err(),
        "filter protocol ip pref 10 u32 chain 0 fh 805:: whether the kernel begins with this table is not told"
    );
    // A link leads there: then it is none.
    let link = [8, 0, 3, 0, 0, 0, 0x50, 0x80];
    let of = listed.iter_mut().find(|one| one.handle == 0x8000_0800).unwrap();
    of.options = Some([&of.options.clone().unwrap()[..], &link].concat().into());
    assert!(filters(&listed, &mut Reading::Classes).is_ok());
}

/// handle ffff: ingress
/// protocol ip prio 10 u32 match ip src 0.0.0.0/0 police rate 10mbit burst 100k drop flowid :1
/// protocol all prio 20 matchall action police rate 1mbit burst 20k peakrate 2mbit mtu 1600 overhead 24 linklayer atm
///   conform-exceed drop/pipe
/// protocol ip prio 30 flower ip_proto tcp action police rate 8kbit burst 5000 mpu 64 conform-exceed drop/ok
/// protocol ip prio 40 handle 3 fw police rate 1mbit burst 10k drop
/// protocol ip prio 50 flower ip_proto udp action pass
/// protocol ipv6 prio 60 matchall action police pkts_rate 1000 pkts_burst 50 conform-exceed drop
/// protocol ipv6 prio 70 matchall action police rate 40gbit burst 1m conform-exceed drop; ten frames of 500 bytes since
const INGRESS: &[u8] = include_bytes!("testdata/ingress.bin");
/// clsact; matchall action police rate 8kbit burst 3000 mtu 1000 conform-exceed drop; ten frames each of 500, 1000 and 1001 bytes
/// and of 504 with a tag, and one of 70 by the kernel itself
const CLSACT: &[u8] = include_bytes!("testdata/clsact.bin");

#[test]
fn policers_at_ingress() {
    let (filters, policers) = policing(&recorded(INGRESS)).unwrap();
    let rate = |bytes_per_second| Rate {
        bytes_per_second,
        ..Rate::default()
    };
    let police = |index, limit, burst_ns, mtu| Police {
        index,
        limit: Some(limit),
        burst_ns,
        peak: None,
        mtu,
        conforming: Act::Pass,
        exceeding: Act::Drop,
    };
    let atm = |bytes_per_second| Rate {
        overhead: 24,
        atm: true,
        ..rate(bytes_per_second)
    };
    let wanted = [
        police(1, Limit::Bytes(rate(1_250_000)), 81_920_000, 2040),
        Police {
            peak: Some((atm(250_000), 53 * 34 * 4_000)),
            ..police(2, Limit::Bytes(atm(125_000)), 163_840_000, 1600)
        },
        police(3, Limit::Bytes(Rate { mpu: 64, ..rate(1_000) }), 5_000_000_000, 2040),
        police(4, Limit::Bytes(rate(125_000)), 81_920_000, 2040),
        police(5, Limit::Packets(1000), 50_000_000, u32::MAX),
        police(6, Limit::Bytes(rate(5_000_000_000)), 208_960, 2040),
    ];
    assert_eq!(policers, wanted);
    let meets = |bytes: &[u8]| class_of(&filters, bytes, 0);
    assert_eq!(meets(&tcp(0, 1)), Some(1));
    let mut arp = tcp(0, 1);
    arp[13] = 6;
    assert_eq!(meets(&arp), Some(2));
}

#[test]
fn what_policers_counted() {
    let counted = |bytes| -> Vec<_> { recorded(bytes).iter().filter_map(police::passed).collect() };
    let passed = |bytes, packets, exceeded| Passed {
        bytes,
        packets,
        exceeded,
    };
    let ingress = counted(INGRESS);
    assert_eq!(ingress[0], (1, passed(4860, 10, 0)));
    assert_eq!(
        ingress.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(counted(CLSACT), [(1, passed(29_506, 41, 29))]);
    assert_eq!(counted(FLOWER), []);
}

#[test]
fn what_is_not_carried_at_ingress_has_a_name() {
    // The action of a police: struct tc_police has it behind its number.
    let refused = |change: &dyn Fn(&mut [u8])| {
        let mut listed = recorded(CLSACT);
        let options = listed[1].options.as_mut().unwrap();
        change(options);
        policing(&listed).unwrap_err()
    };
    let at = |options: &[u8], what: &[u8]| options.windows(what.len()).position(|bytes| bytes == what).unwrap();
    // TCA_POLICE_TBF, index 1, TC_ACT_SHOT.
    let tbf = [60, 0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0];
    let says = |action: u32| {
        refused(&move |options| {
            let from = at(options, &tbf) + 8;
            options[from..from + 4].copy_from_slice(&action.to_ne_bytes());
        })
    };
    let name = "filter protocol all pref 49152 matchall chain 0 handle 0x1: its action police";
    assert_eq!(says(1), format!("{name} says reclassify"));
    assert_eq!(says(u32::MAX), format!("{name} says continue"));
    assert_eq!(says(0x2000_0001), format!("{name} says more than pass and drop"));
    let other = refused(&|options| {
        let from = at(options, b"police");
        options[from..from + 6].copy_from_slice(b"mirred");
    });
    assert_eq!(
        other,
        "filter protocol all pref 49152 matchall chain 0 handle 0x1: its action mirred is not carried"
    );
}

#[test]
fn no_cut_and_no_changed_byte_ends_in_a_panic() {
    for bytes in [U32, FW, MARK, MATCHALL, FLOWER, POLICE, BASIC, INGRESS, CLSACT] {
        for at in 0..bytes.len() {
            for change in [0, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
                let mut broken = bytes.to_vec();
                broken[at] = change;
                let listed: Vec<_> = Messages(&broken).filter_map(|m| listed(&m)).collect();
                if let Ok(filters) = filters(&listed, &mut Reading::Classes) {
                    class_of(&filters, &tcp(3, 80), 3);
                }
                let _ = policing(&listed);
                let _ = listed.iter().filter_map(police::passed).count();
            }
            let cut: Vec<_> = Messages(&bytes[..at]).filter_map(|m| listed(&m)).collect();
            let _ = filters(&cut, &mut Reading::Classes);
        }
    }
}
