//! `cogmesh audit`: whether everything that is stored is what it must be.

use std::{fmt::Write, path::Path, process::ExitCode};

use serde::Serialize;

use super::{
    Out,
    exit::Exit,
    progress::Progress,
    show::{escaped, fields},
};
use crate::{
    node::STORE_FILE,
    store::{self, AuditReport, CopyError},
};

/// What `audit` prints.
#[derive(Clone, Debug, Serialize)]
struct Audited {
    authors: u64,
    entries: u64,
    signatures: u64,
    contents: u64,
    contents_absent: u64,
    missing: u64,
    mismatches: Vec<Found>,
    /// How many there are beyond those that are listed.
    mismatches_more: u64,
    ok: bool,
}

/// One thing that is not what it must be.
#[derive(Clone, Debug, Serialize)]
struct Found {
    author: Option<String>,
    seq: Option<u64>,
    what: String,
}

/// Audits the store of that data directory. Its node may run.
///
/// # Errors
/// Where there is no store, it can't be read, or the output can't be written. What does not agree is no error, but the exit code
/// tells it.
pub fn run(data_dir: &Path, mut out: Out) -> anyhow::Result<ExitCode> {
    let path = data_dir.join(STORE_FILE);
    if !path.exists() {
        return Err(CopyError::NoStore { path }.into());
    }
    let progress = Progress::new("auditing");
    let report = store::audit(&path, &|at| progress.at(at.entries_done, at.entries_total))?;
    drop(progress);
    let audited = audited(report);
    out.one(&audited, text)?;
    Ok(if audited.ok { Exit::Done } else { Exit::Failed }.into())
}

fn audited(report: AuditReport) -> Audited {
    let ok = report.mismatches.is_empty() && report.mismatches_more == 0;
    let mismatches = report.mismatches.into_iter().map(|mismatch| Found {
        author: mismatch.author.map(|author| author.to_text()),
        seq: mismatch.seq.map(|seq| seq.0),
        what: mismatch.what,
    });
    Audited {
        authors: report.authors,
        entries: report.entries,
        signatures: report.signatures,
        contents: report.contents,
        contents_absent: report.contents_absent,
        missing: report.missing,
        mismatches: mismatches.collect(),
        mismatches_more: report.mismatches_more,
        ok,
    }
}

fn text(audited: &Audited) -> String {
    let mut text = fields(&[
        ("authors", audited.authors.to_string()),
        ("entries", audited.entries.to_string()),
        ("signatures", audited.signatures.to_string()),
        ("contents", format!("{}, and {} that are not kept", audited.contents, audited.contents_absent)),
        ("missing", format!("{}; a running node fetches them again", audited.missing)),
    ]);
    for found in &audited.mismatches {
        let place = match (&found.author, found.seq) {
            (Some(author), Some(seq)) => format!("entry {seq} of {author}: "),
            (Some(author), None) => format!("{author}: "),
            (None, _) => String::new(),
        };
        // Writing to a string can't fail.
        let _infallible = writeln!(text, "mismatch: {}", escaped(&format!("{place}{}", found.what)));
    }
    if audited.mismatches_more > 0 {
        let _infallible = writeln!(text, "and {} more", audited.mismatches_more);
    }
    text.push_str(if audited.ok {
        "every balance, hash and signature agrees\n"
    } else {
        "the store is damaged: start the node, which fetches again what its peers have, or restore a backup\n"
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::types::Seq, log::NodeId, store::Mismatch};

    #[test]
    fn what_does_not_agree_is_listed_and_nothing_of_it_is_raw() {
        let author = Some(NodeId::from_stored([1; 32]));
        let mismatch = |author, seq, what: &str| Mismatch { author, seq, what: what.to_owned() };
        let report = AuditReport {
            mismatches: vec![
                mismatch(author, Some(Seq(4)), "the \u{1b}[2J hash"),
                mismatch(author, None, "the balance"),
                mismatch(None, None, "a page"),
            ],
            mismatches_more: 2,
            ..AuditReport::default()
        };
        let audited = audited(report);
        assert!(!audited.ok);
        let text = text(&audited);
        for part in ["entry 4 of", "\\u{1b}[2J", "mismatch: a page\nand 2 more\n", "damaged"] {
            assert!(text.contains(part), "`{part}` is not in {text}");
        }
        assert!(self::audited(AuditReport::default()).ok);
    }
}
