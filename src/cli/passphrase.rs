//! Passphrases: from a file, or typed without being shown. Never from the command line, where everybody on the machine can read it.

use std::{
    fs,
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::Context;
use zeroize::Zeroizing;

use super::exit::{Exit, Failure};

/// Fewest characters of a new one.
const CHARS_MIN: usize = 8;

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To encrypt something: it is asked for twice.
    New,
    /// To open something.
    Known,
}

/// Reads it from the first line of a file, or asks for it.
///
/// # Errors
/// Where the file can't be read, there is nobody to ask, or a new one is too short or was not typed twice alike.
pub fn read(file: Option<&Path>, wanted: Wanted) -> anyhow::Result<Zeroizing<String>> {
    let passphrase = match file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("can't read the passphrase file `{}`", path.display()))?;
            let text = Zeroizing::new(text);
            Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
        }
        None if !io::stdin().is_terminal() => {
            let message = "a passphrase for the CA's key is needed, and there is no terminal to ask for it";
            let hint = match wanted {
                Wanted::New => {
                    "`--passphrase-file FILE` names a file that holds it; `--no-passphrase` leaves the key in clear, in a file of mode 0600"
                }
                Wanted::Known => "`--passphrase-file FILE` names a file that holds it",
            };
            return Err(Failure::new(Exit::Usage, message).hint(hint).into());
        }
        None => ask("Passphrase for the CA's key: ")?,
    };
    if wanted == Wanted::Known {
        return Ok(passphrase);
    }
    if passphrase.chars().count() < CHARS_MIN {
        let message = format!("a passphrase has {CHARS_MIN} characters at least");
        return Err(Failure::new(Exit::Usage, message).into());
    }
    if file.is_none() && *ask("The same again: ")? != *passphrase {
        return Err(Failure::new(Exit::Failed, "the two passphrases differ; nothing was changed").into());
    }
    Ok(passphrase)
}

/// Whether the running node refused because its CA's key is locked: nobody is asked for what is not needed.
#[must_use]
pub fn is_needed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.code() == Some("ca_locked"))
}

fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).context("can't ask for a passphrase")
}
