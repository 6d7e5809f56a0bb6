//! Reads: the books at start, the log for peers, the corpus for people.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter, types::Value};

use super::{
    super::{
        ENTRIES_MAX, Rates, SESSION_THOUGHTS_MAX, THOUGHTS_MAX, ThoughtQuery, ThoughtRow,
        query::{self, SessionRow},
    },
    faults::Fault,
    rows::{Columns, parsed, signed, verdict},
};
use crate::{
    ledger::{
        account::Account,
        economy::Session,
        policy::Policy,
        types::{Millis, Seq},
    },
    log::{
        Hardware, Hash, Mode, NodeId,
        books::{AuthorBook, Books, KnownPeer, Recorded, StoredEntry},
    },
};

/// All that a node remembers, as it was at one moment: a commit in between changes nothing of it.
pub(super) fn books(connection: &Connection, policy: &Policy) -> Result<Books, Fault> {
    let moment = connection.unchecked_transaction()?;
    Ok(Books {
        authors: authors(&moment, policy)?,
        peers: peers(&moment)?,
        submissions: submissions(&moment)?,
        newest_time: newest_time(&moment)?,
        missing: BTreeMap::new(),
        restored: false,
    })
}

fn authors(connection: &Connection, policy: &Policy) -> Result<BTreeMap<NodeId, AuthorBook>, Fault> {
    let mut authors = BTreeMap::new();
    let mut select = connection.prepare(
        "SELECT id, name, hardware, arch, authors.hash, authors.signature, account, known_since, \
         last.seq, last.hash FROM authors LEFT JOIN entries AS last ON last.author = number \
         AND last.seq = (SELECT max(seq) FROM entries WHERE author = number)",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let id = NodeId::from_stored(columns.take()?);
        let book = author(id, &mut columns, policy)?;
        let last: (Option<i64>, Option<[u8; 32]>) = (columns.take()?, columns.take()?);
        // An account that is ahead of its log or behind it would fold the next entry onto the wrong balance.
        if last != (Some(signed(book.seq().0)), Some(book.hash.0)) {
            return Err(Fault::Damaged(format!("the last entry of {id} is not the one of its account")));
        }
        authors.insert(id, book);
    }
    Ok(authors)
}

fn author(id: NodeId, columns: &mut Columns<'_, '_>, policy: &Policy) -> Result<AuthorBook, Fault> {
    let name: String = columns.take()?;
    let hardware: u8 = columns.take()?;
    let arch: String = columns.take()?;
    let hash = Hash(columns.take()?);
    let signature = columns.signature()?;
    let account: Vec<u8> = columns.take()?;
    Ok(AuthorBook {
        name: parsed(&name, "node name")?,
        hardware: Hardware::from_number(hardware)
            .ok_or_else(|| Fault::Damaged(format!("the hardware of {id}")))?,
        arch: parsed(&arch, "architecture")?,
        hash,
        signature,
        account: Account::from_bytes(&account, policy)
            .map_err(|error| Fault::Damaged(format!("the account of {id}: {error}")))?,
        known_since: columns.millis()?,
    })
}

fn peers(connection: &Connection) -> Result<BTreeMap<NodeId, KnownPeer>, Fault> {
    let mut peers = BTreeMap::new();
    let mut select = connection.prepare("SELECT id, name, addresses, seen_ms FROM peers")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let id = NodeId::from_stored(columns.take()?);
        let name: String = columns.take()?;
        let addresses: String = columns.take()?;
        let addresses: Result<Vec<_>, _> =
            addresses.split_whitespace().map(|address| parsed(address, "address")).collect();
        let peer =
            KnownPeer { name: parsed(&name, "node name")?, addresses: addresses?, seen: columns.millis()? };
        peers.insert(id, peer);
    }
    Ok(peers)
}

fn submissions(connection: &Connection) -> Result<Vec<(String, Recorded)>, Fault> {
    let mut select = connection.prepare(
        "SELECT key, seq, verdict, coherence_ppm, delta_uatp, balance_uatp, trust_ppm \
         FROM submissions ORDER BY number",
    )?;
    let mut rows = select.query([])?;
    let mut submissions = vec![];
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let key: String = columns.take()?;
        let seq = columns.seq()?;
        let name: String = columns.take()?;
        let coherence = columns.ppm()?;
        let delta = columns.micro_atp()?;
        let recorded = Recorded {
            seq,
            verdict: verdict(&name, delta)?,
            coherence,
            delta,
            balance: columns.micro_atp()?,
            trust: columns.ppm()?,
        };
        submissions.push((key, recorded));
    }
    Ok(submissions)
}

