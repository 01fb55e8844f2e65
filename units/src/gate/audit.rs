//! Judges from what PID 1 says of a loaded unit whether its gate is in force.

use super::{gate_unit, permit_path};

/// One element of systemd's `Asserts` property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertSeen {
    /// `AssertPathExists` and so on.
    pub name: String,
    /// Written with `|`.
    pub trigger: bool,
    /// Written with `!`.
    pub negate: bool,
    /// Its parameter, expanded.
    pub parameter: String,
}

/// What PID 1 says of a unit, read afresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedUnit {
    /// `LoadState`.
    pub load_state: String,
    /// `Asserts`.
    pub asserts: Vec<AssertSeen>,
    /// `Wants`.
    pub wants: Vec<String>,
    /// `After`.
    pub after: Vec<String>,
    /// `DropInPaths`.
    pub drop_in_paths: Vec<String>,
}

/// What a gate lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateFault {
    /// It would start without a permit.
    #[error("no assert on {permit}")]
    NoAssert {
        /// The permit's path.
        permit: String,
    },
    /// It has an assert with `|`, which another one could outvote.
    #[error("the assert on {permit} is a triggering one")]
    TriggeringAssert {
        /// The permit's path.
        permit: String,
    },
    /// A start does not ask the cluster.
    #[error("does not want {gate}")]
    NotWanting {
        /// The service that asks.
        gate: String,
    },
    /// A start does not wait for the answer.
    #[error("is not ordered after {gate}")]
    NotOrdered {
        /// The service that asks.
        gate: String,
    },
    /// The generated drop-in is not among those loaded.
    #[error("{file} is not loaded")]
    NoDropIn {
        /// Name of the drop-in.
        file: &'static str,
    },
}

impl GateFault {
    /// Whether the unit can start without a permit. The other faults only make starts fail or go unasked,
    /// or tell that the gate stands on the administrator's static assert alone.
    pub fn opens(&self) -> bool {
        matches!(self, GateFault::NoAssert { .. } | GateFault::TriggeringAssert { .. })
    }
}

/// What the gate of `unit` lacks on the permit of `owner`, which is the unit itself unless it is a member.
/// A masked unit cannot start and lacks nothing (row 44), nor does one that systemd does not know.
pub fn audit(unit: &str, owner: &str, seen: &LoadedUnit) -> Vec<GateFault> {
    if matches!(seen.load_state.as_str(), "masked" | "not-found" | "error" | "bad-setting" | "merged") {
        return Vec::new();
    }
    let permit = permit_path(owner);
    let gate = gate_unit(owner);
    let mut faults = Vec::new();
    let mut matching =
        seen.asserts.iter().filter(|a| a.name == "AssertPathExists" && !a.negate && a.parameter == permit);
    // Several asserts on the permit are no fault as long as one of them is a plain one.
    match matching.clone().find(|a| !a.trigger).or_else(|| matching.next()) {
        None => faults.push(GateFault::NoAssert { permit }),
        Some(assert) if assert.trigger => faults.push(GateFault::TriggeringAssert { permit }),
        Some(_) => {}
    }
    if !seen.wants.contains(&gate) {
        faults.push(GateFault::NotWanting { gate: gate.clone() });
    }
    if !seen.after.contains(&gate) {
        faults.push(GateFault::NotOrdered { gate });
    }
    let file = if unit == owner { super::GATE_FILE } else { super::MEMBER_FILE };
    let loaded = |path: &String| path.rsplit('/').next() == Some(file);
    if !seen.drop_in_paths.iter().any(loaded) {
        faults.push(GateFault::NoDropIn { file });
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> LoadedUnit {
        LoadedUnit {
            load_state: "loaded".into(),
            asserts: vec![AssertSeen {
                name: "AssertPathExists".into(),
                trigger: false,
                negate: false,
                parameter: "/run/convoke/permits/db.service".into(),
            }],
            wants: vec!["convoke-gate@db.service.service".into()],
            after: vec!["basic.target".into(), "convoke-gate@db.service.service".into()],
            drop_in_paths: vec!["/run/systemd/generator.early/db.service.d/~convoke-gate.conf".into()],
        }
    }

    fn faults(change: impl FnOnce(&mut LoadedUnit)) -> Vec<GateFault> {
        let mut unit = good();
        change(&mut unit);
        audit("db.service", "db.service", &unit)
    }

    #[test]
    fn a_gate_in_force_has_no_fault() {
        assert_eq!(faults(|_| {}), []);
    }

    #[test]
    fn each_missing_part_is_a_fault() {
        let permit = || "/run/convoke/permits/db.service".to_owned();
        let gate = || "convoke-gate@db.service.service".to_owned();
        assert_eq!(faults(|u| u.asserts.clear()), [GateFault::NoAssert { permit: permit() }]);
        assert_eq!(faults(|u| u.asserts[0].negate = true), [GateFault::NoAssert { permit: permit() }]);
        assert_eq!(
            faults(|u| u.asserts[0].name = "ConditionPathExists".into()),
            [GateFault::NoAssert { permit: permit() }]
        );
        assert_eq!(
            faults(|u| u.asserts[0].trigger = true),
            [GateFault::TriggeringAssert { permit: permit() }]
        );
        assert_eq!(faults(|u| u.wants.clear()), [GateFault::NotWanting { gate: gate() }]);
        assert_eq!(faults(|u| u.after.clear()), [GateFault::NotOrdered { gate: gate() }]);
        assert_eq!(faults(|u| u.drop_in_paths.clear()), [GateFault::NoDropIn { file: "~convoke-gate.conf" }]);
    }

    #[test]
    fn a_plain_assert_beside_a_triggering_one_is_enough() {
        assert_eq!(
            faults(|u| {
                let mut other = u.asserts[0].clone();
                other.trigger = true;
                u.asserts.insert(0, other);
            }),
            []
        );
    }

    #[test]
    fn masked_is_not_ungated() {
        assert_eq!(faults(|u| *u = LoadedUnit { load_state: "masked".into(), ..LoadedUnit::default() }), []);
    }

    #[test]
    fn a_member_is_judged_by_its_owner() {
        let mut unit = good();
        assert!(audit("db.socket", "other.service", &unit).iter().any(GateFault::opens));
        unit.drop_in_paths = vec!["/run/systemd/generator.early/db.socket.d/~convoke-member.conf".into()];
        assert_eq!(audit("db.socket", "db.service", &unit), []);
    }
}
