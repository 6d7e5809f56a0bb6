//! mDNS on one interface: announces this node and hears others. The only file that knows the mDNS library.
//!
//! An [`Ear`] lives as long as its interface; its [`Session`] with one daemon may be replaced under it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use mdns_sd::{
    DaemonEvent, Error, IfKind, IfPredicate, Metrics, Receiver, ResolvedService, ScopedIp, ServiceDaemon,
    ServiceEvent, ServiceInfo,
};
use tokio::{
    sync::{mpsc, watch as cell},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Found, Order, Shared,
    heard::{Heard, Search, VERIFY, share},
    interfaces::{Net, Nic},
    jitter,
    preflight::preflight,
    sighting::{self, Ignored, Record, VERSION},
    trouble::{CALM_MIN, End, Trouble},
};

const SERVICE: &str = "_cogmesh._udp.local.";
/// How often the daemon's size is asked for. At 16,000 hostile packets a second it grows by some 14 MB between two looks.
const GUARD_EVERY: Duration = Duration::from_millis(200);
/// A daemon with more records than that is flooded: a LAN of 1,000 nodes has about 4,000.
const CACHED_MAX: i64 = 5_000;
/// Each record sets several timers, and those of a repeated record are never freed.
const TIMERS_MAX: i64 = 20_000;
/// A daemon that does not answer for this long is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
/// With [`GOODBYE_LIFE`] below 10 s: discovery is back so soon after a flood.
const BACK_OFF_MAX: Duration = Duration::from_secs(8);
/// Announcing takes milliseconds. What was not announced after this time will not be.
const ANNOUNCED_MAX: Duration = Duration::from_secs(3);
/// The library repeats a goodbye after 120 ms, where it is still there.
const GOODBYE: Duration = Duration::from_millis(150);
/// A daemon that ends says goodbye, and others keep its records for one second more. What is announced again within
/// that second merely refreshes them there: the library tells nobody, so whoever heard of us by the goodbye never would.
const GOODBYE_LIFE: Duration = Duration::from_millis(1_100);
/// What one step of closing may take; three of them stay below a second.
const CLOSE_STEP_MAX: Duration = Duration::from_millis(300);

/// Hears and announces on one interface.
pub(super) struct Ear {
    shared: Arc<Shared>,
    nic: Nic,
    nets: cell::Receiver<BTreeSet<Net>>,
    heard: Heard,
}

impl Ear {
    pub(super) fn new(shared: Arc<Shared>, nic: Nic, nets: cell::Receiver<BTreeSet<Net>>) -> Self {
        Self { shared, nic, nets, heard: Heard::default() }
    }

