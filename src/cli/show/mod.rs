//! `bypath show WHAT`: one request to the instance, printed as text for a person or JSON for a script.
//!
//! Both come from the same typed rows. Routes and neighbours may be millions, so they are printed as they come; the small
//! tables are collected first, to line up.

mod bridge;
mod qdisc;
mod text;

use super::args::{Select, ShowArgs, What};
use super::conntrack;
use super::output::{Failure, Outcome};
use crate::control::api::{Client, Rows, Show};
use crate::control::report::{
    BridgeLink, DropRow, FdbEntry, Latency, Neighbor, Port, Qdisc, Route, Rule, Totals, Worker,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

/// Asks and prints.
pub fn show(args: &ShowArgs) -> Outcome {
    if args.what != What::Conntrack && args.select != Select::default() {
        return Err(Failure::Usage(
            "the conditions -4 -6 -p -s -d --sport --dport --state --mark --count are for `show conntrack`: leave them out".into(),
        ));
    }
    if args.what != What::Qdisc && args.port.is_some() {
        return Err(Failure::Usage(
            "a port is named only for `show qdisc`: leave it out".into(),
        ));
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    match args.what {
        What::Totals => totals(args, &mut out),
        What::Ports => collected::<Port>(args, &mut out, text::ports),
        What::Workers => collected::<Worker>(args, &mut out, text::workers),
        What::Drops => collected::<DropRow>(args, &mut out, text::drops),
        What::Latency => collected::<Latency>(args, &mut out, text::latency),
        What::Rules => collected::<Rule>(args, &mut out, text::rules),
        What::Bridge => collected::<BridgeLink>(args, &mut out, bridge::links),
        What::Qdisc => qdiscs(args, &mut out),
        What::Fdb => streamed::<FdbEntry>(args, &mut out, bridge::entry),
        What::Conntrack => conntrack::show(args, &mut out),
        What::Routes => streamed::<Route>(args, &mut out, text::route),
        What::Neighbors => streamed::<Neighbor>(args, &mut out, text::neighbor),
    }?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn ask<T: DeserializeOwned>(args: &ShowArgs) -> Result<Rows<T>, Failure> {
    let table = args
        .what
        .table()
        .ok_or_else(|| Failure::Error("no such table".into()))?;
    Ok(Client::connect(args.control.as_deref())?.show(table)?)
}

fn totals(args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let rows: Vec<Totals> = ask(args)?.collect::<Result<_, _>>()?;
    for totals in &rows {
        if args.json {
            serde_json::to_writer(&mut *out, totals)?;
            writeln!(out)?;
        } else {
            write!(out, "{}", text::totals(totals))?;
        }
    }
    Ok(())
}

fn qdiscs(args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut rows: Vec<Qdisc> = ask(args)?.collect::<Result<_, _>>()?;
    let Some(port) = &args.port else {
        return print(args, out, &rows, qdisc::qdiscs);
    };
    rows.retain(|row| row.dev == *port);
    if rows.is_empty() {
        let ports: Vec<Port> = Client::connect(args.control.as_deref())?
            .show(Show::Ports)?
            .collect::<Result<_, _>>()?;
        if !ports.iter().any(|row| row.port == *port) {
            return Err(Failure::Error(format!(
                "{port} is not a port of this bypath: `bypath show ports` lists them"
            )));
        }
    }
    print(args, out, &rows, |rows: &[Qdisc]| match rows {
        [] => format!(
            "{port} is not shaped or policed by bypath: `bypath check {port}` says what is left to the kernel\n"
        ),
        rows => qdisc::qdiscs(rows),
    })
}

fn collected<T: DeserializeOwned + Serialize>(
    args: &ShowArgs,
    out: &mut impl Write,
    text: impl Fn(&[T]) -> String,
) -> Result<(), Failure> {
    let rows: Vec<T> = ask(args)?.collect::<Result<_, _>>()?;
    print(args, out, &rows, text)
}

fn print<T: Serialize>(
    args: &ShowArgs,
    out: &mut impl Write,
    rows: &[T],
    text: impl Fn(&[T]) -> String,
) -> Result<(), Failure> {
    if args.json {
        serde_json::to_writer(&mut *out, rows)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(rows))?;
    }
    Ok(())
}

/// A JSON array, or lines, without ever holding all rows.
fn streamed<T: DeserializeOwned + Serialize>(
    args: &ShowArgs,
    out: &mut impl Write,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let mut open = "[";
    for row in ask(args)? {
        let row: T = row?;
        if args.json {
            write!(out, "{open}")?;
            serde_json::to_writer(&mut *out, &row)?;
            open = ",\n ";
        } else {
            writeln!(out, "{}", text(&row))?;
        }
    }
    if args.json {
        writeln!(out, "{}]", if open == "[" { "[" } else { "" })?;
    }
    Ok(())
}
