//! The survey: every state in which a power cut might have left a node's directory, and what the store makes of it.

use std::{
    env, fs,
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use cogmesh::{
    ledger::types::Seq,
    log::{Entry, NodeId, books::Books},
    node::{identity_file, standing},
    store::{
        Durability, SqliteStore, Store, StoreOptions,
        sign_mark::{FoundMark, SignMark},
    },
};
use tempfile::TempDir;

use super::{
    super::{
        nodes::{Dice, federation, policy},
        witness::stored_log,
    },
    disk::{Disk, Image},
    trace::{Happened, Trace},
};

/// States that are looked at where the environment says nothing.
const STATES: u64 = 2_500;
/// Torn states at each moment, beside the one with all and the one with nothing that was not synced.
const TORN: usize = 3;
const WORKERS: usize = 2;

/// What a node did, and what its log came to in the end.
pub(crate) struct Run {
    pub(crate) trace: Trace,
    pub(crate) durability: Durability,
    pub(crate) own: NodeId,
    /// Its log; every state's is a beginning of it.
    pub(crate) log: Vec<Entry>,
    /// What may stand after that.
    pub(crate) after: After,
    /// The seqs that were acknowledged, in the order in which they were.
    pub(crate) acknowledged: Vec<u64>,
}

/// What may stand in a log after the part that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Nothing,
    /// What was being written when a sync failed: never signed, and nobody was told of it.
    Anything,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Moments at which the power might go.
    pub(crate) moments: usize,
    /// Different states in which it might leave the disk.
    pub(crate) states: usize,
    /// Those that were looked at.
    pub(crate) looked_at: usize,
    /// Those in which something acknowledged is missing.
    pub(crate) lossy: usize,
    /// The most acknowledged thoughts that are missing in one.
    pub(crate) lost_max: usize,
    /// Those in which something is damaged.
    pub(crate) damaged: usize,
    pub(crate) first_loss: Option<String>,
    pub(crate) first_damage: Option<String>,
}

/// One state of the disk, and how many answers had been given by then.
pub(crate) struct State {
    pub(crate) image: Image,
    pub(crate) acknowledged: usize,
    pub(crate) what: String,
}

/// A directory in memory, where there is such a thing.
pub(crate) fn memory() -> TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { tempfile::tempdir_in(shared).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Looks at a sample of all states, or at all of them where the environment says so.
pub(crate) fn survey(run: &Run, seed: u64) -> Found {
    let all = each_state(run, seed, &mut |_| true, &mut |_| {});
    let wanted = match env::var("COGMESH_POWER_STATES").as_deref() {
        Ok("all") => all.states as u64,
        Ok(number) => number.parse().unwrap(),
        Err(_) => STATES,
    };
    let mut dice = Dice(seed);
    let found = Mutex::new(Found::default());
    let (sender, receiver) = sync_channel::<State>(4);
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| work(run, &receiver, &found));
        }
        let mut wants = |_| wanted >= all.states as u64 || dice.below(all.states as u64) < wanted;
        each_state(run, seed, &mut wants, &mut |state| sender.send(state).expect("a worker has failed"));
        drop(sender);
    });
    Found { moments: all.moments, states: all.states, ..found.into_inner().unwrap() }
}

fn work(run: &Run, states: &Mutex<Receiver<State>>, found: &Mutex<Found>) {
    let dir = memory();
    loop {
        let next = states.lock().unwrap().recv();
        let Ok(state) = next else { return };
        let lost = lost(run, &state, dir.path());
        let mut found = found.lock().unwrap();
        found.looked_at += 1;
        match lost {
            Ok(0) => {}
            Ok(lost) => {
                found.lossy += 1;
                found.lost_max = found.lost_max.max(lost);
                found.first_loss.get_or_insert_with(|| format!("{}: {lost} thoughts", state.what));
            }
            Err(why) => {
                found.damaged += 1;
                found.first_damage.get_or_insert_with(|| format!("{}: {why}", state.what));
            }
        }
    }
}

