//! A node in a process of its own that is attacked, and a friend of it that goes on talking to it meanwhile.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    panic::resume_unwind,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cogmesh::{ledger::policy::Policy, log::FederationId};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Builder, sync::watch};

use crate::common::PATIENCE;

/// Rules under which thoughts cost nothing; whose proof of work takes a millisecond, but is one.
const POLICY: &str =
    "pow_bits = 8\nrate_base = 1_000_000\npenalty_quality = 0\npenalty_spam = 0\nduplicate_window = 0\n";
/// What an attack of these sizes may add to the victim. Far below the worst case in ARCHITECTURE.md, which needs an attacker behind each
/// link and each address.
const GROWTH_KIB_MAX: u64 = 64 << 10;
/// By so much attackers of full size are nicer: they get about a ninth of what others get where there is not enough. The small ones of a
/// check-in run beside other tests, and would find no time for a handshake.
const ATTACKERS_NICER: i32 = 10;
/// Thoughts that are timed before an attack; ten times as many before one of full size.
const CALM_THOUGHTS: usize = 40;
/// From one thought to the next. The victim passes each on to all of its peers: with a thousand of them, thoughts as fast as they come would be
/// an attack of the friend's.
const PACE: Duration = Duration::from_millis(50);

pub(crate) fn policy() -> Policy {
    Policy::from_toml(POLICY).unwrap()
}

pub(crate) fn federation() -> FederationId {
    FederationId::new(&"lan".parse().unwrap(), &policy(), None)
}

/// Whether attacks have the size of a determined attacker's, or one that fits a check-in.
fn is_full() -> bool {
    std::env::var("COGMESH_ATTACK").is_ok_and(|size| size == "full")
}

/// How many of something, by that.
pub(crate) fn size(full: usize, usual: usize) -> usize {
    if is_full() { full } else { usual }
}

/// Says what was measured, also where the test passes.
pub(crate) fn measured(what: &str) {
    writeln!(std::io::stderr().lock(), "MEASURED: {what}").unwrap();
}

/// A field of `/proc/PID/status`, in KiB.
pub(crate) fn memory_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// `cogmesh start` on loopback.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    dir: TempDir,
    pub(crate) address: SocketAddr,
}

impl Process {
    fn start(name: &str, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules = dir.path().join("policy.toml");
        fs::write(&rules, POLICY).unwrap();
        // A debug build's tasks are fatter and slower than what users run: `COGMESH_VICTIM=target/release/cogmesh` measures that.
        let binary = std::env::var_os("COGMESH_VICTIM");
        let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_cogmesh").into());
        let mut command = Command::new(binary);
        command.args(["start", "--no-mdns", "--interface", "lo", "--json", "--name", name]);
        command.arg("--policy").arg(rules).arg("--data-dir").arg(dir.path());
        command.args(options);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{}", fs::read_to_string(dir.path().join("log")).unwrap()));
        let address: SocketAddr = ready["listen"][0].as_str().unwrap().parse().unwrap();
        Self { child, dir, address: SocketAddr::from(([127, 0, 0, 1], address.port())) }
    }

    fn http(&self, head: &str, body: &str) -> Value {
        let mut socket = UnixStream::connect(self.dir.path().join("api.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            socket,
            "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        self.http("GET /v1/status", "")
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.status()["counters"][name].as_u64().unwrap_or_default()
    }

    fn seq_of(&self, author: &str) -> Option<u64> {
        // Not the whole status: with a thousand peers that is a megabyte.
        let known = self.http("GET /v1/authors", "");
        let mut authors = known["authors"].as_array().unwrap().iter();
        authors.find(|known| known["name"] == author)?["seq"].as_u64()
    }

    /// Waits until it says so.
    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "not in time: {what}: {status}");
            // Another process tells nobody; a look now and then is all there is.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A victim and its friend.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) victim: Arc<Process>,
    friend: Arc<Process>,
    calm: Vec<Duration>,
    pub(crate) before_kib: u64,
    thoughts: usize,
}

/// The friend goes on thinking until it is told to stop.
pub(crate) struct Going {
    stop: Arc<AtomicBool>,
    /// How many thoughts were timed.
    timed: watch::Receiver<usize>,
    thinking: Option<JoinHandle<(Pair, Vec<Duration>)>>,
}

/// A test that fails takes its processes with it.
impl Drop for Going {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thinking.take().map(JoinHandle::join);
    }
}

