//! Whatever bytes come in a frame of any kind: no panic, no large allocation, and what decodes is written again as it was.
#![no_main]

use cogmesh::{
    log::{FederationId, Proof},
    protocol::wire::{
        LENGTH_BYTES, decode_balance, decode_control, decode_segment, encode_balance, encode_control, encode_segment,
    },
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, frame)) = data.split_first() else { return };
    let again = match kind % 4 {
        0 => decode_control(frame).ok().map(|value| encode_control(&value)),
        1 => decode_balance(frame).ok().map(|value| encode_balance(&value)),
        2 => Proof::parse(frame, &FederationId([7; 32])).ok().map(|proof| Ok([&[0; LENGTH_BYTES][..], &proof.to_bytes()].concat().into())),
        _ => decode_segment(frame, &FederationId([7; 32])).ok().map(|value| encode_segment(&value)),
    };
    if let Some(again) = again {
        let again = again.expect("what was decoded fits a frame");
        assert_eq!(&again[LENGTH_BYTES..], frame);
    }
});
