//! Messages as a kernel (6.18) sent them, and trees of records.

use super::super::nlattr::{Message, Messages, Request};
use super::message::{Record, SizeTable, record};
use super::tree::{Link, Not, shaping};
use super::*;
use crate::table::qdisc::{Fifo, FqCodel, Htb, Kind, Limit, Qdisc, ROOT, Rate, Tbf};
use std::sync::Arc;

/// `tc qdisc add dev d0 root handle 1: htb default 30 r2q 100`
const HTB: &str = "000000000300000000000100ffffffff030000000800010068746200240002001800020011000300640000003000000000\
     0000000100000008000500e803000005000c000000000030000700140001005a0000000000000001000000000000001800030000000000\
     000000000000000000000000000000002c0003005a00000000000000010000000000000000000000000000000000000000000000000000\
     0000000000";
/// `tc class add dev d0 parent 1: classid 1:1 htb rate 100mbit overhead 4 mpu 64`
const CLASS_1: &str = "000000000300000001000100ffffffff0000000008000100687462003400020030000100000104000000400020bcbe\
     00000104000000400020bcbe00d0070000d007000048e80100070000000000000048000700140001000000000000000000000000000000\
     000018000300000000000000000000000000000000000000000018000400000000000000000000000000d0070000d00700002c00030000\
     00000000000000000000000000000000000000000000000000000000000000000000000000000018000400000000000000000000000000\
     d0070000d0070000";
/// `tc class add dev d0 parent 1:1 classid 1:10 htb rate 10mbit ceil 40gbit prio 1 linklayer atm`, with qdisc 20:
/// below it
const CLASS_10: &str = "0000000003000000100001000100010000002000080001006874620040000200300001000002000000000000d0121\
     3000002000000000000ffffffff204e000000000000d430000000000000010000000c00070000f2052a010000004800070014000100000\
     00000000000000000000000000000180003000000000000000000000000000000000000000000180004000000000000000000000000002\
     04e0000000000002c000300000000000000000000000000000000000000000000000000000000000000000000000000000000001800040\
     0000000000000000000000000204e000000000000";
/// `tc qdisc add dev d0 parent 1:10 handle 20: tbf rate 3mbit burst 1600 latency 10ms peakrate 10mbit mtu 1600`
const TBF_20: &str = "000000000300000000002000100001000100000008000100746266002c000200280001000001000000000000d8b8050\
     00001000000000000d0121300e61400006a040100204e000005000c0000000000300007001400010000000000000000000000000000000\
     0001800030000000000000000000000000000000000000000002c000300000000000000000000000000000000000000000000000000000\
     00000000000000000000000000000";
/// The fifo below it, which tc shows as `invisible`
const BFIFO: &str = "00000000030000000000000001002000010000000a000100626669666f00000008000200e614000005000c0000000000\
     3000070014000100000000000000000000000000000000001800030000000000000000000000000000000000000000002c000300000000\
     00000000000000000000000000000000000000000000000000000000000000000000000000";
/// `tc qdisc add dev d0 root handle 8: stab overhead 20 linklayer atm tbf rate 40gbit burst 100000 latency 10ms`
const STAB: &str = "000000000300000000000800ffffffff03000000080001007462660038000200280001000001000000000000ffffffff0\
     000000000000000000000002077fc0238010000000000000c00040000f2052a0100000005000c0000000000200008001c0001000200fff\
     f140000000200000000000000ff07000000020000300007001400010000000000000000000000000000000000001800030000000000000\
     000000000000000000000000000002c0003000000000000000000000000000000000000000000000000000000000000000000000000000\
     0000000";
/// `tc qdisc replace dev d0 root pfifo_fast`
const PFIFO_FAST: &str = "00000000030000000000668100000000030000000f000100706669666f5f6661737400001800020003000000010\
     2020201020000010101010101010105000c000000000030000700140001005600000000000000010000000000000018000300000000000\
     00000000000000000000000000000002c00030056000000000000000100000000000000000000000000000000000000000000000000000\
     000000000";

fn told(hex: &str) -> Record {
    let digits: Vec<u8> = hex.bytes().collect();
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    let payload: Vec<u8> = digits.chunks(2).map(byte).collect();
    let message = Message {
        kind: NEWQDISC,
        flags: 0,
        seq: 0,
        port: 0,
        payload: &payload,
    };
    record(&message).unwrap()
}

fn made(kind: &str, handle: u32, parent: Handle, options: &[u8]) -> Record {
    Record {
        handle: Handle(handle << 16),
        parent,
        kind: kind.into(),
        options: options.into(),
        ..Record::default()
    }
}

