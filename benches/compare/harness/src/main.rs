//! Ours beside others: same messages, same machine, runs that take turns (A B C A B C), medians with their spread, goals as ratios.
//! Nothing leaves loopback.

mod building;
mod contestants;
mod goals;
mod measures;
mod plot;
mod processes;
mod results;
mod sync;
mod table;

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context;
use clap::Parser;

use crate::{
    contestants::{Contestant, named},
    measures::{Measure, Size, Values, measures},
    processes::Place,
    results::Results,
};

/// Runs between which the median lies.
const RUNS: usize = 5;

/// Compares cogmesh with other stacks, side by side on this machine.
#[derive(Parser)]
struct Args {
    /// One run of a second each, to see whether it works; the figures mean little.
    #[arg(long)]
    quick: bool,
    /// How often everything is run.
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Only these contestants.
    #[arg(long, value_delimiter = ',', value_name = "CONTESTANTS")]
    only: Vec<String>,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',', value_name = "SCENARIOS")]
    scenario: Vec<String>,
    /// Writes table and plots into that file, between marks, and the plots beside it. A whole run writes docs/performance.md.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Writes every value of every run into that file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Runs what was built before.
    #[arg(long)]
    no_build: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all goals that were measured are held.
fn run(args: &Args) -> anyhow::Result<bool> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).context("this program lies in no target directory")?;
    // On the same disk, and not in memory as /tmp may be.
    let scratch = tempfile::tempdir_in(target)?;
    let place = Place { target: target.to_owned(), scratch: scratch.path().to_owned() };
    let wanted = wanted(args)?;
    let left_out = if args.no_build { BTreeSet::new() } else { build(&place, &wanted) };
    let wanted: Vec<Wanted> = wanted
        .into_iter()
        .map(|(measure, mut contestants)| {
            contestants.retain(|contestant| !left_out.contains(contestant.id));
            (measure, contestants)
        })
        .collect();
    let runs = args.runs.unwrap_or(if args.quick { 1 } else { RUNS });
    let results = measure(&place, &wanted, runs)?;
    let outcomes = goals::outcomes(&results);
    let mut text = about_machine(runs, args.quick)?;
    text.push_str("\n\n");
    text.push_str(&table::table(&results));
    let sync = results.spread("sync", "disk", "p50");
    let _infallible = write!(
        text,
        "\n{}{}\n",
        table::legend(),
        sync.map_or_else(String::new, |sync| format!(
            " One sync of this disk in the same minutes: {:.0} µs ({:.0}–{:.0}).",
            sync.median, sync.min, sync.max
        ))
    );
    if !left_out.is_empty() {
        let names: Vec<&str> = left_out.into_iter().collect();
        let _infallible =
            write!(text, "\n**Left out**, because they could not be built: {}.\n", names.join(", "));
    }
    let failures = results.failures();
    if !failures.is_empty() {
        let _infallible = write!(text, "\n**Did not come through**: {}.\n", failures.join(", "));
    }
    let _infallible = write!(text, "\n{}", table::goals(&outcomes));
    println!("\n{text}");
    if let Some(file) = &args.json {
        fs::write(file, results.to_json().to_string())?;
    }
    let is_whole = !args.quick && args.only.is_empty() && args.scenario.is_empty();
    let whole = || Path::new(building::WORKSPACE).join("../../docs/performance.md");
    if let Some(document) = args.markdown.clone().or_else(|| is_whole.then(whole)) {
        write_document(&document, text, &results)?;
    }
    Ok(outcomes.iter().all(|outcome| outcome.is_held() != Some(false)))
}

