//! The fuzz targets without a fuzzer: their seeds, and everything that it kept (`scripts/fuzz`).

use std::{collections::BTreeSet, fs, path::Path};

#[path = "../../fuzz/targets/announcements.rs"]
mod announcements;
#[path = "../../fuzz/targets/join.rs"]
mod join;
#[path = "../../fuzz/targets/log.rs"]
mod log;
#[path = "../../fuzz/targets/mdns.rs"]
mod mdns;
#[path = "../../fuzz/targets/core/mod.rs"]
mod programmes;
#[path = "../../fuzz/targets/wire.rs"]
mod wire;

struct Target {
    name: &'static str,
    /// Says whether the bytes were taken for what they are said to be, where the target knows.
    check: fn(&[u8]) -> bool,
    seeds: fn() -> Vec<Vec<u8>>,
}

const TARGETS: [Target; 6] = [
    Target { name: "announcements", check: announcements::check, seeds: announcements::seeds },
    Target { name: "core", check: programmes::check, seeds: programmes::seeds },
    Target { name: "join", check: join::check, seeds: join::seeds },
    Target { name: "log", check: log::check, seeds: log::seeds },
    Target { name: "mdns", check: mdns::check, seeds: mdns::seeds },
    Target { name: "wire", check: wire::check, seeds: wire::seeds },
];

/// Where a directory is named, the seeds are written there, for a corpus that is begun anew.
#[test]
fn every_seed_is_taken_for_what_it_is() {
    for Target { name, check, seeds } in TARGETS {
        for (number, seed) in seeds().iter().enumerate() {
            assert!(check(seed), "{name}: seed {number} comes to nothing");
            if let Some(dir) = std::env::var_os("COGMESH_FUZZ_SEEDS") {
                let dir = Path::new(&dir).join(name);
                fs::create_dir_all(&dir).unwrap();
                fs::write(dir.join(format!("seed-{number:02}")), seed).unwrap();
            }
        }
    }
}

#[test]
fn what_the_fuzzer_kept_holds_without_it() {
    for Target { name, check, .. } in TARGETS {
        let corpus = Path::new("fuzz/corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&corpus).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 10, "{} has only {} files", corpus.display(), files.len());
        let mut taken = 0_usize;
        for file in &files {
            // A panic is told together with the file that it came of.
            println!("{}", file.display());
            taken += usize::from(check(&fs::read(file).unwrap()));
        }
        assert!(taken > 0, "{name}: nothing in the corpus is taken for anything");
    }
}

#[test]
fn every_fuzz_target_is_among_these_and_has_a_corpus() {
    let manifest: toml::Table = fs::read_to_string("fuzz/Cargo.toml").unwrap().parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap();
    let built: BTreeSet<&str> = bins.iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    assert_eq!(built, TARGETS.iter().map(|target| target.name).collect());
    let corpora =
        fs::read_dir("fuzz/corpus").unwrap().map(|dir| dir.unwrap().file_name().into_string().unwrap());
    assert_eq!(corpora.collect::<BTreeSet<_>>(), built.iter().map(|name| (*name).to_owned()).collect());
}
