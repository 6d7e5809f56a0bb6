//! A disk: what a directory holds now, what of it a power cut can't undo, and what it might leave.
//!
//! What was not synced may be there or not, in any order, sector by sector: a write, a size, a name. A sector is never
//! torn in itself (SQLite counts on that too). After a sync that failed nobody knows what of those writes ever reaches the disk, and
//! a later sync that succeeds says nothing of them, until the same page is written again.

use std::{collections::BTreeMap, ops::Range};

use super::{
    super::nodes::Dice,
    trace::{FileId, Happened, Trace},
};

const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4_096;

/// What a directory holds, by name.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// A directory and its files.
#[derive(Default)]
pub(crate) struct Disk {
    files: Vec<Contents>,
    names: Names,
    synced_names: Names,
    unsynced_names: Vec<NameChange>,
}

type Names = BTreeMap<String, FileId>;

#[derive(Default)]
struct Contents {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

enum Change {
    /// `given_up`: a sync of it failed.
    Write {
        at: usize,
        bytes: Range<usize>,
        given_up: bool,
    },
    Resize(usize),
}

#[derive(Clone)]
enum NameChange {
    Add(String, FileId),
    Remove(String),
    Move { from: String, to: String, file: FileId },
}

impl Disk {
    /// Something happened.
    pub(crate) fn apply(&mut self, trace: &Trace, happened: &Happened) {
        match happened.clone() {
            Happened::Created { file, name } => {
                assert_eq!(file, self.files.len());
                self.files.push(Contents::default());
                self.rename(NameChange::Add(name, file));
            }
            Happened::Written { file, at, bytes } => self.files[file].write(&trace.bytes, at, bytes),
            Happened::Resized { file, size } => {
                self.files[file].now.resize(size, 0);
                self.files[file].unsynced.push(Change::Resize(size));
            }
            Happened::Synced { file } => self.files[file].sync(&trace.bytes),
            Happened::SyncFailed { file } => self.files[file].give_up(),
            Happened::NamesSynced => {
                self.synced_names = self.names.clone();
                self.unsynced_names.clear();
            }
            Happened::Removed { name } => self.rename(NameChange::Remove(name)),
            Happened::Renamed { from, to } => {
                let file = self.names[&from];
                self.rename(NameChange::Move { from, to, file });
            }
            Happened::NameSyncFailed | Happened::Acknowledged => {}
        }
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    /// Whether a power cut could leave anything but what is there now.
    pub(crate) fn is_synced(&self) -> bool {
        self.unsynced_names.is_empty() && self.files.iter().all(|file| file.unsynced.is_empty())
    }

    /// All that was written is there.
    pub(crate) fn everything(&self) -> Image {
        self.image(&self.names, |contents| contents.now.clone())
    }

    /// Nothing is there but what was synced.
    pub(crate) fn nothing_unsynced(&self) -> Image {
        self.image(&self.synced_names, |contents| contents.synced.clone())
    }

    /// Some of what was not synced is there, as the dice fall.
    pub(crate) fn torn(&self, trace: &Trace, dice: &mut Dice) -> Image {
        let mut names = self.synced_names.clone();
        // A file system with a journal keeps the order of names, others may not.
        let kept = dice.below(self.unsynced_names.len() as u64 + 1) as usize;
        let in_order = dice.once_in(2);
        for (number, change) in self.unsynced_names.iter().enumerate() {
            if if in_order { number < kept } else { dice.once_in(2) } {
                change.apply(&mut names);
            }
        }
        let mut image = Image::new();
        for (name, file) in &names {
            image.insert(name.clone(), self.files[*file].torn(&trace.bytes, dice));
        }
        image
    }

    fn image(&self, names: &Names, contents: impl Fn(&Contents) -> Vec<u8>) -> Image {
        names.iter().map(|(name, file)| (name.clone(), contents(&self.files[*file]))).collect()
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Move { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Contents {
    fn write(&mut self, trace: &[u8], at: usize, bytes: Range<usize>) {
        let pages = at / PAGE_BYTES..=(at + bytes.len() - 1) / PAGE_BYTES;
        for change in &mut self.unsynced {
            // The page is dirty again with all that is in it, so the next sync covers it.
            if let Change::Write { at, given_up, .. } = change
                && pages.contains(&(*at / PAGE_BYTES))
            {
                *given_up = false;
            }
        }
        put(&mut self.now, at, &trace[bytes.clone()]);
        self.unsynced.push(Change::Write { at, bytes, given_up: false });
    }

    fn sync(&mut self, trace: &[u8]) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write { given_up: true, .. } => self.unsynced.push(change),
                Change::Write { at, bytes, given_up: false } => put(&mut self.synced, at, &trace[bytes]),
                Change::Resize(size) => self.synced.resize(size, 0),
            }
        }
    }

    /// Each page stands for itself from here on.
    fn give_up(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write { at, bytes, .. } => {
                    let pages = pieces(at, bytes, PAGE_BYTES);
                    self.unsynced.extend(pages.map(|(at, bytes)| Change::Write {
                        at,
                        bytes,
                        given_up: true,
                    }));
                }
                Change::Resize(_) => self.unsynced.push(change),
            }
        }
    }

    fn torn(&self, trace: &[u8], dice: &mut Dice) -> Vec<u8> {
        let mut image = self.synced.clone();
        let (kept, of) = [(1, 10), (1, 2), (9, 10)][dice.below(3) as usize];
        let mut keep = || dice.below(of) < kept;
        for change in &self.unsynced {
            match change {
                Change::Write { at, bytes, .. } => {
                    for (at, bytes) in pieces(*at, bytes.clone(), SECTOR_BYTES) {
                        if keep() {
                            put(&mut image, at, &trace[bytes]);
                        }
                    }
                }
                Change::Resize(size) if keep() => image.resize(*size, 0),
                Change::Resize(_) => {}
            }
        }
        // The size may be there without what was written.
        if !self.unsynced.is_empty() && keep() {
            image.resize(self.now.len(), 0);
        }
        image
    }
}

fn put(contents: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[at..end].copy_from_slice(bytes);
}

/// A write, cut where sectors or pages of the file begin.
fn pieces(at: usize, bytes: Range<usize>, each: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let here = at + done;
        let left = bytes.len() - done;
        let length = left.min(each - here % each);
        let piece = bytes.start + done..bytes.start + done + length;
        done += length;
        (length > 0).then_some((here, piece))
    })
}