type Wanted = (Measure, Vec<&'static Contestant>);

fn wanted(args: &Args) -> anyhow::Result<Vec<Wanted>> {
    let size = if args.quick { Size::Quick } else { Size::Full };
    for id in &args.only {
        named(id).with_context(|| format!("`{id}` is no contestant"))?;
    }
    let all = measures(size);
    for id in &args.scenario {
        all.iter().find(|measure| measure.id == id).with_context(|| format!("`{id}` is no scenario"))?;
    }
    let is_wanted = |list: &[String], id: &str| list.is_empty() || list.iter().any(|wanted| wanted == id);
    let measures = all.into_iter().filter(|measure| is_wanted(&args.scenario, measure.id));
    Ok(measures
        .map(|measure| {
            let ids = measure.contestants.iter().filter(|id| is_wanted(&args.only, id));
            let contestants = ids.filter_map(|id| named(id)).collect();
            (measure, contestants)
        })
        .collect())
}

/// Builds everybody who is wanted; who could not be built.
fn build(place: &Place, wanted: &[Wanted]) -> BTreeSet<&'static str> {
    let mut programs = BTreeSet::new();
    let mut broken = BTreeSet::new();
    let mut left_out = BTreeSet::new();
    for contestant in wanted.iter().flat_map(|(_, contestants)| contestants) {
        if programs.insert(contestant.package) {
            eprintln!("building {} (the first time takes minutes)", contestant.package);
            if !building::build(&place.target, contestant) {
                broken.insert(contestant.package);
                eprintln!(
                    "\n!!! {} can't be built and is LEFT OUT (benches/compare/run fetches what it needs)\n",
                    contestant.package
                );
            }
        }
        if broken.contains(contestant.package) {
            left_out.insert(contestant.id);
        }
    }
    left_out
}

/// Each scenario so often, everybody once in each round.
fn measure(place: &Place, wanted: &[Wanted], runs: usize) -> anyhow::Result<Results> {
    let mut results = Results::default();
    let rounds = |measure: &Measure| runs.min(measure.runs_max);
    let all: usize = wanted.iter().map(|(measure, contestants)| rounds(measure) * contestants.len()).sum();
    let (mut done, begun) = (0, Instant::now());
    let mut failed = BTreeSet::new();
    for (measure, contestants) in wanted {
        for round in 0..rounds(measure) {
            if measure.id == "oneway" {
                results.add("sync", "disk", Some(sync::measure(&place.scratch)?));
            }
            for contestant in contestants {
                let head = {
                    let seconds = begun.elapsed().as_secs();
                    let left = if done == 0 { 0 } else { seconds * (all - done) as u64 / done as u64 };
                    let ratio = format!(
                        "{}/{all}, {}:{:02} (about {}:{:02} more)",
                        done + 1,
                        seconds / 60,
                        seconds % 60,
                        left / 60,
                        left % 60
                    );
                    format!("{ratio} {}, round {}: {}", measure.id, round + 1, contestant.name)
                };
                done += 1;
                // One that failed twice of a scenario fails a third time, and takes a minute each time.
                if failed.contains(&(measure.id, contestant.id, 2)) {
                    eprintln!("{head}: skipped");
                    results.add(measure.id, contestant.id, None);
                    continue;
                }
                let run = processes::run(place, measure, contestant);
                match &run {
                    Ok(values) => eprintln!("{head}: {}", told(measure, values)),
                    Err(error) => {
                        let times = if failed.contains(&(measure.id, contestant.id, 1)) { 2 } else { 1 };
                        failed.insert((measure.id, contestant.id, times));
                        eprintln!("{head}: FAILED: {error:#}");
                    }
                }
                results.add(measure.id, contestant.id, run.ok());
            }
        }
    }
    Ok(results)
}

fn told(measure: &Measure, values: &Values) -> String {
    let one = |(metric, unit): &(&str, &str)| {
        let value = values.get(*metric)?;
        let digits = if *value < 100.0 { 2 } else { 0 };
        Some(format!("{value:.digits$} {unit}"))
    };
    let all: Vec<String> = measure.shown.iter().filter_map(one).collect();
    all.join(", ")
}

fn about_machine(runs: usize, quick: bool) -> anyhow::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("?");
    let quick = if quick { " **A quick run: its figures mean little.**" } else { "" };
    Ok(format!(
        "{count} processors ({model}), Linux {}, {runs} runs that took turns; load at the end {load}.{quick}",
        kernel.trim()
    ))
}

fn write_document(document: &Path, mut text: String, results: &Results) -> anyhow::Result<()> {
    let dir = document.parent().unwrap_or(Path::new("")).join("performance");
    fs::create_dir_all(&dir)?;
    for plot in plot::PLOTS {
        if let Some(svg) = plot::svg(results, plot) {
            fs::write(dir.join(plot.file), svg)?;
            let _infallible = write!(text, "\n![{}](performance/{})\n", plot.title, plot.file);
        }
    }
    table::write_between(document, &text)?;
    eprintln!("written: {}", document.display());
    Ok(())
}
