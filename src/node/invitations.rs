//! Invitations: who may still come in, and who came in. Kept in a file of their own, which is written and synced before anybody hears of a
//! change: a ticket that was used is used after a crash as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{
    identity_file,
    membership::{self, Member, MembershipError, Protection},
};
use crate::{
    ledger::{policy::Policy, types::Millis},
    log::{FederationId, Identity, NodeId, Revocation, Ticket, Token},
    net::{
        certificates::NodeCertificate,
        join::{JoinDesk, JoinRefusal},
        membership::{CaCertificate, WallClock, validity},
    },
};

/// The file in the data directory.
pub const INVITATIONS_FILE: &str = "invitations.json";
/// How long a ticket is good where nothing else is said: a day.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(86_400);
/// Most tickets that are open at a time.
const OPEN_MAX: usize = 1_000;
/// How often a member may get a certificate.
const RENEWED_EVERY: Millis = Millis(1_000);
/// So long an ended ticket is still listed.
const LISTED: Millis = Millis(30 * 86_400_000);
/// Far above the length of the file.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// What became of a ticket, and of who came in with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// What it is called in lists.
    pub name: String,
    /// What the token is known by, in hex.
    hash: String,
    /// Until when it can be used.
    pub expires_ms: u64,
    /// Who came in with it.
    pub used_by: Option<String>,
    /// Until when the certificate of whoever came in counts.
    pub certificate_expires_ms: Option<u64>,
}

/// Why nobody can be invited. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// The CA's key.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// There are too many.
    #[error("{OPEN_MAX} tickets are open already; cancel some")]
    TooMany,
    /// There is no such ticket that could still be used.
    #[error("there is no open ticket `{}`", name.escape_debug())]
    Unknown {
        /// What was named.
        name: String,
    },
}

/// The desk of a node that holds the CA's key.
pub struct Invitations {
    data_dir: PathBuf,
    member: Member,
    policy: [u8; 32],
    lifetime: Duration,
    clock: WallClock,
    state: Mutex<State>,
    /// What every handshake asks, without waiting for a disk: whether the CA's key is open, and until when a ticket is good.
    signs: AtomicBool,
    tickets_until: AtomicU64,
}

#[derive(Debug)]
struct State {
    invitations: Vec<Invitation>,
    /// The CA's secret, where it is open.
    secret: Option<Identity>,
    /// Who gets no certificate any more.
    forbidden: BTreeSet<NodeId>,
    /// When members got their last certificates, as far as that is less than [`RENEWED_EVERY`] ago.
    renewed: BTreeMap<NodeId, Millis>,
}

impl Invitations {
    /// The desk, where the CA's key is in the data directory. A key that no passphrase encrypts is opened at once.
    ///
    /// # Errors
    /// The key or the file can't be used.
    pub(super) fn open(
        data_dir: &Path,
        member: Member,
        (policy, lifetime): (&Policy, Duration),
        revoked: &[Revocation],
        clock: WallClock,
    ) -> Result<Option<Self>, MembershipError> {
        let secret = match membership::ca_key(data_dir)? {
            None => return Ok(None),
            Some(Protection::Passphrase) => None,
            Some(Protection::File) => Some(membership::open_ca_key(data_dir, None)?),
        };
        let forbidden = revoked.iter().map(|revocation| revocation.node).collect();
        let renewed = BTreeMap::new();
        let state = State { invitations: read(data_dir)?, secret, forbidden, renewed };
        let policy = Ticket::policy_hash(policy);
        let signs = AtomicBool::new(state.secret.is_some());
        let tickets_until = AtomicU64::new(last_expiry(&state.invitations));
        let state = Mutex::new(state);
        Ok(Some(Self {
            data_dir: data_dir.to_owned(),
            member,
            policy,
            lifetime,
            clock,
            state,
            signs,
            tickets_until,
        }))
    }

    /// Opens the CA's key until the node stops.
    ///
    /// # Errors
    /// The passphrase does not open it.
    pub fn unlock(&self, passphrase: Option<&[u8]>) -> Result<(), MembershipError> {
        if self.lock().secret.is_some() {
            return Ok(());
        }
        // A tenth of a second of work, without the lock.
        let secret = membership::open_ca_key(&self.data_dir, passphrase)?;
        self.lock().secret = Some(secret);
        self.signs.store(true, Ordering::Release);
        Ok(())
    }

