//! Connections as an operator sees them: rows with the fields of a `conntrack -L` line, the conditions that select them, and
//! the lines themselves, byte for byte those of conntrack-tools (1.4.7; the tests have lines that it printed).
//!
//! Addresses and ports are those of the original direction wherever one is asked for, as in `conntrack -L -s`. A subscriber
//! to events has a bounded queue; what finds no room there is lost to it, and nobody waits.

use crate::packet::Family;
use crate::table::conntrack::tracker::state_word;
use crate::table::conntrack::{Counter, Direction, Marks, Record, Status, TICKS_PER_SECOND, Ticks, Tuple, is_past};
use crate::wire::Protocol;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One direction of a connection. Of ports, ICMP fields and keys those are there that the protocol has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Source address.
    pub src: String,
    /// Destination address.
    pub dst: String,
    /// Source port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// ICMP type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<u8>,
    /// ICMP code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// ICMP identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// GRE key of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srckey: Option<u16>,
    /// GRE key of the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dstkey: Option<u16>,
    /// Packets, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Bytes, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Side {
    fn new(tuple: &Tuple, counter: Option<Counter>) -> Self {
        let mut side = Side {
            src: tuple.family.show(tuple.src).to_string(),
            dst: tuple.family.show(tuple.dst).to_string(),
            packets: counter.map(|counter| counter.packets),
            bytes: counter.map(|counter| counter.bytes),
            ..Side::default()
        };
        let protocol = Protocol(tuple.proto);
        if protocol == Protocol::ICMP || protocol == Protocol::ICMPV6 {
            side.kind = Some((tuple.dport >> 8) as u8);
            side.code = Some(tuple.dport as u8);
            side.id = Some(tuple.sport);
        } else if tuple.proto == GRE {
            side.srckey = Some(tuple.sport);
            side.dstkey = Some(tuple.dport);
        } else if protocol.has_ports() {
            side.sport = Some(tuple.sport);
            side.dport = Some(tuple.dport);
        }
        side
    }
}

const GRE: u8 = 47;

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src={} dst={} ", self.src, self.dst)?;
        if let (Some(sport), Some(dport)) = (self.sport, self.dport) {
            write!(f, "sport={sport} dport={dport} ")?;
        }
        if let (Some(kind), Some(code), Some(id)) = (self.kind, self.code, self.id) {
            write!(f, "type={kind} code={code} id={id} ")?;
        }
        if let (Some(src), Some(dst)) = (self.srckey, self.dstkey) {
            write!(f, "srckey={src:#x} dstkey={dst:#x} ")?;
        }
        if let (Some(packets), Some(bytes)) = (self.packets, self.bytes) {
            write!(f, "packets={packets} bytes={bytes} ")?;
        }
        Ok(())
    }
}

/// `show conntrack`: one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// What happened to it, of an event: `new`, `update` or `destroy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Protocol number.
    pub proto: u8,
    /// Seconds until it ends.
    pub timeout: u32,
    /// The protocol's state, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The first packet's direction.
    pub original: Side,
    /// The other.
    pub reply: Side,
    /// It has seen packets one way only.
    pub unreplied: bool,
    /// It is not the first to go when the table is full.
    pub assured: bool,
    /// `ct mark`.
    pub mark: u32,
    /// Conntrack zone.
    pub zone: u16,
    /// The kernel decides about its packets, and has the true state of it.
    pub kernel: bool,
    /// The kernel's table has a copy of it.
    pub exported: bool,
}

impl ConnectionRow {
    /// `record` as it is at `now`; with counters if they are kept (`acct`).
    pub fn new(record: &Record, now: Ticks, acct: bool) -> Self {
        let side = |tuple, direction: Direction| {
            let counter = acct.then(|| record.counters[direction as usize]);
            Side::new(tuple, counter)
        };
        let left = if is_past(record.deadline, now) {
            0
        } else {
            record.deadline.wrapping_sub(now) / TICKS_PER_SECOND
        };
        let original = &record.original;
        ConnectionRow {
            event: None,
            family: ["ipv4", "ipv6"][original.family as usize].into(),
            proto: original.proto,
            timeout: left,
            state: state_word(original.proto, &record.proto).map(str::to_owned),
            original: side(original, Direction::Original),
            reply: side(&record.reply, Direction::Reply),
            unreplied: !record.status.any(Status::SEEN_REPLY),
            assured: record.status.any(Status::ASSURED),
            mark: record.mark,
            zone: original.zone,
            kernel: record.marks.any(Marks::KERNEL),
            exported: record.marks.any(Marks::EXPORTED),
        }
    }
}

