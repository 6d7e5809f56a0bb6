//! `start --interactive`: commands on standard input of the running node.

use std::{
    io::{self, BufRead, Read, Write},
    thread,
};

use anyhow::Context;
use tokio::sync::mpsc;

use super::{
    Out, peers,
    show::{escaped, fields},
    status, submit,
};
use crate::{
    api::{
        error::Fault,
        json,
        submit::{MODE_DEFAULT, SESSION_DEFAULT},
        views,
    },
    node::{Handle, NodeGone},
};

/// Longest line: a content of the longest length that any policy allows, and room for the command.
const LINE_BYTES_MAX: usize = 2 * 65_536;
/// Lines that are read ahead.
const LINES_MAX: usize = 16;

const HELP: &str = "\
submit TEXT  submit a thought
status       what this node is and knows
metrics      how often what happened
peers        nodes that are linked or were heard of
help         this list
quit         stop the node (so does the end of input)
";

/// A line of input, or why it can't be one.
type Line = Result<String, String>;

/// Reads and does commands until `quit` or the end of input.
///
/// # Errors
/// Where results can't be written.
///
/// # Cancel safety
/// The command that is being done may still take effect; lines that were read ahead are lost.
pub async fn run(handle: &Handle, out: &mut Out) -> anyhow::Result<()> {
    let mut lines = read_lines().context("can't read standard input")?;
    while let Some(line) = lines.recv().await {
        let line = match line {
            Ok(line) => line,
            Err(why) => {
                complain(&why);
                continue;
            }
        };
        let (command, rest) =
            line.trim().split_once(char::is_whitespace).unwrap_or_else(|| (line.trim(), ""));
        match command {
            "" => {}
            "quit" => return Ok(()),
            _ => obey(handle, command, rest.trim(), out).await?,
        }
    }
    Ok(())
}

async fn obey(handle: &Handle, command: &str, rest: &str, out: &mut Out) -> anyhow::Result<()> {
    match command {
        "submit" if rest.is_empty() => complain("nothing to submit; write the thought after `submit`"),
        "submit" => match crate::api::submit::submit(handle, thought(rest)).await {
            Ok(submitted) => out.one(&submitted, submit::text)?,
            Err(fault) => complain_of(&fault),
        },
        "status" => match views::status(handle).await {
            Ok(now) => out.one(&now, status::text)?,
            Err(gone) => complain_of(&gone.into()),
        },
        "peers" => match linked(handle).await {
            Ok(linked) => out.list(&linked, peers::text)?,
            Err(gone) => complain_of(&gone.into()),
        },
        "metrics" => out.one(&handle.counters(), |counters| {
            let lines: Vec<(&str, String)> =
                counters.iter().map(|(name, count)| (name.as_str(), count.to_string())).collect();
            fields(&lines)
        })?,
        "help" => out.text(HELP)?,
        unknown => complain(&format!("unknown command `{unknown}`; `help` lists what there is")),
    }
    Ok(())
}

fn thought(content: &str) -> json::Submit {
    json::Submit {
        content: content.to_owned(),
        session: Some(SESSION_DEFAULT.to_owned()),
        mode: Some(MODE_DEFAULT.name().to_owned()),
        key: None,
        dry_run: false,
    }
}

async fn linked(handle: &Handle) -> Result<Vec<json::Peer>, NodeGone> {
    let view = handle.view().await?;
    Ok(views::peers(handle, &view))
}

fn complain_of(fault: &Fault) {
    complain(fault.message());
}

fn complain(why: &str) {
    // A node whose standard error is closed still runs.
    let _unheard = writeln!(io::stderr().lock(), "error: {}", escaped(why));
}

/// A thread reads, because a read of a terminal can't be called off; it ends with the input or the process.
fn read_lines() -> io::Result<mpsc::Receiver<Line>> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = read_line(&mut input) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(lines)
}

/// The next line without its end; `None` at the end of input. A line that is too long is read over.
fn read_line(input: &mut impl BufRead) -> Option<Line> {
    let mut bytes = vec![];
    let bound = u64::try_from(LINE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    match input.by_ref().take(bound).read_until(b'\n', &mut bytes) {
        Ok(0) | Err(_) => return None,
        Ok(_) => {}
    }
    let whole = bytes.ends_with(b"\n") || bytes.len() <= LINE_BYTES_MAX;
    if !whole {
        skip_line(input).ok()?;
        return Some(Err(format!("a line has at most {LINE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("the line is not UTF-8: the byte at position {at} begins no character")
    });
    Some(text.map(|text| text.trim_end_matches(['\n', '\r']).to_owned()))
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let length = buffer.len();
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                input.consume(at + 1);
                return Ok(());
            }
            None if length == 0 => return Ok(()),
            None => input.consume(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_or_broken_does_not_spoil_the_next() {
        let mut text = b"one\n".to_vec();
        text.extend(vec![b'a'; LINE_BYTES_MAX + 10]);
        text.extend(b"\ntw\xff\nthree");
        let mut input = text.as_slice();
        assert_eq!(read_line(&mut input), Some(Ok("one".to_owned())));
        assert!(read_line(&mut input).unwrap().unwrap_err().contains("at most"));
        assert!(read_line(&mut input).unwrap().unwrap_err().contains("position 2"));
        assert_eq!(read_line(&mut input), Some(Ok("three".to_owned())));
        assert_eq!(read_line(&mut input), None);
    }
}