/// Goes through the run and makes every state that is wanted, asked by its number. Counts them all.
pub(crate) fn each_state(
    run: &Run,
    seed: u64,
    wanted: &mut dyn FnMut(usize) -> bool,
    take: &mut dyn FnMut(State),
) -> Found {
    let mut disk = Disk::default();
    let mut found = Found::default();
    let mut acknowledged = 0;
    let happened = &run.trace.happened;
    // One after the last, for the end of the run.
    for moment in 0..=happened.len() {
        let next = happened.get(moment);
        if matches!(next, Some(Happened::Acknowledged)) {
            acknowledged += 1;
            continue;
        }
        found.moments += 1;
        let mut offer = |what: &str, image: &mut dyn FnMut() -> Image| {
            found.states += 1;
            if wanted(found.states) {
                let what = format!("moment {moment}, {what}, before {next:?}");
                take(State { image: image(), acknowledged, what });
            }
        };
        offer("everything", &mut || disk.everything());
        // What is synced changes with a sync only; just before it, most had been promised.
        let syncs = matches!(next, None | Some(Happened::Synced { .. } | Happened::NamesSynced));
        if !disk.is_synced() {
            if syncs {
                offer("nothing unsynced", &mut || disk.nothing_unsynced());
            }
            for number in 0..TORN {
                let mut dice = Dice(seed ^ ((moment * TORN + number) as u64) << 20);
                offer("torn", &mut || disk.torn(&run.trace, &mut dice));
            }
        }
        if let Some(next) = next {
            disk.apply(&run.trace, next);
        }
    }
    found
}

/// Puts a state into a directory in place of what is there.
pub(crate) fn materialise(image: &Image, dir: &Path) {
    for left in fs::read_dir(dir).unwrap() {
        fs::remove_file(left.unwrap().path()).unwrap();
    }
    for (name, contents) in image {
        let path: PathBuf = dir.join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
}

/// How many acknowledged thoughts are missing in that state; or what is damaged, whatever is missing.
fn lost(run: &Run, state: &State, dir: &Path) -> Result<usize, String> {
    materialise(&state.image, dir);
    // A key that was not yet synced is made anew, and nothing had been promised with it.
    let identity = identity_file::load_or_create(dir).map_err(|error| error.to_string())?;
    let options = StoreOptions::new(federation(), identity.node_id(), policy());
    let options = StoreOptions { durability: run.durability, ..options };
    let store = SqliteStore::open(&dir.join("store.db"), options).map_err(|error| error.to_string())?;
    let books = store.load().map_err(|error| error.to_string())?;
    let log = stored_log(&store, run.own)?;
    let same = log.iter().zip(&run.log).all(|(found, written)| {
        found.header_bytes() == written.header_bytes() && found.content() == written.content()
    });
    let longer = log.len() > run.log.len() && run.after == After::Nothing;
    let book = books.authors.get(&run.own).map(|book| (book.seq(), book.hash));
    let keys: Vec<Seq> = books.submissions.iter().map(|(_, recorded)| recorded.seq).collect();
    let known = keys.iter().all(|seq| seq.0 < log.len() as u64);
    let wrong = [
        (!same || longer, "it holds what was never written"),
        (book != log.last().map(|last| (last.seq(), last.hash())), "the book is not the one after the log"),
        (!known || keys.len() != log.len().saturating_sub(1), "the keys are not those of the log"),
        (integrity(dir).as_deref() != Ok("ok"), "the database contradicts itself"),
    ];
    if let Some((_, what)) = wrong.iter().find(|(is_so, _)| *is_so) {
        return Err((*what).to_owned());
    }
    let lost = run.acknowledged[..state.acknowledged].iter().filter(|seq| **seq >= log.len() as u64).count();
    if state.acknowledged > 0 {
        check_mark(run, dir, &books, lost)?;
    }
    Ok(lost)
}

/// Once something was promised there is a mark, whole; and a node that lost what it had signed asks its peers before it signs
/// anything, unless it never had any.
fn check_mark(run: &Run, dir: &Path, books: &Books, lost: usize) -> Result<(), String> {
    let (_, found) = SignMark::open(dir, run.own, run.durability).map_err(|error| error.to_string())?;
    // The file stands in another place than in the run; what it says is what counts.
    let (FoundMark::Here(mark) | FoundMark::Copied(mark)) = found else {
        return Err(format!("the sign mark is lost: {found:?}"));
    };
    let standing = standing::of(FoundMark::Here(mark), books, run.own);
    match lost > 0 && mark.met && standing.doubt.is_none() {
        true => Err("it would sign again what it had signed".to_owned()),
        false => Ok(()),
    }
}

/// The database's own opinion.
fn integrity(dir: &Path) -> rusqlite::Result<String> {
    let database = rusqlite::Connection::open(dir.join("store.db"))?;
    database.query_row("PRAGMA integrity_check", [], |row| row.get(0))
}
