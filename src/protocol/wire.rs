//! stand-in
/// budget
pub const SEGMENT_BYTES_MAX: usize = 200_000;
