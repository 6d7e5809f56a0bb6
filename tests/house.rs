//! The house rules that neither compiler nor clippy knows: which room may import which,
//! and behind which door each foreign library stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail where it likes"
)]
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each room and the rooms that it may import. A row may only name rows above it, so a circle cannot be written down.
const ROOMS: &[(&str, &[&str])] = &[
    // What of it is in a program that users run: nothing.
    ("failing", &[]),
    ("ledger", &[]),
    ("log", &["ledger"]),
    ("protocol", &["ledger", "log"]),
    ("store", &["failing", "ledger", "log"]),
    ("net", &["log", "protocol", "ledger"]),
    ("monitor", &["ledger", "log", "protocol"]),
    ("node", &["failing", "ledger", "log", "protocol", "store", "net", "monitor"]),
    ("api", &["ledger", "log", "protocol", "store", "monitor", "node"]),
    ("cli", &["ledger", "log", "protocol", "store", "net", "monitor", "node", "api"]),
];

/// Foreign libraries and the only places that may name them.
const DOORS: &[(&str, &[&str])] = &[
    ("bincode", &["src/protocol/wire"]),
    ("quinn", &["src/net/"]),
    ("rustls", &["src/net/"]),
    ("rcgen", &["src/net/"]),
    ("mdns_sd", &["src/net/discovery/mdns.rs"]),
    ("if_addrs", &["src/net/"]),
    ("rustix::net", &["src/net/discovery/netlink.rs"]),
    ("socket2", &["src/net/", "src/api/socket.rs"]),
    ("rusqlite", &["src/store/sqlite/"]),
    ("rayon", &["src/store/sqlite/"]),
    ("axum", &["src/api/"]),
    ("x509_parser", &["src/net/membership.rs"]),
    ("pkcs8", &["src/node/membership.rs"]),
    ("qrcode", &["src/cli/invite.rs"]),
    ("rpassword", &["src/cli/passphrase.rs"]),
    ("clap", &["src/cli/"]),
];

/// Rooms that decide and do no I/O: what they may not name at all.
const PURE: &[&str] = &["ledger", "log", "protocol"];
const IMPURE: &[&str] =
    &["tokio", "tracing", "std::fs", "std::thread", "std::time", "std::env", "std::process"];

#[test]
fn every_direct_dependency_is_listed_with_why_it_is_there() {
    let manifest: toml::Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    let names = |table: &str| manifest[table].as_table().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let mut wanted = &names("dependencies") | &names("dev-dependencies");
    // The crate is its own dev-dependency.
    wanted.remove("cogmesh");
    let list = fs::read_to_string("docs/dependencies.md").unwrap();
    let first_cells = list.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let listed: BTreeSet<String> =
        first_cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned()).collect();
    assert_eq!(listed, wanted, "docs/dependencies.md against Cargo.toml");
}

#[test]
fn the_table_of_rooms_has_no_circle() {
    for (i, (room, may)) in ROOMS.iter().enumerate() {
        for used in *may {
            assert!(
                ROOMS[..i].iter().any(|(r, _)| r == used),
                "{room} may not name {used}, which does not stand above it"
            );
        }
    }
}

#[test]
fn rooms_and_doors_are_kept() {
    let mut wrong = vec![];
    for path in rust_files(Path::new("src")) {
        let file = path.display().to_string().replace('\\', "/");
        let source = fs::read_to_string(&path).unwrap();
        // Tests beside the code may look through any door.
        let whole = without_comments(&source);
        let code = whole.split("#[cfg(test)]").next().unwrap_or_default();
        let room = file.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs");
        if let Some((_, may)) = ROOMS.iter().find(|(r, _)| *r == room) {
            for used in segments_after_crate(code) {
                let known = ROOMS.iter().any(|(r, _)| *r == used);
                if known && used != room && !may.contains(&used.as_str()) {
                    wrong.push(format!(
                        "{file}: {room} uses {used}; return a value instead, or move the code"
                    ));
                }
            }
        }
        for (library, doors) in DOORS {
            if !doors.iter().any(|door| file.starts_with(door)) && names(code, library) {
                wrong.push(format!("{file}: {library} stays behind {}", doors.join(" and ")));
            }
        }
        if PURE.contains(&room) {
            for impure in IMPURE.iter().filter(|impure| names(code, impure)) {
                wrong.push(format!("{file}: a pure room names {impure}"));
            }
        }
        if !source.starts_with("//!") {
            wrong.push(format!("{file}: the first line says what the file is for (//! ...)"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn only_one_file_of_the_protocol_has_an_impl_of_the_federation() {
    let with: Vec<String> = rust_files(Path::new("src/protocol"))
        .into_iter()
        .filter(|path| {
            fs::read_to_string(path).unwrap().lines().any(|line| line.starts_with("impl Federation"))
        })
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(with, ["src/protocol/mod.rs"]);
}

fn without_comments(source: &str) -> String {
    source.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Whether `library` is used as the first segment of a path.
fn names(code: &str, library: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.match_indices(&format!("{library}::")).any(|(at, _)| !code[..at].ends_with(word))
}

/// First path segments after each `crate::`, also inside `crate::{a::X, b::Y}`.
fn segments_after_crate(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            continue;
        };
        let (mut depth, mut first, mut word) = (1, true, String::new());
        for c in group.chars() {
            if depth == 1 && first && (c.is_alphanumeric() || c == '_') {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                found.insert(std::mem::take(&mut word));
                first = false;
            }
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => first = true,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files.extend(rust_files(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            false => {}
        }
    }
    files.sort();
    files
}
