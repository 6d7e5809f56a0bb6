//! The loop: inputs in, effects out. One task owns the core; nothing is awaited while it decides.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Duration, Instant, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Approved,
    clock::Clock,
    handle::{Submitted, Wish},
    lock::DataDirLock,
    membership::MembershipError,
    opening::Gate,
    record_addresses,
    scrub::Finding,
    serve::{Shelf, compared, prove, serve},
    throughput::Arenas,
};
use crate::{
    failing::fail_point,
    ledger::types::Seq,
    log::{
        NodeId, Revocation, Rules, Segment,
        books::{Record, Span},
        stored::Comparison,
    },
    monitor::Monitor,
    net::{
        Endpoint, Inbox, NetEvent,
        discovery::{Discovery, Found},
    },
    protocol::{
        Federation,
        event::Event,
        input::{Answer, DiskLow, Effect, Input, LinkId, SubmitFault, Ticket},
        refusal::{Refusal, RefusalCode},
    },
    store::{
        CorpusBounds, Store, StoreError, is_overfull,
        sign_mark::SignMark,
        writer::{Committed, Writer},
    },
};

/// Most inputs between two looks at the clock and the stop signal.
const INPUTS_PER_TURN_MAX: usize = 256;
/// Wants that were served and not told to the core yet: four for each of 64 peers. Whoever serves the next one waits.
const DONE_MAX: usize = 256;
/// How long a stopping node waits for what it has taken in to become durable and be sent.
const DRAIN_MAX: Duration = Duration::from_millis(700);

/// What ended a node that nobody had asked to stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RunError {
    /// A commit failed. What was answered before is stored; nothing later was answered. Start again: the store is
    /// checked then.
    #[error(
        "the store failed: {why}; nothing that was acknowledged is lost, start the node again once the disk is well"
    )]
    Store {
        /// Why.
        why: String,
    },
}

/// Everything that the loop owns.
pub(super) struct Loop {
    pub(super) federation: Federation,
    pub(super) clock: Arc<Clock>,
    pub(super) shelf: Shelf,
    pub(super) rules: Rules,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) discovery: Discovery,
    pub(super) store: Arc<dyn Store>,
    pub(super) corpus: CorpusBounds,
    pub(super) writer: Writer,
    pub(super) mark: Arc<Mutex<SignMark>>,
    /// Whether the mark says so already.
    pub(super) has_met: bool,
    pub(super) gate: Gate,
    pub(super) arenas: Arc<Arenas>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    pub(super) commits: watch::Sender<u64>,
    pub(super) stop: CancellationToken,
    pub(super) ended: watch::Sender<Option<Result<(), RunError>>>,
    pub(super) lock: DataDirLock,
}

/// Where inputs come from.
pub(super) struct Sources {
    pub(super) wishes: mpsc::Receiver<Wish>,
    pub(super) submissions: mpsc::Receiver<Submitted>,
    pub(super) net: Inbox,
    pub(super) found: mpsc::Receiver<Found>,
    pub(super) commits: mpsc::UnboundedReceiver<Result<Committed, StoreError>>,
    pub(super) stores: StoreNews,
}

/// What is found about disk and store while the node runs.
pub(super) struct StoreNews {
    pub(super) disk: mpsc::Receiver<Option<DiskLow>>,
    /// Changes when contents were let go.
    pub(super) pruned: watch::Receiver<()>,
    pub(super) damage: mpsc::Receiver<Finding>,
}

/// What a task did for the core: over that link, with that author's entries.
struct Done {
    link: LinkId,
    author: NodeId,
    what: Work,
}

enum Work {
    /// A want was served, but for the first damaged entry that was met.
    Served(Option<Seq>),
    /// Entries were compared.
    Compared(Comparison),
}

/// What the loop remembers between turns beside the core.
struct Turn {
    effects: Vec<Effect>,
    tickets: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: u64,
    /// What the writer had no room for: nothing else is taken in until it has.
    unsent: std::collections::VecDeque<Vec<Record>>,
    done: mpsc::Sender<Done>,
    /// What ends the node.
    failure: Option<StoreError>,
    /// Too little room, as the watch on the disk says.
    disk_low: Option<DiskLow>,
    /// Whether the writer waits for room.
    is_full: bool,
    tasks: TaskTracker,
}

