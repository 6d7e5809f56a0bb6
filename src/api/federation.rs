//! Members and invitations of a closed federation.

use std::{sync::Arc, time::Duration};

use tokio::task::spawn_blocking;

use super::{error::Fault, json, views};
use crate::{
    log::NodeId,
    node::{
        Handle,
        invitations::{Invitations, InviteError, TICKET_LIFETIME},
        membership::MembershipError,
    },
    protocol::view::PeerState,
};

/// Longest time that a ticket may be good: a year.
const TICKET_LIFETIME_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Makes a ticket.
pub(super) async fn invite(handle: &Handle, request: json::Invite) -> Result<json::Invited, Fault> {
    let lifetime = request.lifetime_ms.map_or(TICKET_LIFETIME, Duration::from_millis);
    if lifetime.is_zero() || lifetime > TICKET_LIFETIME_MAX {
        return Err(Fault::bad_request("bad_lifetime", "a ticket is good for a second to a year"));
    }
    let (inviter, addresses) = (handle.about().id, handle.reachable_at());
    let ticket = at_the_desk(handle, move |desk| {
        desk.unlock(request.passphrase.as_ref().map(|text| text.as_bytes()))?;
        desk.invite(inviter, addresses, lifetime)
    })
    .await?;
    Ok(json::Invited { name: ticket.token.name(), expires_ms: ticket.expires.0, ticket: ticket.to_string() })
}

/// The tickets that could still be used.
pub(super) async fn invitations(handle: &Handle) -> Result<json::Invitations, Fault> {
    let invitations = at_the_desk(handle, |desk| Ok(desk.list())).await?;
    let open = invitations.into_iter().filter(|invitation| invitation.used_by.is_none());
    let invitations =
        open.map(|open| json::Invitation { name: open.name, expires_ms: open.expires_ms }).collect();
    Ok(json::Invitations { invitations })
}

/// Makes a ticket worthless.
pub(super) async fn cancel(handle: &Handle, request: json::Cancel) -> Result<json::Cancel, Fault> {
    let name = request.name.clone();
    at_the_desk(handle, move |desk| desk.cancel(&name)).await?;
    Ok(request)
}

/// Throws a member out.
pub(super) async fn revoke(handle: &Handle, request: json::Revoke) -> Result<json::Revoked, Fault> {
    let members = members(handle).await?.members;
    let node = find(&members, &request.member)?;
    if node == handle.about().id {
        let message = "this is the node itself; revoke it on another one that holds the CA's key";
        return Err(Fault::bad_request("own_node", message));
    }
    let federation = handle.about().federation;
    let revocation = at_the_desk(handle, move |desk| {
        desk.unlock(request.passphrase.as_ref().map(|text| text.as_bytes()))?;
        desk.revoke(&federation, node)
    })
    .await?;
    handle.revoke(revocation).await?;
    Ok(json::Revoked { id: node.to_text() })
}

/// The member that a text means: a whole id, whoever has it; or the start of one, or a name, where one member has it.
fn find(members: &[json::Member], text: &str) -> Result<NodeId, Fault> {
    if let Ok(node) = text.parse() {
        return Ok(node);
    }
    let is_it = |member: &&json::Member| {
        member.name == text || text.len() >= 4 && member.id.as_ref().is_some_and(|id| id.starts_with(text))
    };
    let mut found = members.iter().filter(is_it).filter_map(|member| member.id.as_ref()?.parse().ok());
    match (found.next(), found.next()) {
        (Some(node), None) => Ok(node),
        (Some(_), Some(_)) => {
            Err(Fault::bad_request("ambiguous", "more than one member is meant; say its id"))
        }
        (None, _) => {
            Err(Fault::not_found("no_such_member", "there is no such member; `cogmesh members` lists them"))
        }
    }
}

