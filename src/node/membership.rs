//! What makes a data directory that of a closed federation: `ca.crt`, the federation's CA; `node.crt`, what the CA gave this node;
//! and where members are made, `ca.key`, the CA's secret. All are PEM, which openssl reads. Without `ca.crt` the federation is open.
//! Source: protocol.md, Membership; certs/README.md.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use pem::{EncodeConfig, LineEnding, Pem};
use pkcs8::{EncryptedPrivateKeyInfo, PrivateKeyInfo, pkcs5::pbes2};
use zeroize::Zeroizing;

use super::identity_file;
use crate::{
    ledger::types::Millis,
    log::{
        FederationName, Identity, NodeId, Revocation, Ticket, name::NameFault,
        peer_record::RECORD_ADDRESSES_MAX,
    },
    net::{
        certificates::{CertificateError, NodeCertificate},
        membership::{CaCertificate, CaFault, Membership, WallClock},
    },
    protocol::{
        hello::Closed,
        input::{Address, Hint, Source},
    },
};

/// The CA's certificate: its presence makes a federation closed.
pub const CA_FILE: &str = "ca.crt";
/// This node's certificate.
pub const CERTIFICATE_FILE: &str = "node.crt";
/// The CA's secret, where members are made.
pub const CA_KEY_FILE: &str = "ca.key";
/// Where the node that invited this one was.
pub const INVITER_FILE: &str = "inviter";
/// How long a certificate lasts where nothing else is said: 30 days.
pub const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// What stands around a certificate.
const CERTIFICATE_LABEL: &str = "CERTIFICATE";
/// What stands around a secret key, in clear and encrypted (RFC 7468, 10 and 11).
const KEY_LABEL: &str = "PRIVATE KEY";
const ENCRYPTED_LABEL: &str = "ENCRYPTED PRIVATE KEY";
/// Far above the length of any of these files.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What a member has.
#[derive(Clone, Debug)]
pub struct Member {
    /// The federation's CA.
    pub ca: CaCertificate,
    /// The federation's name.
    pub name: FederationName,
    /// This node's certificate.
    pub certificate: NodeCertificate,
    /// Who invited it, and where it was then.
    pub inviter: Option<Hint>,
}

