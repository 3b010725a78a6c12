//! Rows of `show qdisc`: the qdiscs and classes by which bypath shapes, in the words of `tc -j -s qdisc` and `tc -j -s
//! class`; and the policers at ingress.
//!
//! What the kernel's own of that handle counted is beside it: it has what the kernel itself sends by the port. Rates
//! are in bytes per second, sizes in bytes, times in nanoseconds.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// `show qdisc`: a qdisc, a class of one, or a policer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qdisc {
    /// The port.
    pub dev: String,
    /// The transmit queue that it stands at, below mq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// Whether it is a class.
    pub class: bool,
    /// `tbf`, `htb`, ...; of a class that of its qdisc; of a policer `police`.
    pub kind: String,
    /// `1:`, `1:10`; of a policer its number, `0x1`.
    pub handle: String,
    /// Where it hangs; none for a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The qdisc at a class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<String>,
    /// What it was told, by tc's words.
    pub options: BTreeMap<String, Value>,
    /// What was counted here.
    #[serde(flatten)]
    pub counts: QdiscCounts,
    /// What the kernel's own counted, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<QdiscCounts>,
}

/// What a qdisc or class counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QdiscCounts {
    /// Bytes sent.
    pub bytes: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Times that a packet had to wait for tokens.
    pub overlimits: u64,
    /// Bytes that wait.
    pub backlog: u64,
    /// Packets that wait.
    pub qlen: u64,
    /// Of a class of htb: packets sent by its own rate.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lended: u64,
    /// ... by tokens of a class above.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub borrowed: u64,
    /// ... longer than its buckets.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub giants: u64,
    /// ... the tokens of its rate when it last sent, in ticks of 64 ns; negative what it owes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i32>,
    /// ... those of its ceil.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctokens: Option<i32>,
    /// Of fq_codel and fq: packets marked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ecn_mark: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
