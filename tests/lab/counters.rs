//! The counters of rules: what the kernel without bypath counted is what the other one and bypath counted together.

use super::bypath::{BINARY, Bypath};
use super::namespace::Namespace;
use super::twin::Twin;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Counts are told a little after the packets.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);

/// Packets and bytes by table and rule, or by table and name.
type Counters = BTreeMap<String, (u64, u64)>;

impl Bypath {
    /// `bypath show rules --json`.
    pub fn rules(&self) -> Vec<Value> {
        let text = self.namespace().run(&format!("{BINARY} show rules --json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("show rules --json: {error}: {text}"))
    }
}

impl Twin {
    /// Panics unless every counter of every rule counted in both labs the same; how many counted anything.
    pub fn compare_counters(&mut self) -> usize {
        self.compare_counters_but(&[])
    }

    /// The same without those of chains whose names end so: such as the box's own packets, sent when the clock says so, come
    /// through, too.
    pub fn compare_counters_but(&mut self, chains: &[&str]) -> usize {
        self.settle();
        let until = Instant::now() + COUNTED_WITHIN;
        loop {
            let policies = self.setup.config.iter().any(|line| line.contains("tables-nft-restore"));
            let is_compared = |name: &str| {
                let is_left_out = chains.iter().any(|chain| name.contains(&format!("{chain} rule ")));
                !is_left_out && !is_met_by_the_box(name)
            };
            let mut wanted = of_kernel(self.kernel_router(), policies);
            let mut found = of_kernel(self.tested_router(), policies);
            wanted.retain(|name, _| is_compared(name));
            let rows = self.bypath().map(Bypath::rules).unwrap_or_default();
            for row in &rows {
                let Some(packets) = row["packets"].as_u64() else {
                    continue;
                };
                let count = found
                    .get_mut(&name(row, &row["object"]))
                    .unwrap_or_else(|| panic!("the kernel has no such counter: {row}"));
                count.0 += packets;
                count.1 += row["bytes"].as_u64().expect("bytes");
            }
            found.retain(|name, _| is_compared(name));
            if wanted == found {
                return wanted.values().filter(|count| count.0 > 0).count();
            }
            if Instant::now() > until {
                self.write_sequence();
                let differ = wanted.iter().filter(|(name, count)| found.get(*name) != Some(count));
                let differ: Vec<_> = differ
                    .map(|(name, count)| format!("{name}: {count:?}, with bypath {:?}", found.get(name)))
                    .collect();
                panic!(
                    "{}: counters differ:\n{}\nbypath has:\n{}\n{}",
                    self.setup.name,
                    differ.join("\n"),
                    rows.iter().map(|row| format!("{row}\n")).collect::<String>(),
                    self.tested_router().run("nft -a list ruleset"),
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Whether packets of the box itself come to that policy, too: but for NAT, which knows none without a connection, all that are
/// sent (what it says about groups, when the clock says so) and all that arrive.
fn is_met_by_the_box(name: &str) -> bool {
    name.ends_with(" policy") && !name.ends_with(" FORWARD policy") && !name.contains(" nat ")
}

fn name(of: &Value, object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let place = match word(object) {
        name if name.is_empty() && of["handle"] == 0 => format!("{} policy", word(&of["chain"])),
        name if name.is_empty() => format!("{} rule {}", word(&of["chain"]), of["handle"]),
        name => format!("counter {name}"),
    };
    format!("{} {} {place}", word(&of["family"]), word(&of["table"]))
}

/// With what reached the `policies` of chains of iptables that count it, which nft does not tell.
fn of_kernel(router: &Namespace, policies: bool) -> Counters {
    let text = router.run("nft -j list ruleset");
    let all: Value = serde_json::from_str(&text).expect("JSON of nft");
    let mut counters = Counters::new();
    let mut add = |name: String, counter: &Value| {
        if let (Some(packets), Some(bytes)) = (counter["packets"].as_u64(), counter["bytes"].as_u64()) {
            counters.insert(name, (packets, bytes));
        }
    };
    for item in all["nftables"].as_array().into_iter().flatten() {
        let (rule, counter) = (&item["rule"], &item["counter"]);
        add(name(counter, &counter["name"]), counter);
        let exprs = rule["expr"].as_array().into_iter().flatten();
        exprs.for_each(|expr| add(name(rule, &Value::Null), &expr["counter"]));
    }
    for (family, program) in [("ip", "iptables-nft-save -c"), ("ip6", "ip6tables-nft-save -c")] {
        if policies {
            counters.extend(of_policies(family, &router.run(program)));
        }
    }
    counters
}

/// `:FORWARD DROP [3:240]`, behind `*filter`: of the chains that forwarded packets meet.
fn of_policies(family: &str, saved: &str) -> Counters {
    let (mut table, mut found) = ("", Counters::new());
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        let words: Vec<&str> = line
            .split([' ', ':', '[', ']'])
            .filter(|word| !word.is_empty())
            .collect();
        if let [
            chain @ ("PREROUTING" | "FORWARD" | "POSTROUTING"),
            "ACCEPT" | "DROP",
            packets,
            bytes,
        ] = words[..]
        {
            let number = |text: &str| text.parse::<u64>().expect("a count");
            let name = format!("{family} {table} {chain} policy");
            found.insert(name, (number(packets), number(bytes)));
        }
    }
    found
}
