//! Offers in the words of the scripts.

use std::collections::BTreeSet;

use policy::{
    Definition, Fencing, NodeTerm, Offer, OnQuorumLoss, OnStopFailure, Preference, Replicas, UnitName,
};

use super::World;

/// `replicas=2 fencing=none requires=db prefer=b:10 enabled`: an offer with these keys, exclusive otherwise.
pub(super) fn offer(keys: &[&str]) -> Result<Offer, String> {
    let replicas = keys.iter().find_map(|key| key.strip_prefix("replicas="));
    let mut definition = match replicas {
        None | Some("1") => Definition::exclusive(),
        Some("all") => Definition::replicated(Replicas::All),
        Some(count) => Definition::replicated(Replicas::Count(count.parse().map_err(|_| "no count")?)),
    };
    let mut offer = Offer {
        definition: None,
        fault: None,
        gated: true,
        enabled: false,
        stop_budget_ms: 10_000,
        present: true,
    };
    let units = |list: &str| list.split(',').map(World::unit).collect::<BTreeSet<UnitName>>();
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("no number: {text}"));
    for key in keys {
        match key.split_once('=').unwrap_or((key, "")) {
            ("replicas", _) => {}
            ("fencing", "none") => definition.fencing = Fencing::None,
            ("fencing", "lease") => definition.fencing = Fencing::Lease,
            ("fencing", "watchdog") => definition.fencing = Fencing::Watchdog,
            ("fencing", "isolated") => definition.fencing = Fencing::Isolated,
            ("fencing", "required") => definition.fencing = Fencing::Required,
            ("quorumloss", "continue") => definition.on_quorum_loss = OnQuorumLoss::Continue,
            ("quorumloss", "stop") => definition.on_quorum_loss = OnQuorumLoss::Stop,
            ("quorumloss", "freeze") => definition.on_quorum_loss = OnQuorumLoss::Freeze,
            ("quorumloss", "reboot") => definition.on_quorum_loss = OnQuorumLoss::Reboot,
            ("stopfailure", "fence") => definition.on_stop_failure = OnStopFailure::Fence,
            ("stopfailure", "block") => definition.on_stop_failure = OnStopFailure::Block,
            ("requires", list) => definition.requires = units(list),
            ("wants", list) => definition.wants = units(list),
            ("binds", list) => definition.binds_to = units(list),
            ("part", list) => definition.part_of = units(list),
            ("before", list) => definition.before = units(list),
            ("conflicts", list) => definition.conflicts = units(list),
            ("apart", list) => definition.other_node_than = units(list),
            ("spread", attribute) => definition.spread = Some((*attribute).into()),
            ("uses", list) => {
                for item in list.split(',') {
                    let (of, amount) = item.split_once(':').ok_or("uses=WHAT:AMOUNT")?;
                    definition.uses.insert(of.into(), number(amount)? as u64);
                }
            }
            ("priority", text) => definition.priority = number(text)?,
            ("oneatatime", _) => definition.start_one_at_a_time = true,
            ("after", list) => definition.after = units(list),
            ("beside", list) => definition.same_node_as = units(list),
            ("nodes", list) => definition.nodes = list.split(',').map(term).collect(),
            ("prefer" | "avoid", list) => {
                // As the agent offers it: what is avoided is preferred with a weight below zero.
                let sign = if key.starts_with("avoid") { -1 } else { 1 };
                for item in list.split(',') {
                    let (name, weight) = item.rsplit_once(':').ok_or("prefer=NODE:WEIGHT")?;
                    definition.prefer.push(Preference { term: term(name), weight: sign * number(weight)? });
                }
            }
            ("stickiness", text) => definition.stickiness = Some(number(text)?),
            ("failures", text) => definition.failures_max = number(text)? as u32,
            ("reset", text) => definition.failure_reset_ms = number(text)? as u64 * 1_000,
            ("budget", text) => offer.stop_budget_ms = number(text)? as u64 * 1_000,
            ("assembly" | "without" | "wait" | "then" | "resync" | "masked" | "running", _) => {}
            ("rank", _) => definition.rank = true,
            ("ungated", _) => offer.gated = false,
            ("enabled", _) => offer.enabled = true,
            ("withdrawn", _) => offer.present = false,
            ("fault", text) => offer.fault = Some(text.replace('_', " ")),
            other => return Err(format!("no key {other:?}")),
        }
    }
    definition.assembly = super::assembly::keys(keys)?;
    offer.definition = offer.fault.is_none().then_some(definition);
    // No error of the section.
    if keys.contains(&"masked") {
        offer.fault = Some("it is masked".into());
    }
    Ok(offer)
}

fn term(text: &str) -> NodeTerm {
    match text.split_once(':') {
        Some((key, value)) => NodeTerm::Attribute(key.into(), value.into()),
        None => NodeTerm::Name(text.into()),
    }
}
