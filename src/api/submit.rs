//! `POST /v1/thoughts`: a submission in, its verdict out.

use super::{error::Fault, json};
use crate::{
    ledger::{
        fold::{Inadmissible, Verdict},
        layers::Rejection,
        policy::Policy,
    },
    log::{Mode, SessionName, books::Recorded},
    node::Handle,
    protocol::input::{Answer, Submission},
};

/// The session of a thought that names none.
pub const SESSION_DEFAULT: &str = "main";
/// The mode of a thought that names none.
pub const MODE_DEFAULT: Mode = Mode::Exploring;
/// Bytes that a request may have beside its content: session, mode, key and JSON around them.
const REQUEST_REST_BYTES_MAX: usize = 4_096;
/// Bytes of JSON that one byte of content may take: a control character is written `\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;

/// Longest request that can hold a content of the longest admissible length.
#[must_use]
pub fn request_bytes_max(policy: &Policy) -> usize {
    let content = usize::try_from(policy.content_max_bytes).unwrap_or(usize::MAX);
    content.saturating_mul(ESCAPED_BYTES_MAX).saturating_add(REQUEST_REST_BYTES_MAX)
}

/// Submits a thought, or asks what it would get.
///
/// # Errors
/// Where the request is wrong, the content is too long, or the node does not take it; nothing was recorded then.
///
/// # Cancel safety
/// Dropping the future does not withdraw the thought: it may still be recorded. Use a key to ask again.
pub async fn submit(handle: &Handle, request: json::Submit) -> Result<json::Submitted, Fault> {
    if request.content.is_empty() {
        return Err(Fault::bad_request("content_empty", "the content is empty"));
    }
    let dry_run = request.dry_run;
    let submission = submission(request)?;
    let answer = if dry_run { handle.dry_run(submission).await? } else { handle.submit(submission).await? };
    let policy = &handle.about().policy;
    match answer {
        Answer::Recorded { recorded, peers_sent } => {
            Ok(json::Submitted { peers_sent, recorded: true, ..judged(policy, &recorded) })
        }
        Answer::Would(recorded) => Ok(judged(policy, &recorded)),
        Answer::Inadmissible(why @ Inadmissible::TooLong { .. }) => {
            Err(Fault::content_too_long(why.to_string()))
        }
        Answer::Inadmissible(why) => inadmissible(handle, why).await,
        Answer::Refused(fault) => Err(fault.into()),
        // The answer to another question.
        Answer::Cleared(_) => Err(Fault::bad_request("bad_request", "that was no submission")),
    }
}

fn submission(request: json::Submit) -> Result<Submission, Fault> {
    let session = request.session.as_deref().unwrap_or(SESSION_DEFAULT);
    let session =
        SessionName::new(session).map_err(|fault| Fault::bad_request("bad_session", fault.to_string()))?;
    let mode = match request.mode {
        Some(mode) => mode.parse().map_err(|_| bad_mode(&mode))?,
        None => MODE_DEFAULT,
    };
    Ok(Submission { content: request.content, session, mode, key: request.key })
}

fn bad_mode(mode: &str) -> Fault {
    let known = Mode::ALL.map(Mode::name).join(", ");
    Fault::bad_request("bad_mode", format!("there is no mode `{}`; known are {known}", mode.escape_debug()))
}

fn judged(policy: &Policy, recorded: &Recorded) -> json::Submitted {
    let (verdict, layer) = verdict(recorded.verdict);
    json::Submitted {
        verdict: verdict.to_owned(),
        layer: layer.map(str::to_owned),
        seq: recorded.seq.0,
        coherence_ppm: Some(recorded.coherence.0),
        delta_uatp: recorded.delta.0,
        balance_uatp: recorded.balance.0,
        trust_ppm: recorded.trust.0,
        reason: reason(policy, recorded),
        peers_sent: 0,
        recorded: false,
        admissible_from_ms: None,
    }
}

