//! How values of ours stand in columns. SQLite's integers are signed: unsigned ones keep their bits.

use rusqlite::Row;

use super::faults::Fault;
use crate::{
    ledger::{
        Verdict,
        layers::Rejection,
        types::{MicroAtp, Millis, Ppm, Seq},
    },
    log::Signature,
};

/// An unsigned integer with the bits of a signed one. Times and seqs beyond 2^63 are no use, but they must come back.
pub(super) const fn signed(value: u64) -> i64 {
    i64::from_le_bytes(value.to_le_bytes())
}

/// The unsigned integer that [`signed`] was made of.
pub(super) const fn unsigned(value: i64) -> u64 {
    u64::from_le_bytes(value.to_le_bytes())
}

/// `accepted`, or what it was rejected for.
pub(super) const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::Rejected { by, .. } => by.name(),
    }
}

/// The verdict of that name that changed the balance by `delta`.
pub(super) fn verdict(name: &str, delta: MicroAtp) -> Result<Verdict, Fault> {
    if name == "accepted" {
        return Ok(Verdict::Accepted { reward: delta });
    }
    let by = Rejection::from_name(name)
        .ok_or_else(|| Fault::Damaged(format!("there is no verdict `{}`", name.escape_debug())))?;
    Ok(Verdict::Rejected { by, penalty: MicroAtp::ZERO.saturating_sub(delta) })
}

/// Reads the columns of a row one after the other.
pub(super) struct Columns<'a, 'b> {
    row: &'a Row<'b>,
    next: usize,
}

impl<'a, 'b> Columns<'a, 'b> {
    pub(super) const fn of(row: &'a Row<'b>) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn take<T: rusqlite::types::FromSql>(&mut self) -> rusqlite::Result<T> {
        let index = self.next;
        self.next = index.saturating_add(1);
        self.row.get(index)
    }

    pub(super) fn u64(&mut self) -> rusqlite::Result<u64> {
        Ok(unsigned(self.take()?))
    }

    pub(super) fn seq(&mut self) -> rusqlite::Result<Seq> {
        Ok(Seq(self.u64()?))
    }

    pub(super) fn millis(&mut self) -> rusqlite::Result<Millis> {
        Ok(Millis(self.u64()?))
    }

    pub(super) fn ppm(&mut self) -> rusqlite::Result<Ppm> {
        Ok(Ppm(self.take()?))
    }

    pub(super) fn micro_atp(&mut self) -> rusqlite::Result<MicroAtp> {
        Ok(MicroAtp(self.take()?))
    }

    pub(super) fn signature(&mut self) -> rusqlite::Result<Option<Signature>> {
        Ok(self.take::<Option<[u8; 64]>>()?.map(Signature))
    }
}

/// A name or text that must parse as what it is.
pub(super) fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Fault> {
    text.parse().map_err(|_| Fault::Damaged(format!("`{}` is no {what}", text.escape_debug())))
}
