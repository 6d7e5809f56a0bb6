//! The disk: whether the data directory can be used, by its owner alone, and has room.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use super::{About, Check};
use crate::node::disk::free_bytes;

/// What Linux calls file systems that are on another machine, or in a process: SQLite's log needs memory that is shared through the file.
const ELSEWHERE: [(u32, &str); 7] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
];
/// Those that are gone when the machine is switched off.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// What there is at the data directory's path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing; the directory above it that there is, and whether something can be made there.
    Nothing { above: PathBuf, may_write: bool },
    /// Something else.
    NoDirectory,
    /// It can't be looked at.
    Hidden(String),
    /// A directory.
    Directory { mode: u32, may_write: bool },
}

/// What there is where the data directory is or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    free: u64,
    min: u64,
    is_read_only: bool,
    kind: Kind,
}

/// The kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Disk,
    Memory,
    Elsewhere(&'static str),
}

/// `min` bytes should be free.
pub(super) fn look(data_dir: &Path, min: u64) -> Vec<Check> {
    let found = at(data_dir);
    let place = match &found {
        Found::Nothing { above, .. } => above.clone(),
        Found::NoDirectory | Found::Hidden(_) | Found::Directory { .. } => data_dir.to_owned(),
    };
    let subject = |check| About::new(check, data_dir.display().to_string());
    let mut checks = vec![directory(subject("data_dir"), data_dir, &found)];
    checks.extend(room_at(&place, min).map(|found| room(subject("disk"), found)));
    checks
}

fn at(data_dir: &Path) -> Found {
    match fs::metadata(data_dir) {
        Ok(metadata) if metadata.is_dir() => {
            Found::Directory { mode: metadata.permissions().mode() & 0o777, may_write: may_write(data_dir) }
        }
        Ok(_) => Found::NoDirectory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What is relative begins here.
            let above =
                data_dir.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or_else(|| Path::new("."));
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            Found::Nothing { above: above.to_owned(), may_write: may_write(above) }
        }
        Err(error) => Found::Hidden(error.to_string()),
    }
}

