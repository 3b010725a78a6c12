//! The report's files: opened before anything is measured, so that a path that cannot be written costs no hour of measuring, and
//! written at the end. `-` is stdout.
//!
//! Each form is written by itself: one that finds no room costs no other.

use super::super::args::bench::Forms;
use super::super::output::Failure;
use crate::bench::report::Report;
use crate::bench::report::files::{Form, files, save};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A form that was asked for.
struct Asked {
    path: PathBuf,
    form: Form,
    /// Open, but for `.hgrm`: how many files that will be is known at the end.
    file: Option<Box<dyn Write>>,
}

/// Files that are open, each with its form.
pub struct Files(Vec<Asked>);

impl Files {
    /// Opens what was asked for.
    pub fn open(forms: &Forms) -> Result<Self, Failure> {
        let asked = [
            (&forms.json, Form::Json),
            (&forms.csv, Form::Csv),
            (&forms.hgrm, Form::Hgrm),
            (&forms.hlog, Form::Hlog),
            (&forms.markdown, Form::Markdown),
            (&forms.html, Form::Html),
        ];
        let mut open = Vec::new();
        for (path, form) in asked {
            let Some(path) = path else { continue };
            let file: Option<Box<dyn Write>> = if is_stdout(path) {
                Some(Box::new(io::stdout()))
            } else if form == Form::Hgrm {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                folder
                    .map_or(Ok(()), |folder| folder.read_dir().map(drop))
                    .map_err(|error| failed(path, &error))?;
                None
            } else {
                Some(Box::new(File::create(path).map_err(|error| failed(path, &error))?))
            };
            open.push(Asked {
                path: path.clone(),
                form,
                file,
            });
        }
        Ok(Self(open))
    }

    /// Whether stdout is one of them, so that no table may stand in it.
    pub fn take_stdout(&self) -> bool {
        self.0.iter().any(|asked| is_stdout(&asked.path))
    }

    /// Writes them all; one that fails does not keep the others from being written.
    pub fn write(self, report: &Report) -> Result<(), Failure> {
        let mut result = Ok(());
        for asked in self.0 {
            result = result.and(write(asked, report));
        }
        result
    }
}

fn write(asked: Asked, report: &Report) -> Result<(), Failure> {
    let Asked { path, form, file } = asked;
    let texts = files(report, form, &path).map_err(Failure::Error)?;
    let Some(mut file) = file else {
        return texts
            .iter()
            .try_for_each(|(path, text)| save(path, text))
            .map_err(Failure::Error);
    };
    let written = texts
        .iter()
        .try_for_each(|(_, text)| file.write_all(text.as_bytes()))
        .and_then(|()| file.flush());
    written.map_err(|error| match is_stdout(&path) {
        true => Failure::from(error),
        false => failed(&path, &error),
    })
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
        let csv = std::env::temp_dir().join(format!("bypath-forms-{}.csv", std::process::id()));
        let both = Forms {
            csv: Some(csv.clone()),
            ..forms("/dev/full")
        };
        let full = Files::open(&both).ok().unwrap();
        let mut report = Report::default();
        report.rfc2544.push(Default::default());
        let error = said(full.write(&report).err());
        let other = std::fs::read_to_string(&csv);
        let _ = std::fs::remove_file(&csv);
        assert!(other.unwrap().contains("throughput"), "the other form was written");
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
