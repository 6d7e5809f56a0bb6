//! The four scenarios of the Session 176 plan.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    sync::broadcast,
    task::{JoinSet, spawn_blocking},
    time::{Instant, timeout_at},
};

use super::{
    DemoArgs,
    lab::{Lab, PATIENCE, books, next_event, submit},
    report::Report,
};
use crate::{
    ledger::{
        economy,
        fold::Verdict,
        policy::Policy,
        types::{MicroAtp, Ppm, Seq},
    },
    log::{NodeId, books::Recorded},
    node::Handle,
    protocol::{
        event::Event,
        view::{PeerState, View},
    },
    store::ThoughtQuery,
};

/// Where each of [`CAST`] stands.
const LEGION: usize = 0;
const THOR: usize = 1;
const SPROUT: usize = 2;
/// Submitters that work at once on each node in the load scenario.
const SUBMITTERS: u32 = 4;

const QUALITY: [&str; 5] = [
    "What emerges when economic incentives align with epistemic quality across distributed machines that remember?",
    "Signed logs let every machine recompute balances alone, so agreement needs neither leader nor voting rounds.",
    "Attention costs energy; rewarding coherent reasoning makes careful exploration cheaper than careless noise.",
    "Hardware anchors identity while reputation grows slowly, therefore patience outperforms sudden bursts of output.",
    "Catching up after absence should feel boring: compare heads, request missing segments, verify, continue working.",
];
const SPAM: &str = "spam spam spam spam spam spam";

/// Runs all four and puts down what they show.
pub(super) async fn run(args: &DemoArgs, report: &mut Report) -> anyhow::Result<()> {
    let dir = tempfile::tempdir().context("can't make a temporary directory")?;
    say("starting legion, thor and sprout (each makes its key and its proof of work)");
    let mut lab = Lab::start("demo", Policy::default(), dir.path()).await?;
    meet(&lab, report).await?;
    say("1 of 4: basic federation");
    basic_federation(&lab, report).await?;
    say("2 of 4: quality selection");
    quality_selection(&lab, report).await?;
    say("3 of 4: resilience");
    resilience(&mut lab, report).await?;
    economics(&lab, report).await?;
    lab.stop_all().await?;
    say("4 of 4: load");
    load(args, dir.path(), report).await
}

async fn meet(lab: &Lab, report: &mut Report) -> anyhow::Result<()> {
    let all = [LEGION, THOR, SPROUT];
    let taken = lab.meet(&all).await?;
    let mut links = 0;
    let mut probes = vec![];
    for node in &lab.nodes {
        for peer in node.view().await?.peers {
            if let PeerState::Verified(verified) = peer.state {
                links += 1;
                probes.push(node.probe(verified.link, 64).await?);
            }
        }
    }
    let measured = format!("{links} of 6 after {} ms", taken.as_millis());
    report.check("connected and verified", links == 6, measured, "6 verified ends of 3 links");
    let slowest = probes.iter().max().copied().unwrap_or_default();
    let measured = format!("{} us, slowest of {}", slowest.as_micros(), probes.len());
    report.check("round trip on a probe stream", slowest < Duration::from_secs(1), measured, "< 1 s");
    Ok(())
}

/// Each node's thought reaches both others, with its economic data.
async fn basic_federation(lab: &Lab, report: &mut Report) -> anyhow::Result<()> {
    let mut sent: Vec<Sent> = vec![];
    for (node, content) in lab.nodes.iter().zip(QUALITY) {
        let recorded = submit(node, content.to_owned()).await?;
        sent.push((node.about().id, content, recorded));
    }
    lab.agree(&[LEGION, THOR, SPROUT]).await?;
    let mut delivered = 0;
    for node in &lab.nodes {
        let others: Vec<&Sent> = sent.iter().filter(|(author, ..)| *author != node.about().id).collect();
        delivered += arrived(node, &others).await?;
    }
    let measured = format!("{delivered} of 6");
    report.check("basic federation: delivered with economic data", delivered == 6, measured, "6 directions");
    Ok(())
}

/// A thought that was submitted: its author, its content, what it was answered.
type Sent = (NodeId, &'static str, Recorded);

/// How many of those thoughts stand in a node's corpus with their economic data, once all do or patience ends.
async fn arrived(node: &Handle, wanted: &[&Sent]) -> anyhow::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut commits = node.commits();
    loop {
        commits.borrow_and_update();
        let store = node.store();
        let rows = spawn_blocking(move || store.thoughts(&ThoughtQuery::default())).await??;
        let stands = |(author, content, recorded): &&&Sent| {
            rows.iter().any(|row| {
                row.author == *author
                    && row.content == *content
                    && row.seq == recorded.seq
                    && row.coherence == recorded.coherence
                    && row.reward == recorded.delta
                    && row.weight > Ppm::ZERO
            })
        };
        let count = wanted.iter().filter(stands).count();
        if count == wanted.len() || timeout_at(deadline, commits.changed()).await.is_err() {
            return Ok(count);
        }
    }
}