/// Why a membership can't be read or made. Nothing was changed, but for what a variant says.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// A file can't be read or written.
    #[error("can't use `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{}` holds no {what}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What it should.
        what: &'static str,
    },
    /// A file is too long for certificates.
    #[error("`{}` is longer than certificates are: at most {} KiB are read", path.display(), bytes_max >> 10)]
    TooLong {
        /// Which.
        path: PathBuf,
        /// How long it may be.
        bytes_max: u64,
    },
    /// The CA is none.
    #[error("`{}` can't be a federation's CA: {source}", path.display())]
    Ca {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CaFault,
    },
    /// The CA's name is none that a federation has.
    #[error("the CA in `{}` has no name that a federation could have: {source}", path.display())]
    Name {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: NameFault,
    },
    /// Another federation is asked for than the one that the directory belongs to.
    #[error("this data directory belongs to the closed federation `{found}`, not to `{wanted}`")]
    Other {
        /// Whose it is.
        found: FederationName,
        /// What was asked for.
        wanted: FederationName,
    },
    /// The directory belongs to a federation already.
    #[error("the data directory `{}` belongs to a federation already", path.display())]
    Taken {
        /// Which.
        path: PathBuf,
    },
    /// Others may read the CA's secret.
    #[error("`{}` has mode {mode:03o}: others than its owner may use it; run `chmod 600 {}`", path.display(), path.display())]
    Permissions {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no CA key here.
    #[error("the CA's key is not in the data directory `{}`", path.display())]
    NoCaKey {
        /// Which.
        path: PathBuf,
    },
    /// The CA's key is encrypted, and the passphrase is not that.
    #[error("the passphrase does not open the CA's key")]
    Passphrase,
    /// The CA's key is encrypted, and no passphrase was given.
    #[error("the CA's key is encrypted: a passphrase is needed")]
    Locked,
    /// No randomness can be had, or a library refuses the key.
    #[error("no key can be made on this machine")]
    Key,
    /// No certificate can be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// What the data directory says of a membership; `None` where its federation is an open one.
///
/// # Errors
/// A file can't be read, or holds something else.
pub fn load(data_dir: &Path) -> Result<Option<Member>, MembershipError> {
    let path = data_dir.join(CA_FILE);
    let Some(der) = read_pem(&path, CERTIFICATE_LABEL, "certificate")? else {
        return Ok(None);
    };
    let ca =
        CaCertificate::from_der(&der).map_err(|source| MembershipError::Ca { path: path.clone(), source })?;
    let name = ca.name().parse().map_err(|source| MembershipError::Name { path, source })?;
    let path = data_dir.join(CERTIFICATE_FILE);
    match read_pem(&path, CERTIFICATE_LABEL, "certificate")? {
        Some(der) => {
            let certificate = NodeCertificate::from_der(der);
            Ok(Some(Member { ca, name, certificate, inviter: inviter(data_dir) }))
        }
        None => Err(MembershipError::Damaged { path, what: "certificate of this node" }),
    }
}

/// The federation's name, and what makes it a closed one where it is; `wanted` is what the user named.
///
/// # Errors
/// The directory belongs to another closed federation than the one that is wanted.
pub(super) fn federation(
    wanted: Option<&FederationName>,
    member: Option<&Member>,
    revoked: &[Revocation],
) -> Result<(FederationName, Option<Closed>), MembershipError> {
    match (wanted, member) {
        (Some(wanted), Some(member)) if *wanted != member.name => {
            Err(MembershipError::Other { found: member.name.clone(), wanted: wanted.clone() })
        }
        (_, Some(Member { ca, name, .. })) => {
            let closed = Closed { ca: ca.hash(), key: ca.key(), revoked: revoked.to_vec() };
            Ok((name.clone(), Some(closed)))
        }
        (Some(wanted), None) => Ok((wanted.clone(), None)),
        (None, None) => Ok((FederationName::lan(), None)),
    }
}

/// Who may connect to the node of that member.
#[must_use]
pub fn of(member: Option<&Member>, clock: WallClock) -> Membership {
    match member.cloned() {
        None => Membership::Open,
        Some(Member { ca, certificate, .. }) => Membership::Closed { ca, certificate, clock },
    }
}

/// Makes a CA beside the node's key, and the node its first member. `passphrase` encrypts the CA's secret.
///
/// # Errors
/// The directory belongs to a federation already, or a file can't be written: then some of the new files may be there, and the
/// federation is not.
pub fn create(
    data_dir: &Path,
    name: &FederationName,
    (node, now): (NodeId, Millis),
    passphrase: Option<&[u8]>,
) -> Result<Member, MembershipError> {
    // A CA key without the rest is what is left of a federation: it is not written over.
    if data_dir.join(CA_FILE).exists() || data_dir.join(CA_KEY_FILE).exists() {
        return Err(MembershipError::Taken { path: data_dir.to_owned() });
    }
    let mut seed = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *seed).map_err(|_| MembershipError::Key)?;
    let secret = Identity::from_seed(&seed).map_err(|_| MembershipError::Key)?;
    let ca = CaCertificate::create(&secret, name)?;
    let certificate = ca.issue(&secret, node, (now, LIFETIME))?;
    let (label, document) = sealed(&secret, passphrase)?;
    write_pem(data_dir, CA_KEY_FILE, label, &document)?;
    let member = Member { ca, name: name.clone(), certificate, inviter: None };
    join(data_dir, &member)?;
    Ok(member)
}

/// Writes down that the node is a member. The CA's certificate comes last: with it the directory is that federation's.
///
/// # Errors
/// A file can't be written.
pub fn join(data_dir: &Path, member: &Member) -> Result<(), MembershipError> {
    write_pem(data_dir, CERTIFICATE_FILE, CERTIFICATE_LABEL, member.certificate.der())?;
    write_pem(data_dir, CA_FILE, CERTIFICATE_LABEL, member.ca.der())
}

