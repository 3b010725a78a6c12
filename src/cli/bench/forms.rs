//! The report's files: opened before anything is measured, so that a path that cannot be written costs no hour of measuring, and
//! written at the end, until when they hold what the run before has left there. `-` is stdout.
//!
//! Each form is written by itself: one that finds no room costs no other, nor what its file held. A file that is new and was never
//! written is removed.

use super::super::args::bench::Forms;
use super::super::output::Failure;
use crate::bench::report::Report;
use crate::bench::report::files::{Form, files, is_replaced, save};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A form that was asked for.
struct Asked {
    path: PathBuf,
    form: Form,
    to: To,
}

/// Where it goes.
enum To {
    Stdout,
    /// How many files `.hgrm` will be is known at the end.
    Several,
    Open {
        file: File,
        /// It was not there before, and is not written yet.
        is_new: bool,
    },
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
            open.push(Asked {
                path: path.clone(),
                form,
                to: place(path, form).map_err(|error| failed(path, &error))?,
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
        for mut asked in self.0 {
            let written = write(&asked, report);
            if let (To::Open { is_new, .. }, Ok(())) = (&mut asked.to, &written) {
                *is_new = false;
            }
            result = result.and(written);
        }
        result
    }
}

/// Opens it, if it is one file.
fn place(path: &Path, form: Form) -> io::Result<To> {
    if is_stdout(path) {
        return Ok(To::Stdout);
    }
    if form == Form::Hgrm {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        return folder
            .map_or(Ok(()), |folder| folder.read_dir().map(drop))
            .map(|()| To::Several);
    }
    let is_new = !path.exists();
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    Ok(To::Open { file, is_new })
}

fn write(asked: &Asked, report: &Report) -> Result<(), Failure> {
    let texts = files(report, asked.form, &asked.path).map_err(Failure::Error)?;
    let all = |out: &mut dyn Write| -> io::Result<()> {
        texts.iter().try_for_each(|(_, text)| out.write_all(text.as_bytes()))?;
        out.flush()
    };
    let saved = || {
        texts
            .iter()
            .try_for_each(|(path, text)| save(path, text).map_err(|error| failed(path, &error)))
    };
    match &asked.to {
        To::Stdout => all(&mut io::stdout()).map_err(Failure::from),
        To::Several => saved(),
        To::Open { .. } if is_replaced(&asked.path) => saved(),
        // A device, or a pipe, whose reader waits since it was opened.
        To::Open { file, .. } => emptied(file)
            .and_then(|mut file| all(&mut file))
            .map_err(|error| failed(&asked.path, &error)),
    }
}

/// What was in it before goes, if it is a file: the one behind /dev/stdout.
fn emptied(file: &File) -> io::Result<&File> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let To::Open { file, is_new: true } = &self.to
            && file.metadata().is_ok_and(|is| is.is_file() && is.len() == 0)
        {
            let _ = std::fs::remove_file(&self.path);
        }
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
    fn a_run_that_fails_leaves_what_the_run_before_has_written() {
        let file = |name: &str| std::env::temp_dir().join(format!("bypath-forms-{name}-{}", std::process::id()));
        let (old, new) = (file("old"), file("new"));
        std::fs::write(&old, "of the run before, and longer than what comes".repeat(1000)).unwrap();
        let both = Forms {
            csv: Some(new.clone()),
            ..forms(old.to_str().unwrap())
        };
        drop(Files::open(&both).ok().unwrap());
        let (kept, left) = (std::fs::read_to_string(&old).unwrap(), new.exists());
        assert!(Files::open(&both).ok().unwrap().write(&Report::default()).is_ok());
        let (json, is_there) = (std::fs::read_to_string(&old).unwrap(), new.exists());
        for path in [old, new] {
            let _ = std::fs::remove_file(path);
        }
        assert!(kept.starts_with("of the run before") && !left);
        assert!(
            serde_json::from_str::<serde_json::Value>(&json).is_ok() && is_there,
            "{json}"
        );
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
