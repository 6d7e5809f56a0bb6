//! `cogmesh replay`: what these rules would have done with these thoughts, so that a policy can be tuned on real ones.
//! Source: ledger.md, `cogmesh replay`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;

use super::exit::Failure;
use crate::ledger::{
    Account, Facts, Outcome, Policy, Verdict, fold, measure,
    types::{Level, Millis},
};

/// Longest line, in bytes: a content at the policy's upper bound with every byte escaped, and its frame.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Most authors; each has an account of up to 2 KiB.
const AUTHORS_MAX: usize = 1_000_000;

/// Longest policy file: far above every key with a comment, and what is named by mistake is not read to its end.
const POLICY_BYTES_MAX: u64 = 64 * 1024;

/// Folds thoughts under a policy and prints what became of each.
///
/// Reads JSON lines `{"author": …, "level": 1-5 (default 4), "time_ms": …, "content": …}` and prints one JSON object a
/// line. An author's first line opens its account at that line's time. Nothing is recorded, and no node is needed.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// File with the thoughts; `-` or nothing for standard input
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Policy file (TOML); without it the default rules
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// Runs the command on standard output.
///
/// # Errors
/// Where a file can't be read, a line is not as it should be, or the output can't be written.
pub fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let policy = match &args.policy {
        Some(path) => read_policy(path)?,
        None => Policy::default(),
    };
    let out = BufWriter::new(io::stdout().lock());
    match args.file.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("can't open `{}`", path.display()))?;
            replay(BufReader::new(file), out, &policy)
        }
        None => replay(io::stdin().lock(), out, &policy),
    }
}

/// A policy from its file.
///
/// # Errors
/// Where it can't be read or holds something else than a policy; the error names the file and the key.
pub fn read_policy(path: &Path) -> anyhow::Result<Policy> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(POLICY_BYTES_MAX + 1).read_to_string(&mut text))
        .with_context(|| format!("can't read the policy file `{shown}`"))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > POLICY_BYTES_MAX {
        let message = format!("the policy file `{shown}` is longer than {POLICY_BYTES_MAX} bytes");
        return Err(Failure::usage(message).into());
    }
    Policy::from_toml(&text).map_err(|error| {
        let hint = "the rules and their ranges are told in `docs/ledger.md`; keys that are left out keep their defaults";
        Failure::usage(format!("the policy file `{shown}` can't be used: {error}")).hint(hint).into()
    })
}

/// Folds every line of `input` and writes its row to `out`.
///
/// # Errors
/// For the first line that is no thought, with its number; rows of the lines before it are written.
pub fn replay(mut input: impl BufRead, mut out: impl Write, policy: &Policy) -> anyhow::Result<()> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    let mut line = vec![];
    for number in 1_u64.. {
        line.clear();
        let read = (&mut input)
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut line)
            .context("can't read the thoughts")?;
        if read == 0 {
            break;
        }
        if line.len() > usize::try_from(LINE_BYTES_MAX).unwrap_or(usize::MAX) {
            bail!("line {number} is longer than {LINE_BYTES_MAX} bytes");
        }
        let text = std::str::from_utf8(&line).with_context(|| format!("line {number} is not UTF-8"))?;
        if text.trim().is_empty() {
            continue;
        }
        let thought: Thought =
            serde_json::from_str(text).with_context(|| format!("line {number} is not a thought"))?;
        let level = Level::try_from(thought.level).with_context(|| format!("line {number}"))?;
        if accounts.len() >= AUTHORS_MAX && !accounts.contains_key(&thought.author) {
            bail!("line {number} brings more than {AUTHORS_MAX} authors");
        }
        let time = Millis(thought.time_ms);
        let account =
            accounts.entry(thought.author.clone()).or_insert_with(|| Account::open(policy, level, time));
        let row = row(policy, account, &thought, time)?;
        writeln!(out, "{row}")?;
    }
    Ok(out.flush()?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Thought {
    author: String,
    #[serde(default = "default_level")]
    level: u8,
    time_ms: u64,
    content: String,
}

const fn default_level() -> u8 {
    4
}

fn row(policy: &Policy, account: &mut Account, thought: &Thought, time: Millis) -> anyhow::Result<String> {
    let content_bytes = u32::try_from(thought.content.len()).unwrap_or(u32::MAX);
    let facts = Facts { time, content_bytes, features: measure(&thought.content) };
    let author = serde_json::to_string(&thought.author)?;
    let folded = fold(policy, account, &facts);
    let (balance, frozen) = (account.balance.0, account.frozen_until.0);
    let (seq, trust) = (account.seq, account.trust.0);
    // Keys are sorted, and spaced as the vectors have them.
    Ok(match folded {
        Err(_) => format!(
            r#"{{"author": {author}, "balance_uatp": {balance}, "delta_uatp": 0, "frozen_until_ms": {frozen}, "layer": null, "seq": {seq}, "trust_ppm": {trust}, "verdict": "inadmissible"}}"#
        ),
        Ok(Outcome { verdict, coherence, delta, weight }) => {
            let (verdict, layer) = match verdict {
                Verdict::Accepted { .. } => ("accepted", "null".to_owned()),
                Verdict::Rejected { by, .. } => ("rejected", format!("\"{}\"", by.name())),
            };
            let (coherence, delta, weight, limit) = (coherence.0, delta.0, weight.0, account.window_limit);
            format!(
                r#"{{"author": {author}, "balance_uatp": {balance}, "coherence_ppm": {coherence}, "delta_uatp": {delta}, "frozen_until_ms": {frozen}, "layer": {layer}, "limit": {limit}, "seq": {seq}, "trust_ppm": {trust}, "verdict": "{verdict}", "weight_ppm": {weight}}}"#
            )
        }
    })
}
