//! The sign mark: how far a node may have signed its own log, in a file that is no part of the store or its backups. A store that
//! ends before its mark was put back from an older state, and must not be signed on before its entries came back.
//! Source: protocol.md, The log.
//!
//! The file has two places of equal size that are written in turn, so that a write that was cut off leaves the other one
//! whole. It is written in place, never replaced: its inode then tells a data directory from a copy of it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use super::{Durability, StoreError};
use crate::{
    ledger::types::Seq,
    log::{Hash, NodeId},
};

/// The mark's file in the data directory.
pub const SIGN_MARK_FILE: &str = "sign.mark";
/// With commits that are not synced, the mark is: so many seqs ahead, to be rarely needed.
const AHEAD: u64 = 1_000;
/// What every mark starts with.
const LINE_START: &str = "cogmesh-sign-mark-1";
/// Bytes of one of the two places: a line, filled up with spaces. Less than a sector, so a write is seldom cut off.
const PLACE_BYTES: usize = 384;
const PLACE_BYTES_U64: u64 = 384;
/// Bytes of the checksum, as hex digits.
const SUM_DIGITS: usize = 16;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last seq that may have been signed; `None` before the first entry.
    pub through: Option<Seq>,
    /// That entry's hash, where `through` is the last entry that was stored, and not one ahead of it.
    pub hash: Option<Hash>,
    /// Whether the node was stopped in order.
    pub stopped: bool,
    /// Whether it was ever connected to a peer: until then nobody has anything of its log.
    pub met: bool,
}

/// What was found in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundMark {
    /// The key is new: nothing was signed with it.
    New,
    /// There is none.
    Nothing,
    /// This node wrote it, here.
    Here(Mark),
    /// This node wrote it, in another place: the directory is a copy.
    Copied(Mark),
    /// It can't be read, or is another node's.
    Damaged,
}

/// A node's sign mark, as long as the node runs.
#[derive(Debug)]
pub struct SignMark {
    path: PathBuf,
    file: File,
    author: NodeId,
    durability: Durability,
    number: u64,
    mark: Mark,
    place: String,
    /// While the log is in doubt, a mark that says more than the log has stays as it is.
    in_doubt: bool,
}

impl SignMark {
    /// Reads the mark of that node in its data directory. The file is made where it is missing; it stays empty until
    /// [`SignMark::begin`].
    ///
    /// # Errors
    /// Where the file can't be opened or read.
    pub fn open(
        data_dir: &Path,
        author: NodeId,
        durability: Durability,
    ) -> Result<(Self, FoundMark), StoreError> {
        let path = data_dir.join(SIGN_MARK_FILE);
        let cannot = |source| StoreError::SignMark { path: path.clone(), source };
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(cannot)?;
        // A file whose name a power cut takes back would be missed at the next start.
        File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(cannot)?;
        let place = place_of(&file).map_err(cannot)?;
        let bytes = fs::read(&path).map_err(cannot)?;
        let places = bytes.chunks(PLACE_BYTES).take(2).filter_map(|place| parse(place, author));
        let newest = places.max_by_key(|line| line.number);
        let found = match &newest {
            None if bytes.is_empty() => FoundMark::Nothing,
            None => FoundMark::Damaged,
            Some(line) if line.place == place && is_as_written(&file, line.written_ms).map_err(cannot)? => {
                FoundMark::Here(line.mark)
            }
            Some(line) => FoundMark::Copied(line.mark),
        };
        let fresh = Mark { through: None, hash: None, stopped: false, met: false };
        let (number, mark) = newest.map_or((0, fresh), |line| (line.number, line.mark));
        Ok((Self { path, file, author, durability, number, mark, place, in_doubt: false }, found))
    }

    /// The mark of a key that was made just now, and with which nothing was signed. It is written before the key is: a key without a
    /// mark is then one whose mark, and perhaps store, was lost.
    ///
    /// # Errors
    /// Where it can't be written; then the key must not be used.
    pub fn of_a_new_key(data_dir: &Path, author: NodeId, durability: Durability) -> Result<Self, StoreError> {
        let (mut mark, _another_keys) = Self::open(data_dir, author, durability)?;
        mark.mark = Mark { through: None, hash: None, stopped: false, met: false };
        mark.begin(None)?;
        Ok(mark)
    }

    /// The node begins to run, with a log that ends at that entry and is in no doubt: from now on it was not stopped in order.
    ///
    /// # Errors
    /// Where it can't be written; then the node must not run.
    pub fn begin(&mut self, end: Option<(Seq, Hash)>) -> Result<(), StoreError> {
        self.mark.stopped = false;
        if self.durability == Durability::Full {
            self.settle(end);
        }
        self.write(Sync::Now)
    }

