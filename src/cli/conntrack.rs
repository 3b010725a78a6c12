//! `bypath conntrack flush|delete|events` and `bypath show conntrack`: connections in the lines of conntrack-tools.
//!
//! The server selects: of a million connections only those asked for cross the socket. Rows are printed as they come, and
//! events until the reader goes. `delete` without a condition is refused, so that a forgotten one does not flush the box.

use super::args::{Conntrack, ConntrackCommand, Select, ShowArgs};
use super::output::{Failure, Outcome};
use crate::control::api::{Client, Connections, ConnectionsDo};
use crate::control::connections::{ConnectionCount, ConnectionFilter, ConnectionRow};
use crate::table::conntrack::tracker::{sctp, tcp};
use std::io::{BufWriter, Write};
use std::process::ExitCode;

/// Lists or counts.
pub fn show(args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let client = Client::connect(args.control.as_deref())?;
    let what = |what| Connections {
        what,
        filter: filter(&args.select),
    };
    if args.select.count {
        for count in client.connections::<ConnectionCount>(&what(ConnectionsDo::Count))? {
            let count = count?;
            if args.json {
                serde_json::to_writer(&mut *out, &count)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{}", count.connections)?;
            }
        }
        return Ok(());
    }
    let mut open = "[";
    for row in client.connections::<ConnectionRow>(&what(ConnectionsDo::List))? {
        let row = row?;
        // What the kernel decides about `conntrack -L` says better, and `--count` leaves it out too.
        if row.kernel && !args.json {
            continue;
        }
        if args.json {
            write!(out, "{open}")?;
            serde_json::to_writer(&mut *out, &row)?;
            open = ",\n ";
        } else {
            writeln!(out, "{row}")?;
        }
    }
    if args.json {
        writeln!(out, "{}]", if open == "[" { "[" } else { "" })?;
    }
    Ok(())
}

/// Deletes, or prints events until Ctrl-C.
pub fn conntrack(args: &Conntrack) -> Outcome {
    let (what, select) = match &args.command {
        ConntrackCommand::Flush => (ConnectionsDo::Delete, Select::default()),
        ConntrackCommand::Delete(select) if select.is_empty() => {
            return Err(Failure::Usage(
                "delete needs a condition, such as -s 10.0.0.1: to delete all, use `bypath conntrack flush`".into(),
            ));
        }
        ConntrackCommand::Delete(select) => (ConnectionsDo::Delete, select.clone()),
        ConntrackCommand::Events(select) => (ConnectionsDo::Events, select.clone()),
    };
    let request = Connections {
        what,
        filter: filter(&select),
    };
    let client = Client::connect(args.control.as_deref())?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    if what == ConnectionsDo::Delete {
        for count in client.connections::<ConnectionCount>(&request)? {
            let count = count?;
            if args.json {
                serde_json::to_writer(&mut out, &count)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{} connections deleted", count.connections)?;
            }
        }
    } else {
        let mut rows = client.connections::<ConnectionRow>(&request)?;
        while let Some(row) = rows.next() {
            let (row, lost) = (row?, rows.take_lost());
            if lost > 0 {
                writeln!(std::io::stderr(), "bypath: events: {lost} left out, they came too fast")?;
            }
            if args.json {
                serde_json::to_writer(&mut out, &row)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{row}")?;
            }
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn filter(select: &Select) -> ConnectionFilter {
    ConnectionFilter {
        family: match (select.ipv4, select.ipv6) {
            (true, false) => Some(4),
            (false, true) => Some(6),
            _ => None,
        },
        proto: select.proto,
        src: select.src,
        dst: select.dst,
        sport: select.sport,
        dport: select.dport,
        state: select.state.clone(),
        mark: select.mark,
    }
}

/// Reads `--state STATE` in any case: a state of TCP or of SCTP.
pub fn parse_state(text: &str) -> Result<String, String> {
    let state = text.to_uppercase();
    let mut words = tcp::WORDS.into_iter().chain(sctp::WORDS);
    match words.any(|word| word == state) {
        true => Ok(state),
        false => Err(format!(
            "not a state: one of {}; of SCTP {}",
            tcp::WORDS.join(", "),
            sctp::WORDS.join(", ")
        )),
    }
}

/// Reads `--mark VALUE[/MASK]`, decimal or with 0x.
pub fn parse_mark(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let (value, mask) = text
        .split_once('/')
        .map_or((text, None), |(value, mask)| (value, Some(mask)));
    let mask = mask.map_or(Ok(u32::MAX), number);
    match (number(value), mask) {
        (Ok(value), Ok(mask)) => Ok((value & mask, mask)),
        _ => Err("not a number, or VALUE/MASK".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_numbers_with_or_without_a_mask() {
        assert_eq!(parse_state("established").as_deref(), Ok("ESTABLISHED"));
        assert!(parse_state("ESTABLISHD").is_err_and(|why| why.contains("SYN_SENT") && why.contains("COOKIE_WAIT")));
        assert_eq!(parse_mark("0x10"), Ok((16, u32::MAX)));
        assert_eq!(parse_mark("0x13/0x10"), Ok((16, 16)));
        assert!(parse_mark("ten").is_err() && parse_mark("1/").is_err());
    }
}
