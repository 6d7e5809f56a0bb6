//! Keys: the node's own, the API's token, and in a closed federation the CA's key and this node's certificate.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{About, Check};
use crate::{
    api::{
        json::Status,
        socket::ApiError,
        token::{self, TOKEN_FILE},
    },
    cli::{show::duration, time},
    ledger::types::Millis,
    log::Identity,
    net::{
        membership::validity,
        tls::{CertificateFault, TlsError, fits},
    },
    node::{
        Config, RELEASED, STORE_FILE, StartError,
        identity_file::{self, KEY_FILE, KeyFileError},
        membership::{self, CA_KEY_FILE, Member},
        pki::{self, PkiError, PkiFiles},
        renewal_due,
    },
};

/// `status` is what the running node says.
pub(super) fn look(data_dir: &Path, config: &Config, status: Option<&Status>) -> Vec<Check> {
    let path = key_path(data_dir, config.pki.as_ref());
    let of_key = About::new("key", path.display().to_string());
    let mut checks = vec![];
    let own = match identity(data_dir, config.pki.as_ref()) {
        Ok(own) => {
            let store = Some(data_dir.join(STORE_FILE)).filter(|store| store.exists());
            checks.push(key(of_key, own.as_ref(), store.as_deref()));
            own
        }
        Err(error) => {
            checks.push(bad_key(of_key, error));
            None
        }
    };
    checks.extend(token(about(data_dir, TOKEN_FILE, "token"), token::is_there(data_dir)));
    let ca_key = data_dir.join(CA_KEY_FILE);
    if let Ok(metadata) = fs::metadata(&ca_key) {
        let mode = metadata.permissions().mode() & 0o777;
        checks.push(secret(about(data_dir, CA_KEY_FILE, "ca_key"), &ca_key, mode));
    }
    checks.extend(certificate(data_dir, config, own.as_ref(), status));
    checks
}

fn about(data_dir: &Path, file: &str, check: &'static str) -> About {
    About::new(check, data_dir.join(file).display().to_string())
}

/// Where this node's key is: one that was named is taken into the data directory by the first start.
fn key_path(data_dir: &Path, pki: Option<&PkiFiles>) -> PathBuf {
    let own = data_dir.join(KEY_FILE);
    match pki.and_then(|files| files.key.clone()) {
        Some(named) if !own.exists() => named,
        Some(_) | None => own,
    }
}

/// The key that a start would use.
fn identity(data_dir: &Path, pki: Option<&PkiFiles>) -> Result<Option<Identity>, PkiError> {
    let named = pki.map_or(Ok(None), PkiFiles::key)?;
    match (identity_file::load(data_dir)?, named) {
        (Some(own), Some((path, named))) if own.node_id() != named.node_id() => {
            Err(PkiError::OtherNode { path: path.to_owned(), own: own.node_id() })
        }
        (Some(own), _) => Ok(Some(own)),
        (None, named) => Ok(named.map(|(_, named)| named)),
    }
}

fn key(about: About, own: Option<&Identity>, store: Option<&Path>) -> Check {
    match (own, store) {
        (Some(own), _) => about.ok(format!("it is that of node {}", own.node_id().to_text())),
        (None, None) => about.ok("there is none yet; the first start makes it"),
        (None, Some(store)) => about.wrong(
            "there is none, but a store, which can't be used without the key that it was made with",
            format!(
                "put a backup of the key in its place; or move `{}` away to start as a new node",
                store.display()
            ),
        ),
    }
}

fn bad_key(about: About, error: PkiError) -> Check {
    let otherwise = "see with `ls -l` what is there and who may read it";
    let PkiError::Key(fault) = error else {
        return about.fails(&StartError::from(error).into(), otherwise);
    };
    match fault {
        KeyFileError::Permissions { path, mode } => secret(about, &path, mode),
        KeyFileError::Damaged { .. } => about.wrong(
            "it is damaged, or its key is none of Ed25519",
            "put a backup of it in its place, or move it away to start as a new node",
        ),
        fault @ (KeyFileError::Io { .. } | KeyFileError::Randomness) => about.fails(&fault.into(), otherwise),
    }
}

/// A file that only its owner may use. Not even a group that it was meant for: the node refuses it then.
fn secret(about: About, path: &Path, mode: u32) -> Check {
    if mode & 0o077 == 0 {
        return about.ok(format!("its owner alone may use it (mode {mode:03o})"));
    }
    about.wrong(
        format!("it has mode {mode:03o}: others than its owner may use it"),
        format!("run `chmod 600 {}`", path.display()),
    )
}

