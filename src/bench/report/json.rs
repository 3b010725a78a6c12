//! The report as JSON, the form that others are made of, and back.

use super::{Report, VERSION};
use serde::Deserialize;

/// The whole report; it ends with a line break.
pub fn text(report: &Report) -> Result<String, String> {
    let mut text = serde_json::to_string_pretty(report).map_err(|error| format!("the report is no JSON: {error}"))?;
    text.push('\n');
    Ok(text)
}

/// Reads a report back; `name` is where `text` is from, for the error.
pub fn read(name: &str, text: &str) -> Result<Report, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let unread = |error: serde_json::Error| {
        format!("{name} is no report of bypath bench, {error}: name a file that --json wrote")
    };
    // The version first: another one may have other members.
    let Versioned { version } = serde_json::from_str(text).map_err(unread)?;
    if version != VERSION {
        return Err(format!(
            "{name} has version {version} of the report, and this bypath reads {VERSION}: use the bypath that wrote it"
        ));
    }
    serde_json::from_str(text).map_err(unread)
}
