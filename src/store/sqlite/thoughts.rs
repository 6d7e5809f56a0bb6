//! The corpus as people ask for it: by session, author, time and words, each the shortest way.

use rusqlite::{Connection, params_from_iter, types::Value};

use super::{
    super::{CorpusSize, THOUGHTS_MAX, ThoughtQuery, ThoughtRow},
    corpus,
    faults::Fault,
    reader::signed_max,
    rows::{Columns, parsed, signed},
    seal,
};
use crate::{
    ledger::types::Seq,
    log::{Entry, FederationId, Mode, NodeId},
};

/// What a search of the corpus gives, and what it found damaged on the way.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) thoughts: Vec<ThoughtRow>,
    pub(super) damaged: Vec<(NodeId, Seq)>,
}

/// See [`super::super::Store::thoughts`]. `kept` is how large the corpus is about now: from it follows what to begin with.
pub(super) fn thoughts(
    connection: &Connection,
    federation: &FederationId,
    query: &ThoughtQuery,
    kept: CorpusSize,
) -> Result<Found, Fault> {
    let (sql, values) = thoughts_sql(query, plan(connection, query, kept)?);
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(values))?;
    let mut found = Found::default();
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let (author_is_whole, author) = (columns.take::<bool>()?, NodeId::from_stored(columns.take()?));
        let (is_whole, header): (bool, _) = (columns.take()?, columns.take::<Vec<u8>>());
        let seq = columns.seq()?;
        let content = row.get_ref(CONTENT_COLUMN)?.as_blob().unwrap_or_default();
        let parsed = header.ok().and_then(|header| Entry::parse(federation, header.into(), None).ok());
        let fits = parsed
            .is_some_and(|entry| (entry.author(), entry.seq()) == (author, seq) && entry.is_content(content));
        if !(is_whole && fits) {
            found.damaged.push((author, seq));
        } else if author_is_whole {
            found.thoughts.push(thought(author, seq, &mut columns)?);
        }
    }
    found.thoughts.sort_by_key(|row| (row.time, row.author, row.seq));
    Ok(found)
}

/// What a query for thoughts begins with. The planner of the database knows no numbers; we know some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// The entries of a session or author, the newest first.
    Entries,
    /// All entries, the newest first: soon at an end where few thoughts are wanted.
    Newest,
    /// All contents: where many are wanted, most entries of a long log have none any more.
    Contents,
    /// The contents that have the words.
    Words,
    /// All entries, the newest first, and of each whether its content has the words: where they are common.
    NewestWithWords,
}

fn plan(connection: &Connection, query: &ThoughtQuery, kept: CorpusSize) -> rusqlite::Result<Plan> {
    let limit = u64::from(query.limit.min(THOUGHTS_MAX));
    Ok(match (&query.search, &query.session, &query.author) {
        (Some(search), None, None) => {
            // To look at each of m contents with the words costs m; to come across enough of them among n, n / m times the limit.
            let few = limit.saturating_mul(kept.thoughts).isqrt();
            if corpus::is_in_at_most(connection, search, few)? { Plan::Words } else { Plan::NewestWithWords }
        }
        (Some(_), _, _) => Plan::Words,
        (None, None, None) if limit.saturating_mul(4) < kept.thoughts => Plan::Newest,
        (None, None, None) => Plan::Contents,
        (None, Some(_), _) | (None, _, Some(_)) => Plan::Entries,
    })
}

/// What is told of a thought, and whether it is what was written.
fn columns() -> String {
    format!(
        "{}, id, {}, header, entries.seq, name, time_ms, session, mode, contents.content, coherence_ppm, weight_ppm, \
         delta_uatp, received_ms",
        seal::whole("authors", seal::AUTHORS),
        seal::whole("entries", seal::ENTRIES),
    )
}
/// How an entry is joined with its author and its content.
const REST_OF_ENTRY: &str = "CROSS JOIN authors ON authors.number = entries.author \
    CROSS JOIN contents ON contents.author = entries.author AND contents.seq = entries.seq";
/// How a content is joined with its entry and its author.
const REST_OF_CONTENT: &str = "CROSS JOIN entries ON entries.author = contents.author AND entries.seq = contents.seq \
    CROSS JOIN authors ON authors.number = entries.author";

