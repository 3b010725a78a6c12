//! What the instance does for neighbours beside following them: has the kernel ask those that only workers use whether they are
//! still there.

use crate::mirror::Mirror;
use crate::mirror::stale::Stale;
use std::io;

/// See the module's head.
#[derive(Debug)]
pub struct Neighbors {
    stale: Stale,
    failed: bool,
}

impl Neighbors {
    /// In the network namespace of this thread.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            stale: Stale::open()?,
            failed: false,
        })
    }

    /// One turn, after `mirror` took in what the kernel told; whether there is more to do soon.
    pub fn turn(&mut self, mirror: &Mirror) -> bool {
        let more = self.stale.turn(mirror);
        if let Err(error) = &more
            && !std::mem::replace(&mut self.failed, true)
        {
            say!(
                "bypath: the kernel cannot be told which neighbours are used, {error}: it does not ask whether they are there"
            );
        }
        more.unwrap_or(false)
    }
}
