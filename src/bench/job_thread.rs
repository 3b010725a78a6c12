//! A thread that does one kind of job after the other: it is put where it belongs (a network namespace, a core), opens what it
//! needs there, and keeps it. What it opens need not be `Send`.
//!
//! Jobs and answers go by channels, in order. What cannot be opened is an error at the start, and a thread that dies is one
//! at the next job; both are one line. It ends when its [`JobThread`] is dropped.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The thread, and the way to it.
#[derive(Debug)]
pub(super) struct JobThread<J, A> {
    jobs: Option<Sender<J>>,
    answers: Receiver<Result<A, String>>,
    thread: Option<JoinHandle<()>>,
    name: &'static str,
}

impl<J: Send + 'static, A: Send + 'static> JobThread<J, A> {
    /// Starts it. `open` runs on the thread; what it returns does the jobs.
    pub(super) fn start<W>(
        name: &'static str,
        open: impl FnOnce() -> Result<W, String> + Send + 'static,
    ) -> Result<Self, String>
    where
        W: FnMut(J) -> Result<A, String>,
    {
        let (jobs, todo) = channel::<J>();
        let (done, answers) = channel();
        let (opened, is_open) = channel();
        let thread = thread::Builder::new().name(format!("bypath-{name}")).spawn(move || {
            let mut work = match open() {
                Ok(work) => {
                    let _ = opened.send(Ok(()));
                    work
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            for job in todo {
                if done.send(work(job)).is_err() {
                    return;
                }
            }
        });
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}: raise the limit (ulimit -u)"))?;
        let started = Self {
            jobs: Some(jobs),
            answers,
            thread: Some(thread),
            name,
        };
        match is_open.recv() {
            Ok(Ok(())) => Ok(started),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(started.died()),
        }
    }

    fn died(&self) -> String {
        format!("the {} died: this is a bug of bypath, please report it", self.name)
    }

    /// Gives it a job.
    pub(super) fn ask(&self, job: J) -> Result<(), String> {
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(job));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.died()),
        }
    }

    /// What came of the oldest job; `None` if nothing has by then.
    pub(super) fn answer(&self, within: Duration) -> Option<Result<A, String>> {
        match self.answers.recv_timeout(within) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(self.died())),
        }
    }
}

impl<J, A> Drop for JobThread<J, A> {
    fn drop(&mut self) {
        // The end of the jobs is the end of the thread. What it says at its end has been said.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn jobs_are_done_in_order_by_what_was_opened_there() {
        let thread = JobThread::<u32, u32>::start("counter", || {
            let not_send = Rc::new(std::cell::Cell::new(0u32));
            Ok(move |job: u32| {
                not_send.set(not_send.get() + job);
                (job != 3).then(|| not_send.get()).ok_or_else(|| "three".to_owned())
            })
        });
        let thread = thread.unwrap();
        for job in [1, 2, 3, 4] {
            thread.ask(job).unwrap();
        }
        let answers: Vec<_> = (0..4).map(|_| thread.answer(SOON).unwrap()).collect();
        assert_eq!(answers, [Ok(1), Ok(3), Err("three".into()), Ok(10)]);
        assert!(thread.answer(Duration::ZERO).is_none());
    }

    #[test]
    fn what_cannot_be_opened_and_what_dies_is_said() {
        let refused = JobThread::<(), ()>::start("x", || Err::<fn(()) -> Result<(), String>, _>("no port".into()));
        assert_eq!(refused.err(), Some("no port".into()));
        let dying = JobThread::<(), ()>::start("sender", || {
            Ok(|()| -> Result<(), String> { std::panic::panic_any(()) })
        });
        let dying = dying.unwrap();
        dying.ask(()).unwrap();
        assert!(dying.answer(SOON).unwrap().unwrap_err().contains("the sender died"));
    }
}
