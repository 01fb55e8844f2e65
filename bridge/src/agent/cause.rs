//! Says in the cluster's words why a unit went down (F10).

use policy::Cause;
use units::systemd::stops::StopCause;
use units::systemd::{Reading, SystemState};

use super::event::Look;

/// `ExecMainCode` of a process that a signal ended.
const CLD_KILLED: i32 = 2;
/// The signal by which a service is stopped, unless it names another.
const SIGTERM: i32 = 15;

/// What a stop means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The permit is to be released for this cause.
    Release(Cause),
    /// It is on its way back up: wait.
    Returns,
    /// The machine goes down: say so first (F30).
    Shutdown,
}

/// The cause of a stop as the cluster takes it. `job_over` says that no job of the unit is left.
pub(super) fn meaning(stop: &StopCause, reading: &Reading, node: &str, job_over: bool) -> Meaning {
    Meaning::Release(match stop {
        StopCause::OperatorStop => Cause::Operator(format!("operator on {node} (systemctl stop)")),
        StopCause::Propagated { by } => Cause::Propagated(format!("{by} was stopped on {node}")),
        StopCause::BondEnded { by } => Cause::Failed(format!(
            "{by}, which it is bound to, ended on {node} and was not stopped (see systemctl status {by})"
        )),
        StopCause::Opposed { by } => {
            Cause::Propagated(format!("{by}, which conflicts with it, was started on {node}"))
        }
        StopCause::Isolate { target } => Cause::Propagated(format!("{target} was isolated on {node}")),
        StopCause::Unneeded => Cause::Propagated(format!("nothing on {node} needs it (StopWhenUnneeded=)")),
        StopCause::Shutdown => return Meaning::Shutdown,
        StopCause::RestartHalf if !job_over => return Meaning::Returns,
        StopCause::RestartHalf => {
            Cause::Failed(format!("did not come back from a restart: {}", ending(reading)))
        }
        // A job of a connection that this process had before.
        StopCause::Own => Cause::Ordered,
        StopCause::CleanExit => Cause::Failed("exited by itself".to_owned()),
        StopCause::Failed { .. } => Cause::Failed(ending(reading)),
    })
}

/// What ended a run without an error while nobody listened: no job tells it, only what the unit could not do itself.
pub(super) fn unheard(look: &Look) -> StopCause {
    // What isolates one of these stops the bus first.
    if look.manager == Some(SystemState::Maintenance) {
        return StopCause::Isolate { target: "rescue.target or emergency.target".to_owned() };
    }
    let reading = &look.reading;
    let endless =
        matches!(reading.restart.as_str(), "always" | "on-success") || reading.unit_type() == "target";
    let terminated = reading.exec_main_code == CLD_KILLED && reading.exec_main_status == SIGTERM;
    match look.partners_gone.first() {
        _ if !endless && !terminated => StopCause::CleanExit,
        Some(by) => StopCause::Propagated { by: by.clone() },
        None => StopCause::OperatorStop,
    }
}

/// Why a start came to nothing, for people. `job` is systemd's word for the end of its job.
///
/// Only a job that came to its turn had systemd look at the conditions and asserts: what it says of them otherwise is of
/// an earlier start, or of none.
pub(super) fn start_failure(job: &str, look: &Look) -> String {
    let reading = &look.reading;
    let nothing = matches!(reading.result.as_str(), "" | "success");
    match job {
        "assert" => "its Assert… lines do not hold (see systemctl status)".to_owned(),
        "dependency" => {
            let relations = &reading.relations;
            let needed = [&relations.requires, &relations.requisite, &relations.binds_to];
            let gone = look.partners_gone.iter().chain(&look.bonds.down);
            match gone.into_iter().find(|name| needed.iter().any(|list| list.contains(name))) {
                Some(name) => format!("{name}, which it requires on this node, did not start"),
                None => {
                    "a unit that it requires on this node did not start (see systemctl status)".to_owned()
                }
            }
        }
        "timeout" if nothing => "its start job waited longer than its JobTimeoutSec=".to_owned(),
        "done" | "skipped" if nothing && !reading.condition_result => {
            "its Condition… lines do not hold on this node (see systemctl status)".to_owned()
        }
        "done" if nothing => "it ended by itself right after its start (what does its work once needs \
                              RemainAfterExit=yes)"
            .to_owned(),
        job if nothing => format!("its start job ended as {job}"),
        _ => ending(reading),
    }
}

/// How the last run ended, for people.
pub(super) fn ending(reading: &Reading) -> String {
    let status = reading.exec_main_status;
    // The main process was not what made the result: another command of the unit was.
    let of_main = reading.exec_main_code != 0 && status != 0;
    match reading.result.as_str() {
        "exit-code" if !of_main => {
            "one of its commands (ExecStartPre=, ExecStop= and the like) failed".to_owned()
        }
        "signal" | "core-dump" if !of_main => {
            "one of its commands (ExecStartPre=, ExecStop= and the like) was killed".to_owned()
        }
        "exit-code" => format!("exit status {status}"),
        "signal" => format!("killed by signal {status}"),
        "core-dump" => format!("killed by signal {status}, core dumped"),
        "oom-kill" => "killed because memory ran out".to_owned(),
        "watchdog" => "did not feed its watchdog".to_owned(),
        "timeout" => "timed out".to_owned(),
        "exec-condition" => "its ExecCondition= does not hold on this node".to_owned(),
        "start-limit-hit" => match (reading.exec_main_code, status) {
            (0, _) | (1, 0) => "restarted too often".to_owned(),
            (1, status) => format!("restarted too often, the last time after exit status {status}"),
            (_, signal) => format!("restarted too often, the last time after signal {signal}"),
        },
        "" | "success" => "exited by itself".to_owned(),
        other => format!("Result={other}"),
    }
}