/// Writes down a member's new certificate.
///
/// # Errors
/// The file can't be written; the old one is still there.
pub(super) fn renewed(data_dir: &Path, member: &Member) -> Result<(), MembershipError> {
    write_pem(data_dir, CERTIFICATE_FILE, CERTIFICATE_LABEL, member.certificate.der())
}

/// Writes down where the inviter is, for the first start.
///
/// # Errors
/// The file can't be written.
pub fn remember_inviter(data_dir: &Path, ticket: &Ticket) -> Result<(), MembershipError> {
    let lines: Vec<String> =
        ticket.addresses.iter().map(|address| format!("{}@{address}\n", ticket.inviter.to_text())).collect();
    identity_file::write(data_dir, INVITER_FILE, lines.concat().as_bytes())
        .map_err(|source| MembershipError::Io { path: data_dir.join(INVITER_FILE), source })
}

/// Where the inviter was. It is a hint: a file that says nothing is none.
fn inviter(data_dir: &Path) -> Option<Hint> {
    let bytes = read(&data_dir.join(INVITER_FILE), FILE_BYTES_MAX).ok().flatten()?;
    let lines = std::str::from_utf8(&bytes).ok()?.lines();
    let places: Vec<(NodeId, SocketAddr)> = lines
        .filter_map(|line| line.split_once('@'))
        .filter_map(|(id, address)| Some((id.parse().ok()?, address.parse().ok()?)))
        .take(RECORD_ADDRESSES_MAX)
        .collect();
    let (node, _) = *places.first()?;
    let addresses = places.into_iter().map(|(_, address)| Address::Socket(address)).collect();
    Some(Hint { source: Source::Remembered, node: Some(node), name: None, federation: None, addresses })
}

/// Whether the CA's key is here, and whether a passphrase is needed to use it.
///
/// # Errors
/// It can't be read.
pub fn ca_key(data_dir: &Path) -> Result<Option<Protection>, MembershipError> {
    let path = data_dir.join(CA_KEY_FILE);
    Ok(read(&path, FILE_BYTES_MAX)?.map(|bytes| {
        let is_encrypted = pem::parse(&*bytes).is_ok_and(|pem| pem.tag() == ENCRYPTED_LABEL);
        if is_encrypted { Protection::Passphrase } else { Protection::File }
    }))
}

/// What keeps the CA's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A passphrase.
    Passphrase,
    /// The file's mode.
    File,
}

/// The CA's secret.
///
/// # Errors
/// It is not here, others may read it, it is damaged, or the passphrase does not open it.
pub fn open_ca_key(data_dir: &Path, passphrase: Option<&[u8]>) -> Result<Identity, MembershipError> {
    let path = data_dir.join(CA_KEY_FILE);
    let damaged = || MembershipError::Damaged { path: path.clone(), what: "Ed25519 key" };
    let Some(bytes) = read(&path, FILE_BYTES_MAX)? else {
        return Err(MembershipError::NoCaKey { path: data_dir.to_owned() });
    };
    let mode = mode(&path)?;
    if mode & 0o077 != 0 {
        return Err(MembershipError::Permissions { path, mode });
    }
    let pem = pem::parse(&*bytes).map_err(|_| damaged())?;
    let (is_plain, is_encrypted) = (pem.tag() == KEY_LABEL, pem.tag() == ENCRYPTED_LABEL);
    let document = Zeroizing::new(pem.into_contents());
    if is_plain {
        return Identity::from_pkcs8_der(&document).map_err(|_| damaged());
    }
    if !is_encrypted {
        return Err(damaged());
    }
    let passphrase = passphrase.ok_or(MembershipError::Locked)?;
    let info = EncryptedPrivateKeyInfo::try_from(&document[..]).map_err(|_| damaged())?;
    let opened = info.decrypt(passphrase).map_err(|_| MembershipError::Passphrase)?;
    Identity::from_pkcs8_der(opened.as_bytes()).map_err(|_| damaged())
}

