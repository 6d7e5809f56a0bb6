//! Opening: the files of a node before its first socket: lock, key, membership, store and sign mark, and what they make it.

use std::{path::Path, sync::Arc};

use aws_lc_rs::rand;

use super::{
    Config, DataDirLock, STORE_FILE, StartError,
    clock::Clock,
    identity_file::{self, NewKey},
    invitations::Invitations,
    membership::{self, Member},
    pins::PinFile,
    pki::{self, PkiError, PkiFiles},
    rebuild,
    revocations::RevocationFile,
    standing, throughput, work,
};
use crate::{
    ledger::types::{Millis, Seq},
    log::{
        Architecture, Body, Claim, Entry, FederationId, FederationName, Genesis, Hash, Identity, NodeId,
        books::{Books, Record},
    },
    net::membership::WallClock,
    protocol::{
        frame::Instance,
        hello::{Closed, Setup},
        own::is_overruled,
        recovery::Standing,
    },
    store::{
        Durability, SqliteStore, Store, StoreError, StoreOptions,
        sign_mark::{FoundMark, SignMark},
    },
};

/// A proof of work of so many bits takes long enough to be told: some milliseconds.
const WORK_TOLD_MIN: u8 = 12;

/// What is read or made before the first socket is opened.
pub(super) struct Opened {
    pub(super) lock: DataDirLock,
    pub(super) identity: Arc<Identity>,
    pub(super) member: Option<Member>,
    pub(super) gate: Gate,
    pub(super) store: Arc<dyn Store>,
    pub(super) books: Books,
    pub(super) setup: Setup,
    pub(super) clock: Arc<Clock>,
    pub(super) mark: SignMark,
    pub(super) standing: Standing,
}

/// What decides who may come in, as it is kept on the disk.
#[derive(Debug)]
pub(super) struct Gate {
    /// Where this node may make members.
    pub(super) desk: Option<Arc<Invitations>>,
    pub(super) revocations: RevocationFile,
    /// Where only approved nodes may be linked.
    pub(super) pins: Option<PinFile>,
}

/// Opens the files of a node, in the order in which that can fail.
pub(super) fn open(config: &Config) -> Result<Opened, StartError> {
    let path = &config.data_dir;
    identity_file::make_data_dir(path)
        .map_err(|source| StartError::DataDir { path: path.clone(), source })?;
    let lock = DataDirLock::take(path)?;
    // What a process left that was killed while it measured.
    throughput::clear(path).map_err(|source| StartError::DataDir { path: path.clone(), source })?;
    let key = config.pki.as_ref().map_or(Ok(None), PkiFiles::key)?;
    let member = member(config, key.as_ref().map(|(_, key)| key))?;
    let (identity, mut mark, found) = identity(path, config.durability, key)?;
    let own = identity.node_id();
    let revocations = RevocationFile::load(path)?;
    let (federation_name, closed) =
        membership::federation(config.federation.as_ref(), member.as_ref(), revocations.list())?;
    let ca = closed.as_ref().map(|closed| &closed.ca.0);
    let federation = FederationId::new(&federation_name, &config.policy, ca);
    let store = match config.rebuild_from_peers {
        true => rebuild::open(path, store_options(config, federation, own))?,
        false => open_store(path, store_options(config, federation, own))?,
    };
    let books = store.load()?;
    let standing =
        Standing { write_without_peers: config.write_without_peers, ..standing::of(found, &books, own) };
    let pins = config.pin.then(|| PinFile::open(path, &books)).transpose()?;
    let setup = setup(config, &identity, (federation, federation_name, closed), &*store)?;
    let setup = Setup { pinned: pins.as_ref().map(|pins| pins.all(config)), ..setup };
    let clock = Arc::new(Clock::start(books.newest_time));
    let desk = match &member {
        // Others make the members there.
        Some(_) if config.pki.is_some() => None,
        Some(member) => {
            let wall = wall(&clock);
            let rules = (&config.policy, config.certificate_lifetime);
            Invitations::open(path, member.clone(), rules, revocations.list(), wall)?.map(Arc::new)
        }
        None => None,
    };
    let end = books.authors.get(&own).map(|book| (book.seq(), book.hash));
    begin(&*store, &mut mark, &books, standing, end)?;
    let gate = Gate { desk, revocations, pins };
    Ok(Opened { lock, identity, member, gate, store, books, setup, clock, mark, standing })
}

