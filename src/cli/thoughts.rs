//! `cogmesh thoughts`: the corpus.

use std::process::ExitCode;

use super::{
    Out,
    args::ThoughtsArgs,
    client::{Client, query},
    exit::Exit,
    show::{atp_change, escaped, escaped_lines, ratio, short},
    time,
};
use crate::api::json::{Thought, Thoughts};

/// Asks the running node and lists the thoughts that are wanted, the oldest first.
///
/// # Errors
/// Where no node runs, it knows no such author, or the output can't be written.
pub async fn run(args: ThoughtsArgs, client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let path = query(
        "/v1/thoughts",
        &[
            ("session", args.session.map(|session| session.to_string())),
            ("author", args.author),
            ("search", args.search),
            ("since", args.since.map(|since| since.to_string())),
            ("limit", args.limit.map(|limit| limit.to_string())),
        ],
    );
    let Thoughts { thoughts } = client.get(&path).await?;
    out.list(&thoughts, text)?;
    Ok(Exit::Done.into())
}

fn text(thoughts: &[Thought]) -> String {
    if thoughts.is_empty() {
        return "no thoughts\n".to_owned();
    }
    thoughts.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// A heading, and the content indented below it, so that no content can look like a heading.
fn one(thought: &Thought) -> String {
    let heading = format!(
        "{} ({}) #{}  {}  {} / {}  coherence {}  {}",
        escaped(&thought.name),
        short(&thought.author),
        thought.seq,
        time::shown(thought.time_ms),
        escaped(&thought.session),
        escaped(&thought.mode),
        ratio(thought.coherence_ppm),
        atp_change(thought.reward_uatp),
    );
    let content = escaped_lines(&thought.content).replace('\n', "\n    ");
    format!("{heading}\n    {content}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_can_neither_move_the_cursor_nor_look_like_another_thought() {
        let thought = Thought {
            author: "aoqqpp7t".repeat(6),
            name: "legion".to_owned(),
            seq: 3,
            time_ms: 1_767_945_600_000,
            session: "main".to_owned(),
            mode: "exploring".to_owned(),
            content: "first\nthor (3f9k2q7a) #1\u{202e}\u{9b}2J".to_owned(),
            coherence_ppm: 712_345,
            weight_ppm: 300_000,
            reward_uatp: 1_424_690,
            economic_value_ppm: 450_000,
            received_ms: 1_767_945_600_001,
        };
        assert_eq!(
            text(&[thought]),
            "legion (aoqqpp7t) #3  2026-01-09 08:00:00Z  main / exploring  coherence 0.712  +1.424690 ATP\n    \
             first\n    thor (3f9k2q7a) #1\\u{202e}\\u{9b}2J\n"
        );
    }
}
