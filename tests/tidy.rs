//! The tree judges itself: imports go down only, `unsafe` stays in its rooms, every file has a head, none outgrows its
//! reader, nothing is left unfinished, and the picture of the walk is the same wherever it is drawn.
//!
//! Works on the text of `src/`: comments and strings are blanked, the rest is cut into words and signs. That is enough for
//! code that rustfmt has laid out, and each rule is tried on bad examples below.

use bypath::worker::pipeline::WALK;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers and their heights. A module may import from itself and from below.
const LAYERS: [(&str, u32); 10] = [
    ("wire", 0),
    ("packet", 1),
    ("table", 2),
    ("port", 2),
    ("stage", 3),
    ("worker", 4),
    ("mirror", 5),
    ("control", 5),
    ("bench", 5),
    ("cli", 6),
];

/// Of two modules of one height, the only import there may be: from, to.
const SIDEWAYS: [(&str, &str); 1] = [("control", "mirror")];

/// Where `unsafe` may stand.
const UNSAFE_ROOMS: [&str; 3] = ["src/port/", "src/control/", "src/table/conntrack"];

const LINES_MAX: usize = 500;
/// Above so many lines a head of one line says too little.
const SHORT_FILE: usize = 80;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every .rs file below the folder `name`, as its path from the root and its text.
fn files(name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(name)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// `text` with comments, strings and character literals blanked; lines stay lines.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") => raw_string(rest),
            '"' => quoted(rest, '"'),
            // A lifetime is no character literal: 'a has no closing quote right behind it.
            '\'' if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') => quoted(rest, '\''),
            _ => 0,
        };
        if skip == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.push(' ');
            out.extend(rest[..skip].chars().filter(|&c| c == '\n'));
            rest = &rest[skip..];
        }
    }
    out
}

fn raw_string(rest: &str) -> usize {
    let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
    let open = rest.find('"').unwrap() + 1;
    rest[open..].find(end).map_or(rest.len(), |at| open + at + end.len())
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Words and signs; `::` is one sign.
fn tokens(code: &str) -> Vec<&str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            _ if word(first) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        found.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    found
}

