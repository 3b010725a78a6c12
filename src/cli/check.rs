//! `bypath check PORT...`: what of these ports' traffic would stay in the kernel, and why. Works without an instance.
//!
//! Only prints: control's survey asks and judges. One line per reason, so that an operator with a million routes reads a
//! page; the exit code is for scripts.

use super::args::Check;
use super::output::{Outcome, table};
use crate::control::RunConfig;
use crate::control::survey::{self, Stay};
use std::io::Write;
use std::process::ExitCode;

/// Prints what stays; exit code 0 for nothing, 3 for something.
pub fn check(args: &Check) -> Outcome {
    RunConfig {
        ports: args.ports.clone(),
        ..RunConfig::default()
    }
    .validate()?;
    let stays = survey::survey(&args.ports)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &stays)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(&args.ports, &stays))?;
    }
    out.flush()?;
    Ok(ExitCode::from(if stays.is_empty() { 0 } else { super::STAYS }))
}

fn text(ports: &[String], stays: &[Stay]) -> String {
    if stays.is_empty() {
        return format!("carried: all that is configured for {}\n", ports.join(" "));
    }
    let rows: Vec<Vec<String>> = stays
        .iter()
        .map(
            |Stay {
                 family,
                 traffic,
                 more,
                 why,
                 remedy,
             }| {
                let more = if *more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                let remedy = if remedy.is_empty() {
                    String::new()
                } else {
                    format!(": {remedy}")
                };
                vec![family.clone(), format!("{traffic}{more}"), format!("{why}{remedy}")]
            },
        )
        .collect();
    format!(
        "{}these stay in the kernel, which handles them as before\n",
        table(&["family", "traffic", "why"], &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_something_read_well() {
        let ports = ["d0".to_owned(), "d1".to_owned()];
        assert_eq!(text(&ports, &[]), "carried: all that is configured for d0 d1\n");
        let stay = Stay {
            family: "inet".into(),
            traffic: "route 10.0.0.0/8".into(),
            more: 2,
            why: "encap".into(),
            remedy: "delete it".into(),
        };
        let wanted = "family  traffic                      why\n\
                      inet    route 10.0.0.0/8 and 2 more  encap: delete it\n\
                      these stay in the kernel, which handles them as before\n";
        assert_eq!(text(&ports, &[stay]), wanted);
    }
}
