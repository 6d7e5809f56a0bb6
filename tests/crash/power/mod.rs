//! Power cuts: a node runs with every write and sync recorded, and then each state in which a cut might have left its
//! disk is put together and opened.

mod disk;
mod survey;
mod trace;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use cogmesh::{
    log::NodeId,
    node::identity_file,
    store::{Durability, SqliteStore, StoreOptions},
};

use self::{
    survey::{After, Run, State, each_state, materialise, memory, survey},
    trace::{Happened, Trace, acknowledge, shim},
};
use super::{
    kills::agree,
    load::{Acked, Load},
    nodes::{Dice, Node, PATIENCE, federation, number, policy, request},
    witness::{Witness, stored_log},
};

const SUBMITTERS: usize = 6;
/// Thoughts before the node is killed, and before it is stopped in its second life.
const THOUGHTS: [usize; 2] = [120, 240];
/// Pages between two checkpoints: a dozen of them happen in one run.
const CHECKPOINT_PAGES: &str = "24";

/// States from which a node is started beside its peer.
const RECOVERIES: u64 = 12;

/// The variables of a node that is recorded.
struct Recorded {
    shim: PathBuf,
    trace: PathBuf,
    dir: PathBuf,
}

impl Recorded {
    fn new(shim: PathBuf, node: &Node) -> Self {
        Self { shim, trace: node.dir.with_extension("trace"), dir: node.dir.clone() }
    }

    fn spawn(&self, node: &mut Node, more: &[(&str, &str)]) {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (shim, dir, trace) = (text(&self.shim), text(&self.dir), text(&self.trace));
        let variables = [
            ("LD_PRELOAD", shim.as_str()),
            ("POWER_SHIM_DIR", dir.as_str()),
            ("POWER_SHIM_TRACE", trace.as_str()),
            ("COGMESH_CHECKPOINT_PAGES", CHECKPOINT_PAGES),
        ];
        node.spawn(&[&variables, more].concat());
    }

    /// The load on the first of those nodes, whose answers are noted in the trace.
    fn load(&self, nodes: &[Node]) -> Load {
        let trace = self.trace.clone();
        Load::start_telling(&nodes[..1], SUBMITTERS, move |_: &Acked| acknowledge(&trace))
    }

    /// What came of it, once the node has ended.
    fn run(&self, durability: Durability, acked: &[Acked]) -> Run {
        let own = self.id();
        let log = stored_log(&open(&self.dir, own), own).unwrap();
        let acknowledged = acked.iter().map(|acked| acked.seq).collect();
        Run { trace: Trace::read(&self.trace), durability, own, log, after: After::Nothing, acknowledged }
    }

    fn id(&self) -> NodeId {
        identity_file::load(&self.dir).unwrap().unwrap().node_id()
    }
}

fn open(dir: &Path, own: NodeId) -> SqliteStore {
    SqliteStore::open(&dir.join("store.db"), StoreOptions::new(federation(), own, policy())).unwrap()
}

fn wait_for(load: &Load, thoughts: usize) {
    wait_until(|| load.acked().len() >= thoughts);
}

fn wait_until(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it takes too long");
        thread::sleep(Duration::from_millis(1));
    }
}

/// How often the write-ahead log was copied back: the database file itself is synced then only, but for its making.
fn checkpoints(trace: &Trace) -> usize {
    let is_store =
        |happened: &&Happened| matches!(happened, Happened::Created { name, .. } if name == "store.db");
    let Some(Happened::Created { file: store, .. }) = trace.happened.iter().find(is_store) else { return 0 };
    trace
        .happened
        .iter()
        .filter(|happened| matches!(happened, Happened::Synced { file } if file == store))
        .count()
        - 1
}

/// Lets the first node run under load, be killed, run again and stop; the others stay.
fn live(recorded: &Recorded, nodes: &mut [Node], durability: Durability) -> Run {
    let variables: &[(&str, &str)] = match durability {
        Durability::Full => &[],
        Durability::Normal => &[("COGMESH_DURABILITY", "normal")],
    };
    recorded.spawn(&mut nodes[0], variables);
    nodes[0].wait_ready();
    let load = recorded.load(nodes);
    wait_for(&load, THOUGHTS[0]);
    nodes[0].kill();
    recorded.spawn(&mut nodes[0], variables);
    nodes[0].wait_ready();
    wait_for(&load, THOUGHTS[1]);
    let acked = load.end();
    agree(nodes, &mut Witness::default());
    assert!(nodes[0].stop().success(), "{}", nodes[0].log());
    recorded.run(durability, &acked)
}

