//! Reports that are written by bench/trade (Python, for TRex and pktgen) are read by bypath's own types: a member that is
//! renamed on one side fails here. The files are compared with what bench/trex/rfc2544 and bench/trex/connections-search write by
//! bench/trade/test.

use bypath::bench::report::{Report, VERSION};
use bypath::bench::work::{Kind, Order, Rate, Size};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

fn report() -> Report {
    serde_json::from_str(include_str!("../bench/trex/test.d/report.json")).expect("a report")
}

#[test]
fn is_read_with_all_of_its_members() {
    let report = report();
    assert_eq!((report.version, &report.kind[..]), (VERSION, "rfc2544"));
    let works: Vec<_> = report.rfc2544.iter().map(|one| (one.kind, &one.size[..])).collect();
    assert_eq!(works, [(Some(Kind::Udp), "64"), (Some(Kind::Udp), "imix")]);
    for found in &report.rfc2544 {
        assert!(
            (4.9e6..5.1e6).contains(&found.throughput_pps) || found.size == "imix",
            "{found:?}"
        );
        assert!(
            found
                .search
                .iter()
                .all(|&(rate, loss)| rate > 0.0 && (0.0..=1.0).contains(&loss))
        );
        assert!(found.loss_curve.windows(2).all(|pair| pair[0].0 >= pair[1].0));
        assert!(
            found
                .latency
                .iter()
                .all(|(share, delays)| *share > 0.0 && delays.p50_ns <= delays.p99_ns)
        );
        assert_eq!(found.back_to_back.len(), 1);
    }
    let kinds: Vec<_> = report
        .entries
        .iter()
        .map(|entry| (entry.work.size, entry.work.rate))
        .collect();
    assert!(
        kinds.iter().any(|(size, _)| *size == Size::Imix) && kinds.iter().any(|(size, _)| *size == Size::Bytes(64))
    );
    assert!(
        kinds.iter().any(|(_, rate)| *rate == Rate::Unpaced) && kinds.iter().any(|(_, rate)| *rate != Rate::Unpaced)
    );
    for entry in &report.entries {
        let (work, outcome) = (&entry.work, &entry.outcome);
        assert_eq!(outcome.offered, outcome.received + outcome.lost);
        assert_eq!(
            (work.kind, work.flows.order, work.flows.count),
            (Kind::Udp, Order::RoundRobin, 1000)
        );
        assert_eq!((work.dst_mac, work.src.is_ipv4()), ([2, 0, 0, 0, 0, 1], true));
    }
}

#[test]
fn is_written_again_without_a_loss() {
    let report = report();
    let text = serde_json::to_string(&report).expect("a report");
    assert_eq!(serde_json::from_str::<Report>(&text).expect("a report"), report);
}

/// A report of connections has their rate where that of frames is, and no size in bytes.
#[test]
fn connections_are_read_and_shown() {
    let text = include_str!("../bench/trex/test.d/connections.json");
    let report: Report = serde_json::from_str(text).expect("a report");
    let [found] = &report.rfc2544[..] else {
        panic!("{report:?}")
    };
    assert!((330_000.0..345_001.0).contains(&found.throughput_pps), "{found:?}");
    assert_eq!(found.kind, Some(Kind::TcpSyn));
    assert_eq!(found.search.len(), report.entries.len());
    for ((rate, loss), entry) in found.search.iter().zip(&report.entries) {
        assert_eq!((*rate, *loss), (entry.outcome.offered_pps(), entry.outcome.loss()));
        assert_eq!((entry.work.kind, *loss > 0.0), (Kind::TcpSyn, *rate > 345_000.0));
    }
    let table = bypath::bench::report::table::text(&report);
    let row = table
        .lines()
        .find(|line| line.contains("connection ") && line.contains("nat"));
    assert!(
        row.is_some_and(|row| row.contains('k') && !row.contains("none")),
        "{table}"
    );
    assert!(table.contains("a frame stands for a connection here"), "{table}");
}

/// The histograms that bench/trade/hdr.py writes are those of the field, and their percentiles are what the report says.
#[test]
fn histograms_are_decoded() {
    for found in report().rfc2544 {
        for (_, delays) in found.latency {
            let compressed = base64(&delays.hdr);
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &compressed[..]).expect("V2");
            assert_eq!(histogram.len(), delays.count);
            let within = |of: f64, told: u64| {
                let here = histogram.value_at_quantile(of);
                assert!(here.abs_diff(told) <= told / 500, "{of}: {here}, and told {told}");
            };
            within(0.5, delays.p50_ns);
            within(0.99, delays.p99_ns);
            within(1.0, delays.max_ns);
        }
    }
}

/// Decodes base64.
fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = text.trim_end_matches('=').bytes().map(value).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let word = four.iter().fold(0, |word, digit| word << 6 | digit) << (6 * (4 - four.len()));
        word.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}
