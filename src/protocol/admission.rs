//! Admission: others' entries, in the order of the specification, the cheapest check first.
//! What a sender could have seen itself counts against it; what is our own trouble never does.
//! Source: protocol.md, Admission of entries.

use std::sync::Arc;

use super::{
    authors::{AUTHORS_MAX, Authors, NameIs},
    event::{EntryEvent, Event, SegmentRefusal},
    input::Now,
};
use crate::{
    ledger::{
        account::Account,
        fold::{Facts, fold},
        policy::Policy,
        types::{MicroAtp, Millis, Seq},
    },
    log::{
        Body, Entry, Genesis, NodeId, Segment, Thought, Verified,
        books::{AuthorBook, Judged, JudgedThought, Record},
    },
};

/// How far ahead of this node's time an entry may lie. Farther ones are held: asked for again later.
pub const AHEAD_MAX: Millis = Millis(120_000);

/// What became of a segment.
#[derive(Debug)]
pub enum Admission {
    /// Its new entries stand in the log.
    Admitted {
        /// What the store must keep.
        records: Vec<Record>,
        /// What happened, in order.
        events: Vec<Event>,
    },
    /// All of it was known, or lies behind the end of a convicted author's log. It counts for nothing, unless it was asked for to mend something.
    Known(Segment),
    /// Something between ours and its first is missing.
    Gap {
        /// From where on.
        from: Seq,
    },
    /// Its times are too far ahead of ours. Nothing was changed; it is asked for again later.
    Held {
        /// How far ahead.
        ahead: Millis,
    },
    /// It continues another history than ours: somebody signed two.
    Fork {
        /// The first entry that does not fit.
        seq: Seq,
    },
    /// It is wrong, and its sender could have seen it.
    Refused(SegmentRefusal),
}

/// Admits a segment whose signature, hashes and features were verified. One of our own log gets here only while we get
/// that back.
pub fn admit(
    policy: &Policy,
    now: Now,
    segment: Verified<Segment>,
    authors: &mut Authors,
    own: NodeId,
) -> Admission {
    let author = segment.author();
    let have = authors.seq(author);
    if have.is_none() && author != own && authors.is_full() {
        return Admission::Refused(SegmentRefusal::TooManyAuthors { max: AUTHORS_MAX });
    }
    let from = authors.missing_from(author);
    if segment.first() > from {
        return Admission::Gap { from };
    }
    let cut = authors.cut(author);
    if have.is_some_and(|have| segment.last() <= have) || cut.is_some_and(|cut| cut <= from) {
        return Admission::Known(segment.into_inner());
    }
    let signature = segment.head().signature;
    // Of a convicted author the entries before the cut are taken; what comes behind them covers them.
    let cover = cut.filter(|cut| segment.last() >= *cut).map(|_| segment.get().clone().bare());
    let new: Vec<Entry> = segment
        .into_inner()
        .into_parts()
        .0
        .into_iter()
        .skip_while(|entry| entry.header().seq < from)
        .take_while(|entry| cut.is_none_or(|cut| entry.header().seq < cut))
        .collect();
    // Our own entries prove that it was that late: a board that starts in 1970 gets its log back all the same.
    if let Some(ahead) = ahead_of(now, &new).filter(|_| author != own) {
        return Admission::Held { ahead };
    }
    let before = authors.get(author).map(|author| author.book.clone());
    match fold_all(policy, now, &new, before.as_deref()) {
        Err(Wrong::Fork(seq)) => Admission::Fork { seq },
        Err(Wrong::Refused(why)) => Admission::Refused(why),
        Ok((mut book, judged, mut events)) => {
            // Our own log has no signatures of others' heads: whoever holds the key signs again.
            book.signature = (author != own && cover.is_none()).then_some(signature);
            for event in &mut events {
                if let Event::Entry(entry) = event {
                    entry.own = author == own;
                }
            }
            let book = Arc::new(book);
            let mut records = vec![Record::Entries { author, entries: judged, book: Arc::clone(&book) }];
            records.extend(cover.map(|cover| Record::Cover { author, cover: Box::new(cover) }));
            let name = book.name.clone();
            if authors.put(author, book) == NameIs::Taken {
                events.push(Event::NameTaken { id: author, name });
            }
            Admission::Admitted { records, events }
        }
    }
}

