//! By which level's rules entries are applied.

use alloc::format;

use super::{Step, stale};
use crate::event::{EventKind, Severity};
use crate::refusal::Refusal;

impl Step<'_> {
    /// A node whose software does not know what is in force gets no session.
    pub(super) fn knows_the_level(&self, level: u32) -> Result<(), Refusal> {
        let in_force = self.state.feature_level;
        if level < in_force { Err(Refusal::OldSoftware { level, in_force }) } else { Ok(()) }
    }

    pub(super) fn raise_feature_level(&mut self, level: u32) -> Result<(), Refusal> {
        if level <= self.state.feature_level {
            return Err(stale("this feature level is in force"));
        }
        let older =
            self.state.nodes.values().find(|node| node.feature_level.is_none_or(|known| known < level));
        if let Some(node) = older {
            let why = format!("the software of {} is not known to have feature level {level}", node.name);
            return Err(Refusal::Unsafe(why));
        }
        self.state.feature_level = level;
        self.record(Severity::Info, None, None, EventKind::FeatureLevelRaised { level });
        Ok(())
    }
}