/// Nothing where there is none yet.
fn token(about: About, found: Result<bool, ApiError>) -> Option<Check> {
    Some(match found {
        Ok(false) => return None,
        Ok(true) => about.ok("its owner alone may use it"),
        Err(ApiError::TokenPermissions { path, mode }) => secret(about, &path, mode),
        Err(ApiError::TokenDamaged { .. }) => {
            about.wrong("it holds no token", "delete it and start the node again for a new one")
        }
        Err(other) => about.fails(&other.into(), "see with `ls -l` what is there and who may read it"),
    })
}

/// This node's certificate, where its federation is a closed one.
fn certificate(
    data_dir: &Path,
    config: &Config,
    own: Option<&Identity>,
    status: Option<&Status>,
) -> Option<Check> {
    let now = Millis(time::now_ms()).max(RELEASED);
    let about = About::of_all("certificate");
    let renewal = Renewal::of(config.pki.as_ref());
    let loaded = match &config.pki {
        Some(files) => pki::is_free(data_dir).and_then(|()| files.load(config.federation.as_ref())).map(Some),
        None => membership::load(data_dir).map_err(PkiError::from),
    };
    let member = match loaded {
        Ok(Some(member)) => member,
        // The files of its own PKI may have been named to the running node, and not here.
        Ok(None) => {
            return status
                .filter(|status| status.node.federation.closed)
                .map(|status| shown(about, status, now));
        }
        Err(error) => {
            return Some(
                about.fails(&StartError::from(error).into(), "put a backup of the file in its place"),
            );
        }
    };
    let fault = own.and_then(|own| taken(own, &member, now));
    Some(match validity(member.certificate.der()) {
        Ok((from, until)) => dated(about, Dates { from, until, now }, fault, renewal),
        Err(fault) => faulty(about, fault, renewal),
    })
}

/// Why other members would not take it from the node with that key.
fn taken(own: &Identity, member: &Member, now: Millis) -> Option<CertificateFault> {
    match fits(own, &membership::of(Some(member), Arc::new(move || now))) {
        Err(TlsError::Own(fault)) => Some(fault),
        // What TLS can't be set up with is told at the start, in its own words.
        Ok(()) | Err(_) => None,
    }
}

/// From when to when a certificate counts, and what time it is.
#[derive(Clone, Copy, Debug)]
struct Dates {
    from: Millis,
    until: Millis,
    now: Millis,
}

/// Who gives a node its next certificate.
#[derive(Clone, Copy, Debug)]
enum Renewal {
    /// A node that holds the CA's key, as long as both run.
    Itself,
    /// Whoever runs the PKI.
    Operator,
}

impl Renewal {
    const fn of(pki: Option<&PkiFiles>) -> Self {
        match pki {
            Some(_) => Self::Operator,
            None => Self::Itself,
        }
    }

    const fn in_time(self) -> &'static str {
        match self {
            Self::Itself => {
                "let the node run, linked with the one that holds the CA's key: it gets the next one from there"
            }
            Self::Operator => "put a new one in its place, and send the node SIGHUP",
        }
    }

    const fn anew(self) -> &'static str {
        match self {
            Self::Itself => {
                "`cogmesh invite`, where members are made, gives a new ticket: `cogmesh join TICKET`; the node keeps its log"
            }
            Self::Operator => {
                "have one made from a request of this node's key (certs/README.md), put it in its place, and start the node again"
            }
        }
    }
}

fn dated(about: About, dates: Dates, fault: Option<CertificateFault>, renewal: Renewal) -> Check {
    let Dates { from, until, now } = dates;
    if now < from {
        return faulty(about, CertificateFault::NotYetValid, renewal);
    }
    if now >= until {
        return faulty(about, CertificateFault::Expired, renewal);
    }
    if let Some(fault) = fault {
        return faulty(about, fault, renewal);
    }
    let found =
        format!("it expires in {}, at {}", duration(until.since(now).0 / 1_000), time::shown(until.0));
    if now > renewal_due(from, until) {
        return about.hint(format!("{found}; two thirds of its life have passed"), renewal.in_time());
    }
    about.ok(found)
}

