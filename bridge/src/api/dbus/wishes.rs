//! What is asked of the cluster: checked where the answer is known at once, numbered, and recorded.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use policy::{UnitName, Wish};
use tokio::time::timeout;

use super::{Shared, WISH_LIMIT, unexpected};
use crate::api::document;
use crate::api::error::ApiError;
use crate::identity;
use crate::join::Token;
use crate::paths::Paths;
use crate::pki::{fingerprint, hex};
use crate::session::AskError;
use crate::session::message::{Reply, Request};

/// Longest life of a token: a forgotten one should not let anybody in next month.
const TOKEN_LIMIT_S: u32 = 7 * 24 * 3600;

impl Shared {
    pub(super) async fn wish(&self, wish: Wish) -> Result<u64, ApiError> {
        self.wish_within(WISH_LIMIT, wish).await
    }

    async fn wish_within(&self, limit: Duration, wish: Wish) -> Result<u64, ApiError> {
        self.api.in_the_cluster()?;
        let begun = Instant::now();
        // What has waited for so long is not begun: its caller has given up, and may have asked for the opposite elsewhere.
        let Ok(_one) = timeout(limit, self.one_wish.lock()).await else {
            let why = "requests before it still wait for the cluster; this one was not recorded";
            return Err(ApiError::NoQuorum(why.to_owned()));
        };
        let number = self.number.fetch_add(1, Ordering::SeqCst) + 1;
        let request = Request::Wish { client: self.client.clone(), number, wish };
        match self.api.asker.ask(request, limit.saturating_sub(begun.elapsed())).await {
            Ok(Reply::Wish(outcome)) => Ok(outcome?),
            Ok(other) => Err(unexpected(other)),
            Err(error) => {
                let error = match error {
                    AskError::TimedOut(_) => AskError::TimedOut(limit),
                    other => other,
                };
                let ApiError::NoQuorum(text) = error.into() else {
                    return Err(ApiError::Failed("convoked is stopping; ask again in a moment".to_owned()));
                };
                Err(ApiError::NoQuorum(format!("{text}; it is not known whether the request was recorded")))
            }
        }
    }

    /// Refuses at once what would only be waited for: the plan would say the same, a minute later.
    pub(super) async fn may_go(&self, unit: &UnitName, node: &str, what: &str) -> Result<(), ApiError> {
        let Reply::Why(Ok(why)) = self.read_at_once(Request::Why { unit: unit.clone() }).await? else {
            // The wish itself is refused in better words.
            return Ok(());
        };
        let there = why.unit.copies.iter().any(|copy| copy.node == node);
        let moves = what == "move";
        if there || (moves && why.unit.goal == "stopped") {
            return Ok(());
        }
        let offer = why.offers.into_iter().find(|offer| offer.node == node);
        let Some((unfit, remedy)) = offer.and_then(|offer| offer.unfit.zip(offer.remedy)) else {
            return Ok(());
        };
        // A start there ends a hold.
        if !moves && unfit.contains(" is held on ") {
            return Ok(());
        }
        Err(ApiError::Refused(format!(
            "{unit} cannot {what} {} {node}: {unfit}; {remedy}",
            if moves { "to" } else { "on" }
        )))
    }

    pub(super) async fn config(&self) -> Result<document::Settled, ApiError> {
        match self.api.asker.ask(Request::Config, WISH_LIMIT).await? {
            Reply::Config { settings, devices, nodes } => Ok(document::Settled { settings, devices, nodes }),
            other => Err(unexpected(other)),
        }
    }

    pub(super) async fn issue_token(&self, valid_seconds: u32, by: String) -> Result<String, ApiError> {
        if valid_seconds == 0 || valid_seconds > TOKEN_LIMIT_S {
            return Err(ApiError::BadInput(
                "a token is valid for at least 1 s and at most 7 days".to_owned(),
            ));
        }
        let failed =
            |error: &dyn std::error::Error| ApiError::Failed(format!("cannot make a token: {error}"));
        let enrolled = identity::load(&Paths::default()).map_err(|error| failed(&error))?;
        let enrolled = enrolled.ok_or_else(|| ApiError::Failed("this node has no identity".to_owned()))?;
        let picture = self.picture().await?;
        // Nodes that answer now come first: the joiner tries one after the other.
        let mut voters: Vec<_> = picture.nodes.iter().filter(|node| node.role != "member").collect();
        voters.sort_by_key(|node| node.state != "online");
        let addresses =
            voters.iter().flat_map(|node| &node.addresses).filter_map(|text| text.parse().ok()).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires =
            i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(i64::from(valid_seconds));
        let (token, record) = Token::generate(
            enrolled.identity.cluster,
            enrolled.identity.cluster_name,
            fingerprint(enrolled.credentials.ca()),
            addresses,
            expires,
        )
        .map_err(|error| failed(&error))?;
        self.wish(Wish::IssueToken {
            id: hex(&record.id),
            secret_hash: hex(&record.secret_sha256),
            valid_ms: u64::from(valid_seconds) * 1000,
            by,
        })
        .await?;
        Ok(token.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::reads::tests::{Member, member};
    use super::*;

    #[tokio::test]
    async fn what_waited_too_long_for_its_turn_is_not_sent_later() {
        let Member { shared, mut session, .. } = member();
        let limit = Duration::from_millis(50);
        let stop = |unit: &str| Wish::ResetFailed { unit: unit.into(), node: None };
        let before = shared.one_wish.lock().await;
        let Err(ApiError::NoQuorum(why)) = shared.wish_within(limit, stop("a.service")).await else {
            panic!("nobody answers")
        };
        assert!(why.ends_with("this one was not recorded"), "{why}");
        drop(before);
        assert!(session.try_recv().is_err(), "it was sent");
        // One that was sent may have been recorded.
        let Err(ApiError::NoQuorum(why)) = shared.wish_within(limit, stop("b.service")).await else {
            panic!("nobody answers")
        };
        assert!(why.ends_with("it is not known whether the request was recorded"), "{why}");
        assert!(session.try_recv().is_ok());
    }
}