    /// The node begins to run, and its log is in doubt: what is marked stays marked, and somebody may hold more than the log has.
    ///
    /// # Errors
    /// Where it can't be written; then the node must not run.
    pub fn begin_in_doubt(&mut self) -> Result<(), StoreError> {
        self.in_doubt = true;
        self.mark.stopped = false;
        self.mark.met = true;
        self.write(Sync::Now)
    }

    /// The operator said that nobody has more of the log than what ends there. What was marked is forgotten when it is written next.
    pub fn overrule(&mut self, end: Option<(Seq, Hash)>) {
        (self.mark.through, self.mark.hash) = end.unzip();
    }

    /// From now on the log is in doubt.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// The log, which ends at that entry, is in doubt no more.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn recovered(&mut self, end: Option<(Seq, Hash)>) -> Result<(), StoreError> {
        self.in_doubt = false;
        if self.durability == Durability::Full {
            self.settle(end);
        }
        self.write(Sync::Now)
    }

    /// Own entries up to that one were committed. Returns only when the mark covers them, so that they may be signed.
    ///
    /// # Errors
    /// Where it can't be written; then nothing may be signed.
    pub fn reached(&mut self, seq: Seq, hash: Hash) -> Result<(), StoreError> {
        match self.durability {
            Durability::Full => {
                // The log itself is synced. Where a power cut takes the mark's last lines, the log is ahead of it, which says enough.
                if !self.in_doubt || self.mark.hash.is_some() {
                    self.settle(Some((seq, hash)));
                }
                self.write(Sync::Later)
            }
            Durability::Normal if Some(seq) > self.mark.through => {
                self.mark.through = Some(Seq(seq.0.saturating_add(AHEAD)));
                self.mark.hash = None;
                self.write(Sync::Now)
            }
            Durability::Normal => Ok(()),
        }
    }

    /// A peer is connected: from now on somebody may hold what was signed.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn met_a_peer(&mut self) -> Result<(), StoreError> {
        if self.mark.met {
            return Ok(());
        }
        self.mark.met = true;
        self.write(Sync::Now)
    }

    /// The node stops in order, and its store is synced up to that entry. Where the log is in doubt nothing is written: the next
    /// start takes it for an end without a stop.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn stopped(&mut self, end: Option<(Seq, Hash)>) -> Result<(), StoreError> {
        if self.in_doubt {
            return Ok(());
        }
        self.mark.stopped = true;
        self.settle(end);
        self.write(Sync::Now)
    }

    /// The mark says exactly where the log ends. One that is exact never goes back.
    fn settle(&mut self, end: Option<(Seq, Hash)>) {
        if let Some((seq, hash)) = end
            && (self.mark.hash.is_none() || Some(seq) >= self.mark.through)
        {
            self.mark.through = Some(seq);
            self.mark.hash = Some(hash);
        }
    }

    fn write(&mut self, sync: Sync) -> Result<(), StoreError> {
        self.try_write(sync).map_err(|source| StoreError::SignMark { path: self.path.clone(), source })
    }

    fn try_write(&mut self, sync: Sync) -> io::Result<()> {
        self.number = self.number.saturating_add(1);
        let line = self.line();
        self.file.write_all_at(line.as_bytes(), (self.number % 2) * PLACE_BYTES_U64)?;
        match sync {
            Sync::Now => self.file.sync_data(),
            Sync::Later => Ok(()),
        }
    }

    fn line(&self) -> String {
        let Mark { through, hash, stopped, met } = self.mark;
        let through = through.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
        let hash = hash.map_or_else(|| "-".to_owned(), |hash| hash.to_string());
        let state = if stopped { "stopped" } else { "running" };
        let met = if met { "met" } else { "alone" };
        let (number, author, place) = (self.number, self.author.to_text(), &self.place);
        let written_ms = now_ms();
        let text =
            format!("{LINE_START} {number} {author} {through} {hash} {state} {met} {place} {written_ms}");
        let line = format!("{text} {}", sum(&text));
        format!("{line:<width$}\n", width = PLACE_BYTES - 1)
    }
}

/// When a write must be on the disk.
#[derive(Clone, Copy, Debug)]
enum Sync {
    Now,
    Later,
}

struct Line {
    number: u64,
    mark: Mark,
    place: String,
    written_ms: i64,
}