enum Wrong {
    Fork(Seq),
    Refused(SegmentRefusal),
}

fn ahead_of(now: Now, entries: &[Entry]) -> Option<Millis> {
    let newest = entries.iter().map(|entry| entry.header().time).max()?;
    let ahead = newest.since(now.wall);
    (ahead > AHEAD_MAX).then_some(ahead)
}

type Folded = (AuthorBook, Vec<Judged>, Vec<Event>);

fn fold_all(
    policy: &Policy,
    now: Now,
    entries: &[Entry],
    before: Option<&AuthorBook>,
) -> Result<Folded, Wrong> {
    let mut book = before.cloned();
    let mut judged = Vec::with_capacity(entries.len());
    let mut events = Vec::with_capacity(entries.len());
    for entry in entries {
        let thought = match (&entry.header().body, &mut book) {
            (Body::Genesis(genesis), None) => {
                book = Some(open(policy, now, entry, genesis));
                None
            }
            (Body::Thought(thought), Some(book)) => Some(follow(policy, entry, thought, book)?),
            (Body::Genesis(_), Some(_)) | (Body::Thought(_), None) => {
                let seq = entry.header().seq;
                return Err(Wrong::Refused(SegmentRefusal::DoesNotFollow { seq }));
            }
        };
        if let Some(book) = &book {
            events.push(Event::Entry(entry_event(entry, book, thought.as_ref())));
        }
        judged.push(Judged { entry: entry.clone(), thought, received: now.wall });
    }
    match book {
        Some(book) => Ok((book, judged, events)),
        // A verified segment has at least one entry, so there is a book; said as an error to need no panic.
        None => Err(Wrong::Refused(SegmentRefusal::DoesNotFollow { seq: Seq::GENESIS })),
    }
}

fn open(policy: &Policy, now: Now, entry: &Entry, genesis: &Genesis) -> AuthorBook {
    AuthorBook {
        name: genesis.name.clone(),
        hardware: genesis.hardware,
        arch: genesis.arch.clone(),
        hash: entry.hash(),
        signature: None,
        account: Account::open(policy, genesis.level, entry.header().time),
        known_since: now.wall,
    }
}

fn follow(
    policy: &Policy,
    entry: &Entry,
    thought: &Thought,
    book: &mut AuthorBook,
) -> Result<JudgedThought, Wrong> {
    let header = entry.header();
    let seq = header.seq;
    if header.prev != book.hash {
        return Err(Wrong::Fork(seq));
    }
    let facts = Facts { time: header.time, content_bytes: thought.content_bytes, features: thought.features };
    let outcome = fold(policy, &mut book.account, &facts)
        .map_err(|why| Wrong::Refused(SegmentRefusal::Inadmissible { seq, why }))?;
    book.hash = entry.hash();
    Ok(JudgedThought {
        session: thought.session.clone(),
        mode: thought.mode,
        verdict: outcome.verdict,
        coherence: outcome.coherence,
        delta: outcome.delta,
        weight: outcome.weight,
    })
}

fn entry_event(entry: &Entry, book: &AuthorBook, thought: Option<&JudgedThought>) -> EntryEvent {
    EntryEvent {
        author: entry.header().author,
        name: book.name.clone(),
        seq: entry.header().seq,
        time: entry.header().time,
        own: false,
        verdict: thought.map(|thought| thought.verdict),
        delta: thought.map_or(MicroAtp::ZERO, |thought| thought.delta),
        balance: book.account.balance,
    }
}