#[test]
fn a_power_cut_at_any_write_loses_nothing_that_was_acknowledged() {
    let begun = Instant::now();
    let world = memory();
    let Some(shim) = shim(world.path()) else { return };
    let mut nodes = Node::federation(world.path(), &["legion"]);
    let recorded = Recorded::new(shim, &nodes[0]);
    let run = live(&recorded, &mut nodes, Durability::Full);
    let found = survey(&run, number("COGMESH_CRASH_SEED").unwrap_or(1));
    let (acknowledged, checkpoints) = (run.acknowledged.len(), checkpoints(&run.trace));
    println!(
        "full: {acknowledged} acknowledged, {checkpoints} checkpoints, {found:?}, in {:?}",
        begun.elapsed()
    );
    assert_eq!((found.lossy, found.damaged), (0, 0), "{found:?}");
    assert!(checkpoints > 8, "{checkpoints}");
    assert!(found.states > 5_000, "{found:?}");
    // A survey that finds nothing must be one that would have: of a disk that says it has synced and has not, it finds both.
    let liar = survey(&on_a_disk_that_lies(run), 1);
    println!("on a disk that lies: {liar:?}, in {:?}", begun.elapsed());
    assert!(liar.lossy > 0 && liar.damaged > 0, "{liar:?}");
}

/// What the same run would have left on a disk that syncs nothing more once the first answer was given.
fn on_a_disk_that_lies(mut run: Run) -> Run {
    let mut answered = false;
    run.trace.happened.retain(|happened| {
        answered |= matches!(happened, Happened::Acknowledged);
        !answered || !matches!(happened, Happened::Synced { .. } | Happened::NamesSynced)
    });
    run
}

#[test]
fn without_syncs_a_power_cut_loses_the_end_of_the_log_which_a_peer_gives_back() {
    let begun = Instant::now();
    let world = memory();
    let Some(shim) = shim(world.path()) else { return };
    let mut nodes = Node::federation(world.path(), &["legion", "thor"]);
    let recorded = Recorded::new(shim, &nodes[0]);
    nodes[1].start();
    let run = live(&recorded, &mut nodes, Durability::Normal);
    let seed = number("COGMESH_CRASH_SEED").unwrap_or(1);
    let found = survey(&run, seed);
    println!("normal: {} acknowledged, {found:?}, in {:?}", run.acknowledged.len(), begun.elapsed());
    assert!(found.lossy > 0 && found.damaged == 0, "{found:?}");
    let mut dice = Dice(seed);
    let mut sample = vec![];
    let some = found.states as u64 / RECOVERIES;
    each_state(&run, seed, &mut |_| dice.once_in(some), &mut |state| sample.push(state));
    let mut witness = Witness::default();
    // What was never promised to anybody is nobody's business.
    let sample = sample.iter().filter(|state| state.acknowledged > 0);
    for (recovered, state) in sample.enumerate() {
        gets_its_log_back(&mut nodes, state, run.log.len() + recovered, &mut witness);
    }
    println!("normal: recovered, in {:?}", begun.elapsed());
}

