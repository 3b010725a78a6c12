//! Counters: what the kernel without bypath counted, of each qdisc and class, is what the other kernel and bypath counted together.
//! Overlimits are not compared: they tell how often somebody looked and had to wait.

use crate::lab::bypath::{BINARY, Totals};
use crate::lab::namespace::Namespace;
use crate::net::Shaped;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Counts are told a little after the packets.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);
const NAMES: [&str; 6] = ["bytes", "packets", "drops", "lended", "borrowed", "giants"];

/// By `d1 qdisc 1:` or `d1 class 1:10`, in the order of `NAMES`.
type Counts = BTreeMap<String, [u64; 6]>;

impl Shaped {
    /// Panics unless all counted the same, then as `finish` with everything carried.
    #[track_caller]
    pub fn finish_exact(self) -> Totals {
        self.same_counters();
        self.finish(1.0)
    }

    /// What bypath says of its qdiscs.
    fn rows(&self) -> Vec<Value> {
        match self.bypath() {
            Some(_) => rows(self.routers()[1]),
            None => Vec::new(),
        }
    }

    /// How many frames each qdisc and class has dropped by now, in the kernel's lab and in the tested one.
    pub fn drops(&self) -> [BTreeMap<String, u64>; 2] {
        let ports = self.kernel.lab.wires.len();
        let [kernel, mut tested] = self.routers().map(|router| of_kernel(router, ports));
        self.rows().iter().for_each(|row| add(&mut tested, row));
        [kernel, tested].map(|counts| counts.into_iter().map(|(name, counts)| (name, counts[2])).collect())
    }

    /// Panics unless every qdisc and class that has a handle of its own counted the same in both labs.
    #[track_caller]
    pub fn same_counters(&self) {
        let until = Instant::now() + COUNTED_WITHIN;
        let ports = self.kernel.lab.wires.len();
        loop {
            let [wanted, mut found] = self.routers().map(|router| of_kernel(router, ports));
            let rows = self.rows();
            for row in &rows {
                add(&mut found, row);
            }
            if wanted == found {
                return;
            }
            if Instant::now() > until {
                let differ: Vec<String> = wanted
                    .iter()
                    .filter(|(name, counts)| found.get(*name) != Some(counts))
                    .map(|(name, counts)| format!("{name}: {counts:?}, with bypath {:?}", found.get(name)))
                    .collect();
                let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
                panic!(
                    "{}: counters {NAMES:?} differ:\n{}\nbypath has:\n{rows}",
                    self.name,
                    differ.join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// `bypath show qdisc --json`.
fn rows(router: &Namespace) -> Vec<Value> {
    let text = router.run(&format!("{BINARY} show qdisc --json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("show qdisc --json: {error}: {text}"))
}

fn add(found: &mut Counts, row: &Value) {
    let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let what = if row["class"] == true { "class" } else { "qdisc" };
    let Some(counts) = found.get_mut(&format!("{} {what} {}", word("dev"), word("handle"))) else {
        return;
    };
    for (count, name) in counts.iter_mut().zip(NAMES) {
        *count += row[name].as_u64().unwrap_or(0);
    }
}

/// What tc shows, of all ports.
fn of_kernel(router: &Namespace, ports: usize) -> Counts {
    let mut found = Counts::new();
    for port in 0..ports {
        for what in ["qdisc", "class"] {
            read(
                &router.run(&format!("tc -s {what} show dev d{port}")),
                &format!("d{port}"),
                &mut found,
            );
        }
    }
    found
}

fn read(text: &str, port: &str, found: &mut Counts) {
    let mut name = None;
    for line in text.lines() {
        let words: Vec<&str> = line
            .split([' ', '(', ')', ','])
            .filter(|word| !word.is_empty())
            .collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(0);
        match words.first() {
            // Those that the kernel makes by itself have no handle, or one from 8000: on. Classes of tbf and prio only repeat a qdisc.
            Some(&what @ ("qdisc" | "class")) => {
                let major = words[2]
                    .split(':')
                    .next()
                    .and_then(|text| u32::from_str_radix(text, 16).ok());
                let is_own = major.is_some_and(|major| (1..0x8000).contains(&major));
                name =
                    (is_own && (what == "qdisc" || words[1] == "htb")).then(|| format!("{port} {what} {}", words[2]));
            }
            // Sent 90 bytes 1 pkt dropped 0 overlimits 0 requeues 0
            Some(&"Sent") => {
                if let Some(name) = &name {
                    found.insert(name.clone(), [number(1), number(3), number(6), 0, 0, 0]);
                }
            }
            // lended: 0 borrowed: 0 giants: 0
            Some(&"lended:") => {
                if let Some(counts) = name.as_ref().and_then(|name| found.get_mut(name)) {
                    counts[3..].copy_from_slice(&[number(1), number(3), number(5)]);
                }
            }
            _ => {}
        }
    }
}
