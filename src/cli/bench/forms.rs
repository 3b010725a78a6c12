//! The report as files: places that cannot be written are refused before an hour is measured, and at the end each form is
//! written by itself, so that a full disk under one costs no other. `-` is stdout; without it the table goes there.

use super::super::args::bench::Forms;
use super::super::output::Failure;
use crate::bench::report::Report;
use crate::bench::report::files::{Form, files, save};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What is to be written, and where to.
#[derive(Debug)]
pub struct Files(Vec<(Form, PathBuf)>);

impl Files {
    /// What was asked for, where it can be written.
    pub fn of(forms: &Forms) -> Result<Self, Failure> {
        let asked = [
            (Form::Json, &forms.json),
            (Form::Csv, &forms.csv),
            (Form::Hgrm, &forms.hgrm),
            (Form::Hlog, &forms.hlog),
            (Form::Markdown, &forms.markdown),
        ];
        let asked = asked.into_iter().filter_map(|(form, path)| Some((form, path.clone()?)));
        let files: Vec<_> = asked.collect();
        for (_, path) in &files {
            if !is_stdout(path) {
                check(path).map_err(|error| {
                    Failure::Error(format!(
                        "cannot write the report to {}, {error}: name a file in a folder that is there and may be written",
                        path.display()
                    ))
                })?;
            }
        }
        Ok(Self(files))
    }

    /// Writes the table, unless stdout is taken, and all forms.
    pub fn write(&self, report: &Report) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        if !self.0.iter().any(|(_, path)| is_stdout(path)) {
            self.print(report, Form::Table, &mut stdout)?;
        }
        let mut failed = Vec::new();
        for (form, path) in &self.0 {
            if is_stdout(path) {
                self.print(report, *form, &mut stdout)?;
                continue;
            }
            let saved =
                files(report, *form, path).and_then(|texts| texts.iter().try_for_each(|(path, text)| save(path, text)));
            failed.extend(saved.err());
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(Failure::Error(failed.join("; "))),
        }
    }

    fn print(&self, report: &Report, form: Form, to: &mut impl Write) -> Result<(), Failure> {
        for (_, text) in files(report, form, Path::new("-")).map_err(Failure::Error)? {
            to.write_all(text.as_bytes())?;
        }
        Ok(to.flush()?)
    }
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether it looks as if a file could be written there. Nothing is made yet: a run that fails leaves no empty report.
fn check(path: &Path) -> io::Result<()> {
    if path.exists() {
        return OpenOptions::new().append(true).open(path).map(drop);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.unwrap_or(Path::new(".")).metadata()? {
        found if found.is_dir() => Ok(()),
        _ => Err(io::ErrorKind::NotADirectory.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(forms: &Forms) -> String {
        let written = Files::of(forms).and_then(|files| files.write(&Report::default()));
        match written {
            Err(Failure::Error(message)) => message,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_full_disk_under_one_form_costs_no_other() {
        let csv = std::env::temp_dir().join(format!("bypath-forms-{}.csv", std::process::id()));
        let forms = Forms {
            json: Some("/dev/full".into()),
            csv: Some(csv.clone()),
            ..Forms::default()
        };
        let error = said(&forms);
        assert!(
            error.contains("/dev/full") && error.contains("No space left"),
            "{error}"
        );
        assert!(
            std::fs::read_to_string(&csv).is_ok_and(|text| !text.is_empty()),
            "the other form is lost too"
        );
        let _ = std::fs::remove_file(csv);
    }

    #[test]
    fn a_folder_that_is_not_there_is_known_before_anything_is_measured() {
        for path in ["/no/such/folder/x.json", "/dev/null/x.json", "/proc"] {
            let forms = Forms {
                json: Some(path.into()),
                ..Forms::default()
            };
            assert!(Files::of(&forms).is_err(), "{path}");
        }
    }
}