impl Loop {
    /// Runs until it is asked to stop or the store fails. `first` are the effects of the core's making.
    pub(super) async fn run(mut self, mut sources: Sources, first: Vec<Effect>) {
        let (done, mut done_by) = mpsc::channel(DONE_MAX);
        let mut turn = Turn {
            effects: first,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            unsent: std::collections::VecDeque::new(),
            done,
            failure: None,
            disk_low: None,
            is_full: false,
            tasks: TaskTracker::new(),
        };
        self.carry_out(&mut turn);
        let mut net = Vec::with_capacity(INPUTS_PER_TURN_MAX);
        let result = loop {
            let wake = self.federation.wake_at().map_or_else(far, |at| self.clock.instant(at).into());
            // While the disk is behind, nothing is taken in but its own news: the queues fill, and back-pressure
            // reaches the senders.
            let open = turn.unsent.is_empty();
            // A backlog waits with its sender while the disk is behind with others' entries, so that live ones find room, and while
            // contents come faster than they go. On a full disk it is taken, because the core then lets go of it.
            let is_behind = self.writer.is_behind() || is_overfull(self.store.corpus(), self.corpus);
            let takes_more = open && (turn.is_full || !is_behind);
            // As long as there is room, and on a full disk, where each is told so.
            let takes_thoughts = open && (self.federation.has_room() || turn.is_full);
            if let Some(error) = turn.failure.take() {
                break Err(RunError::Store { why: describe(&error) });
            }
            // Not biased: whichever source is busy, the others and the timer get their turns.
            tokio::select! {
                commit = sources.commits.recv() => match commit {
                    Some(Ok(committed)) => self.committed(&mut turn, &committed),
                    Some(Err(StoreError::Full { .. })) => self.blocked(&mut turn),
                    Some(Err(error)) => break Err(RunError::Store { why: describe(&error) }),
                    None => break Err(RunError::Store { why: "its thread has ended".to_owned() }),
                },
                () = self.stop.cancelled() => break Ok(()),
                Some(done) = done_by.recv() => self.done(&mut turn, done),
                Some(low) = sources.stores.disk.recv() => {
                    turn.disk_low = low;
                    self.disk(&mut turn);
                }
                // What follows from it is looked at when the loop begins anew.
                Ok(()) = sources.stores.pruned.changed() => {}
                Some(finding) = sources.stores.damage.recv(), if open => self.damage(&mut turn, finding),
                count = sources.net.prompt.recv_many(&mut net, INPUTS_PER_TURN_MAX), if open => {
                    if count == 0 {
                        break Ok(());
                    }
                    for event in net.drain(..) {
                        self.net_event(&mut turn, event);
                    }
                }
                // One at a time: a full segment keeps the core busy for milliseconds, and what happens now gets its turn in between.
                Some(event) = sources.net.catch_up.recv(), if takes_more => self.net_event(&mut turn, event),
                Some(wish) = sources.wishes.recv(), if open => self.wish(&mut turn, wish),
                Some(submitted) = sources.submissions.recv(), if takes_thoughts => {
                    self.submitted(&mut turn, submitted, &mut sources.submissions);
                }
                Some(found) = sources.found.recv(), if open => self.found(&mut turn, found),
                () = sleep_until(wake), if open => self.turn(&mut turn, Input::Tick),
            }
        };
        self.end(turn, sources, result).await;
    }

    fn turn(&mut self, turn: &mut Turn, input: Input) {
        self.federation.handle(self.clock.now(), input, &mut turn.effects);
        self.carry_out(turn);
    }

    /// The disk is full; the writer tries again until there is room or the node ends.
    fn blocked(&mut self, turn: &mut Turn) {
        turn.is_full = true;
        self.disk(turn);
    }

    fn disk(&mut self, turn: &mut Turn) {
        let full = || DiskLow { free: 0, min: 1 << 20 };
        let low = turn.disk_low.or_else(|| turn.is_full.then(full));
        self.turn(turn, Input::Disk(low));
    }

