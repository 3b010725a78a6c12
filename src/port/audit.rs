//! The frame audit: is every frame of a pool somewhere, and none of them twice?
//!
//! `free + fill + rx + tx + completion + held = all` is a sum that each worker can form from counts. Where all frames can be
//! seen at once (a test, the end of the process), [`audit`] does better and names the frame.

use crate::packet::{Frame, FrameId};
use thiserror::Error;

/// What an audit found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuditError {
    /// So many frames were not seen; the first of them.
    #[error("{count} frames are missing, frame {} first", first.0)]
    Missing {
        /// How many.
        count: u32,
        /// The lowest of them.
        first: FrameId,
    },
    /// This frame was seen twice.
    #[error("frame {} exists twice", .0.0)]
    Double(FrameId),
    /// This frame is not of the pool.
    #[error("frame {} is of another pool", .0.0)]
    Foreign(FrameId),
}

/// Whether `frames` are exactly the frames `0..total` of one pool, in any order.
///
/// # Errors
/// The first thing that is wrong.
pub fn audit<'a>(total: u32, frames: impl IntoIterator<Item = &'a Frame>) -> Result<(), AuditError> {
    let mut seen = vec![false; total as usize];
    for frame in frames {
        match seen.get_mut(frame.id().0 as usize) {
            None => return Err(AuditError::Foreign(frame.id())),
            Some(true) => return Err(AuditError::Double(frame.id())),
            Some(slot) => *slot = true,
        }
    }
    match seen.iter().position(|&here| !here) {
        None => Ok(()),
        Some(first) => Err(AuditError::Missing {
            count: seen.iter().filter(|&&here| !here).count() as u32,
            first: FrameId(first as u32),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u32) -> Frame {
        Frame::new(vec![0u8; 16].leak(), FrameId(id), 0)
    }

    #[test]
    fn each_fault_is_named() {
        let good = [frame(1), frame(0), frame(2)];
        assert_eq!(audit(3, &good), Ok(()));
        let missing = AuditError::Missing {
            count: 2,
            first: FrameId(3),
        };
        assert_eq!(audit(5, &good), Err(missing));
        assert_eq!(audit(2, &good), Err(AuditError::Foreign(FrameId(2))));
        assert_eq!(audit(3, &[frame(1), frame(1)]), Err(AuditError::Double(FrameId(1))));
    }
}