/// A verdict's name, and what it was for.
#[must_use]
pub const fn verdict(verdict: Verdict) -> (&'static str, Option<&'static str>) {
    match verdict {
        Verdict::Accepted { .. } => ("accepted", None),
        Verdict::Rejected { by, .. } => ("rejected", Some(by.name())),
    }
}

fn reason(policy: &Policy, recorded: &Recorded) -> String {
    let coherence = recorded.coherence;
    match recorded.verdict {
        Verdict::Accepted { reward } if reward.0 > 0 => {
            format!("accepted: its coherence is {coherence}, and it earns {reward} ATP")
        }
        Verdict::Accepted { .. } if coherence < policy.reward_threshold_ppm => {
            format!(
                "accepted without a reward: its coherence is {coherence}, and rewards begin at {}",
                policy.reward_threshold_ppm
            )
        }
        Verdict::Accepted { .. } => "accepted without a reward: the day's rewards are used up".to_owned(),
        Verdict::Rejected { by, penalty } => {
            let what = match by {
                Rejection::RateLimit => "more thoughts than this author may have in one window".to_owned(),
                Rejection::Quality => {
                    format!(
                        "its coherence is {coherence}, and at least {} is asked for",
                        policy.coherence_min_ppm
                    )
                }
                Rejection::Spam => "it repeats a thought that this author has published".to_owned(),
            };
            format!("rejected: {what}; it costs {penalty} ATP")
        }
    }
}

/// Nothing happened, so the account is told as it is.
async fn inadmissible(handle: &Handle, why: Inadmissible) -> Result<json::Submitted, Fault> {
    let known = handle.known().await?;
    let account = known.authors.get(&handle.about().id).map(|own| own.book.account.clone());
    let (seq, balance, trust) = account.map_or((0, 0, 0), |own| (own.seq.0, own.balance.0, own.trust.0));
    Ok(json::Submitted {
        verdict: "inadmissible".to_owned(),
        layer: None,
        seq,
        coherence_ppm: None,
        delta_uatp: 0,
        balance_uatp: balance,
        trust_ppm: trust,
        reason: format!("inadmissible: {why}"),
        peers_sent: 0,
        recorded: false,
        admissible_from_ms: why.admissible_from().map(|from| from.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::types::{MicroAtp, Ppm, Seq};

    fn recorded(verdict: Verdict, coherence: u32) -> Recorded {
        Recorded {
            seq: Seq(4),
            verdict,
            coherence: Ppm(coherence),
            delta: MicroAtp::ZERO,
            balance: MicroAtp::from_atp(100),
            trust: Ppm(300_000),
        }
    }

    #[test]
    fn each_verdict_has_a_reason_of_its_own() {
        let policy = Policy::default();
        let rejected = |by| Verdict::Rejected { by, penalty: MicroAtp::from_atp(5) };
        let cases = [
            (Verdict::Accepted { reward: MicroAtp(1_500_000) }, 750_000, "earns 1.500000 ATP"),
            (Verdict::Accepted { reward: MicroAtp::ZERO }, 310_000, "rewards begin at"),
            (Verdict::Accepted { reward: MicroAtp::ZERO }, 990_000, "used up"),
            (rejected(Rejection::Quality), 100_000, "at least 0.300000"),
            (rejected(Rejection::Spam), 900_000, "repeats"),
            (rejected(Rejection::RateLimit), 900_000, "one window"),
        ];
        for (verdict, coherence, part) in cases {
            let reason = reason(&policy, &recorded(verdict, coherence));
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn a_request_with_an_unknown_mode_or_session_is_refused_by_name() {
        let request = |session: &str, mode: &str| json::Submit {
            content: "x".to_owned(),
            session: Some(session.to_owned()),
            mode: Some(mode.to_owned()),
            key: None,
            dry_run: false,
        };
        assert_eq!(submission(request("a\nb", "exploring")).unwrap_err().code(), "bad_session");
        let fault = submission(request("main", "shou\u{1b}ting")).unwrap_err();
        assert_eq!(fault.code(), "bad_mode");
        assert!(!fault.message().contains('\u{1b}'));
        assert_eq!(submission(request("main", "verifying")).unwrap().mode, Mode::Verifying);
    }
}