/// Writes down how the node begins, before anything is signed.
fn begin(
    store: &dyn Store,
    mark: &mut SignMark,
    books: &Books,
    standing: Standing,
    end: Option<(Seq, Hash)>,
) -> Result<(), StoreError> {
    let is_in_doubt = standing.doubt.is_some() || end.map(|(seq, _)| seq) < standing.through;
    match (is_in_doubt, is_overruled(standing, end)) {
        (true, false) => {
            if !books.restored {
                store.commit(&[Record::Doubted])?;
            }
            // Once the mark is written here, nothing else tells the next start what this one has seen.
            store.sync()?;
            mark.begin_in_doubt()
        }
        (is_in_doubt, _) => {
            if books.restored {
                store.commit(&[Record::Recovered])?;
            }
            if is_in_doubt {
                mark.overrule(end);
            }
            mark.begin(end)
        }
    }
}

/// What makes the federation a closed one, where it is.
fn member(config: &Config, key: Option<&Identity>) -> Result<Option<Member>, StartError> {
    let Some(files) = &config.pki else { return Ok(membership::load(&config.data_dir)?) };
    pki::is_free(&config.data_dir)?;
    let member = files.load(config.federation.as_ref())?;
    // Before the directory becomes that node's.
    let clock = wall(&Arc::new(Clock::start(Millis(0))));
    key.map_or(Ok(()), |key| files.fit(&member, key, clock))?;
    Ok(Some(member))
}

/// The node's key and its sign mark. `given` is a key that was named.
pub(super) fn identity(
    data_dir: &Path,
    durability: Durability,
    given: Option<(&Path, Identity)>,
) -> Result<(Arc<Identity>, SignMark, FoundMark), StartError> {
    let identity = match (identity_file::load(data_dir)?, given) {
        (Some(own), Some((path, given))) if own.node_id() != given.node_id() => {
            return Err(PkiError::OtherNode { path: path.to_owned(), own: own.node_id() }.into());
        }
        (Some(own), _) => Some(own),
        // It is kept here from now on, so that every command finds it. Nobody here knows what was signed with it before.
        (None, Some((_, given))) => Some(NewKey::given(given).save(data_dir)?),
        (None, None) => None,
    };
    if let Some(identity) = identity {
        let (mark, found) = SignMark::open(data_dir, identity.node_id(), durability)?;
        return Ok((Arc::new(identity), mark, found));
    }
    let key = NewKey::make()?;
    let mark = SignMark::of_a_new_key(data_dir, key.node_id(), durability)?;
    Ok((Arc::new(key.save(data_dir)?), mark, FoundMark::New))
}

fn store_options(config: &Config, federation: FederationId, own: NodeId) -> StoreOptions {
    StoreOptions {
        durability: config.durability,
        corpus: config.corpus,
        ..StoreOptions::new(federation, own, config.policy.clone())
    }
}

pub(super) fn open_store(data_dir: &Path, options: StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SqliteStore::open(&data_dir.join(STORE_FILE), options)?))
}

/// What the node says of itself: as its genesis entry has it, or as configured where it has none yet.
fn setup(
    config: &Config,
    identity: &Arc<Identity>,
    (federation, federation_name, closed): (FederationId, FederationName, Option<Closed>),
    store: &dyn Store,
) -> Result<Setup, StartError> {
    let random = |_| StartError::Randomness;
    let mut number = [0; 8];
    rand::fill(&mut number).map_err(random)?;
    let genesis = match own_genesis(store, &federation, identity.node_id())? {
        Some(genesis) => genesis,
        None => new_genesis(config, identity, &federation)?,
    };
    let claim = Claim { hardware: genesis.hardware, level: genesis.level, arch: genesis.arch };
    Ok(Setup {
        identity: Arc::clone(identity),
        federation,
        federation_name,
        closed,
        policy: config.policy.clone(),
        name: genesis.name,
        claim,
        nonce: genesis.nonce,
        instance: Instance(u64::from_le_bytes(number)),
        addresses: vec![],
        peers_max: config.peers_max,
        pinned: None,
    })
}

