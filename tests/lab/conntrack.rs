//! Connection tables in the lines of `conntrack -L`: read, united, compared.
//!
//! ```text
//! tcp      6 431999 ESTABLISHED src=A dst=B sport=1 dport=2 src=B dst=A sport=2 dport=1 [ASSURED] mark=0 use=1
//! name number timeout [state]   original tuple  [UNREPLIED]  reply tuple                  [...]     mark   free
//! ```
//!
//! Compared are protocol, state, both tuples, the words in brackets, mark, zone, counters, and the timeout within a second
//! plus the time between two listings. Free is `use`, which counts who looks at an entry. An entry with no more than that
//! time to live may be gone in one of the two.

use super::names::Names;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// How far timeouts may differ at one moment, in seconds: they are printed as whole seconds.
const TIMEOUT_TOLERANCE_S: f64 = 1.0;

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `tcp`, `unknown`.
    pub protocol: String,
    /// IP protocol.
    pub number: u8,
    /// Seconds to live; none where it is not said (a flowtable's).
    pub timeout: Option<u64>,
    /// Of TCP and SCTP.
    pub state: Option<String>,
    /// The tuple of each direction, as `src=... dst=... ...` with addresses in their shortest form.
    pub tuples: [String; 2],
    /// `packets=... bytes=...` of each direction, where they are counted.
    pub counters: [String; 2],
    /// UNREPLIED, ASSURED and the like.
    pub status: BTreeSet<String>,
    /// mark, zone and whatever else is said, but `use`.
    pub rest: String,
    /// The line itself.
    pub line: String,
}

/// What identifies a connection, whichever side began it.
pub type Key = (u8, [String; 2]);

impl Connection {
    /// Reads a line.
    pub fn read(line: &str) -> Result<Self, String> {
        let fail = |what: &str| format!("{what} in `{line}`");
        let mut words = line.split_whitespace().peekable();
        let protocol = words.next().ok_or_else(|| fail("no protocol"))?.to_string();
        let number = words.next().and_then(|word| word.parse().ok());
        let number = number.ok_or_else(|| fail("no protocol number"))?;
        let timeout = words.peek().and_then(|word| word.parse().ok());
        words.next_if(|_| timeout.is_some());
        let state = words.next_if(|word| !word.contains('=') && !word.starts_with('['));
        let mut connection = Connection {
            protocol,
            number,
            timeout,
            state: state.map(str::to_string),
            tuples: Default::default(),
            counters: Default::default(),
            status: BTreeSet::new(),
            rest: String::new(),
            line: line.trim_end().to_string(),
        };
        let mut directions = 0;
        for word in words {
            if let Some(flag) = word.strip_prefix('[') {
                connection.status.insert(flag.trim_end_matches(']').to_string());
                continue;
            }
            let (key, value) = word.split_once('=').ok_or_else(|| fail(&format!("`{word}`")))?;
            directions += usize::from(key == "src");
            let at = match directions {
                1 | 2 => directions - 1,
                _ => return Err(fail("not two tuples")),
            };
            match key {
                "src" | "dst" => {
                    let address: IpAddr = value.parse().map_err(|_| fail(&format!("no address {value}")))?;
                    push(&mut connection.tuples[at], &format!("{key}={address}"));
                }
                "sport" | "dport" | "type" | "code" | "id" | "srckey" | "dstkey" => {
                    push(&mut connection.tuples[at], word);
                }
                "packets" | "bytes" => push(&mut connection.counters[at], word),
                "use" => {}
                _ => push(&mut connection.rest, word),
            }
        }
        if directions == 2 {
            Ok(connection)
        } else {
            Err(fail("not two tuples"))
        }
    }

    /// Whichever side began it, the same.
    pub fn key(&self) -> Key {
        let mut tuples = self.tuples.clone();
        tuples.sort();
        (self.number, tuples)
    }

    /// State and status in one line: `SYN_SENT UNREPLIED`.
    pub fn brief(&self) -> String {
        let words: Vec<&str> = self.state.iter().chain(&self.status).map(String::as_str).collect();
        words.join(" ")
    }

    /// Whether its packets go between these two.
    pub fn is_between(&self, one: IpAddr, other: IpAddr) -> bool {
        let begins = |src, dst| self.tuples[0].starts_with(&format!("src={src} dst={dst}"));
        begins(one, other) || begins(other, one)
    }