    /// A ticket that lets one node in, within that time, to this node at those addresses.
    ///
    /// # Errors
    /// The CA's key is locked, there are too many tickets, or it can't be written down.
    pub fn invite(
        &self,
        inviter: NodeId,
        addresses: Vec<SocketAddr>,
        lifetime: Duration,
    ) -> Result<Ticket, InviteError> {
        let mut token = Token([0; Token::BYTES]);
        aws_lc_rs::rand::fill(&mut token.0).map_err(|_| MembershipError::Key)?;
        let now = (self.clock)();
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let expires = Millis(now.0.saturating_add(lifetime_ms));
        let mut state = self.lock();
        if state.secret.is_none() {
            return Err(MembershipError::Locked.into());
        }
        if state.invitations.iter().filter(|invitation| invitation.is_open(now)).count() >= OPEN_MAX {
            return Err(InviteError::TooMany);
        }
        let invitation = Invitation {
            name: token.name(),
            hash: HEXLOWER.encode(&token.hash()),
            expires_ms: expires.0,
            used_by: None,
            certificate_expires_ms: None,
        };
        let mut invitations = state.invitations.clone();
        invitations.retain(|invitation| invitation.is_listed(now));
        invitations.push(invitation);
        self.keep(&mut state, invitations)?;
        Ok(Ticket {
            name: self.member.name.clone(),
            policy: self.policy,
            ca: self.member.ca.hash(),
            inviter,
            addresses,
            token,
            expires,
        })
    }

    /// A revocation of that node, which counts once the core has it.
    ///
    /// # Errors
    /// The CA's key is locked.
    pub fn revoke(&self, federation: &FederationId, node: NodeId) -> Result<Revocation, InviteError> {
        let state = self.lock();
        let secret = state.secret.as_ref().ok_or(MembershipError::Locked)?;
        Ok(Revocation::sign(secret, federation, node, (self.clock)()))
    }

    /// Those nodes get no certificates any more.
    pub(super) fn forbid(&self, nodes: impl Iterator<Item = NodeId>) {
        self.lock().forbidden.extend(nodes);
    }

    /// Makes a ticket worthless.
    ///
    /// # Errors
    /// There is none of that name that could still be used, or it can't be written down.
    pub fn cancel(&self, name: &str) -> Result<(), InviteError> {
        let now = (self.clock)();
        let mut state = self.lock();
        let mut invitations = state.invitations.clone();
        let before = invitations.len();
        invitations.retain(|invitation| invitation.name != name || !invitation.is_open(now));
        if invitations.len() == before {
            return Err(InviteError::Unknown { name: name.to_owned() });
        }
        Ok(self.keep(&mut state, invitations)?)
    }

    /// All that can still be used, and those that were used; the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Invitation> {
        let now = (self.clock)();
        let listed = |invitation: &&Invitation| invitation.used_by.is_some() || invitation.is_open(now);
        self.lock().invitations.iter().filter(listed).cloned().collect()
    }

    /// A certificate, and until when it counts.
    fn issue(&self, state: &State, node: NodeId) -> Result<(NodeCertificate, Millis), JoinRefusal> {
        if state.forbidden.contains(&node) {
            return Err(JoinRefusal::Revoked);
        }
        let secret = state.secret.as_ref().ok_or(JoinRefusal::NotNow)?;
        let time = ((self.clock)(), self.lifetime);
        let certificate = self.member.ca.issue(secret, node, time).map_err(|error| not_now(&error))?;
        let until = validity(certificate.der()).map_err(|error| not_now(&error))?.1;
        Ok((certificate, until))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is written down is written before it is changed here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, state: &mut State, invitations: Vec<Invitation>) -> Result<(), MembershipError> {
        let io = |source| MembershipError::Io { path: self.data_dir.join(INVITATIONS_FILE), source };
        let text = serde_json::to_vec_pretty(&invitations).map_err(|error| io(error.into()))?;
        identity_file::write(&self.data_dir, INVITATIONS_FILE, &text).map_err(io)?;
        self.tickets_until.store(last_expiry(&invitations), Ordering::Release);
        state.invitations = invitations;
        Ok(())
    }
}

fn last_expiry(invitations: &[Invitation]) -> u64 {
    invitations.iter().map(|invitation| invitation.expires_ms).max().unwrap_or_default()
}

fn not_now(error: &dyn fmt::Display) -> JoinRefusal {
    tracing::error!(%error, "no certificate can be made");
    JoinRefusal::NotNow
}

impl Invitation {
    /// Whether somebody could come in with it.
    #[must_use]
    pub const fn is_open(&self, now: Millis) -> bool {
        self.used_by.is_none() && now.0 < self.expires_ms
    }

