//! Watch: looks at the interfaces when the system says that something changed and once a second, and keeps one mDNS listener
//! for each that leads to a LAN.
//!
//! A look takes tens of microseconds and works alike on every system, with or without mDNS and netlink. What netlink adds is
//! that a change is seen at once, and that of a link which was gone for a moment. The ticks show that the machine slept.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch as cell},
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Found, Interfaces, Order, Shared,
    interfaces::{Net, Nic, Snapshot},
    mdns,
    netlink::Bell,
    sleep::{Clocks, slept},
    trouble::Trouble,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most interfaces that are listened on: each costs a thread and its daemon's memory.
pub(in crate::net) const LISTENERS_MAX: usize = 16;
/// Orders that wait for one listener; it takes them at once.
const ORDERS_MAX: usize = 64;

pub(super) async fn run(
    shared: Arc<Shared>,
    mut orders: mpsc::Receiver<Order>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    // On loopback nothing is watched.
    let mut bell = match shared.config.interfaces {
        Interfaces::Loopback => Bell::silent(),
        Interfaces::All | Interfaces::Named(_) => Bell::hung(),
    };
    let mut watch = Watch::new(shared, tasks);
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            order = orders.recv() => match order {
                Some(order) => watch.pass_on(order),
                None => return,
            },
            _ = ticks.tick() => watch.look(&BTreeSet::new()),
            shaken = bell.rung() => watch.look(&shaken),
        }
    }
    // Returning drops the listeners' orders; each says goodbye and ends.
}

struct Watch {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    listeners: BTreeMap<Nic, Listener>,
    last: Option<Snapshot>,
    /// The clocks at the last look.
    clocks: Clocks,
    /// A change that found the channel full.
    untold: bool,
    /// What was last told of this machine's addresses.
    told: Option<BTreeSet<IpAddr>>,
}

struct Listener {
    orders: mpsc::Sender<Order>,
    nets: cell::Sender<BTreeSet<Net>>,
}

impl Watch {
    fn new(shared: Arc<Shared>, tasks: TaskTracker) -> Self {
        let clocks = Clocks::now();
        Self { shared, tasks, listeners: BTreeMap::new(), last: None, clocks, untold: false, told: None }
    }

    /// Looks at the interfaces, among which links with these indices were gone or lost an address, if only for a moment.
    fn look(&mut self, shaken: &BTreeSet<u32>) {
        let clocks = Clocks::now();
        let woke = slept(self.clocks, clocks, LOOK_EVERY);
        self.clocks = clocks;
        self.untold |= woke;
        let snapshot = match self.shared.config.interfaces.look() {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let sentence = format!("the system does not tell its network interfaces: {error}");
                return self.shared.trouble(Trouble::NoInterface, "", sentence);
            }
        };
        let changed = self.last.as_ref().is_some_and(|last| {
            last.watched != snapshot.watched
                || last.watched.iter().any(|(nic, _)| shaken.contains(&nic.index))
        });
        if self.shared.config.mdns {
            self.listen_on(&snapshot);
            self.complain(&snapshot);
        }
        if woke || changed {
            tracing::debug!(woke, changed, "the network changed");
            self.untold = true;
            self.pass_on(Order::BrowseAgain);
        }
        if self.untold {
            self.untold = self.shared.found.try_send(Found::NetworkChanged).is_err();
        }
        self.tell_addresses(&snapshot);
        self.last = Some(snapshot);
    }

    fn tell_addresses(&mut self, snapshot: &Snapshot) {
        if self.told.as_ref() == Some(&snapshot.reachable) {
            return;
        }
        let found = Found::Addresses(snapshot.reachable.clone());
        // Where the channel is full, the next look tries again.
        if self.shared.found.try_send(found).is_ok() {
            self.told = Some(snapshot.reachable.clone());
        }
    }

    fn listen_on(&mut self, snapshot: &Snapshot) {
        self.listeners
            .retain(|nic, listener| snapshot.announce.contains_key(nic) && !listener.orders.is_closed());
        for (nic, nets) in &snapshot.announce {
            if let Some(listener) = self.listeners.get(nic) {
                listener.nets.send_if_modified(|known| {
                    let changed = known != nets;
                    known.clone_from(nets);
                    changed
                });
            } else if self.listeners.len() < LISTENERS_MAX {
                let listener = self.listen(nic, nets);
                self.listeners.insert(nic.clone(), listener);
            }
        }
    }

    fn listen(&self, nic: &Nic, nets: &BTreeSet<Net>) -> Listener {
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let (nets, known) = cell::channel(nets.clone());
        let ear = mdns::Ear::new(Arc::clone(&self.shared), nic.clone(), known);
        self.tasks.spawn(ear.run(inbox));
        Listener { orders, nets }
    }

    /// Tells people why nothing, or not all that they named, is announced.
    fn complain(&self, snapshot: &Snapshot) {
        if snapshot.announce.len() > LISTENERS_MAX {
            let sentence = format!(
                "mDNS uses the first {LISTENERS_MAX} network interfaces only; name those that lead to peers"
            );
            self.shared.trouble(Trouble::NotUsable, "", sentence);
        }
        let Interfaces::Named(names) = &self.shared.config.interfaces else {
            return self.complain_of_none(snapshot);
        };
        for name in names {
            if snapshot.announce.keys().any(|nic| nic.name == *name) {
                self.shared.well(Trouble::NotUsable, name);
                continue;
            }
            let why = snapshot.left_out.get(name).copied().unwrap_or("absent or without an address");
            let sentence = format!("nothing is announced on {}: it is {why}", name.escape_debug());
            self.shared.trouble(Trouble::NotUsable, name, sentence);
        }
    }

    fn complain_of_none(&self, snapshot: &Snapshot) {
        if snapshot.announce.is_empty() {
            let sentence =
                format!("no network interface to announce on{}; name a peer with `--peer`", why(snapshot));
            self.shared.trouble(Trouble::NoInterface, "", sentence);
        } else {
            self.shared.well(Trouble::NoInterface, "");
        }
    }

    fn pass_on(&self, order: Order) {
        for listener in self.listeners.values() {
            if let Err(error) = listener.orders.try_send(order) {
                tracing::debug!(%error, "order to an mDNS listener dropped");
            }
        }
    }
}

fn why(snapshot: &Snapshot) -> String {
    let reasons: Vec<String> = snapshot
        .left_out
        .iter()
        .take(8)
        .map(|(name, why)| format!("{} is {why}", name.escape_debug()))
        .collect();
    if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) }
}