/// Good thinking is worth more than noise.
async fn quality_selection(lab: &Lab, report: &mut Report) -> anyhow::Result<()> {
    let legion = lab.node(LEGION)?;
    let mut earned = vec![];
    for content in QUALITY.iter().skip(3) {
        earned.push(submit(legion, (*content).to_owned()).await?.delta);
    }
    let each = MicroAtp::from_atp(1)..=MicroAtp::from_atp(2);
    let measured = earned.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let good = earned.iter().all(|delta| each.contains(delta));
    report.check("quality selection: two quality thoughts earn", good, measured + " ATP", "1 to 2 ATP each");
    let spam = submit(lab.node(SPROUT)?, SPAM.to_owned()).await?;
    let rejected = matches!(spam.verdict, Verdict::Rejected { .. });
    let fits = rejected && spam.delta == MicroAtp::from_atp(-3);
    report.check("quality selection: spam costs", fits, format!("{} ATP", spam.delta), "-3 ATP");
    lab.agree(&[LEGION, THOR, SPROUT]).await?;
    Ok(())
}

/// One node goes; the others go on; it returns and catches up.
async fn resilience(lab: &mut Lab, report: &mut Report) -> anyhow::Result<()> {
    let before = lab.node(THOR)?.view().await?;
    lab.stop(THOR).await?;
    for (index, topic) in [(LEGION, 1), (SPROUT, 2), (LEGION, 3)] {
        submit(lab.node(index)?, thought(topic, 7)).await?;
    }
    let taken = lab.agree(&[LEGION, SPROUT]).await?;
    let exchanged = gained(&before, &lab.node(SPROUT)?.view().await?);
    let measured = format!("{exchanged} thoughts exchanged in {} ms", taken.as_millis());
    report.check("resilience: the others go on", exchanged == 3, measured, "3 while thor is away");
    let started = Instant::now();
    lab.start_again(THOR).await?;
    let kept = lab.node(THOR)?.view().await?;
    let held = books(&before)
        .iter()
        .all(|line| kept.known.authors.get(&line.author).is_some_and(|author| author.book.seq() >= line.seq));
    report.check(
        "resilience: thor kept its books",
        held,
        format!("{} authors", before.known.authors.len()),
        "all",
    );
    lab.meet(&[LEGION, THOR, SPROUT]).await?;
    lab.agree(&[LEGION, THOR, SPROUT]).await?;
    let caught_up = gained(&before, &lab.node(THOR)?.view().await?);
    let measured = format!("{caught_up} of 3 thoughts, {} ms after its start", started.elapsed().as_millis());
    report.check("resilience: thor returns and catches up", caught_up == 3, measured, "all that it missed");
    Ok(())
}

/// How many entries a view has beyond an earlier one.
fn gained(before: &View, now: &View) -> u64 {
    let entries = |view: &View| books(view).iter().map(|line| line.seq.0).sum::<u64>();
    entries(now).saturating_sub(entries(before))
}

/// The balances are equal everywhere, and not too unequal between authors.
async fn economics(lab: &Lab, report: &mut Report) -> anyhow::Result<()> {
    let equal = lab.same_books(&[LEGION, THOR, SPROUT]).await?;
    let view = lab.node(LEGION)?.view().await?;
    let balances: Vec<MicroAtp> = books(&view).iter().map(|line| line.balance).collect();
    let shown: Vec<String> = balances.iter().map(ToString::to_string).collect();
    report.check(
        "balances equal everywhere",
        equal,
        shown.join(", ") + " ATP",
        "same seq, hash, balance, digest",
    );
    let gini = economy::gini(&balances);
    report.check("Gini coefficient", gini < Ppm(200_000), gini.to_string(), "< 0.2");
    Ok(())
}

/// A delivery: on which node, of which author's entry, when.
type Delivery = (usize, NodeId, Seq, Instant);

