//! An operator's own PKI in the place of `cogmesh federation create`: the CA's certificate and this node's, in files that somebody else
//! makes and renews. They are read at the start, and again when the process is told to.
//! Source: protocol.md, Membership; certs/README.md.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};

use super::{
    Handle,
    identity_file::{self, KeyFileError},
    membership::{self, CA_FILE, Member, MembershipError, read_chain},
};
use crate::{
    ledger::types::Millis,
    log::{FederationName, Identity, NodeId},
    net::{
        certificates::NodeCertificate,
        membership::{CaCertificate, WallClock, validity},
        tls::{CertificateFault, TlsError, fits},
    },
};

/// How often it is looked whether the certificate grows old.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often a node complains whose certificate grows old.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(86_400);
/// Most certificates between a node's and the CA's.
const INTERMEDIATES_MAX: usize = 4;

/// Where the PKI's files are. All are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiFiles {
    /// The CA's certificate.
    pub ca: PathBuf,
    /// This node's certificate, and after it those between it and the CA where there are some.
    pub certificate: PathBuf,
    /// This node's key. `None`: the one in the data directory.
    pub key: Option<PathBuf>,
}

/// Why the files of a PKI can't be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file can't be read, or holds something else.
    #[error(transparent)]
    File(#[from] MembershipError),
    /// The key can't be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is no such key file.
    #[error("there is no key file `{}`", path.display())]
    NoKey {
        /// Where none is.
        path: PathBuf,
    },
    /// The data directory is that of a node with another key.
    #[error("`{}` holds another key than the data directory, which is that of node {}", path.display(), own.short())]
    OtherNode {
        /// The key file that was named.
        path: PathBuf,
        /// Whose the data directory is.
        own: NodeId,
    },
    /// The data directory belongs to a federation with a CA of ours.
    #[error("the data directory belongs to a closed federation already (`{}`)", path.display())]
    Taken {
        /// Its CA.
        path: PathBuf,
    },
    /// There are several, or too many.
    #[error("`{}` holds {found} certificates; at most {max} can be used", path.display())]
    TooMany {
        /// Which file.
        path: PathBuf,
        /// How many it holds.
        found: usize,
        /// How many it may.
        max: usize,
    },
    /// It has no name that a federation could have, and none was given.
    #[error("the CA in `{}` has no name that a federation could have", path.display())]
    NoName {
        /// The CA's file.
        path: PathBuf,
    },
    /// The federation's id is made of the CA's key.
    #[error("`{}` holds the certificate of another CA; with that it would be another federation", path.display())]
    OtherCa {
        /// The CA's file.
        path: PathBuf,
    },
    /// It was made for another key.
    #[error("the certificate in `{}` was made for another key than this node's", path.display())]
    OtherKey {
        /// The certificate's file.
        path: PathBuf,
    },
    /// Other members would not take it.
    #[error("no member would take the certificate in `{}`: {fault}", path.display())]
    Useless {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        fault: CertificateFault,
    },
    /// TLS can't be set up with them.
    #[error(transparent)]
    Tls(TlsError),
    /// The task that read them ended in a way that it never should.
    #[error("the files could not be read; the log says more")]
    Failed,
}

impl PkiFiles {
    /// What they make this node; `name` is what the user calls the federation, else it is called as its CA is.
    ///
    /// # Errors
    /// A file can't be read, or holds something else.
    pub fn load(&self, name: Option<&FederationName>) -> Result<Member, PkiError> {
        let ca = self.ca()?;
        let name = match (name, ca.name().parse()) {
            (Some(name), _) => name.clone(),
            (None, Ok(name)) => name,
            (None, Err(_)) => return Err(PkiError::NoName { path: self.ca.clone() }),
        };
        Ok(Member { ca, name, certificate: self.certificate()?, inviter: None })
    }

    fn ca(&self) -> Result<CaCertificate, PkiError> {
        let path = self.ca.clone();
        match &read_chain(&path)?[..] {
            [der] => Ok(CaCertificate::from_der(der).map_err(|source| MembershipError::Ca { path, source })?),
            several => Err(PkiError::TooMany { path, found: several.len(), max: 1 }),
        }
    }

