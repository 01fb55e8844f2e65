//! What `convoke plan` shows.

use serde::{Deserialize, Serialize};

use super::{CopyLine, WhyLine};

/// What would happen if something were so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// What was supposed, as a clause (`n1 is lost`); empty if nothing was.
    pub supposed: String,
    /// Whether a majority of voters confirmed the state that it begins with.
    pub quorum: bool,
    /// Log index of that state.
    pub index: u64,
    /// `at-rest`, `no-quorum` (no majority of the voters would be left, and nothing would be decided) or `unfinished` (it
    /// goes on for longer than was looked).
    pub end: String,
    /// What would be done, in this order.
    pub steps: Vec<StepLine>,
    /// Units that would run elsewhere, or otherwise, than now; and those that were asked about.
    pub units: Vec<ChangeLine>,
    /// How many other units there are.
    pub unchanged: u64,
    /// What it takes for granted, each a sentence.
    pub assumes: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLine {
    /// How long the cluster itself would wait until then, in milliseconds: leases, back-offs, held failures. What starts,
    /// stops and fences take is not in it.
    pub after_ms: u64,
    /// The word that the history has for it (`unit-granted`).
    pub kind: String,
    /// Which node.
    pub node: Option<String>,
    /// Which unit.
    pub unit: Option<String>,
    /// What to do, in a few words (`start db.service on n2`).
    pub text: String,
}

/// One unit, now and then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// Its name.
    pub unit: String,
    /// Whether it would run elsewhere, or otherwise, than now.
    pub changes: bool,
    /// Its state now, as `status` says it.
    pub state_now: String,
    /// Copies that run now, or may.
    pub now: Vec<CopyLine>,
    /// Its state then.
    pub state_then: String,
    /// Copies that would run then, or might. Their permits have no number yet.
    pub then: Vec<CopyLine>,
    /// What would hold it then, most important first, three at the most; empty if nothing would.
    pub reasons: Vec<WhyLine>,
}
