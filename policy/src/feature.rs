//! Which rules are in force while nodes run different versions.
//!
//! All voters must make the same of an entry, whatever version each of them runs (F20). What a later version of `apply` accepts
//! or does otherwise, it asks the feature level in the state for; that rises by an entry of the log, once the software of
//! every enrolled node knows the level. A field that is newly filled is such a change, too: of voters that read one
//! snapshot some would have it and some would not. Clauses P154 and P155 of `docs/policy.md`.

use crate::state::State;

/// The highest feature level that this version knows. It is the first, and stays so until Convoke is released: builds from
/// before that are not to share a cluster.
pub const FEATURE_LEVEL: u32 = 1;

/// What a cluster begins with.
pub(crate) const fn first() -> u32 {
    1
}

impl State {
    /// A level above the one in force that the software of all enrolled nodes knows, of those that are lost too.
    pub(crate) fn next_feature_level(&self) -> Option<u32> {
        let mut known = self.nodes.values().map(|node| node.feature_level);
        // Mostly the first node says that there is none.
        let lowest = known.try_fold(u32::MAX, |lowest, level| {
            level.filter(|level| *level > self.feature_level).map(|level| lowest.min(level))
        });
        lowest.filter(|_| !self.nodes.is_empty())
    }
}
