//! `cogmesh invite`: tickets into a closed federation.

use std::process::ExitCode;

use anyhow::Context;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

use super::{
    Out,
    args::InviteArgs,
    client::Client,
    exit::Exit,
    passphrase::{self, Wanted},
    show::{Align, escaped, table},
    time,
};
use crate::api::json::{Cancel, Invitation, Invitations, Invite, Invited};

/// Asks the running node for a ticket, or for those that it gave.
///
/// # Errors
/// Where no node runs, it can't make members, or the output can't be written.
pub async fn run(client: &Client, args: InviteArgs, mut out: Out) -> anyhow::Result<ExitCode> {
    if args.list {
        let Invitations { invitations } = client.get("/v1/invitations").await?;
        out.list(&invitations, listed)?;
        return Ok(Exit::Done.into());
    }
    if let Some(name) = args.cancel {
        let cancelled: Cancel = client.post("/v1/invitations/cancel", &Cancel { name }).await?;
        out.one(&cancelled, |cancelled| {
            format!("the ticket {} lets nobody in any more\n", escaped(&cancelled.name))
        })?;
        return Ok(Exit::Done.into());
    }
    let mut request = Invite { lifetime_ms: args.lifetime, passphrase: None };
    if let Some(file) = &args.passphrase_file {
        request.passphrase = Some(passphrase::read(Some(file), Wanted::Known)?);
    }
    let invited: Invited = match client.post("/v1/invitations", &request).await {
        Err(error) if passphrase::is_needed(&error) && request.passphrase.is_none() => {
            request.passphrase = Some(passphrase::read(None, Wanted::Known)?);
            client.post("/v1/invitations", &request).await?
        }
        answered => answered?,
    };
    let code = if args.qr { Some(qr(&invited.ticket)?) } else { None };
    out.one(&invited, |invited| text(invited, code.as_deref()))?;
    Ok(Exit::Done.into())
}

/// Two rows of modules a line, dark on light whatever the terminal's colours.
fn qr(ticket: &str) -> anyhow::Result<String> {
    let code = QrCode::with_error_correction_level(ticket, EcLevel::L)
        .context("the ticket is too long for a QR code")?;
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build())
}

fn text(invited: &Invited, code: Option<&str>) -> String {
    let code = code.map_or_else(String::new, |code| format!("{code}\n\n"));
    format!(
        "{code}{}\n\n\
         On the new node: `cogmesh join TICKET`, then `cogmesh start`. This ticket ({}) lets one node in, until {}.\n\
         Whoever has it may use it: send it as you would send a password. `cogmesh invite --cancel {}` takes it back.\n",
        invited.ticket,
        escaped(&invited.name),
        time::shown(invited.expires_ms),
        escaped(&invited.name)
    )
}

fn listed(invitations: &[Invitation]) -> String {
    let row = |invitation: &Invitation| [escaped(&invitation.name), time::shown(invitation.expires_ms)];
    let rows: Vec<[String; 2]> = invitations.iter().map(row).collect();
    table([("ticket", Align::Left), ("good until", Align::Left)], &rows)
}
