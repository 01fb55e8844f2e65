//! Questions: to the leader if one answers, else to this node's own memory.
//!
//! Any user of the node may ask, as often as they like, and the leader has leases to answer. So all who ask for the picture at
//! a time share one, and of the other questions a few are under way.

use std::sync::Arc;
use std::time::Duration;

use policy::{NodeId, Suppose, UnitName};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Shared, WISH_LIMIT, unexpected};
use crate::api::error::ApiError;
use crate::api::memory::Here;
use crate::api::model::{Forecast, HistoryLine, Overview, UnitWhy};
use crate::api::names;
use crate::api::together::Together;
use crate::leader::FORECAST_LIMIT;
use crate::session::AskError;
use crate::session::message::{Reply, Request};

/// How long a reader waits for the leader before it gets what this node remembers. Longer than an election would
/// make `status` useless when it is needed most.
const READ_LIMIT: Duration = Duration::from_millis(1_500);
/// The same where the lease has ended long ago: an election would be over by now.
const LONG_ALONE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(300));
/// Longest wait for a change in one call; below the 25 s after which bus libraries give up.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks for a change where this node does not hold the log: at first, and at the most. What an operator
/// waits for is done within some hundredths of a second, or takes long.
const CHANGE_LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(160));
/// Questions of this node, pictures aside, that wait for the leader at a time. Each is answered within milliseconds; the others
/// wait their turn.
const AT_ONCE: usize = 4;

/// What is asked together.
pub(super) struct Reads {
    turns: Semaphore,
    pictures: Together<Result<Arc<Overview>, ApiError>>,
    remembered: Together<Arc<Overview>>,
    here: Together<Here>,
    changes: Together<Option<u64>>,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            pictures: Together::new(),
            remembered: Together::new(),
            here: Together::new(),
            changes: Together::spaced(CHANGE_LOOKS.0),
        }
    }
}

impl Shared {
    /// The leader's picture, or an error: what names are resolved by must be confirmed.
    pub(super) async fn picture(&self) -> Result<Overview, ApiError> {
        self.api.in_the_cluster()?;
        match self.api.asker.ask(Request::Overview, WISH_LIMIT).await? {
            Reply::Overview(picture) => Ok(*picture),
            other => Err(unexpected(other)),
        }
    }

    pub(super) async fn node(&self, name: &str) -> Result<NodeId, ApiError> {
        names::node(&self.picture().await?, name)
    }

    /// A node by name; an empty name means none.
    pub(super) async fn some_node(&self, name: &str) -> Result<Option<NodeId>, ApiError> {
        if name.is_empty() { Ok(None) } else { self.node(name).await.map(Some) }
    }

    /// Asks the leader when it is this question's turn, no longer than an operator at a lost quorum would wait.
    pub(super) async fn read(&self, request: Request) -> Result<Reply, ApiError> {
        self.api.in_the_cluster()?;
        let limit = self.patience();
        let asking = async {
            let _turn = self.reads.turns.acquire().await;
            self.api.asker.ask(request, limit).await
        };
        self.told(timeout(limit, asking).await.unwrap_or(Err(AskError::TimedOut(limit))))
    }

    /// Asks at once: for whoever may wish something, beside all who may only ask.
    pub(super) async fn read_at_once(&self, request: Request) -> Result<Reply, ApiError> {
        self.api.in_the_cluster()?;
        self.told(self.api.asker.ask(request, self.patience()).await)
    }

    fn patience(&self) -> Duration {
        let alone = self.api.lease_ended().is_some_and(|ago| ago > LONG_ALONE.0);
        if alone { LONG_ALONE.1 } else { READ_LIMIT }
    }

    fn told(&self, answer: Result<Reply, AskError>) -> Result<Reply, ApiError> {
        match answer {
            Ok(Reply::Unable(why)) => Err(unexpected(Reply::Unable(why))),
            Ok(reply) => Ok(reply),
            Err(error) => {
                // The refusal may have come while it was waited for.
                self.api.in_the_cluster()?;
                Err(error.into())
            }
        }
    }

    pub(super) async fn overview(&self) -> Result<Arc<Overview>, ApiError> {
        let confirmed = || async {
            match self.read_at_once(Request::Overview).await? {
                Reply::Overview(picture) => Ok(Arc::from(picture)),
                other => Err(unexpected(other)),
            }
        };
        match self.reads.pictures.ask(confirmed).await {
            Err(ApiError::NoQuorum(_)) => Ok(self.remembered().await),
            told => told,
        }
    }

    async fn remembered(&self) -> Arc<Overview> {
        let remember = || async {
            let known = self.recalled_picture().await;
            let mut picture = self.here().await.overview(known);
            picture.cluster.clone_from(&self.api.cluster);
            Arc::new(picture)
        };
        self.reads.remembered.ask(remember).await
    }

    async fn recalled_picture(&self) -> Option<Overview> {
        match self.api.recall(Request::Overview).await {
            Some(Reply::Overview(picture)) => Some(*picture),
            _ => None,
        }
    }