/// Who belongs to the federation, as far as this node knows: those that have written, and those that it made members itself.
pub(super) async fn members(handle: &Handle) -> Result<json::Members, Fault> {
    if !handle.about().closed {
        return Err(open_federation());
    }
    let view = handle.view().await?;
    let desk = handle.invitations();
    let made = match desk {
        Some(_) => at_the_desk(handle, |desk| Ok(desk.list())).await?,
        None => vec![],
    };
    let own = handle.about();
    let mut members = vec![json::Member {
        id: Some(own.id.to_text()),
        name: own.name.to_string(),
        certificate_expires_ms: Some(handle.certificate_expires_ms()),
        state: MEMBER.to_owned(),
    }];
    for author in views::authors(handle, &view.known) {
        if author.id != own.id.to_text() {
            members.push(json::Member {
                id: Some(author.id),
                name: author.name,
                certificate_expires_ms: None,
                state: MEMBER.to_owned(),
            });
        }
    }
    for invitation in made {
        let Some(user) = invitation.used_by else {
            members.push(json::Member {
                id: None,
                name: invitation.name,
                certificate_expires_ms: None,
                state: "invited".to_owned(),
            });
            continue;
        };
        match members.iter_mut().find(|member| member.id.as_ref() == Some(&user)) {
            Some(member) => {
                member.certificate_expires_ms =
                    member.certificate_expires_ms.max(invitation.certificate_expires_ms);
            }
            None => members.push(json::Member {
                name: linked_name(&view.peers, &user),
                id: Some(user),
                certificate_expires_ms: invitation.certificate_expires_ms,
                state: MEMBER.to_owned(),
            }),
        }
    }
    for node in &view.revoked {
        let id = node.to_text();
        match members.iter_mut().find(|member| member.id.as_ref() == Some(&id)) {
            Some(member) => REVOKED.clone_into(&mut member.state),
            None => members.push(json::Member {
                name: String::new(),
                id: Some(id),
                certificate_expires_ms: None,
                state: REVOKED.to_owned(),
            }),
        }
    }
    Ok(json::Members { members })
}

const MEMBER: &str = "member";
const REVOKED: &str = "revoked";

fn open_federation() -> Fault {
    let message = "this is an open federation: whoever does the proof of work belongs to it";
    Fault::bad_request("open_federation", message)
}

/// What a member that has written nothing yet calls itself, where it is linked.
fn linked_name(peers: &[crate::protocol::view::PeerView], id: &str) -> String {
    let is_it = |peer: &&crate::protocol::view::PeerView| {
        matches!(peer.state, PeerState::Verified(_)) && peer.id.is_some_and(|found| found.to_text() == id)
    };
    peers.iter().find(is_it).map(|peer| peer.name.clone()).unwrap_or_default()
}

async fn at_the_desk<T: Send + 'static>(
    handle: &Handle,
    work: impl FnOnce(Arc<Invitations>) -> Result<T, InviteError> + Send + 'static,
) -> Result<T, Fault> {
    let Some(desk) = handle.invitations() else {
        let message = "the CA's key is not on this node; members are made where the federation was created";
        return Err(match handle.about().closed {
            true => Fault::bad_request("no_ca_key", message),
            false => open_federation(),
        });
    };
    match spawn_blocking(move || work(desk)).await {
        Ok(done) => done.map_err(|error| fault(&error)),
        Err(_) => Err(Fault::internal("a part of the node failed; its log says more")),
    }
}

fn fault(error: &InviteError) -> Fault {
    let message = error.to_string();
    match error {
        InviteError::Membership(MembershipError::Locked) => Fault::bad_request("ca_locked", message),
        InviteError::Membership(MembershipError::Passphrase) => Fault::bad_request("bad_passphrase", message),
        InviteError::Membership(_) => Fault::internal(message),
        InviteError::TooMany => Fault::unavailable("too_many_tickets", message),
        InviteError::Unknown { .. } => Fault::not_found("no_such_ticket", message),
    }
}
