//! The harness's side of a contestant: orders come in on standard input, what is said goes out on standard output, a line each.

use std::io::{self, BufRead, Write};

use anyhow::{Context, bail};
use tokio::sync::mpsc;

use crate::Report;

/// What the harness says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Send something now and then, until others have said that they hear it.
    Warm,
    /// Begin.
    Go,
    /// So many messages were sent; report when they are here, or nothing more comes.
    Expect(u64),
    /// Report what is left, and end.
    End,
}

/// How a contestant talks with the harness.
#[derive(Debug)]
pub struct Child {
    orders: mpsc::UnboundedReceiver<Order>,
}

impl Child {
    /// Begins to listen.
    #[must_use]
    pub fn new() -> Self {
        let (sender, orders) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                let words: Vec<&str> = line.split(' ').collect();
                let order = match words[..] {
                    ["warm"] => Order::Warm,
                    ["go"] => Order::Go,
                    ["expect", count] => Order::Expect(count.parse().unwrap_or(0)),
                    _ => Order::End,
                };
                if sender.send(order).is_err() {
                    return;
                }
            }
        });
        Self { orders }
    }

    /// Others may connect here, or this one is connected.
    pub fn ready(&self, addresses: &[String]) {
        say(&format!("ready {}", addresses.join(" ")));
    }

    /// A message has come through.
    pub fn warm(&self) {
        say("warm");
    }

    /// So many messages were sent.
    pub fn sent(&self, count: u64) {
        say(&format!("sent {count}"));
    }

    /// What was measured.
    pub fn report(&self, report: &Report) {
        say(&format!("report {}", report.to_json()));
    }

    /// The next order; `End` where the harness is gone.
    ///
    /// # Cancel safety
    /// None is lost.
    pub async fn order(&mut self) -> Order {
        self.orders.recv().await.unwrap_or(Order::End)
    }

    /// Waits for an order that may not be another one.
    ///
    /// # Errors
    /// It is another one.
    ///
    /// # Cancel safety
    /// None is lost.
    pub async fn wait_for(&mut self, wanted: Order) -> anyhow::Result<()> {
        match self.order().await {
            order if order == wanted => Ok(()),
            order => bail!("{wanted:?} was to come, not {order:?}"),
        }
    }

    /// Waits to be told how many messages were sent.
    ///
    /// # Errors
    /// Another order comes.
    ///
    /// # Cancel safety
    /// None is lost.
    pub async fn expected(&mut self) -> anyhow::Result<u64> {
        let order = self.order().await;
        match order {
            Order::Expect(count) => Some(count),
            Order::Warm | Order::Go | Order::End => None,
        }
        .with_context(|| format!("a count was to come, not {order:?}"))
    }
}

impl Default for Child {
    fn default() -> Self {
        Self::new()
    }
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Where the harness is gone, so is whoever would read it.
    let _gone = writeln!(out, "{line}").and_then(|()| out.flush());
}
