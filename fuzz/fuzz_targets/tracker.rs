//! libFuzzer's way into [`bypath_fuzz::tracker`]. `RUSTC_BOOTSTRAP=1 cargo fuzz run tracker fuzz/corpus/tracker fuzz/seeds/tracker`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypath_fuzz::tracker(data));
