//! What a contestant is to do: `ROLE SCENARIO [key=value…]`.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context, bail};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// On which side it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Is connected to, and then sends.
    Publisher,
    /// Connects, and then receives.
    Subscriber,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Round trips, one after another.
    Rtt,
    /// Messages at a fixed schedule.
    Oneway,
    /// As many messages as it takes.
    Flood,
    /// As many bytes as it takes.
    Bulk,
    /// Connections, each a new one.
    Connect,
    /// Nothing.
    Rest,
}

/// What a contestant is to do.
#[derive(Clone, Debug)]
pub struct Task {
    pub role: Role,
    pub scenario: Scenario,
    /// What a contestant with several forms is to be.
    pub variant: String,
    /// What the other side said when it was ready.
    pub peers: Vec<String>,
    /// For how long it sends.
    pub seconds: f64,
    /// Messages a second, where there is a schedule.
    pub rate: u64,
    /// How many, where that is fixed: handshakes, entries of a backlog.
    pub count: u64,
    /// A directory of this side's own, on a disk.
    pub dir: PathBuf,
    /// One that both sides see.
    pub shared: PathBuf,
}

impl FromStr for Role {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        Ok(match word {
            "publisher" => Self::Publisher,
            "subscriber" => Self::Subscriber,
            _ => bail!("`{word}` is no role"),
        })
    }
}

impl FromStr for Scenario {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        Ok(match word {
            "rtt" => Self::Rtt,
            "oneway" => Self::Oneway,
            "flood" => Self::Flood,
            "bulk" => Self::Bulk,
            "connect" => Self::Connect,
            "rest" => Self::Rest,
            _ => bail!("`{word}` is no scenario"),
        })
    }
}

impl Task {
    /// Reads this program's arguments, and pins it to a processor where they say so: before any thread is started, so that all are pinned.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn from_args() -> anyhow::Result<Self> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [role, scenario, settings @ ..] = &words[..] else {
            bail!("usage: ROLE SCENARIO [key=value…]; started by the harness")
        };
        let mut task = Self {
            role: role.parse()?,
            scenario: scenario.parse()?,
            variant: String::new(),
            peers: vec![],
            seconds: 1.0,
            rate: 1_000,
            count: 0,
            dir: std::env::temp_dir(),
            shared: std::env::temp_dir(),
        };
        for setting in settings {
            let (key, value) = setting.split_once('=').with_context(|| format!("`{setting}`"))?;
            match key {
                "variant" => value.clone_into(&mut task.variant),
                "peer" => task.peers.push(value.to_owned()),
                "seconds" => task.seconds = value.parse()?,
                "rate" => task.rate = value.parse()?,
                "count" => task.count = value.parse()?,
                "dir" => task.dir = value.into(),
                "shared" => task.shared = value.into(),
                "cpu" => pin(value.parse()?)?,
                _ => bail!("`{key}` is no setting"),
            }
        }
        Ok(task)
    }

    /// What the first peer said when it was ready.
    ///
    /// # Errors
    /// There is none.
    pub fn peer(&self) -> anyhow::Result<&str> {
        self.peers.first().map(String::as_str).context("no peer is named")
    }
}

fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("can't run on processor {cpu}"))
}
