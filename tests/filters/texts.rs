//! Random filters in the words of `tc filter add`, a line each: their values are mostly those of a frame that will come, else
//! few would match.

use super::frames::{Frame, MARKS, PORTS, PROTOCOLS, Random, TOS};
use super::lab::CLASSES;

/// Filters of one kind, or of `any`.
pub fn filters(random: &mut Random, kind: &str, frames: &[Frame]) -> String {
    let mut lines = Vec::new();
    for preference in 1..=1 + random.below(4) {
        let kind = match kind {
            "any" => random.of(&["u32", "u32", "fw", "flower", "flower", "matchall"]),
            one => one,
        };
        let protocol = random.of(&["all", "all", "ip", "ip", "ipv6", "802.1q", "arp"]);
        let head = format!("pref {preference} protocol {protocol}");
        match kind {
            "u32" => u32_of_preference(random, &head, preference, frames, &mut lines),
            "fw" => fw(random, &head, &mut lines),
            "matchall" => lines.push(format!("{head} matchall {}", class(random))),
            "flower" => {
                let protocol = random.of(&["all", "ip", "ip", "ip", "ipv6", "arp"]);
                flower(
                    random,
                    &format!("pref {preference} protocol {protocol} flower"),
                    protocol,
                    &mut lines,
                );
            }
            other => panic!("no filter {other}"),
        }
    }
    lines.join("\n")
}

/// What random filters may run into, and is not carried.
pub fn may_be_refused(why: &str) -> bool {
    let words = [
        "before the Ethernet header",
        "which is asked first",
        "lists nothing behind",
        "for a port and for a range",
    ];
    words.iter().any(|words| why.contains(words))
}

fn class(random: &mut Random) -> String {
    match random.below(12) {
        0 => "classid 1:77".into(),
        1 => "classid 1:".into(),
        _ => format!("classid 1:{:x}", 1 + random.below(CLASSES as usize)),
    }
}

fn fw(random: &mut Random, head: &str, lines: &mut Vec<String>) {
    if random.one_in(20) {
        return lines.push(format!("{head} fw"));
    }
    let mask = random.of(&["", "", "/0xff", "/0xffff"]);
    for _ in 0..1 + random.below(4) {
        lines.push(format!(
            "{head} handle {:#x}{mask} fw {}",
            random.of(&MARKS[1..]),
            class(random)
        ));
    }
}

/// Filters of one mask, and often one of another.
fn flower(random: &mut Random, head: &str, protocol: &str, lines: &mut Vec<String>) {
    for _ in 0..random.of(&[1, 1, 2]) {
        let mut asks = [0; 9];
        for ask in &mut asks {
            *ask = random.below(9);
        }
        let ip_protocol = random.of(&["tcp", "udp", "tcp", "udp", "sctp", "icmp", "44"]);
        for _ in 0..1 + random.below(4) {
            let keys = flower_keys(random, protocol, ip_protocol, &asks);
            lines.push(format!("{head} {keys} {}", class(random)));
        }
    }
}

fn flower_keys(random: &mut Random, protocol: &str, ip_protocol: &str, asks: &[usize; 9]) -> String {
    let mut keys = String::new();
    let mut key = |ask: bool, text: String| keys += &if ask { text } else { String::new() };
    let mac = random.below(3);
    key(
        asks[0] == 0,
        format!(
            " dst_mac 02:00:00:00:01:{mac:02x}{}",
            ["", "/ff:ff:ff:ff:ff:00"][asks[1] % 2]
        ),
    );
    key(asks[1] == 0, format!(" src_mac 02:00:00:00:02:{mac:02x}"));
    let host = |random: &mut Random, v6: &str, v4: &str, length: usize| match protocol {
        "ip" => format!("{v4}{}/{}", random.below(4), [32, 32, 31, 24][length % 4]),
        _ => format!("{v6}{}/{}", random.below(4), [128, 128, 127, 64][length % 4]),
    };
    if matches!(protocol, "ip" | "ipv6") {
        key(
            asks[2] < 2,
            format!(" src_ip {}", host(random, "2001:db8::", "10.0.0.", asks[3])),
        );
        key(
            asks[3] < 2,
            format!(" dst_ip {}", host(random, "2001:db8::1:", "10.0.1.", asks[2])),
        );
        key(
            asks[4] == 0,
            format!(" ip_tos {:#x}{}", random.of(&TOS), ["", "/0xfc"][asks[5] % 2]),
        );
        key(asks[5] == 0, format!(" ip_ttl {}", random.of(&[1, 63, 64])));
        let ports = matches!(ip_protocol, "tcp" | "udp" | "sctp");
        key(asks[6] < 6, format!(" ip_proto {ip_protocol}"));
        let mut port = |side: &str, ask: usize| {
            let (one, other) = (random.of(&PORTS), random.of(&PORTS));
            let least = one.min(other);
            match ask {
                0 => format!(" {side}_port {one}"),
                1 => format!(" {side}_port {}/0xff00", one & 0xff00),
                2 => format!(" {side}_port {least}-{}", one.max(other) + 1),
                _ => String::new(),
            }
        };
        let (source, destination) = (port("src", asks[7]), port("dst", asks[8]));
        key(ports && asks[6] < 6, source + &destination);
        let flags = random.of(&["0x2", "0x10", "0x2/0x12", "0x1/0x1"]);
        key(ip_protocol == "tcp" && asks[6] < 2, format!(" tcp_flags {flags}"));
    }
    keys
}

