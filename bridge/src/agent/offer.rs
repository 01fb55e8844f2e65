//! What this node offers of a unit: its rules in the cluster's words, and whether it could be started here.
//!
//! A pure mapping from what the files and PID 1 say.

use std::time::Duration;

use policy::{
    Assembly, AssemblyStyle, Definition, Fencing, GatherThen, NodeTerm, Offer, OnQuorumLoss, OnStopFailure,
    Preference, Replicas, UnitName,
};
use units::diagnostic::Severity;
use units::gate::{AssertSeen, GateFault, LoadedUnit};
use units::section::{self, NodeExpr, Section, Stickiness};
use units::systemd::Reading;

use super::remains;

/// Phases of an orderly stop that are each bounded by `TimeoutStopSec=`: `ExecStop=`, the wait after SIGTERM,
/// `ExecStopPost=`. The phases that begin with SIGKILL end at once, or the unit is stuck and no budget helps.
const STOP_PHASES: u64 = 3;
/// What PID 1 and we need beside the phases.
const STOP_SLACK_MS: u64 = 1_000;
/// A unit without processes of its own stops at once.
const STOP_AT_ONCE_MS: u64 = 5_000;
/// Stands for `infinity`, which is an error for exclusive units (F7).
const STOP_ENDLESS_MS: u64 = 86_400_000;

/// What the files say of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub struct Found {
    pub definition: Option<Definition>,
    pub fault: Option<String>,
    pub pulled_in: bool,
    /// Units that are gated on its permit.
    pub members: Vec<String>,
    /// The programs and variables of a clustered service.
    pub assembly: Option<section::Assembly>,
    /// The program that ranks this node for a role.
    pub rank: Option<section::Program>,
    /// The program that says whether its copy is well.
    pub check: Option<section::Check>,
    /// The program that says, once it is stopped, whether anything of it is left outside its processes.
    pub gone: Option<section::Program>,
}

impl Found {
    pub(super) fn of(unit: &units::ClusterUnit) -> Self {
        let first = unit.diagnostics.iter().find(|found| found.severity == Severity::Error);
        let fault = first.map(|found| match &found.span {
            Some(span) if span.line > 0 => format!("{}:{}: {}", span.file, span.line, found.message),
            _ => found.message.clone(),
        });
        let fault = fault.or_else(|| unit.masked.then(|| "it is masked".to_owned()));
        Self {
            definition: unit.section.as_ref().map(definition),
            fault,
            pulled_in: unit.enabled,
            members: unit.members.clone(),
            assembly: unit.section.as_ref().and_then(|section| section.assembly.clone()),
            rank: unit.section.as_ref().and_then(|section| section.rank.clone()),
            check: unit.section.as_ref().and_then(|section| section.check.clone()),
            gone: unit.section.as_ref().and_then(|section| section.gone.clone()),
        }
    }
}

/// The section in the cluster's words.
pub(crate) fn definition(section: &Section) -> Definition {
    let names = |list: &[String]| list.iter().map(|name| UnitName(name.clone())).collect();
    Definition {
        replicas: match section.replicas {
            section::Replicas::One => Replicas::Count(1),
            section::Replicas::Count(count) => Replicas::Count(count),
            section::Replicas::All => Replicas::All,
        },
        fencing: match section.fencing {
            section::Fencing::Required => Fencing::Required,
            section::Fencing::Isolated => Fencing::Isolated,
            section::Fencing::Watchdog => Fencing::Watchdog,
            section::Fencing::Lease => Fencing::Lease,
            section::Fencing::None => Fencing::None,
        },
        on_quorum_loss: match section.on_quorum_loss {
            section::OnQuorumLoss::Stop => OnQuorumLoss::Stop,
            section::OnQuorumLoss::Freeze => OnQuorumLoss::Freeze,
            section::OnQuorumLoss::Continue => OnQuorumLoss::Continue,
            section::OnQuorumLoss::Reboot => OnQuorumLoss::Reboot,
        },
        on_stop_failure: match section.on_stop_failure {
            section::OnStopFailure::Fence => OnStopFailure::Fence,
            section::OnStopFailure::Block => OnStopFailure::Block,
        },
        requires: names(&section.requires),
        wants: names(&section.wants),
        binds_to: names(&section.binds_to),
        part_of: names(&section.part_of),
        after: names(&section.after),
        before: names(&section.before),
        conflicts: names(&section.conflicts),
        same_node_as: names(&section.same_node_as),
        other_node_than: names(&section.other_node_than),
        nodes: section.nodes.iter().map(term).collect(),
        prefer: weighted(&section.prefer, 1).chain(weighted(&section.avoid, -1)).collect(),
        spread: section.spread.clone(),
        uses: section.uses.clone(),
        priority: section.priority,
        start_one_at_a_time: section.start_one_at_a_time,
        stickiness: match section.stickiness {
            Stickiness::Weight(weight) => Some(i64::from(weight)),
            Stickiness::Infinity => None,
        },
        failures_max: section.failures_max,
        // For ever: longer than any cluster runs, and far from overflow.
        failure_reset_ms: section.failure_reset_ms.unwrap_or(u64::MAX / 4),
        assembly: section.assembly.as_ref().map(assembly),
        rank: section.rank.is_some(),
    }
}