fn parse(bytes: &[u8], author: NodeId) -> Option<Line> {
    let line = str::from_utf8(bytes).ok()?.trim_end();
    let (text, written_sum) = line.rsplit_once(' ')?;
    if sum(text) != written_sum {
        return None;
    }
    let mut words = text.split(' ');
    let mut next = || words.next();
    let is_ours = next()? == LINE_START;
    let number = next()?.parse().ok()?;
    let is_ours = is_ours && next()? == author.to_text();
    let through = match next()? {
        "-" => None,
        seq => Some(Seq(seq.parse().ok()?)),
    };
    let hash = match next()? {
        "-" => None,
        hex => Some(Hash(HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?)),
    };
    let stopped = next()? == "stopped";
    let met = next()? == "met";
    let place = next()?.to_owned();
    let written_ms = next()?.parse().ok()?;
    is_ours.then_some(Line { number, mark: Mark { through, hash, stopped, met }, place, written_ms })
}

fn sum(text: &str) -> String {
    let mut digits = HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref());
    digits.truncate(SUM_DIGITS);
    digits
}

/// Where the mark is: the file's inode. A directory that was copied, unpacked or put back file by file has another one; one that was
/// written over in its place has another time of change. (A disk that is cloned whole has neither: then only the peers can tell.)
fn place_of(file: &File) -> io::Result<String> {
    Ok(file.metadata()?.ino().to_string())
}

/// How far the time of the file's last change may lie from the time that stands in it: what was not synced may be lost of either
/// in a power cut, and file systems keep time coarsely.
const CHANGED_MS_MAX: u64 = 120_000;

