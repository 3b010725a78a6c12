//! The exporter against counters that are made up: what a scrape reads, and clients that ask for something else, for too much, or
//! hardly read their answer.
//!
//! Needs no root: it listens on a port of the loopback device that the kernel chooses.

use super::*;
use crate::control::report::{self, Bridge, BridgeLink, Port, Queue};

fn fake() -> Scrape {
    let queue = Queue {
        rx: 9,
        ..Queue::default()
    };
    let port = Port {
        port: "d0".into(),
        state: "up".into(),
        queues: vec![queue],
        steer: ByReason::from([("redirect".into(), 4)]),
        ..Port::default()
    };
    let bridge = Bridge {
        fdb_entries: 12,
        fdb_refused: 3,
        ..Bridge::default()
    };
    Scrape {
        totals: Totals {
            received: 5,
            forwarded: 2,
            punted: report::punted(&[3]),
            dropped: report::dropped(&[]),
            ..Totals::default()
        },
        ports: vec![port],
        workers: vec![Worker::default()],
        drops: vec![DropRow {
            place: "d0:0".into(),
            reason: "rx_ring_full".into(),
            frames: 6,
        }],
        latency: vec![Latency {
            port: "d0".into(),
            count: 1,
            p99_ns: 8,
            ..Latency::default()
        }],
        rules_taken: ByReason::from([("reading".into(), 4)]),
        conntrack: Conntrack {
            connections: 7,
            connections_max: 9,
            events: ByReason::from([("exported".into(), 3)]),
        },
        bridges: vec![BridgeLink {
            ifname: "br0".into(),
            bridge: Some(bridge),
            ..BridgeLink::default()
        }],
        qdiscs: vec![],
    }
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_scrape_reads_every_kind_of_counter() {
    let server = serve(fake, any()).unwrap();
    let text = ask(server.addr(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && head.contains(&format!("Content-Length: {}\r\n", body.len())));
    for line in [
        "# TYPE bypath_received_frames_total counter",
        "bypath_received_frames_total 5",
        "bypath_punted_frames_total{reason=\"not_ours\"} 3",
        "bypath_dropped_frames_total{reason=\"tx_ring_full\"} 0",
        "bypath_queue_receive_frames_total{port=\"d0\",queue=\"0\",worker=\"0\"} 9",
        "bypath_steer_frames_total{port=\"d0\",decision=\"redirect\"} 4",
        "bypath_lost_frames_total{place=\"d0:0\",reason=\"rx_ring_full\"} 6",
        "bypath_latency_nanoseconds{port=\"d0\",quantile=\"0.99\"} 8",
        "bypath_rules_taken_total{way=\"reading\"} 4",
        "bypath_conntrack_connections 7",
        "bypath_conntrack_events_total{event=\"exported\"} 3",
        "bypath_fdb_entries{bridge=\"br0\"} 12",
        "bypath_fdb_refused_total{bridge=\"br0\"} 3",
    ] {
        assert!(body.lines().any(|have| have == line), "{line}\n{body}");
    }
    let page = include_str!("../../../docs/CLI.md");
    let listed = |head: &str| page.contains(&format!("`{}`", head.split(' ').next().unwrap_or_default()));
    let mut heads = body.split("# TYPE bypath_").skip(1);
    assert!(heads.all(listed), "docs/CLI.md lacks one of\n{body}");
}

#[test]
fn a_label_may_hold_any_name() {
    assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
}

#[test]
fn anything_but_a_scrape_is_refused_and_the_next_scrape_works() {
    let server = serve(fake, any()).unwrap();
    assert!(ask(server.addr(), "GET /secrets HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404 "));
    assert!(ask(server.addr(), "POST /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 400 "));
    drop(TcpStream::connect(server.addr()).unwrap());
    let mut endless = TcpStream::connect(server.addr()).unwrap();
    let _ = endless.write_all(&vec![b'x'; 4 * REQUEST_MAX]);
    assert!(ask(server.addr(), "GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "));
}

#[test]
fn an_address_in_use_is_named() {
    let server = serve(fake, any()).unwrap();
    let error = serve(fake, server.addr()).unwrap_err().to_string();
    assert!(
        error.contains(&server.addr().to_string()) && error.contains("--metrics"),
        "{error}"
    );
}

#[test]
fn a_client_that_hardly_reads_is_dropped_and_the_next_one_answered() {
    // Its first answer is larger than what the kernel keeps for a reader.
    let is_first = AtomicBool::new(true);
    let scrape = move || {
        let mut scrape = fake();
        if is_first.swap(false, Ordering::Relaxed) {
            scrape.ports[0].port = "d".repeat(8 << 20);
        }
        scrape
    };
    let server = serve(scrape, any()).unwrap();
    let mut slow = TcpStream::connect(server.addr()).unwrap();
    slow.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = vec![0; 1 << 16];
    slow.read_exact(&mut text).unwrap();
    let is_answered = AtomicBool::new(false);
    let slow = thread::scope(|scope| {
        let slow = scope.spawn(|| {
            // Something of each write goes on, until the other one is answered.
            while !is_answered.load(Ordering::Relaxed) {
                let mut part = vec![0; 1 << 16];
                let read = slow.read(&mut part).unwrap();
                text.extend_from_slice(&part[..read]);
                thread::sleep(Duration::from_millis(100));
            }
            slow.read_to_end(&mut text).unwrap();
            text
        });
        assert!(ask(server.addr(), "GET /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "));
        is_answered.store(true, Ordering::Relaxed);
        slow.join().unwrap()
    });
    let head = String::from_utf8_lossy(&slow[..200]);
    let length = head
        .split("Content-Length: ")
        .nth(1)
        .and_then(|rest| rest.split('\r').next()?.parse().ok());
    assert!(
        length > Some(slow.len()),
        "it got all {} bytes of {length:?}",
        slow.len()
    );
}
