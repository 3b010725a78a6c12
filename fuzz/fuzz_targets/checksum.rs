//! libFuzzer's way into [`bypath_fuzz::checksum`]. `RUSTC_BOOTSTRAP=1 cargo fuzz run checksum fuzz/corpus/checksum fuzz/seeds/checksum`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypath_fuzz::checksum(data));
