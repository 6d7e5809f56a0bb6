//! `cogmesh doctor`: what on this machine keeps a node from working, and what to do about it. One file a group of checks; in each, one part
//! looks and another judges what was found.
//!
//! It changes nothing and speaks to nobody but the node of the data directory. Joining the group of mDNS for an instant is all that may be
//! seen outside, where a kernel tells its LAN who listens (IGMP, MLD); with `--no-mdns` not even that is done. Only who asks for it with
//! `--multicast` sends something to the LAN: one question on each interface.

mod clock;
mod disk;
mod keys;
mod network;
mod peers;
mod running;

use std::{path::Path, process::ExitCode};

use serde::Serialize;

use self::running::Running;
use super::{
    Out,
    args::DoctorArgs,
    config::{self, Run},
    exit::{self, Exit, Failure},
    show::{count, escaped},
    time,
};
use crate::node::hardware::Machine;

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Report {
    checks: Vec<Check>,
    ok: bool,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// What kind of thing.
    check: &'static str,
    /// Which; empty where it is the machine or the node as a whole.
    subject: String,
    state: State,
    /// What was found there.
    found: String,
    /// What to do about it; none where it is well.
    remedy: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// It works, and could be better; or it may be as somebody wants it.
    Hint,
    /// Something does not work.
    Wrong,
}

/// What a check is of.
#[derive(Clone, Debug)]
struct About {
    check: &'static str,
    subject: String,
}

impl About {
    fn new(check: &'static str, subject: impl Into<String>) -> Self {
        Self { check, subject: subject.into() }
    }

    /// Of the machine or the node as a whole.
    const fn of_all(check: &'static str) -> Self {
        Self { check, subject: String::new() }
    }

    fn ok(self, found: impl Into<String>) -> Check {
        self.judged(State::Ok, found.into(), None)
    }

    fn hint(self, found: impl Into<String>, remedy: impl Into<String>) -> Check {
        self.judged(State::Hint, found.into(), Some(remedy.into()))
    }

    fn wrong(self, found: impl Into<String>, remedy: impl Into<String>) -> Check {
        self.judged(State::Wrong, found.into(), Some(remedy.into()))
    }

    /// In the words of the command that fails with that error; `otherwise` is what to do where they do not say it.
    fn fails(self, error: &anyhow::Error, otherwise: &str) -> Check {
        let remedy = exit::hint_of(error).unwrap_or_else(|| otherwise.to_owned());
        self.wrong(exit::sentence(error), remedy)
    }

    fn judged(self, state: State, found: String, remedy: Option<String>) -> Check {
        Check { check: self.check, subject: self.subject, state, found, remedy }
    }
}

/// Looks at everything, for a node that is started with those options.
///
/// # Errors
/// Where the options, or the files that they name, can't be meant, or the output can't be written. What is wrong with the machine is no
/// error, but the exit code tells it.
pub async fn run(typed: DoctorArgs, data_dir: &Path, mut out: Out) -> anyhow::Result<ExitCode> {
    let DoctorArgs { multicast, start } = typed;
    let run = config::resolve(start, data_dir, &Machine::find(Path::new("/")), &config::host())?;
    if multicast && !run.config.mdns {
        let message = "`--multicast` tries what `--no-mdns` switches off";
        return Err(Failure::usage(message)
            .hint("give `--no-mdns=false` with it to try it all the same")
            .into());
    }
    let running = Running::ask(data_dir).await;
    let mut checks = looked_at(&run, data_dir, &running).await;
    if multicast {
        checks.extend(network::echoes(&run.config).await);
    }
    let ok = checks.iter().all(|check| check.state != State::Wrong);
    out.one(&Report { checks, ok }, |report| text(&report.checks))?;
    Ok(if ok { Exit::Done } else { Exit::Failed }.into())
}

async fn looked_at(run: &Run, data_dir: &Path, running: &Running) -> Vec<Check> {
    let config = &run.config;
    let mut checks = vec![running.check(data_dir)];
    checks.extend(network::sockets());
    match running {
        Running::Answers(status) => {
            checks.push(network::listening(&status.listen, config.port));
            checks.push(network::api_of(status.api.as_deref(), run.api));
        }
        Running::Absent => {
            checks.extend(network::udp_port(config));
            checks.push(network::api(run.api).await);
        }
        // It holds its ports itself, and does not say which they are.
        Running::Silent(_) => {}
    }
    checks.extend(network::interfaces(config));
    let status = running.status();
    checks.push(clock::system(time::now_ms()));
    checks.extend(status.map(|status| clock::against(&status.peers)).unwrap_or_default());
    checks.extend(disk::look(data_dir, config.disk_free_min));
    checks.extend(keys::look(data_dir, config, status));
    checks.extend(status.map(|status| peers::judged(&status.peers)).unwrap_or_default());
    checks
}

/// A line for each check, below it what to do, and how many are wrong at the end.
fn text(checks: &[Check]) -> String {
    let mut text: String = checks.iter().map(line).collect();
    let number =
        |state| u64::try_from(checks.iter().filter(|check| check.state == state).count()).unwrap_or(u64::MAX);
    let wrong = match number(State::Wrong) {
        0 => "nothing is wrong".to_owned(),
        wrong => count(wrong, "thing is wrong", "things are wrong"),
    };
    let hints = match number(State::Hint) {
        0 => String::new(),
        hints => format!(", {}", count(hints, "hint", "hints")),
    };
    text.push_str(&format!("\n{wrong}{hints}\n"));
    text
}

fn line(check: &Check) -> String {
    let Check { check, subject, state, found, remedy } = check;
    let state = match state {
        State::Ok => "ok   ",
        State::Hint => "hint ",
        State::Wrong => "WRONG",
    };
    let remedy = remedy.as_deref().map(|remedy| format!("       {}\n", escaped(remedy))).unwrap_or_default();
    let about = format!("{} {}", check.replace('_', " "), escaped(subject));
    format!("{state}  {}: {}\n{remedy}", about.trim_end(), escaped(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_with_what_to_do_below_it_and_nothing_raw() {
        let checks = [
            About::new("udp_port", "8888").ok("it is free"),
            About::new("interface", "eth\u{1b}[2J0").wrong("it is down", "`ip link set eth0 up`"),
            About::new("disk", "/x").hint("a", "b\nc"),
        ];
        assert_eq!(
            text(&checks),
            "ok     udp port 8888: it is free\nWRONG  interface eth\\u{1b}[2J0: it is down\n       `ip link set eth0 up`\n\
             hint   disk /x: a\n       b\\nc\n\n1 thing is wrong, 1 hint\n"
        );
        assert!(text(&checks[..1]).ends_with("\nnothing is wrong\n"));
    }

    #[test]
    fn programs_get_every_field_of_every_check() {
        let check = About::new("disk", "/x").ok("there is room");
        let json = serde_json::to_value(Report { checks: vec![check], ok: true }).unwrap();
        let wanted = serde_json::json!({
            "checks": [{"check": "disk", "subject": "/x", "state": "ok", "found": "there is room", "remedy": null}],
            "ok": true
        });
        assert_eq!(json, wanted);
    }
}