/// Attacks the victim of a pair whose friend goes on thinking. An attacker has a machine of its own: here, its threads are nicer than those of
/// the pair and of whoever takes its times, and get what processor time these leave.
pub(crate) fn under_attack<F: Future<Output = ()>>(
    options: &[&str],
    attack: impl FnOnce(Arc<Process>, Going, u64) -> F + Send,
) {
    let pair = Pair::start_with(options);
    let (victim, before_kib) = (Arc::clone(&pair.victim), pair.before_kib);
    let going = pair.go_on();
    let be_nicer = || assert!(!is_full() || rustix::process::nice(ATTACKERS_NICER).is_ok());
    let attackers = Builder::new_multi_thread().enable_all().on_thread_start(be_nicer).build().unwrap();
    thread::scope(|scope| {
        let attacking = scope.spawn(|| {
            be_nicer();
            attackers.block_on(attack(victim, going, before_kib));
        });
        if let Err(panic) = attacking.join() {
            resume_unwind(panic);
        }
    });
}

impl Pair {
    /// The victim has those options.
    fn start_with(options: &[&str]) -> Self {
        let victim = Process::start("victim", options);
        let friend = Process::start("friend", &[&format!("--peer={}", victim.address)]);
        friend.wait_for("linked", |status| status["peers"][0]["verified"] == true);
        let mut pair =
            Self { victim: victim.into(), friend: friend.into(), calm: vec![], before_kib: 0, thoughts: 0 };
        pair.calm = (0..size(CALM_THOUGHTS * 10, CALM_THOUGHTS)).map(|_| pair.think()).collect();
        pair.before_kib = memory_kib(pair.victim.child.id(), "VmRSS");
        pair
    }

    /// By how much the victim has grown since before the attack, in KiB.
    pub(crate) fn grown_kib(victim: &Process, before_kib: u64) -> u64 {
        memory_kib(victim.child.id(), "VmRSS").saturating_sub(before_kib)
    }

    /// From its submission at the friend until the victim has it.
    fn think(&mut self) -> Duration {
        self.thoughts += 1;
        let begun = Instant::now();
        let content = format!("Thought {} asks whether neighbours still hear what was said", self.thoughts);
        let answer = self.friend.http("POST /v1/thoughts", &json!({ "content": content }).to_string());
        let seq = answer["seq"].as_u64();
        assert!(seq.is_some(), "{answer}");
        while self.victim.seq_of("friend") < seq {
            assert!(begun.elapsed() < PATIENCE, "the friend's thought {seq:?} does not arrive");
            thread::sleep(Duration::from_millis(1));
        }
        let took = begun.elapsed();
        thread::sleep(PACE.saturating_sub(took));
        took
    }

    fn go_on(mut self) -> Going {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let (tell, timed) = watch::channel(0);
        let thinking = thread::spawn(move || {
            let mut times = vec![];
            loop {
                let is_last = asked.load(Ordering::Relaxed);
                times.push(self.think());
                tell.send_replace(times.len());
                if is_last {
                    return (self, times);
                }
            }
        });
        Going { stop, timed, thinking: Some(thinking) }
    }
}

impl Going {
    /// Waits until the friend has thought so often more.
    pub(crate) async fn thinks(&self, more: usize) {
        let mut timed = self.timed.clone();
        let wanted = *timed.borrow() + more;
        timed.wait_for(|timed| *timed >= wanted).await.expect("the friend stopped thinking");
    }

    /// The attack is over: the friend was not lost, is heard still, and the victim is no fatter than it may be.
    pub(crate) fn end(self, attack: &str) -> Pair {
        self.end_within(attack, GROWTH_KIB_MAX)
    }

    /// As [`Self::end`], with a bound of its own for what the victim may grow.
    pub(crate) fn end_within(mut self, attack: &str, growth_kib_max: u64) -> Pair {
        self.stop.store(true, Ordering::Relaxed);
        let (pair, times) = self.thinking.take().unwrap().join().unwrap();
        let grown = memory_kib(pair.victim.child.id(), "VmHWM").saturating_sub(pair.before_kib);
        let (calm, meanwhile) = (p99(&pair.calm), p99(&times));
        let percent = meanwhile.as_micros() * 100 / calm.as_micros().max(1);
        measured(&format!(
            "{attack}: {} thoughts meanwhile, p99 {meanwhile:?} ({percent} % of {calm:?}), {} KiB before, {grown} KiB more at most",
            times.len(),
            pair.before_kib,
        ));
        assert_eq!(pair.friend.counter("peers_lost"), 0, "the friend lost the victim");
        assert!(grown < growth_kib_max, "the victim grew by {grown} KiB");
        pair
    }
}

fn p99(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}
