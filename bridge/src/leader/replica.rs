//! The replicated state as Raft feeds it: entries applied in order, snapshots given and taken.

use consensus::MachineRequest;
use policy::{Event, FEATURE_LEVEL, KeptPlan, State, apply};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::entry;
use super::times::Elections;

/// The state of this voter.
#[derive(Debug, Default)]
pub struct Replica {
    /// The state.
    pub(super) state: State,
    /// The plan on it, while this voter leads.
    pub(super) kept: KeptPlan,
    /// What happened since it was last looked at.
    pub(super) happenings: Vec<Event>,
    /// Whether anything was applied since it was last looked at.
    pub(super) changed: bool,
    /// Index of the last entry that was not refused: the state is the same as then, but for index and time.
    pub(super) effective: u64,
    /// The times that this voter's Raft was opened with.
    pub(super) opened: Option<Elections>,
}

impl Replica {
    /// Serves one request of Raft.
    pub(super) fn serve(&mut self, request: MachineRequest) {
        match request {
            MachineRequest::Apply { entries, reply } => {
                let mut answers = Vec::with_capacity(entries.len());
                for (index, _, bytes) in entries {
                    let entry = match entry::decode(index, &bytes) {
                        Ok(entry) => entry,
                        Err(failure) => {
                            let why = format!("entry {index} is not understood by this version: {failure}");
                            error!(%why, "this voter stops");
                            // Raft stops with the reason, or has stopped already.
                            let _ = reply.send(Err(why));
                            return;
                        }
                    };
                    let outcome = apply(&mut self.state, &entry);
                    if let Err(why) = knows_the_rules(&self.state) {
                        error!(%why, "this voter stops");
                        // As above.
                        let _ = reply.send(Err(why));
                        return;
                    }
                    if outcome.is_ok() {
                        self.effective = index;
                        self.kept.note(&self.state, &entry.command);
                    }
                    let outcome = outcome.map(|happenings| self.happenings.extend(happenings));
                    answers.push(entry::encode_outcome(&outcome));
                }
                self.changed = true;
                // Raft may be stopping.
                let _ = reply.send(Ok(answers));
            }
            MachineRequest::Snapshot { reply } => match rmp_serde::to_vec_named(&self.state) {
                Ok(bytes) => {
                    // Raft may be stopping.
                    let _ = reply.send(bytes);
                }
                // Dropping the reply stops this voter.
                Err(failure) => error!(%failure, "the state cannot be encoded; this voter stops"),
            },
            MachineRequest::Restore { bytes, last_index, reply } => {
                let restored = rmp_serde::from_slice(&bytes)
                    .map_err(|failure| format!("the snapshot is not understood by this version: {failure}"));
                let known = restored.and_then(|state: State| knows_the_rules(&state).map(|()| state));
                let outcome = known.map(|state| {
                    info!(last_index, "state restored from a snapshot");
                    self.state = state;
                    self.kept.forget();
                    self.effective = last_index;
                    self.happenings.clear();
                    self.changed = true;
                });
                // Raft may be stopping.
                let _ = reply.send(outcome);
            }
        }
    }
}

/// What a later version does by rules that this one does not have, it cannot do: its state would become another one than its
/// peers' (F20).
fn knows_the_rules(state: &State) -> Result<(), String> {
    match state.feature_level {
        level if level > FEATURE_LEVEL => Err(format!(
            "the cluster has gone on to feature level {level}, and this convoked knows {FEATURE_LEVEL}: install the version of the \
             other nodes"
        )),
        _ => Ok(()),
    }
}

/// Serves Raft while its store opens: it restores the last snapshot and applies what follows before it is ready.
pub async fn replay(
    mut machine: mpsc::Receiver<MachineRequest>,
    mut opened: oneshot::Receiver<()>,
) -> (Replica, mpsc::Receiver<MachineRequest>) {
    let mut replica = Replica::default();
    loop {
        tokio::select! {
            request = machine.recv() => match request {
                Some(request) => {
                    replica.serve(request);
                    // What was told before is history: told again it would fill the journal, and hold up the first moments
                    // of a leader, when leases are short.
                    replica.happenings.clear();
                }
                None => return (replica, machine),
            },
            _ = &mut opened => return (replica, machine),
        }
    }
}
