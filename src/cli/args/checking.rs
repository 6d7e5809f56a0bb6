//! What can be typed about `doctor`: the options of `start`.

use clap::Arg;

/// Those that change what a machine has to be like.
const CHECKED: [&str; 9] = ["port", "interface", "peer", "no_mdns", "disk_min", "ca", "cert", "key", "api"];

/// Lists those alone in the help. The others are taken all the same, so that what starts a node can be given to `doctor` as it is.
pub(super) fn of_doctor(option: Arg) -> Arg {
    let is_checked = CHECKED.iter().any(|checked| option.get_id() == checked);
    option.hide(!is_checked)
}
