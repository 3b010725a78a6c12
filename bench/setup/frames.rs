//! Frames for benches of the wire layer and of rx: TCP or UDP, IPv4 or IPv6, with right checksums.

use etherparse::PacketBuilder;

/// The Ethernet address of the port that they arrive on.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A right frame with so many bytes of data.
pub fn frame(v6: bool, tcp: bool, data_len: usize) -> Vec<u8> {
    let ether = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], MAC);
    let ip = if v6 {
        ether.ipv6([0x20; 16], [0x30; 16], 64)
    } else {
        ether.ipv4([192, 0, 2, 1], [198, 51, 100, 2], 64)
    };
    let (data, mut out) = (vec![0x5a; data_len], Vec::new());
    match tcp {
        true => ip.tcp(40000, 443, 1, 1000).write(&mut out, &data),
        false => ip.udp(40000, 53).write(&mut out, &data),
    }
    .expect("writing to memory");
    out
}
