//! `cogmesh replay` prints exactly the specification's rows.

use std::{fs, path::Path};

use cogmesh::{cli::replay::replay, ledger::Policy};

#[test]
fn replay_prints_exactly_the_rows_of_the_specification() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    for number in [1, 11, 12, 13] {
        let thoughts = fs::read(vectors.join(format!("thoughts-{number}.jsonl"))).unwrap();
        let wanted = fs::read_to_string(vectors.join(format!("verdicts-{number}.jsonl"))).unwrap();
        let mut rows = vec![];
        replay(&thoughts[..], &mut rows, &Policy::default()).unwrap();
        let rows = String::from_utf8(rows).unwrap();
        for (at, (row, wanted)) in rows.lines().zip(wanted.lines()).enumerate() {
            assert_eq!(row, wanted, "thoughts-{number}, row {}", at + 1);
        }
        assert_eq!(rows, wanted);
    }
}

#[test]
fn a_bad_line_is_named_by_its_number() {
    let good = r#"{"author": "a", "time_ms": 1, "content": "x"}"#;
    for bad in [
        "{",
        "[]",
        r#"{"author": "a", "time_ms": -1, "content": "x"}"#,
        r#"{"author": "a", "time_ms": 1, "content": "x", "extra": 1}"#,
        r#"{"author": "a", "level": 6, "time_ms": 1, "content": "x"}"#,
    ] {
        let input = format!("{good}\n\n{bad}\n");
        let mut out = vec![];
        let error = replay(input.as_bytes(), &mut out, &Policy::default()).unwrap_err();
        assert!(format!("{error:#}").contains("line 3"), "{bad}: {error:#}");
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1, "the row before it is written");
    }
    let error = replay(&b"{\"author\": \"\xff\"}"[..], &mut vec![], &Policy::default()).unwrap_err();
    assert!(format!("{error:#}").contains("UTF-8"));
}
