//! Nodes in processes of their own, killed and started again on the same data directory.

use std::{
    env, fs,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use cogmesh::{
    ledger::Policy,
    log::{FederationId, FederationName},
};
use serde_json::Value;

/// The longest that anything may take; a debug build on a loaded machine needs a while.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Rules under which a node takes whatever comes, as fast as it can.
const POLICY: &str =
    "pow_bits = 4\nrate_base = 1_000_000\npenalty_quality = 0\npenalty_spam = 0\nduplicate_window = 0\n";
/// Below the ports that the system hands out, so that nobody takes a killed node's before it is back.
const PORT_FIRST: u16 = 20_000;

/// The rules of every node here.
pub(crate) fn policy() -> Policy {
    Policy::from_toml(POLICY).unwrap()
}

/// The federation of every node here.
pub(crate) fn federation() -> FederationId {
    let lan: FederationName = "lan".parse().unwrap();
    FederationId::new(&lan, &policy(), None)
}

/// The binary, with nothing of this process's environment that it would look at.
pub(crate) fn cogmesh(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cogmesh"));
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COGMESH_")) {
        command.env_remove(name);
    }
    command
}

/// A number from the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap())
}

/// A node, whether it runs or not.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    port: u16,
    peers: Vec<u16>,
    child: Option<Child>,
}

impl Node {
    /// Nodes that know each other's addresses, each with a directory of its own in `world`. None runs yet.
    pub(crate) fn federation(world: &Path, names: &[&str]) -> Vec<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(PORT_FIRST);
        let ports: Vec<u16> = names.iter().map(|_| NEXT.fetch_add(1, Ordering::Relaxed)).collect();
        fs::write(world.join("policy.toml"), POLICY).unwrap();
        let node = |(name, port): (&&str, &u16)| Self {
            name: (*name).to_owned(),
            dir: world.join(name),
            port: *port,
            peers: ports.iter().copied().filter(|other| other != port).collect(),
            child: None,
        };
        names.iter().zip(&ports).map(node).collect()
    }

    /// Starts its process with those variables, and does not wait for it.
    pub(crate) fn spawn(&mut self, variables: &[(&str, &str)]) {
        assert!(self.child.is_none());
        let policy = self.dir.with_file_name("policy.toml");
        let log = File::options().create(true).append(true).open(self.dir.with_extension("log")).unwrap();
        let mut command =
            cogmesh(&["start", "--no-mdns", "--interface", "lo", "--json", "--name", &self.name]);
        command.arg("--data-dir").arg(&self.dir).arg("--policy").arg(policy);
        command.args(["--port", &self.port.to_string()]);
        for peer in &self.peers {
            command.args(["--peer", &format!("127.0.0.1:{peer}")]);
        }
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until it says that it is ready.
    pub(crate) fn wait_ready(&mut self) {
        let mut line = String::new();
        let stdout = self.child.as_mut().unwrap().stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.starts_with('{'), "{} did not start: {}", self.name, self.log());
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&mut self) {
        self.spawn(&[]);
        self.wait_ready();
    }

    /// Takes it away between two instructions.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        self.wait_end()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        let child = self.child.as_mut().unwrap();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > PATIENCE => panic!("{} does not end", self.name),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        self.child = None;
        status
    }

    /// What it has logged, in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default()
    }

    /// Asks it.
    pub(crate) fn ask(&self, path: &str) -> io::Result<Value> {
        let (status, answer) = request(&self.dir, "GET", path, "")?;
        assert_eq!(status, 200, "{path}: {answer}");
        Ok(answer)
    }

    /// Whether the binary's audit of it finds nothing wrong; nothing where the binary has no audit yet.
    pub(crate) fn audit(&self) {
        let output = cogmesh(&["audit", "--json", "--data-dir"]).arg(&self.dir).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", self.name);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" INFO thought ")).collect();
            let ended = self.child.as_mut().map(Child::try_wait);
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            println!("{}, which has ended with {ended:?}, logged last:\n{last}", self.name);
        }
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ended = child.kill();
            let _status = child.wait();
        }
    }
}

/// Asks the node that runs on that directory. An error where it does not run, or went away before it had answered.
pub(crate) fn request(dir: &Path, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(dir.join("api.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    Ok((status, serde_json::from_str(body).map_err(|_| cut())?))
}

/// Numbers that a seed decides (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
