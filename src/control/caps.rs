//! The capabilities that an instance needs, and which of them this thread lacks. See capabilities(7).
//!
//! Root is not asked for: root without some of them fails, and a user with all of them works. CAP_SYS_RESOURCE is not
//! needed. CAP_IPC_LOCK may be missing where RLIMIT_MEMLOCK is large enough for the frame pool.

use super::Error;
use std::fs;

/// What an instance needs: name and bit (include/uapi/linux/capability.h).
const NEEDED: [(&str, u32); 4] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_IPC_LOCK", 14),
    ("CAP_BPF", 39),
];

/// CAP_SYS_ADMIN stands for CAP_BPF (and not for the others).
const SYS_ADMIN: u32 = 21;

/// The lockable memory in bytes with which CAP_IPC_LOCK is not needed: a frame pool of the largest default size, which is
/// counted twice where some ports copy and some do not.
pub const MEMLOCK_ENOUGH: u64 = 2 << 30;

/// The names of the needed capabilities that this thread does not have.
pub fn missing_capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    missing(effective(&status).unwrap_or(0), memlock_limit())
}

/// Ends a start early where a capability is missing.
///
/// # Errors
/// [`Error::Capabilities`], naming all of them.
pub fn require() -> Result<(), Error> {
    let missing = missing_capabilities();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Capabilities {
        missing: missing.join(", "),
        setcap: missing.join(",").to_lowercase(),
    })
}

/// RLIMIT_MEMLOCK of this process in bytes, `None` for unlimited.
pub fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes one rlimit to the pointer, which points to one of ours.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    (done != 0 || limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn missing(effective: u64, memlock: Option<u64>) -> Vec<&'static str> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    let covered = |name: &str| match name {
        "CAP_BPF" => has(SYS_ADMIN),
        "CAP_IPC_LOCK" => memlock.is_none_or(|bytes| bytes >= MEMLOCK_ENOUGH),
        _ => false,
    };
    NEEDED
        .iter()
        .filter(|&&(name, bit)| !has(bit) && !covered(name))
        .map(|&(name, _)| name)
        .collect()
}

/// The CapEff line of a status file.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_is_read() {
        assert_eq!(
            effective("Name:\tx\nCapPrm:\t0\nCapEff:\t000001fffeffffff\n"),
            Some(0x1ff_feff_ffff)
        );
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn root_without_sys_resource_lacks_nothing() {
        assert_eq!(missing(0x1ff_feff_ffff, Some(8 << 20)), Vec::<&str>::new());
    }

    #[test]
    fn each_capability_is_missed_by_name_and_some_are_replaced() {
        assert_eq!(
            missing(0, Some(8 << 20)),
            ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_BPF"]
        );
        assert_eq!(missing(0, None), ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"]);
        assert_eq!(missing(1 << 21 | 1 << 12 | 1 << 13, None), Vec::<&str>::new());
        assert_eq!(missing(1 << 12, Some(MEMLOCK_ENOUGH)), ["CAP_NET_RAW", "CAP_BPF"]);
    }
}
