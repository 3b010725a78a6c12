//! Writing to a person or a pipe: a closed pipe is no error, tables line up, large numbers are grouped.
//!
//! All commands print by `write!` and hand errors up, since `println!` panics when the reader is gone. There are no colours:
//! nothing here needs one to be read.

use crate::control;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

/// How a command ends.
pub type Outcome = Result<ExitCode, Failure>;

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// The reader has seen enough (`| head`).
    PipeClosed,
    /// One line for the operator.
    Error(String),
    /// A command line that is read, but says what cannot be: one line too.
    Usage(String),
}

impl From<control::Error> for Failure {
    fn from(error: control::Error) -> Self {
        Failure::Error(error.to_string())
    }
}

/// For errors of stdout, the only I/O that commands do themselves.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::PipeClosed,
            _ => Failure::Error(format!("cannot write the output, {error}: see where stdout goes")),
        }
    }
}

/// serde_json wraps the errors of the writer.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

/// A count for a person: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds for a person: `950 ns`, `12.3 us`, `4.56 ms`, `1.23 s`.
pub fn duration(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

/// A table: a head, and rows of as many cells. A column whose cells all begin with a digit is aligned right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let column = |i: usize| rows.iter().map(move |row| row[i].as_str());
    let layout: Vec<(usize, bool)> = (0..head.len())
        .map(|i| {
            let width = column(i)
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(head[i].len());
            (
                width,
                !rows.is_empty() && column(i).all(|cell| cell.starts_with(|c: char| c.is_ascii_digit())),
            )
        })
        .collect();
    let mut text = String::new();
    let head = head.iter().map(|&word| word.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, &(width, right)) in row.iter().zip(&layout) {
            // Writing to a String cannot fail.
            let _ = if right {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [950, 12_345, 4_560_000, 1_230_000_000].map(duration),
            ["950 ns", "12.3 us", "4.56 ms", "1.23 s"]
        );
    }

    #[test]
    fn tables_line_up() {
        let rows = [vec!["d0".into(), "5".into()], vec!["longer".into(), "1,000".into()]];
        assert_eq!(
            table(&["port", "rx"], &rows),
            "port       rx\nd0          5\nlonger  1,000\n"
        );
        assert_eq!(table(&["port", "rx"], &[]), "port  rx\n");
    }
}
