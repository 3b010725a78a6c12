//! What the instance does for bridges beside following them: has the kernel keep entries that are in use, and says once, per
//! bridge, that a forwarding database has more entries than there is room for.

use crate::mirror::Mirror;
use crate::mirror::refresh::Refresh;
use crate::port::wait::monotonic_ns;
use crate::table::conntrack::ticks;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;

/// See the module's head.
#[derive(Debug)]
pub struct Bridges {
    refresh: Refresh,
    full: HashSet<Arc<str>>,
    failed: bool,
}

impl Bridges {
    /// In the network namespace of this thread.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            refresh: Refresh::open()?,
            full: HashSet::new(),
            failed: false,
        })
    }

    /// One turn, after `mirror` took in what the kernel told; whether there is more to do soon.
    pub fn turn(&mut self, mirror: &Mirror) -> bool {
        let more = self.refresh.turn(mirror, ticks(monotonic_ns()));
        if let Err(error) = &more
            && !std::mem::replace(&mut self.failed, true)
        {
            say!("bypath: entries of bridges cannot be renewed, {error}: they age, and are learned again");
        }
        for (name, fdb) in mirror.fdbs() {
            if fdb.refused() > 0 && self.full.insert(name.clone()) {
                say!(
                    "bypath: {name} knows more addresses than the {} that there is room for: frames to others are the kernel's",
                    fdb.capacity()
                );
            }
        }
        more.unwrap_or(false)
    }
}
