//! What can be typed about `doctor`: the options of `start`, and one of its own.

use clap::{Arg, Args};

use super::StartArgs;

/// Options of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Ask one question over multicast DNS on each interface and wait until it comes back, 2 s at most: what a firewall of this machine
    /// drops does not
    #[arg(long)]
    pub multicast: bool,
    /// What the node is started with.
    #[command(flatten)]
    pub start: StartArgs,
}

/// Those that change what a machine has to be like.
const CHECKED: [&str; 10] =
    ["multicast", "port", "interface", "peer", "no_mdns", "disk_min", "ca", "cert", "key", "api"];

/// Lists those alone in the help. The others are taken all the same, so that what starts a node can be given to `doctor` as it is.
pub(super) fn of_doctor(option: Arg) -> Arg {
    let is_checked = CHECKED.iter().any(|checked| option.get_id() == checked);
    option.hide(!is_checked)
}
