//! `cogmesh explain`: why a thought got its verdict, layer by layer.

use std::process::ExitCode;

use super::{
    Out,
    args::ExplainArgs,
    client::{Client, query},
    exit::Exit,
    show::{atp, atp_change, escaped, ratio, short},
    time,
};
use crate::api::json::{Explanation, Layer};

/// Asks the running node to fold the author's log again up to that thought, and shows what each layer saw.
///
/// # Errors
/// Where no node runs, there is no such thought, or the output can't be written.
pub async fn run(args: ExplainArgs, client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let path = query("/v1/explain", &[("author", args.author), ("seq", args.seq.map(|seq| seq.to_string()))]);
    let explanation: Explanation = client.get(&path).await?;
    out.one(&explanation, text)?;
    Ok(Exit::Done.into())
}

fn text(explanation: &Explanation) -> String {
    let what = explanation.layer.as_deref().map(|layer| format!(" ({})", escaped(layer))).unwrap_or_default();
    let head = format!(
        "{} ({}) #{}  {}  {} / {}\n{}{what}: coherence {}, {}; after it {}, trust {}, weight {}\n",
        escaped(&explanation.name),
        short(&explanation.author),
        explanation.seq,
        time::shown(explanation.time_ms),
        escaped(&explanation.session),
        escaped(&explanation.mode),
        escaped(&explanation.verdict),
        ratio(explanation.coherence_ppm),
        atp_change(explanation.delta_uatp),
        atp(explanation.balance_uatp),
        ratio(explanation.trust_ppm),
        ratio(explanation.weight_ppm),
    );
    let layers: Vec<String> = explanation.layers.iter().map(layer).collect();
    format!("{head}\n{}", layers.join("\n"))
}

fn layer(layer: &Layer) -> String {
    let inputs = layer.inputs.iter().map(|(name, value)| format!("{} {value}", escaped(name)));
    let threshold = layer.threshold.map(|threshold| format!("threshold {threshold}"));
    let numbers: Vec<String> = inputs.chain(threshold).collect();
    let atp = (layer.delta_uatp != 0).then(|| atp_change(layer.delta_uatp));
    let trust = (layer.delta_trust_ppm != 0).then(|| format!("trust {:+} ppm", layer.delta_trust_ppm));
    let changes: String = atp.into_iter().chain(trust).map(|change| format!("  {change}")).collect();
    format!(
        "{} {}: {}{changes}\n    {}\n    {}\n",
        layer.number,
        escaped(&layer.layer),
        escaped(&layer.outcome),
        escaped(&layer.sentence),
        numbers.join("  "),
    )
}
