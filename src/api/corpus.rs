//! What the store is asked for: accepted thoughts, sessions, and why a thought got its verdict. Its calls block, so each
//! runs where blocking is allowed.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{error::Fault, json, submit, views};
use crate::{
    ledger::account::Account,
    ledger::{
        economy::{economic_value, economics, per_minute_ppm},
        fold::{Facts, Outcome, fold},
        layers::{self, LayerReport},
        policy::Policy,
        types::{MicroAtp, Millis, Seq},
    },
    log::{Body, Header, NodeId, SessionName, Thought, books::StoredEntry},
    node::Handle,
    protocol::view::Known,
    store::{Rates, SearchWords, Store, StoreError, THOUGHTS_MAX, ThoughtQuery, ThoughtRow},
};

/// Rates are taken over the time that the node has been running, but over an hour at most, so that they tell of now...
const RATES_MS_MAX: u64 = 3_600_000;
/// ... and over a minute at least, so that the first thought after a start is not hundreds a minute.
const RATES_MS_MIN: u64 = 60_000;
/// Bytes of entries that are read at a time while a log is folded again.
const REFOLD_BYTES: usize = 1 << 20;

/// Which thoughts are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Of that session.
    pub session: Option<String>,
    /// Of that author: id, start of an id, or name.
    pub author: Option<String>,
    /// Not older than that: milliseconds since the Unix epoch, as their authors wrote them.
    pub since: Option<u64>,
    /// Whose content has all those words.
    pub search: Option<String>,
    /// The newest of them, so many.
    pub limit: Option<u32>,
}

/// Which thought is to be explained.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explained {
    /// Whose: id, start of an id, or name. The node's own where it is missing.
    pub author: Option<String>,
    /// Which; the last where it is missing.
    pub seq: Option<u64>,
}

/// The accepted thoughts that are wanted, the oldest first.
///
/// # Errors
/// Where nobody or more than one is meant by the author, the session can't be one, or the store can't be read.
pub async fn thoughts(handle: &Handle, wanted: Wanted) -> Result<Vec<json::Thought>, Fault> {
    let known = handle.known().await?;
    let query = query(&known, wanted)?;
    let rows = read(handle, move |store| store.thoughts(&query)).await?;
    Ok(rows.into_iter().map(|row| thought(&known, row)).collect())
}

fn query(known: &Known, wanted: Wanted) -> Result<ThoughtQuery, Fault> {
    let limit = wanted.limit.unwrap_or_else(|| ThoughtQuery::default().limit);
    if limit == 0 || limit > THOUGHTS_MAX {
        return Err(Fault::bad_request("bad_limit", format!("a limit is 1 to {THOUGHTS_MAX}, not {limit}")));
    }
    let session = wanted.session.as_deref().map(SessionName::new).transpose();
    let session = session.map_err(|fault| Fault::bad_request("bad_session", fault.to_string()))?;
    let author = wanted.author.map(|meant| views::find_author(known, &meant)).transpose()?;
    let search = wanted.search.as_deref().map(str::parse::<SearchWords>).transpose();
    let search = search.map_err(|fault| Fault::bad_request("bad_search", fault.to_string()))?;
    Ok(ThoughtQuery { session, author, since: wanted.since.map(Millis), search, limit })
}

fn thought(known: &Known, row: ThoughtRow) -> json::Thought {
    json::Thought {
        author: row.author.to_text(),
        name: name_of(known, row.author),
        seq: row.seq.0,
        time_ms: row.time.0,
        session: row.session.to_string(),
        mode: row.mode.name().to_owned(),
        content: row.content,
        coherence_ppm: row.coherence.0,
        weight_ppm: row.weight.0,
        reward_uatp: row.reward.0,
        economic_value_ppm: economic_value(row.coherence, row.weight).0,
        received_ms: row.received.0,
    }
}

fn name_of(known: &Known, author: NodeId) -> String {
    known.authors.get(&author).map_or_else(|| author.short(), |author| author.name.clone())
}

/// Every session of the corpus, by name.
///
/// # Errors
/// Where the store can't be read.
pub async fn all_sessions(handle: &Handle) -> Result<Vec<json::Session>, Fault> {
    let sessions = read(handle, |store| store.sessions()).await?;
    let session = |(name, session): (String, crate::ledger::economy::Session)| json::Session {
        session: name,
        thoughts: session.thoughts,
        participants: session.participants.into_iter().collect(),
        modes: session.modes,
        hardware: session.hardware,
        collective_coherence_ppm: session.collective_coherence.0,
    };
    Ok(sessions.into_iter().map(session).collect())
}

/// The balances of the federation in a few numbers.
///
/// # Errors
/// Where the store can't be read.
pub async fn federation_economics(handle: &Handle) -> Result<json::Economics, Fault> {
    let known = handle.known().await?;
    let uptime_ms = u64::try_from(handle.uptime().as_millis()).unwrap_or(u64::MAX);
    let span_ms = uptime_ms.clamp(RATES_MS_MIN, RATES_MS_MAX);
    let since = Millis(views::now().0.saturating_sub(span_ms));
    let Rates { rewards, penalties } = read(handle, move |store| store.rates(since)).await?;
    let balances: Vec<MicroAtp> = known.authors.values().map(|author| author.book.account.balance).collect();
    let numbers = economics(&balances);
    Ok(json::Economics {
        total_uatp: numbers.total.0,
        mean_uatp: numbers.mean.0,
        min_uatp: numbers.min.0,
        max_uatp: numbers.max.0,
        gini_ppm: numbers.gini.0,
        nodes: balances.len(),
        balances: views::balances(&known),
        rewards_per_min_ppm: per_minute_ppm(rewards, span_ms),
        penalties_per_min_ppm: per_minute_ppm(penalties, span_ms),
    })
}

