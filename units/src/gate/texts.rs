//! The drop-ins, word for word as they were tried.

use super::{ENVIRONMENTS, PERMITS};
use crate::name::UnitName;

/// How a unit's type is gated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A service: guarded on automatic restarts too.
    Service,
    /// A mount or swap: also stopped before the file systems go.
    Disk,
    /// A socket, path, timer, target or slice.
    Other,
}

impl Kind {
    /// The kind of a unit, or of a template's open name; `None` for types that cannot be gated.
    pub fn of(unit: &str) -> Option<Kind> {
        match UnitName::parse(&unit.replacen("@%i.", "@.", 1))?.kind {
            "service" => Some(Kind::Service),
            "mount" | "swap" => Some(Kind::Disk),
            "socket" | "path" | "timer" | "target" | "slice" => Some(Kind::Other),
            _ => None,
        }
    }
}

/// What a unit's own settings ask of its gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// `RootDirectory=`, `TemporaryFileSystem=` or the like hides the permit from `ExecCondition=`, which is left out then (row 68).
    pub hidden: bool,
    /// It is a clustered service: each start is the cluster's decision, so PID 1 makes none of its own (F16).
    pub assembled: bool,
}

/// The gate of a cluster unit (R1 for services, R1b for the rest).
pub fn own(kind: Kind, needs: Needs) -> String {
    let mut text = String::from(
        "# Written by convoke-generator. See `convoke why` when a start is refused.\n[Unit]\n\
         Wants=convoke-gate@%n.service\n\
         After=convoked.service convoke-gate@%n.service\n\
         PropagatesStopTo=convoke-gate@%n.service\n",
    );
    text.push_str(&format!("AssertPathExists={PERMITS}/%n\n"));
    match kind {
        Kind::Service => {
            text.push_str("[Service]\n");
            text.push_str(&condition("%n", needs.hidden));
            text.push_str(&format!("EnvironmentFile=-{ENVIRONMENTS}/%n\n"));
            if needs.assembled {
                text.push_str(
                    "# a member that fails may not just start again: its data may not be the latest\n",
                );
                text.push_str("Restart=no\n");
            }
        }
        Kind::Disk | Kind::Other => text.push_str(&own_dependencies(kind)),
    }
    text
}

/// The gate of a member on the permit of its owner (R3). `owner` is the owner's full name; between two
/// templates its open name, `app@%i.target`.
///
/// Goes beyond the text of the gate's table in two points, both for the reasons of the table itself: a
/// service gets `ExecCondition=` (row 23: asserts are not looked at on automatic restarts from 254 on), and
/// every type but services gets dependencies of its own (rows 55 and 59: ordering cycles at boot).
pub fn member(kind: Kind, owner: &str, hidden: bool) -> String {
    let mut text = format!(
        "# Written by convoke-generator: this unit belongs to the cluster unit {owner}.\n[Unit]\n\
         Wants=convoke-gate@{owner}.service\n\
         After=convoked.service convoke-gate@{owner}.service\n\
         AssertPathExists={PERMITS}/{owner}\n"
    );
    match kind {
        Kind::Service => {
            text.push_str("[Service]\n");
            text.push_str(&condition(owner, hidden));
        }
        Kind::Disk | Kind::Other => text.push_str(&own_dependencies(kind)),
    }
    text
}

fn condition(unit: &str, hidden: bool) -> String {
    if hidden {
        "# no ExecCondition=: it would run where RootDirectory=, TemporaryFileSystem= or the like hides the permit\n"
            .to_owned()
    } else {
        format!(
            "# on systemd 254 and later asserts are not looked at on an automatic restart\n\
             ExecCondition=+/usr/bin/test -e {PERMITS}/{unit}\n"
        )
    }
}

fn own_dependencies(kind: Kind) -> String {
    let mut text = String::from(
        "# default dependencies make a cycle with convoked.service at boot\n\
         DefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target\n",
    );
    if kind == Kind::Disk {
        text.push_str("Conflicts=umount.target\nBefore=umount.target\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Vec<&str> {
        text.lines().filter(|l| !l.starts_with('#')).collect()
    }

    #[test]
    fn a_service_is_gated_as_tried() {
        let expected = [
            "[Unit]",
            "Wants=convoke-gate@%n.service",
            "After=convoked.service convoke-gate@%n.service",
            "PropagatesStopTo=convoke-gate@%n.service",
            "AssertPathExists=/run/convoke/permits/%n",
            "[Service]",
            "ExecCondition=+/usr/bin/test -e /run/convoke/permits/%n",
            "EnvironmentFile=-/run/convoke/env/%n",
        ];
        assert_eq!(settings(&own(Kind::Service, Needs::default())), expected);
        let hidden = own(Kind::Service, Needs { hidden: true, ..Needs::default() });
        assert!(!settings(&hidden).iter().any(|l| l.starts_with("ExecCondition")), "{hidden}");
    }

    #[test]
    fn a_clustered_service_is_never_restarted_by_systemd_itself() {
        let text = own(Kind::Service, Needs { assembled: true, ..Needs::default() });
        assert_eq!(settings(&text).last(), Some(&"Restart=no"));
        assert!(!own(Kind::Service, Needs::default()).contains("Restart="));
        assert!(!own(Kind::Other, Needs { assembled: true, ..Needs::default() }).contains("Restart="));
    }

    #[test]
    fn a_mount_has_dependencies_of_its_own() {
        let expected = [
            "[Unit]",
            "Wants=convoke-gate@%n.service",
            "After=convoked.service convoke-gate@%n.service",
            "PropagatesStopTo=convoke-gate@%n.service",
            "AssertPathExists=/run/convoke/permits/%n",
            "DefaultDependencies=no",
            "Conflicts=shutdown.target",
            "Before=shutdown.target",
            "Conflicts=umount.target",
            "Before=umount.target",
        ];
        assert_eq!(settings(&own(Kind::Disk, Needs::default())), expected);
        assert_eq!(settings(&own(Kind::Other, Needs::default())), expected[..8]);
    }

    #[test]
    fn a_member_waits_for_its_owner_by_raw_name() {
        let text = member(Kind::Other, r"foo@a\x2db@c.service", false);
        let expected = [
            "[Unit]",
            r"Wants=convoke-gate@foo@a\x2db@c.service.service",
            r"After=convoked.service convoke-gate@foo@a\x2db@c.service.service",
            r"AssertPathExists=/run/convoke/permits/foo@a\x2db@c.service",
            "DefaultDependencies=no",
            "Conflicts=shutdown.target",
            "Before=shutdown.target",
        ];
        assert_eq!(settings(&text), expected);
    }

    #[test]
    fn no_assert_is_ever_triggering() {
        for text in [
            own(Kind::Service, Needs::default()),
            own(Kind::Disk, Needs::default()),
            member(Kind::Service, "x.target", false),
        ] {
            assert!(!text.contains("=|"), "{text}");
        }
    }
}