    /// Those who came in stay listed: they are the members that this node made.
    const fn is_listed(&self, now: Millis) -> bool {
        self.used_by.is_some() || now.0 < self.expires_ms.saturating_add(LISTED.0)
    }
}

impl JoinDesk for Invitations {
    fn invites(&self) -> bool {
        // Who came in may come again for its certificate while its ticket lasts.
        self.can_sign() && (self.clock)().0 < self.tickets_until.load(Ordering::Acquire)
    }

    fn join(&self, node: NodeId, token: &Token) -> Result<NodeCertificate, JoinRefusal> {
        let now = (self.clock)();
        let (hash, id) = (HEXLOWER.encode(&token.hash()), node.to_text());
        let mut state = self.lock();
        let mut invitations = state.invitations.clone();
        let known = invitations.iter_mut().find(|invitation| invitation.hash == hash);
        let invitation = known.ok_or(JoinRefusal::Unknown)?;
        // The answer may have been lost: the same node is told again, nobody else is.
        if invitation.used_by.as_ref().is_some_and(|user| *user != id) {
            return Err(JoinRefusal::Used);
        }
        if now.0 >= invitation.expires_ms {
            return Err(JoinRefusal::Expired);
        }
        let (certificate, until) = self.issue(&state, node)?;
        invitation.used_by = Some(id);
        invitation.certificate_expires_ms = Some(until.0);
        self.keep(&mut state, invitations).map_err(|error| not_now(&error))?;
        Ok(certificate)
    }

    fn can_sign(&self) -> bool {
        self.signs.load(Ordering::Acquire)
    }

    fn renew(&self, node: NodeId) -> Result<NodeCertificate, JoinRefusal> {
        let now = (self.clock)();
        let mut state = self.lock();
        // Each costs a sync.
        if state.renewed.get(&node).is_some_and(|last| now.since(*last) < RENEWED_EVERY) {
            return Err(JoinRefusal::NotNow);
        }
        let (certificate, until) = self.issue(&state, node)?;
        state.renewed.retain(|_, last| now.since(*last) < RENEWED_EVERY);
        state.renewed.insert(node, now);
        let (id, mut invitations) = (node.to_text(), state.invitations.clone());
        if let Some(own) = invitations.iter_mut().find(|one| one.used_by.as_ref() == Some(&id)) {
            own.certificate_expires_ms = Some(until.0);
            self.keep(&mut state, invitations).map_err(|error| not_now(&error))?;
        }
        Ok(certificate)
    }

    fn ca(&self) -> &CaCertificate {
        &self.member.ca
    }
}

impl fmt::Debug for Invitations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitations").field("ca", &self.member.ca).finish_non_exhaustive()
    }
}