/// Why a thought got its verdict: its author's log is folded again up to it, and the layers tell what they saw.
///
/// # Errors
/// Where there is no such author or entry, the entry is no thought, or the store can't be read.
pub async fn explain(handle: &Handle, wanted: Explained) -> Result<json::Explanation, Fault> {
    let known = handle.known().await?;
    let author = match wanted.author {
        Some(meant) => views::find_author(&known, &meant)?,
        None => handle.about().id,
    };
    let last = known.authors.get(&author).map_or(Seq::GENESIS, |known| known.book.seq());
    let seq = wanted.seq.map_or(last, Seq);
    if seq > last {
        let message = format!("the log ends at entry {last}; there is no entry {seq}");
        return Err(Fault::not_found("entry_unknown", message));
    }
    if seq == Seq::GENESIS && wanted.seq.is_none() {
        return Err(Fault::not_found("no_thoughts", "this author has published no thought yet"));
    }
    if seq == Seq::GENESIS {
        let message = "entry 0 opens the log; thoughts begin at entry 1";
        return Err(Fault::bad_request("not_a_thought", message));
    }
    let policy = handle.about().policy.clone();
    let name = name_of(&known, author);
    let refolded = read(handle, move |store| refold(store, &policy, author, seq)).await?;
    let case = refolded.ok_or_else(|| Fault::internal("the stored log is damaged before that entry"))?;
    Ok(explanation(name, author, seq, case))
}

/// A thought, what the fold said of it, and what its author's account held afterwards.
struct Case {
    time: Millis,
    thought: Thought,
    outcome: Outcome,
    reports: [LayerReport; 9],
    after: Account,
    weight_ppm: u32,
}

/// `None` where the stored log is damaged.
fn refold(store: &dyn Store, policy: &Policy, author: NodeId, seq: Seq) -> Result<Option<Case>, StoreError> {
    let mut account = None;
    let mut next = Seq::GENESIS;
    loop {
        let stored = store.entries(author, next, REFOLD_BYTES)?;
        if stored.is_empty() {
            return Ok(None);
        }
        for entry in &stored {
            let Some(header) = parse(entry, next) else {
                return Ok(None);
            };
            match (header.body, &mut account) {
                (Body::Genesis(genesis), None) => {
                    account = Some(Account::open(policy, genesis.level, header.time));
                }
                (Body::Thought(thought), Some(account)) if next == seq => {
                    return Ok(case(policy, account.clone(), header.time, thought));
                }
                (Body::Thought(thought), Some(account)) => {
                    if fold(policy, account, &facts(header.time, &thought)).is_err() {
                        return Ok(None);
                    }
                }
                (Body::Genesis(_), Some(_)) | (Body::Thought(_), None) => return Ok(None),
            }
            next = next.next();
        }
    }
}

fn parse(entry: &StoredEntry, seq: Seq) -> Option<Header> {
    Header::parse(&entry.header).ok().filter(|header| header.seq == seq)
}

const fn facts(time: Millis, thought: &Thought) -> Facts {
    Facts { time, content_bytes: thought.content_bytes, features: thought.features }
}

fn case(policy: &Policy, before: Account, time: Millis, thought: Thought) -> Option<Case> {
    let facts = facts(time, &thought);
    let (outcome, reports) = layers::explain(policy, &before, &facts).ok()?;
    let mut after = before;
    fold(policy, &mut after, &facts).ok()?;
    let weight_ppm = after.weight(policy).0;
    Some(Case { time, thought, outcome, reports, after, weight_ppm })
}

fn explanation(name: String, author: NodeId, seq: Seq, case: Case) -> json::Explanation {
    let (verdict, layer) = submit::verdict(case.outcome.verdict);
    json::Explanation {
        author: author.to_text(),
        name,
        seq: seq.0,
        time_ms: case.time.0,
        session: case.thought.session.to_string(),
        mode: case.thought.mode.name().to_owned(),
        verdict: verdict.to_owned(),
        layer: layer.map(str::to_owned),
        coherence_ppm: case.outcome.coherence.0,
        delta_uatp: case.outcome.delta.0,
        balance_uatp: case.after.balance.0,
        trust_ppm: case.after.trust.0,
        weight_ppm: case.weight_ppm,
        layers: case.reports.into_iter().map(self::layer).collect(),
    }
}

fn layer(report: LayerReport) -> json::Layer {
    // Every number that the ledger knows fits; a larger one would be shown as the largest.
    let narrow = |wide: i128| i64::try_from(wide).unwrap_or(i64::MAX);
    json::Layer {
        number: report.layer.number(),
        layer: report.layer.name().to_owned(),
        inputs: report.inputs.into_iter().map(|(name, value)| (name.to_owned(), narrow(value))).collect(),
        threshold: report.threshold.map(narrow),
        outcome: report.effect.name().to_owned(),
        delta_uatp: report.delta.0,
        delta_trust_ppm: report.delta_trust_ppm,
        sentence: report.sentence,
    }
}

async fn read<T: Send + 'static>(
    handle: &Handle,
    question: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Fault> {
    let store: Arc<dyn Store> = handle.store();
    match spawn_blocking(move || question(&*store)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Fault::internal(format!("the store can't be read: {error}"))),
        Err(_) => Err(Fault::internal("reading the store failed; the node's log says more")),
    }
}
