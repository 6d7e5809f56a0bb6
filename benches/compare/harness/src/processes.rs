//! Contestants in processes of their own, and one run of them.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{
    contestants::Contestant,
    measures::{Measure, Values, sample},
};

/// Far above what any step takes beside the seconds that it is told to take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a process may take to end by itself.
const END_MAX: Duration = Duration::from_secs(3);
/// How long everything has to come to rest before it is looked at.
const SETTLE: Duration = Duration::from_secs(3);

/// Where programs are and what runs may write.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) target: PathBuf,
    pub(crate) scratch: PathBuf,
}

impl Place {
    pub(crate) fn program(&self, contestant: &Contestant) -> PathBuf {
        let name = format!("contestant-{}", contestant.package);
        self.target.join(contestant.profile.name()).join(name)
    }
}

/// One process, which ends with this.
struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    fn start(program: &Path, words: &[String], log: PathBuf) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(words)
            // What it says where it fails is to be short.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("can't start {}", program.display()))?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, lines, log })
    }

    fn tell(&mut self, order: &str) -> anyhow::Result<()> {
        writeln!(self.stdin, "{order}").and_then(|()| self.stdin.flush()).with_context(|| self.said())
    }

    /// Waits for a line that begins so; gives its rest.
    fn hear(&self, word: &str, patience: Duration) -> anyhow::Result<String> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(_) => bail!("it did not say `{word}`; {}", self.said()),
            };
            if let Some(rest) = line.strip_prefix(word) {
                return Ok(rest.trim_start().to_owned());
            }
        }
    }

    /// The last lines of its log.
    fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let mut last: VecDeque<&str> = log.lines().collect();
        while last.len() > 6 {
            last.pop_front();
        }
        format!("its last words: {:?}", Vec::from(last))
    }

    fn report(&mut self) -> anyhow::Result<Values> {
        Ok(serde_json::from_str(&self.hear("report", PATIENCE)?)?)
    }

    fn end(mut self) {
        let until = Instant::now() + END_MAX;
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Runs a contestant once.
pub(crate) fn run(place: &Place, measure: &Measure, contestant: &Contestant) -> anyhow::Result<Values> {
    // What may be kept from run to run, such as a backlog.
    let shared = place.scratch.join(format!("shared-{}-{}", measure.id, contestant.id));
    fs::create_dir_all(&shared)?;
    let own = tempfile::tempdir_in(&place.scratch)?;
    let program = place.program(contestant);
    let start = |role: &str, number: usize, peer: Option<&str>| {
        let dir = own.path().join(format!("{role}-{number}"));
        fs::create_dir_all(&dir)?;
        let mut words = vec![role.to_owned(), measure.scenario.to_owned()];
        let mut set = |key: &str, value: &str| words.push(format!("{key}={value}"));
        set("variant", contestant.variant);
        set("seconds", &measure.seconds.to_string());
        set("count", &measure.count.to_string());
        set("dir", &dir.display().to_string());
        set("shared", &shared.display().to_string());
        if measure.pinned {
            set("cpu", "0");
        }
        if let Some(peer) = peer {
            set("peer", peer);
        }
        Process::start(&program, &words, own.path().join(format!("{role}-{number}.log")))
    };
    let mut publisher = start("publisher", 0, None)?;
    let peer = publisher.hear("ready", PATIENCE)?;
    let mut subscribers = (0..measure.subscribers)
        .map(|number| start("subscriber", number, Some(&peer)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for subscriber in &subscribers {
        subscriber.hear("ready", PATIENCE)?;
    }
    publisher.tell("warm")?;
    for subscriber in &subscribers {
        subscriber.hear("warm", PATIENCE)?;
    }
    publisher.tell("go")?;
    let sending = PATIENCE + Duration::from_secs_f64(measure.seconds);
    let sent: u64 = publisher.hear("sent", sending)?.parse()?;
    let seen = if measure.scenario == "rest" { at_rest(&publisher, measure.seconds)? } else { Values::new() };
    let mut reports = vec![];
    for subscriber in &mut subscribers {
        subscriber.tell(&format!("expect {sent}"))?;
    }
    for subscriber in &mut subscribers {
        reports.push(subscriber.report()?);
    }
    publisher.tell("end")?;
    let report = publisher.report()?;
    for subscriber in &mut subscribers {
        subscriber.tell("end")?;
    }
    publisher.end();
    subscribers.into_iter().for_each(Process::end);
    Ok(sample(measure, &report, &reports, &seen))
}

/// Memory of a process that has nothing to do, and its processor time meanwhile.
fn at_rest(process: &Process, seconds: f64) -> anyhow::Result<Values> {
    thread::sleep(SETTLE);
    let pid = process.child.id();
    let before = cpu_ticks(pid)?;
    thread::sleep(Duration::from_secs_f64(seconds));
    let ticks = cpu_ticks(pid)? - before;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("it names its memory")?;
    let kib: f64 = line.split_whitespace().nth(1).context("it names its memory")?.parse()?;
    // A tick is 10 ms.
    let cpu_percent = ticks as f64 / seconds;
    Ok([("rss_kib".to_owned(), kib), ("cpu_percent".to_owned(), cpu_percent)].into())
}

fn cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|ticks| ticks.parse::<u64>().ok());
    Ok(ticks(11).context("no ticks")? + ticks(12).context("no ticks")?)
}
