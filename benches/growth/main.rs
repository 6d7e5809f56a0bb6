//! Whether a thought costs the same in a large store as in a small one, and among many authors as among few.
//! `cargo bench --bench growth [-- --quick] [sizes] [authors] [--svg FILE]`. Real nodes in processes of their own, every commit synced, QUIC on
//! loopback. What the project promises: flat from 10 thousand to 1 million stored thoughts and from 3 to 50 authors.
//!
//! A *source* has a store that was filled through the library, as a node fills it that hears others. The nodes that are measured have fetched all of
//! it from there, entry by entry, as every node does. Three costs are measured: of a thought that is submitted to the node, of one that its
//! source publishes, and of one of any author that it catches up on. All in processor time of the node's process, for a batch at a
//! time; and what else the machine does is the same for a *control*, a node with 10,000 thoughts of 20 authors, which takes turns with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may fail where it likes"
)]

mod group;
mod plot;
#[path = "../support/mod.rs"]
mod support;

use std::{fs, process::ExitCode, time::Instant};

use group::{Bounds, Figures, Group, Way};
use support::{at_most, median, process, say, spread};

const SIZES: [u64; 5] = [10_000, 30_000, 100_000, 300_000, 1_000_000];
const SIZES_QUICK: [u64; 3] = [10_000, 20_000, 40_000];
const AUTHORS: [u8; 4] = [3, 10, 25, 50];
/// Of whom the sizes are measured with.
const AUTHORS_USUAL: u8 = 20;
/// At which the authors are measured.
const SIZE_USUAL: u64 = 30_000;
const SIZE_OF_CONTROL: u64 = 10_000;
const ROUNDS: usize = 3;
/// By how much a cost may differ from the control's and still be called the same: what neighbours on this machine do to medians.
const RATIO_MAX: f64 = 1.25;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let [role, words @ ..] = &words[..]
        && role == process::ROLE
    {
        runtime.block_on(process::run(words));
        return ExitCode::SUCCESS;
    }
    let is_quick = words.iter().any(|word| word == "--quick");
    let svg = words.iter().skip_while(|word| *word != "--svg").nth(1);
    let (sizes, authors) = ["sizes", "authors"].map(|name| words.iter().any(|word| word == name)).into();
    let begun = Instant::now();
    let mut held = true;
    let mut points = vec![];
    if sizes || !authors {
        let sizes = if is_quick { &SIZES_QUICK[..] } else { &SIZES };
        points.extend(runtime.block_on(by_size(sizes)));
    }
    if authors || !sizes {
        points.extend(runtime.block_on(by_authors()));
    }
    for point in &points {
        held &= point.is_flat();
    }
    if let Some(file) = svg {
        fs::write(file, plot::svg(&points)).unwrap();
    }
    say(&format!("{:.0} s in all", begun.elapsed().as_secs_f64()));
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What differs from point to point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Varied {
    Thoughts,
    Authors,
}

/// What was measured of one node beside its control.
struct Point {
    bounds: Bounds,
    authors: u8,
    thoughts: u64,
    varied: Varied,
    found: Figures,
    control: Figures,
}

impl Point {
    /// How its cost compares with the control's in the same round.
    fn ratios(&self, way: Way) -> Vec<f64> {
        let rounds = self.found.cpu_us(way).iter().zip(self.control.cpu_us(way));
        rounds.map(|(found, control)| found / control).collect()
    }

    fn is_flat(&self) -> bool {
        let what = format!("{} thoughts of {} authors, {}", self.thoughts, self.authors, self.bounds.name());
        let held = Way::ALL.map(|way| {
            let ratio = median(&self.ratios(way));
            at_most(&format!("{what}, {}: cost to the control's", way.name()), ratio, RATIO_MAX)
        });
        held.into_iter().all(|held| held)
    }

    fn tell(&self) {
        let costs = Way::ALL
            .map(|way| format!("{} | ×{}", spread(self.found.cpu_us(way), 0), spread(&self.ratios(way), 2)));
        let moved = Way::ALL.map(|way| {
            let (written, read) = self.found.moved(way);
            let (of_control, here) = (self.control.per_commit(way), self.found.per_commit(way));
            format!("{:.1}/{:.1} | {here:.0} ({of_control:.0})", written / 1024.0, read / 1024.0)
        });
        let found = &self.found;
        say(&format!(
            "| {} | {} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} |",
            self.thoughts,
            self.authors,
            self.bounds.name(),
            costs.join(" | "),
            moved.join(" | "),
            median(&found.open_ms),
            found.rss_mib,
            found.anon_mib,
            median(&found.newest_us) / 1e3,
            median(&found.search_us) / 1e3,
        ));
    }
}

fn head() {
    let costs = Way::ALL.map(|way| format!("{}, CPU µs | to control", way.name()));
    let moved = Way::ALL.map(|way| format!("{}, KiB written/read | a commit (control)", way.name()));
    say(&format!(
        "| thoughts | authors | contents | {} | {} | open ms | RSS MiB | its own MiB | newest 100 ms | search ms |",
        costs.join(" | "),
        moved.join(" | ")
    ));
    say(&format!("|{}", "---|".repeat(20)));
}

/// One federation that grows, and a control beside it at each size.
async fn by_size(sizes: &[u64]) -> Vec<Point> {
    let mut group = Group::new(AUTHORS_USUAL, &[Bounds::Usual, Bounds::All]).await;
    let mut points = vec![];
    head();
    for size in sizes {
        let begun = Instant::now();
        let way = group.grow(*size).await;
        let brought = beside_control(&mut group, Varied::Thoughts).await;
        for point in brought {
            point.tell();
            points.push(point);
        }
        say(&format!("(on the way there: {way}; {:.0} s in all)", begun.elapsed().as_secs_f64()));
    }
    group.stop().await;
    points
}

/// A federation for each number of authors.
async fn by_authors() -> Vec<Point> {
    let mut points = vec![];
    head();
    for authors in AUTHORS {
        let mut group = Group::new(authors, &[Bounds::Usual]).await;
        group.grow(SIZE_USUAL).await;
        for point in beside_control(&mut group, Varied::Authors).await {
            point.tell();
            points.push(point);
        }
        group.stop().await;
    }
    points
}

async fn beside_control(group: &mut Group, varied: Varied) -> Vec<Point> {
    let (authors, thoughts) = (group.authors, group.thoughts);
    // Of the same kinds: how many nodes the source sends to decides how its thoughts come in commits.
    let mut control = Group::new(AUTHORS_USUAL, &group.bounds()).await;
    control.grow(SIZE_OF_CONTROL).await;
    let mut found = group.warm().await;
    let mut of_control = control.warm().await;
    for _ in 0..ROUNDS {
        control.round(&mut of_control).await;
        group.round(&mut found).await;
    }
    group.rest(&mut found).await;
    control.stop().await;
    let beside = found.into_iter().zip(of_control).zip(group.bounds());
    beside
        .map(|((found, control), bounds)| Point { bounds, authors, thoughts, varied, found, control })
        .collect()
}
