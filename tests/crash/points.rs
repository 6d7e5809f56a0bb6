//! One kill at each named step between a submission and its answer.

use std::{collections::BTreeSet, fs, os::unix::process::ExitStatusExt, path::Path};

use super::{kills::agree, load::Load, nodes::Node, witness::Witness};

/// Every fail point of the program, in the order in which a thought meets them.
const STEPS: [&str; 8] = [
    "commit.begun",
    "commit.written",
    "commit.done",
    "mark.written",
    "stored.told",
    "signed",
    "published",
    "answered",
];
/// What a process dies of at a fail point (SIGABRT).
const ABORTED: i32 = 6;
/// At which time a step ends the process: the first are the genesis entry and peers.
const TIMES: [u32; 2] = [6, 17];

#[test]
fn a_node_that_ends_at_any_step_of_a_commit_loses_nothing_and_repeats_nothing() {
    let world = tempfile::tempdir().unwrap();
    let mut nodes = Node::federation(world.path(), &["legion", "thor"]);
    nodes.iter_mut().for_each(Node::start);
    let load = Load::start(&nodes, 3);
    let mut witness = Witness::default();
    for step in STEPS {
        for time in TIMES {
            load.pause();
            assert!(nodes[0].stop().success(), "{}", nodes[0].log());
            nodes[0].spawn(&[("COGMESH_FAIL_AT", &format!("{step}:{time}"))]);
            load.resume();
            let status = nodes[0].wait_end();
            assert_eq!(status.signal(), Some(ABORTED), "{step}: {status}: {}", nodes[0].log());
            witness.check_store(0, &nodes[0], &load.acked());
            nodes[0].start();
            load.pause();
            agree(&nodes, &mut witness);
            println!("{step}:{time}: {} acknowledged", load.acked().len());
            load.resume();
        }
    }
    let acked = load.end();
    agree(&nodes, &mut witness);
    for (place, node) in nodes.iter_mut().enumerate() {
        assert!(node.stop().success(), "{}", node.log());
        witness.check_store(place, node, &acked);
    }
}

#[test]
fn every_fail_point_of_the_program_is_among_the_steps() {
    let mut found = BTreeSet::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let names = source.split("fail_point(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
    assert_eq!(found, STEPS.iter().map(|step| (*step).to_owned()).collect());
}
