//! The time that all cores of the machine spent on anything, from /proc/stat: what a frame costs altogether, softirqs on other
//! cores included. USER_HZ makes it coarse, 10 ms; over a second and two cores that is half a percent.

use std::fs;

/// Of a tick of /proc/stat (USER_HZ), the same on all architectures that matter.
const TICK_NS: f64 = 1e7;

/// Nanoseconds of all cores since the machine started: user, nice, system, irq, softirq. `None` where /proc does not say.
pub fn busy_ns() -> Option<f64> {
    read(&fs::read_to_string("/proc/stat").ok()?)
}

fn read(text: &str) -> Option<f64> {
    let mut words = text.lines().next()?.split_whitespace();
    if words.next() != Some("cpu") {
        return None;
    }
    // user nice system idle iowait irq softirq, and what hypervisors take
    let ticks: Vec<f64> = words.take(7).filter_map(|word| word.parse().ok()).collect();
    let [user, nice, system, _, _, irq, softirq] = ticks.try_into().ok()?;
    Some((user + nice + system + irq + softirq) * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_is_not_counted() {
        let text = "cpu  10 20 30 4000 500 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7\n";
        assert_eq!(read(text), Some(73.0 * TICK_NS));
        assert_eq!(read("cpu 1 2 3"), None);
        assert_eq!(read("intr 1 2 3 4 5 6 7"), None);
        assert_eq!(read(""), None);
        assert!(busy_ns().is_some_and(|ns| ns > 0.0));
    }
}