fn seen(qdiscs: &[Record], classes: &[Record], filtered: &[Handle]) -> Result<Shaping, Not> {
    let filters = |parent: Handle| match filtered.contains(&parent) {
        true => Err("has filters".to_owned()),
        false => Ok(Vec::new()),
    };
    shaping(&Link {
        qdiscs,
        classes,
        queue_len: 1000,
        frame_max: 1514,
        filters: &filters,
    })
}

fn why(qdiscs: &[Record], classes: &[Record], filtered: &[Handle]) -> String {
    match seen(qdiscs, classes, filtered) {
        Err(Not::Carried(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn htb(shaping: &Shaping) -> &Htb {
    match shaping {
        Shaping::Root(root) => match &root.kind {
            Kind::Htb(htb) => htb,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn bytes_per_second(bytes_per_second: u64) -> Rate {
    Rate {
        bytes_per_second,
        ..Rate::default()
    }
}

#[test]
fn a_tree_of_htb_with_a_tbf_below_is_as_tc_was_told() {
    let qdiscs = [told(HTB), told(BFIFO), told(TBF_20)];
    let tree = seen(&qdiscs, &[told(CLASS_10), told(CLASS_1)], &[]).unwrap();
    let htb = htb(&tree);
    assert_eq!((htb.default, htb.rate2quantum, htb.direct_qlen), (0x30, 100, 1000));
    let [top, leaf] = &htb.classes[..] else {
        panic!("{:?}", htb.classes)
    };
    let around = Rate {
        overhead: 4,
        mpu: 64,
        ..bytes_per_second(12_500_000)
    };
    assert_eq!((top.id, top.parent), (Handle(0x1_0001), Handle::qdisc(1)));
    assert_eq!((top.rate, top.ceil, &top.leaf), (around, around, &None));
    // 1600 bytes of 100 Mbit/s last 128 us.
    assert_eq!(
        (top.buffer_ns, top.cbuffer_ns, top.quantum),
        (128_000, 128_000, 125_000)
    );
    assert_eq!(
        (leaf.id, leaf.parent, leaf.prio),
        (Handle(0x1_0010), Handle(0x1_0001), 1)
    );
    let atm = |of| Rate {
        atm: true,
        ..bytes_per_second(of)
    };
    assert_eq!((leaf.rate, leaf.ceil), (atm(1_250_000), atm(5_000_000_000)));
    let tbf = Tbf {
        rate: bytes_per_second(375_000),
        // 1600 bytes of 3 Mbit/s, rounded up.
        buffer_ns: 4_266_667,
        peak: Some((bytes_per_second(1_250_000), 1_280_000)),
        max_size: 1600,
        limit: 5350,
        child: Arc::new(Qdisc {
            generation: 0,
            overhead: 0,
            handle: Handle(0),
            parent: Handle(0x20_0001),
            kind: Kind::Fifo(Fifo {
                limit: Limit::Bytes(5350),
                drops_head: false,
            }),
            filters: Vec::new(),
        }),
    };
    let below = leaf.leaf.as_ref().unwrap();
    assert_eq!((below.handle, below.parent), (Handle::qdisc(0x20), leaf.id));
    assert_eq!(below.kind, Kind::Tbf(tbf));
}

#[test]
fn a_leaf_without_a_qdisc_has_a_fifo_as_long_as_the_link_says() {
    let tree = seen(&[told(HTB)], &[told(CLASS_1)], &[]).unwrap();
    let leaf = htb(&tree).classes[0].leaf.as_ref().unwrap();
    let fifo = Fifo {
        limit: Limit::Packets(1000),
        drops_head: false,
    };
    assert_eq!((leaf.handle, &leaf.kind), (Handle(0), &Kind::Fifo(fifo)));
}

#[test]
fn what_only_queues_is_unshaped_but_below_a_shaper() {
    let fast = |parent| Record {
        parent,
        ..told(PFIFO_FAST)
    };
    assert_eq!(seen(&[fast(ROOT)], &[], &[]), Ok(Shaping::Unshaped));
    assert_eq!(seen(&[], &[], &[]), Ok(Shaping::Unshaped));
    for kind in ["noqueue", "fq", "fq_codel"] {
        assert_eq!(
            seen(&[made(kind, 1, ROOT, &[])], &[], &[]),
            Ok(Shaping::Unshaped),
            "{kind}"
        );
    }
    let mq = made("mq", 2, ROOT, &[]);
    let below = [fast(Handle(0x2_0001)), fast(Handle(0x2_0002))];
    assert_eq!(seen(&[&[mq][..], &below].concat(), &[], &[]), Ok(Shaping::Unshaped));
    let leaf = fast(Handle(0x1_0010));
    let tree = seen(&[told(HTB), leaf], &[told(CLASS_1), told(CLASS_10)], &[]).unwrap();
    let kind = &htb(&tree).classes[1].leaf.as_ref().unwrap().kind;
    let Kind::Prio(prio) = kind else { panic!("{tree:?}") };
    assert_eq!(kind.word(), "pfifo_fast");
    assert_eq!((prio.bands.len(), prio.priomap[..4].to_vec()), (3, vec![1, 2, 2, 2]));
}

#[test]
fn below_mq_each_queue_has_its_own() {
    let mq = made("mq", 2, ROOT, &[]);
    let one = Record {
        parent: Handle(0x2_0001),
        ..told(PFIFO_FAST)
    };
    let two = Record {
        parent: Handle(0x2_0002),
        ..told(TBF_20)
    };
    let Ok(Shaping::Queues(queues)) = seen(&[mq.clone(), told(BFIFO), two.clone(), one], &[], &[]) else {
        panic!()
    };
    assert_eq!(
        why(std::slice::from_ref(&mq), &[], &[]),
        "the qdisc of queue 1 was deleted"
    );
    assert_eq!(
        why(&[mq, told(BFIFO), two], &[], &[]),
        "the qdisc of queue 1 was deleted"
    );
    assert_eq!((queues.len(), queues[0].is_none()), (2, true));
    assert!(matches!(queues[1].as_ref().unwrap().kind, Kind::Tbf(_)));
}

#[test]
fn lengths_are_asked_for_where_something_shapes_below_mq_too() {
    let asks = |kinds: &[&str]| {
        let qdiscs: Vec<Record> = kinds.iter().map(|kind| made(kind, 1, ROOT, &[])).collect();
        asks_for_lengths(&qdiscs)
    };
    for kinds in [
        &["htb"][..],
        &["tbf", "fq_codel"],
        &["mq", "htb"],
        &["mq", "tbf", "pfifo_fast"],
        &["mq", "pfifo_fast", "tbf", "fq_codel"],
    ] {
        assert!(asks(kinds), "{kinds:?}");
    }
    for kinds in [
        &[][..],
        &["tbf", "bfifo"],
        &["noqueue"],
        &["mq", "pfifo_fast", "pfifo_fast"],
        &["mq", "fq_codel", "fq"],
    ] {
        assert!(!asks(kinds), "{kinds:?}");
    }
}

/// `stab overhead 24` alone is no table: the kernel adds what is told.
#[test]
fn a_size_table_without_a_table_is_an_overhead() {
    let spec = |overhead: i32, tsize: u32| {
        let words = [0x0000_0002u32, overhead.cast_unsigned(), 1, 0, 0, tsize];
        words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>()
    };
    let read = |spec: &[u8]| {
        let request = Request::new(NEWQDISC, 0, &tcmsg(3, Handle(9))).attr_str(1, "tbf");
        record_of(&request.nest(8, |nest| nest.attr(1, spec)).finish(1)).stab
    };
    assert_eq!(read(&spec(24, 0)), Some(SizeTable::Overhead(24)));
    assert_eq!(read(&spec(-14, 0)), Some(SizeTable::Overhead(-14)));
    assert_eq!(read(&spec(24, 512)), Some(SizeTable::Untold));
    assert_eq!(read(&spec(24, 0)[..23]), Some(SizeTable::Untold));
    assert_eq!((told(TBF_20).stab, told(STAB).stab), (None, Some(SizeTable::Untold)));
    let tbf = Record {
        parent: ROOT,
        stab: read(&spec(24, 0)),
        ..told(TBF_20)
    };
    let Ok(Shaping::Root(root)) = seen(&[tbf, told(BFIFO)], &[], &[]) else {
        panic!()
    };
    assert_eq!(root.overhead, 24);
}

#[test]
fn what_is_not_carried_is_named() {
    let tbf = || Record {
        parent: ROOT,
        ..told(TBF_20)
    };
    assert_eq!(why(&[told(STAB)], &[], &[]), "has a size table");
    let sized = Record {
        stab: Some(SizeTable::Overhead(24)),
        ..told(BFIFO)
    };
    assert_eq!(
        why(&[tbf(), sized], &[], &[]),
        "qdisc bfifo 0:: has a size table below another qdisc"
    );
    assert_eq!(why(&[made("cake", 1, ROOT, &[])], &[], &[]), "");
    assert_eq!(why(&[tbf()], &[], &[]), "its queue was deleted");
    let stranger = made("netem", 7, Handle(0x20_0001), &[]);
    assert_eq!(why(&[tbf(), stranger], &[], &[]), "qdisc netem 7:");
    let filtered = |on| why(&[told(HTB)], &[told(CLASS_1), told(CLASS_10)], &[on]);
    assert_eq!(filtered(Handle::qdisc(1)), "has filters");
    assert_eq!(filtered(Handle(0x1_0001)), "class 1:1: has filters");
    let leaf = made("netem", 7, Handle(0x1_0010), &[]);
    assert_eq!(
        why(&[told(HTB), leaf], &[told(CLASS_1), told(CLASS_10)], &[]),
        "class 1:10: qdisc netem 7:"
    );
    let offloaded = Record {
        offloaded: true,
        ..tbf()
    };
    assert_eq!(why(&[offloaded, told(BFIFO)], &[], &[]), "is offloaded");
    for (options, wanted) in [(&[][..], true), (&[8, 0, 7, 0, 0, 0, 1, 0], false)] {
        let fq = made("fq", 1, ROOT, options);
        assert_eq!(seen(&[fq], &[], &[]).is_ok(), wanted);
    }
}

#[test]
fn dumps_of_different_moments_are_known() {
    let (htb, classes) = (told(HTB), [told(CLASS_1), told(CLASS_10)]);
    assert_eq!(seen(&[htb.clone(), told(BFIFO)], &classes, &[]), Err(Not::Torn));
    assert_eq!(seen(std::slice::from_ref(&htb), &classes[1..], &[]), Err(Not::Torn));
    let loose = Record {
        parent: Handle(0x1_0077),
        ..told(TBF_20)
    };
    assert_eq!(seen(&[htb, loose, told(BFIFO)], &classes, &[]), Err(Not::Torn));
}

#[test]
fn filters_of_a_leaf_do_not_matter() {
    assert!(seen(&[told(HTB)], &[told(CLASS_1), told(CLASS_10)], &[Handle(0x1_0010)]).is_ok());
}

#[test]
fn what_was_sent_and_lost_is_read() {
    let record = told(HTB);
    assert_eq!((record.counts.bytes, record.counts.packets), (90, 1));
    let longs = |request: Request| request.attr(8, &7u64.to_ne_bytes());
    let bytes_of = |words: [i32; 5]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let (queue, app) = (bytes_of([1, 2, 3, 4, 5]), bytes_of([1, 2, 3, 4, -5]));
    let request = Request::new(NEWTCLASS, 0, &tcmsg(3, Handle(9))).attr_str(1, "htb");
    let bytes = request
        .nest(7, |nest| longs(nest).attr(3, &queue).attr(4, &app))
        .finish(1);
    let counts = record_of(&bytes).counts;
    let wanted = Counts {
        packets: 7,
        backlog_packets: 1,
        backlog_bytes: 2,
        drops: 3,
        overlimits: 5,
        htb: [1, 2, 3],
        htb_tokens: [4, -5],
        ..Counts::default()
    };
    assert_eq!(counts, wanted);
}

fn record_of(bytes: &[u8]) -> Record {
    record(&Messages(bytes).next().unwrap()).unwrap()
}

#[test]
fn times_of_fq_codel_are_the_kernels() {
    let options = [
        (1, 4999u32),
        (2, 10240),
        (3, 99_999),
        (4, 1),
        (5, 1024),
        (6, 1514),
        (8, 64),
        (9, 33_554_432),
    ];
    let bytes = options.iter().fold(Request::new(0, 0, &[]), |request, (kind, value)| {
        request.attr(*kind, &value.to_ne_bytes())
    });
    let qdiscs = [told(HTB), made("fq_codel", 7, Handle(0x1_0001), &bytes.finish(0)[16..])];
    let tree = seen(&qdiscs, &[told(CLASS_1)], &[]).unwrap();
    let wanted = FqCodel {
        limit: 10_240,
        memory_limit: 32 << 20,
        flows: 1024,
        quantum: 1514,
        // 5 ms and 100 ms in units of 1024 ns.
        target_ns: 4882 * 1024,
        interval_ns: 97_656 * 1024,
        ecn: true,
        ce_threshold_ns: None,
        drop_batch: 64,
        frame_max: 1514,
    };
    assert_eq!(htb(&tree).classes[0].leaf.as_ref().unwrap().kind, Kind::FqCodel(wanted));
}

#[test]
fn every_cut_of_a_message_ends_without_a_panic() {
    for whole in [HTB, CLASS_10, TBF_20, BFIFO, PFIFO_FAST] {
        let whole = told(whole);
        for cut in 0..whole.options.len() {
            let cut = Record {
                options: whole.options[..cut].to_vec(),
                parent: ROOT,
                ..whole.clone()
            };
            let _ = seen(std::slice::from_ref(&cut), std::slice::from_ref(&cut), &[]);
        }
    }
}