    fn damage(&mut self, turn: &mut Turn, finding: Finding) {
        match finding {
            Finding::Damaged(author, seq) => self.turn(turn, Input::Damaged { author, seq }),
            Finding::Failed(what) => {
                let what = format!("the store can't be read through: {what}");
                self.tell(Event::StoreUnreadable { what });
            }
        }
    }

    fn done(&mut self, turn: &mut Turn, Done { link, author, what }: Done) {
        match what {
            Work::Served(damaged) => {
                self.turn(turn, Input::Served { link, author });
                if let Some(seq) = damaged {
                    self.turn(turn, Input::Damaged { author, seq });
                }
            }
            Work::Compared(comparison) => self.turn(turn, Input::Compared { link, author, comparison }),
        }
    }

    fn committed(&mut self, turn: &mut Turn, committed: &Committed) {
        if std::mem::take(&mut turn.is_full) {
            self.disk(turn);
        }
        self.commits.send_modify(|count| *count = count.wrapping_add(1));
        while let Some(records) = turn.unsent.pop_front() {
            if let Err(full) = self.writer.send(records) {
                turn.unsent.push_front(full.records);
                break;
            }
        }
        for (author, book) in &committed.cut {
            match book {
                Some(book) => self.endpoint.holds(*author, book.seq()),
                None => self.endpoint.holds_nothing(*author),
            }
            let book = book.clone().map(Box::new);
            self.turn(turn, Input::Cut { author: *author, book });
        }
        if let Some(through) = committed.own_through {
            fail_point("stored.told");
            self.turn(turn, Input::Stored { through });
        }
    }

    /// Takes a thought, and those that wait behind it as far as there is room: a burst is one turn, and not one each.
    fn submitted(&mut self, turn: &mut Turn, first: Submitted, more: &mut mpsc::Receiver<Submitted>) {
        self.submit(turn, first);
        // What is refused takes no room: without a bound, whoever goes on submitting would keep the loop from all else.
        for _ in 1..INPUTS_PER_TURN_MAX {
            if !turn.unsent.is_empty() || !self.federation.has_room() {
                return;
            }
            let Ok(submitted) = more.try_recv() else { return };
            self.submit(turn, submitted);
        }
    }

    fn submit(&mut self, turn: &mut Turn, (submission, answer): Submitted) {
        let ticket = turn.ticket(answer);
        self.turn(turn, Input::Submit { ticket, submission });
    }

    fn wish(&mut self, turn: &mut Turn, wish: Wish) {
        match wish {
            Wish::View(answer) => {
                // Who asked may have gone away meanwhile.
                let _gone = answer.send(self.federation.view(self.clock.now()));
            }
            Wish::Known(answer) => {
                let _gone = answer.send(self.federation.known());
            }
            Wish::Clear(author, answer) => {
                let ticket = turn.ticket(answer);
                self.turn(turn, Input::Clear { ticket, author });
            }
            Wish::Revoke(revocation, answer) => {
                self.turn(turn, Input::Revoke(revocation));
                let _gone = answer.send(());
            }
            Wish::Approve(node, answer) => {
                let _gone = answer.send(self.approve(turn, node));
            }
            Wish::DryRun(submission, answer) => {
                let ticket = turn.ticket(answer);
                self.turn(turn, Input::DryRun { ticket, submission });
            }
        }
    }

    fn found(&mut self, turn: &mut Turn, found: Found) {
        match found {
            Found::Hint(hint) => self.turn(turn, Input::Hint(hint)),
            Found::NetworkChanged => self.turn(turn, Input::NetworkChanged),
            Found::Addresses(ips) => {
                let addresses = record_addresses(&self.endpoint.local_addresses(), &ips);
                self.turn(turn, Input::Addresses(addresses));
            }
            Found::Trouble(what) => self.tell(Event::Trouble { what }),
        }
    }

