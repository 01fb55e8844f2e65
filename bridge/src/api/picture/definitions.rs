//! Definitions as people write them, and which nodes may take a unit.
//!
//! What is said here of a node that may not take a unit is for people, before they ask; `apply` alone decides.

use std::collections::BTreeSet;

use policy::{
    Assembly, Definition, Fencing, GatherThen, Node, NodeId, NodeTerm, OnQuorumLoss, OnStopFailure, Replicas,
    Unit, UnitName,
};

use super::View;
use crate::api::model::{Keys, OfferLine};

impl View<'_> {
    /// The definition in force.
    pub(super) fn definition(&self, unit: &UnitName) -> Option<Keys> {
        self.state.units.get(unit)?.definition().map(keys)
    }

    /// What each node says of a unit, and whether it may take it.
    pub(super) fn offers(&self, name: &UnitName) -> Vec<OfferLine> {
        let Some(unit) = self.state.units.get(name) else { return Vec::new() };
        let line = |(id, node): (&NodeId, &Node)| {
            let offer = node.offers.get(name);
            let unfit = self.unfit(name, unit, *id, node);
            OfferLine {
                node: node.name.clone(),
                present: offer.is_some_and(|offer| offer.present),
                definition: offer.and_then(|offer| offer.definition.as_ref()).map(keys),
                fault: offer.and_then(|offer| offer.fault.clone()),
                remedy: unfit.as_ref().map(|(_, remedy)| remedy.clone()),
                unfit: unfit.map(|(why, _)| why),
            }
        };
        let mut offers: Vec<OfferLine> = self.state.nodes.iter().map(line).collect();
        offers.sort_by_key(|offer| super::natural(&offer.node));
        offers
    }

    /// Why a node may not take a unit now, and what to do about it; lasting causes first.
    pub(super) fn unfit(
        &self,
        name: &UnitName,
        unit: &Unit,
        id: NodeId,
        node: &Node,
    ) -> Option<(String, String)> {
        let at = &node.name;
        let why = |why: String, remedy: String| Some((why, remedy));
        if !node.role.runs_units() {
            return why(format!("{at} is a witness and runs no units"), "choose another node".to_owned());
        }
        if let Some(release) = self.state.undrain(id) {
            let (text, by) = (self.state.drained_text(id), self.state.drained_by(id));
            return why(format!("{} by {}", text.unwrap_or_default(), by.unwrap_or_default()), release);
        }
        if let Some(scope) = self.state.copy_maintenance(name, id) {
            return why(self.state.maintenance_text(&scope), self.state.maintenance_release(&scope));
        }
        if self.is_away(id, node) {
            return why(
                format!("{at} is away after an orderly end of its daemon"),
                format!("start {at}, or choose another node"),
            );
        }
        if let Some(fault) = self.state.presence_fault(node) {
            return why(format!("{at} {fault}"), format!("start {at}, or choose another node"));
        }
        if let Some(hold) = unit.holds.get(&id) {
            return why(
                format!("{name} is held on {at}: {}", hold.by),
                format!("`convoke start {name} --on {at}` ends the hold"),
            );
        }
        let Some(offer) = node.offers.get(name).filter(|offer| offer.present) else {
            return why(
                format!("{at} does not offer {name}: it has no file of it with an [X-Convoke] section"),
                format!("put the unit and its drop-in there, then `systemctl daemon-reload` on {at}"),
            );
        };
        if let Some(fault) = &offer.fault {
            return why(
                format!("{at}: {fault}"),
                format!("mend it on {at}; `convoke verify {name}` there shows it"),
            );
        }
        if unit.definition().is_some_and(|definition| !definition.allows(node)) {
            return why(
                format!("Nodes= of {name} does not name {at}"),
                "choose another node, or change Nodes=".to_owned(),
            );
        }
        if offer.definition.is_some() && offer.definition.as_ref() != unit.definition() {
            return why(
                format!("{at} offers another definition of {name} than the one in force"),
                format!(
                    "make its files equal to the others', or choose them: `convoke adopt {name} --from {at}`"
                ),
            );
        }
        if !offer.gated {
            return why(
                format!("the gate of {name} is not in force on {at}"),
                format!("`systemctl daemon-reload` on {at}"),
            );
        }
        None
    }
}