    /// Runs until nobody can give orders any more, then says goodbye.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut pause = BACK_OFF_MIN;
        loop {
            let opened = Instant::now();
            match self.open() {
                Ok(mut session) => {
                    let end = self.listen(&mut session, &mut orders).await;
                    tracing::debug!(interface = self.nic.name, ?end, "mDNS session ended");
                    if end == End::Stopped {
                        return session.say_goodbye().await;
                    }
                    self.shared.count(|counts| counts.recycled += 1);
                    end.tell(&self.shared, &self.nic.name, opened.elapsed());
                    if stopped_during(&mut orders, session.end()).await {
                        return;
                    }
                }
                // The port is one for all interfaces.
                Err((Trouble::PortTaken, sentence)) => self.shared.trouble(Trouble::PortTaken, "", sentence),
                Err((kind, sentence)) => self.shared.trouble(kind, &self.nic.name, sentence),
            }
            if opened.elapsed() >= CALM_MIN {
                pause = BACK_OFF_MIN;
            }
            if stopped_during(&mut orders, sleep(GOODBYE_LIFE + share(pause, jitter()))).await {
                return;
            }
            pause = (pause * 2).min(BACK_OFF_MAX);
        }
    }

    fn open(&self) -> Result<Session, (Trouble, String)> {
        let nets = self.nets.borrow().clone();
        preflight(&self.nic, &nets).map_err(|obstacle| (obstacle.kind, obstacle.sentence()))?;
        self.shared.well(Trouble::PortTaken, "");
        self.shared.well(Trouble::NoGroup, &self.nic.name);
        Session::open(&self.shared, &self.nic)
            .map_err(|e| (Trouble::Daemon, format!("mDNS can't start ({e}); it is tried again")))
    }

    async fn listen(&mut self, session: &mut Session, orders: &mut mpsc::Receiver<Order>) -> End {
        let shared = Arc::clone(&self.shared);
        let mut ticks = interval(GUARD_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ready = self.heard.ready(Instant::now());
            // First what empties the daemon's channel: it closes at 1,000 events.
            tokio::select! {
                biased;
                event = session.events.recv_async(), if !session.deaf => match event {
                    Ok(event) => self.heard_event(session, event),
                    Err(_) => session.deaf(),
                },
                order = orders.recv() => match order {
                    Some(order) => self.obey(session, order),
                    None => return End::Stopped,
                },
                _ = ticks.tick() => if let Some(end) = self.tick(session) {
                    return end;
                },
                answer = metrics(&session.asked), if session.asked.is_some() => match answer {
                    Some(metrics) if is_flooded(&metrics) => return End::Flooded,
                    Some(_) => session.asked = None,
                    None => return End::Dead,
                },
                event = session.monitor.recv_async(), if session.monitored => match event {
                    Ok(event) => self.monitored(session, event),
                    Err(_) => session.monitored = false,
                },
                permit = shared.found.reserve(), if ready => match permit {
                    Ok(permit) => if let Some(hint) = self.heard.next(Instant::now()) {
                        shared.count(|counts| counts.hints += 1);
                        permit.send(Found::Hint(hint));
                    },
                    Err(_) => return End::Stopped,
                },
            }
        }
    }

    fn heard_event(&mut self, session: &mut Session, event: ServiceEvent) {
        // A removal means that a record expired or was withdrawn. That is no dead peer: its connection says whether it lives.
        let ServiceEvent::ServiceResolved(service) = event else {
            return;
        };
        let read = sighting::read(&record(&service), &self.nets.borrow());
        match read {
            Ok((node, hint)) => {
                session.search.sighted(node);
                let key = (node, service.fullname.clone());
                if !self.heard.insert(key, hint, Instant::now()) {
                    self.shared.count(|counts| counts.dropped += 1);
                }
            }
            Err(Ignored::Version) => self.shared.count(|counts| counts.ignored_version += 1),
            Err(Ignored::Malformed) => self.shared.count(|counts| counts.ignored_malformed += 1),
            Err(Ignored::Unreachable) => self.shared.count(|counts| counts.ignored_unreachable += 1),
        }
    }

    fn obey(&self, session: &mut Session, order: Order) {
        let now = Instant::now();
        match order {
            Order::BrowseAgain => session.search.again(now),
            Order::Verify(node) => {
                session.verify(self.heard.names_of(node));
                session.search.lost(node, now, jitter());
            }
        }
    }

    fn monitored(&self, session: &mut Session, event: DaemonEvent) {
        match event {
            DaemonEvent::Announce(..) => session.announced = true,
            // The library asks on the new address itself, but only once, and a bridge may not forward yet.
            DaemonEvent::IpAdd(_) => {
                session.announced = true;
                session.search.again(Instant::now());
            }
            DaemonEvent::Error(error) => {
                let sentence = format!("mDNS on {}: {error}", self.nic.name.escape_debug());
                self.shared.trouble(Trouble::Daemon, &self.nic.name, sentence);
            }
            // A name can't change without probing. The enum is open for new variants.
            DaemonEvent::IpDel(_) | DaemonEvent::NameChange(_) | DaemonEvent::Respond(_) | _ => {}
        }
    }

    fn tick(&self, session: &mut Session) -> Option<End> {
        let now = Instant::now();
        if session.search.due(now, jitter()) {
            session.browse_at = Some(now);
        }
        if session.browse_at.is_some_and(|at| now >= at) {
            match session.browse() {
                Ok(()) => self.shared.count(|counts| counts.browsed_again += 1),
                Err(Error::Again) => {}
                Err(_) => return Some(End::Dead),
            }
        }
        if !session.announced && now >= session.opened + ANNOUNCED_MAX {
            session.announced = true;
            let sentence = format!(
                "mDNS announced nothing on {}; look at its addresses, or name a peer with `--peer`",
                self.nic.name.escape_debug()
            );
            self.shared.trouble(Trouble::NotAnnounced, &self.nic.name, sentence);
        }
        session.ask(now)
    }
}

