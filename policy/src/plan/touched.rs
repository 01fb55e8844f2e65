//! Which units' plans an entry may change, told by its command.
//!
//! Too much costs time, too little makes a plan that differs from one made anew: what is not plain is everything. The table
//! is in `docs/design/0020-planning-after-one-event.md`.

#![deny(clippy::wildcard_enum_match_arm)]

use alloc::collections::BTreeSet;

use crate::command::{Command, Decision, Fact, Wish};
use crate::name::{NodeId, UnitName};
use crate::state::State;

/// What was touched since the last plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    /// These units, and with them all of their islands.
    pub(super) units: BTreeSet<UnitName>,
    /// All units that these nodes offer or hold.
    pub(super) nodes: BTreeSet<NodeId>,
    /// Of these units, what a node says of them.
    pub(super) lines: BTreeSet<(UnitName, NodeId)>,
    /// Nothing of the last plan can be used again.
    pub(super) everything: bool,
}

impl Touched {
    /// Notes an entry that was applied; `state` is as it came out of it. One that was refused has changed nothing.
    pub(super) fn note(&mut self, state: &State, command: &Command) {
        match command {
            Command::Fact(fact) => self.fact(state, fact),
            Command::Wish(wish) => self.wish(wish),
            Command::Decision(decision) => self.decision(decision),
        }
    }

    fn fact(&mut self, state: &State, fact: &Fact) {
        match fact {
            Fact::TermBegan { .. } => self.everything = true,
            Fact::NodeHeard { node, .. }
            | Fact::IdentityShared { node, .. }
            | Fact::NodeLeaving { node, .. }
            | Fact::NodeLost { node, .. }
            | Fact::WatchdogArmed { node, .. }
            | Fact::WatchdogDisarmed { node, .. }
            | Fact::ProofContradicted { node, .. } => self.node(*node),
            Fact::FenceReported { case, .. } | Fact::FenceRepeated { case, .. } => {
                match state.cases.get(case) {
                    Some(case) => self.node(case.node),
                    None => self.everything = true,
                }
            }
            Fact::InventoryReported { node, items, .. } => {
                self.node(*node);
                items.iter().for_each(|item| self.unit(&item.unit));
            }
            Fact::UnitObserved { node, item, .. } => {
                self.unit(&item.unit);
                self.lines.insert((item.unit.clone(), *node));
            }
            Fact::Started { unit, .. }
            | Fact::PositionReported { unit, .. }
            | Fact::ReadyReported { unit, .. }
            | Fact::RankReported { unit, .. }
            | Fact::CheckFailed { unit, .. }
            | Fact::TermsAcknowledged { unit, .. }
            | Fact::Released { unit, .. }
            | Fact::RestReported { unit, .. }
            | Fact::StopStuck { unit, .. } => self.unit(unit),
            // Who waits for the word of all nodes is restless; whether a node takes units is compared at each plan, as far as
            // looks through its devices say so.
            Fact::Surveyed { .. } | Fact::CutOffHeard { .. } => {}
            // Units may rest on what an isolating device shows.
            Fact::PowerObserved { node, device, .. } | Fact::SwitchedOn { node, device, .. } => {
                if state.devices.get(device).is_some_and(|device| device.isolates.is_some()) {
                    self.node(*node);
                }
            }
        }
    }

    fn wish(&mut self, wish: &Wish) {
        match wish {
            Wish::Found { .. }
            | Wish::Enroll { .. }
            | Wish::RemoveNode { .. }
            | Wish::BeginMaintenance { .. }
            | Wish::EndMaintenance { .. }
            | Wish::Configure { .. }
            | Wish::AdoptFrom { .. }
            | Wish::SetDrained { node: None, .. }
            | Wish::Forget { .. } => self.everything = true,
            Wish::SetGoal { unit, .. }
            | Wish::StoppedByHand { unit, .. }
            | Wish::WithdrawStart { unit, .. }
            | Wish::Move { unit, .. }
            | Wish::ResetFailed { unit, .. }
            | Wish::Assemble { unit, .. } => self.unit(unit),
            Wish::SetDrained { node: Some(node), .. }
            | Wish::VouchFenced { node, .. }
            | Wish::TestFence { node, .. }
            | Wish::ForgiveNode { node, .. }
            | Wish::CancelFence { node, .. } => self.node(*node),
            Wish::IssueToken { .. } => {}
        }
    }

    fn decision(&mut self, decision: &Decision) {
        match decision {
            Decision::AdoptDefinition { .. } | Decision::RaiseFeatureLevel { .. } => self.everything = true,
            Decision::Grant { unit, .. }
            | Decision::PullIn { unit, .. }
            | Decision::OpenGather { unit }
            | Decision::Elect { unit, .. }
            | Decision::Revoke { unit, .. }
            | Decision::Reterm { unit, .. }
            | Decision::Expire { unit, .. } => self.unit(unit),
            // Who waits for a fence is restless.
            Decision::OpenCase { .. }
            | Decision::BeginAttempt { .. }
            | Decision::AbandonAttempt { .. }
            | Decision::CancelCase { .. }
            | Decision::BeginOpening { .. }
            | Decision::AbandonOpening { .. } => {}
        }
    }

    fn unit(&mut self, unit: &UnitName) {
        self.units.insert(unit.clone());
    }

    fn node(&mut self, node: NodeId) {
        self.nodes.insert(node);
    }
}
