//! The kernel's jhash of bytes (include/linux/jhash.h: lookup3 by Bob Jenkins), as nft's `jhash` uses it, and how a hash is
//! scaled to a range (reciprocal_scale).

/// JHASH_INITVAL.
const START: u32 = 0xdead_beef;

/// The hash of `bytes`.
pub fn jhash(bytes: &[u8], seed: u32) -> u32 {
    let start = START.wrapping_add(bytes.len() as u32).wrapping_add(seed);
    let mut state = [start; 3];
    let mut rest = bytes;
    while let Some((block, behind)) = rest.split_first_chunk::<12>().filter(|(_, behind)| !behind.is_empty()) {
        add(&mut state, block);
        mix(&mut state);
        rest = behind;
    }
    if !rest.is_empty() {
        let mut block = [0; 12];
        block[..rest.len()].copy_from_slice(rest);
        add(&mut state, &block);
        finish(&mut state);
    }
    state[2]
}

/// `value` of 32 bits to below `modulus`.
pub fn scale(value: u32, modulus: u32) -> u32 {
    ((u64::from(value) * u64::from(modulus)) >> 32) as u32
}

fn add(state: &mut [u32; 3], block: &[u8; 12]) {
    for (word, bytes) in state.iter_mut().zip(block.chunks_exact(4)) {
        // The kernel reads whole words in its own order, and single bytes as in little endian.
        *word = word.wrapping_add(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    }
}

fn mix([a, b, c]: &mut [u32; 3]) {
    let step = |x: &mut u32, y: &mut u32, z: &u32, by: u32| {
        // x loses y, takes it in turned around, and y grows by z.
        *x = x.wrapping_sub(*y) ^ y.rotate_left(by);
        *y = y.wrapping_add(*z);
    };
    step(a, c, b, 4);
    step(b, a, c, 6);
    step(c, b, a, 8);
    step(a, c, b, 16);
    step(b, a, c, 19);
    step(c, b, a, 4);
}

fn finish([a, b, c]: &mut [u32; 3]) {
    let step = |x: &mut u32, y: &u32, by: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(by));
    step(c, b, 14);
    step(a, c, 11);
    step(b, a, 25);
    step(c, b, 16);
    step(a, c, 4);
    step(b, a, 14);
    step(c, b, 24);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that lookup3.c itself names for its `hashlittle`.
    #[test]
    fn as_lookup3_says() {
        assert_eq!(jhash(b"", 0), 0xdead_beef);
        assert_eq!(jhash(b"", 0xdead_beef), 0xbd5b_7dde);
        assert_eq!(jhash(b"Four score and seven years ago", 0), 0x1777_0551);
        assert_eq!(jhash(b"Four score and seven years ago", 1), 0xcd62_8161);
    }

    #[test]
    fn scaled_below_the_modulus() {
        assert_eq!([scale(0, 7), scale(u32::MAX, 7), scale(1 << 31, 10)], [0, 6, 5]);
    }
}
