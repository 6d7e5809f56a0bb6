//! All thoughts of a store, one after the other, for other programs.

use std::{io, path::Path};

use rusqlite::{Connection, params};

use super::{
    super::StoreError,
    backup::{CopyError, Kind, kind, newer, open},
    faults::Fault,
    rows::{Columns, parsed, signed, verdict},
};
use crate::{
    ledger::{
        Verdict,
        types::{MicroAtp, Millis, Ppm, Seq},
    },
    log::{Mode, NodeId, NodeName, SessionName},
};

/// Rows of one look into the store. The reader may be slow, and a look that lasts keeps the write-ahead log from shrinking.
const ROWS_AT_ONCE: usize = 256;

/// A thought with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedThought {
    /// Whose.
    pub author: NodeId,
    /// Its author's name, as the genesis entry says.
    pub name: NodeName,
    /// Its place in its author's log.
    pub seq: Seq,
    /// Its time, as its author wrote it.
    pub time: Millis,
    /// Its session.
    pub session: SessionName,
    /// Its mode.
    pub mode: Mode,
    /// Its text; `None` where this node does not keep it.
    pub content: Option<String>,
    /// Accepted, or rejected by which layer.
    pub verdict: Verdict,
    /// Its coherence.
    pub coherence: Ppm,
    /// Its author's trust weight after it.
    pub weight: Ppm,
    /// What it earned or cost.
    pub delta: MicroAtp,
    /// When this node got it: milliseconds since the Unix epoch.
    pub received: Millis,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no store, or it can't be read.
    #[error(transparent)]
    Store(#[from] CopyError),
    /// Whoever took the thoughts took no more.
    #[error("can't write the thoughts")]
    Write(#[source] io::Error),
}

/// Gives every thought of a store to `each`, accepted or rejected: author by author in the order of their ids, each author's in
/// the order of its log. Its node may run; what it stores meanwhile may or may not be among them.
///
/// # Errors
/// See [`ExportError`].
pub fn export(
    store: &Path,
    each: &mut dyn FnMut(ExportedThought) -> io::Result<()>,
) -> Result<(), ExportError> {
    let connection = open(store)?;
    let about = |fault: Fault| ExportError::Store(fault.about(store).into());
    match kind(&connection).map_err(about)? {
        Kind::Ours => {}
        Kind::Foreign => return Err(CopyError::from(StoreError::Foreign { path: store.to_owned() }).into()),
        Kind::Newer(found) => return Err(newer(store, found).into()),
    }
    for author in authors(&connection).map_err(about)? {
        let mut from = Seq::GENESIS;
        loop {
            let page = page(&connection, &author, from).map_err(about)?;
            let Some(last) = page.last().map(|thought| thought.seq) else { break };
            for thought in page {
                each(thought).map_err(ExportError::Write)?;
            }
            from = last.next();
        }
    }
    Ok(())
}

struct Author {
    number: i64,
    id: NodeId,
    name: NodeName,
}

fn authors(connection: &Connection) -> Result<Vec<Author>, Fault> {
    let mut select = connection.prepare("SELECT number, id, name FROM authors ORDER BY id")?;
    let mut rows = select.query([])?;
    let mut authors = vec![];
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let (number, id) = (columns.take()?, NodeId::from_stored(columns.take()?));
        let name: String = columns.take()?;
        authors.push(Author { number, id, name: parsed(&name, "node name")? });
    }
    Ok(authors)
}

fn page(connection: &Connection, author: &Author, from: Seq) -> Result<Vec<ExportedThought>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT entries.seq, time_ms, session, mode, content, verdict, coherence_ppm, weight_ppm, delta_uatp, \
         received_ms FROM entries LEFT JOIN contents ON contents.author = entries.author \
         AND contents.seq = entries.seq WHERE entries.author = ?1 AND entries.seq >= ?2 AND verdict IS NOT NULL \
         ORDER BY entries.seq LIMIT ?3",
    )?;
    let limit = i64::try_from(ROWS_AT_ONCE).unwrap_or(i64::MAX);
    let mut rows = select.query(params![author.number, signed(from.0), limit])?;
    let mut page = vec![];
    while let Some(row) = rows.next()? {
        page.push(thought(author, &mut Columns::of(row))?);
    }
    Ok(page)
}

fn thought(author: &Author, columns: &mut Columns<'_, '_>) -> Result<ExportedThought, Fault> {
    let (seq, time) = (columns.seq()?, columns.millis()?);
    let damaged = |what: &str| Fault::Damaged(format!("the {what} of entry {seq} of {}", author.id));
    let session: String = columns.take()?;
    let mode = Mode::from_number(columns.take()?).ok_or_else(|| damaged("mode"))?;
    let content: Option<Vec<u8>> = columns.take()?;
    let named: String = columns.take()?;
    let (coherence, weight, delta) = (columns.ppm()?, columns.ppm()?, columns.micro_atp()?);
    Ok(ExportedThought {
        author: author.id,
        name: author.name.clone(),
        seq,
        time,
        session: parsed(&session, "session name")?,
        mode,
        content: content.map(String::from_utf8).transpose().map_err(|_| damaged("content"))?,
        verdict: verdict(&named, delta)?,
        coherence,
        weight,
        delta,
        received: columns.millis()?,
    })
}