/// One daemon, announcing and browsing.
struct Session {
    daemon: ServiceDaemon,
    fullname: String,
    events: Receiver<ServiceEvent>,
    monitor: Receiver<DaemonEvent>,
    /// A question for the daemon's size, and since when it waits for its answer.
    asked: Option<(Receiver<Metrics>, Instant)>,
    search: Search,
    opened: Instant,
    announced: bool,
    monitored: bool,
    /// The daemon closed our channel of events.
    deaf: bool,
    /// When to browse anew.
    browse_at: Option<Instant>,
}

impl Session {
    fn open(shared: &Shared, nic: &Nic) -> Result<Self, Error> {
        let info = announcement(shared)?;
        let daemon = ServiceDaemon::new()?;
        let only = nic.clone();
        daemon.disable_interface(IfKind::Predicate(IfPredicate::new(move |interface| {
            interface.name != only.name || interface.index != Some(only.index)
        })))?;
        daemon.set_ip_check_interval(1)?;
        let monitor = daemon.monitor()?;
        // Browsed before announced: who hears us and answers is not missed.
        let events = daemon.browse(SERVICE)?;
        let fullname = info.get_fullname().to_owned();
        daemon.register(info)?;
        let now = Instant::now();
        Ok(Self {
            daemon,
            fullname,
            events,
            monitor,
            asked: None,
            search: Search::new(now),
            opened: now,
            announced: false,
            monitored: true,
            deaf: false,
            browse_at: None,
        })
    }

    /// Starts browsing afresh: what the daemon remembers of our service is flushed, so that whoever is there is heard anew.
    fn browse(&mut self) -> Result<(), Error> {
        self.daemon.stop_browse(SERVICE)?;
        self.events = self.daemon.browse(SERVICE)?;
        self.search.done(Instant::now(), jitter());
        self.deaf = false;
        self.browse_at = None;
        Ok(())
    }

    /// The daemon dropped us, in a flood.
    fn deaf(&mut self) {
        self.deaf = true;
        self.browse_at = Some(Instant::now() + BACK_OFF_MIN + share(BACK_OFF_MIN, jitter()));
    }

    fn verify(&self, names: Vec<String>) {
        for name in names {
            if let Err(error) = self.daemon.verify(name, VERIFY) {
                tracing::debug!(%error, "a record is not verified");
            }
        }
    }

    /// Asks for the daemon's size, where no such question waits.
    fn ask(&mut self, now: Instant) -> Option<End> {
        match &self.asked {
            Some((_, since)) => return (now >= *since + ANSWER_MAX).then_some(End::Stuck),
            None => match self.daemon.get_metrics() {
                Ok(answer) => self.asked = Some((answer, now)),
                Err(Error::Again) => {}
                Err(_) => return Some(End::Dead),
            },
        }
        None
    }

    async fn say_goodbye(self) {
        if let Ok(done) = self.daemon.unregister(&self.fullname) {
            // Only when it answers has the goodbye been sent.
            if timeout(CLOSE_STEP_MAX, done.recv_async()).await.is_ok() {
                sleep(GOODBYE).await;
            }
        }
        if timeout(CLOSE_STEP_MAX, self.end()).await.is_err() {
            tracing::debug!("the mDNS daemon did not end in time");
        }
    }

