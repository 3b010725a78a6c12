//! A subject's process: started in a group of its own, so that all it starts ends with it; ready when it prints a line
//! that ends in `: ready`; before that it may say its version (`NAME: version TEXT`). The last lines are kept, for the
//! one line of error.

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines that are kept.
const LINES: usize = 20;
/// As long as a subject may take to end at SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// The kernel lets go of an AF_XDP queue, its memory and its programs some time after the end.
const SETTLE: Duration = Duration::from_millis(500);

/// What it said so far.
#[derive(Default)]
struct Said {
    lines: VecDeque<String>,
    version: Option<String>,
    ready: bool,
}

/// A process that runs.
pub struct Process {
    child: Child,
    group: Option<Pid>,
    line: String,
    said: Arc<(Mutex<Said>, Condvar)>,
}

impl Process {
    /// Starts it. `line` is how it is called in errors.
    pub fn start(mut command: Command, line: &str) -> Result<Self, String> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start the subject {line}, {error}: see whether the program is there"))?;
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        for stream in [
            child
                .stdout
                .take()
                .map(|stream| Box::new(stream) as Box<dyn Read + Send>),
            child
                .stderr
                .take()
                .map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        ] {
            let (stream, said) = (stream, said.clone());
            // It ends with the stream.
            std::thread::spawn(move || stream.map(|stream| listen(stream, &said)));
        }
        Ok(Self {
            group: i32::try_from(child.id()).ok().and_then(Pid::from_raw),
            child,
            line: line.to_owned(),
            said,
        })
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self, within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        loop {
            let (lock, changed) = &*self.said;
            let said = lock.lock().unwrap_or_else(PoisonError::into_inner);
            let (said, _) = changed
                .wait_timeout_while(said, Duration::from_millis(100), |said| !said.ready)
                .unwrap_or_else(PoisonError::into_inner);
            let ready = said.ready;
            drop(said);
            if ready {
                return Ok(());
            }
            self.check()?;
            if Instant::now() > until {
                let said = self.last_line();
                return Err(format!(
                    "the subject {} did not get ready within {} s{said}: it must print a line that ends in `: ready`",
                    self.line,
                    within.as_secs()
                ));
            }
        }
    }

    /// The version that it told.
    pub fn version(&self) -> Option<String> {
        let said = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.version.clone()
    }

    /// Whether it still runs.
    pub fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                // What it said last may still be on its way.
                std::thread::sleep(Duration::from_millis(50));
                let said = self.last_line();
                Err(format!(
                    "the subject {} ended early, {status}{said}: run it by hand, in a network namespace with d0 and d1",
                    self.line
                ))
            }
            _ => Ok(()),
        }
    }

    /// Ends it with all that it started, and waits until they are gone.
    pub fn stop(mut self) -> Result<(), String> {
        self.signal(Signal::TERM);
        let until = Instant::now() + STOP_WITHIN;
        while !self.is_gone() {
            if Instant::now() > until {
                self.signal(Signal::KILL);
                let killed = Instant::now();
                while !self.is_gone() && killed.elapsed() < STOP_WITHIN {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Err(format!(
                    "the subject {} did not end within {} s of SIGTERM{}: it was killed",
                    self.line,
                    STOP_WITHIN.as_secs(),
                    self.last_line()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(SETTLE);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // One that is gone needs none.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Whether none of the group is left. This is process 1 here, so orphans of the group are its to wait for.
    fn is_gone(&mut self) -> bool {
        let gone = matches!(self.child.try_wait(), Ok(Some(_)) | Err(_));
        let Some(group) = self.group else { return gone };
        if gone {
            while matches!(waitpgid(group, WaitOptions::NOHANG), Ok(Some(_))) {}
        }
        gone && test_kill_process_group(group).is_err()
    }

    /// `, it said last "..."`, or nothing. A line that speaks of an error is preferred: many say goodbye after it.
    fn last_line(&self) -> String {
        let said = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = || said.lines.iter().rev().filter(|line| !line.trim().is_empty());
        let bad = |line: &&String| {
            let line = line.to_ascii_lowercase();
            line.contains("error") || line.contains("fail")
        };
        match lines().find(bad).or_else(|| lines().next()) {
            Some(line) => format!(", it said last \"{}\"", line.trim()),
            None => String::new(),
        }
    }
}

impl Drop for Process {
    /// Where an error comes in between. What is gone already does not mind.
    fn drop(&mut self) {
        if !self.is_gone() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn listen(stream: impl Read, said: &(Mutex<Said>, Condvar)) {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::new();
    while matches!(stream.read_until(b'\n', &mut bytes), Ok(1..)) {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        let mut said_now = said.0.lock().unwrap_or_else(PoisonError::into_inner);
        said_now.ready |= line.ends_with(": ready");
        if let Some((_, version)) = line.split_once(": version ") {
            said_now.version.get_or_insert_with(|| version.to_owned());
        }
        if said_now.lines.len() == LINES {
            said_now.lines.pop_front();
        }
        said_now.lines.push_back(line);
        said.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command, "mine").unwrap()
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn one_that_gets_ready_is_stopped_with_all_it_started() {
        let mut process = sh("sleep 60 & sleep 60 & echo mine: version 1.2; echo mine: ready; wait");
        process.wait_ready(SOON).unwrap();
        assert_eq!(process.version().as_deref(), Some("1.2"));
        let group = process.group.unwrap();
        assert!(process.check().is_ok() && test_kill_process_group(group).is_ok());
        process.signal(Signal::TERM);
        let until = Instant::now() + SOON;
        while matches!(process.child.try_wait(), Ok(None)) {
            assert!(Instant::now() < until, "it did not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn one_that_fails_is_one_line_with_what_it_said() {
        let mut process = sh("echo working; echo no such port >&2; exit 3");
        let error = process.wait_ready(SOON).unwrap_err();
        assert!(error.contains("subject mine ended early, exit status: 3"), "{error}");
        assert!(error.contains("it said last \"") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn one_that_never_gets_ready_is_not_waited_for_forever() {
        let error = sh("sleep 60").wait_ready(Duration::from_millis(150)).unwrap_err();
        assert!(error.contains("did not get ready within 0 s"), "{error}");
    }
}
