//! The keys of `[X-Convoke]`.

use crate::name::edit_distance;

/// All of them. Another is refused rather than ignored: the unit would run without a rule that somebody believes in.
pub(super) const SUPPORTED: &[&str] = &[
    "Replicas",
    "Fencing",
    "OnQuorumLoss",
    "Requires",
    "Wants",
    "BindsTo",
    "PartOf",
    "After",
    "Before",
    "Conflicts",
    "Nodes",
    "Prefer",
    "Stickiness",
    "Avoid",
    "Spread",
    "Uses",
    "Priority",
    "SameNodeAs",
    "OtherNodeThan",
    "StartOneAtATime",
    "OnStopFailure",
    "FailuresMax",
    "FailureResetSec",
    "Assembly",
    "Position",
    "Ready",
    "GatherWaitSec",
    "GatherThen",
    "StartAlone",
    "StartResync",
    "Rank",
    "CheckExec",
    "CheckIntervalSec",
    "CheckTimeoutSec",
    "GoneExec",
];

/// The known key that a misspelt one was probably meant to be.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let key = key.to_lowercase();
    let all = SUPPORTED.iter();
    let (distance, best) = all.map(|k| (edit_distance(&key, &k.to_lowercase()), *k)).min()?;
    // A third of the letters wrong is no misspelling any more.
    (distance <= (key.chars().count() / 3).max(1)).then_some(best)
}