    fn net_event(&mut self, turn: &mut Turn, event: NetEvent) {
        let input = match event {
            NetEvent::Connected { link, node, attempt, address, exporter } => {
                Input::Connected { link, node, attempt, address, exporter }
            }
            NetEvent::DialFailed { attempt, why } => Input::DialFailed { attempt, why },
            NetEvent::Control { link, frame } => Input::Control { link, frame },
            NetEvent::Balance { link, frame } => Input::Balance { link, frame },
            NetEvent::Heard { link, segment } => Input::Heard { link, segment },
            NetEvent::Known { link, author, last } => Input::Known { link, author, last },
            NetEvent::HeardWrong { link, fault } => Input::HeardWrong { link, fault },
            NetEvent::Proof { link, proof } => Input::Proof { link, proof },
            NetEvent::ProofWrong { link, fault } => Input::ProofWrong { link, fault },
            NetEvent::CaughtUp { link, author } => Input::CaughtUp { link, author },
            NetEvent::QueueFull { link, kind } => Input::QueueFull { link, kind },
            NetEvent::Disconnected { link, why } => Input::Disconnected { link, why },
            NetEvent::Dry { segment, answer, .. } => {
                // Whoever measures may have gone away. Nothing of this is an input: the core can't change by it.
                let _gone = answer.send(self.federation.weigh(&segment));
                return;
            }
            NetEvent::Arena(asked) => return Arc::clone(&self.arenas).lend(*asked),
            NetEvent::Violated { node, refusal, .. } => {
                return self.tell(Event::Refused { id: Some(node), refusal });
            }
            NetEvent::HandshakeFailed { address, fault, why } => {
                return self.tell(Event::HandshakeFailed { address, fault, why });
            }
        };
        self.turn(turn, input);
    }

