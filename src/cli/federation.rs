//! `cogmesh federation create`: makes a closed federation beside this node's key.

use std::{path::Path, process::ExitCode};

use serde::Serialize;

use super::{
    Out,
    args::CreateArgs,
    config,
    exit::Exit,
    passphrase::{self, Wanted},
    show::{escaped, fields},
};
use crate::node::{self, membership::CA_KEY_FILE};

/// What `federation create` prints.
#[derive(Clone, Debug, Serialize)]
struct Created {
    name: String,
    id: String,
    ca_fingerprint: String,
}

/// Makes the CA, and this node its first member.
///
/// # Errors
/// Where the node runs, the data directory belongs to a federation or has a store, or a file can't be written.
pub fn create(args: &CreateArgs, data_dir: &Path, mut out: Out) -> anyhow::Result<ExitCode> {
    let policy = config::policy(args.policy.as_deref(), data_dir)?;
    let passphrase = match args.no_passphrase {
        true => None,
        false => Some(passphrase::read(args.passphrase_file.as_deref(), Wanted::New)?),
    };
    let made = node::create_federation(
        data_dir,
        &args.name,
        &policy,
        passphrase.as_ref().map(|text| text.as_bytes()),
    )?;
    let created = Created {
        name: args.name.to_string(),
        id: made.federation.hex(),
        ca_fingerprint: made.member.ca.hash().to_string(),
    };
    out.one(&created, |created| text(created, &data_dir.join(CA_KEY_FILE)))?;
    Ok(Exit::Done.into())
}

fn text(created: &Created, key: &Path) -> String {
    let shown = fields(&[
        ("federation", escaped(&created.name)),
        ("id", created.id.clone()),
        ("CA", created.ca_fingerprint.clone()),
    ]);
    format!(
        "{shown}This node is its first member. Start it, then run `cogmesh invite` for each other one.\n\
         Whoever has `{}` can make members: keep a copy of it in a safe place.\n",
        escaped(&key.display().to_string())
    )
}
