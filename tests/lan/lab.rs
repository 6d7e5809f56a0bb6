//! Driving `scripts/lan-lab` from tests: hosts, nodes on them, and what the nodes say of themselves.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// The longest that anything may take that a test waits for; far above what it does take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A LAN of hosts. It is gone when this is dropped.
pub(crate) struct Lab {
    holder: Child,
    dir: TempDir,
}

/// Says why a test can't run and what would enable it. In CI that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "this must run in CI: {why}");
    writeln!(std::io::stderr().lock(), "\nSKIPPED: {why}\n").unwrap();
}

impl Lab {
    /// Starts a LAN with those options of `scripts/lan-lab`; `None` where this system can't have one, which is said.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        if !installed("nsenter") {
            skip("nsenter is missing; install util-linux");
            return None;
        }
        let script = lan_lab();
        let dir = tempfile::tempdir().unwrap();
        let said_by_lab = dir.path().join("lan-lab.log");
        let mut holder = Command::new(&script)
            .args(options)
            .args(["--", "lan-lab", "hold"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&said_by_lab).unwrap())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if !said.starts_with('{') {
            holder.wait().unwrap();
            let why = fs::read_to_string(&said_by_lab).unwrap();
            skip(&format!("no LAN of network namespaces can be made here: {}", why.trim()));
            return None;
        }
        Some(Self { holder, dir })
    }

    /// Works on the LAN: `lab.lan(&["cut", "thor"])`.
    pub(crate) fn lan(&self, words: &[&str]) -> String {
        let output = Command::new(lan_lab())
            .args(["--lab", &self.holder.id().to_string()])
            .args(words)
            .output()
            .unwrap();
        let said = fs::read_to_string(self.dir.path().join("lan-lab.log")).unwrap();
        let trouble = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lan-lab {words:?}: {trouble}; the lab itself: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A command on a host. Its process is the program's own, so its id can be killed.
    pub(crate) fn command(&self, host: &str, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.holder.id().to_string(),
                "--user",
                "--mount",
                "--net",
                "--preserve-credentials",
            ])
            .args(["ip", "netns", "exec", host, "unshare", "--uts"])
            .args(["sh", "-c", r#"hostname "$0" && exec "$@""#, host])
            .arg(program.as_ref());
        command
    }

    /// A command where the far ends of the hosts' cables are: what any of them sends comes by there.
    pub(crate) fn on_the_switch(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.holder.id().to_string()])
            .args(["--user", "--mount", "--net", "--preserve-credentials"])
            .arg(program.as_ref());
        command
    }

    /// Runs a program on a host to its end.
    pub(crate) fn run(&self, host: &str, program: impl AsRef<Path>, words: &[&str]) -> Output {
        self.command(host, program).args(words).output().unwrap()
    }

    /// Mounts a small disk that only the lab's hosts see; `None`, said aloud, where that can't be had. A host's own commands have a
    /// view of the files that ends with them, so it is mounted beside them.
    pub(crate) fn small_disk(&self, name: &str, mib: u32) -> Option<PathBuf> {
        let disk = self.dir.path().join(name);
        fs::create_dir(&disk).unwrap();
        let mount = Command::new("nsenter")
            .args(["--target", &self.holder.id().to_string(), "--user", "--mount", "--preserve-credentials"])
            .args(["mount", "-t", "tmpfs", "-o", &format!("size={mib}m,mode=700"), "tmpfs"])
            .arg(&disk)
            .output()
            .unwrap();
        if !mount.status.success() {
            skip(&format!("no small disk can be mounted: {}", String::from_utf8_lossy(&mount.stderr)));
            return None;
        }
        Some(disk)
    }

    /// Starts `cogmesh start` on a host, with an empty data directory of its own and no address anywhere.
    pub(crate) fn node(&self, host: &str) -> Node {
        self.node_in(host, &self.dir.path().join(host), &[])
    }

    /// Starts `cogmesh start` on a host with that data directory and options.
    pub(crate) fn node_in(&self, host: &str, data_dir: &Path, options: &[&str]) -> Node {
        fs::create_dir_all(self.dir.path()).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("{host}.log")))
            .unwrap();
        let child = self
            .command(host, cogmesh())
            .args(["start", "--data-dir"])
            .arg(data_dir)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Node { host: host.to_owned(), child, data_dir: data_dir.to_owned(), started: Instant::now() }
    }

    /// What the nodes of a host wrote to standard error.
    pub(crate) fn log(&self, host: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("{host}.log"))).unwrap_or_default()
    }

    /// Writes down rules of a federation, and says where.
    pub(crate) fn policy(&self, rules: &str) -> String {
        let file = self.dir.path().join("policy.toml");
        fs::write(&file, rules).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// A folder that is gone with the lab.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // `--kill-child` takes everything in the lab with it. It may be gone already.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) host: String,
    child: Child,
    data_dir: PathBuf,
    pub(crate) started: Instant,
}