/// Whether nobody changed the file since we wrote it: one that was put back in its place has the same inode and the old text,
/// but its time of change can't be set.
fn is_as_written(file: &File, written_ms: i64) -> io::Result<bool> {
    let changed = file.metadata()?;
    let changed_ms = changed.ctime().saturating_mul(1_000).saturating_add(changed.ctime_nsec() / 1_000_000);
    Ok(changed_ms.abs_diff(written_ms) <= CHANGED_MS_MAX)
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(now).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHOR: [u8; 32] = [1; 32];

    fn open(dir: &Path, durability: Durability) -> (SignMark, FoundMark) {
        SignMark::open(dir, NodeId::from_stored(AUTHOR), durability).unwrap()
    }

    fn hash(number: u8) -> Hash {
        Hash([number; 32])
    }

    #[test]
    fn what_was_reached_is_found_again_and_an_end_without_a_stop_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (mut mark, found) = open(dir.path(), Durability::Full);
        assert_eq!(found, FoundMark::Nothing);
        mark.begin(None).unwrap();
        mark.met_a_peer().unwrap();
        mark.reached(Seq(7), hash(7)).unwrap();
        let told = Mark { through: Some(Seq(7)), hash: Some(hash(7)), stopped: false, met: true };
        let (mut mark, found) = open(dir.path(), Durability::Full);
        assert_eq!(found, FoundMark::Here(told));
        mark.begin_in_doubt().unwrap();
        mark.reached(Seq(3), hash(3)).unwrap();
        mark.stopped(Some((Seq(3), hash(3)))).unwrap();
        assert_eq!(open(dir.path(), Durability::Full).1, FoundMark::Here(told), "it never goes back");
        mark.recovered(Some((Seq(7), hash(7)))).unwrap();
        mark.stopped(Some((Seq(8), hash(8)))).unwrap();
        let told = Mark { through: Some(Seq(8)), hash: Some(hash(8)), stopped: true, met: true };
        assert_eq!(open(dir.path(), Durability::Full).1, FoundMark::Here(told));
    }

    #[test]
    fn commits_that_are_not_synced_have_a_mark_ahead_that_is() {
        let dir = tempfile::tempdir().unwrap();
        let (mut mark, _) = open(dir.path(), Durability::Normal);
        mark.begin(None).unwrap();
        mark.reached(Seq(0), hash(0)).unwrap();
        let number = mark.number;
        for seq in 1..=1_000 {
            mark.reached(Seq(seq), hash(1)).unwrap();
        }
        assert_eq!(mark.number, number, "one write serves a thousand seqs");
        let ahead = Mark { through: Some(Seq(1_000)), hash: None, stopped: false, met: false };
        assert_eq!(open(dir.path(), Durability::Normal).1, FoundMark::Here(ahead));
        mark.stopped(Some((Seq(40), hash(4)))).unwrap();
        let exact = Mark { through: Some(Seq(40)), hash: Some(hash(4)), stopped: true, met: false };
        assert_eq!(open(dir.path(), Durability::Normal).1, FoundMark::Here(exact));
    }

    #[test]
    fn a_write_that_was_cut_off_leaves_the_one_before_and_a_copy_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let (mut mark, _) = open(dir.path(), Durability::Full);
        mark.begin(None).unwrap();
        mark.reached(Seq(1), hash(1)).unwrap();
        mark.reached(Seq(2), hash(2)).unwrap();
        let path = dir.path().join(SIGN_MARK_FILE);
        let whole = fs::read(&path).unwrap();
        let newest = usize::try_from(mark.number % 2).unwrap() * PLACE_BYTES;
        let mut torn = whole.clone();
        torn[newest + 30..newest + 200].fill(b'x');
        fs::write(&path, &torn).unwrap();
        let (_, FoundMark::Here(found)) = open(dir.path(), Durability::Full) else { panic!("found") };
        assert_eq!(found.through, Some(Seq(1)));
        fs::write(&path, &whole).unwrap();
        let copy = tempfile::tempdir().unwrap();
        fs::copy(&path, copy.path().join(SIGN_MARK_FILE)).unwrap();
        assert!(matches!(open(copy.path(), Durability::Full).1, FoundMark::Copied(_)));
        torn.fill(b'x');
        fs::write(&path, &torn).unwrap();
        assert_eq!(open(dir.path(), Durability::Full).1, FoundMark::Damaged);
        let stranger = SignMark::open(copy.path(), NodeId::from_stored([2; 32]), Durability::Full).unwrap().1;
        assert_eq!(stranger, FoundMark::Damaged);
    }

    #[test]
    fn a_stop_in_the_middle_of_a_recovery_does_not_take_the_mark_back() {
        let dir = tempfile::tempdir().unwrap();
        let (mut mark, _) = open(dir.path(), Durability::Normal);
        mark.begin(None).unwrap();
        mark.met_a_peer().unwrap();
        mark.reached(Seq(0), hash(0)).unwrap();
        mark.stopped(Some((Seq(9), hash(9)))).unwrap();
        // An old store is put back by hand: the log ends with 3, and 4 and 5 came back before the next stop.
        let (mut mark, _) = open(dir.path(), Durability::Normal);
        mark.begin_in_doubt().unwrap();
        mark.reached(Seq(5), hash(5)).unwrap();
        mark.stopped(Some((Seq(5), hash(5)))).unwrap();
        let (_, FoundMark::Here(found)) = open(dir.path(), Durability::Normal) else { panic!("found") };
        assert_eq!(found.through, Some(Seq(9)));
    }

    #[test]
    fn whatever_was_ahead_becomes_exact_once_the_log_is_synced_and_in_no_doubt() {
        let dir = tempfile::tempdir().unwrap();
        let (mut mark, _) = open(dir.path(), Durability::Normal);
        mark.begin(None).unwrap();
        mark.reached(Seq(0), hash(0)).unwrap();
        drop(mark);
        let exact = |dir: &Path| {
            let (_, FoundMark::Here(found)) = open(dir, Durability::Full) else { panic!("found") };
            (found.through, found.hash)
        };
        let (mut mark, _) = open(dir.path(), Durability::Full);
        mark.begin_in_doubt().unwrap();
        mark.reached(Seq(7), hash(7)).unwrap();
        assert_eq!(exact(dir.path()), (Some(Seq(1_000)), None), "it may still lack some");
        mark.recovered(Some((Seq(7), hash(7)))).unwrap();
        assert_eq!(exact(dir.path()), (Some(Seq(7)), Some(hash(7))));
        let (mut mark, _) = open(dir.path(), Durability::Normal);
        mark.begin(Some((Seq(7), hash(7)))).unwrap();
        mark.reached(Seq(8), hash(8)).unwrap();
        mark.stopped(Some((Seq(8), hash(8)))).unwrap();
        assert_eq!(exact(dir.path()), (Some(Seq(8)), Some(hash(8))));
    }

    #[test]
    fn a_file_that_was_put_back_in_its_place_is_known_by_the_time_of_its_change() {
        let dir = tempfile::tempdir().unwrap();
        let (mut mark, _) = open(dir.path(), Durability::Full);
        mark.begin(None).unwrap();
        assert!(is_as_written(&mark.file, now_ms()).unwrap());
        assert!(
            !is_as_written(&mark.file, now_ms() - 600_000).unwrap(),
            "an old text in a file that changed now"
        );
    }
}
