//! `Rank=` makes a unit a role: one node holds it, beside its copy of a replicated unit.
//!
//! Decides which units can be one. Whose copy is the best is decided elsewhere, by what these programs print.

use super::Section;
use super::merge::Merge;
use crate::diagnostic::{Code, Diagnostic};

impl Merge<'_> {
    /// Says what a role lacks.
    pub(super) fn role(&mut self, section: &Section) {
        if section.rank.is_none() {
            return;
        }
        let rules = [
            (
                !section.exclusive(),
                "`Rank=` on a unit that may run twice: one node holds a role",
                "say `Replicas=1`, and any `Fencing=` but `none`",
            ),
            (
                section.same_node_as.len() != 1,
                "`Rank=` needs one unit in `SameNodeAs=`",
                "name the replicated unit whose copies are ranked",
            ),
        ];
        for (_, message, help) in rules.into_iter().filter(|(broken, ..)| *broken) {
            let at = self.place("Rank");
            self.found.push(Diagnostic::error(Code::BadRole, at, message).help(help));
        }
    }
}