/// All three submit at once, under rules that allow it.
async fn load(args: &DemoArgs, dir: &std::path::Path, report: &mut Report) -> anyhow::Result<()> {
    let policy = Policy { pow_bits: 8, rate_base: 1_000_000, ..Policy::default() };
    let lab = Lab::start("demo-load", policy, dir).await?;
    let all = [LEGION, THOR, SPROUT];
    lab.meet(&all).await?;
    lab.agree(&all).await?;
    let total = u64::from(args.load) * 3;
    let started = Instant::now();
    let mut watchers = JoinSet::new();
    for (index, node) in lab.nodes.iter().enumerate() {
        watchers.spawn(watch(index, node.about().id, node.events(), u64::from(args.load) * 2));
    }
    let mut submitters = JoinSet::new();
    for (index, node) in (0_u32..).zip(&lab.nodes) {
        for worker in 0..SUBMITTERS {
            let share = args.load / SUBMITTERS + u32::from(worker < args.load % SUBMITTERS);
            let salt = index * SUBMITTERS + worker;
            submitters.spawn(submit_many(node.clone(), salt, share));
        }
    }
    let mut sent = BTreeMap::new();
    let mut accepted = 0_u64;
    while let Some(done) = submitters.join_next().await {
        for (author, seq, at, was_accepted) in done?? {
            sent.insert((author, seq), at);
            accepted += u64::from(was_accepted);
        }
    }
    let mut deliveries: Vec<Delivery> = vec![];
    while let Some(done) = watchers.join_next().await {
        deliveries.extend(done??);
    }
    let taken = started.elapsed();
    judge_load(report, &sent, accepted, &deliveries, total)?;
    report.throughput(total, taken);
    lab.agree(&all).await?;
    let equal = lab.same_books(&all).await?;
    report.check(
        "load: identical books",
        equal,
        format!("{total} entries"),
        "same seq, hash, balance, digest",
    );
    lab.stop_all().await
}

fn judge_load(
    report: &mut Report,
    sent: &BTreeMap<(NodeId, Seq), Instant>,
    accepted: u64,
    deliveries: &[Delivery],
    total: u64,
) -> anyhow::Result<()> {
    let mut taken = vec![];
    let mut last: BTreeMap<(usize, NodeId), Seq> = BTreeMap::new();
    let mut in_order = true;
    for (receiver, author, seq, at) in deliveries {
        if let Some(submitted) = sent.get(&(*author, *seq)) {
            taken.push(at.saturating_duration_since(*submitted));
        }
        let before = last.insert((*receiver, *author), *seq);
        in_order &= before.is_none_or(|before| before.next() == *seq);
    }
    let wanted = usize::try_from(total).unwrap_or(usize::MAX).saturating_mul(2);
    let measured = format!("{} of {wanted} deliveries, {accepted} of {total} accepted", taken.len());
    report.check(
        "load: none lost",
        taken.len() == wanted && accepted == total,
        measured,
        "every thought on both others",
    );
    report.check("load: order of each author", in_order, format!("{} logs", last.len()), "no gap, no swap");
    report.latencies(&taken)
}

/// Notes others' thoughts as they reach that node's books, until `count` have.
async fn watch(
    index: usize,
    own: NodeId,
    mut events: broadcast::Receiver<Arc<Event>>,
    count: u64,
) -> anyhow::Result<Vec<Delivery>> {
    let mut deliveries = vec![];
    let mut left = count;
    while left > 0 {
        let event = next_event(&mut events, Instant::now() + PATIENCE).await?;
        if let Event::Entry(entry) = &*event
            && entry.author != own
            && entry.verdict.is_some()
        {
            deliveries.push((index, entry.author, entry.seq, Instant::now()));
            left -= 1;
        }
    }
    Ok(deliveries)
}

async fn submit_many(
    node: Handle,
    salt: u32,
    count: u32,
) -> anyhow::Result<Vec<(NodeId, Seq, Instant, bool)>> {
    let mut sent = vec![];
    for number in 0..count {
        let at = Instant::now();
        let recorded = submit(&node, thought(salt, number)).await?;
        let accepted = matches!(recorded.verdict, Verdict::Accepted { .. });
        sent.push((node.about().id, recorded.seq, at, accepted));
    }
    Ok(sent)
}

/// A thought that no other one repeats: its words spell its numbers.
fn thought(salt: u32, number: u32) -> String {
    let tag = spell(u64::from(salt) << 32 | u64::from(number));
    format!(
        "Observation {tag} compares measured latency against predicted budgets, noticing where careful batching \
         preserves ordering while federated machines continue sharing evidence"
    )
}

fn spell(mut number: u64) -> String {
    let mut letters = String::from("tag");
    loop {
        let letter = u8::try_from(number % 26).unwrap_or(0);
        letters.push(char::from(b'a' + letter));
        number /= 26;
        if number == 0 {
            return letters;
        }
    }
}

fn say(what: &str) {
    tracing::info!(target: "demo", "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::coherence::measure;

    #[test]
    fn the_casts_thoughts_are_good_and_no_two_of_the_load_are_alike() {
        let policy = Policy::default();
        for content in QUALITY {
            assert!(measure(content).coherence() >= policy.reward_threshold_ppm, "{content}");
        }
        assert!(measure(SPAM).coherence() < policy.coherence_min_ppm);
        let some: std::collections::BTreeSet<_> = (0..50)
            .flat_map(|salt| (0..50).map(move |number| measure(&thought(salt, number)).fingerprint))
            .collect();
        assert_eq!(some.len(), 2_500);
    }
}
