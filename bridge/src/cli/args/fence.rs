//! The words behind `convoke fence`.

use std::time::Duration;

use clap::Subcommand;

use super::duration;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Fence {
    /// List fence devices and open fences
    List,
    /// Give your word that a lost node is off, so that its units start elsewhere
    ///
    /// If the node still runs, its units run twice and may destroy their data. Look at the machine, not at its silence:
    /// pull the plug, or see that the power is off.
    Confirm {
        /// The node
        node: String,
        /// Do not ask; for scripts that have switched the power off themselves
        #[arg(long = "yes-i-have-verified-it-is-off")]
        verified: bool,
    },
    /// Prove that the cluster can switch a node off and on again, by doing it
    ///
    /// The node is to be drained first (`convoke drain`), so that nothing is hurt. It is switched off as in a real fence,
    /// through one level of its devices, and on again, whatever `after_fence` says. How it went is kept, and shown by
    /// `convoke fence`.
    Test {
        /// The node
        node: String,
        /// Through which level of its devices; the first if none is given
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        level: Option<u32>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Return as soon as the cluster has recorded it
        #[arg(long)]
        no_wait: bool,
        /// How long to wait until the node is back: it has to boot
        #[arg(long, default_value = "10min", value_parser = duration, value_name = "TIME")]
        timeout: Duration,
    },
    /// Take back a drill that has not begun
    ///
    /// A fence that a unit waits for is not taken back so: it ends when nothing waits for it any more.
    Cancel {
        /// The node
        node: String,
    },
    /// Say whether and why a node is being fenced, what would end that, and whether it could be fenced now
    Why {
        /// The node
        node: String,
    },
    /// Show the fences and drills of the past, attempt by attempt
    History {
        /// Of this node only
        node: Option<String>,
        /// Through this device only
        #[arg(long)]
        device: Option<String>,
    },
    /// List the fence agents that are installed on this machine
    ///
    /// Each is asked for its description, and for nothing else. Needs no cluster.
    Agents,
    /// Show the options of a fence agent, whether it can prove a node off, and what is known of its traps
    ///
    /// Needs no cluster.
    Describe {
        /// The agent, as in `fence_ipmilan`
        agent: String,
    },
}