    /// Waits until the daemon's thread is gone: two at a time would be a leak for a flood to use.
    async fn end(self) {
        loop {
            match self.daemon.shutdown() {
                Ok(done) => {
                    // An error is an answer too: the thread is gone.
                    drop(done.recv_async().await);
                    return;
                }
                Err(Error::Again) => sleep(GUARD_EVERY).await,
                Err(_) => return,
            }
        }
    }
}

fn announcement(shared: &Shared) -> Result<ServiceInfo, Error> {
    let config = &shared.config;
    let short = config.id.short();
    let federation = config.federation.prefix_hex();
    let txt = [("v", VERSION), ("id", &config.id.to_string()), ("fed", &federation)];
    // protocol.md, Discovery: each node has a host name of its own, or the goodbye of one withdraws another on its machine.
    let host = format!("{short}.local.");
    let instance = format!("{}-{short}", config.name);
    let mut info = ServiceInfo::new(SERVICE, &instance, &host, "", config.port, &txt[..])?.enable_addr_auto();
    info.set_requires_probe(false);
    Ok(info)
}

fn record(service: &ResolvedService) -> Record<'_> {
    Record {
        instance: service
            .fullname
            .strip_suffix(SERVICE)
            .and_then(|name| name.strip_suffix('.'))
            .unwrap_or_default(),
        port: service.port,
        version: service.get_property_val_str("v"),
        id: service.get_property_val_str("id"),
        federation: service.get_property_val_str("fed"),
        addresses: service
            .addresses
            .iter()
            .map(|address| match address {
                ScopedIp::V6(v6) => ((*v6.addr()).into(), v6.scope_id().index),
                // The enum is open for new variants.
                other @ (ScopedIp::V4(_) | _) => (other.to_ip_addr(), 0),
            })
            .collect(),
    }
}

async fn metrics(asked: &Option<(Receiver<Metrics>, Instant)>) -> Option<Metrics> {
    match asked {
        Some((answer, _)) => answer.recv_async().await.ok(),
        None => std::future::pending().await,
    }
}

fn is_flooded(metrics: &Metrics) -> bool {
    let cached: i64 =
        metrics.iter().filter(|(name, _)| name.starts_with("cached-")).map(|(_, count)| *count).sum();
    let timers = metrics.get("timer").copied().unwrap_or_default();
    cached > CACHED_MAX || timers > TIMERS_MAX
}

/// Does something; says whether nobody can give orders any more, and then does it no longer.
/// Orders are dropped meanwhile: a fresh session browses anyway.
async fn stopped_during(orders: &mut mpsc::Receiver<Order>, work: impl Future<Output = ()>) -> bool {
    let closed = async { while orders.recv().await.is_some() {} };
    tokio::select! {
        () = closed => true,
        () = work => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::{FederationId, NodeId},
        net::discovery::{DiscoveryConfig, Interfaces},
        protocol::input::Address,
    };

    #[test]
    fn others_read_what_a_node_announces() {
        let (id, name) = (NodeId::from_stored([7; 32]), "thor-2".parse().unwrap());
        let (federation, interfaces) = (FederationId([0xab; 32]), Interfaces::All);
        let config = DiscoveryConfig { id, name, federation, port: 8890, interfaces, mdns: true };
        let (shared, _) = Shared::new(config, mpsc::channel(1).0);
        let mut service = announcement(&shared).unwrap().as_resolved_service();
        service.addresses.insert(ScopedIp::from(std::net::IpAddr::from([10, 0, 0, 2])));
        let (node, hint) = sighting::read(&record(&service), &BTreeSet::new()).unwrap();
        assert_eq!((node, hint.name.as_deref()), (id, Some("thor-2")));
        assert_eq!(hint.federation.as_deref(), Some("abababababababab"));
        assert_eq!(hint.addresses, [Address::Socket("10.0.0.2:8890".parse().unwrap())]);
    }
}
