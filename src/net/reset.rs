//! Stateless resets: a node that was killed and started again tells its peers at once that their connections are gone,
//! instead of leaving them to the idle limit. For that, the key below must be the same in the next life, and packets
//! with connection ids of the former life must be answered at all.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    digest::{Context, SHA256},
    hmac::{HMAC_SHA256, Key},
    rand,
};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};

/// The only thing that this key does; it says nothing about the seed that it comes from.
const DOMAIN: &[u8] = b"cogmesh stateless reset key v1\0";

/// An endpoint configuration whose resets its peers believe also after a restart.
pub(super) fn endpoint_config(seed: &[u8; 32]) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(Key::new(HMAC_SHA256, &sha256(&[DOMAIN, seed]))));
    config.cid_generator(|| Box::new(RandomIds { made: 0 }));
    config
}

/// Random connection ids. quinn's own generator marks its ids with a key of the process and answers to no others,
/// which would silence exactly the resets that are wanted. What is lost with the mark: noise with the right first
/// bits gets a reset too, at most 50 in a second, each shorter than what caused it.
struct RandomIds {
    made: u64,
}

/// Bytes of a connection id.
const ID_BYTES: usize = 8;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        self.made = self.made.wrapping_add(1);
        if rand::fill(&mut id).is_err() {
            // quinn asks again until an id is new: without randomness, a count is new too.
            id = self.made.to_le_bytes();
        }
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}
