//! Gathers what this node knows by itself: its voter's state, its agent's view, its links, its lease.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::dbus::Api;
use super::error::ApiError;
use super::memory::Here;
use crate::agent::{AgentCommand, Snapshot};
use crate::session::message::{Reply, Request};
use crate::session::{Outcast, boottime_ms};

/// For an answer from within the daemon, which nothing but a busy machine delays.
const INSIDE: Duration = Duration::from_secs(1);
/// For a look at the other voters, whose answer takes milliseconds where there is one.
const LOOK: Duration = Duration::from_millis(400);

impl Api {
    /// Refuses at once where the cluster has turned this node away: nothing else that could be said would help.
    pub(super) fn in_the_cluster(&self) -> Result<(), ApiError> {
        match self.standing.outcast() {
            None => Ok(()),
            Some(Outcast::Removed(why)) => Err(ApiError::Removed(format!(
                "{} is no node of cluster {} any more: {why}",
                self.node_name, self.cluster
            ))),
            Some(Outcast::Identity(why)) => Err(ApiError::Refused(format!(
                "cluster {} turns this machine away: {why}; stop convoked here, remove /var/lib/convoke, and join under \
                 another name",
                self.cluster
            ))),
            Some(Outcast::OldSoftware(why)) => {
                Err(ApiError::Refused(format!("cluster {} turns this node away: {why}", self.cluster)))
            }
        }
    }

    /// How long ago the lease ended; none if it lasts or there was none.
    pub(super) fn lease_ended(&self) -> Option<Duration> {
        let ends = self.lease.ends_ms();
        let ago = boottime_ms().checked_sub(ends)?;
        (ends > 0).then_some(Duration::from_millis(ago))
    }

    /// What this node knows by itself.
    pub(super) async fn here(&self) -> Here {
        let (silent, agent) = tokio::join!(self.dialer.silent(LOOK), self.snapshot());
        let unreached: BTreeSet<u64> = silent.into_iter().collect();
        Here {
            name: self.node_name.clone(),
            id: self.node.0,
            book: (*self.dialer.book().load()).clone(),
            unreached,
            lease_ended_s: self.lease_ended().map(|ago| ago.as_secs()),
            leased: self.lease.left().is_some(),
            agent,
        }
    }

    async fn snapshot(&self) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            self.agent.send(AgentCommand::Snapshot { reply }).await.ok()?;
            answer.await.ok()
        };
        timeout(INSIDE, asking).await.ok().flatten()
    }

    /// What this node's own copy of the log says; none on a member.
    pub(super) async fn recall(&self, request: Request) -> Option<Reply> {
        self.recall_within(request, INSIDE).await
    }

    /// The same, where the answer takes longer.
    pub(super) async fn recall_within(&self, request: Request, limit: Duration) -> Option<Reply> {
        let asked = self.asked.as_ref()?;
        let (reply, answer) = oneshot::channel();
        let asking = async {
            asked.send((request, reply)).await.ok()?;
            answer.await.ok()
        };
        let reply = timeout(limit, asking).await.ok().flatten()?;
        (!matches!(reply, Reply::Unable(_))).then_some(reply)
    }
}
