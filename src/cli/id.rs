//! `cogmesh id`: who this node is. The key file says it, so no node needs to run.

use std::{path::Path, process::ExitCode};

use serde::Serialize;

use super::{
    Out,
    client::Client,
    config,
    exit::{Exit, Failure},
    show::{escaped, fields},
    time,
};
use crate::{
    api::json::Status,
    net::{certificates::NodeCertificate, membership::validity},
    node::{
        LockError, identity_file, membership,
        renewal::{self, RenewalError},
    },
};

/// Who a node is.
#[derive(Clone, Debug, Serialize)]
pub struct WhoAmI {
    /// Its id.
    pub id: String,
    /// Its name: as the running node says, or as it is configured.
    pub name: String,
    /// The SHA-256 of its certificate.
    pub certificate_fingerprint: String,
    /// When its certificate expires.
    pub certificate_expires_ms: u64,
    /// Whether the node is running.
    pub running: bool,
}

/// Reads the key and shows who it belongs to.
///
/// # Errors
/// Where there is no key yet, it can't be used, or the output can't be written.
pub async fn run(data_dir: &Path, mut out: Out) -> anyhow::Result<ExitCode> {
    let Some(identity) = identity_file::load(data_dir)? else {
        let message = format!("there is no node in the data directory `{}` yet", data_dir.display());
        let hint = "`cogmesh start` makes one at its first start; `--data-dir` names another place";
        return Err(Failure::new(Exit::Failed, message).hint(hint).into());
    };
    // A running node knows its name for sure: it stands in its genesis entry, whatever the configuration says by now.
    let running: Option<Status> = Client::new(data_dir).get("/v1/status").await.ok();
    let name = match &running {
        Some(status) => status.node.name.clone(),
        None => config::name_in(data_dir, &config::host())?.to_string(),
    };
    // So is what it shows, which may come from files elsewhere.
    let (certificate_fingerprint, certificate_expires_ms) = match &running {
        Some(status) => (status.node.certificate_fingerprint.clone(), status.node.certificate_expires_ms),
        None => {
            let certificate = match membership::load(data_dir)? {
                Some(member) => member.certificate,
                None => NodeCertificate::self_signed(&identity)?,
            };
            (certificate.fingerprint(), validity(certificate.der())?.1.0)
        }
    };
    let who = WhoAmI {
        id: identity.node_id().to_text(),
        name,
        certificate_fingerprint,
        certificate_expires_ms,
        running: running.is_some(),
    };
    out.one(&who, text)?;
    Ok(Exit::Done.into())
}

/// What `id --renew` prints.
#[derive(Clone, Debug, Serialize)]
struct NewIdentity {
    id: String,
    before: String,
    /// Where key, store and sign mark of the old identity are now.
    aside: String,
}

/// Gives the data directory a new identity.
///
/// # Errors
/// Where the node runs, there is none yet, or a file can't be moved or the output written.
pub fn renew(data_dir: &Path, mut out: Out) -> anyhow::Result<ExitCode> {
    let renewed = renewal::renew(data_dir, time::now_ms()).map_err(|error| match error {
        RenewalError::Lock(LockError::Held { .. }) => {
            Failure::new(Exit::Failed, error.to_string()).hint("stop it first; nothing was changed").into()
        }
        RenewalError::Lock(_)
        | RenewalError::Key(_)
        | RenewalError::Mark(_)
        | RenewalError::NoKey { .. }
        | RenewalError::HoldsCa { .. }
        | RenewalError::Move { .. } => anyhow::Error::from(error),
    })?;
    let new = NewIdentity {
        id: renewed.after.to_text(),
        before: renewed.before.to_text(),
        aside: renewed.aside.display().to_string(),
    };
    out.one(&new, |new| {
        format!(
            "This node is {} now; it was {}.\nKey, store and sign mark of the old identity are in `{}`.\n\
             Start the node: it begins a new log, and gets the logs of the others from its peers.\n",
            new.id,
            new.before,
            escaped(&new.aside)
        )
    })?;
    Ok(Exit::Done.into())
}

fn text(who: &WhoAmI) -> String {
    let source = if who.running { "" } else { " (as configured; the node is not running)" };
    fields(&[
        ("id", who.id.clone()),
        ("name", format!("{}{source}", escaped(&who.name))),
        ("certificate", format!("SHA-256 {}", who.certificate_fingerprint)),
        ("expires", time::shown(who.certificate_expires_ms)),
    ])
}