/// The modules right under the crate's root that `text` names by `crate::` or by enough `super::`. `depth` is how deep the
/// file's own module lies: 2 for src/table/fib.rs and src/table/fib/mod.rs.
fn imports(text: &str, depth: usize) -> Vec<String> {
    let code = code(text);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    let (mut at, mut braces, mut inline) = (0, 0usize, Vec::new());
    while at < tokens.len() {
        match tokens[at] {
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                inline.retain(|&open| open <= braces);
            }
            // An inline module is one level deeper.
            "mod" if tokens.get(at + 2) == Some(&"{") => inline.push(braces + 1),
            "crate" if tokens.get(at + 1) == Some(&"::") => first_names(&tokens[at + 2..], &mut found),
            "super" if at < 2 || tokens[at - 1] != "::" => {
                let ups = 1 + tokens[at + 1..]
                    .chunks(2)
                    .take_while(|pair| *pair == ["::", "super"])
                    .count();
                let behind = at + 2 * ups;
                if ups == depth + inline.len() && tokens.get(behind - 1) == Some(&"::") {
                    first_names(&tokens[behind..], &mut found);
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The name a path starts with, or the names of a group `{a::b, c}`.
fn first_names(tokens: &[&str], found: &mut Vec<String>) {
    if tokens.first() != Some(&"{") {
        found.extend(tokens.first().map(|&name| name.to_owned()));
        return;
    }
    let mut depth = 0;
    for pair in tokens.windows(2) {
        match pair[0] {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
        if depth == 1 && matches!(pair[0], "{" | ",") {
            found.push(pair[1].to_owned());
        }
    }
}

fn height(layer: &str) -> Option<u32> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == layer)
        .map(|&(_, height)| height)
}

fn may_import(from: &str, to: &str) -> bool {
    match (height(from), height(to)) {
        (Some(own), Some(other)) if own == other => from == to || SIDEWAYS.contains(&(from, to)),
        (Some(own), Some(other)) => other < own,
        _ => true,
    }
}

/// Fails with all complaints at once.
fn judge(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_go_down_only() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for (name, text) in files("src") {
        let parts: Vec<&str> = name.trim_end_matches(".rs").split('/').skip(1).collect();
        let depth = parts.len() - usize::from(parts.last() == Some(&"mod"));
        if height(parts[0]).is_none() {
            continue; // lib.rs and main.rs stand above all layers
        }
        for to in imports(&text, depth) {
            seen += usize::from(height(&to).is_some());
            if !may_import(parts[0], &to) {
                complaints.push(format!("{name}: {} may not import {to}", parts[0]));
            }
        }
    }
    assert!(seen > 20, "only {seen} imports found: the reader of this test is blind");
    judge(complaints);
}

/// A file of tests that no test names is compiled by nobody, and its tests never run.
#[test]
fn every_file_of_tests_is_part_of_one() {
    let files = files("tests");
    let named = |file: &str| {
        let (folder, module) = file.trim_end_matches(".rs").rsplit_once('/').unwrap_or(("", file));
        let module = match module {
            "mod" | "main" => folder.rsplit('/').next().unwrap_or(folder),
            other => other,
        };
        let declared = format!("mod {module};");
        let by_path = format!("{}\"]", file.trim_start_matches("tests/"));
        let names = |text: &str| text.contains(&declared) || text.contains(&by_path);
        files.iter().any(|(name, text)| name != "tests/tidy.rs" && names(text))
    };
    // What lies in tests/ itself, or in a folder as main.rs, is a test.
    let is_test = |name: &str| name.matches('/').count() == 1 || name.ends_with("/main.rs");
    let lost = files.iter().filter(|(name, _)| !is_test(name) && !named(name));
    judge(lost.map(|(name, _)| format!("{name}: no test includes it")).collect());
}

#[test]
fn every_folder_of_src_is_a_layer() {
    let folders = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap());
    let folders = folders
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap());
    judge(
        folders
            .filter(|name| height(name).is_none())
            .map(|name| format!("src/{name} has no layer"))
            .collect(),
    );
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let outside = |name: &str| !UNSAFE_ROOMS.iter().any(|room| name.starts_with(room));
    let uses = |text: &str| tokens(&code(text)).contains(&"unsafe");
    let files = files("src")
        .into_iter()
        .filter(|(name, text)| outside(name) && uses(text));
    judge(
        files
            .map(|(name, _)| format!("{name}: unsafe outside of {UNSAFE_ROOMS:?}"))
            .collect(),
    );
}

#[test]
fn every_file_has_a_head_and_none_outgrows_its_reader() {
    let mut complaints = Vec::new();
    for (name, text) in files("src").into_iter().chain(files("tests")) {
        let lines = text.lines().count();
        let head = text.lines().take_while(|line| line.starts_with("//!")).count();
        // Tests are lists of cases: their names say the rest.
        let is_tests = name.starts_with("tests/") || name.ends_with("/tests.rs");
        let wanted = if lines > SHORT_FILE && !is_tests { 3 } else { 1 };
        if head < wanted {
            complaints.push(format!("{name}: a head of {head} lines, of {wanted} at least (//!)"));
        }
        if lines > LINES_MAX {
            complaints.push(format!("{name}: {lines} lines, {LINES_MAX} at most"));
        }
    }
    judge(complaints);
}

/// Whether code has something that says "later".
fn unfinished(text: &str) -> bool {
    let code = code(text);
    let tokens = tokens(&code);
    let macros = tokens
        .windows(2)
        .any(|pair| matches!(pair, ["todo" | "unimplemented", "!"]));
    macros || tokens.windows(3).any(|three| matches!(three, ["#", "[", "ignore"]))
}

#[test]
fn nothing_is_left_unfinished() {
    let all = ["src", "tests", "bench"].into_iter().flat_map(files);
    judge(
        all.filter(|(_, text)| unfinished(text))
            .map(|(name, _)| format!("{name}: unfinished or ignored"))
            .collect(),
    );
}

/// The fenced block behind the line `<!-- walk -->` of a document, without the fences.
fn walk_block(document: &str) -> Option<String> {
    let behind = document.split_once("<!-- walk -->\n```text\n")?.1;
    Some(behind.split_once("```")?.0.to_owned())
}

#[test]
fn the_walk_is_drawn_alike_everywhere() {
    let drawn = |name: &str| walk_block(&fs::read_to_string(root().join(name)).unwrap());
    let picture = format!("{WALK}\n");
    for document in ["README.md", "docs/ARCHITECTURE.md"] {
        assert_eq!(
            drawn(document).as_ref(),
            Some(&picture),
            "{document} and worker::pipeline::WALK differ"
        );
    }
    for (name, _) in files("src/stage") {
        let stage = name.trim_end_matches(".rs").trim_start_matches("src/stage/");
        if !stage.contains('/') && stage != "mod" {
            let drawn = picture
                .lines()
                .any(|line| line.split_whitespace().next() == Some(stage));
            assert!(drawn, "{name} has no box in worker::pipeline::WALK");
        }
    }
}

#[test]
fn the_readers_see_what_they_should() {
    assert_eq!(
        imports("use crate::{wire, worker::{pipeline, x}, table::Y};", 1),
        ["wire", "worker", "table"]
    );
    assert_eq!(
        imports(
            "fn f(x: crate::cli::X) {} // crate::no\n/* crate::no */ pub(crate) fn g() {}",
            1
        ),
        ["cli"]
    );
    assert_eq!(imports("use super::super::cli::X;", 2), ["cli"]);
    assert_eq!(imports("use super::super::cli::X;", 3), Vec::<String>::new());
    assert_eq!(
        imports(
            "mod tests { use super::cli; use super::super::port; } use super::{wire};",
            1
        ),
        ["port", "wire"]
    );
    assert_eq!(
        imports(
            "let s = \"crate::no \\\" crate::no\"; let c = '\"'; crate::yes::f::<'a>()",
            1
        ),
        ["yes"]
    );
    assert_eq!(imports("r#\"crate::no \" \"#; r\"crate::no\"; crate::yes", 1), ["yes"]);
    assert!(may_import("table", "packet") && may_import("control", "mirror") && may_import("cli", "wire"));
    assert!(!may_import("table", "port") && !may_import("port", "table") && !may_import("mirror", "control"));
    assert!(!may_import("wire", "packet") && !may_import("stage", "worker"));
    assert!(unfinished(concat!("fn f() { to", "do!() }")) && unfinished(concat!("#[ign", "ore] fn f() {}")));
    assert!(!unfinished("// todo!()\nlet todo = \"unimplemented!\";"));
    assert_eq!(
        walk_block("x\n<!-- walk -->\n```text\n rx\n```\n"),
        Some(" rx\n".into())
    );
}