fn read(data_dir: &Path) -> Result<Vec<Invitation>, MembershipError> {
    let path = data_dir.join(INVITATIONS_FILE);
    let length = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(source) => return Err(MembershipError::Io { path, source }),
    };
    let damaged = || MembershipError::Damaged { path: path.clone(), what: "list of invitations" };
    if length > FILE_BYTES_MAX {
        return Err(damaged());
    }
    let bytes = fs::read(&path).map_err(|source| MembershipError::Io { path: path.clone(), source })?;
    serde_json::from_slice(&bytes).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::membership::LIFETIME, *};

    const NOW: u64 = 1_795_392_000_000;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn id(seed: u8) -> NodeId {
        Identity::from_seed(&[seed; 32]).unwrap().node_id()
    }

    struct Desk {
        dir: tempfile::TempDir,
        now: Arc<AtomicU64>,
        passphrase: Option<&'static [u8]>,
    }

    impl Desk {
        fn new(passphrase: Option<&'static [u8]>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let name = "lab".parse().unwrap();
            membership::create(dir.path(), &name, (id(1), Millis(NOW)), passphrase).unwrap();
            Self { dir, now: Arc::new(AtomicU64::new(NOW)), passphrase }
        }

        /// As after a restart.
        fn open(&self) -> Invitations {
            let member = membership::load(self.dir.path()).unwrap().unwrap();
            let now = Arc::clone(&self.now);
            let clock: WallClock = Arc::new(move || Millis(now.load(Ordering::SeqCst)));
            let desk = Invitations::open(self.dir.path(), member, (&Policy::default(), LIFETIME), &[], clock)
                .unwrap()
                .unwrap();
            if self.passphrase.is_some() {
                desk.unlock(self.passphrase).unwrap();
            }
            desk
        }

        fn pass(&self, time: Duration) {
            self.now.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
        }
    }

    #[test]
    fn a_ticket_lets_one_node_in_also_after_a_restart_and_the_same_node_twice() {
        let desk = Desk::new(None);
        let ticket = desk.open().invite(id(1), vec![], HOUR).unwrap();
        let first = desk.open().join(id(2), &ticket.token).unwrap();
        assert_eq!(desk.open().join(id(3), &ticket.token), Err(JoinRefusal::Used));
        assert!(desk.open().join(id(2), &ticket.token).is_ok(), "its answer may have been lost");
        let listed = desk.open().list();
        assert_eq!((listed.len(), listed[0].used_by.as_deref()), (1, Some(&*id(2).to_text())));
        let (from, until) = validity(first.der()).unwrap();
        assert_eq!((until.0 - NOW, NOW - from.0), (30 * 86_400_000, 300_000));
    }

    #[test]
    fn expired_cancelled_and_invented_tickets_let_nobody_in() {
        let desk = Desk::new(None);
        let (late, cancelled) = (
            desk.open().invite(id(1), vec![], HOUR).unwrap(),
            desk.open().invite(id(1), vec![], HOUR).unwrap(),
        );
        desk.open().cancel(&cancelled.token.name()).unwrap();
        assert_eq!(desk.open().join(id(2), &cancelled.token), Err(JoinRefusal::Unknown));
        assert!(matches!(desk.open().cancel("nothing"), Err(InviteError::Unknown { .. })));
        assert_eq!(desk.open().join(id(2), &Token([9; 16])), Err(JoinRefusal::Unknown));
        assert!(desk.open().invites());
        desk.pass(HOUR);
        assert_eq!(desk.open().join(id(2), &late.token), Err(JoinRefusal::Expired));
        assert!(!desk.open().invites() && desk.open().list().is_empty());
    }

    #[test]
    fn nobody_is_invited_while_the_ca_key_is_locked() {
        let desk = Desk::new(Some(b"correct horse"));
        let ticket = desk.open().invite(id(1), vec![], HOUR).unwrap();
        let locked = Desk { passphrase: None, ..desk };
        let invitations = locked.open();
        assert!(!invitations.invites());
        assert_eq!(invitations.join(id(2), &ticket.token), Err(JoinRefusal::NotNow));
        let refused = invitations.invite(id(1), vec![], HOUR);
        assert!(matches!(refused, Err(InviteError::Membership(MembershipError::Locked))));
        assert!(matches!(invitations.unlock(Some(b"wrong")), Err(MembershipError::Passphrase)));
        invitations.unlock(Some(b"correct horse")).unwrap();
        assert!(invitations.join(id(2), &ticket.token).is_ok());
    }

    #[test]
    fn a_member_gets_a_certificate_once_a_second_and_nothing_more_where_it_was_thrown_out() {
        let desk = Desk::new(None);
        let open = desk.open();
        assert!(open.renew(id(2)).is_ok());
        assert_eq!(open.renew(id(2)), Err(JoinRefusal::NotNow));
        assert!(open.renew(id(3)).is_ok(), "another one");
        desk.pass(Duration::from_secs(1));
        assert!(open.renew(id(2)).is_ok());
        open.forbid([id(2)].into_iter());
        desk.pass(Duration::from_secs(1));
        assert_eq!(open.renew(id(2)), Err(JoinRefusal::Revoked));
        let ticket = open.invite(id(1), vec![], HOUR).unwrap();
        assert_eq!(open.join(id(2), &ticket.token), Err(JoinRefusal::Revoked));
        assert!(open.join(id(3), &ticket.token).is_ok(), "it did not use the ticket up");
    }

    #[test]
    fn the_file_holds_no_token_and_a_damaged_one_is_refused() {
        let desk = Desk::new(None);
        let ticket = desk.open().invite(id(1), vec![], HOUR).unwrap();
        let path = desk.dir.path().join(INVITATIONS_FILE);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&ticket.token.name()) && !text.contains(&HEXLOWER.encode(&ticket.token.0)));
        fs::write(&path, &text[1..]).unwrap();
        let member = membership::load(desk.dir.path()).unwrap().unwrap();
        let opened = Invitations::open(
            desk.dir.path(),
            member,
            (&Policy::default(), LIFETIME),
            &[],
            Arc::new(|| Millis(NOW)),
        );
        assert!(matches!(opened, Err(MembershipError::Damaged { .. })));
    }
}
