//! Process 1 of the lab's namespaces: reads the plan from stdin, mounts what shows these namespaces and hides the
//! machine's, and measures. What it finds it tells as lines of stdout.
//!
//! | mounted | why |
//! |---|---|
//! | /proc | the processes of this PID namespace, and this network namespace's /proc/net |
//! | /sys | the links of this network namespace: /sys/class/net |
//! | /run, empty | what peers leave there (sockets, locks, DPDK's runtime files) goes with the namespace |
//!
//! It has no handler for signals, and process 1 of a namespace is sent none that it does not handle: the process
//! outside gets Ctrl-C, and kills it. It ends when its stdin does.

use super::event::Event;
use super::measure::measure;
use super::outer::INSIDE;
use super::plan::Plan;
use super::program::run;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::{BufRead, Read};
use std::process::ExitCode;

/// Whether this process is the one inside, which has no command line for people.
pub fn called_inside() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == INSIDE)
}

/// Measures, as the plan on stdin says.
pub fn inside() -> ExitCode {
    // Where it fails the end of stdin is enough.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let done = plan().and_then(|plan| {
        mounts()?;
        measure(&plan)
    });
    match done {
        Ok(()) => Event::Done.tell(),
        Err(why) => Event::Failed(why).tell(),
    }
    // Destructors of what still runs are of no use: all of it ends with this process.
    ExitCode::SUCCESS
}

fn plan() -> Result<Plan, String> {
    if std::process::id() != 1 {
        return Err(format!("{INSIDE} is not for people: use `bypath bench --lab`"));
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| format!("the lab got no plan, {error}: use `bypath bench --lab`"))?;
    std::thread::spawn(|| {
        // Nothing more is written to it: this waits for its end.
        let _ = std::io::stdin().lock().read(&mut [0; 1]);
        std::process::exit(1);
    });
    serde_json::from_str(&line)
        .map_err(|error| format!("the lab cannot read its plan, {error}: use `bypath bench --lab`"))
}

fn mounts() -> Result<(), String> {
    run("mount --make-rprivate /", "")?;
    run("mount -t proc proc /proc", "")?;
    run("mount -t sysfs sysfs /sys", "")?;
    run("mount -t tmpfs -o mode=755 tmpfs /run", "")
}
