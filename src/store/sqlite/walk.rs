//! A walk along one author's log as it stands in the file: nothing is believed, every row is compared with what it says
//! and with its neighbours. Repair, scrubbing and audits are three ways to listen to it.

use std::collections::VecDeque;

use bytes::Bytes;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use rusqlite::{
    Connection, Row, params,
    types::{Value, ValueRef},
};

use super::{
    faults::Fault,
    rows::{signed, unsigned, verdict_name},
    seal,
};
use crate::{
    ledger::{
        account::Account,
        fold::{Facts, Inadmissible, Outcome, fold},
        policy::Policy,
        types::Seq,
    },
    log::{Body, Entry, FederationId, Hash, Head, NodeId, Signature},
};

/// Rows that are read at once. With the longest contents they take 16 MiB.
pub(super) const CHUNK: usize = 1_024;

/// A row of the log, whatever stands in it.
#[derive(Clone, Debug)]
pub(super) struct LogRow {
    pub(super) seq: Seq,
    /// Whether its seal fits.
    pub(super) whole: bool,
    pub(super) seal: Value,
    pub(super) hash: Value,
    pub(super) header: Value,
    pub(super) signature: Value,
    pub(super) received: Value,
    pub(super) derived: Derived,
    /// `Null` where there is none.
    pub(super) content: Value,
}

/// What of an entry's row follows from its header and the entries before it: time, verdict, session, mode, coherence, weight, delta.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Derived(pub(super) [Value; 7]);

impl Derived {
    /// What must stand beside that entry. A genesis entry has no outcome.
    pub(super) fn of(entry: &Entry, outcome: Option<&Outcome>) -> Self {
        let time = Value::Integer(signed(entry.header().time.0));
        let (Body::Thought(thought), Some(outcome)) = (&entry.header().body, outcome) else {
            return Self([
                time,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
            ]);
        };
        Self([
            time,
            Value::Text(verdict_name(outcome.verdict).to_owned()),
            Value::Text(thought.session.as_str().to_owned()),
            Value::Integer(i64::from(thought.mode.number())),
            Value::Integer(i64::from(outcome.coherence.0)),
            Value::Integer(i64::from(outcome.weight.0)),
            Value::Integer(outcome.delta.0),
        ])
    }
}

/// The rows of an author from `from` on, at most `limit`, in the order of their seqs.
pub(super) fn rows(
    connection: &Connection,
    author: i64,
    from: Seq,
    limit: usize,
) -> Result<Vec<LogRow>, Fault> {
    let sql = format!(
        "SELECT entries.seq, {}, seal, hash, header, signature, received_ms, time_ms, verdict, session, mode, \
         coherence_ppm, weight_ppm, delta_uatp, content FROM entries \
         LEFT JOIN contents ON contents.author = entries.author AND contents.seq = entries.seq \
         WHERE entries.author = ?1 AND entries.seq >= ?2 ORDER BY entries.seq LIMIT ?3",
        seal::whole("entries", seal::ENTRIES)
    );
    let mut select = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = select.query(params![author, signed(from.0), limit])?;
    let mut found = vec![];
    while let Some(row) = rows.next()? {
        found.push(log_row(row)?);
    }
    Ok(found)
}

fn log_row(row: &Row<'_>) -> Result<LogRow, Fault> {
    let value = |index: usize| -> rusqlite::Result<Value> { Ok(lenient(row.get_ref(index)?)) };
    Ok(LogRow {
        seq: Seq(unsigned(row.get(0)?)),
        whole: row.get(1)?,
        seal: value(2)?,
        hash: value(3)?,
        header: value(4)?,
        signature: value(5)?,
        received: value(6)?,
        derived: Derived([value(7)?, value(8)?, value(9)?, value(10)?, value(11)?, value(12)?, value(13)?]),
        content: value(14)?,
    })
}

/// A value as it stands there. A text that is none any more becomes a blob, which equals nothing that we write as text.
pub(super) fn lenient(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => match str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob(text.to_vec()),
        },
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

/// The bytes of a blob; none for anything else.
pub(super) fn blob(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Blob(bytes) => Some(bytes),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) => None,
    }
}

/// A row, and what can be said of it without its neighbours. Any thread can say it.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) row: LogRow,
    /// Its header, where it is one of that author at that place.
    pub(super) entry: Option<Entry>,
    /// Whether the header has the hash that stands beside it.
    pub(super) hash_fits: bool,
    /// Whether the content is the one that the header names; also where there is none, or no header.
    pub(super) content_fits: bool,
    /// What costs more to check, where the walk is a proving one.
    pub(super) proofs: Option<Proofs>,
}

