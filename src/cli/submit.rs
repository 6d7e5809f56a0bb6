//! `cogmesh submit`: a thought in, its verdict out; the exit code says it too.

use std::{
    io::{self, Read},
    process::ExitCode,
};

use anyhow::Context;

use super::{
    Out,
    args::SubmitArgs,
    client::Client,
    exit::{Exit, Failure},
    show::{atp, atp_change, escaped, fields, ratio},
};
use crate::api::json::{Submit, Submitted};

/// Longest content that any policy allows; what is longer need not be read to its end. Twice the bound of
/// `content_max_bytes` leaves the exact sentence to the node, which knows its policy.
const READ_BYTES_MAX: usize = 2 * 65_536;

/// Submits what was typed or is read from standard input.
///
/// # Errors
/// Where there is nothing to submit, no node runs, or the output can't be written.
pub async fn run(args: SubmitArgs, client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let content = if args.text == "-" { read(io::stdin().lock())? } else { args.text };
    if content.is_empty() {
        let hint = "write the thought after `submit`, or pipe it into `cogmesh submit -`";
        return Err(Failure::usage("there is nothing to submit").hint(hint).into());
    }
    let request = Submit {
        content,
        session: Some(args.session.to_string()),
        mode: Some(args.mode.name().to_owned()),
        key: args.key,
        dry_run: args.dry_run,
    };
    let submitted: Submitted = client.post("/v1/thoughts", &request).await?;
    out.one(&submitted, text)?;
    Ok(exit(&submitted).into())
}

fn exit(submitted: &Submitted) -> Exit {
    match submitted.verdict.as_str() {
        "accepted" => Exit::Done,
        "rejected" => Exit::Rejected,
        "inadmissible" => Exit::Inadmissible,
        _ => Exit::Failed,
    }
}

/// A verdict for people.
#[must_use]
pub fn text(submitted: &Submitted) -> String {
    let reason = escaped(&submitted.reason);
    if submitted.verdict == "inadmissible" {
        return format!("{reason}\nnothing was recorded\n");
    }
    let state = match submitted.recorded {
        true => format!("entry {}, sent to {}", submitted.seq, peers(submitted.peers_sent)),
        false => "dry run: nothing was recorded".to_owned(),
    };
    let numbers = fields(&[
        ("coherence", ratio(submitted.coherence_ppm.unwrap_or(0))),
        ("change", atp_change(submitted.delta_uatp)),
        ("balance", atp(submitted.balance_uatp)),
        ("trust", ratio(submitted.trust_ppm)),
    ]);
    format!("{reason}\n{state}\n{numbers}")
}

fn peers(count: u32) -> String {
    if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") }
}

/// The text on standard input, without the line break at its end.
fn read(input: impl Read) -> anyhow::Result<String> {
    let mut bytes = vec![];
    let bound = u64::try_from(READ_BYTES_MAX + 1).unwrap_or(u64::MAX);
    input.take(bound).read_to_end(&mut bytes).context("can't read standard input")?;
    if bytes.len() > READ_BYTES_MAX {
        let message = format!(
            "standard input is longer than {READ_BYTES_MAX} bytes, and no policy allows such a content"
        );
        let hint = "nothing was recorded; say it shorter, or in several thoughts";
        return Err(Failure::new(Exit::Inadmissible, message).hint(hint).into());
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("standard input is not UTF-8: the byte at position {at} begins no character"))
            .hint("convert it, for example with `iconv -t UTF-8`")
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(bytes: &[u8]) -> Failure {
        read(bytes).unwrap_err().downcast().unwrap()
    }

    #[test]
    fn one_line_break_at_the_end_is_not_part_of_the_thought() {
        assert_eq!(read(&b"one\ntwo\n"[..]).unwrap(), "one\ntwo");
        assert_eq!(read(&b"one\r\n"[..]).unwrap(), "one");
        assert_eq!(read(&b"one\n\n"[..]).unwrap(), "one\n");
    }

    #[test]
    fn broken_text_is_refused_with_the_place_of_its_first_broken_byte() {
        let failure = failure(b"abc\xffdef");
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("position 3"), "{failure}");
    }

    #[test]
    fn input_without_end_is_not_read_to_its_end() {
        let failure = read(io::repeat(b'a')).unwrap_err().downcast::<Failure>().unwrap();
        assert_eq!(failure.exit(), Exit::Inadmissible);
    }
}