/// What counts of a clustered service's boot-up in the cluster: its programs and variables are this node's own matter.
fn assembly(assembly: &section::Assembly) -> Assembly {
    Assembly {
        style: match assembly.style {
            section::AssemblyStyle::OneThenSerial => AssemblyStyle::OneThenSerial,
            section::AssemblyStyle::AllTogether => AssemblyStyle::AllTogether,
        },
        position: true,
        ready: assembly.ready.is_some(),
        gather_wait_ms: assembly.gather_wait_ms,
        gather_then: match assembly.gather_then {
            section::GatherThen::Refuse => GatherThen::Refuse,
            section::GatherThen::Best => GatherThen::Best,
        },
        alone: !assembly.alone.is_empty(),
        resync: !assembly.resync.is_empty(),
    }
}

fn weighted(list: &[section::Preference], sign: i64) -> impl Iterator<Item = Preference> {
    let weighted = move |wish: &section::Preference| Preference {
        term: term(&wish.node),
        weight: i64::from(wish.weight) * sign,
    };
    list.iter().map(weighted)
}

fn term(expr: &NodeExpr) -> NodeTerm {
    match expr {
        NodeExpr::Name(name) => NodeTerm::Name(name.clone()),
        NodeExpr::Attribute { key, value } => NodeTerm::Attribute(key.clone(), value.clone()),
    }
}

/// The whole offer. `members_stop_ms` is what the stops of its members add.
pub(super) fn offer(found: &Found, reading: &Reading, members_stop_ms: u64) -> Offer {
    let cannot = match reading.load_state.as_str() {
        "loaded" => None,
        "masked" => Some("it is masked".to_owned()),
        "not-found" => Some("systemd finds no file of this unit".to_owned()),
        other => Some(format!("systemd cannot load it ({other})")),
    };
    let enabled = matches!(reading.unit_file_state.as_str(), "enabled" | "enabled-runtime");
    let last_look_ms = if found.gone.is_some() { millis(remains::LIMIT) } else { 0 };
    Offer {
        definition: found.definition.clone(),
        fault: found.fault.clone().or(cannot),
        gated: !gate_faults(reading).iter().any(GateFault::opens) && reading.load_state == "loaded",
        enabled: enabled || found.pulled_in,
        stop_budget_ms: stop_budget_ms(reading).saturating_add(members_stop_ms).saturating_add(last_look_ms),
        present: true,
    }
}

/// What the unit's gate lacks, by what PID 1 has loaded.
pub(super) fn gate_faults(reading: &Reading) -> Vec<GateFault> {
    let asserts = reading.asserts.iter().map(|assert| AssertSeen {
        name: assert.name.clone(),
        trigger: assert.trigger,
        negate: assert.negate,
        parameter: assert.parameter.clone(),
    });
    let seen = LoadedUnit {
        load_state: reading.load_state.clone(),
        asserts: asserts.collect(),
        wants: reading.relations.wants.clone(),
        after: reading.relations.after.clone(),
        drop_in_paths: reading.drop_in_paths.clone(),
    };
    units::gate::audit(&reading.id, &reading.id, &seen)
}

