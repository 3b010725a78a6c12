//! `bypath check PORT...`: what of these ports' traffic would stay in the kernel, and why; and which filter chains and
//! tracking would not. Works without an instance.
//!
//! Only prints: control's survey asks and judges. One line per reason, so that an operator with a million routes reads a
//! page; the exit code is for scripts.

use super::args::Check;
use super::output::{Outcome, table};
use crate::control::RunConfig;
use crate::control::survey::{self, Stay, Survey};
use std::io::Write;
use std::process::ExitCode;

/// Prints what stays; exit code 0 for nothing, 3 for something.
pub fn check(args: &Check) -> Outcome {
    RunConfig {
        ports: args.ports.clone(),
        ..RunConfig::default()
    }
    .validate()?;
    let survey = survey::survey(&args.ports)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &survey.stays)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(&args.ports, &survey))?;
    }
    out.flush()?;
    Ok(ExitCode::from(if survey.stays.is_empty() { 0 } else { super::STAYS }))
}

fn text(ports: &[String], survey: &Survey) -> String {
    let carried: String = survey.carried.iter().map(|row| row_of(row).join("  ") + "\n").collect();
    if survey.stays.is_empty() {
        return format!("carried: all that is configured for {}\n{carried}", ports.join(" "));
    }
    let rows: Vec<_> = survey.stays.iter().map(|stay| row_of(stay).to_vec()).collect();
    format!(
        "{}these stay in the kernel, which handles them as before\n{carried}",
        table(&["family", "traffic", "why"], &rows)
    )
}

fn row_of(stay: &Stay) -> [String; 3] {
    let more = match stay.more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let remedy = match &*stay.remedy {
        "" => String::new(),
        remedy => format!(": {remedy}"),
    };
    [
        stay.family.clone(),
        format!("{}{more}", stay.traffic),
        format!("{}{remedy}", stay.why),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_something_read_well() {
        let ports = ["d0".to_owned(), "d1".to_owned()];
        let nothing = Survey::default();
        assert_eq!(text(&ports, &nothing), "carried: all that is configured for d0 d1\n");
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
        let chain = Stay {
            family: "inet".into(),
            traffic: "all".into(),
            more: 0,
            why: "chain c".into(),
            remedy: "carried".into(),
        };
        let line = "inet  all  chain c: carried\n";
        let mut survey = Survey {
            stays: vec![stay],
            carried: vec![chain],
        };
        assert_eq!(text(&ports, &survey), format!("{wanted}{line}"));
        survey.stays.clear();
        assert_eq!(
            text(&ports, &survey),
            format!("carried: all that is configured for d0 d1\n{line}")
        );
    }
}
