//! How far something is that takes a while: one line on standard error, written again and again, and gone at the end.

use std::{
    io::{self, IsTerminal, Stderr, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What is done sooner needs no progress.
const QUIET: Duration = Duration::from_secs(1);
/// How often the line changes.
const EVERY: Duration = Duration::from_millis(100);

/// The line. It is shown on terminals only: in a log file it would be noise.
#[derive(Debug)]
pub struct Progress<W: Write = Stderr> {
    what: &'static str,
    line: Option<Mutex<Line<W>>>,
}

#[derive(Debug)]
struct Line<W> {
    out: W,
    next: Instant,
    /// Characters that stand there now.
    width: usize,
}

impl Progress {
    /// Tells of `what` on standard error.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        let out = io::stderr();
        let is_shown = out.is_terminal();
        Self::on(what, is_shown.then_some(out), Instant::now() + QUIET)
    }
}

impl<W: Write> Progress<W> {
    fn on(what: &'static str, out: Option<W>, from: Instant) -> Self {
        let line = out.map(|out| Mutex::new(Line { out, next: from, width: 0 }));
        Self { what, line }
    }

    /// So much of so much is done.
    pub fn at(&self, done: u64, total: u64) {
        let Some(line) = &self.line else { return };
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now < line.next {
            return;
        }
        line.next = now + EVERY;
        // Cut, not rounded: it is at 100 % only when it is done.
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        line.show(&format!("{}: {} %", self.what, percent.min(100)));
    }
}

impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            let mut line = line.into_inner().unwrap_or_else(PoisonError::into_inner);
            if line.width > 0 {
                line.show("");
                line.end();
            }
        }
    }
}

impl<W: Write> Line<W> {
    fn show(&mut self, text: &str) {
        let width = text.chars().count();
        let rest = " ".repeat(self.width.saturating_sub(width));
        // Where standard error is gone, nobody looks.
        let _unseen = write!(self.out, "\r{text}{rest}").and_then(|()| self.out.flush());
        self.width = width;
    }

    fn end(&mut self) {
        let _unseen = write!(self.out, "\r").and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_again_no_more_often_than_eyes_follow_and_is_gone_at_the_end() {
        let mut out = vec![];
        let progress = Progress::on("copying", Some(&mut out), Instant::now());
        progress.at(999, 1_000);
        progress.at(1_000, 1_000);
        drop(progress);
        assert_eq!(String::from_utf8(out).unwrap(), "\rcopying: 99 %\r             \r");
    }

    #[test]
    fn what_is_done_within_a_second_shows_nothing() {
        let mut out = vec![];
        Progress::on("copying", Some(&mut out), Instant::now() + QUIET).at(1, 2);
        Progress::on("copying", None::<Vec<u8>>, Instant::now()).at(1, 2);
        assert!(out.is_empty());
    }
}
