//! What a process costs: processor time, memory, wake-ups, and what it reads and writes, as the system counts it.

use std::{fs, time::Duration};

/// What a process has used so far, and how much memory it has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Processor time of all its threads, the ended ones too.
    pub(crate) cpu: Duration,
    /// How often a thread of it gave up the processor to wait: each time something woke it again.
    pub(crate) wakes: u64,
    pub(crate) threads: u64,
    /// Memory that is in use.
    pub(crate) rss_kib: u64,
    /// What of that is the process's own; the rest are pages of files, the program itself above all, which processes share and
    /// the system may take back.
    pub(crate) anon_kib: u64,
    /// Bytes that it caused to be written to a disk.
    pub(crate) written: u64,
    /// Bytes that its reads brought, from the system's cache or a disk.
    pub(crate) read: u64,
}

impl Cost {
    /// Of a process that runs.
    pub(crate) fn of(pid: u32) -> Self {
        let status = read(pid, "status");
        let io = read(pid, "io");
        let (mut on_cpu, mut wakes) = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
            // A thread may end between two looks.
            let path = task.path();
            let ran = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            on_cpu += ran.split_whitespace().next().map_or(0, |ns| ns.parse::<u64>().unwrap());
            let task = fs::read_to_string(path.join("status")).unwrap_or_default();
            wakes += field(&task, "voluntary_ctxt_switches:");
        }
        Self {
            // The counter of ticks is coarse and has the threads that have ended; that of each thread is fine.
            cpu: Duration::from_nanos(on_cpu).max(Duration::from_millis(cpu_ms(pid))),
            wakes,
            threads: field(&status, "Threads:"),
            rss_kib: field(&status, "VmRSS:"),
            anon_kib: field(&status, "RssAnon:"),
            written: field(&io, "write_bytes:"),
            read: field(&io, "rchar:"),
        }
    }
}

/// Processor time of a process, in milliseconds, to ten of them.
pub(crate) fn cpu_ms(pid: u32) -> u64 {
    let stat = read(pid, "stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10
}

/// UDP datagrams that all processes of that one's network namespace have sent.
pub(crate) fn datagrams_sent(pid: u32) -> u64 {
    let counters = read(pid, "net/snmp");
    let mut lines = counters.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut counted = names.split(' ').zip(values.split(' '));
    counted.find(|(name, _)| *name == "OutDatagrams").unwrap().1.parse().unwrap()
}

fn read(pid: u32, what: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap()
}

/// The number behind a name; 0 where the name is not there.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.split_whitespace().next().unwrap().parse().unwrap())
}