fn faulty(about: About, fault: CertificateFault, renewal: Renewal) -> Check {
    match fault {
        CertificateFault::NotYetValid => {
            about.wrong("it is not valid yet, by the clock of this machine", "set this machine's clock")
        }
        CertificateFault::Expired => about.wrong("it has expired", renewal.anew()),
        CertificateFault::WrongNode { .. } => {
            about.wrong("it was made for another key than this node's", renewal.anew())
        }
        CertificateFault::Unreadable
        | CertificateFault::NotEd25519
        | CertificateFault::WeakKey
        | CertificateFault::NotAMember
        | CertificateFault::OtherPurpose
        | CertificateFault::OtherName
        | CertificateFault::Chain
        | CertificateFault::NotItsKey => {
            about.wrong(format!("no member would take it: {fault}"), renewal.anew())
        }
    }
}

/// What the running node shows to others.
fn shown(about: About, status: &Status, now: Millis) -> Check {
    let until = Millis(status.node.certificate_expires_ms);
    let found = format!("the running node shows one that expires at {}", time::shown(until.0));
    match now < until {
        true => about.ok(found),
        false => about.wrong(found, "put a new one in its place, and send the node SIGHUP"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    fn of(check: &'static str) -> About {
        About::new(check, "/d")
    }

    #[test]
    fn a_key_that_is_missing_is_wrong_only_where_a_store_needs_it() {
        let own = Identity::from_seed(&[7; 32]).unwrap();
        let found = key(of("key"), Some(&own), Some(Path::new("/d/store.db")));
        assert!(found.state == State::Ok && found.found.contains(&own.node_id().to_text()), "{found:?}");
        assert_eq!(key(of("key"), None, None).state, State::Ok);
        assert_eq!(key(of("key"), None, Some(Path::new("/d/store.db"))).state, State::Wrong);
    }

    #[test]
    fn a_key_that_others_may_use_or_that_is_none_says_what_to_do() {
        let path = PathBuf::from("/d/node.key");
        let open = bad_key(of("key"), KeyFileError::Permissions { path: path.clone(), mode: 0o644 }.into());
        assert_eq!((open.state, open.remedy.as_deref()), (State::Wrong, Some("run `chmod 600 /d/node.key`")));
        assert!(open.found.contains("644"));
        let damaged = bad_key(of("key"), KeyFileError::Damaged { path: path.clone() }.into());
        assert!(damaged.found.contains("damaged") && damaged.remedy.unwrap().contains("backup"));
        let source = std::io::ErrorKind::PermissionDenied.into();
        let hidden = bad_key(of("key"), KeyFileError::Io { path, source }.into());
        assert!(hidden.state == State::Wrong && hidden.remedy.unwrap().contains("ls -l"));
    }

    #[test]
    fn a_token_that_is_none_is_wrong_and_one_that_is_not_made_yet_is_not_told() {
        let path = || PathBuf::from("/d/api.token");
        assert_eq!(token(of("token"), Ok(false)), None);
        assert_eq!(token(of("token"), Ok(true)).unwrap().state, State::Ok);
        for error in [
            ApiError::TokenPermissions { path: path(), mode: 0o640 },
            ApiError::TokenDamaged { path: path() },
        ] {
            assert_eq!(token(of("token"), Err(error)).unwrap().state, State::Wrong);
        }
        assert_eq!(secret(of("ca_key"), &path(), 0o600).state, State::Ok);
        assert_eq!(secret(of("ca_key"), &path(), 0o640).state, State::Wrong);
    }

    #[test]
    fn a_certificate_is_well_until_two_thirds_of_its_life_have_passed_and_wrong_outside_of_it() {
        let day = 86_400_000;
        let at = |now: u64, fault| {
            let dates = Dates { from: Millis(100 * day), until: Millis(130 * day), now: Millis(now) };
            dated(of("certificate"), dates, fault, Renewal::Itself)
        };
        assert_eq!(at(110 * day, None).state, State::Ok);
        assert_eq!(at(121 * day, None).state, State::Hint);
        assert!(at(130 * day, None).remedy.unwrap().contains("cogmesh join"));
        assert!(at(99 * day, None).remedy.unwrap().contains("clock"));
        let stranger = at(110 * day, Some(CertificateFault::NotAMember));
        assert!(stranger.state == State::Wrong && stranger.found.contains("CA"), "{stranger:?}");
        assert!(
            faulty(of("certificate"), CertificateFault::Expired, Renewal::Operator)
                .remedy
                .unwrap()
                .contains("certs/README.md")
        );
    }
}