    /// What this node knows by itself: it looks at the other voters for that.
    pub(super) async fn here(&self) -> Here {
        self.reads.here.ask(|| self.api.here()).await
    }

    pub(super) async fn why(&self, unit: UnitName) -> Result<UnitWhy, ApiError> {
        match self.read(Request::Why { unit: unit.clone() }).await {
            Ok(Reply::Why(answer)) => return Ok(*answer?),
            Ok(other) => return Err(unexpected(other)),
            Err(ApiError::NoQuorum(_)) => {}
            Err(error) => return Err(error),
        }
        let (known, refusal) = match self.api.recall(Request::Why { unit: unit.clone() }).await {
            Some(Reply::Why(Ok(why))) => (Some(*why), None),
            Some(Reply::Why(Err(refusal))) => (None, Some(refusal)),
            _ => (None, None),
        };
        let overview = self.recalled_picture().await;
        let here = self.here().await;
        let answer = here.why_unit(unit.as_str(), overview.map(|overview| (known, overview)));
        answer.ok_or_else(|| match refusal {
            Some(refusal) => refusal.into(),
            None => ApiError::NoQuorum(format!(
                "{}; {} is a member, keeps no log, and knows nothing of {unit}; ask on a voter",
                here.why(),
                here.name
            )),
        })
    }

    pub(super) async fn history(&self, request: Request) -> Result<Vec<HistoryLine>, ApiError> {
        let alone = match self.read(request.clone()).await {
            Ok(Reply::History(lines)) => return Ok(lines),
            Ok(other) => return Err(unexpected(other)),
            Err(ApiError::NoQuorum(_)) => self.api.recall(request).await,
            Err(error) => return Err(error),
        };
        match alone {
            Some(Reply::History(lines)) => Ok(lines),
            _ => {
                let here = self.here().await;
                Err(ApiError::NoQuorum(format!(
                    "{}; {} keeps no history, as it does not vote: ask on a voter, or see `journalctl -u convoked` here",
                    here.why(),
                    here.name
                )))
            }
        }
    }

    /// What would happen. `supposed` is made with a picture that has the nodes' ids.
    pub(super) async fn forecast(
        &self,
        supposed: impl FnOnce(&Overview) -> Result<Vec<Suppose>, ApiError>,
    ) -> Result<Forecast, ApiError> {
        let picture = self.overview().await?;
        let supposed = supposed(&picture)?;
        let of_files = supposed.iter().any(|one| matches!(one, Suppose::Offered { .. }));
        let request = Request::Forecast { supposed };
        if picture.quorum {
            // A leader that does not know a question ends the session. Findings and forecasts came with one release.
            if picture.findings.is_none() || (of_files && !picture.foretells_files) {
                let what = if of_files { "such forecasts" } else { "forecasts" };
                return Err(ApiError::Failed(format!(
                    "the node that leads runs an older convoked, which makes no {what}; update it, or let another lead"
                )));
            }
            match self.api.asker.ask(request.clone(), FORECAST_LIMIT).await {
                Ok(Reply::Forecast(answer)) => return Ok(*answer?),
                // Quorum or leadership was lost meanwhile: the same from memory.
                Ok(Reply::Unable(_)) | Err(AskError::NoSession(_)) => {}
                Ok(other) => return Err(unexpected(other)),
                // Made once more from memory, it would take as long again.
                Err(AskError::TimedOut(limit)) => {
                    let limit = limit.as_secs();
                    return Err(ApiError::Failed(format!(
                        "the leader has made no forecast within {limit} s; ask again in a moment"
                    )));
                }
                Err(error) => return Err(error.into()),
            }
        }
        match self.api.recall_within(request, FORECAST_LIMIT).await {
            Some(Reply::Forecast(answer)) => Ok(*answer?),
            Some(reply @ Reply::Declined(_)) => Err(unexpected(reply)),
            _ => {
                let here = self.here().await;
                Err(ApiError::NoQuorum(format!(
                    "{}; {} knows no state of the cluster to begin with: ask on a voter",
                    here.why(),
                    here.name
                )))
            }
        }
    }

    /// Returns once the log is longer than `index`, or at `deadline`; with what is known then.
    pub(super) async fn wait_change(&self, index: u64, limit: Duration) -> u64 {
        let changed = async {
            if let Some(mut applied) = self.api.applied.clone()
                && let Ok(now) = applied.wait_for(|now| *now > index).await
            {
                return *now;
            }
            let (mut pause, longest) = CHANGE_LOOKS;
            loop {
                if let Some(now) = self.reads.changes.ask(|| self.length()).await.filter(|now| *now > index) {
                    return now;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        };
        tokio::time::timeout(limit.min(CHANGE_LIMIT), changed).await.unwrap_or(index)
    }

    /// How long the log is by the leader's word.
    async fn length(&self) -> Option<u64> {
        match self.api.asker.ask(Request::Overview, READ_LIMIT).await {
            Ok(Reply::Overview(picture)) => Some(picture.index),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
