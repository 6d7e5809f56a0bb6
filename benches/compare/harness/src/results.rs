//! What was measured so far.

use std::collections::BTreeMap;

use crate::measures::Values;

/// Every run of everybody: `None` where it did not come to its end.
#[derive(Debug, Default)]
pub(crate) struct Results {
    runs: BTreeMap<(String, String), Vec<Option<Values>>>,
}

/// Median, least and most of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 0 { (sorted[half - 1] + sorted[half]) / 2.0 } else { sorted[half] };
        Some(Self { median, min, max })
    }
}

impl Results {
    pub(crate) fn add(&mut self, measure: &str, contestant: &str, run: Option<Values>) {
        self.runs.entry((measure.to_owned(), contestant.to_owned())).or_default().push(run);
    }

    /// A value of each run; NaN where a run has none.
    pub(crate) fn each(&self, measure: &str, contestant: &str, metric: &str) -> Vec<f64> {
        let runs = self.runs.get(&(measure.to_owned(), contestant.to_owned()));
        let value =
            |run: &Option<Values>| run.as_ref().and_then(|run| run.get(metric)).copied().unwrap_or(f64::NAN);
        runs.map_or_else(Vec::new, |runs| runs.iter().map(value).collect())
    }

    /// What the runs that came to their end say of a value.
    pub(crate) fn spread(&self, measure: &str, contestant: &str, metric: &str) -> Option<Spread> {
        let mut values = self.each(measure, contestant, metric);
        values.retain(|value| value.is_finite());
        Spread::of(&values)
    }

    /// Who did not come through how many runs of what.
    pub(crate) fn failures(&self) -> Vec<String> {
        let one = |((measure, contestant), runs): (&(String, String), &Vec<Option<Values>>)| {
            let failed = runs.iter().filter(|run| run.is_none()).count();
            (failed > 0).then(|| format!("{contestant} ({measure}: {failed} of {} runs)", runs.len()))
        };
        self.runs.iter().filter_map(one).collect()
    }

    /// Everything, for programs.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let one = |((measure, contestant), runs): (&(String, String), &Vec<Option<Values>>)| serde_json::json!({ "measure": measure, "contestant": contestant, "runs": runs });
        self.runs.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_median_of_even_and_odd_counts() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }
}
