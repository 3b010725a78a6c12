//! What steer decides about a frame, one word each: counters, `bypath show` and docs use it. The other copy of the table is
//! `enum decision` in `bpf/steer.h`, in the same order, which is that of the checks; a test compares them. The rows differ
//! from the reasons of a punt: what is counted here as passed never was bypath's, and is no part of `received`.

macro_rules! decisions {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// What steer did with a frame; `enum decision` in `bpf/steer.h`. Only `Redirect` brings it to a worker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Decision { $($(#[$doc])* $variant,)* }

        impl Decision {
            /// Every decision, in the order of its counter.
            pub const ALL: &'static [Decision] = &[$(Decision::$variant,)*];

            /// The one word for it in counters and docs.
            pub const fn word(self) -> &'static str {
                match self { $(Decision::$variant => $word,)* }
            }
        }
    };
}

decisions! {
    /// Into the AF_XDP ring of this port and queue.
    Redirect = "redirect",
    /// Punted by us, back on a port in generic mode.
    Reinjected = "reinjected",
    /// Shorter than its headers, or than its IP header says.
    Truncated = "truncated",
    /// To a multicast or broadcast MAC.
    Group = "group",
    /// To a MAC that is not the port's.
    ForeignMac = "foreign_mac",
    /// To a station behind the port's bridge; frames of this kind are left to the kernel.
    BridgingLeft = "bridging_left",
    /// 802.1Q or 802.1ad.
    Vlan = "vlan",
    /// Neither IPv4 nor IPv6; to a station behind a bridge: ARP, or another type that the kernel's bridge looks into.
    NotIp = "not_ip",
    /// This family on this port is left to the kernel.
    FamilyLeft = "family_left",
    /// IP version or lengths that contradict each other.
    Malformed = "malformed",
    /// IPv4 options.
    Options = "options",
    /// IPv6 extension headers.
    Extension = "extension",
    /// TTL or hop limit used up.
    Ttl = "ttl",
    /// A source or destination that no forwarded packet has.
    Martian = "martian",
    /// To the box itself, or a broadcast address of its; where NAT is in force, only what one of its sockets waits for.
    Local = "local",
    /// [`Steer::leave`](super::steer::Steer::leave) left this pair of addresses to the kernel.
    Left = "left",
    /// No AF_XDP socket on this queue.
    NoSocket = "no_socket",
    /// The worker's heartbeat is too old.
    Stalled = "stalled",
    /// Longer than the MTU, where that may be: segments that offload has merged, which no socket has room for.
    Merged = "merged",
    /// The same of a family that is tracked: dropped, until control has left that on this port to the kernel.
    MergedLost = "merged_lost",
}

/// Frames per decision on one port, all CPUs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecisionCounts(pub(super) [u64; Decision::ALL.len()]);

impl DecisionCounts {
    /// Frames that met this decision.
    pub fn of(&self, decision: Decision) -> u64 {
        self.0[decision as usize]
    }

    /// Every decision with its frames.
    pub fn iter(&self) -> impl Iterator<Item = (Decision, u64)> + '_ {
        Decision::ALL.iter().map(|&decision| (decision, self.of(decision)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::WORKERS_MAX;
    use crate::control::exchange::Counts;
    use crate::control::report::Queue;
    use crate::control::steer::SLOTS_MAX;
    use crate::packet::{DropReason, PORTS_MAX, PuntReason};
    use crate::port::STAMP_MAGIC;
    use crate::table::conntrack::table::Table;

    /// The words of the table below a heading of `docs/REASONS.md`, each of whose rows says what the word means.
    fn documented(heading: &str) -> Vec<&'static str> {
        let document = include_str!("../../docs/REASONS.md");
        let section = document.split(heading).nth(1).unwrap_or_default();
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            assert!(cells.len() == 3 && cells[1].len() > 10, "{row}");
            cells[0].trim_end_matches('`')
        })
        .collect()
    }

    /// The operator's page has every word, in the order of the code.
    #[test]
    fn reasons_are_those_of_the_page() {
        let punts: Vec<&str> = PuntReason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(documented("\n## Punted\n"), punts);
        let drops: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(documented("\n## Dropped\n"), drops);
        let losses = Queue::default().losses().map(|(word, _)| word);
        assert_eq!(documented("\n## Lost by the kernel\n"), losses);
        let decisions: Vec<&str> = Decision::ALL.iter().map(|decision| decision.word()).collect();
        assert_eq!(documented("\n## Steer\n"), decisions);
        let events = Counts::default().report(&Table::new(64)).events;
        assert_eq!(
            documented("\n## Connections\n"),
            events.keys().map(String::as_str).collect::<Vec<_>>()
        );
    }

    /// `bpf/steer.h` is the other copy of the table, and of the bounds.
    #[test]
    fn decisions_are_those_of_the_program() {
        let header = include_str!("../../bpf/steer.h");
        let list = header
            .split("enum decision {")
            .nth(1)
            .unwrap()
            .split("DECISIONS,")
            .next()
            .unwrap();
        let words: Vec<String> = list
            .lines()
            .filter_map(|line| line.split(',').next())
            .map(|w| w.trim().to_lowercase())
            .collect();
        let words: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        assert_eq!(words, Decision::ALL.iter().map(|d| d.word()).collect::<Vec<_>>());
        let bounds = [
            ("MAX_PORTS", PORTS_MAX),
            ("MAX_SLOTS", SLOTS_MAX),
            ("MAX_WORKERS", WORKERS_MAX),
        ];
        for (name, max) in bounds {
            assert!(
                header.contains(&format!("#define {name} {max}\n")),
                "{name} is not {max}"
            );
        }
        let stamp = include_str!("../../bpf/stamp.h");
        assert!(stamp.contains(&format!("#define STAMP_MAGIC {STAMP_MAGIC:#018x}ULL")));
    }
}
