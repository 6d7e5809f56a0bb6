//! Fail points: places where a test ends the process at once, as a power cut or the kernel would. They are compiled in for tests
//! only (the feature `fail-points`, which nothing but the crate's own tests and benches turns on); in a program that
//! users run, nothing of this file is left.

/// Ends the process here where `COGMESH_FAIL_AT` names this step: `commit.done:3` is the third time that it is reached.
/// Nothing is dropped, flushed or closed.
#[cfg(feature = "fail-points")]
pub(crate) fn fail_point(step: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let wanted = std::env::var("COGMESH_FAIL_AT").ok()?;
        let (step, time) = wanted.rsplit_once(':')?;
        Some((step.to_owned(), time.parse().ok()?))
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);
    if let Some((wanted, time)) = &*WANTED
        && wanted == step
        && REACHED.fetch_add(1, Ordering::AcqRel).saturating_add(1) == *time
    {
        std::process::abort();
    }
}

/// Nothing, in a program that users run.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) const fn fail_point(_step: &str) {}

/// Another number of pages between two checkpoints, so that a test of a few hundred thoughts sees many of them.
#[cfg(feature = "fail-points")]
pub(crate) fn checkpoint_pages(usual: u32) -> u32 {
    std::env::var("COGMESH_CHECKPOINT_PAGES").ok().and_then(|pages| pages.parse().ok()).unwrap_or(usual)
}

/// The usual number, in a program that users run.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) const fn checkpoint_pages(usual: u32) -> u32 {
    usual
}