/// Files can be made there by this user.
fn may_write(directory: &Path) -> bool {
    access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// `None` where the system does not say.
fn room_at(place: &Path, min: u64) -> Option<Room> {
    let free = free_bytes(place)?;
    let is_read_only = statvfs(place).ok()?.f_flag.contains(StatVfsMountFlags::RDONLY);
    Some(Room { free, min, is_read_only, kind: kind_of(place) })
}

#[cfg(target_os = "linux")]
fn kind_of(place: &Path) -> Kind {
    // The numbers have 32 bits; how wide the field is, and whether it has a sign, differs between architectures.
    let magic = rustix::fs::statfs(place).map_or(0, |found| found.f_type as u32);
    if IN_MEMORY.contains(&magic) {
        return Kind::Memory;
    }
    ELSEWHERE.iter().find(|(known, _)| *known == magic).map_or(Kind::Disk, |(_, name)| Kind::Elsewhere(name))
}

#[cfg(not(target_os = "linux"))]
fn kind_of(_place: &Path) -> Kind {
    Kind::Disk
}

fn directory(about: About, data_dir: &Path, found: &Found) -> Check {
    let shown = data_dir.display();
    let elsewhere = "choose a directory that you may write to with `--data-dir`";
    match found {
        Found::Nothing { may_write: true, .. } => about.ok("it does not exist yet; the first start makes it"),
        Found::Nothing { above, may_write: false } => about.wrong(
            format!("it does not exist, and this user may not make it in `{}`", above.display()),
            elsewhere,
        ),
        Found::NoDirectory => {
            about.wrong("it is no directory", "move it away, or name a directory with `--data-dir`")
        }
        Found::Hidden(why) => about.wrong(format!("it can't be looked at: {why}"), elsewhere),
        Found::Directory { may_write: false, .. } => about.wrong(
            "this user may not write there",
            format!("see with `ls -ld {shown}` who owns it, and run the node as that user; or {elsewhere}"),
        ),
        Found::Directory { mode, .. } if mode & 0o022 != 0 => about.wrong(
            format!("it has mode {mode:03o}: others may put another key in its place"),
            format!("run `chmod 700 {shown}`"),
        ),
        Found::Directory { mode, .. } if mode & 0o055 != 0 => about.hint(
            format!(
                "it has mode {mode:03o}: others see which files are in it, and read those that are not secret"
            ),
            format!("run `chmod 700 {shown}`"),
        ),
        Found::Directory { mode, .. } => about.ok(format!("it is writable, and has mode {mode:03o}")),
    }
}

fn room(about: About, room: Room) -> Check {
    let Room { free, min, is_read_only, kind } = room;
    let (free_mib, min_mib) = (free >> 20, min >> 20);
    if is_read_only {
        return about.wrong(
            "its file system is read-only",
            "see in the system's log (`dmesg`) whether the disk is failing; then mount it for writing",
        );
    }
    if free < min {
        return about.wrong(
            format!("{free_mib} MiB are free, and {min_mib} MiB should be: a node would read and serve, and write nothing"),
            "make room, or name fewer MiB with `--disk-min`",
        );
    }
    match kind {
        Kind::Disk => about.ok(format!("{free_mib} MiB are free, and {min_mib} MiB should be")),
        Kind::Memory => about.hint(
            "it is in memory: key and log are gone when the machine is switched off, and a new key is a new node",
            "choose a directory on a disk with `--data-dir`",
        ),
        Kind::Elsewhere(name) => about.hint(
            format!("it is on another machine ({name}), where locks and syncs may not hold what the store needs of them"),
            "choose a directory on a disk of this machine with `--data-dir`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    fn judged(found: &Found) -> Check {
        directory(About::new("data_dir", "/d"), Path::new("/d"), found)
    }

    #[test]
    fn a_data_directory_is_its_owners_alone() {
        for (mode, state) in [
            (0o700, State::Ok),
            (0o755, State::Hint),
            (0o710, State::Hint),
            (0o770, State::Wrong),
            (0o777, State::Wrong),
        ] {
            let check = judged(&Found::Directory { mode, may_write: true });
            assert_eq!(check.state, state, "{mode:o}");
            assert!(check.remedy.is_none_or(|remedy| remedy == "run `chmod 700 /d`"));
        }
        assert_eq!(judged(&Found::Directory { mode: 0o700, may_write: false }).state, State::Wrong);
    }

    #[test]
    fn one_that_is_not_there_yet_is_well_where_it_can_be_made() {
        let nothing = |may_write| Found::Nothing { above: PathBuf::from("/"), may_write };
        assert_eq!((judged(&nothing(true)).state, judged(&nothing(false)).state), (State::Ok, State::Wrong));
        let dir = tempfile::tempdir().unwrap();
        let deep = at(&dir.path().join("a/b"));
        assert_eq!(deep, Found::Nothing { above: dir.path().to_owned(), may_write: true });
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(at(&dir.path().join("file")), Found::NoDirectory);
        assert!(matches!(at(&dir.path().join("file/below")), Found::Hidden(_)));
    }

    #[test]
    fn too_little_room_is_wrong_and_a_file_system_that_forgets_is_a_hint() {
        let judged = |room: Room| super::room(About::new("disk", "/d"), room);
        let well = Room { free: 300 << 20, min: 256 << 20, is_read_only: false, kind: Kind::Disk };
        assert_eq!(judged(well).state, State::Ok);
        let check = judged(Room { free: 255 << 20, ..well });
        assert!(check.state == State::Wrong && check.found.contains("255 MiB are free"), "{check:?}");
        assert_eq!(judged(Room { is_read_only: true, ..well }).state, State::Wrong);
        assert_eq!(judged(Room { kind: Kind::Memory, ..well }).state, State::Hint);
        assert_eq!(judged(Room { kind: Kind::Elsewhere("NFS"), ..well }).state, State::Hint);
    }
}