fn new_genesis(
    config: &Config,
    identity: &Identity,
    federation: &FederationId,
) -> Result<Genesis, StartError> {
    let mut first = [0; 8];
    rand::fill(&mut first).map_err(|_| StartError::Randomness)?;
    let bits = config.policy.pow_bits;
    if bits >= WORK_TOLD_MIN {
        tracing::info!(node = %config.name, bits, "a new node: making its proof of work");
    }
    let nonce = work::find_nonce(federation, &identity.node_id(), bits, u64::from_le_bytes(first))
        .ok_or(StartError::Failed)?;
    Ok(Genesis {
        name: config.name.clone(),
        hardware: config.hardware,
        level: config.level,
        arch: Architecture::from_target(std::env::consts::ARCH),
        nonce,
    })
}

fn own_genesis(
    store: &dyn Store,
    federation: &FederationId,
    id: NodeId,
) -> Result<Option<Genesis>, StoreError> {
    let stored = store.entries(id, Seq::GENESIS, 1)?;
    let entry = stored
        .into_iter()
        .next()
        .and_then(|entry| Entry::parse(federation, entry.header, entry.content).ok());
    Ok(entry.and_then(|entry| match &entry.header().body {
        Body::Genesis(genesis) => Some(genesis.clone()),
        Body::Thought(_) => None,
    }))
}

/// The node's time, for others' use.
pub(super) fn wall(clock: &Arc<Clock>) -> WallClock {
    let clock = Arc::clone(clock);
    Arc::new(move || clock.now().wall)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Listen, renewal},
        *,
    };
    use crate::{
        ledger::{policy::Policy, types::Level},
        log::Hardware,
        store::CorpusBounds,
    };

    fn config(dir: &Path) -> Config {
        Config {
            data_dir: dir.to_owned(),
            name: "legion".parse().unwrap(),
            hardware: Hardware::Software,
            level: Level::MAX,
            federation: None,
            pki: None,
            pin: false,
            policy: Policy { pow_bits: 4, ..Policy::default() },
            listen: Listen::Loopback,
            port: None,
            peers: vec![],
            mdns: false,
            durability: Durability::Full,
            corpus: CorpusBounds::default(),
            disk_free_min: 0,
            write_without_peers: false,
            rebuild_from_peers: false,
            lends_arenas: true,
            certificate_lifetime: membership::LIFETIME,
            peers_max: 64,
        }
    }

    #[test]
    fn a_store_that_was_restored_on_a_new_machine_stays_in_doubt_however_often_it_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        drop(open(&config).unwrap());
        std::fs::remove_file(dir.path().join("sign.mark")).unwrap();
        let federation = FederationId::new(&FederationName::lan(), &config.policy, None);
        let own = identity_file::load(dir.path()).unwrap().unwrap().node_id();
        let store = open_store(dir.path(), store_options(&config, federation, own)).unwrap();
        store.commit(&[Record::Doubted]).unwrap();
        drop(store);
        for start in 1..4 {
            assert!(open(&config).unwrap().standing.doubt.is_some(), "start {start}");
        }
        let overruled = Config { write_without_peers: true, ..config.clone() };
        drop(open(&overruled).unwrap());
        assert_eq!(open(&config).unwrap().standing.doubt, None, "the operator need not answer twice");
    }

    #[test]
    fn a_renewed_identity_is_in_no_doubt() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        drop(open(&config).unwrap());
        renewal::renew(dir.path(), 7).unwrap();
        assert_eq!(open(&config).unwrap().standing.doubt, None);
    }
}
