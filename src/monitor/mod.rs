//! Folds events into counters and alerts.