/// The CA's secret as it is written down. Encrypted: PBES2 with AES-256-CBC and scrypt (RFC 8018, RFC 7914). N = 2^14, r = 8, p = 5 is one
/// of the settings of equal strength in OWASP's Password Storage Cheat Sheet; openssl reads no file that takes 32 MiB or more.
fn sealed(
    secret: &Identity,
    passphrase: Option<&[u8]>,
) -> Result<(&'static str, Zeroizing<Vec<u8>>), MembershipError> {
    let key = |_| MembershipError::Key;
    let document = secret.pkcs8_der().map_err(|_| MembershipError::Key)?;
    let Some(passphrase) = passphrase else {
        return Ok((KEY_LABEL, document));
    };
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| MembershipError::Key)?;
    aws_lc_rs::rand::fill(&mut iv).map_err(|_| MembershipError::Key)?;
    let cost = pkcs8::pkcs5::scrypt::Params::new(14, 8, 5, 32).map_err(|_| MembershipError::Key)?;
    let params = pbes2::Parameters::scrypt_aes256cbc(cost, &salt, &iv).map_err(|_| MembershipError::Key)?;
    let info = PrivateKeyInfo::try_from(&document[..]).map_err(|_| MembershipError::Key)?;
    let encrypted = info.encrypt_with_params(params, passphrase).map_err(key)?;
    Ok((ENCRYPTED_LABEL, Zeroizing::new(encrypted.as_bytes().to_vec())))
}

fn mode(path: &Path) -> Result<u32, MembershipError> {
    let metadata = path.metadata().map_err(|source| MembershipError::Io { path: path.to_owned(), source })?;
    Ok(metadata.permissions().mode() & 0o777)
}

/// A file of at most so many bytes; `None` where there is none.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Option<Zeroizing<Vec<u8>>>, MembershipError> {
    let io = |source| MembershipError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    // With room for all of it, so that no part of a secret is left behind where a growing buffer moves.
    let length = file.metadata().map_err(io)?.len().min(bytes_max);
    let room = usize::try_from(length.saturating_add(1)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(bytes_max).read_to_end(&mut bytes).map_err(io)?;
    Ok(Some(bytes))
}

fn read_pem(path: &Path, label: &str, what: &'static str) -> Result<Option<Vec<u8>>, MembershipError> {
    let Some(bytes) = read(path, FILE_BYTES_MAX)? else { return Ok(None) };
    match pem::parse(&*bytes).ok().filter(|pem| pem.tag() == label) {
        Some(pem) => Ok(Some(pem.into_contents())),
        None => Err(MembershipError::Damaged { path: path.to_owned(), what }),
    }
}

/// All certificates of a file, in its order; at least one.
///
/// # Errors
/// There is no such file, it can't be read, or it holds something else.
pub(super) fn read_chain(path: &Path) -> Result<Vec<Vec<u8>>, MembershipError> {
    let Some(bytes) = read(path, FILE_BYTES_MAX)? else {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(MembershipError::Io { path: path.to_owned(), source });
    };
    // Else a chain that goes on there would be taken without its end.
    if u64::try_from(bytes.len()).is_ok_and(|length| length >= FILE_BYTES_MAX) {
        return Err(MembershipError::TooLong { path: path.to_owned(), bytes_max: FILE_BYTES_MAX });
    }
    let pems = pem::parse_many(&*bytes).unwrap_or_default();
    if pems.is_empty() || pems.iter().any(|pem| pem.tag() != CERTIFICATE_LABEL) {
        return Err(MembershipError::Damaged { path: path.to_owned(), what: "certificate in PEM" });
    }
    Ok(pems.into_iter().map(Pem::into_contents).collect())
}