    /// Whether it would be over within `seconds`.
    fn ends_within(&self, seconds: f64) -> bool {
        self.timeout.is_some_and(|timeout| timeout as f64 <= seconds)
    }

    /// What differs from `other`, in words; `apart_s` is the time between the two listings.
    fn differs(&self, other: &Connection, apart_s: f64, free: Free) -> Option<String> {
        let timeouts = match (self.timeout, other.timeout) {
            (Some(one), Some(two)) => one.abs_diff(two) as f64 <= TIMEOUT_TOLERANCE_S + apart_s,
            (one, two) => one == two,
        };
        let facts = [
            ("protocol", self.protocol == other.protocol),
            ("timeout", timeouts || free.handed_over),
            ("state", self.state == other.state),
            ("tuples", free.direction || self.tuples == other.tuples),
            (
                "counters",
                free.direction || free.handed_over || self.counters == other.counters,
            ),
            (
                "status",
                self.status == other.status || free.handed_over && self.number != 6,
            ),
            ("mark", self.rest == other.rest),
        ];
        let differing: Vec<&str> = facts.iter().filter(|(_, same)| !same).map(|(what, _)| *what).collect();
        (!differing.is_empty()).then(|| differing.join(", "))
    }
}

fn push(text: &mut String, word: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(word);
}

/// What chance may decide in a scenario.
#[derive(Clone, Copy, Default)]
pub struct Free {
    /// Which side began a connection: packets of both came at once.
    pub direction: bool,
    /// How long connections live that were handed over, and whether one of datagrams is assured: the kernel is told neither of
    /// data that nobody has acknowledged, nor of the age of a stream; nor are fragments counted that it reassembled.
    pub handed_over: bool,
}

/// A table at a moment.
pub struct Listing {
    /// When it was asked for, and when it had come.
    pub asked: [Instant; 2],
    /// By what identifies them.
    pub connections: BTreeMap<Key, Connection>,
}

impl Listing {
    /// Takes it by `list`, which returns lines of `conntrack -L`; those of later texts give way to those of earlier ones.
    pub fn take(list: impl FnOnce() -> Vec<String>) -> Self {
        let begun = Instant::now();
        let texts = list();
        let asked = [begun, Instant::now()];
        let mut connections = BTreeMap::new();
        for line in texts.iter().flat_map(|text| text.lines()) {
            let connection = Connection::read(line).unwrap_or_else(|error| panic!("no line of conntrack -L: {error}"));
            connections.entry(connection.key()).or_insert(connection);
        }
        Listing { asked, connections }
    }

    /// With the other lab's names for what NAT drew.
    pub fn rename(&mut self, names: &Names) {
        if names.is_empty() {
            return;
        }
        let renamed = std::mem::take(&mut self.connections)
            .into_values()
            .map(|mut connection| {
                let tuples = &connection.tuples;
                connection.tuples = tuples
                    .each_ref()
                    .map(|tuple| names.rename_tuple(connection.number, tuple));
                (connection.key(), connection)
            });
        self.connections = renamed.collect();
    }

    /// Those between two addresses of a protocol.
    pub fn between(&self, number: u8, one: IpAddr, other: IpAddr) -> Vec<&Connection> {
        let all = self.connections.values();
        all.filter(|connection| connection.number == number && connection.is_between(one, other))
            .collect()
    }

    /// Every difference in words.
    pub fn compare(&self, tested: &Listing, free: Free) -> Vec<String> {
        let apart_s = (tested.asked[1] - self.asked[0]).as_secs_f64();
        let mut differences = Vec::new();
        let lasting = |connection: &Connection| !connection.ends_within(TIMEOUT_TOLERANCE_S + apart_s);
        for (key, ours) in &self.connections {
            match tested.connections.get(key) {
                None if lasting(ours) => differences.push(format!("only the kernel's: {}", ours.line)),
                Some(theirs) => {
                    if let Some(what) = ours.differs(theirs, apart_s, free) {
                        differences.push(format!(
                            "{what}\n    kernel: {}\n    bypath: {}",
                            ours.line, theirs.line
                        ));
                    }
                }
                None => {}
            }
        }
        let extra = tested
            .connections
            .iter()
            .filter(|(key, connection)| !self.connections.contains_key(*key) && lasting(connection));
        differences.extend(extra.map(|(_, connection)| format!("only bypath's: {}", connection.line)));
        differences
    }
}
