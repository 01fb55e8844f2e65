//! How a machine becomes a node: a token, one connection, one certificate.
//!
//! The token tells the machine whom to believe; its secret tells the cluster that the machine was asked for. The
//! node's key is drawn on the machine and stays there, and nothing is written before the cluster has said yes.
//! Who may join, with which id and as what, is not decided here: `serve` asks.

mod message;
mod request;
mod serve;
mod token;

pub use message::{Approval, JoinRequest, Peer, Refusal, RefusalKind};
pub use request::{AttemptError, JoinError, Joined, Joiner, request};
pub use serve::{ServeError, serve, usable_name};
pub use token::{Token, TokenError, TokenRecord};

#[cfg(test)]
mod tests;