/// As the files would say it, with what follows from saying nothing.
fn keys(definition: &Definition) -> Keys {
    let mut keys = Keys::new();
    let mut set = |key: &str, value: String| {
        if !value.is_empty() {
            keys.insert(key.to_owned(), value);
        }
    };
    set(
        "Replicas",
        match definition.replicas {
            Replicas::Count(count) => count.to_string(),
            Replicas::All => "all".to_owned(),
        },
    );
    set(
        "Fencing",
        match definition.fencing {
            Fencing::None => "none",
            Fencing::Lease => "lease",
            Fencing::Watchdog => "watchdog",
            Fencing::Isolated => "isolated",
            Fencing::Required => "required",
        }
        .to_owned(),
    );
    set(
        "OnQuorumLoss",
        match definition.on_quorum_loss {
            OnQuorumLoss::Stop => "stop",
            OnQuorumLoss::Freeze => "freeze",
            OnQuorumLoss::Continue => "continue",
            OnQuorumLoss::Reboot => "reboot",
        }
        .to_owned(),
    );
    set(
        "OnStopFailure",
        match definition.on_stop_failure {
            OnStopFailure::Fence => "fence",
            OnStopFailure::Block => "block",
        }
        .to_owned(),
    );
    set("Requires", list(&definition.requires));
    set("Wants", list(&definition.wants));
    set("BindsTo", list(&definition.binds_to));
    set("PartOf", list(&definition.part_of));
    set("After", list(&definition.after));
    set("Before", list(&definition.before));
    set("Conflicts", list(&definition.conflicts));
    set("SameNodeAs", list(&definition.same_node_as));
    set("OtherNodeThan", list(&definition.other_node_than));
    set("Nodes", definition.nodes.iter().map(term).collect::<Vec<_>>().join(" "));
    let weights = |sign: i64| {
        let mine = definition.prefer.iter().filter(|one| one.weight.signum() == sign);
        let words: Vec<_> =
            mine.map(|one| format!("{}:{}", term(&one.term), one.weight.unsigned_abs())).collect();
        words.join(" ")
    };
    set("Prefer", weights(1));
    set("Avoid", weights(-1));
    set("Spread", definition.spread.clone().unwrap_or_default());
    let uses = definition.uses.iter().map(|(of, amount)| format!("{of}={}", policy::quantity_text(*amount)));
    set("Uses", uses.collect::<Vec<_>>().join(" "));
    if definition.priority != 0 {
        set("Priority", definition.priority.to_string());
    }
    if definition.start_one_at_a_time {
        set("StartOneAtATime", "yes".to_owned());
    }
    set(
        "Stickiness",
        definition.stickiness.map_or_else(|| "infinity".to_owned(), |points| points.to_string()),
    );
    set("FailuresMax", definition.failures_max.to_string());
    set("FailureResetSec", time(definition.failure_reset_ms));
    if definition.rank {
        set("Rank", "(set)".to_owned());
    }
    if let Some(assembly) = &definition.assembly {
        set_assembly(&mut set, assembly);
    }
    keys
}

/// The keys of a clustered service; of its programs and variables the cluster knows only that they are there.
fn set_assembly(set: &mut impl FnMut(&str, String), assembly: &Assembly) {
    let there = |there: bool| if there { "(set)".to_owned() } else { String::new() };
    set("Assembly", super::assembly::style(assembly.style).to_owned());
    set("Position", there(assembly.position));
    set("Ready", there(assembly.ready));
    set("GatherWaitSec", assembly.gather_wait_ms.map_or_else(|| "infinity".to_owned(), time));
    let then = match assembly.gather_then {
        GatherThen::Refuse => "refuse",
        GatherThen::Best => "best",
    };
    set("GatherThen", then.to_owned());
    set("StartAlone", there(assembly.alone));
    set("StartResync", there(assembly.resync));
}

fn list(units: &BTreeSet<UnitName>) -> String {
    units.iter().map(UnitName::as_str).collect::<Vec<_>>().join(" ")
}

fn term(term: &NodeTerm) -> String {
    match term {
        NodeTerm::Name(name) => name.clone(),
        NodeTerm::Attribute(key, value) => format!("{key}={value}"),
    }
}

fn time(ms: u64) -> String {
    match ms {
        // What the files' `infinity` is taken for, and more.
        _ if ms >= u64::MAX / 4 => "infinity".to_owned(),
        _ if ms.is_multiple_of(60_000) => format!("{}min", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_shown_as_it_is_written() {
        let mut definition = Definition::exclusive();
        definition.nodes =
            vec![NodeTerm::Name("n1".to_owned()), NodeTerm::Attribute("rack".to_owned(), "a".to_owned())];
        definition.requires = [UnitName("a.service".to_owned())].into();
        let keys = keys(&definition);
        let get = |key: &str| keys.get(key).map(String::as_str);
        assert_eq!(get("Replicas"), Some("1"));
        assert_eq!(get("Fencing"), Some("required"));
        assert_eq!(get("Nodes"), Some("n1 rack=a"));
        assert_eq!(get("Requires"), Some("a.service"));
        assert_eq!(get("Stickiness"), Some("infinity"));
        assert_eq!(get("FailureResetSec"), Some("10min"));
        assert_eq!(get("After"), None, "what says nothing is not shown");
    }
}
