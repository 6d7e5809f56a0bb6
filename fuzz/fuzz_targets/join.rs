//! libFuzzer's way into `fuzz/targets/join.rs`.
#![no_main]

#[allow(dead_code, reason = "the seeds are for the test that replays the corpora")]
#[path = "../targets/join.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    target::check(data);
});