/// The name that conntrack-tools has for a protocol.
fn proto_name(proto: u8) -> &'static str {
    match proto {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        47 => "gre",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        _ => "unknown",
    }
}

impl fmt::Display for ConnectionRow {
    /// As `conntrack -L`, or of an event as `conntrack -E`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(event) = &self.event {
            write!(f, "{:>9} ", format!("[{}]", event.to_uppercase()))?;
        }
        let name = proto_name(self.proto);
        write!(f, "{name:<8} {} {} ", self.proto, self.timeout)?;
        if let Some(state) = &self.state {
            write!(f, "{state} ")?;
        }
        write!(f, "{}", self.original)?;
        if self.unreplied {
            f.write_str("[UNREPLIED] ")?;
        }
        let reply = self.reply.to_string();
        f.write_str(reply.trim_end())?;
        if self.assured {
            f.write_str(" [ASSURED]")?;
        }
        if self.event.is_none() || self.mark != 0 {
            write!(f, " mark={}", self.mark)?;
        }
        if self.zone != 0 {
            write!(f, " zone={}", self.zone)?;
        }
        if self.event.is_none() {
            f.write_str(" use=1")?;
        }
        Ok(())
    }
}

/// How many connections there are, or were deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionCount {
    /// So many.
    pub connections: u64,
}

/// Which connections: all conditions that are given must hold, of the original direction as in `conntrack`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionFilter {
    /// IPv4 or IPv6 only.
    pub family: Option<u8>,
    /// Protocol number.
    pub proto: Option<u8>,
    /// Source address and prefix length.
    pub src: Option<(IpAddr, u8)>,
    /// Destination address and prefix length.
    pub dst: Option<(IpAddr, u8)>,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// The protocol's state, in capitals as it is listed.
    pub state: Option<String>,
    /// Mark, and which bits of it.
    pub mark: Option<(u32, u32)>,
}

impl ConnectionFilter {
    /// Whether `record` is one of them.
    pub fn holds(&self, record: &Record) -> bool {
        let tuple = &record.original;
        let within =
            |net: &Option<(IpAddr, u8)>, addr| net.is_none_or(|(net, len)| within(net, len, tuple.family, addr));
        let ports = Protocol(tuple.proto).has_ports();
        self.family
            .is_none_or(|family| (family == 4) == (tuple.family == Family::V4))
            && self.proto.is_none_or(|proto| proto == tuple.proto)
            && within(&self.src, tuple.src)
            && within(&self.dst, tuple.dst)
            && self.sport.is_none_or(|port| ports && port == tuple.sport)
            && self.dport.is_none_or(|port| ports && port == tuple.dport)
            && self
                .state
                .as_ref()
                .is_none_or(|state| state_word(tuple.proto, &record.proto) == Some(state))
            && self.mark.is_none_or(|(mark, mask)| record.mark & mask == mark)
    }
}

fn within(net: IpAddr, len: u8, family: Family, addr: u128) -> bool {
    let (of, net) = Family::of(net);
    let shift = u32::from(family.bits().saturating_sub(len));
    of == family && (net ^ addr).checked_shr(shift).unwrap_or(0) == 0
}

/// Who wants to hear of connections that begin, change and end.
#[derive(Debug, Default)]
pub struct Subscribers {
    list: Mutex<Vec<(ConnectionFilter, Sender<ConnectionRow>)>>,
}

/// Events that wait for a subscriber; what does not fit is lost to it.
const EVENTS_MAX: usize = 4096;

impl Subscribers {
    /// One more: events that `filter` selects, from now on.
    pub fn subscribe(&self, filter: &ConnectionFilter) -> Receiver<ConnectionRow> {
        let (events, reader) = bounded(EVENTS_MAX);
        self.lock().push((filter.clone(), events));
        reader
    }