/// The statement asks for nothing that the query leaves open: a condition that may be off would keep the database from
/// its index. `INDEXED BY` gives the rows in their order, `CROSS JOIN` keeps that of the tables.
fn thoughts_sql(query: &ThoughtQuery, plan: Plan) -> (String, Vec<Value>) {
    // Where they must be sorted, contents are read only of those that are wanted.
    let number = || "contents.number".to_owned();
    let (columns, from) = match plan {
        Plan::Entries => {
            let index = if query.session.is_some() { "entries_by_session" } else { "entries_by_author" };
            (columns(), format!("entries INDEXED BY {index} {REST_OF_ENTRY}"))
        }
        Plan::Newest | Plan::NewestWithWords => {
            (columns(), format!("entries INDEXED BY entries_by_time {REST_OF_ENTRY}"))
        }
        Plan::Contents => (number(), format!("contents {REST_OF_CONTENT}")),
        Plan::Words => (
            number(),
            format!("words CROSS JOIN contents ON contents.number = words.rowid {REST_OF_CONTENT}"),
        ),
    };
    let mut sql = format!("SELECT {columns} FROM {from} WHERE verdict = 'accepted'");
    let mut values = vec![];
    if let Some(search) = &query.search {
        sql.push_str(match plan {
            // The sign in front: a condition, and nothing to begin with.
            Plan::NewestWithWords => " AND +contents.number IN (SELECT rowid FROM words WHERE words MATCH ?)",
            Plan::Words | Plan::Entries | Plan::Newest | Plan::Contents => " AND words MATCH ?",
        });
        values.push(Value::from(corpus::match_of(search)));
    }
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
    match plan {
        Plan::Entries | Plan::Newest | Plan::NewestWithWords => {}
        Plan::Contents | Plan::Words => {
            sql = format!(
                "SELECT {} FROM ({sql}) AS found CROSS JOIN contents ON contents.number = found.number {REST_OF_CONTENT}",
                self::columns()
            );
        }
    }
    (sql, values)
}

/// Where a thought's row has its content.
const CONTENT_COLUMN: usize = 9;

fn thought(author: NodeId, seq: Seq, columns: &mut Columns<'_, '_>) -> Result<ThoughtRow, Fault> {
    let name: String = columns.take()?;
    let time = columns.millis()?;
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

#[cfg(test)]
mod tests {
    use super::{
        super::{super::StoreOptions, schema},
        *,
    };
    use crate::ledger::{policy::Policy, types::Millis};

    /// What the database says that it will do, a step a line.
    fn steps(query: &ThoughtQuery, plan: Plan) -> String {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::configure_reader(&connection).unwrap();
        let own = NodeId::from_stored([1; 32]);
        let options = StoreOptions::new(FederationId([7; 32]), own, Policy::default());
        schema::migrate(&mut connection, 0, &options).unwrap();
        let (sql, values) = thoughts_sql(query, plan);
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
        let words = ThoughtQuery { search: Some("common".parse().unwrap()), ..all.clone() };
        for (query, plan, index) in [
            (all, Plan::Newest, "entries_by_time"),
            (since, Plan::Newest, "entries_by_time (time_ms>?)"),
            (words, Plan::NewestWithWords, "entries_by_time"),
            (session.clone(), Plan::Entries, "entries_by_session (session=?)"),
            (
                ThoughtQuery { since: Some(Millis(1)), ..session },
                Plan::Entries,
                "entries_by_session (session=? AND time_ms>?)",
            ),
            (author.clone(), Plan::Entries, "entries_by_author (author=?)"),
            (
                ThoughtQuery { since: Some(Millis(1)), ..author },
                Plan::Entries,
                "entries_by_author (author=? AND time_ms>?)",
            ),
        ] {
            let steps = steps(&query, plan);
            assert!(steps.contains(index), "{query:?}\n{steps}");
            assert!(
                steps.contains("contents USING INDEX sqlite_autoindex_contents_1 (author=? AND seq=?)"),
                "{steps}"
            );
            assert!(!steps.contains("FOR ORDER BY"), "only ties are sorted: {query:?}\n{steps}");
        }
    }

    #[test]
    fn a_search_for_words_begins_with_their_index_and_looks_each_content_up_by_its_number() {
        let all = ThoughtQuery { search: Some("rare words".parse().unwrap()), ..ThoughtQuery::default() };
        for query in [
            ThoughtQuery { session: Some("rare".parse().unwrap()), ..all.clone() },
            ThoughtQuery {
                author: Some(NodeId::from_stored([1; 32])),
                since: Some(Millis(1)),
                ..all.clone()
            },
            all,
        ] {
            let steps = steps(&query, Plan::Words);
            let words = steps.find("words VIRTUAL TABLE INDEX").unwrap();
            assert!(steps.find("contents USING INTEGER PRIMARY KEY (rowid=?)").unwrap() > words, "{steps}");
            assert!(steps.contains("entries USING PRIMARY KEY (author=? AND seq=?)"), "{steps}");
        }
    }

    #[test]
    fn many_thoughts_of_a_pruned_corpus_are_looked_for_among_the_contents() {
        let connection = Connection::open_in_memory().unwrap();
        let chosen = |limit, thoughts| {
            let query = ThoughtQuery { limit, ..ThoughtQuery::default() };
            plan(&connection, &query, CorpusSize { thoughts, bytes: 0 }).unwrap()
        };
        assert_eq!(chosen(100, 7_000), Plan::Newest);
        assert_eq!(chosen(10_000, 7_000), Plan::Contents);
        assert_eq!(chosen(10_000, 1_000_000), Plan::Newest);
    }
}
