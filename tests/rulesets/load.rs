//! The rulesets that programs install (the files beside this one), made ready for the kernel that runs.
//!
//! ```text
//!   NAME.nft         for `nft -f`                     NAME.stays   what of it `bypath check` leaves to the kernel,
//!   NAME.iptables    for `iptables-nft-restore`                    and what this kernel has no module for
//!   NAME.ip6tables   for `ip6tables-nft-restore`
//! ```
//!
//! Each file says in its head where it is from. A kernel may lack a module that a line needs: that line (or the block that it
//! opens) is left out, and said; nothing else about a file is changed, and a line that no program could read fails.

use std::process::Output;

/// A statement that this kernel cannot take, and what it said.
#[derive(Debug)]
pub struct Dropped {
    /// Its first line.
    pub line: String,
    /// The error.
    pub why: String,
}

/// Tries at a file; each leaves out what the one before was refused for.
const TRIES: usize = 8;

/// The path of a file of these.
pub fn path(file: &str) -> String {
    format!("{}/tests/rulesets/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// The program that loads a file from its stdin.
pub fn loader(file: &str) -> &'static str {
    match file.rsplit_once('.').map(|(_, kind)| kind) {
        Some("nft") => "nft -f -",
        Some("iptables") => "iptables-nft-restore",
        Some("ip6tables") => "ip6tables-nft-restore",
        _ => panic!("{file}: not a ruleset"),
    }
}

/// Loads a file by `run`, which runs a command line with an input, and without what this kernel lacks: the text as loaded,
/// and what was left out.
pub fn load(file: &str, run: impl Fn(&str, &str) -> Output) -> (String, Vec<Dropped>) {
    let mut text = std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut dropped = Vec::new();
    for _ in 0..TRIES {
        let output = run(loader(file), &text);
        if output.status.success() {
            for Dropped { line, why } in &dropped {
                println!("{file}: left out, since this kernel cannot: {line}: {why}");
            }
            return (text, dropped);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = refused(&said);
        assert!(!refused.is_empty(), "{file}: {said}");
        text = without(&text, &refused, &mut dropped);
    }
    panic!("{file}: refused after {TRIES} tries, without {dropped:?}");
}

/// The lines, from 1, of which the kernel (not the program) said that it cannot, and what it said.
fn refused(said: &str) -> Vec<(usize, String)> {
    let of_line = |line: &str| -> Option<(usize, String)> {
        // `/dev/stdin:13:12-13: Error: Could not process rule: No such file or directory`
        if let Some((place, why)) = line.split_once(": Error: Could not process rule: ") {
            let number = place.split(':').nth(1)?.parse().ok()?;
            return Some((number, why.to_owned()));
        }
        // `iptables-nft-restore: line 3 failed: No such file or directory.`
        let (place, why) = line.split_once(" failed: ").or_else(|| line.split_once(" failed"))?;
        let number = place.split_once("line ")?.1.parse().ok()?;
        Some((number, why.trim_end_matches('.').to_owned()))
    };
    let mut lines: Vec<_> = said.lines().filter_map(of_line).collect();
    lines.sort();
    lines.dedup_by_key(|(number, _)| *number);
    lines
}

/// The text without these statements: a line, or the block that it opens. Lines keep their numbers.
fn without(text: &str, refused: &[(usize, String)], dropped: &mut Vec<Dropped>) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    for (number, why) in refused {
        let at = number - 1;
        let line = lines[at];
        assert!(!line.trim().is_empty(), "line {number} is empty: {why}");
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = match line.trim_end().ends_with('{') {
            true => {
                at + lines[at..]
                    .iter()
                    .position(|line| *line == format!("{indent}}}"))
                    .expect("its end")
            }
            false => at,
        };
        lines[at..=end].fill("");
        dropped.push(Dropped {
            line: line.trim().to_owned(),
            why: why.clone(),
        });
    }
    lines.join("\n") + "\n"
}
