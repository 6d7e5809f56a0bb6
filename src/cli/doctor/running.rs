//! The node of the data directory, where one runs: it knows what nobody else can see.

use std::path::Path;

use super::{About, Check};
use crate::{
    api::{
        json::{OwnLog, Status},
        socket::ApiError,
    },
    cli::{
        client::Client,
        exit::{Exit, Failure},
    },
    node::is_held,
};

/// What became of asking.
#[derive(Debug)]
pub(super) enum Running {
    /// It runs and says how it is.
    Answers(Box<Status>),
    /// None runs.
    Absent,
    /// One runs, and does not answer.
    Silent(anyhow::Error),
}

impl Running {
    pub(super) async fn ask(data_dir: &Path) -> Self {
        match Client::new(data_dir).get::<Status>("/v1/status").await {
            Ok(status) => Self::Answers(Box::new(status)),
            Err(error) if is_no_node(&error) && !is_held(data_dir) => Self::Absent,
            Err(error) => Self::Silent(error),
        }
    }

    pub(super) const fn status(&self) -> Option<&Status> {
        match self {
            Self::Answers(status) => Some(status),
            Self::Absent | Self::Silent(_) => None,
        }
    }

    pub(super) fn check(&self, data_dir: &Path) -> Check {
        let about = About::new("node", data_dir.display().to_string());
        match self {
            Self::Answers(status) => answers(about, &status.node.name, &status.own_log),
            Self::Absent => about.ok("no node is running; with one its peers are looked at, too"),
            Self::Silent(error) if is_no_node(error) => about.wrong(
                "a process holds the data directory, and does not answer",
                "wait, where it has just been started or is being stopped; else look at its log, and end it",
            ),
            Self::Silent(error) if error.is::<ApiError>() => {
                about.fails(error, "name a directory with a shorter path with `--data-dir`")
            }
            Self::Silent(error) => {
                about.fails(error, "look at the log of the node; `cogmesh status` asks it again")
            }
        }
    }
}

fn is_no_node(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.exit() == Exit::NoNode)
}

fn answers(about: About, name: &str, own: &OwnLog) -> Check {
    let why = own.why.as_deref().unwrap_or("it does not say why");
    match own.state.as_str() {
        "open" => about.ok(format!("{name} is running, and may write")),
        "waiting" => about.hint(
            format!("{name} is running, and does not write yet: {why}"),
            "start a peer that knows its log; `cogmesh alerts` shows since when it waits",
        ),
        _ => about.wrong(
            format!("{name} is running, and does not write: {why}"),
            "`cogmesh alerts` shows since when; its log says more",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn a_node_that_may_not_write_is_wrong_and_one_that_waits_for_its_log_is_not() {
        let judged = |state: &str| {
            let own = OwnLog { state: state.to_owned(), why: Some("the disk".to_owned()) };
            answers(About::new("node", "/d"), "thor", &own)
        };
        assert_eq!(judged("open").state, State::Ok);
        assert_eq!(judged("waiting").state, State::Hint);
        for state in ["read_only", "halted"] {
            let check = judged(state);
            assert!(check.state == State::Wrong && check.found.contains("the disk"), "{check:?}");
        }
    }

    #[tokio::test]
    async fn a_process_that_holds_the_directory_and_does_not_answer_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Running::ask(dir.path()).await.check(dir.path()).state, State::Ok);
        let lock = crate::node::DataDirLock::take(dir.path()).unwrap();
        let check = Running::ask(dir.path()).await.check(dir.path());
        assert!(check.state == State::Wrong && check.found.contains("holds"), "{check:?}");
        drop(lock);
        let deep = dir.path().join("d".repeat(120));
        let check = Running::ask(&deep).await.check(&deep);
        assert!(
            check.found.contains("107") && check.remedy.as_ref().unwrap().contains("--data-dir"),
            "{check:?}"
        );
    }
}
