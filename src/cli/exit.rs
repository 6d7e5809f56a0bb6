//! How a command ends: exit codes and errors for people, in one place. Source: cli.md, Exit codes.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use super::show::escaped_lines;
use crate::{
    api::ApiError,
    net::{
        NetError, SocketError,
        join::{JoinError, JoinRefusal},
        tls::{CertificateFault, TlsError},
    },
    node::{EnterError, LockError, StartError, membership::MembershipError, pki::PkiError},
    store::{CopyError, ExportError},
};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// It could not.
    Failed,
    /// What was asked can't be meant.
    Usage,
    /// The thought was rejected: it is recorded, and its penalty applied.
    Rejected,
    /// The thought can't be part of the log now; nothing was recorded.
    Inadmissible,
    /// No node is running on the data directory.
    NoNode,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Rejected => 3,
            Self::Inadmissible => 4,
            Self::NoNode => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// An error that knows its exit code and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
    code: Option<String>,
}

impl Failure {
    /// An error with that exit code.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, code: None }
    }

    /// What was asked can't be meant.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// How the command ends with it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// What the local API calls it, where the running node said no.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// With what the local API calls it.
    #[must_use]
    pub fn with_code(self, code: impl Into<String>) -> Self {
        Self { code: Some(code.into()), ..self }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of a result; an error is told to `err` first.
pub fn report(result: anyhow::Result<ExitCode>, err: &mut dyn Write) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    // Whoever reads our output has seen enough: `cogmesh thoughts | head` is no failure.
    if is_broken_pipe(&error) {
        return Exit::Done.into();
    }
    // Where standard error is gone too, the exit code has to do.
    let _unheard = tell(&error, err);
    exit_of(&error).into()
}

fn tell(error: &anyhow::Error, err: &mut dyn Write) -> io::Result<()> {
    writeln!(err, "error: {}", escaped_lines(&sentence(error)))?;
    if let Some(hint) = hint_of(error) {
        writeln!(err, "\nhint: {}", escaped_lines(&hint))?;
    }
    err.flush()
}

/// The error and its causes. A cause that its error repeats word for word is told once.
pub(super) fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match told.as_str() {
            "" => cause,
            _ if told.ends_with(&cause) => told,
            _ => format!("{told}: {cause}"),
        }
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}

fn exit_of(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure.exit,
        None => Exit::Failed,
    }
}

pub(super) fn hint_of(error: &anyhow::Error) -> Option<String> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.hint.clone();
    }
    let hint = match (error.downcast_ref(), error.downcast_ref()) {
        (Some(start), _) => hint_of_start(start),
        (None, Some(api)) => hint_of_api(api),
        (None, None) => match error.downcast_ref() {
            Some(enter) => hint_of_enter(enter),
            None => copy_error(error).and_then(hint_of_copy),
        },
    };
    hint.or_else(|| hint_of_permission(error)).map(str::to_owned)
}

/// The system names neither who owns a file nor which ports are free for all.
fn hint_of_permission(error: &anyhow::Error) -> Option<&'static str> {
    let is_denied = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind) == Some(io::ErrorKind::PermissionDenied)
    };
    if !error.chain().any(is_denied) {
        return None;
    }
    Some(match error.downcast_ref() {
        Some(StartError::Net(_)) => "a port below 1024 may need root; choose another with `--port`",
        Some(_) | None => {
            "see with `ls -l` who owns it and may use it; a node runs as the owner of its files"
        }
    })
}

/// What to do, where the error itself does not say it.
const fn hint_of_start(error: &StartError) -> Option<&'static str> {
    match error {
        StartError::DataDir { .. } => Some("choose a directory that you may write to with `--data-dir`"),
        StartError::Lock(LockError::Held { .. }) => {
            Some("stop that node, or give this one a `--data-dir` of its own")
        }
        StartError::Lock(LockError::Io { .. }) => Some("check the permissions of the data directory"),
        StartError::Net(NetError::Socket(SocketError::NoInterface { .. })) => {
            Some("`ip -brief link` lists the interfaces of this machine")
        }
        StartError::Membership(error) => hint_of_membership(error),
        StartError::Pki(error) => hint_of_pki(error),
        StartError::Net(NetError::Tls(TlsError::Own(CertificateFault::Expired))) => Some(
            "`cogmesh invite`, where members are made, gives a new ticket: `cogmesh join TICKET`; the node keeps its log",
        ),
        StartError::Net(NetError::Tls(TlsError::Own(CertificateFault::NotYetValid))) => {
            Some("set this machine's clock")
        }
        StartError::Net(_)
        | StartError::Key(_)
        | StartError::Store(_)
        | StartError::Randomness
        | StartError::Failed => None,
    }
}

const fn hint_of_pki(error: &PkiError) -> Option<&'static str> {
    match error {
        PkiError::File(error) => hint_of_membership(error),
        PkiError::OtherNode { .. } => {
            Some("`--data-dir` names another one for that key; one directory is one node, with one log")
        }
        PkiError::Taken { .. } => Some("leave `--ca` away, or name another data directory with `--data-dir`"),
        PkiError::NoName { .. } => {
            Some("name the federation with `--federation NAME`, the same on all of its nodes")
        }
        PkiError::OtherCa { .. } => Some(
            "all nodes of a federation have the same CA; stop the node and start it on another data directory",
        ),
        PkiError::OtherKey { .. } => Some(
            "`cogmesh id` shows the node's id, which is its key; the certificate is to be made from the request of that key",
        ),
        PkiError::Useless { fault: CertificateFault::NotYetValid, .. } => Some("set this machine's clock"),
        PkiError::Useless { fault: CertificateFault::OtherName, .. } => Some(
            "its subject alternative names must hold one URI, `cogmesh:` and the node's id; see certs/README.md",
        ),
        PkiError::Key(_)
        | PkiError::NoKey { .. }
        | PkiError::TooMany { .. }
        | PkiError::Useless { .. }
        | PkiError::Tls(_)
        | PkiError::Failed => None,
    }
}

