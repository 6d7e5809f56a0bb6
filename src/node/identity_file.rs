//! The node's key on disk: made at first start, mode 0600 in a directory of mode 0700, and refused where others may read it. It is
//! a PKCS#8 document in PEM (RFC 8410, RFC 7468), so that `openssl pkey -in node.key -text` reads it.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use data_encoding::BASE32_NOPAD;
use pem::{EncodeConfig, LineEnding, Pem};
use zeroize::Zeroizing;

use crate::log::{Identity, NodeId};

/// The key file's name in the data directory.
pub const KEY_FILE: &str = "node.key";
/// What stands around the key.
const PEM_LABEL: &str = "PRIVATE KEY";
/// What the only line of a key file of the first versions starts with; the rest is the seed in lower-case base32.
const LINE_START: &str = "cogmesh-ed25519-seed-1 ";
/// Far above the length of a key file, and far below anything that hurts to read.
const FILE_BYTES_MAX: u64 = 4_096;

/// Why there is no key. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Others may read or write it.
    #[error("the key file `{}` has mode {mode:03o}: others than its owner may use it; run `chmod 600 {}`", path.display(), path.display())]
    Permissions {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else than a key.
    #[error("the key file `{}` is damaged, or its key is none of Ed25519; put a backup of it in its place, or move it away to start as a new node", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// It can't be read or written.
    #[error("can't use the key file `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No randomness can be had.
    #[error("the system gives no randomness for a key")]
    Randomness,
}

/// Makes the data directory, with mode 0700, where it is missing.
///
/// # Errors
/// Where it can't be made.
pub fn make_data_dir(data_dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)
}

/// The key in that data directory; `None` where there is none yet.
///
/// # Errors
/// Where others may read the key file, or it is damaged or can't be read.
pub fn load(data_dir: &Path) -> Result<Option<Identity>, KeyFileError> {
    load_file(&data_dir.join(KEY_FILE))
}

/// The key in that file; `None` where there is no such file.
///
/// # Errors
/// Where others may read it, or it is damaged or can't be read.
pub fn load_file(path: &Path) -> Result<Option<Identity>, KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.to_owned(), mode });
    }
    // With room for a whole file, so that no part of it is left behind where a growing buffer moves.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
    parse(&bytes).map(Some).ok_or_else(|| KeyFileError::Damaged { path: path.to_owned() })
}

/// A key that is in no file yet.
#[derive(Debug)]
pub struct NewKey {
    identity: Identity,
}

impl NewKey {
    /// Makes one.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn make() -> Result<Self, KeyFileError> {
        let mut seed = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *seed).map_err(|_| KeyFileError::Randomness)?;
        let identity = Identity::from_seed(&seed).map_err(|_| KeyFileError::Randomness)?;
        Ok(Self { identity })
    }

    /// One that was made elsewhere.
    #[must_use]
    pub const fn given(identity: Identity) -> Self {
        Self { identity }
    }

    /// Whose it is.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// Writes it into that data directory, for good.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn save(self, data_dir: &Path) -> Result<Identity, KeyFileError> {
        let path = data_dir.join(KEY_FILE);
        let document = self.identity.pkcs8_der().map_err(|_| KeyFileError::Randomness)?;
        write(data_dir, KEY_FILE, to_pem(&document).as_bytes())
            .map_err(|source| KeyFileError::Io { path, source })?;
        Ok(self.identity)
    }
}

/// The key in that data directory, made where there is none yet.
///
/// # Errors
/// As [`load`], and where it can't be made or written.
pub fn load_or_create(data_dir: &Path) -> Result<Identity, KeyFileError> {
    match load(data_dir)? {
        Some(identity) => Ok(identity),
        None => NewKey::make()?.save(data_dir),
    }
}

/// Writes a file for its owner alone, beside and renamed, each synced: a crash leaves the whole file or what was there.
pub(crate) fn write(data_dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let unfinished = data_dir.join(format!("{name}.new"));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&unfinished, data_dir.join(name))?;
    File::open(data_dir)?.sync_all()
}

fn to_pem(document: &[u8]) -> Zeroizing<String> {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    Zeroizing::new(pem::encode_config(&Pem::new(PEM_LABEL, document), config))
}

fn parse(bytes: &[u8]) -> Option<Identity> {
    match bytes.strip_prefix(LINE_START.as_bytes()) {
        Some(text) => parse_line(text),
        None => {
            let pem = pem::parse(bytes).ok().filter(|pem| pem.tag() == PEM_LABEL)?;
            Identity::from_pkcs8_der(&Zeroizing::new(pem.into_contents())).ok()
        }
    }
}

/// What stands behind [`LINE_START`].
fn parse_line(text: &[u8]) -> Option<Identity> {
    let text = Zeroizing::new(std::str::from_utf8(text).ok()?.strip_suffix('\n')?.to_ascii_uppercase());
    let seed = Zeroizing::new(BASE32_NOPAD.decode(text.as_bytes()).ok()?);
    Identity::from_seed(&Zeroizing::new(<[u8; 32]>::try_from(&seed[..]).ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().is_none());
        let first = load_or_create(dir.path()).unwrap().node_id();
        assert_eq!(load_or_create(dir.path()).unwrap().node_id(), first);
        let mode = fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn openssl_reads_the_key_file_and_makes_files_that_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        let id = load_or_create(dir.path()).unwrap().node_id();
        let openssl = |args: &[&str]| {
            let output =
                Command::new("openssl").args(args).arg(&path).output().expect("openssl is installed");
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        let public = openssl(&["pkey", "-pubout", "-outform", "DER", "-in"]);
        assert!(public.ends_with(id.as_bytes()), "the node id is the public key");
        openssl(&["genpkey", "-algorithm", "ed25519", "-out"]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(load(dir.path()).unwrap().unwrap().node_id(), id);
        openssl(&["genpkey", "-algorithm", "x25519", "-out"]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(load(dir.path()), Err(KeyFileError::Damaged { .. })), "a key of another kind");
    }

    #[test]
    fn a_key_file_of_the_first_versions_is_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = BASE32_NOPAD.encode(&[7; 32]).to_ascii_lowercase();
        let path = dir.path().join(KEY_FILE);
        fs::write(&path, format!("{LINE_START}{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let id = load(dir.path()).unwrap().unwrap().node_id();
        assert_eq!(id, Identity::from_seed(&[7; 32]).unwrap().node_id());
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("644") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_damaged_key_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", b"\xff\xfe\n", &[b'a'; 100_000]] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(load_or_create(dir.path()), Err(KeyFileError::Damaged { .. })));
        }
    }
}
