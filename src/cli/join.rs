//! `cogmesh join`: becomes a member of a closed federation.

use std::{path::Path, process::ExitCode};

use serde::Serialize;

use super::{
    Out,
    args::JoinArgs,
    config,
    exit::{Exit, Failure},
    show::escaped,
    time,
};
use crate::{log::Ticket, node};

/// What `join` prints.
#[derive(Clone, Debug, Serialize)]
struct Joined {
    federation: String,
    id: String,
    certificate_expires_ms: u64,
}

/// Asks the inviter for a certificate, and keeps it.
///
/// # Errors
/// Where the ticket is none, is not for our rules, is not good, or its inviter can't be reached; where the data directory belongs to a
/// federation already; and where a file can't be written.
pub async fn run(args: JoinArgs, data_dir: &Path, mut out: Out) -> anyhow::Result<ExitCode> {
    let policy = config::policy(args.policy.as_deref(), data_dir)?;
    let ticket: Ticket = args
        .ticket
        .parse()
        .map_err(|fault: crate::log::TicketFault| Failure::new(Exit::Usage, fault.to_string()))?;
    if ticket.policy != Ticket::policy_hash(&policy) {
        let message =
            format!("the federation `{}` has other rules than this node", escaped(ticket.name.as_str()));
        let hint = "`--policy FILE` names its rules, as they are on the node that made the ticket";
        return Err(Failure::new(Exit::Failed, message).hint(hint).into());
    }
    let joined = node::join_federation(data_dir, &ticket).await?;
    let joined = Joined {
        federation: ticket.name.to_string(),
        id: joined.own.to_text(),
        certificate_expires_ms: joined.certificate_expires.0,
    };
    out.one(&joined, |joined| {
        format!(
            "This node ({}) is a member of `{}` until {}. Start it: `cogmesh start`\n",
            joined.id,
            escaped(&joined.federation),
            time::shown(joined.certificate_expires_ms)
        )
    })?;
    Ok(Exit::Done.into())
}