fn newest_time(connection: &Connection) -> Result<Millis, Fault> {
    let select = "SELECT value FROM meta WHERE key = 'newest_time'";
    let stored: Option<[u8; 8]> = connection.query_row(select, [], |row| row.get(0)).optional()?;
    Ok(stored.map_or(Millis::ZERO, |bytes| Millis(u64::from_be_bytes(bytes))))
}

/// See [`super::super::Store::entries`].
pub(super) fn entries(
    connection: &Connection,
    author: NodeId,
    from: Seq,
    bytes_max: usize,
) -> Result<Vec<StoredEntry>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT entries.seq, header, content, entries.signature FROM entries \
         LEFT JOIN contents ON contents.author = entries.author AND contents.seq = entries.seq \
         WHERE entries.author = (SELECT number FROM authors WHERE id = ?1) AND entries.seq >= ?2 \
         ORDER BY entries.seq LIMIT ?3",
    )?;
    let limit = i64::try_from(ENTRIES_MAX).unwrap_or(i64::MAX);
    let mut rows = select.query(params![author.as_bytes(), signed(from.0), limit])?;
    let mut entries: Vec<StoredEntry> = vec![];
    let (mut bytes, mut next) = (0_usize, from);
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        if columns.seq()? != next {
            break;
        }
        next = next.next();
        let header: Vec<u8> = columns.take()?;
        let content: Option<Vec<u8>> = columns.take()?;
        let length = header.len().saturating_add(content.as_ref().map_or(0, Vec::len));
        bytes = bytes.saturating_add(length);
        if !entries.is_empty() && bytes > bytes_max {
            break;
        }
        let signature = columns.signature()?;
        entries.push(StoredEntry { header: header.into(), content: content.map(Bytes::from), signature });
    }
    Ok(entries)
}

/// See [`super::super::Store::thoughts`].
pub(super) fn thoughts(connection: &Connection, query: &ThoughtQuery) -> Result<Vec<ThoughtRow>, Fault> {
    let (sql, values) = thoughts_sql(query);
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(values))?;
    let mut thoughts = vec![];
    while let Some(row) = rows.next()? {
        thoughts.push(thought(&mut Columns::of(row))?);
    }
    thoughts.reverse();
    Ok(thoughts)
}

/// The statement asks for nothing that the query leaves open: a condition that may be off would keep the database from
/// its index, and a search for one session would read all of them. There are eight such statements, so they stay cached.
fn thoughts_sql(query: &ThoughtQuery) -> (String, Vec<Value>) {
    // With neither session nor author the planner, which knows no numbers, would sort the whole log for its last hundred.
    let hint = match (&query.session, &query.author) {
        (None, None) => "INDEXED BY entries_by_time",
        (Some(_), _) | (_, Some(_)) => "",
    };
    let mut sql = format!(
        "SELECT id, name, entries.seq, time_ms, session, mode, content, coherence_ppm, weight_ppm, delta_uatp, \
         received_ms FROM entries {hint} JOIN authors ON authors.number = entries.author \
         JOIN contents ON contents.author = entries.author AND contents.seq = entries.seq \
         WHERE verdict = 'accepted'"
    );
    let mut values = vec![];
    if let Some(session) = &query.session {
        sql.push_str(" AND session = ?");
        values.push(Value::from(session.as_str().to_owned()));
    }
    if let Some(author) = &query.author {
        sql.push_str(" AND entries.author = (SELECT number FROM authors WHERE id = ?)");
        values.push(Value::from(author.as_bytes().to_vec()));
    }
    if let Some(since) = query.since {
        sql.push_str(" AND time_ms >= ?");
        values.push(Value::from(signed(since.0.min(signed_max()))));
    }
    sql.push_str(" ORDER BY time_ms DESC, id DESC, entries.seq DESC LIMIT ?");
    values.push(Value::from(query.limit.min(THOUGHTS_MAX)));
    (sql, values)
}