/// What an audit checks of a row beyond what every read does.
#[derive(Clone, Debug, Default)]
pub(super) struct Proofs {
    /// Whether a signature stands beside it.
    pub(super) is_signed: bool,
    /// What is not so.
    pub(super) faults: Vec<String>,
}

impl Proofs {
    fn of(federation: &FederationId, checked: &Checked) -> Self {
        let is_signed = checked.row.signature != Value::Null;
        let mut faults = vec![];
        if is_signed && checked.signature(federation).is_none() {
            faults.push("the signature beside it is not its author's".to_owned());
        }
        let content = blob(&checked.row.content).map(Bytes::copy_from_slice);
        if let (Some(entry), Some(content)) = (&checked.entry, content) {
            let with_content = Entry::parse(federation, entry.header_bytes().clone(), Some(content));
            faults.extend(
                with_content.ok().and_then(|entry| entry.check_content().err()).map(|f| f.to_string()),
            );
        } else if !checked.content_fits {
            faults.push("its content is none".to_owned());
        }
        Self { is_signed, faults }
    }
}

impl Checked {
    pub(super) fn of(federation: &FederationId, author: NodeId, row: LogRow) -> Self {
        let parsed = blob(&row.header)
            .and_then(|header| Entry::parse(federation, Bytes::copy_from_slice(header), None).ok());
        let entry = parsed.filter(|entry| entry.author() == author && entry.seq() == row.seq);
        let hash_fits = entry.as_ref().is_some_and(|entry| blob(&row.hash) == Some(&entry.hash().0[..]));
        let content_fits = match (&row.content, &entry) {
            (Value::Null, _) | (_, None) => true,
            (content, Some(entry)) => blob(content).is_some_and(|content| entry.is_content(content)),
        };
        Self { row, entry, hash_fits, content_fits, proofs: None }
    }

    /// Whether it is all that was written, as far as the row itself can say.
    pub(super) const fn is_whole(&self) -> bool {
        self.row.whole && self.hash_fits
    }

    /// Whether the store has a content of it, whatever that is.
    pub(super) const fn has_content(&self) -> bool {
        !matches!(self.row.content, Value::Null)
    }

    /// Whether it stands there as an accepted thought: their words are indexed.
    pub(super) fn is_accepted(&self) -> bool {
        let Derived([_, verdict, ..]) = &self.row.derived;
        *verdict == Value::Text("accepted".to_owned())
    }

    /// Whether it is a thought: those have contents.
    pub(super) fn is_thought(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| match &entry.header().body {
            Body::Thought(_) => true,
            Body::Genesis(_) => false,
        })
    }

    /// The stored signature, where one stands there and is the author's over this entry.
    pub(super) fn signature(&self, federation: &FederationId) -> Option<Signature> {
        let entry = self.entry.as_ref()?;
        let signature = Signature(blob(&self.row.signature)?.try_into().ok()?);
        let head = Head { author: entry.author(), seq: entry.seq(), hash: entry.hash(), signature };
        head.verify(federation).ok().map(|()| signature)
    }
}

/// One step of a walk.
#[derive(Debug)]
pub(super) enum Step {
    /// There is no row where one must be.
    Gap(Seq),
    /// A row.
    Row {
        checked: Box<Checked>,
        /// The hash that it must have, where what comes after it says so.
        link: Option<Hash>,
    },
}

impl Step {
    /// The entry, where its header is beyond doubt: named by what comes after it, or else by its own hash.
    pub(super) fn sound(&self) -> Option<&Entry> {
        match self {
            Self::Gap(_) => None,
            Self::Row { checked, link } => checked.entry.as_ref().filter(|entry| match link {
                Some(link) => entry.hash() == *link,
                None => checked.hash_fits,
            }),
        }
    }

    pub(super) const fn seq(&self) -> Seq {
        match self {
            Self::Gap(seq) => *seq,
            Self::Row { checked, .. } => checked.row.seq,
        }
    }
}

/// Whose log is walked, and where it must end, where that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pub(super) federation: FederationId,
    pub(super) number: i64,
    pub(super) id: NodeId,
    pub(super) end: Option<(Seq, Hash)>,
}

/// Walks along a log, row by row, reading [`CHUNK`] of them at once.
pub(super) struct Walk<'c> {
    connection: &'c Connection,
    log: Log,
    chunk: VecDeque<Checked>,
    read_from: Option<Seq>,
    next: Option<Seq>,
    check: fn(Log, Vec<LogRow>) -> Vec<Checked>,
}