const fn hint_of_enter(error: &EnterError) -> Option<&'static str> {
    match error {
        EnterError::Start(StartError::Lock(LockError::Held { .. })) => {
            Some("stop that node first; nothing was changed")
        }
        EnterError::Start(error) => hint_of_start(error),
        EnterError::Membership(error) => hint_of_membership(error),
        EnterError::HasStore { .. } => Some("`--data-dir` names another one for this federation"),
        EnterError::Join(JoinError::Unreachable { .. }) => Some(
            "the inviting node must be running, and UDP must get through to it; then try again with the same ticket",
        ),
        EnterError::Join(JoinError::Refused(
            JoinRefusal::Unknown | JoinRefusal::Expired | JoinRefusal::Used,
        )) => Some("ask for a new one: `cogmesh invite`, on the inviting node"),
        EnterError::Join(JoinError::Certificate(
            CertificateFault::NotYetValid | CertificateFault::Expired,
        )) => Some("set this machine's clock; the same ticket works again"),
        EnterError::Join(_) => None,
    }
}

const fn hint_of_membership(error: &MembershipError) -> Option<&'static str> {
    match error {
        MembershipError::Other { .. } => {
            Some("leave `--federation` away, or name another data directory with `--data-dir`")
        }
        MembershipError::Taken { .. } => Some("`--data-dir` names another one for the new federation"),
        MembershipError::NoCaKey { .. } => {
            Some("run this where the federation was created, or bring `ca.key` from there")
        }
        MembershipError::Locked => Some("`--passphrase-file FILE` names a file that holds it"),
        MembershipError::Io { .. }
        | MembershipError::Damaged { .. }
        | MembershipError::TooLong { .. }
        | MembershipError::Ca { .. }
        | MembershipError::Name { .. }
        | MembershipError::Permissions { .. }
        | MembershipError::Passphrase
        | MembershipError::Key
        | MembershipError::Certificate(_) => None,
    }
}

const fn hint_of_api(error: &ApiError) -> Option<&'static str> {
    match error {
        ApiError::Io { .. } => Some("check the permissions of the data directory, and the space on its disk"),
        ApiError::Tcp { .. } => {
            Some("`ss -ltnp` shows who listens there; `--api` names another address, or `off`")
        }
        ApiError::PathTooLong { .. }
        | ApiError::NotASocket { .. }
        | ApiError::TokenPermissions { .. }
        | ApiError::TokenDamaged { .. }
        | ApiError::Token { .. }
        | ApiError::Randomness => None,
    }
}

fn copy_error(error: &anyhow::Error) -> Option<&CopyError> {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(copy), _) | (None, Some(ExportError::Store(copy))) => Some(copy),
        (None, Some(ExportError::Write(_)) | None) => None,
    }
}

const fn hint_of_copy(error: &CopyError) -> Option<&'static str> {
    match error {
        CopyError::NoStore { .. } => Some(
            "a data directory has a `store.db` once a node was started on it; `--data-dir` names another one",
        ),
        CopyError::Exists { .. } => Some("choose another name, or replace it with `--force`"),
        CopyError::NotABackup { .. } => Some("`cogmesh backup FILE` makes one"),
        CopyError::OtherNode { .. } => {
            Some("put that node's `node.key` into the data directory, or name its own with `--data-dir`")
        }
        CopyError::IsTheStore { .. }
        | CopyError::Write { .. }
        | CopyError::StoreDamaged { .. }
        | CopyError::BackupDamaged { .. }
        | CopyError::Store(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn told(error: anyhow::Error) -> String {
        let mut text = vec![];
        report(Err(error), &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn an_error_is_a_sentence_and_a_hint_with_nothing_raw_in_it() {
        let failure = Failure::new(Exit::NoNode, "no node\u{1b}[2J").hint("start one");
        assert_eq!(exit_of(&failure.clone().into()), Exit::NoNode);
        assert_eq!(told(failure.into()), "error: no node\\u{1b}[2J\n\nhint: start one\n");
    }

    #[test]
    fn causes_follow_their_error_once() {
        let error = anyhow::Error::from(Failure::usage("no such thing")).context("can't read the file");
        assert_eq!(told(error), "error: can't read the file: no such thing\n");
    }

    #[test]
    fn what_the_system_does_not_allow_says_where_to_look() {
        let denied = Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied)).context("can't open `a`");
        let text = told(denied.unwrap_err());
        assert!(
            text.starts_with("error: can't open `a`: ") && text.contains("\n\nhint: see with `ls -l`"),
            "{text}"
        );
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let broken = Err::<(), _>(io::Error::from(io::ErrorKind::BrokenPipe)).context("can't write");
        assert_eq!(told(broken.unwrap_err()), "");
    }
}
