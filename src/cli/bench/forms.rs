//! The report's files: opened before anything is measured, so that a path that cannot be written costs no hour of measuring, and
//! written at the end. `-` is stdout.

use super::super::args::bench::Forms;
use super::super::output::Failure;
use crate::bench::report::Report;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// How a report is written in one form.
type Form = fn(&Report, &mut dyn Write) -> io::Result<()>;

/// Files that are open, each with its form.
pub struct Files(Vec<(PathBuf, Form, Box<dyn Write>)>);

impl Files {
    /// Opens what was asked for.
    pub fn open(forms: &Forms) -> Result<Self, Failure> {
        let asked: [(&Option<PathBuf>, Form); 1] = [(&forms.json, json)];
        let mut open = Vec::new();
        for (path, form) in asked {
            let Some(path) = path else { continue };
            let file: Box<dyn Write> = if is_stdout(path) {
                Box::new(io::stdout())
            } else {
                Box::new(File::create(path).map_err(|error| failed(path, &error))?)
            };
            open.push((path.clone(), form, file));
        }
        Ok(Self(open))
    }

    /// Whether stdout is one of them, so that no table may stand in it.
    pub fn take_stdout(&self) -> bool {
        self.0.iter().any(|(path, ..)| is_stdout(path))
    }

    /// Writes them all.
    pub fn write(self, report: &Report) -> Result<(), Failure> {
        for (path, form, file) in self.0 {
            let mut file = BufWriter::new(file);
            let written = form(report, &mut file).and_then(|()| file.flush());
            written.map_err(|error| match is_stdout(&path) {
                true => Failure::from(error),
                false => failed(&path, &error),
            })?;
        }
        Ok(())
    }
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Error(format!(
        "cannot write the report {}, {error}: name a file in a folder that is there, may be written and has room",
        path.display()
    ))
}

fn json(report: &Report, to: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *to, report)?;
    writeln!(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(json: &str) -> Forms {
        Forms {
            json: Some(json.into()),
            ..Forms::default()
        }
    }

    fn said(failure: Option<Failure>) -> String {
        match failure {
            Some(Failure::Error(message)) => message,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_full_disk_and_a_missing_folder_are_named() {
        let full = Files::open(&forms("/dev/full")).ok().unwrap();
        let error = said(full.write(&Report::default()).err());
        assert!(
            error.starts_with("cannot write the report /dev/full, No space left"),
            "{error}"
        );
        let error = said(Files::open(&forms("/no/such/folder/x.json")).err());
        assert!(
            error.starts_with("cannot write the report /no/such/folder/x.json, No such file"),
            "{error}"
        );
        assert!(Files::open(&forms("-")).ok().unwrap().take_stdout());
    }
}