/// The longest that an orderly stop of the unit itself takes, in milliseconds.
pub(super) fn stop_budget_ms(reading: &Reading) -> u64 {
    match reading.unit_type() {
        "service" | "mount" | "socket" | "swap" => match reading.timeout_stop {
            Some(time) => millis(time).saturating_mul(STOP_PHASES).saturating_add(STOP_SLACK_MS),
            None => STOP_ENDLESS_MS,
        },
        _ => STOP_AT_ONCE_MS,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Section {
        let dir = tempfile::tempdir().expect("scratch directory");
        let file = dir.path().join("etc/systemd/system/db.service");
        std::fs::create_dir_all(file.parent().expect("directory")).expect("directory");
        let text = format!(
            "[Unit]\nAssertPathExists=/run/convoke/permits/%n\n[Service]\nExecStart=/bin/true\n[X-Convoke]\n{text}"
        );
        std::fs::write(&file, text).expect("unit file");
        let unit = units::unit(dir.path(), "db.service").expect("a cluster unit");
        unit.section.unwrap_or_else(|| panic!("{:?}", unit.diagnostics))
    }

    #[test]
    fn an_empty_section_is_an_exclusive_unit_with_every_default() {
        assert_eq!(definition(&section("Replicas=1\n")), Definition::exclusive());
    }

    #[test]
    fn a_replicated_unit_has_the_defaults_of_one() {
        assert_eq!(definition(&section("Replicas=all\n")), Definition::replicated(Replicas::All));
        assert_eq!(definition(&section("Replicas=3\n")), Definition::replicated(Replicas::Count(3)));
    }

    #[test]
    fn every_key_arrives() {
        let text = "Fencing=lease\nOnQuorumLoss=stop\nOnStopFailure=block\nRequires=a.service b.service\n\
                    Wants=w.service\nBindsTo=bt.service\nPartOf=p.target\n\
                    After=c.service\nBefore=d.service\nConflicts=e.service\nSameNodeAs=ip.service\nNodes=n1 rack=a\nPrefer=n2:50 ssd=yes\nStickiness=7\n\
                    OtherNodeThan=f.service\nAvoid=n3:20\nSpread=rack\nUses=memory=4K licences=1\nPriority=-3\n\
                    StartOneAtATime=yes\nFailuresMax=3\nFailureResetSec=2min\nRank=/bin/rank a\n";
        let set = |names: &[&str]| names.iter().map(|name| UnitName::from(*name)).collect();
        let expected = Definition {
            fencing: Fencing::Lease,
            on_stop_failure: OnStopFailure::Block,
            requires: set(&["a.service", "b.service"]),
            wants: set(&["w.service"]),
            binds_to: set(&["bt.service"]),
            part_of: set(&["p.target"]),
            after: set(&["c.service"]),
            before: set(&["d.service"]),
            conflicts: set(&["e.service"]),
            same_node_as: set(&["ip.service"]),
            nodes: vec![NodeTerm::Name("n1".into()), NodeTerm::Attribute("rack".into(), "a".into())],
            prefer: vec![
                Preference { term: NodeTerm::Name("n2".into()), weight: 50 },
                Preference { term: NodeTerm::Attribute("ssd".into(), "yes".into()), weight: 100 },
                Preference { term: NodeTerm::Name("n3".into()), weight: -20 },
            ],
            other_node_than: set(&["f.service"]),
            spread: Some("rack".into()),
            uses: [("memory".to_owned(), 4096), ("licences".to_owned(), 1)].into(),
            priority: -3,
            start_one_at_a_time: true,
            stickiness: Some(7),
            failures_max: 3,
            failure_reset_ms: 120_000,
            rank: true,
            ..Definition::exclusive()
        };
        assert_eq!(definition(&section(text)), expected);
    }

    #[test]
    fn failures_kept_for_ever_overflow_nothing() {
        let never = definition(&section("FailureResetSec=infinity\n")).failure_reset_ms;
        assert!(never > 1_000_000_000_000 && never.checked_mul(3).is_some());
    }
}
