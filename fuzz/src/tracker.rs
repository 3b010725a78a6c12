//! The trackers over any packets: `data` is a script of them, which one connection takes in as the walk does.
//!
//! ```text
//!  flags | packets: control | length | segment ...
//!    |               \- reply 1, IPv6 2, time passes 4, fixed timeout 8, protocol << 4
//!    \- checksums 1, loose 2, liberal 4, invalid RSTs ignored 8
//! ```

use bypath::packet::{Family, Parsed, PortIndex};
use bypath::stage::rx;
use bypath::table::conntrack::tracker::{self, IcmpError, Outcome, Update, View};
use bypath::table::conntrack::{Config, Direction, ProtoState, Status, Ticks};
use bypath::wire::{ether, ipv4};
use std::ops::ControlFlow;

const PROTOCOLS: [u8; 8] = [6, 17, 1, 58, 132, 47, 136, 50];

/// The one body: what must hold for any script.
pub fn tracker(data: &[u8]) {
    let Some((&flags, mut rest)) = data.split_first() else {
        return;
    };
    let config = Config {
        checksum: flags & 1 != 0,
        tcp_loose: flags & 2 != 0,
        tcp_be_liberal: flags & 4 != 0,
        tcp_ignore_invalid_rst: flags & 8 != 0,
        ..Config::default()
    };
    let mut connection = Connection::default();
    while let [control, len, behind @ ..] = rest {
        let (segment, next) = behind.split_at(behind.len().min((*len).into()));
        connection.take(&frame(*control, segment), *control, &config);
        rest = next;
    }
}

/// A frame with `segment` behind an IP header.
fn frame(control: u8, segment: &[u8]) -> Vec<u8> {
    let proto = PROTOCOLS[usize::from(control >> 4) % PROTOCOLS.len()];
    let mut frame = vec![2; 12];
    if control & 2 != 0 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((segment.len() as u16).to_be_bytes());
        frame.extend([proto, 255, 0xfe, 0x80]);
        frame.resize(ether::HEADER_LEN + 40, 1);
    } else {
        frame.extend([0x08, 0, 0x45, 0]);
        frame.extend((20 + segment.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, proto, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2]);
        if let Ok(mut ip) = ipv4::Packet::new_checked(&mut frame[ether::HEADER_LEN..]) {
            ip.fill_checksum();
        }
    }
    frame.extend(segment);
    if let Ok(mut ip) = ipv4::Packet::new_checked(&mut frame[ether::HEADER_LEN..]) {
        ip.fill_checksum();
    }
    frame
}

#[derive(Default)]
struct Connection {
    of: Option<(u8, Family)>,
    status: Status,
    left: Ticks,
    now: Ticks,
    proto: ProtoState,
}

impl Connection {
    fn take(&mut self, frame: &[u8], control: u8, config: &Config) {
        let ControlFlow::Continue(packet) = rx::parse_bytes(frame, PortIndex(0), &[2; 6]) else {
            return;
        };
        if control & 4 != 0 {
            self.now = self.now.wrapping_add(1 << (control >> 4));
        }
        // A tuple that cannot be inverted begins nothing, and an error is about one that can.
        let tuple = tracker::tuple(&packet, frame, 0);
        match tracker::icmp_error(&packet, frame, config, 0) {
            IcmpError::None => {}
            IcmpError::About(about) => {
                assert_eq!(about.family, packet.family);
                assert!(about.invert().is_some());
                return;
            }
            IcmpError::Invalid | IcmpError::Untracked => return,
        }
        if tuple.and_then(|tuple| tuple.invert()).is_none() {
            return;
        }
        let of = (packet.proto, packet.family);
        if self.of != Some(of) {
            *self = Connection {
                now: self.now,
                ..Connection::default()
            };
        }
        let direction = match self.of.is_some() && control & 1 != 0 {
            true => Direction::Reply,
            false => Direction::Original,
        };
        self.track(&packet, frame, direction, control, config);
    }

    fn track(&mut self, packet: &Parsed, frame: &[u8], direction: Direction, control: u8, config: &Config) {
        let fixed = if control & 8 != 0 {
            Status::FIXED_TIMEOUT
        } else {
            Status(0)
        };
        let view = View {
            confirmed: self.of.is_some(),
            status: self.status | fixed,
            left: self.left,
            proto: self.proto,
        };
        let outcome = tracker::track(packet, frame, &view, direction, config, self.now);
        let again = tracker::track(packet, frame, &view, direction, config, self.now);
        assert_eq!(outcome, again, "a pure function");
        match outcome {
            Outcome::Valid(update) => {
                self.apply(&update, packet.proto);
                self.of = Some((packet.proto, packet.family));
                if direction == Direction::Reply {
                    self.status = self.status | Status::SEEN_REPLY;
                }
                if update.kill {
                    assert_eq!(packet.proto, 6, "only an RST ends a connection at once");
                    *self = Connection::default();
                }
            }
            Outcome::Invalid(Some(update)) if view.confirmed => self.apply(&update, packet.proto),
            Outcome::Invalid(_) => {}
            Outcome::Reopen => {
                assert!(view.confirmed && packet.proto == 6);
                *self = Connection::default();
            }
        }
    }

    fn apply(&mut self, update: &Update, proto: u8) {
        let state = update.proto.unwrap_or(self.proto);
        assert!(state[0] < 1 << 40, "word 0 has 40 bits");
        assert_eq!(update.set.0 & !Status::ASSURED.0, 0);
        let word = tracker::state_word(proto, &state);
        assert_eq!(word.is_some(), [6, 132].contains(&proto), "a state has a word");
        self.proto = state;
        self.left = update.timeout.unwrap_or(self.left);
        self.status = self.status | update.set;
    }
}