fn u32_of_preference(random: &mut Random, head: &str, preference: usize, frames: &[Frame], lines: &mut Vec<String>) {
    let tables = random.of(&[0, 0, 1, 2]);
    let number = |table: usize| preference * 8 + table;
    let divisors: Vec<usize> = (0..tables).map(|_| random.of(&[1, 4, 16, 256])).collect();
    for (table, divisor) in divisors.iter().enumerate() {
        lines.push(format!("{head} handle {:x}: u32 divisor {divisor}", number(table)));
    }
    // The last tables first: links lead only further.
    for table in (0..tables).rev() {
        for _ in 0..1 + random.below(8) {
            let bucket = random.below(divisors[table]);
            let keys = keys(random, frames, true);
            let link = match table + 1 < tables && random.one_in(3) {
                true => link(random, number(table + 1)),
                false => class(random),
            };
            lines.push(format!("{head} u32 ht {:x}:{bucket:x}: {keys} {link}", number(table)));
        }
    }
    if random.one_in(3) {
        many(random, head, lines);
    }
    for _ in 0..1 + random.below(6) {
        let keys = keys(random, frames, false);
        let rest = match tables > 0 && random.one_in(2) {
            true => {
                let table = random.below(tables);
                link(random, number(table))
            }
            false => class(random),
        };
        lines.push(format!("{head} u32 {keys} {rest}"));
    }
}

/// So many that look at the same words that they are searched by an index.
fn many(random: &mut Random, head: &str, lines: &mut Vec<String>) {
    let shapes = [random.below(5), random.below(5)];
    for _ in 0..8 + random.below(40) {
        let (host, port) = (random.below(4), random.of(&PORTS));
        let keys = match random.of(&shapes) {
            0 => format!("match ip src 10.0.{}.{host}/32", random.below(2)),
            1 => format!(
                "match ip protocol {} 0xff match ip dport {port} 0xffff",
                random.of(&PROTOCOLS)
            ),
            2 => format!("match ip6 dst 2001:db8::{}:{host}/128", random.below(2)),
            3 => format!("match ether dst 02:00:00:00:01:0{}", random.below(3)),
            _ => format!("match mark {} 0xff match ip dst 10.0.1.{host}/32", random.of(&MARKS)),
        };
        lines.push(format!("{head} u32 {keys} {}", class(random)));
    }
}

fn link(random: &mut Random, table: usize) -> String {
    let mut text = format!("link {table:x}:");
    if random.one_in(2) {
        let (mask, at) = random.of(&[
            ("0x000000ff", 12),
            ("0x00000003", 16),
            ("0x00ff0000", 8),
            ("0x0000f000", 20),
        ]);
        text += &format!(" hashkey mask {mask} at {at}");
    }
    text += random.of(&[
        "",
        "",
        " offset at 0 mask 0x0f00 shift 6",
        " offset at 0 mask 0x0f00 shift 6 eat",
        " offset at 0 mask 0x0f00 shift 6 plus 2",
        " offset plus 20 eat",
        " offset plus 40",
    ]);
    if random.one_in(4) {
        text += &format!(" {}", class(random));
    }
    text
}

fn keys(random: &mut Random, frames: &[Frame], below: bool) -> String {
    let count = random.of(&[1, 1, 1, 2, 2, 3]);
    let of = &frames[random.below(frames.len())].bytes;
    (0..count).map(|_| key(random, of, below)).collect::<Vec<_>>().join(" ")
}

fn key(random: &mut Random, frame: &[u8], below: bool) -> String {
    let host = random.below(4);
    let port = random.of(&PORTS);
    if below && random.one_in(2) {
        let side = random.of(&["src", "dst"]);
        return match random.below(4) {
            0 => format!("match tcp {side} {port} 0xffff"),
            1 => format!("match udp {side} {port} 0xffff"),
            2 => format!("match u32 {port:#x} 0xffff at nexthdr+0"),
            _ => format!("match u16 {port} 0xffff at 2"),
        };
    }
    match random.below(16) {
        0 => format!("match ip src 10.0.0.{host}/{}", random.of(&[32, 31, 24, 8])),
        1 => format!("match ip dst 10.0.1.{host}/{}", random.of(&[32, 31, 23])),
        2 => format!("match ip protocol {} 0xff", random.of(&PROTOCOLS)),
        3 => format!("match ip tos {:#x} {}", random.of(&TOS), random.of(&["0xff", "0xfc"])),
        4 => format!("match ip sport {port} 0xffff"),
        5 => format!("match ip dport {port} {}", random.of(&["0xffff", "0xff00"])),
        6 => format!("match ip6 src 2001:db8::{host}/{}", random.of(&[128, 127, 32])),
        7 => format!("match ip6 dport {port} 0xffff"),
        8 => format!(
            "match mark {} {}",
            random.of(&MARKS),
            random.of(&["0xffffffff", "0xff"])
        ),
        9 => "match u32 0 0".into(),
        10 => "match ip nofrag".into(),
        _ => {
            let network = if matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]) {
                18
            } else {
                14
            };
            let width = random.of(&[1usize, 2, 4]);
            let at =
                random.of(&[-14, -8, -2, 0, 2, 4, 6, 8, 9, 12, 16, 20, 22, 24, 30, 40]) / width as i32 * width as i32;
            let from = (network + at) as usize;
            let read = frame.get(from..from + width).unwrap_or(&[0; 4][..width]);
            let value: String = read.iter().map(|byte| format!("{byte:02x}")).collect();
            let mask = random.of(&[u32::MAX, u32::MAX, 0x0f0f_0f0f, 0xff]) >> (32 - 8 * width);
            format!("match u{} 0x{value} {mask:#x} at {at}", 8 * width)
        }
    }
}