    fn certificate(&self) -> Result<NodeCertificate, PkiError> {
        let path = self.certificate.clone();
        let mut chain = read_chain(&path)?;
        if chain.len() > INTERMEDIATES_MAX + 1 {
            return Err(PkiError::TooMany { path, found: chain.len(), max: INTERMEDIATES_MAX + 1 });
        }
        let own = chain.remove(0);
        Ok(NodeCertificate::from_der(own).with_intermediates(chain))
    }

    /// The key that was named; `None` where none was.
    ///
    /// # Errors
    /// There is none, or it can't be used.
    pub fn key(&self) -> Result<Option<(&Path, Identity)>, PkiError> {
        let Some(path) = &self.key else { return Ok(None) };
        match identity_file::load_file(path)? {
            Some(identity) => Ok(Some((path, identity))),
            None => Err(PkiError::NoKey { path: path.clone() }),
        }
    }

    /// They make the node with that key a member, now.
    pub(super) fn fit(&self, member: &Member, key: &Identity, clock: WallClock) -> Result<(), PkiError> {
        fits(key, &membership::of(Some(member), clock)).map_err(|error| self.blamed(error))
    }

    /// What is wrong with this node's certificate, in the words of the one who made it.
    pub(super) fn blamed(&self, error: TlsError) -> PkiError {
        let path = self.certificate.clone();
        match error {
            TlsError::Own(CertificateFault::WrongNode { .. }) => PkiError::OtherKey { path },
            TlsError::Own(fault) => PkiError::Useless { path, fault },
            other @ (TlsError::Certificate(_)
            | TlsError::Rustls(_)
            | TlsError::Members(_)
            | TlsError::Suite(_)) => PkiError::Tls(other),
        }
    }
}

/// The data directory has no CA of its own.
///
/// # Errors
/// It has.
pub fn is_free(data_dir: &Path) -> Result<(), PkiError> {
    let path = data_dir.join(CA_FILE);
    if path.exists() { Err(PkiError::Taken { path }) } else { Ok(()) }
}

/// A running node's PKI.
pub(super) struct Pki {
    pub(super) files: PkiFiles,
    pub(super) member: Member,
    pub(super) clock: WallClock,
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Pki {
    /// Reads the files again; `show` makes new handshakes use them. Says until when the certificate counts.
    pub(super) async fn reload(
        &self,
        show: impl FnOnce(&CaCertificate, NodeCertificate) -> Result<(), TlsError>,
    ) -> Result<Millis, PkiError> {
        let (files, name) = (self.files.clone(), self.member.name.clone());
        let read = spawn_blocking(move || files.load(Some(&name))).await.map_err(|_| PkiError::Failed)??;
        if read.ca.hash() != self.member.ca.hash() {
            return Err(PkiError::OtherCa { path: self.files.ca.clone() });
        }
        let expires = validity(read.certificate.der()).map_or(Millis(0), |(_, until)| until);
        show(&read.ca, read.certificate).map_err(|error| self.files.blamed(error))?;
        Ok(expires)
    }
}

/// Complains once a day when two thirds of the certificate's life have passed: nobody else here renews it.
pub(super) async fn watch(handle: Handle, clock: WallClock) {
    loop {
        let (due, expires) = handle.certificate_due();
        let now = clock();
        if now < due {
            sleep(LOOK_AGAIN.min(Duration::from_millis(due.since(now).0.max(1)))).await;
            continue;
        }
        let left_h = expires.since(now).0 / 3_600_000;
        let about = format!(
            "this node's certificate expires in {left_h} h; put a new one in its place and send the process SIGHUP"
        );
        tracing::warn!("{about}");
        handle.alert_certificate(about, now);
        let _renewed = tokio::time::timeout(COMPLAIN_AGAIN, renewed(&handle, &clock)).await;
    }
}

async fn renewed(handle: &Handle, clock: &WallClock) {
    while handle.certificate_due().0 <= clock() {
        sleep(LOOK_AGAIN).await;
    }
}
