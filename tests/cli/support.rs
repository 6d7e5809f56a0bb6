//! Running the binary, and nodes that end with their test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// The longest that anything may take; a debug build on a loaded machine needs a while for its proof of work.
const PATIENCE: Duration = Duration::from_secs(30);

/// A thought that every policy likes.
pub(crate) const QUALITY: &str = "What emerges when economic incentives align with epistemic quality across distributed machines that remember?";
/// A thought that none does.
pub(crate) const SPAM: &str = "spam spam spam spam";

/// The binary with those arguments, and nothing of this process's environment that it would look at.
pub(crate) fn cogmesh(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cogmesh"));
    command.args(args).env_remove("RUST_LOG").env_remove("NO_COLOR").stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("COGMESH_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the binary to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    cogmesh(args).output().unwrap()
}

/// Runs the binary with that standard input.
pub(crate) fn run_with_input(args: &[&str], input: &[u8]) -> Output {
    let mut child =
        cogmesh(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The binary may have seen enough before it has read all.
    let _enough = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The exit code.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Standard output.
pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error.
pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Standard output as one JSON object.
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_str(&out(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// An error is a sentence after `error: `, and holds nothing that a terminal would act on.
#[track_caller]
pub(crate) fn assert_fails(output: &Output, exit: i32, parts: &[&str]) {
    let text = err(output);
    assert_eq!(code(output), exit, "{text}");
    assert!(text.starts_with("error: "), "{text:?}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in {text:?}");
    }
}

/// A node that runs in a process of its own and is killed where its test ends without stopping it.
pub(crate) struct Node {
    child: Child,
    dir: TempDir,
    /// Where others dial it.
    pub(crate) address: String,
}

impl Node {
    /// Starts a node with an empty data directory.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), args)
    }

    /// Starts a node on that data directory. It speaks to nobody who is not named: the tests stay on this machine.
    pub(crate) fn start_in(dir: TempDir, args: &[&str]) -> Self {
        let data_dir = dir.path().to_str().unwrap();
        let mut child = cogmesh(&["start", "--no-mdns", "--json", "--data-dir", data_dir])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let output = child.wait_with_output().unwrap();
            panic!("the node did not start: {}", err(&output));
        };
        let listen = ready["listen"][0].as_str().unwrap();
        let port = listen.rsplit(':').next().unwrap();
        Self { child, address: format!("127.0.0.1:{port}"), dir }
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        self.ask_with_input(args, b"")
    }

    /// Asks it with that standard input.
    pub(crate) fn ask_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let with_dir = [args, &["--data-dir", self.dir.path().to_str().unwrap()]].concat();
        run_with_input(&with_dir, input)
    }

    /// Asks it for JSON lines.
    pub(crate) fn lines(&self, args: &[&str]) -> Vec<Value> {
        let output = self.ask(&[args, &["--json"]].concat());
        assert_eq!(code(&output), 0, "{}", err(&output));
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asks it until what it says is as wanted.
    pub(crate) fn wait_for(&self, args: &[&str], wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let lines = self.lines(args);
            if wanted(&lines) {
                return lines;
            }
            assert!(begun.elapsed() < PATIENCE, "still {lines:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it over HTTP, as programs do: the status and the body. Without a type, no `content-type` is sent.
    pub(crate) fn http(&self, request: &str, content_type: Option<&str>, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.dir.path().join("api.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let kind = content_type.map(|kind| format!("content-type: {kind}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{kind}content-length: {length}\r\n\r\n"
        );
        // It may say no before it has read all.
        let _enough = stream.write_all(format!("{head}{body}").as_bytes());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended: its exit code, how long that took, what it had logged, and its data directory.
    pub(crate) fn ended(mut self) -> (i32, Duration, String, TempDir) {
        let begun = Instant::now();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        let status = self.child.wait().unwrap();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        (status.code().unwrap_or(-1), begun.elapsed(), log, dir)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
