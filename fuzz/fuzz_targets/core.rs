//! libFuzzer's way into `fuzz/targets/core/`.
#![no_main]

#[allow(dead_code, unused_imports, reason = "the seeds are for the test that replays the corpora")]
#[path = "../targets/core/mod.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    target::check(data);
});
