//! Properties of the fold, for every policy that validates and every log.

use std::collections::BTreeMap;

use cogmesh::ledger::{
    Account, Facts, Features, Policy, fold,
    layers::explain,
    measure,
    types::{Level, MicroAtp, Millis, Ppm},
};
use proptest::prelude::*;

/// Words that come again, of several scripts, with signs, spaces and zeros around and in them, shorter and longer than a window of tokens; or
/// any text.
fn any_content() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-cA-C]{1,4}",
        2 => "(emerge|emerged|emergence|EMERGENCE|consciousness|d'accord|naïve|Éa|b2b|a\0|a\0\0|aaaaaaaa|aaaaaaaab)",
        2 => "[意識流れ서]{1,3}",
        1 => "[.,!?'()-]{1,3}",
        2 => "[ \t\u{a0}\u{3000}\u{2028}]{1,2}",
    ];
    let spaced = (prop::collection::vec((piece, any::<bool>()), 0..200)).prop_map(|pieces| {
        pieces.into_iter().map(|(piece, spaced)| if spaced { piece + " " } else { piece }).collect()
    });
    prop_oneof![3 => spaced, 1 => ".{0,400}"]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let ppm = || (0..=1_000_000_u32).prop_map(Ppm);
    let rate = || prop_oneof![0..=3_000_000_u32, 0..=1_000_000_000_u32].prop_map(Ppm);
    let atp = || prop_oneof![0..=200_000_000_i64, 0..=1_000_000_000_000_000_i64].prop_map(MicroAtp);
    let signed = || (-1_000_000_000_000_000..=1_000_000_000_000_000_i64).prop_map(MicroAtp);
    let ms = || prop_oneof![1..=100_000_u64, 1..=4_000_000_000_000_u64].prop_map(Millis);
    let trusts = (ppm(), ppm(), ppm(), ppm(), ppm(), ppm(), ppm());
    let rates = (any::<u32>(), rate(), rate(), rate(), rate(), rate(), 0..=36_500_u32);
    let amounts = (atp(), atp(), atp(), atp(), atp(), atp(), signed(), signed(), signed());
    let rest = (ms(), ms(), 1..=5_u8, 0..=4_u16, 0..=999_999_u32, 1..=65_536_u32, 0..=40_u8);
    (trusts, rates, amounts, rest).prop_map(|(trusts, rates, amounts, rest)| Policy {
        coherence_min_ppm: trusts.0,
        trust_initial_ppm: trusts.1,
        trust_hardware_bonus_ppm: trusts.2,
        trust_gain_ppm: trusts.3,
        trust_loss_ppm: trusts.4,
        weight_hardware_bonus_ppm: trusts.5,
        decay_floor_ppm: trusts.6,
        rate_base: rates.0,
        hardware_rate_ppm: rates.1,
        decay_rate_ppm: rates.2,
        atp_rate_bonus_ppm: rates.3,
        multiplier_min_ppm: rates.4.min(rates.5),
        multiplier_max_ppm: rates.4.max(rates.5),
        decay_start_days: rates.6,
        reward_base: amounts.0.min(amounts.1),
        reward_max: amounts.0.max(amounts.1),
        reward_day_max: amounts.2,
        penalty_rate: amounts.3,
        penalty_spam: amounts.4,
        penalty_quality: amounts.5,
        initial_balance: amounts.6,
        min_balance: amounts.7,
        freeze_balance: amounts.8,
        rate_window_ms: rest.0,
        freeze_ms: rest.1,
        hardware_level_min: Level::try_from(rest.2).unwrap(),
        duplicate_window: rest.3,
        reward_threshold_ppm: Ppm(rest.4),
        content_max_bytes: rest.5,
        pow_bits: rest.6,
    })
}

fn any_features() -> impl Strategy<Value = Features> {
    let number = || prop_oneof![0..=200_u32, any::<u32>()];
    (number(), number(), prop_oneof![0..=1_000_000_u32, any::<u32>()], 0..=3_u8).prop_map(
        |(chars, concepts, diversity, print)| Features {
            chars,
            concepts,
            diversity: Ppm(diversity),
            fingerprint: [print; 32],
        },
    )
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let time = prop_oneof![0..=100_000_000_u64, any::<u64>()];
    (time, prop_oneof![0..=70_000_u32, any::<u32>()], any_features())
        .prop_map(|(time, content_bytes, features)| Facts { time: Millis(time), content_bytes, features })
}

/// Thoughts of several authors, each author's in the order of their times.
fn any_logs() -> impl Strategy<Value = Vec<Vec<Facts>>> {
    prop::collection::vec(prop::collection::vec(any_facts(), 0..12), 1..4).prop_map(|mut logs| {
        logs.iter_mut().for_each(|log| log.sort_by_key(|facts| facts.time));
        logs
    })
}

