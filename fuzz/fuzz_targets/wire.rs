//! libFuzzer's way into [`bypath_fuzz::wire`]. `RUSTC_BOOTSTRAP=1 cargo fuzz run wire fuzz/corpus/wire fuzz/seeds/wire`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypath_fuzz::wire(data));
