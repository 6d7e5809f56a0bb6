//! An audit: everything that a store says is compared with what follows from the signed logs in it. It needs nothing but the
//! file, changes nothing, and a node may run on that file meanwhile.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt::Write as _,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    super::{AuditProgress, AuditReport, StoreError},
    books, check, convictions, corpus,
    faults::Fault,
    meta, missing,
    rows::{Columns, unsigned},
    schema, seal,
    walk::{Checked, Folding, Log, OutOfPlace, Step, Walk},
};
use crate::{
    ledger::{policy::Policy, types::Seq},
    log::{Body, FederationId, Genesis, Head, NodeId, books::AuthorBook, identity::check_work},
};

/// Entries between two reports of progress.
const PROGRESS_EVERY: u64 = 1_024;

/// Audits the store in that file. `progress` hears of every thousandth entry.
///
/// # Errors
/// Where the file can't be read or is no store; what is wrong inside it stands in the report.
pub fn audit(path: &Path, progress: &(dyn Fn(AuditProgress) + Sync)) -> Result<AuditReport, StoreError> {
    let told = |fault: Fault| fault.about(path);
    // A store that was closed has no write-ahead log, and to read it as one that has would make files beside it.
    let was_closed = !beside(path, "-wal").exists();
    let report = run(path, progress, if was_closed { open_closed } else { open_shared }).map_err(told)?;
    if was_closed && beside(path, "-wal").exists() {
        // A node was started meanwhile, and may have written what was being read.
        return run(path, progress, open_shared).map_err(told);
    }
    Ok(report)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn open_shared(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

/// Opens a file that nobody writes: without locks, and without files beside it.
fn open_closed(path: &Path) -> Result<Connection, Fault> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            // A string takes what is written to it.
            _ => write!(uri, "%{byte:02x}").unwrap_or_default(),
        }
    }
    uri.push_str("?immutable=1");
    Ok(Connection::open_with_flags(uri, flags)?)
}

fn run(
    path: &Path,
    progress: &(dyn Fn(AuditProgress) + Sync),
    open: fn(&Path) -> Result<Connection, Fault>,
) -> Result<AuditReport, Fault> {
    std::fs::metadata(path)
        .map_err(|source| Fault::Refused(StoreError::Open { path: path.to_owned(), source }))?;
    let connection = open(path)?;
    schema::configure_reader(&connection)?;
    let moment = connection.unchecked_transaction()?;
    let version = schema::version(path, &moment)?;
    if version != schema::VERSION {
        let why =
            format!("it has the older schema {version}; a node that starts on it brings it to the newest");
        let source = io::Error::new(io::ErrorKind::Unsupported, why);
        return Err(Fault::Refused(StoreError::Open { path: path.to_owned(), source }));
    }
    let mut report = AuditReport::default();
    let structure = check::faults(&moment, None).unwrap_or_else(|fault| vec![format!("{fault:?}")]);
    structure.into_iter().for_each(|fault| report.add(None, None, fault));
    match owner(&moment) {
        Ok((federation, own, policy)) => {
            let audit = Audit { connection: &moment, federation, own, policy, progress, report };
            Ok(audit.run())
        }
        Err(fault) if fault.is_damage() => {
            report.add(None, None, "the store does not say whose it is and by which rules");
            Ok(report)
        }
        Err(fault) => Err(fault),
    }
}

fn owner(connection: &Connection) -> Result<(FederationId, NodeId, Policy), Fault> {
    let lacks = || Fault::Damaged("it does not say whose it is".to_owned());
    let federation = meta::get(connection, meta::FEDERATION)?.ok_or_else(lacks)?;
    let own = meta::get(connection, meta::NODE)?.ok_or_else(lacks)?;
    let policy: Vec<u8> = meta::get(connection, meta::POLICY)?.ok_or_else(lacks)?;
    let policy = Policy::from_bytes(&policy).map_err(|error| Fault::Damaged(error.to_string()))?;
    Ok((FederationId(federation), NodeId::from_stored(own), policy))
}

struct Audit<'a> {
    connection: &'a Connection,
    federation: FederationId,
    own: NodeId,
    policy: Policy,
    progress: &'a (dyn Fn(AuditProgress) + Sync),
    report: AuditReport,
}