fn write_pem(data_dir: &Path, name: &str, label: &str, der: &[u8]) -> Result<(), MembershipError> {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let text = Zeroizing::new(pem::encode_config(&Pem::new(label, der), config));
    identity_file::write(data_dir, name, text.as_bytes())
        .map_err(|source| MembershipError::Io { path: data_dir.join(name), source })
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    const NOW: Millis = Millis(1_795_392_000_000);

    fn node() -> NodeId {
        Identity::from_seed(&[7; 32]).unwrap().node_id()
    }

    fn made(passphrase: Option<&[u8]>) -> (tempfile::TempDir, Member) {
        let dir = tempfile::tempdir().unwrap();
        let member = create(dir.path(), &"lab".parse().unwrap(), (node(), NOW), passphrase).unwrap();
        (dir, member)
    }

    fn openssl(dir: &Path, args: &[&str]) -> String {
        let output =
            Command::new("openssl").args(args).current_dir(dir).output().expect("openssl is installed");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn a_federation_that_was_created_is_found_again_and_only_once_created() {
        let (dir, member) = made(None);
        let found = load(dir.path()).unwrap().unwrap();
        assert_eq!((found.ca, found.certificate), (member.ca.clone(), member.certificate));
        assert_eq!(found.name.as_str(), "lab");
        assert_eq!(ca_key(dir.path()).unwrap(), Some(Protection::File));
        let secret = open_ca_key(dir.path(), None).unwrap();
        assert_eq!(member.ca.key(), Some(crate::log::CaKey::of(&secret)));
        let again = create(dir.path(), &"lab".parse().unwrap(), (node(), NOW), None);
        assert!(matches!(again, Err(MembershipError::Taken { .. })));
        for name in [CA_KEY_FILE, CERTIFICATE_FILE, CA_FILE] {
            assert_eq!(mode(&dir.path().join(name)).unwrap(), 0o600, "{name}");
        }
        assert!(load(tempfile::tempdir().unwrap().path()).unwrap().is_none());
    }

    #[test]
    fn openssl_reads_the_files_and_finds_the_certificate_good() {
        let (dir, _) = made(Some(b"correct horse"));
        let text = openssl(dir.path(), &["x509", "-in", CA_FILE, "-noout", "-text"]);
        assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("CN = lab"), "{text}");
        let text = openssl(dir.path(), &["x509", "-in", CERTIFICATE_FILE, "-noout", "-text"]);
        assert!(
            text.contains(&format!("URI:cogmesh:{}", node().to_text())) && text.contains("CA:FALSE"),
            "{text}"
        );
        // At the time of the test: it counts 30 days.
        let at = (NOW.0 / 1_000).to_string();
        openssl(dir.path(), &["verify", "-attime", &at, "-CAfile", CA_FILE, CERTIFICATE_FILE]);
        let key = ["pkey", "-in", CA_KEY_FILE, "-passin", "pass:correct horse", "-pubout"];
        let public = openssl(dir.path(), &key);
        assert_eq!(openssl(dir.path(), &["x509", "-in", CA_FILE, "-noout", "-pubkey"]), public);
    }

    #[test]
    fn an_encrypted_ca_key_opens_with_its_passphrase_alone() {
        let (dir, member) = made(Some(b"correct horse"));
        assert_eq!(ca_key(dir.path()).unwrap(), Some(Protection::Passphrase));
        let open = |passphrase: Option<&[u8]>| open_ca_key(dir.path(), passphrase);
        assert!(matches!(open(None), Err(MembershipError::Locked)));
        assert!(matches!(open(Some(b"wrong")), Err(MembershipError::Passphrase)));
        let secret = open(Some(b"correct horse")).unwrap();
        assert_eq!(member.ca.key(), Some(crate::log::CaKey::of(&secret)));
    }

    #[test]
    fn files_that_are_open_to_others_or_damaged_are_refused_with_what_to_do() {
        let (dir, _) = made(None);
        let key = dir.path().join(CA_KEY_FILE);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let error = open_ca_key(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("640") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        for damaged in [&b""[..], b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            fs::write(&key, damaged).unwrap();
            assert!(matches!(open_ca_key(dir.path(), None), Err(MembershipError::Damaged { .. })));
            fs::write(dir.path().join(CA_FILE), damaged).unwrap();
            assert!(load(dir.path()).is_err());
        }
        fs::remove_file(&key).unwrap();
        assert!(matches!(open_ca_key(dir.path(), None), Err(MembershipError::NoCaKey { .. })));
    }
}
