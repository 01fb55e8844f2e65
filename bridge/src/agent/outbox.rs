//! Facts that the cluster has not answered yet, in their order.
//!
//! Kept in memory only: what must outlive the daemon is derived again from the floors, the permit files and the spool
//! of operators' stops.

use std::collections::VecDeque;

use policy::{Fact, Token, UnitName};

use crate::session::message::Number;

/// A fact on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    pub(super) number: Number,
    pub(super) fact: Fact,
    /// Whether the present session has it.
    pub(super) sent: bool,
}

/// The facts on their way.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    last: Number,
    waiting: VecDeque<Waiting>,
}

impl Outbox {
    /// Adds a fact behind the others.
    pub(super) fn push(&mut self, fact: Fact) {
        // A later word on the same thing replaces one that was not even sent.
        if let Some(same) =
            self.waiting.iter().position(|waiting| !waiting.sent && replaces(&fact, &waiting.fact))
        {
            self.waiting.remove(same);
        }
        self.last += 1;
        self.waiting.push_back(Waiting { number: self.last, fact, sent: false });
    }

    /// Adds a fact before all others: an inventory opens a session. It says more, and later, than any line that still
    /// waits: told after it, such a line would win. What a health check found before the session counts no more: it is made
    /// anew.
    pub(super) fn push_first(&mut self, fact: Fact) {
        let outdated = |fact: &Fact| {
            matches!(
                fact,
                Fact::InventoryReported { .. }
                    | Fact::UnitObserved { .. }
                    | Fact::Surveyed { .. }
                    | Fact::CheckFailed { .. }
                    | Fact::RestReported { .. }
            )
        };
        self.waiting.retain(|waiting| !outdated(&waiting.fact));
        self.last += 1;
        self.waiting.push_front(Waiting { number: self.last, fact, sent: false });
    }

    /// The node does not leave, after all.
    pub(super) fn stay(&mut self) {
        self.waiting.retain(|waiting| !matches!(waiting.fact, Fact::NodeLeaving { .. }));
    }

    /// A new session knows nothing of what was sent in the one before.
    pub(super) fn unsend(&mut self) {
        for waiting in &mut self.waiting {
            waiting.sent = false;
        }
    }

    /// Whether the present session lacks a fact.
    pub(super) fn has_unsent(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.sent)
    }

    /// The next fact that the present session does not have.
    pub(super) fn next(&mut self) -> Option<&mut Waiting> {
        self.waiting.iter_mut().find(|waiting| !waiting.sent)
    }

    /// The cluster has answered.
    pub(super) fn taken(&mut self, number: Number) -> Option<Fact> {
        let at = self.waiting.iter().position(|waiting| waiting.number == number)?;
        self.waiting.remove(at).map(|waiting| waiting.fact)
    }

    /// Whether this very release is on its way.
    pub(super) fn releases(&self, name: &UnitName, released: Token) -> bool {
        self.waiting.iter().any(|waiting| {
            matches!(&waiting.fact, Fact::Released { unit, token, .. } if unit == name && *token == released)
        })
    }

    /// Whether the acknowledgement of these very terms is on its way.
    pub(super) fn acknowledges(&self, name: &UnitName, under: Token, of: u64) -> bool {
        self.waiting.iter().any(|waiting| {
            matches!(&waiting.fact, Fact::TermsAcknowledged { unit, token, revision, .. }
                if unit == name && *token == under && *revision == of)
        })
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

fn replaces(later: &Fact, earlier: &Fact) -> bool {
    match (later, earlier) {
        (Fact::UnitObserved { item: a, .. }, Fact::UnitObserved { item: b, .. }) => a.unit == b.unit,
        (Fact::PowerObserved { node: a, device: c, .. }, Fact::PowerObserved { node: b, device: d, .. }) => {
            a == b && c == d
        }
        (Fact::StopStuck { token: a, .. }, Fact::StopStuck { token: b, .. }) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use policy::{Cause, InventoryItem, NodeId};

    use super::*;

    fn released(token: u64) -> Fact {
        Fact::Released {
            node: NodeId(1),
            incarnation: "i".into(),
            unit: "db.service".into(),
            token: Token(token),
            because: Cause::Ordered,
        }
    }

    fn inventory() -> Fact {
        Fact::InventoryReported {
            node: NodeId(1),
            incarnation: "i".into(),
            items: Vec::new(),
            rests: std::collections::BTreeMap::new(),
            highest_token: Token(0),
        }
    }

    fn drain(outbox: &mut Outbox) -> Vec<Fact> {
        let mut sent = Vec::new();
        while let Some(waiting) = outbox.next() {
            waiting.sent = true;
            sent.push(waiting.fact.clone());
        }
        sent
    }

    #[test]
    fn a_line_that_was_not_answered_does_not_follow_the_inventory_that_corrects_it() {
        let mut outbox = Outbox::default();
        let item = InventoryItem { unit: "db.service".into(), offer: None, running: true };
        outbox.push(Fact::UnitObserved { node: NodeId(1), incarnation: "i".into(), item });
        outbox.push(released(1));
        assert_eq!(drain(&mut outbox).len(), 2);
        outbox.unsend();
        outbox.push_first(inventory());
        assert_eq!(drain(&mut outbox), [inventory(), released(1)]);
    }

    #[test]
    fn a_new_session_gets_the_inventory_and_then_all_that_was_not_answered() {
        let mut outbox = Outbox::default();
        outbox.push(released(1));
        outbox.push(released(2));
        assert_eq!(drain(&mut outbox), [released(1), released(2)]);
        assert_eq!(outbox.taken(1), Some(released(1)));
        assert_eq!(outbox.taken(1), None);
        outbox.unsend();
        outbox.push_first(inventory());
        outbox.push(released(3));
        assert_eq!(drain(&mut outbox), [inventory(), released(2), released(3)]);
        assert!(outbox.releases(&"db.service".into(), Token(3)));
        assert!(!outbox.releases(&"db.service".into(), Token(1)));
    }

    #[test]
    fn an_older_inventory_is_not_sent_after_a_newer_one() {
        let mut outbox = Outbox::default();
        outbox.push_first(inventory());
        outbox.push_first(inventory());
        assert_eq!(outbox.len(), 1);
    }
}
