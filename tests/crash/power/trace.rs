//! The trace: what the shim recorded (`shim.c`), and how it is built and preloaded.

use std::{
    collections::BTreeMap,
    env, fs,
    fs::File,
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};

const HEAD_BYTES: usize = 24;
const ACKNOWLEDGED: u8 = b'A';

/// Which file: counted from the first that was made; one that is made anew is another.
pub(crate) type FileId = usize;

/// One thing that happened, in the order in which it did. Bytes are ranges of the trace.
#[derive(Clone, Debug)]
pub(crate) enum Happened {
    Created {
        file: FileId,
        name: String,
    },
    Written {
        file: FileId,
        at: usize,
        bytes: Range<usize>,
    },
    Resized {
        file: FileId,
        size: usize,
    },
    Synced {
        file: FileId,
    },
    SyncFailed {
        file: FileId,
    },
    NamesSynced,
    NameSyncFailed,
    Removed {
        name: String,
    },
    Renamed {
        from: String,
        to: String,
    },
    /// Somebody has got an answer: so many before it.
    Acknowledged,
}

/// The library that is preloaded; `None`, said aloud, where it can't be had.
pub(crate) fn shim(dir: &Path) -> Option<PathBuf> {
    let built = build(dir);
    match built {
        Ok(path) => Some(path),
        Err(why) => {
            assert!(env::var_os("CI").is_none(), "no power cuts here: {why}");
            eprintln!("SKIPPED: no power cuts here: {why}");
            None
        }
    }
}

fn build(dir: &Path) -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("the shim that records what a node writes is for Linux".to_owned());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/power/shim.c");
    let library = dir.join("shim.so");
    let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    let output = cc.output().map_err(|error| format!("there is no C compiler (`cc`): {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}

/// Notes in the trace that a submitter has its answer. One append, as the shim's are.
pub(crate) fn acknowledge(trace: &Path) {
    let mut record = [0; HEAD_BYTES];
    record[0] = ACKNOWLEDGED;
    File::options().create(true).append(true).open(trace).unwrap().write_all(&record).unwrap();
}

/// A trace that was read.
pub(crate) struct Trace {
    pub(crate) bytes: Vec<u8>,
    pub(crate) happened: Vec<Happened>,
}

impl Trace {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let mut happened = vec![];
        let mut files = Files::default();
        let mut at = 0;
        while at < bytes.len() {
            let head = &bytes[at..at + HEAD_BYTES];
            let long = |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().unwrap());
            let count = u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize;
            let body = at + HEAD_BYTES..at + HEAD_BYTES + count;
            let text = String::from_utf8_lossy(&bytes[body.clone()]).into_owned();
            happened.push(files.happened(
                head[0],
                long(8),
                (usize::try_from(long(16)).unwrap(), body.clone()),
                text,
            ));
            at = body.end;
        }
        Self { bytes, happened }
    }
}

/// Which inode is which file now.
#[derive(Default)]
struct Files {
    made: usize,
    by_inode: BTreeMap<u64, FileId>,
}

impl Files {
    fn happened(
        &mut self,
        kind: u8,
        inode: u64,
        (at, bytes): (usize, Range<usize>),
        text: String,
    ) -> Happened {
        if kind == b'C' {
            let file = self.made;
            self.made += 1;
            self.by_inode.insert(inode, file);
            return Happened::Created { file, name: text };
        }
        let file = || *self.by_inode.get(&inode).expect("a file that was made before the trace began");
        match kind {
            b'W' => Happened::Written { file: file(), at, bytes },
            b'T' => Happened::Resized { file: file(), size: at },
            b'S' => Happened::Synced { file: file() },
            b'D' => Happened::NamesSynced,
            b'F' if self.by_inode.contains_key(&inode) => Happened::SyncFailed { file: file() },
            b'F' => Happened::NameSyncFailed,
            b'U' => Happened::Removed { name: text },
            b'R' => {
                let (from, to) = text.split_once('\0').unwrap();
                Happened::Renamed { from: from.to_owned(), to: to.to_owned() }
            }
            ACKNOWLEDGED => Happened::Acknowledged,
            unknown => panic!("the model of the disk does not know `{}`: {text}", char::from(unknown)),
        }
    }
}
