//! Metrics of ports: whether they forward, what their queues carried, and what the XDP program decided.

use super::{escaped, metric};
use crate::control::report::{Port, Queue};

/// One counter per queue of a port: its name, what it counts, and where it stands in the report.
type QueueCounter = (&'static str, &'static str, fn(&Queue) -> u64);

const QUEUE_COUNTERS: [QueueCounter; 5] = [
    ("queue_receive_frames_total", "Frames received.", |queue| queue.rx),
    ("queue_receive_bytes_total", "Bytes received.", |queue| queue.rx_bytes),
    (
        "queue_transmit_frames_total",
        "Frames put into the transmit ring.",
        |queue| queue.tx,
    ),
    (
        "queue_transmit_bytes_total",
        "Bytes put into the transmit ring.",
        |queue| queue.tx_bytes,
    ),
    ("queue_kicks_total", "Transmit system calls.", |queue| queue.kicks),
];

/// Appends them.
pub fn ports(text: &mut String, ports: &[Port]) {
    let up = ports.iter().map(|port| {
        let Port {
            port: name,
            driver,
            mode,
            attach,
            ..
        } = port;
        let name = escaped(name);
        let labels = format!("{{port=\"{name}\",driver=\"{driver}\",mode=\"{mode}\",attach=\"{attach}\"}}");
        (labels, u64::from(port.state == "up"))
    });
    metric(text, "port_up", "gauge", "Whether the port forwards.", up);
    for (name, help, read) in QUEUE_COUNTERS {
        let samples = ports
            .iter()
            .flat_map(|port| port.queues.iter().map(move |queue| (port, queue)));
        let samples = samples.map(|(port, queue)| {
            (
                format!(
                    "{{port=\"{}\",queue=\"{}\",worker=\"{}\"}}",
                    escaped(&port.port),
                    queue.queue,
                    queue.worker
                ),
                read(queue),
            )
        });
        metric(text, name, "counter", help, samples);
    }
    let steer = ports
        .iter()
        .flat_map(|port| port.steer.iter().map(move |(decision, &count)| (port, decision, count)));
    let steer = steer.map(|(port, decision, count)| {
        let labels = format!("{{port=\"{}\",decision=\"{decision}\"}}", escaped(&port.port));
        (labels, count)
    });
    metric(
        text,
        "steer_frames_total",
        "counter",
        "What the XDP program did with frames, by decision.",
        steer,
    );
}
