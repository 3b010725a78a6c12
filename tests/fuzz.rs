//! The fuzz targets without a fuzzer: their bodies over every file in `fuzz/seeds/` (each input that ever failed is kept
//! there), over all cuts of these, and over random damage to them. One seed gives one run; `BYPATH_SEED` sets it.

#[path = "env/mod.rs"]
mod env;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

/// Random inputs per target: a second or so in a debug build.
const ROUNDS: u32 = 200_000;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One seed file, with a few bytes, bits or a length changed, or nothing but random bytes.
fn damaged(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    if random.below(8) == 0 {
        data = (0..random.below(200)).map(|_| random.next() as u8).collect();
    }
    for _ in 0..random.below(5) {
        if data.is_empty() {
            break;
        }
        let at = random.below(data.len());
        match random.below(4) {
            0 => data[at] = random.next() as u8,
            1 => data[at] ^= 1 << random.below(8),
            2 => data[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            _ => data.truncate(at),
        }
    }
    data
}

fn run(target: &str, body: fn(&[u8])) {
    let seeds = seeds(target);
    for seed in &seeds {
        (0..=seed.len()).for_each(|len| body(&seed[..len]));
    }
    let start = env::number("BYPATH_SEED", 1);
    let mut random = Random(start);
    for round in 0..ROUNDS {
        let data = damaged(&mut random, &seeds);
        if std::panic::catch_unwind(|| body(&data)).is_err() {
            panic!("BYPATH_SEED={start}, round {round}: keep as fuzz/seeds/{target}/<name>: {data:02x?}");
        }
    }
}

#[test]
fn wire() {
    run("wire", targets::wire);
}

#[test]
fn checksum() {
    run("checksum", targets::checksum);
}

#[test]
fn tracker() {
    run("tracker", targets::tracker);
}
