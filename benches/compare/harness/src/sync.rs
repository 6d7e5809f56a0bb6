//! One sync of this disk: how long a small append takes until it is there.

use std::{fs::OpenOptions, io::Write, path::Path, time::Instant};

use crate::measures::Values;

const APPEND_BYTES: usize = 4_096;
const SYNCS: usize = 200;

/// Appends and syncs some times; in microseconds.
pub(crate) fn measure(dir: &Path) -> anyhow::Result<Values> {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("syncs"))?;
    let mut took = vec![];
    for _ in 0..SYNCS {
        file.write_all(&[7; APPEND_BYTES])?;
        let begun = Instant::now();
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    Ok([("p50".to_owned(), at(50)), ("p99".to_owned(), at(99))].into())
}