/// One after the other: a node has other work for its processors.
fn check(log: Log, rows: Vec<LogRow>) -> Vec<Checked> {
    rows.into_iter().map(|row| Checked::of(&log.federation, log.id, row)).collect()
}

/// With signatures and features, on all processors.
fn prove(log: Log, rows: Vec<LogRow>) -> Vec<Checked> {
    let prove = |row: LogRow| {
        let checked = Checked::of(&log.federation, log.id, row);
        Checked { proofs: Some(Proofs::of(&log.federation, &checked)), ..checked }
    };
    rows.into_par_iter().map(prove).collect()
}

impl<'c> Walk<'c> {
    pub(super) const fn new(connection: &'c Connection, log: Log, from: Seq) -> Self {
        Self { connection, log, chunk: VecDeque::new(), read_from: Some(from), next: Some(from), check }
    }

    /// A walk that also checks signatures and what headers say of their contents.
    pub(super) fn proving(connection: &'c Connection, log: Log, from: Seq) -> Self {
        Self { check: prove, ..Self::new(connection, log, from) }
    }

    /// The next step; none at the end. Rows beyond the end are not told: nothing leads to them.
    pub(super) fn step(&mut self) -> Result<Option<Step>, Fault> {
        let Some(seq) = self.next else { return Ok(None) };
        self.fill()?;
        let is_past_end = self.log.end.is_some_and(|(last, _)| seq > last);
        let found = self.chunk.front().map(|checked| checked.row.seq);
        if is_past_end || (found.is_none() && self.log.end.is_none()) {
            return Ok(None);
        }
        self.next = seq.0.checked_add(1).map(Seq);
        if found != Some(seq) {
            return Ok(Some(Step::Gap(seq)));
        }
        let Some(checked) = self.chunk.pop_front() else { return Ok(None) };
        let link = match self.log.end {
            Some((last, hash)) if last == seq => Some(hash),
            Some(_) | None => self.link_to(seq),
        };
        Ok(Some(Step::Row { checked: Box::new(checked), link }))
    }

    /// What the next row says of that one, where the next row can be believed.
    fn link_to(&self, seq: Seq) -> Option<Hash> {
        let next = self.chunk.front().filter(|next| next.row.seq == seq.next() && next.hash_fits)?;
        next.entry.as_ref().map(|entry| entry.header().prev)
    }

    /// Keeps two rows at hand: each is judged by the one after it.
    fn fill(&mut self) -> Result<(), Fault> {
        let Some(from) = self.read_from.filter(|_| self.chunk.len() < 2) else { return Ok(()) };
        let mut rows = rows(self.connection, self.log.number, from, CHUNK)?;
        let full = rows.len() == CHUNK;
        // One whose seq changed on the disk stands where it stood, and would hide all after it.
        rows.sort_by_key(|row| row.seq);
        self.read_from = rows.last().filter(|_| full).map(|row| row.seq.next());
        self.chunk.extend((self.check)(self.log, rows));
        Ok(())
    }
}

/// The account along a walk.
#[derive(Debug)]
pub(super) struct Folding<'p> {
    policy: &'p Policy,
    /// `None` before the genesis entry.
    pub(super) account: Option<Account>,
}

/// Why an entry can't stand where it stands.
#[derive(Debug)]
pub(super) enum OutOfPlace {
    /// A log begins with its one genesis entry.
    Kind,
    /// The rules would not have taken it.
    Inadmissible(Inadmissible),
}

impl<'p> Folding<'p> {
    pub(super) const fn new(policy: &'p Policy) -> Self {
        Self { policy, account: None }
    }

    /// Folds the next entry, and says what must stand beside it.
    pub(super) fn follow(&mut self, entry: &Entry) -> Result<Derived, OutOfPlace> {
        let time = entry.header().time;
        match (&entry.header().body, &mut self.account) {
            (Body::Genesis(genesis), None) => {
                self.account = Some(Account::open(self.policy, genesis.level, time));
                Ok(Derived::of(entry, None))
            }
            (Body::Thought(thought), Some(account)) => {
                let facts = Facts { time, content_bytes: thought.content_bytes, features: thought.features };
                let outcome = fold(self.policy, account, &facts).map_err(OutOfPlace::Inadmissible)?;
                Ok(Derived::of(entry, Some(&outcome)))
            }
            (Body::Genesis(_), Some(_)) | (Body::Thought(_), None) => Err(OutOfPlace::Kind),
        }
    }
}
