//! `cogmesh members`: who belongs to a closed federation, as far as this node knows.

use std::process::ExitCode;

use super::{
    Out,
    args::RevokeArgs,
    client::Client,
    exit::Exit,
    passphrase::{self, Wanted},
    show::{Align, escaped, short, table},
    time,
};
use crate::api::json::{Member, Members, Revoke, Revoked};

/// Asks the running node.
///
/// # Errors
/// Where no node runs, its federation is an open one, or the output can't be written.
pub async fn run(client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let Members { members } = client.get("/v1/members").await?;
    out.list(&members, text)?;
    Ok(Exit::Done.into())
}

/// Throws one out.
///
/// # Errors
/// Where no node runs, it can't revoke, there is no such member, or the output can't be written.
pub async fn revoke(client: &Client, args: RevokeArgs, mut out: Out) -> anyhow::Result<ExitCode> {
    let file = args.passphrase_file.as_deref();
    let passphrase = file.map(|file| passphrase::read(Some(file), Wanted::Known)).transpose()?;
    let mut request = Revoke { member: args.member, passphrase };
    let revoked: Revoked = match client.post("/v1/members/revoke", &request).await {
        Err(error) if passphrase::is_needed(&error) && request.passphrase.is_none() => {
            request.passphrase = Some(passphrase::read(None, Wanted::Known)?);
            client.post("/v1/members/revoke", &request).await?
        }
        answered => answered?,
    };
    out.one(&revoked, |revoked| format!("{} is a member no more\n", escaped(&revoked.id)))?;
    Ok(Exit::Done.into())
}

fn text(members: &[Member]) -> String {
    let row = |member: &Member| {
        [
            escaped(&member.name),
            member.id.as_deref().map(short).unwrap_or_default(),
            escaped(&member.state),
            member.certificate_expires_ms.map(time::shown).unwrap_or_default(),
        ]
    };
    let rows: Vec<[String; 4]> = members.iter().map(row).collect();
    let headings = [
        ("name", Align::Left),
        ("id", Align::Left),
        ("state", Align::Left),
        ("certificate until", Align::Left),
    ];
    table(headings, &rows)
}
