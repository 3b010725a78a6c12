//! What a divergence looks like to a person: each differing frame in one line and in hex, a missing frame beside the extra
//! one that is most like it, and both captures as pcapng files under `target/twin/`, one interface per far end.

use super::compare::Difference;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Frames shown per far end; the files have all.
const SHOWN_MAX: usize = 6;

/// The differences of one far end, for reading.
pub fn describe(port: usize, difference: &Difference) -> String {
    let mut text = format!(
        "far end w{port}: {} missing, {} extra, {} other\n",
        difference.missing.len(),
        difference.extra.len(),
        difference.sets.len() + difference.order.len()
    );
    let mut extra: Vec<&Vec<u8>> = difference.extra.iter().collect();
    for missing in difference.missing.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "  kernel sent: {}\n{}", summary(missing), hex(missing));
        let Some(nearest) = (0..extra.len()).min_by_key(|&at| distance(missing, extra[at])) else {
            continue;
        };
        if distance(missing, extra[nearest]) > missing.len() / 2 {
            continue;
        }
        let other = extra.swap_remove(nearest);
        let at = missing
            .iter()
            .zip(other)
            .position(|(a, b)| a != b)
            .unwrap_or(missing.len().min(other.len()));
        let _ = writeln!(
            text,
            "  bypath sent: {} (differs from byte {at})\n{}",
            summary(other),
            hex(other)
        );
    }
    for frame in extra.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "  only bypath: {}\n{}", summary(frame), hex(frame));
    }
    for line in difference.sets.iter().chain(&difference.order).take(SHOWN_MAX) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// Bytes that differ, the difference in length included.
fn distance(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count() + a.len().abs_diff(b.len())
}

fn hex(frame: &[u8]) -> String {
    let mut text = String::new();
    for (line, bytes) in frame.chunks(16).take(6).enumerate() {
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(text, "      {:04x}  {}", line * 16, bytes.join(" "));
    }
    if frame.len() > 96 {
        let _ = writeln!(text, "      ... {} bytes in all", frame.len());
    }
    text.truncate(text.trim_end().len());
    text
}

/// One frame in one line.
pub fn summary(frame: &[u8]) -> String {
    let Some(ethernet) = frame.get(..14) else {
        return format!("{} bytes, no Ethernet header", frame.len());
    };
    let head = format!(
        "{} > {} {} bytes",
        super::packet::text([
            ethernet[6],
            ethernet[7],
            ethernet[8],
            ethernet[9],
            ethernet[10],
            ethernet[11]
        ]),
        super::packet::text([
            ethernet[0],
            ethernet[1],
            ethernet[2],
            ethernet[3],
            ethernet[4],
            ethernet[5]
        ]),
        frame.len()
    );
    let rest = match (ethernet[12], ethernet[13]) {
        (0x08, 0x00) => ipv4(&frame[14..]),
        (0x86, 0xdd) => ipv6(&frame[14..]),
        (0x08, 0x06) => Some("ARP".into()),
        (high, low) => Some(format!("ethertype {high:02x}{low:02x}")),
    };
    format!("{head} {}", rest.unwrap_or_else(|| "truncated".into()))
}

fn ipv4(packet: &[u8]) -> Option<String> {
    let head = usize::from(packet.first()? & 0xf) * 4;
    let word = |at: usize| {
        packet
            .get(at..at + 2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    };
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    Some(format!(
        "IPv4 {} > {} ttl {} len {} id {:04x} frag {:04x} {}",
        address(12)?,
        address(16)?,
        packet.get(8)?,
        word(2)?,
        word(4)?,
        word(6)?,
        layer4(*packet.get(9)?, packet.get(head..).unwrap_or_default())
    ))
}

fn ipv6(packet: &[u8]) -> Option<String> {
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    Some(format!(
        "IPv6 {} > {} hlim {} payload {} {}",
        address(8)?,
        address(24)?,
        packet.get(7)?,
        u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]),
        layer4(*packet.get(6)?, packet.get(40..).unwrap_or_default())
    ))
}

fn layer4(protocol: u8, body: &[u8]) -> String {
    let ports = || match body.get(..4) {
        Some(ports) => format!(
            "{} > {}",
            u16::from_be_bytes([ports[0], ports[1]]),
            u16::from_be_bytes([ports[2], ports[3]])
        ),
        None => "truncated".into(),
    };
    match (protocol, body) {
        (6, _) => format!("TCP {}", ports()),
        (17, _) => format!("UDP {}", ports()),
        (1, [kind, code, ..]) => format!("ICMP type {kind} code {code}"),
        (58, [kind, code, ..]) => format!("ICMPv6 type {kind} code {code}"),
        _ => format!("protocol {protocol}"),
    }
}

/// Where the files of this build's twins go: `twin/` in cargo's target folder.
pub fn folder() -> PathBuf {
    let binary = Path::new(super::bypath::BINARY);
    binary
        .ancestors()
        .nth(2)
        .expect("the binary is in target/PROFILE/")
        .join("twin")
}

/// Writes the captures of one lab, one slice of frames per far end; where to.
pub fn write_pcap(name: &str, captures: &[&[Vec<u8>]]) -> PathBuf {
    let frames = captures
        .iter()
        .enumerate()
        .flat_map(|(port, frames)| frames.iter().enumerate().map(move |(at, frame)| (port, at, &frame[..])));
    write(name, captures.len(), frames)
}

/// Writes frames of several far ends in one order; where to.
pub fn write_sequence(name: &str, frames: &[(usize, Vec<u8>)]) -> PathBuf {
    let ports = frames.iter().map(|(port, _)| port + 1).max().unwrap_or(0);
    let frames = frames
        .iter()
        .enumerate()
        .map(|(at, (port, frame))| (*port, at, &frame[..]));
    write(name, ports, frames)
}

fn write<'a>(name: &str, ports: usize, frames: impl Iterator<Item = (usize, usize, &'a [u8])>) -> PathBuf {
    let path = folder().join(format!("{name}.pcapng"));
    std::fs::create_dir_all(folder()).expect("make target/twin");
    let mut file = Vec::new();
    // Section header: byte order, version 1.0, length unknown. Then an interface per far end, then the frames.
    block(
        &mut file,
        0x0a0d_0d0a,
        &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat(),
    );
    for port in 0..ports {
        let name = format!("w{port}\0\0");
        let options = [&[2, 0, 2, 0][..], name.as_bytes(), &[0, 0, 0, 0]].concat();
        block(&mut file, 1, &[&[1, 0, 0, 0, 0, 0, 0, 0][..], &options].concat());
    }
    for (port, time_us, frame) in frames {
        let length = (frame.len() as u32).to_le_bytes();
        let head = [
            (port as u32).to_le_bytes(),
            [0; 4],
            (time_us as u32).to_le_bytes(),
            length,
            length,
        ]
        .concat();
        block(&mut file, 6, &[&head[..], frame].concat());
    }
    std::fs::write(&path, file).expect("write a capture");
    path
}

fn block(file: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let padded = body.len().next_multiple_of(4);
    let length = (12 + padded as u32).to_le_bytes();
    file.extend(kind.to_le_bytes());
    file.extend(length);
    file.extend(body);
    file.extend(std::iter::repeat_n(0, padded - body.len()));
    file.extend(length);
}
