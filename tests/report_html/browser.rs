//! A browser without a window looks at a page: what it says on its console, and what a script in the page measures.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NAMES: [&str; 5] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "chrome",
];
/// A browser that has not answered by then never will.
const SECONDS_MAX: u64 = 120;

/// Put at the end of the page: measures when all is there, and writes what it found into the page.
const JUDGE: &str = r#"<pre id="verdict" hidden></pre><script>
addEventListener('load', () => {
  const bad = [], page = document.documentElement;
  const wide = () => {
    if (page.scrollWidth > page.clientWidth)
      bad.push(`the page is wider than its window: ${page.scrollWidth} of ${page.clientWidth}`);
  };
  wide();
  for (const folded of document.querySelectorAll('details')) folded.open = true;
  wide();
  const figures = document.querySelectorAll('figure');
  for (const figure of figures) {
    const svg = figure.querySelector('svg'), edge = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text:not(.dot)')];
    const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([text, box], at) => {
      if (box.left < edge.left - 1 || box.right > edge.right + 1
          || box.top < edge.top - 1 || box.bottom > edge.bottom + 1)
        bad.push(`outside of its chart: ${text}`);
      for (const [other, beside] of boxes.slice(at + 1))
        if (box.left < beside.right - 1 && beside.left < box.right - 1
            && box.top < beside.bottom - 3 && beside.top < box.bottom - 3)
          bad.push(`one upon the other: ${text}, ${other}`);
    });
  }
  for (const loads of document.querySelectorAll('[src], link[href], image, use')) {
    const what = loads.getAttribute('src') || loads.getAttribute('href') || '';
    if (!what.startsWith('data:')) bad.push(`loads: ${what}`);
  }
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  for (const folded of document.querySelectorAll('details')) folded.open = false;
  document.getElementById('verdict').textContent = JSON.stringify([innerWidth, dark, figures.length, bad]);
});
</script></body>"#;

/// A window and a taste.
pub struct Look {
    /// Its name.
    pub name: &'static str,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Whether the reader prefers dark.
    pub dark: bool,
}

/// What was seen.
pub struct Seen {
    /// Whether the page was shown to somebody who prefers dark.
    pub dark: bool,
    /// Charts on the page.
    pub charts: usize,
    /// What is wrong.
    pub complaints: Vec<String>,
}

/// An installed browser, and where its pictures go.
pub struct Browser {
    name: &'static str,
    folder: PathBuf,
}

impl Browser {
    /// The first that is installed.
    pub fn find() -> Option<Browser> {
        let path = std::env::var_os("PATH")?;
        let there = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
        let name = NAMES.into_iter().find(there)?;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report");
        fs::create_dir_all(&folder).unwrap();
        Some(Browser { name, folder })
    }

    /// Where pictures are.
    pub fn folder(&self) -> String {
        self.folder.display().to_string()
    }

    /// Opens a page, takes a picture of its first screen, and says what is wrong with it.
    pub fn look(&self, name: &str, page: &str, look: &Look) -> Seen {
        let name = format!("{name}-{}", look.name);
        let file = self.folder.join(format!("{name}.html"));
        fs::write(self.folder.join(format!("{name}.plain.html")), page).unwrap();
        fs::write(&file, page.replace("</body>", JUDGE)).unwrap();
        let picture = self.folder.join(format!("{name}.png"));
        let _ = fs::remove_file(&picture);
        let screenshot = format!("--screenshot={}", picture.display());
        let (dom, log) = self.run(&name, look, &file, &["--dump-dom", &screenshot]);
        let size = fs::metadata(&picture).map_or(0, |found| found.len());
        assert!(size > 4_000, "no picture of {name}: {size} bytes\n{log}");
        let verdict = dom
            .split("id=\"verdict\"")
            .nth(1)
            .and_then(|rest| rest.split('>').nth(1));
        let verdict = verdict.and_then(|rest| rest.split('<').next()).unwrap_or_default();
        let verdict = verdict.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let (width, dark, charts, mut complaints): (u32, bool, usize, Vec<String>) =
            serde_json::from_str(&verdict).unwrap_or_else(|error| panic!("{name}: {error}: {verdict:?}\n{log}"));
        // Some browsers have no window as narrow as a phone.
        assert!(
            width == look.width || (look.width < 500 && width <= 500),
            "{name}: a window of {width}"
        );
        complaints.extend(log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned));
        Seen {
            dark,
            charts,
            complaints,
        }
    }

    /// Its standard output and its log.
    fn run(&self, name: &str, look: &Look, file: &std::path::Path, what: &[&str]) -> (String, String) {
        let profile = self.folder.join(format!("{name}.profile"));
        let (out, log) = (
            self.folder.join(format!("{name}.out")),
            self.folder.join(format!("{name}.log")),
        );
        let mut child = Command::new(self.name)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ])
            .args([
                "--enable-logging=stderr",
                "--no-first-run",
                "--disable-extensions",
                "--mute-audio",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--window-size={},{}", look.width, look.height))
            .arg(format!(
                "--blink-settings=preferredColorScheme={}",
                u8::from(!look.dark)
            ))
            .args(what)
            .arg(format!("file://{}", file.display()))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(SECONDS_MAX);
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        if ended.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(profile);
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let (out, log) = (read(&out), read(&log));
        assert!(
            ended.is_some_and(|status| status.success()),
            "{}: {ended:?}\n{log}",
            self.name
        );
        (out, log)
    }
}
