//! The cluster daemon and its command line: every clock, socket and process of Convoke is here.

pub mod agent;
pub mod api;
pub mod atomic;
mod child;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod doors;
pub mod fence_agents;
pub mod identity;
pub mod init;
pub mod join;
mod last_end;
pub mod leader;
pub mod log;
pub mod net;
pub mod ocf;
pub mod paths;
pub mod pki;
pub mod secrets;
pub mod session;
pub mod tls;
pub mod watchdog;
mod xml;