fn fold_in_order(policy: &Policy, logs: &[Vec<Facts>], order: &[usize]) -> BTreeMap<usize, [u8; 32]> {
    let mut accounts: BTreeMap<usize, Account> = BTreeMap::new();
    let mut next = vec![0; logs.len()];
    for author in order.iter().copied().chain((0..logs.len()).flat_map(|author| [author; 12])) {
        let author = author % logs.len();
        let Some(facts) = logs[author].get(next[author]) else {
            continue;
        };
        next[author] += 1;
        let account = accounts.entry(author).or_insert_with(|| Account::open(policy, Level::MAX, facts.time));
        let _inadmissible = fold(policy, account, facts);
    }
    accounts.into_iter().map(|(author, account)| (author, account.digest())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_interleaving_of_authors_gives_the_same_accounts(
        policy in any_policy(),
        logs in any_logs(),
        order in prop::collection::vec(0..4_usize, 0..40),
    ) {
        let one_by_one = fold_in_order(&policy, &logs, &[]);
        prop_assert_eq!(fold_in_order(&policy, &logs, &order), one_by_one);
    }

    #[test]
    fn no_log_under_any_policy_overflows_and_every_account_is_read_back(
        policy in any_policy(),
        level in 1..=5_u8,
        opened in any::<u64>(),
        log in prop::collection::vec(any_facts(), 0..30),
    ) {
        prop_assert!(policy.validate().is_ok());
        let mut account = Account::open(&policy, Level::try_from(level).unwrap(), Millis(opened));
        for facts in log {
            let before = account.clone();
            match fold(&policy, &mut account, &facts) {
                Err(_) => prop_assert_eq!(&account, &before, "an inadmissible entry changes nothing"),
                Ok(outcome) => {
                    prop_assert_eq!(account.balance.0 - before.balance.0, outcome.delta.0);
                    prop_assert!(account.trust <= Ppm::ONE && outcome.weight <= Ppm::ONE);
                    prop_assert!(account.window_limit >= 1);
                    prop_assert!(account.recent.len() <= usize::from(policy.duplicate_window));
                }
            }
            prop_assert_eq!(&Account::from_bytes(&account.to_bytes(), &policy).unwrap(), &account);
        }
    }

    #[test]
    fn what_the_nine_layers_changed_adds_up_to_what_the_fold_did(
        policy in any_policy(),
        log in prop::collection::vec(any_facts(), 1..8),
    ) {
        let mut account = Account::open(&policy, Level::MAX, log[0].time);
        for facts in log {
            let explained = explain(&policy, &account, &facts);
            let before = account.clone();
            let folded = fold(&policy, &mut account, &facts);
            prop_assert_eq!(explained.as_ref().map(|(outcome, _)| *outcome), folded.as_ref().copied());
            if let Ok((_, reports)) = explained {
                let delta: i64 = reports.iter().map(|report| report.delta.0).sum();
                let trust: i64 = reports.iter().map(|report| report.delta_trust_ppm).sum();
                prop_assert_eq!(delta, account.balance.0 - before.balance.0);
                prop_assert_eq!(trust, i64::from(account.trust.0) - i64::from(before.trust.0));
            }
        }
    }

    #[test]
    fn every_content_is_measured_within_its_bounds(content in ".{0,400}") {
        let features = measure(&content);
        prop_assert!(features.coherence() <= Ppm::ONE);
        prop_assert!(features.diversity <= Ppm::ONE);
        prop_assert!(u64::from(features.chars) <= 3 * content.chars().count() as u64);
    }

    #[test]
    fn contents_of_all_kinds_have_the_features_that_the_specification_says(content in any_content()) {
        prop_assert_eq!(measure(&content), crate::plain::measure(&content));
    }

    #[test]
    fn policies_survive_their_bytes_and_their_file(policy in any_policy()) {
        prop_assert_eq!(&Policy::from_bytes(&policy.to_bytes()).unwrap(), &policy);
        prop_assert_eq!(&Policy::from_toml(&policy.to_toml()).unwrap(), &policy);
    }

    #[test]
    fn bytes_that_are_a_policy_are_written_again_as_they_were(mut bytes in prop::collection::vec(any::<u8>(), 156)) {
        // Most random bytes are out of range; the small values of a real policy are worth trying too.
        for (index, byte) in Policy::default().to_bytes().into_iter().enumerate() {
            if bytes[index] > 16 {
                bytes[index] = byte;
            }
        }
        if let Ok(policy) = Policy::from_bytes(&bytes) {
            prop_assert_eq!(policy.to_bytes(), bytes);
        }
    }
}
