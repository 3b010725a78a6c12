//! How many frames of a slab may wait at each worker that owns shapers, where together they may be so many.

/// The part of `all` that the worker `of` has, where each asks for so many, if it owns any shaper: who asks for less than an equal part
/// has that, and leaves the rest to the others; what nobody asks for is shared equally.
pub(super) fn share(asked: &[Option<u64>], of: usize, all: u32) -> u32 {
    let mut by_size: Vec<(u64, usize)> = (0..asked.len())
        .filter_map(|worker| Some((asked[worker]?, worker)))
        .collect();
    by_size.sort_unstable();
    let owners = by_size.len() as u64;
    let (mut left, mut own) = (u64::from(all), 0);
    for ((room, worker), others) in by_size.into_iter().zip((1..=owners).rev()) {
        let part = room.min(left / others);
        left -= part;
        if worker == of {
            own = part;
        }
    }
    match asked.get(of) {
        Some(Some(_)) => (own + left / owners) as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn who_asks_for_more_may_have_what_others_do_not_want() {
        let shares =
            |asked: &[Option<u64>]| -> Vec<u32> { (0..asked.len()).map(|worker| share(asked, worker, 4096)).collect() };
        assert_eq!(shares(&[Some(1000), None]), [4096, 0]);
        assert_eq!(shares(&[Some(1000), Some(1000)]), [2048, 2048]);
        assert_eq!(shares(&[Some(100), Some(1_000_000)]), [100, 3996]);
        assert_eq!(shares(&[Some(9999), Some(96), None, Some(9999)]), [2000, 96, 0, 2000]);
        assert_eq!(shares(&[Some(0), Some(0)]), [2048, 2048]);
        assert_eq!(shares(&[Some(u64::MAX), Some(u64::MAX)]), [2048, 2048]);
        assert_eq!(shares(&[None]), [0]);
    }
}