    /// Does what the core decided, in order; one line a variant where that is possible.
    fn carry_out(&mut self, turn: &mut Turn) {
        let mut effects = std::mem::take(&mut turn.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Store(records) => self.store(turn, records),
                Effect::Revoked(revocations) => self.revoked(revocations),
                Effect::Answer { ticket, answer } => {
                    fail_point("published");
                    turn.answer(ticket, answer);
                    fail_point("answered");
                }
                Effect::Dial(dial) => self.endpoint.dial(dial),
                Effect::Control { link, frame } => self.endpoint.send_control(link, &frame),
                Effect::Balance { link, frame } => self.endpoint.send_balance(link, &frame),
                Effect::BalanceToAll { to, frame } => self.endpoint.tell(&to, &frame),
                Effect::Publish { to, segment } => {
                    fail_point("signed");
                    self.endpoint.publish(&to, &segment);
                }
                Effect::Serve { link, author, span } => self.serve(turn, link, author, span),
                Effect::Prove { link, author } => {
                    let (endpoint, store) = (Arc::clone(&self.endpoint), Arc::clone(&self.store));
                    turn.tasks.spawn(prove(endpoint, store, link, author));
                }
                Effect::Compare { link, segment } => self.compare(turn, link, segment.into_inner()),
                Effect::Admit { link } => self.admit(turn, link),
                Effect::Close { link, refusal } => self.endpoint.close(link, refusal),
                Effect::Verify { node } => self.discovery.verify(node),
                Effect::Event(event) => self.tell(event),
            }
        }
        // The buffer is used again: no allocation per input.
        turn.effects = effects;
    }

    fn store(&self, turn: &mut Turn, records: Vec<Record>) {
        for record in &records {
            if let Record::Entries { author, book, .. } = record {
                self.endpoint.holds(*author, book.seq());
            }
        }
        if !turn.unsent.is_empty() {
            return turn.unsent.push_back(records);
        }
        if let Err(full) = self.writer.send(records) {
            turn.unsent.push_back(full.records);
        }
    }

    /// Before a peer is told anything of our log, the mark says that somebody may hold it. Once in a directory's life that is written.
    fn admit(&mut self, turn: &mut Turn, link: LinkId) {
        if !self.has_met {
            let met = self.mark.lock().unwrap_or_else(PoisonError::into_inner).met_a_peer();
            if let Err(error) = met {
                turn.failure = Some(error);
                return;
            }
            self.has_met = true;
        }
        self.endpoint.admit(link);
    }

    /// Kept before it counts.
    fn approve(&mut self, turn: &mut Turn, node: NodeId) -> Result<Approved, MembershipError> {
        let Some(pins) = &mut self.gate.pins else { return Ok(Approved::NotPinned) };
        pins.add(node)?;
        self.turn(turn, Input::Approve(node));
        Ok(Approved::Done)
    }

    /// Kept before anybody is told or turned away: those effects come later.
    fn revoked(&mut self, revocations: Vec<Revocation>) {
        if let Some(desk) = &self.gate.desk {
            desk.forbid(revocations.iter().map(|revocation| revocation.node));
        }
        if let Err(error) = self.gate.revocations.add(revocations) {
            let what = format!("a revocation can't be written down: {}", describe(&error));
            self.tell(Event::Trouble { what });
        }
    }

    fn serve(&self, turn: &Turn, link: LinkId, author: NodeId, span: Span) {
        let done = turn.done.clone();
        let (endpoint, shelf) = (Arc::clone(&self.endpoint), self.shelf.clone());
        let commits = self.commits.subscribe();
        turn.tasks.spawn(async move {
            let damaged = serve(endpoint, shelf, (link, author), span, commits).await;
            // The loop may have ended meanwhile.
            let _gone = done.send(Done { link, author, what: Work::Served(damaged) }).await;
        });
    }

    fn compare(&self, turn: &Turn, link: LinkId, theirs: Segment) {
        let (done, store, rules) = (turn.done.clone(), Arc::clone(&self.store), self.rules);
        turn.tasks.spawn(async move {
            let author = theirs.author();
            // What can't be compared is no news.
            let comparison =
                compared(store, rules, theirs).await.unwrap_or(Comparison::Same { through: None });
            let _gone = done.send(Done { link, author, what: Work::Compared(comparison) }).await;
        });
    }

    fn tell(&self, event: Event) {
        self.monitor.note(&event, self.clock.now().wall.0);
        // Nobody may be listening.
        let _unheard = self.events.send(Arc::new(event));
    }

    /// Lets what was taken in become durable and leave, says goodbye, and closes.
    async fn end(mut self, mut turn: Turn, mut sources: Sources, result: Result<(), RunError>) {
        sources.wishes.close();
        sources.submissions.close();
        let deadline = Instant::now() + DRAIN_MAX;
        if result.is_ok() {
            while !turn.unsent.is_empty() || self.federation.waiting() > 0 {
                match timeout_at(deadline, sources.commits.recv()).await {
                    Ok(Some(Ok(committed))) => self.committed(&mut turn, &committed),
                    Ok(Some(Err(_)) | None) | Err(_) => break,
                }
            }
        } else {
            let waiting: Vec<Ticket> = turn.tickets.keys().copied().collect();
            for ticket in waiting {
                turn.answer(ticket, Answer::Refused(SubmitFault::StoreFailed));
            }
        }
        // The loop reads no events any more, so no task may wait for it to do so.
        drop(sources.net);
        tokio::join!(self.discovery.stop(), self.endpoint.shutdown(Refusal::plain(RefusalCode::Stopping)));
        turn.tasks.close();
        let ended = async { tokio::join!(turn.tasks.wait(), self.arenas.ended()) };
        let _late = timeout_at(deadline + DRAIN_MAX, ended).await;
        let writer = self.writer;
        let finished = tokio::task::spawn_blocking(move || writer.finish()).await;
        let result = match (result, finished) {
            (Ok(()), Ok(Err(error))) => Err(RunError::Store { why: describe(&error) }),
            (result, _) => result,
        };
        drop(self.lock);
        // Nobody may be waiting.
        let _unheard = self.ended.send(Some(result));
    }
}

impl Turn {
    fn ticket(&mut self, answer: oneshot::Sender<Answer>) -> Ticket {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, answer);
        ticket
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(submitter) = self.tickets.remove(&ticket) {
            // It may have gone away; its thought stays.
            let _gone = submitter.send(answer);
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

/// An error with all its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