/// From that state the first node gets its own log of so many entries back from the second, and goes on behind it.
fn gets_its_log_back(nodes: &mut [Node], state: &State, entries: usize, witness: &mut Witness) {
    materialise(&state.image, &nodes[0].dir);
    nodes[0].spawn(&[("COGMESH_DURABILITY", "normal")]);
    nodes[0].wait_ready();
    let body = format!(r#"{{"content":"spam spam after a power cut at {entries}"}}"#);
    let begun = Instant::now();
    let seq = loop {
        match request(&nodes[0].dir, "POST", "/v1/thoughts", &body).unwrap() {
            (200, answer) => break answer["seq"].as_u64(),
            (status, answer) => {
                assert!(status == 503 && begun.elapsed() < PATIENCE, "{}: {answer}", state.what);
            }
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(seq, Some(entries as u64), "{}", state.what);
    agree(nodes, witness);
    nodes[0].kill();
}

/// Those of the first commit and of later ones; of checkpoints (`store.db`); of the directory, the fifth of which is
/// the store's own: the mark's and the key's come first, and then two at whose result SQLite does not look.
const FAILING_SYNCS: [(&str, &str); 9] = [
    ("sign.mark:1", "the sign mark"),
    (":1", "the sign mark"),
    ("node.key.new:1", "the key file"),
    ("store.db-wal:1", "the store"),
    (":5", "can't open the store"),
    ("store.db-wal:9", "the store failed: "),
    ("store.db-wal:40", "the store failed: "),
    ("store.db:2", "the store failed: "),
    ("store.db:4", "the store failed: "),
];

#[test]
fn a_sync_that_fails_ends_the_node_which_tries_no_second_time_and_loses_nothing() {
    let world = memory();
    let Some(shim) = shim(world.path()) else { return };
    for (failing, said) in FAILING_SYNCS {
        let world = memory();
        let mut nodes = Node::federation(world.path(), &["legion"]);
        let recorded = Recorded::new(shim.clone(), &nodes[0]);
        recorded.spawn(&mut nodes[0], &[("POWER_SHIM_FAIL_SYNC", failing)]);
        let load = recorded.load(&nodes);
        let status = nodes[0].wait_end();
        let (acked, log) = (load.end(), nodes[0].log());
        println!("{failing}: {} acknowledged", acked.len());
        assert_eq!(status.code(), Some(1), "{failing}: {log}");
        let error = log.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(
            error.contains(said) && error.contains("os error 5") || error.contains("disk I/O error"),
            "{log}"
        );
        let mut witness = Witness::default();
        witness.check_store(0, &nodes[0], &acked);
        // Once the disk is well again: an answer that was given is given again.
        nodes[0].start();
        let again = Load::start(&nodes, SUBMITTERS);
        // How many came in all says nothing: one submitter may be far ahead of another.
        let is_again = |acked: &Acked, again: &[Acked]| again.iter().any(|again| again.key == acked.key);
        wait_until(|| {
            let again = again.acked();
            acked.iter().all(|acked| is_again(acked, &again))
        });
        wait_for(&again, acked.len() + 20);
        let again = again.end();
        for acked in &acked {
            assert!(
                again.iter().any(|again| (&again.key, again.seq) == (&acked.key, acked.seq)),
                "{acked:?}"
            );
        }
        agree(&nodes, &mut witness);
        assert!(nodes[0].stop().success());
        // And where the power goes before that: what the failed sync did not write may never be written.
        let mut run = recorded.run(Durability::Full, &acked);
        run.log.truncate(acked.iter().map(|acked| acked.seq as usize + 1).max().unwrap_or(0));
        run.after = After::Anything;
        let failed = run.trace.happened.iter().position(is_failure).expect("the sync never came");
        // An empty log of a store that never came to be may go. A directory has nothing that could be lost by a second try.
        // The token of the local API, which a node makes while its first commit is under way, is a file of its own.
        let (first, after) = run.trace.happened[failed..].split_first().unwrap();
        let token = after.iter().find_map(|later| {
            if let Happened::Created { file, name } = later {
                (name == "api.token.new").then_some(*file)
            } else {
                None
            }
        });
        let kind = |later: &Happened| match later {
            Happened::Acknowledged | Happened::Removed { .. } | Happened::NamesSynced => true,
            Happened::Created { file, .. } | Happened::Written { file, .. } | Happened::Synced { file } => {
                token == Some(*file)
            }
            Happened::Renamed { to, .. } => to == "api.token",
            Happened::Resized { .. } | Happened::SyncFailed { .. } | Happened::NameSyncFailed => false,
        };
        let quiet = matches!(first, Happened::NameSyncFailed) || after.iter().all(kind);
        assert!(quiet, "{failing}, then {after:?}");
        let found = survey(&run, 1);
        println!("{failing}: {found:?}");
        assert_eq!((found.lossy, found.damaged), (0, 0), "{failing}: {found:?}");
    }
}

fn is_failure(happened: &Happened) -> bool {
    matches!(happened, Happened::SyncFailed { .. } | Happened::NameSyncFailed)
}
