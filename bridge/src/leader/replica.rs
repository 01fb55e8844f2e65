//! The replicated state as Raft feeds it: entries applied in order, snapshots given and taken.

use consensus::MachineRequest;
use policy::{Event, FEATURE_LEVEL, KeptPlan, State, apply};
use ring::digest::{SHA256, digest};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::entry;
use super::times::Elections;
use crate::pki::hex;
use crate::session::Accord;
use crate::session::message::Digest;

/// How this voter's state is compared with that of the others (F20).
#[derive(Clone, Debug)]
pub struct Comparison {
    /// At which indices: the multiples of it.
    pub every: u64,
    /// Which program this is. Where that is not known, there is nothing to compare with.
    pub program: Option<String>,
    /// By which it is said.
    pub accord: Accord,
}

/// The state of this voter.
#[derive(Debug)]
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
    comparison: Comparison,
}

impl Replica {
    /// The state before the first entry.
    #[must_use]
    pub fn new(comparison: Comparison) -> Self {
        Self {
            state: State::default(),
            kept: KeptPlan::default(),
            happenings: Vec::new(),
            changed: false,
            effective: 0,
            opened: None,
            comparison,
        }
    }

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
                    self.say_what_it_is(index);
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
                let restored = entry::strictly(&bytes)
                    .map_err(|failure| format!("the snapshot is not understood by this version: {failure}"));
                let known = restored.and_then(|state: State| knows_the_rules(&state).map(|()| state));
                let outcome = known.map(|state| {
                    info!(last_index, "state restored from a snapshot");
                    self.state = state;
                    self.comparison.accord.forget();
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

    /// Says what the state is, if this is an index at which voters compare theirs. An entry of Raft's own that has such an index
    /// is seen by no voter.
    fn say_what_it_is(&self, index: u64) {
        let Comparison { every, program, accord } = &self.comparison;
        let due = index.is_multiple_of(*every);
        let Some(program) = program.clone().filter(|_| due) else { return };
        match rmp_serde::to_vec_named(&self.state.gist()) {
            Ok(bytes) => {
                let state = hex(digest(&SHA256, &bytes).as_ref());
                accord.say(Digest { index, program, state });
            }
            Err(failure) => error!(%failure, "the state cannot be encoded, and is compared with nobody's"),
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

/// Serves Raft with an empty replica while its store opens: it restores the last snapshot and applies what follows before it is
/// ready.
pub async fn replay(
    mut machine: mpsc::Receiver<MachineRequest>,
    mut opened: oneshot::Receiver<()>,
    mut replica: Replica,
) -> (Replica, mpsc::Receiver<MachineRequest>) {
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

#[cfg(test)]
mod tests {
    use consensus::Bytes;
    use policy::{Command, Origin, Wish};

    use super::*;

    fn voter() -> (Replica, Accord) {
        let accord = Accord::default();
        let comparison =
            Comparison { every: 4, program: Some("this one".to_owned()), accord: accord.clone() };
        (Replica::new(comparison), accord)
    }

    /// Every third is refused: the same client has said something later.
    fn issue(index: u64, id: &str) -> (u64, u64, Bytes) {
        let number = if index.is_multiple_of(3) { 1 } else { index };
        let origin = Some(Origin { client: "cli".to_owned(), number });
        let (id, secret_hash, by) = (id.to_owned(), String::new(), "alice".to_owned());
        let command = Command::Wish(Wish::IssueToken { id, secret_hash, valid_ms: 60_000, by });
        let stamped = entry::Stamped { time: index * 10, wall_ms: index, origin, command };
        (index, 1, Bytes::from(entry::encode(&stamped).expect("encoded")))
    }

    fn feed(replica: &mut Replica, indices: impl IntoIterator<Item = u64>, id: &str) {
        let entries: Vec<_> = indices.into_iter().map(|index| issue(index, id)).collect();
        let (reply, mut answer) = oneshot::channel();
        replica.serve(MachineRequest::Apply { entries, reply });
        answer.try_recv().expect("an answer").expect("applied");
    }

    #[test]
    fn what_is_beyond_this_version_stops_the_voter() {
        let ahead = FEATURE_LEVEL + 1;
        let as_json = serde_json::to_value(State::default()).expect("a state");
        for (change, expected) in [
            (("feature_level", serde_json::json!(ahead)), "this convoked knows 1"),
            (("colour", serde_json::json!("red")), "colour"),
        ] {
            let mut state = as_json.clone();
            state[change.0] = change.1;
            let bytes = Bytes::from(rmp_serde::to_vec_named(&state).expect("a snapshot"));
            let (mut replica, _) = voter();
            let (reply, mut answer) = oneshot::channel();
            replica.serve(MachineRequest::Restore { bytes, last_index: 6, reply });
            let failure = answer.try_recv().expect("an answer").expect_err("it stops");
            assert!(failure.contains(expected), "{failure}");
            assert_eq!(replica.state, State::default());
        }
        let (mut replica, said) = voter();
        replica.state.feature_level = ahead;
        let (reply, mut answer) = oneshot::channel();
        replica.serve(MachineRequest::Apply { entries: vec![issue(4, "token")], reply });
        answer.try_recv().expect("an answer").expect_err("it stops");
        assert_eq!(said.said(), None);
    }

    #[test]
    fn a_voter_says_the_same_straight_and_after_a_snapshot() {
        let (mut straight, said) = voter();
        feed(&mut straight, 1..=6, "token");
        assert_eq!(said.said().map(|digest| digest.index), Some(4));
        let (reply, mut answer) = oneshot::channel();
        straight.serve(MachineRequest::Snapshot { reply });
        let bytes = Bytes::from(answer.try_recv().expect("the state"));

        let (mut restored, after) = voter();
        feed(&mut restored, 1..=4, "another");
        assert_ne!(after.said(), said.said(), "another entry makes another state");
        let (reply, mut answer) = oneshot::channel();
        restored.serve(MachineRequest::Restore { bytes, last_index: 6, reply });
        answer.try_recv().expect("an answer").expect("restored");
        assert_eq!(after.said(), None, "what was said is not of this state");

        feed(&mut straight, 7..=8, "token");
        feed(&mut restored, 7..=8, "token");
        assert_eq!(said.said().map(|digest| digest.index), Some(8));
        assert_eq!(after.said(), said.said());
    }
}
