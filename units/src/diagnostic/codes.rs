//! The table of codes: one place for number, meaning and remedy.
//!
//! A number is never reused for another meaning. `docs/errors.md` is [`page`], compared by a test.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($name:ident $number:literal $meaning:literal, $remedy:literal;)*) => {
        /// Stable code of a finding, shown as `U` and four digits.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $meaning] #[serde(rename = $number)] $name,)*
        }

        impl Code {
            /// Every code, in order of number.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The code as shown: `U0012`.
            pub fn number(self) -> &'static str {
                match self { $(Code::$name => $number),* }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $meaning),* }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Code::$name => $remedy),* }
            }
        }
    };
}

codes! {
    InvalidHeader "U0001" "A section header has no closing bracket or holds characters that systemd refuses.",
        "Write the header as `[Name]` on a line of its own. systemd refuses a unit file with such a line, and in a drop-in drops everything after it.";
    NotUtf8 "U0002" "A line is not valid UTF-8.",
        "Save the file as UTF-8. systemd stops reading the file at this line; of a file in UTF-16 it reads nothing.";
    LineTooLong "U0003" "A line, with its continuations, is longer than the 1 MiB that systemd reads.",
        "Shorten it. systemd stops reading the file at this line.";
    OutsideSection "U0004" "An assignment stands before the first section header.",
        "Move it below the header it belongs to. systemd ignores it where it is.";
    MissingEquals "U0005" "A line is neither a header, a comment nor `Key=value`.",
        "Write `Key=value`, or `#` before a comment. systemd ignores such a line.";
    NearMissHeader "U0006" "A header looks like `[X-Convoke]` but is not it.",
        "Write exactly `[X-Convoke]`. The unit is kept shut meanwhile, because somebody meant it to be a cluster unit.";
    Unreadable "U0007" "A file or directory of a unit cannot be read.",
        "Look at what it is (a regular file of up to 4 MiB is read), at its permissions and at the disk. The gates of the last good run are kept meanwhile.";
    TypeWide "U0010" "`[X-Convoke]` stands in a drop-in for every unit of a type, such as `service.d/`.",
        "Move the section to drop-ins of the units that are meant: `NAME.d/`, or `PREFIX-.service.d/` for a family.";
    NoUnitFile "U0011" "There is a section for a unit that has no unit file on this node.",
        "Install the unit, or remove the drop-in. A misspelt directory name is the usual cause.";
    EnabledAtBoot "U0012" "An exclusive unit is also enabled at boot.",
        "Harmless: its gate refuses until the cluster starts it. `systemctl disable` it to keep the boot log quiet.";
    Masked "U0013" "A cluster unit is masked on this node.",
        "Nothing can start it here. `systemctl unmask` it if this node is to run it.";
    Protected "U0014" "`[X-Convoke]` is on a unit that the system or convoked itself needs in order to start.",
        "Remove the section. Such a unit is not gated, because the gate would hold up the boot.";
    UnderAlias "U0015" "The section stands in a drop-in that is named after an alias of the unit.",
        "It applies to the unit's real name, which is the cluster's name of it. Rename the drop-in directory, so that other nodes agree.";
    UserUnit "U0016" "`[X-Convoke]` is on a unit of user managers.",
        "Only units of the system manager can be cluster units. The section has no effect there.";
    UnitType "U0017" "Units of this type cannot be cluster units.",
        "Use a service, socket, timer, path, mount, swap, target or slice.";
    LongName "U0018" "A unit's name is so long that its gate cannot bear it.",
        "Give the unit a shorter name, of 234 characters at the most. systemd allows 255, of which `convoke-gate@….service` needs 21.";
    UnknownKey "U0020" "A key in `[X-Convoke]` is not known.",
        "Correct the spelling. Unknown keys are errors, because a rule that somebody relies on would not be in force.";
    BadValue "U0022" "A key in `[X-Convoke]` has a value that it cannot have.",
        "The help under the message lists what it takes.";
    BadSpecifier "U0023" "A value uses a `%` specifier that the cluster does not expand.",
        "Use `%n %N %p %i %I %j`, or `%%` for a percent sign. What differs from node to node, such as `%H`, cannot be part of a definition that all nodes share.";
    BadUnitName "U0024" "A value that must be a unit name is none.",
        "Write the full name with its type: `db.service`.";
    SelfReference "U0025" "A unit names itself.",
        "Remove it: a unit cannot wait for, or stand beside, itself.";
    NeedsStop "U0026" "`Fencing=lease` or `watchdog` is used without a stop at the loss of quorum.",
        "Say `OnQuorumLoss=stop` or `reboot`, or `Fencing=required`: a unit that goes on after its lease would run twice.";
    NotExclusive "U0027" "`Replicas=1` with `Fencing=none` is not exclusive.",
        "The unit may run twice after the loss of a node. Say `Fencing=required` unless that is harmless.";
    LeaseExclusive "U0028" "An exclusive unit relies on `Fencing=lease`.",
        "It is exclusive only while convoked lives and is scheduled on a lost node. `Fencing=required` needs no such trust.";
    WatchdogExclusive "U0029" "An exclusive unit relies on `Fencing=watchdog`.",
        "It is exclusive only where a lost node is reset by its watchdog. A virtual machine that is paused escapes it: where machines can be paused, suspended or migrated, say `Fencing=required`.";
    RepeatedItem "U0030" "A list names the same thing twice.",
        "Remove one of them; for weights the last one counts.";
    LazyUnmount "U0031" "An exclusive mount has `LazyUnmount=yes`.",
        "Remove it: a lazily unmounted file system looks gone and is still written to.";
    KillMode "U0032" "An exclusive unit has a `KillMode=` that leaves processes behind.",
        "Use `control-group` or `mixed`: left-over processes would go on beside the next start elsewhere.";
    NoSigkill "U0033" "An exclusive unit has `SendSIGKILL=no`.",
        "Remove it: processes that ignore the stop would go on beside the next start elsewhere.";
    EndlessStop "U0034" "An exclusive unit has no limit on the time its stop takes.",
        "Set a finite `TimeoutStopSec=`: the cluster must know how long a node needs to stop what it holds.";
    NoStaticAssert "U0040" "An exclusive unit has no gate of its own beside the generated one.",
        "Add `AssertPathExists=/run/convoke/permits/%n` to the `[Unit]` section of a drop-in in /etc; it keeps the unit shut even when the package is gone.";
    NeededAtBoot "U0041" "A gated mount or service is needed by an early boot target; a refusal would end in emergency mode or an ordering cycle.",
        "Give the fstab line `nofail`, `noauto` or `_netdev`, or take the unit out of that target. It is NOT gated until then.";
    SharedMember "U0042" "A unit belongs to two cluster units, so neither permit can stand for it.",
        "Give it an `[X-Convoke]` section of its own. It is NOT gated until then.";
    NoCondition "U0043" "`RootDirectory=`, `TemporaryFileSystem=` or the like hides the permit from `ExecCondition=`, so that part of the gate is left out.",
        "On systemd 254 and later an automatic restart is then guarded by the daemon's audit only. Consider `Restart=no`.";
    Upheld "U0044" "A unit has `Upholds=` on a cluster unit.",
        "systemd asks again and again when the cluster refuses. Use `Wants=`.";
    RequiredUnordered "U0045" "A unit requires a cluster unit but is not ordered after it.",
        "Add `After=`: without it the unit starts although the cluster refuses what it requires.";
    GateOutranked "U0046" "A drop-in outranks the generated gate.",
        "Rename or remove it. Drop-ins named `~convoke-…` are the generator's, and no empty `Assert…=` may sort after them.";
    PulledInUngated "U0047" "A refused start of an exclusive unit still starts a service that it requires.",
        "Give that service an `[X-Convoke]` section too if it must not run on the wrong node.";
    TriggerOnly "U0048" "A timer, path or socket is a cluster unit, but not the service that it starts.",
        "By hand that starts on any node. Behind a socket, give it the section instead: an enabled socket belongs to its service and starts with it. Behind a timer, let both belong to a target that has the section, see TIMERS in convoke.unit(5).";
    TemplateMember "U0049" "A unit belongs to a template, but to no certain instance of it.",
        "Give it an `[X-Convoke]` section of its own. It is NOT gated until then.";
    Automounted "U0050" "An automount unit starts a mount that is a cluster unit.",
        "Remove the automount: each access asks the cluster, and waits for its answer.";
    EndsByItself "U0051" "A service with `Type=oneshot` is over when its work is done, which the cluster takes for a failure.",
        "Add `RemainAfterExit=yes`, so that it counts as active from then on; else it is tried on one node after another. One that a timer is to start again and again has no section of its own, see U0059.";
    BadAssembly "U0052" "`Assembly=` lacks a key that it cannot work without, or stands beside one that it does not go with.",
        "A clustered service is a service of several replicas with `Position=` and `StartAlone=`; `GatherThen=best` needs `GatherWaitSec=`.";
    NotAssembled "U0053" "A key of a clustered service's boot-up stands without `Assembly=`.",
        "Say `Assembly=one-then-serial` or `all-together`, or remove the key: it would not be in force.";
    NoProgram "U0054" "A program that the cluster is to run for the unit is not there, or cannot be executed.",
        "Install it on this node, or correct the path. Until then nobody can say how far this node's data is or how its copy is, and the service may wait for it or run unchecked.";
    BadRole "U0055" "`Rank=` stands on a unit that cannot be a role.",
        "A role is exclusive and names one unit in `SameNodeAs=`: the replicated one whose copies are ranked.";
    NoCheck "U0057" "A time of a health check stands without `CheckExec=`.",
        "Name the program of the check in `CheckExec=`, or remove the time.";
    NeedsNeighbour "U0058" "A cluster unit needs another, of which there is one copy, on its own node, and may be placed on others.",
        "Say `SameNodeAs=` of it in `[X-Convoke]` too: systemd's own `Requires=`, `BindsTo=` and `Slice=` are about one node, and each start elsewhere fails.";
    NeverTriggered "U0059" "A service behind a timer or path has a section of its own, so that the timer never starts it.",
        "A cluster unit runs when a person or the cluster starts it, and a timer is neither. Take the section out of both, and let them belong to a target that has it: see TIMERS in convoke.unit(5).";
    TriggerApart "U0060" "A socket or path and the service that it starts are both cluster units, and may be placed on two nodes.",
        "Take the section out of the socket: enabled, it belongs to its service and starts with it. Or say `SameNodeAs=` and `After=` of it in the section of the service: systemd passes nothing from node to node, and refuses a socket whose service is active without it.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

/// The text of `docs/errors.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# What `convoke verify` says\n\n\
         Every finding has a code. An **error** keeps the cluster from starting the unit, and its gate stays shut;\n\
         a warning or a hint changes nothing. This page is made from the table in `units/src/diagnostic/codes.rs`.\n",
    );
    for code in Code::ALL {
        out.push_str(&format!("\n## {code}\n\n{}\n\n{}\n", code.meaning(), code.remedy()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_rise() {
        let numbers: Vec<_> = Code::ALL.iter().map(|c| c.number()).collect();
        assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{numbers:?}");
    }

    /// Set `UPDATE_GOLDEN=1` to write the page anew.
    #[test]
    fn the_book_lists_the_codes_of_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page());
    }
}
