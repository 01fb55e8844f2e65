//! What this voter knows by itself: answers from its own last applied state, for when no leader answers.
//!
//! Confirmed by nobody, and marked so. Never an answer to what must be true now.

use tokio::sync::oneshot;

use super::core::Core;
use crate::api::picture::{self, Live};
use crate::session::message::{Reply, Request};

/// A question to this voter's own memory, and where the answer goes.
pub type Asked = (Request, oneshot::Sender<Reply>);

impl Core {
    /// Answers from the state as it was last applied here.
    pub(super) fn recall(&self, request: &Request) -> Reply {
        let state = self.state();
        if state.cluster.is_empty() {
            return Reply::Unable("this node has not received the cluster's log yet".to_owned());
        }
        // Cluster time stands still without a leader.
        let now = state.time;
        let live = Live { leader: None, term: self.leadership.term, quorum: false, cuts: Vec::new() };
        match request {
            Request::Overview => {
                let plan = policy::plan(state, now);
                Reply::Overview(Box::new(picture::overview(state, &plan, now, &live)))
            }
            Request::Why { unit } => {
                let plan = policy::plan(state, now);
                Reply::Why(picture::why(state, &plan, now, &live, unit).map(Box::new))
            }
            Request::History { lines, unit, node } => {
                Reply::History(picture::history(state, *lines, unit.as_ref(), node.as_deref()))
            }
            _ => Reply::Unable("only the leader may answer this".to_owned()),
        }
    }
}
