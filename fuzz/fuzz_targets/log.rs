//! Whatever bytes are called a header, a node record, a policy or an account: no panic, and what parses is written again as it was.
#![no_main]

use cogmesh::{
    ledger::{Account, Policy, measure},
    log::{Header, NodeRecord},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = Header::parse(data) {
        assert_eq!(header.to_bytes(), data);
    }
    if let Ok(record) = NodeRecord::parse(data) {
        assert_eq!(record.to_bytes(), data);
    }
    if let Ok(policy) = Policy::from_bytes(data) {
        assert_eq!(policy.to_bytes(), data);
    }
    if let Ok(account) = Account::from_bytes(data, &Policy::default()) {
        assert_eq!(account.to_bytes(), data);
    }
    if let Ok(content) = std::str::from_utf8(data) {
        assert!(measure(content).coherence().0 <= 1_000_000);
    }
});
