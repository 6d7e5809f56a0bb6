//! Coming into a closed federation, as its founder or with a ticket: what is done to a data directory before the first start.

use std::{path::Path, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    STORE_FILE, StartError,
    clock::Clock,
    identity_file,
    lock::DataDirLock,
    membership::{self, Member, MembershipError},
    opening::{identity, wall},
};
use crate::{
    ledger::{policy::Policy, types::Millis},
    log::{CaHash, FederationId, FederationName, Identity, NodeId, Ticket},
    net::{
        join::{JoinError, join},
        membership::validity,
    },
    store::Durability,
};

/// Why a data directory did not come into a federation.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The directory or its key.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The CA or a certificate.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// It holds the books of another federation.
    #[error("the data directory `{}` holds the books of another federation", path.display())]
    HasStore {
        /// Which.
        path: std::path::PathBuf,
    },
    /// The ticket did not help.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// A federation that was made.
#[derive(Clone, Debug)]
pub struct Founded {
    /// Its id.
    pub federation: FederationId,
    /// Its first member: this node.
    pub member: Member,
}

/// What came of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// This node.
    pub own: NodeId,
    /// Until when its certificate counts.
    pub certificate_expires: Millis,
}

/// A data directory that is ours while this lives.
struct Entering {
    _lock: DataDirLock,
    identity: Arc<Identity>,
    clock: Arc<Clock>,
}

/// Makes the CA of a new federation, and this node its first member. Blocks.
///
/// # Errors
/// See [`EnterError`].
pub fn create_federation(
    data_dir: &Path,
    name: &FederationName,
    policy: &Policy,
    passphrase: Option<&[u8]>,
) -> Result<Founded, EnterError> {
    let Entering { _lock, identity, clock } = enter(data_dir, None)?;
    let own = (identity.node_id(), clock.now().wall);
    let member = membership::create(data_dir, name, own, passphrase)?;
    let federation = FederationId::new(name, policy, Some(&member.ca.hash().0));
    Ok(Founded { federation, member })
}

/// Becomes a member with a ticket, or gets a new certificate with it: a member that was away for longer than its certificate lasts needs
/// one.
///
/// # Errors
/// See [`EnterError`].
///
/// # Cancel safety
/// The ticket may be used up by then; the same data directory may use it again.
pub async fn join_federation(data_dir: &Path, ticket: &Ticket) -> Result<Joined, EnterError> {
    let (path, ca) = (data_dir.to_owned(), ticket.ca);
    let Entering { _lock, identity, clock } =
        spawn_blocking(move || enter(&path, Some(ca))).await.map_err(|_| StartError::Failed)??;
    let (ca, certificate) = join(&identity, ticket, wall(&clock)).await?;
    let certificate_expires =
        validity(certificate.der()).map_err(JoinError::Certificate).map_err(EnterError::Join)?.1;
    let member = Member { ca, name: ticket.name.clone(), certificate, inviter: None };
    membership::remember_inviter(data_dir, ticket)?;
    membership::join(data_dir, &member)?;
    Ok(Joined { own: identity.node_id(), certificate_expires })
}

/// Takes a data directory that belongs to no federation yet, or to that one; its key is made where there is none.
fn enter(data_dir: &Path, federation: Option<CaHash>) -> Result<Entering, EnterError> {
    identity_file::make_data_dir(data_dir)
        .map_err(|source| StartError::DataDir { path: data_dir.to_owned(), source })?;
    let lock = DataDirLock::take(data_dir).map_err(StartError::Lock)?;
    match membership::load(data_dir)? {
        Some(member) if Some(member.ca.hash()) == federation => {}
        Some(_) => return Err(MembershipError::Taken { path: data_dir.to_owned() }.into()),
        None if data_dir.join(STORE_FILE).exists() => {
            return Err(EnterError::HasStore { path: data_dir.to_owned() });
        }
        None => {}
    }
    let (identity, _mark, _found) = identity(data_dir, Durability::Full, None)?;
    Ok(Entering { _lock: lock, identity, clock: Arc::new(Clock::start(Millis::ZERO)) })
}
