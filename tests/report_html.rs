//! The HTML report: what is in it, that no text of a report becomes markup, and how a real browser takes it.
//!
//! The browser is Debian's chromium without a window. It must say nothing on its console, find no text outside of its
//! chart or upon another, load nothing, and have nothing to scroll sideways on a phone. Pictures are left in the folder
//! that is printed.

mod report_html {
    pub mod browser;
    pub mod sample;
}

use bypath::bench::report::{Report, html};
use report_html::browser::{Browser, Look};
use report_html::sample;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn page(report: &Report) -> String {
    let mut out = Vec::new();
    html::write(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What stands between the tags of a page, without what is in script and style.
fn texts(page: &str) -> Vec<&str> {
    page.split('<')
        .filter_map(|piece| piece.split_once('>'))
        .map(|(_, text)| text)
        .collect()
}

#[test]
fn a_page_holds_what_the_report_found() {
    let report = sample::comparison();
    let page = page(&report);
    for id in [
        "ratios",
        "notes",
        "size",
        "flows",
        "latency",
        "cpu",
        "results",
        "error",
        "trials",
        "provenance",
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "no section {id}");
        assert!(page.contains(&format!("<a href=\"#{id}\">")), "no way to {id}");
    }
    let rows = page
        .split("class=\"trials\"")
        .nth(1)
        .unwrap()
        .split("</table>")
        .next()
        .unwrap();
    assert_eq!(
        rows.matches("<tr>").count(),
        report.entries.len() + 1,
        "a row for each trial, and the head"
    );
    let provenance = [
        &report.provenance.machine,
        &report.provenance.kernel,
        &report.provenance.commit,
    ];
    for wanted in provenance.into_iter().chain(&report.notes) {
        assert!(texts(&page).contains(&wanted.as_str()), "{wanted} is not on the page");
    }
}

#[test]
fn rfc_2544_has_its_charts() {
    let page = page(&sample::rfc2544());
    for id in ["rfc2544", "ndr", "loss", "latency"] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "no section {id}");
    }
}

#[test]
fn no_text_of_a_report_becomes_markup() {
    let clean = page(&sample::comparison());
    let json = serde_json::to_string(&sample::comparison()).unwrap();
    // Everything that a report can name, and a subject more than once.
    let evil = "</title></svg><script>document.title='evil'</script><b onload='x'>\\\" & ";
    let mut report: Report = serde_json::from_str(&json).unwrap();
    sample::rename(&mut report, evil);
    let dirty = page(&report);
    assert!(
        dirty.contains("&lt;script&gt;document.title=&#39;evil&#39;"),
        "it is there, as text"
    );
    for tag in [
        "<script",
        "<b onload",
        "</svg",
        "</title",
        "<svg",
        "<tr",
        "<td",
        "<section",
    ] {
        assert_eq!(dirty.matches(tag).count(), clean.matches(tag).count(), "{tag}");
    }
}

#[test]
fn little_makes_a_page_too() {
    let empty = page(&Report::default());
    assert!(empty.contains("nothing was measured"));
    let one = page(&sample::one_trial());
    assert!(one.contains("bypath, measured") && one.contains("Not measured in this run"));
    assert!(!one.contains("not a quiet machine"));
    let mut busy = sample::one_trial();
    busy.provenance.load = 14.89;
    assert!(page(&busy).contains("14.89: not a quiet machine"));
    for page in [empty, one] {
        assert!(
            !page.contains("NaN") && !page.contains("inf"),
            "a number that is none: {page}"
        );
    }
}

#[test]
fn the_same_report_gives_the_same_page() {
    let report = sample::comparison();
    let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(page(&report), page(&back));
}

fn bypath(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bypath"))
        .arg("bench")
        .arg("report")
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn the_command_makes_a_page_of_a_kept_report() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (kept, made) = (folder.join("kept.json"), folder.join("made.html"));
    let report = sample::rfc2544();
    fs::write(&kept, serde_json::to_string(&report).unwrap()).unwrap();
    let output = bypath(&[
        kept.to_str().unwrap(),
        "--html",
        made.to_str().unwrap(),
        "--markdown",
        "-",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(&made).unwrap(), page(&report));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("### Throughput (RFC 2544, 26.1)"),
        "{output:?}"
    );
}

#[test]
fn what_is_no_report_is_said_in_a_line() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (text, other) = (folder.join("text.json"), folder.join("other.json"));
    fs::write(&text, "no JSON").unwrap();
    fs::write(&other, "{\"version\":99}").unwrap();
    let cases = [
        ("/no/such/file", "cannot read"),
        (text.to_str().unwrap(), "no report"),
        (other.to_str().unwrap(), "99"),
    ];
    for (file, says) in cases {
        let output = bypath(&[file]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{file}: {error}");
        assert!(
            error.starts_with("bypath: error: ") && error.contains(says),
            "{file}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{file}: {error}");
    }
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let page = page(&sample::comparison());
    for outside in ["http:", "https:", "url(", "@import", "src=", "import("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_browser_takes_it() {
    let Some(browser) = Browser::find() else {
        println!("\nSKIPPED report in a browser: no chromium: apt install chromium");
        return;
    };
    let looks = [
        Look {
            name: "light",
            width: 1280,
            height: 1000,
            dark: false,
        },
        Look {
            name: "dark",
            width: 1280,
            height: 1000,
            dark: true,
        },
        Look {
            name: "phone",
            width: 390,
            height: 844,
            dark: false,
        },
    ];
    let reports = [
        ("comparison", sample::comparison()),
        ("rfc2544", sample::rfc2544()),
        ("one", sample::one_trial()),
        ("empty", Report::default()),
    ];
    for (name, report) in &reports {
        let page = page(report);
        for look in &looks {
            let seen = browser.look(name, &page, look);
            assert_eq!(
                seen.complaints,
                Vec::<String>::new(),
                "{name}, {}: in {}",
                look.name,
                browser.folder()
            );
            assert_eq!(seen.dark, look.dark, "{name}, {}", look.name);
            assert_eq!(seen.charts, page.matches("<figure>").count(), "{name}, {}", look.name);
        }
    }
    println!("pictures are in {}", browser.folder());
}

/// A judge that never complains proves nothing.
#[test]
fn a_browser_sees_what_is_wrong() {
    let Some(browser) = Browser::find() else {
        println!("\nSKIPPED report in a browser: no chromium: apt install chromium");
        return;
    };
    let phone = Look {
        name: "phone",
        width: 390,
        height: 844,
        dark: false,
    };
    let page = page(&sample::one_trial());
    let faults = [
        (
            "console",
            "<script>console.error('out of order')</script>",
            "out of order",
        ),
        ("thrown", "<script>throw new Error('thrown out')</script>", "thrown out"),
        ("wide", "<div style=\"width:900px\">wide</div>", "wider"),
        (
            "outside",
            "<figure><svg viewBox=\"0 0 400 90\"><text x=\"380\" y=\"20\">a long name</text></svg></figure>",
            "a long name",
        ),
        (
            "upon",
            "<figure><svg viewBox=\"0 0 400 90\"><text x=\"9\" y=\"40\">above</text>\
             <text x=\"9\" y=\"44\">below</text></svg></figure>",
            "above",
        ),
        ("loads", "<img src=\"nowhere.png\">", "nowhere.png"),
    ];
    for (name, fault, says) in faults {
        let seen = browser.look(name, &page.replace("</main>", &format!("{fault}</main>")), &phone);
        assert!(
            seen.complaints.iter().any(|complaint| complaint.contains(says)),
            "{name}: {:?}",
            seen.complaints
        );
    }
}
