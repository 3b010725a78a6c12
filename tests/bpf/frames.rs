//! Frames, made byte by byte, so that the tests do not lean on the code that they test.

pub type Mac = [u8; 6];

pub const PEER: Mac = [2, 0, 0, 0, 0, 0x11];
pub const BROADCAST: Mac = [0xff; 6];

pub fn ethernet(dst: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &PEER[..], &ethertype.to_be_bytes()[..], payload].concat()
}

/// The Internet checksum.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 header of 20 bytes and its payload, edited before the checksum is made.
pub fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet.extend(src);
    packet.extend(dst);
    packet.extend(payload);
    edit(&mut packet);
    let header = 4 * usize::from(packet[0] & 15);
    let sum = checksum(&packet[..header.clamp(20, packet.len().max(20))]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A UDP datagram of 4 data bytes, without checksum.
pub fn udp(len: usize) -> Vec<u8> {
    let mut datagram = vec![0x30, 0x39, 0x30, 0x39, 0, 0, 0, 0];
    datagram[4..6].copy_from_slice(&((8 + len) as u16).to_be_bytes());
    datagram.extend((0..len).map(|i| i as u8));
    datagram
}

/// An ICMP echo request.
pub fn echo_request(id: u16) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 0, 0, 1];
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message.extend(*b"bypath punt test");
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An IPv6 header and its payload, edited.
pub fn ipv6(src: [u8; 16], dst: [u8; 16], next: u8, payload: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(src);
    packet.extend(dst);
    packet.extend(payload);
    edit(&mut packet);
    packet
}

/// `2001:db8:net::host`.
pub fn v6(net: u8, host: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]
}