    /// Tells all of them; whether there is any left.
    pub fn tell(&self, event: &str, record: &Record, now: Ticks, acct: bool) -> bool {
        let mut list = self.lock();
        list.retain(|(filter, events)| {
            if !filter.holds(record) {
                return true;
            }
            // At the moment of the event, of which `now` is a little later, its time was whole.
            let then = now.wrapping_sub(TICKS_PER_SECOND / 2);
            let row = ConnectionRow {
                event: Some(event.into()),
                ..ConnectionRow::new(record, then, acct)
            };
            !matches!(events.try_send(row), Err(TrySendError::Disconnected(_)))
        });
        !list.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(ConnectionFilter, Sender<ConnectionRow>)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(proto: u8, sport: u16, dport: u16, status: Status) -> Record {
        let original = Tuple {
            src: 0x0a01_0002,
            dst: 0x0a02_0002,
            sport,
            dport,
            proto,
            family: Family::V4,
            zone: 0,
        };
        Record {
            reply: original.invert().unwrap_or(original),
            original,
            status,
            marks: Marks(0),
            deadline: 3099,
            mark: 0,
            proto: [0; 7],
            counters: [Counter { packets: 2, bytes: 168 }; 2],
        }
    }

    /// Lines that conntrack 1.4.7 printed.
    #[test]
    fn lines_are_those_of_conntrack() {
        let line = |record: &Record| ConnectionRow::new(record, 100, false).to_string();
        assert_eq!(
            line(&record(17, 58724, 99, Status(0))),
            "udp      17 29 src=10.1.0.2 dst=10.2.0.2 sport=58724 dport=99 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 sport=99 dport=58724 mark=0 use=1"
        );
        assert_eq!(
            line(&record(1, 20792, 0x0800, Status::SEEN_REPLY)),
            "icmp     1 29 src=10.1.0.2 dst=10.2.0.2 type=8 code=0 id=20792 src=10.2.0.2 dst=10.1.0.2 type=0 code=0 id=20792 mark=0 use=1"
        );
        assert_eq!(
            line(&record(50, 0, 0, Status(0))),
            "unknown  50 29 src=10.1.0.2 dst=10.2.0.2 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 mark=0 use=1"
        );
        assert_eq!(
            line(&record(47, 0, 0, Status(0))),
            "gre      47 29 src=10.1.0.2 dst=10.2.0.2 srckey=0x0 dstkey=0x0 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 srckey=0x0 dstkey=0x0 mark=0 use=1"
        );
        let counted = ConnectionRow::new(&record(17, 1, 2, Status::SEEN_REPLY | Status::ASSURED), 100, true);
        assert_eq!(
            counted.to_string(),
            "udp      17 29 src=10.1.0.2 dst=10.2.0.2 sport=1 dport=2 packets=2 bytes=168 src=10.2.0.2 dst=10.1.0.2 sport=2 dport=1 packets=2 bytes=168 [ASSURED] mark=0 use=1"
        );
        let event = ConnectionRow {
            event: Some("new".into()),
            ..ConnectionRow::new(&record(1, 20792, 0x0800, Status(0)), 100, false)
        };
        assert_eq!(
            event.to_string(),
            "    [NEW] icmp     1 29 src=10.1.0.2 dst=10.2.0.2 type=8 code=0 id=20792 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 type=0 code=0 id=20792"
        );
    }

    #[test]
    fn a_filter_selects() {
        let record = record(17, 5, 53, Status(0));
        let all = ConnectionFilter::default();
        assert!(all.holds(&record));
        let net: IpAddr = "10.1.0.0".parse().unwrap();
        let some = ConnectionFilter {
            proto: Some(17),
            src: Some((net, 16)),
            dport: Some(53),
            ..all.clone()
        };
        assert!(some.holds(&record));
        for none in [
            ConnectionFilter {
                proto: Some(6),
                ..all.clone()
            },
            ConnectionFilter {
                src: Some((net, 32)),
                ..all.clone()
            },
            ConnectionFilter {
                sport: Some(53),
                ..all.clone()
            },
            ConnectionFilter {
                family: Some(6),
                ..all.clone()
            },
            ConnectionFilter {
                state: Some("ESTABLISHED".into()),
                ..all.clone()
            },
            ConnectionFilter {
                mark: Some((1, 1)),
                ..all
            },
        ] {
            assert!(!none.holds(&record), "{none:?}");
        }
    }
}