impl Node {
    /// `GET` on its local API; `None` while it does not answer.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let mut socket = UnixStream::connect(self.data_dir.join("api.sock")).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        Some(serde_json::from_str(body).unwrap())
    }

    /// `POST` on its local API: the status code and the answer; `None` where it went away before it had answered.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let mut socket = UnixStream::connect(self.data_dir.join("api.sock")).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = body.to_string();
        let length = body.len();
        write!(
            socket,
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).ok()?))
    }

    /// What it says of itself, once it answers.
    pub(crate) fn status(&self) -> Value {
        let mut status = None;
        wait_until(&format!("{} answers", self.host), || {
            status = self.get("/v1/status");
            status.is_some()
        });
        status.unwrap()
    }

    /// Sends its process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Runs a command of the command line against it.
    pub(crate) fn cli(&self, words: &[&str]) -> Output {
        Command::new(cogmesh()).arg("--data-dir").arg(&self.data_dir).args(words).output().unwrap()
    }

    /// The names of the peers that it lists as verified, sorted.
    pub(crate) fn verified(&self) -> Vec<String> {
        let Some(status) = self.get("/v1/status") else {
            return vec![];
        };
        let mut names: Vec<String> = status["peers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|peer| peer["verified"] == true)
            .map(|peer| peer["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    /// What it holds of every author: the fields that must be the same everywhere.
    pub(crate) fn books(&self) -> Vec<Value> {
        let Some(status) = self.get("/v1/status") else {
            return vec![];
        };
        let fields = |author: &Value| {
            ["id", "seq", "hash", "balance_uatp", "digest"]
                .iter()
                .map(|field| author[field].clone())
                .collect()
        };
        let mut books: Vec<Value> = status["authors"].as_array().unwrap().iter().map(fields).collect();
        books.sort_by_key(ToString::to_string);
        books
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it between two instructions.
    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has. Returns how long that took.
    pub(crate) fn terminate(&mut self) -> Duration {
        let asked = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{} ends with success", self.host);
        asked.elapsed()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until that holds, and says how long that took.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        // What is waited for happens in other processes, which tell nobody; a look every few milliseconds is all there is.
        std::thread::sleep(Duration::from_millis(5));
    }
    started.elapsed()
}

/// The program under test. A debug build is slower than what users run: `COGMESH_LAN_BINARY=target/release/cogmesh` takes that.
pub(crate) fn cogmesh() -> &'static Path {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let chosen = std::env::var_os("COGMESH_LAN_BINARY");
        // Hosts have a view of the files of their own, in whose root commands begin.
        chosen.map_or_else(|| env!("CARGO_BIN_EXE_cogmesh").into(), |path| fs::canonicalize(path).unwrap())
    });
    &BINARY
}

/// The Python that has the foreign packages, which `scripts/install-test-tools` installs; `None`, said aloud, without.
pub(crate) fn foreign_python() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-venv/bin/python");
    let python = std::env::var_os("COGMESH_TEST_PYTHON").map_or(ours, PathBuf::from);
    if python.exists() {
        return Some(python);
    }
    skip("the Python packages zeroconf and aioquic are missing; run `scripts/install-test-tools`");
    None
}

/// A program of this folder.
pub(crate) fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lan").join(name)
}

/// Whether a program is where Debian keeps programs.
pub(crate) fn installed(tool: &str) -> bool {
    let folders = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    folders.split(':').any(|folder| Path::new(folder).join(tool).exists())
}

fn lan_lab() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lan-lab")
}

/// A number from the environment, or what is right where nobody waits for hours.
pub(crate) fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |value| value.parse().unwrap())
}

/// Says what was measured, also where the test passes.
pub(crate) fn measured(what: &str) {
    writeln!(std::io::stderr().lock(), "MEASURED: {what}").unwrap();
}
