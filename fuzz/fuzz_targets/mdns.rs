//! libFuzzer's way into `fuzz/targets/mdns.rs`.
#![no_main]

#[allow(dead_code, reason = "the seeds are for the test that replays the corpora")]
#[path = "../targets/mdns.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    target::check(data);
});