fn thought(columns: &mut Columns<'_, '_>) -> Result<ThoughtRow, Fault> {
    let author = NodeId::from_stored(columns.take()?);
    let name: String = columns.take()?;
    let (seq, time) = (columns.seq()?, columns.millis()?);
    let session: String = columns.take()?;
    let mode: u8 = columns.take()?;
    let content: Vec<u8> = columns.take()?;
    let damaged = |what: &str| Fault::Damaged(format!("the {what} of entry {seq} of {author}"));
    Ok(ThoughtRow {
        author,
        name: parsed(&name, "node name")?,
        seq,
        time,
        session: parsed(&session, "session name")?,
        mode: Mode::from_number(mode).ok_or_else(|| damaged("mode"))?,
        content: String::from_utf8(content).map_err(|_| damaged("content"))?,
        coherence: columns.ppm()?,
        weight: columns.ppm()?,
        reward: columns.micro_atp()?,
        received: columns.millis()?,
    })
}

/// See [`super::super::Store::rates`].
pub(super) fn rates(connection: &Connection, since: Millis) -> Result<Rates, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT count(*) FILTER (WHERE verdict = 'accepted' AND delta_uatp > 0), \
         count(*) FILTER (WHERE verdict <> 'accepted') FROM entries \
         WHERE verdict IS NOT NULL AND time_ms >= ?1",
    )?;
    let rates = select.query_row([signed(since.0.min(signed_max()))], |row| {
        let mut columns = Columns::of(row);
        Ok(Rates { rewards: columns.u64()?, penalties: columns.u64()? })
    })?;
    Ok(rates)
}

/// See [`super::super::Store::sessions`].
pub(super) fn sessions(connection: &Connection) -> Result<BTreeMap<String, Session>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT session, id, mode, hardware, coherence_ppm, weight_ppm FROM entries INDEXED BY entries_by_time \
         JOIN authors ON authors.number = entries.author WHERE verdict = 'accepted' \
         ORDER BY time_ms DESC, id DESC, entries.seq DESC LIMIT ?1",
    )?;
    let mut rows = select.query([i64::try_from(SESSION_THOUGHTS_MAX).unwrap_or(i64::MAX)])?;
    let mut thoughts = vec![];
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let session: String = columns.take()?;
        let author = NodeId::from_stored(columns.take()?);
        let (mode, hardware): (u8, u8) = (columns.take()?, columns.take()?);
        let damaged = |what: &str| Fault::Damaged(format!("the {what} of a thought of {author}"));
        thoughts.push(SessionRow {
            session: parsed(&session, "session name")?,
            author,
            mode: Mode::from_number(mode).ok_or_else(|| damaged("mode"))?,
            hardware: Hardware::from_number(hardware).ok_or_else(|| damaged("hardware"))?,
            coherence: columns.ppm()?,
            weight: columns.ppm()?,
        });
    }
    Ok(query::sessions(&thoughts))
}

/// The largest time that compares as a signed integer; later ones are three hundred million years away.
const fn signed_max() -> u64 {
    i64::MAX.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::StoreOptions, schema},
        *,
    };
    use crate::log::FederationId;

    /// What the database says that it will do, a step a line.
    fn plan(query: &ThoughtQuery) -> String {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::configure_reader(&connection).unwrap();
        let own = NodeId::from_stored([1; 32]);
        let options = StoreOptions::new(FederationId([7; 32]), own, Policy::default());
        schema::migrate(&mut connection, 0, &options).unwrap();
        let (sql, values) = thoughts_sql(query);
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps =
            explain.query_map(params_from_iter(values), |row| row.get::<_, String>("detail")).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_search_of_the_corpus_has_an_index_that_also_gives_its_order() {
        let all = ThoughtQuery::default();
        let since = ThoughtQuery { since: Some(Millis(1)), ..all.clone() };
        let session = ThoughtQuery { session: Some("rare".parse().unwrap()), ..all.clone() };
        let author = ThoughtQuery { author: Some(NodeId::from_stored([1; 32])), ..all.clone() };
        for (query, index) in [
            (all, "entries_by_time"),
            (since, "entries_by_time (time_ms>?)"),
            (session.clone(), "entries_by_session (session=?)"),
            (
                ThoughtQuery { since: Some(Millis(1)), ..session },
                "entries_by_session (session=? AND time_ms>?)",
            ),
            (author.clone(), "entries_by_author (author=?)"),
            (ThoughtQuery { since: Some(Millis(1)), ..author }, "entries_by_author (author=? AND time_ms>?)"),
        ] {
            let plan = plan(&query);
            assert!(plan.contains(index), "{query:?}\n{plan}");
            assert!(!plan.contains("FOR ORDER BY"), "only ties are sorted: {query:?}\n{plan}");
        }
    }
}