impl Audit<'_> {
    fn run(mut self) -> AuditReport {
        let total = self.count("SELECT count(*) FROM entries");
        self.report.missing = self.count("SELECT count(*) FROM missing");
        self.part("the authors", |audit| {
            for number in books::numbers(audit.connection)? {
                audit.author(number, total)?;
            }
            Ok(())
        });
        self.part("what the store says of itself", |audit| {
            schema::is_as_made(audit.connection)?;
            books::check_meta(audit.connection)
        });
        self.part("what is missing", |audit| missing::spans(audit.connection).map(drop));
        self.part("contents without an entry", |audit| {
            let strays = audit.count("SELECT count(*) FROM pragma_foreign_key_check");
            if strays > 0 {
                audit.report.add(None, None, format!("{strays} rows belong to no entry or author"));
            }
            Ok(())
        });
        self.part("the words of the contents", |audit| {
            let (accepted, indexed) = corpus::searchable(audit.connection)?;
            if accepted != indexed {
                let what =
                    format!("{indexed} contents can be searched, and {accepted} accepted ones are kept");
                audit.report.add(None, None, what);
            }
            Ok(())
        });
        self.part("the peers", |audit| {
            audit.rows("peers", books::PEERS, |columns| books::peer(columns).map(drop))
        });
        self.part("the submissions", |audit| {
            audit.rows("submissions", books::SUBMISSIONS, |columns| books::submission(columns).map(drop))
        });
        self.report
    }

    /// Looks at a part; where that can't be read to its end, this is a mismatch, and the next part's turn.
    fn part(&mut self, name: &str, look: impl FnOnce(&mut Self) -> Result<(), Fault>) {
        if let Err(fault) = look(self) {
            self.report.add(None, None, format!("{name}: {fault}"));
        }
    }

    fn count(&self, sql: &str) -> u64 {
        self.connection.query_row(sql, [], |row| row.get(0)).map(unsigned).unwrap_or_default()
    }

    /// Reads every row of a table as the node does at its start.
    fn rows(
        &mut self,
        table: &str,
        (seal, columns): (&str, &str),
        read: impl Fn(&mut Columns<'_, '_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let sql = format!("SELECT {}, {columns} FROM {table}", seal::whole(table, seal));
        let mut select = self.connection.prepare(&sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(fault) = read(&mut Columns::of(row)) {
                self.report.add(None, None, format!("{table}: {fault}"));
            }
        }
        Ok(())
    }

    fn author(&mut self, number: i64, entries_total: u64) -> Result<(), Fault> {
        self.report.authors = self.report.authors.saturating_add(1);
        let (id, book) = match books::author(self.connection, number, &self.policy) {
            Ok(Some((id, book))) => (id, book),
            Ok(None) => {
                self.report.add(None, None, format!("log {number} has no account"));
                return Ok(());
            }
            Err(fault) if fault.is_damage() => {
                self.report.add(None, None, format!("account {number}: {fault}"));
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        let listed = missing::entries(self.connection, number)?;
        let log = Log { federation: self.federation, number, id, end: Some(books::end(&book)) };
        let folding = Some(Folding::new(&self.policy));
        let mut along = Along { federation: self.federation, id, listed, folding, genesis: None };
        let mut walk = Walk::proving(self.connection, log, Seq::GENESIS);
        loop {
            match walk.step() {
                Ok(Some(step)) => along.step(&step, &self.policy, &mut self.report),
                Ok(None) => break,
                Err(fault) => {
                    self.report.add(Some(id), None, format!("its log can't be read to its end: {fault}"));
                    return Ok(());
                }
            }
            let entries_done = self.report.entries;
            if entries_done.is_multiple_of(PROGRESS_EVERY) {
                (self.progress)(AuditProgress { entries_done, entries_total });
            }
        }
        let is_convicted = convictions::all(self.connection).unwrap_or_default().contains_key(&id);
        along.end(&book, (self.own, is_convicted), &mut self.report);
        let beyond =
            format!("SELECT count(*) FROM entries WHERE author = {number} AND seq > {}", book.seq().0);
        if self.count(&beyond) > 0 {
            self.report.add(Some(id), None, "its log goes on after the end that its account says");
        }
        Ok(())
    }
}

/// What is known of a log along the walk.
struct Along<'p> {
    federation: FederationId,
    id: NodeId,
    /// Entries that are known to be missing.
    listed: BTreeSet<Seq>,
    /// None after the first entry that is not what was written: what comes after it can't be folded.
    folding: Option<Folding<'p>>,
    genesis: Option<Genesis>,
}

impl Along<'_> {
    fn step(&mut self, step: &Step, policy: &Policy, report: &mut AuditReport) {
        let seq = step.seq();
        let is_listed = self.listed.contains(&seq);
        let mut wrong = vec![];
        match step {
            Step::Gap(_) => wrong.push("the entry is gone".to_owned()),
            Step::Row { checked, link } => {
                report.entries = report.entries.saturating_add(1);
                row(checked, report, &mut wrong);
                if let (Some(entry), Some(link)) = (&checked.entry, link)
                    && checked.hash_fits
                    && entry.hash() != *link
                {
                    wrong.push("what comes after it names another hash".to_owned());
                }
                self.fold(step, checked, policy, &mut wrong);
            }
        }
        if step.sound().is_none() {
            self.folding = None;
        }
        if !is_listed {
            wrong.into_iter().for_each(|what| report.add(Some(self.id), Some(seq), what));
        }
    }

    fn fold(&mut self, step: &Step, checked: &Checked, policy: &Policy, wrong: &mut Vec<String>) {
        let Some((entry, folding)) = step.sound().zip(self.folding.as_mut()) else { return };
        if let Body::Genesis(genesis) = &entry.header().body {
            self.genesis = Some(genesis.clone());
            let work = check_work(&self.federation, &self.id, genesis.nonce, policy.pow_bits);
            wrong.extend(work.err().map(|fault| fault.to_string()));
        }
        match folding.follow(entry) {
            Ok(derived) if derived == checked.row.derived => {}
            Ok(_) => wrong.push("what stands beside it is not what the rules give".to_owned()),
            Err(why) => {
                wrong.push(match why {
                    OutOfPlace::Kind => "a log begins with its one genesis entry".to_owned(),
                    OutOfPlace::Inadmissible(why) => format!("the rules would not have taken it: {why}"),
                });
                self.folding = None;
            }
        }
    }

    fn end(self, book: &AuthorBook, (own, is_convicted): (NodeId, bool), report: &mut AuditReport) {
        let mut wrong = |what: &str| report.add(Some(self.id), None, what);
        match book.signature {
            Some(signature) => {
                let head = Head { author: self.id, seq: book.seq(), hash: book.hash, signature };
                if head.verify(&self.federation).is_err() {
                    wrong("the signature beside its account is not its own");
                }
            }
            None if self.id == own => {}
            // What is left of a convicted author's log is covered by what convicts it.
            None if is_convicted => {}
            None => wrong("no signature covers the end of its log"),
        }
        let Some(account) = self.folding.and_then(|folding| folding.account) else { return };
        if account != book.account {
            wrong("its account is not what its log comes to");
        }
        let said = self.genesis.map(|genesis| (genesis.name, genesis.hardware, genesis.arch));
        if said != Some((book.name.clone(), book.hardware, book.arch.clone())) {
            wrong("its name, hardware or architecture is not what its first entry says");
        }
    }
}

/// What a row says that is not so, its neighbours not asked.
fn row(checked: &Checked, report: &mut AuditReport, wrong: &mut Vec<String>) {
    if checked.entry.is_none() {
        wrong.push("its header is none of this author at this place".to_owned());
    } else if !checked.hash_fits {
        wrong.push("its header has another hash than the one beside it".to_owned());
    }
    if !checked.row.whole {
        wrong.push("its row does not fit its seal".to_owned());
    }
    if checked.has_content() {
        report.contents = report.contents.saturating_add(1);
    } else if checked.is_thought() {
        report.contents_absent = report.contents_absent.saturating_add(1);
    }
    if let Some(proofs) = &checked.proofs {
        if proofs.is_signed {
            report.signatures = report.signatures.saturating_add(1);
        }
        wrong.extend(proofs.faults.iter().cloned());
    }
}
