//! The log against the worked values of the protocol; against weak keys, hostile bytes and each changed bit in the other files.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod headers;
mod keys;
mod segments;

use std::{num::NonZeroU64, sync::atomic::AtomicBool};

use bytes::Bytes;
use cogmesh::{
    ledger::{
        Account, Facts, Policy, Verdict, fold,
        types::{Level, Seq},
    },
    log::{
        Body, Entry, FederationId, FederationName, Genesis, Hardware, Hash, Head, Header, Identity, Mode,
        NodeId, Nonce, Rules, Search, Segment, Signature, Thought,
        identity::{check_work, work_bits},
    },
};
use data_encoding::HEXLOWER;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/protocol.json")).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    HEXLOWER.decode(hex.as_str().unwrap().as_bytes()).unwrap()
}

fn array<const N: usize>(hex: &Value) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

fn identity() -> Identity {
    Identity::from_seed(&array(&vectors()["seed"])).unwrap()
}

fn federation() -> FederationId {
    FederationId(array(&vectors()["federation_id"]))
}

fn rules() -> Rules {
    let policy = Policy::default();
    Rules { federation: federation(), pow_bits: policy.pow_bits, content_bytes_max: policy.content_max_bytes }
}

/// The entries of the worked values, as a peer would send them.
fn worked_log() -> Vec<Entry> {
    let all = vectors()["entries"].as_array().unwrap().clone();
    let entry = |row: &Value| {
        let content = row["content"].as_str().map(|text| Bytes::from(text.to_owned()));
        Entry::parse(&federation(), Bytes::from(bytes(&row["header"])), content).unwrap()
    };
    all.iter().map(entry).collect()
}

fn worked_segment() -> Segment {
    Segment::own(worked_log(), &identity(), &federation()).unwrap().into_inner()
}

#[test]
fn identity_and_federation_are_those_of_the_worked_values() {
    let (vectors, id) = (vectors(), identity().node_id());
    assert_eq!(*id.as_bytes(), array::<32>(&vectors["node_id"]));
    assert_eq!(id.to_text(), vectors["node_id_text"]);
    assert_eq!(vectors["node_id_text"].as_str().unwrap().parse(), Ok(id));
    assert_eq!(id.short(), "aoqqpp7t");

    let policy = Policy::default();
    assert_eq!(policy.to_bytes().to_vec(), bytes(&vectors["policy"]));
    let name = FederationName::new(vectors["federation_name"].as_str().unwrap()).unwrap();
    let federation = FederationId::new(&name, &policy, None);
    assert_eq!(federation.hex(), vectors["federation_id"]);
    assert_eq!(federation.prefix_hex(), "4009720881d5eda2");
}

#[test]
fn the_proof_of_work_is_the_first_nonce_that_a_search_from_0_finds() {
    let nonce = Nonce(vectors()["pow_nonce"].as_u64().unwrap());
    let (federation, node) = (federation(), identity().node_id());
    assert!(check_work(&federation, &node, nonce, 20).is_ok());
    let search = Search { federation, node, bits_min: 20, first: 0, step: NonZeroU64::MIN };
    assert_eq!(search.run(&AtomicBool::new(false)), Some(nonce));
    assert!(work_bits(&federation, &NodeId::from_stored([1; 32]), nonce) < 20);
}

#[test]
fn every_entry_is_written_read_hashed_and_signed_as_in_the_worked_values() {
    let modes = [Mode::Exploring, Mode::Questioning, Mode::Integrating];
    for (row, sent) in vectors()["entries"].as_array().unwrap().iter().zip(worked_log()) {
        let header = sent.header().clone();
        let body = match (&header.body, row["content"].as_str()) {
            (Body::Genesis(_), None) => Body::Genesis(worked_genesis()),
            (Body::Thought(_), Some(content)) => {
                let mode = modes[usize::try_from(sent.seq().0).unwrap() - 1];
                Body::Thought(Thought::new("main".parse().unwrap(), mode, content))
            }
            (Body::Genesis(_) | Body::Thought(_), _) => panic!("content {:?}", row["content"]),
        };
        let own = Entry::new(&federation(), Header { body, ..header }, row["content"].as_str());
        assert_eq!(own, sent);
        assert_eq!(own.header().to_bytes(), bytes(&row["header"]));
        assert_eq!(own.hash(), Hash(array(&row["hash"])));
        assert_eq!(own.check_content(), Ok(()));

        let head = Head::sign(&identity(), &federation(), own.seq(), own.hash());
        assert_eq!(head.signature, Signature(array(&row["head_signature"])));
        assert_eq!(head.verify(&federation()), Ok(()));
    }
}

fn worked_genesis() -> Genesis {
    Genesis {
        name: "legion".parse().unwrap(),
        hardware: Hardware::Tpm2,
        level: Level::MAX,
        arch: "x86_64".parse().unwrap(),
        nonce: Nonce(vectors()["pow_nonce"].as_u64().unwrap()),
    }
}

#[test]
fn the_worked_log_is_one_verified_segment() {
    let segment = worked_segment();
    assert_eq!((segment.first(), segment.last()), (Seq(0), Seq(3)));
    assert_eq!(segment.author(), identity().node_id());
    let contents: usize = worked_log().iter().filter_map(|e| e.content().map(Bytes::len)).sum();
    assert_eq!(segment.byte_len(), 105 + 3 * 167 + contents + 136);
    let verified = segment.clone().verify(&rules()).unwrap();
    assert_eq!(*verified.get(), segment);
}

#[test]
fn the_worked_log_folds_to_the_worked_accounts() {
    let policy = Policy::default();
    let mut account = None;
    for (row, entry) in vectors()["entries"].as_array().unwrap().iter().zip(worked_log()) {
        let time = entry.header().time;
        match &entry.header().body {
            Body::Genesis(genesis) => account = Some(Account::open(&policy, genesis.level, time)),
            Body::Thought(Thought { content_bytes, features, .. }) => {
                let facts = Facts { time, content_bytes: *content_bytes, features: *features };
                let verdict = fold(&policy, account.as_mut().unwrap(), &facts).unwrap().verdict;
                let accepted = matches!(verdict, Verdict::Accepted { .. });
                assert_eq!(accepted, row["verdict"] == "accepted");
                assert_eq!(account.as_ref().unwrap().balance.0, row["balance_uatp"].as_i64().unwrap());
            }
        }
        let digest = account.as_ref().map(Account::digest);
        assert_eq!(digest, Some(array(&row["account_digest"])), "entry {}", entry.seq());
    }
}
