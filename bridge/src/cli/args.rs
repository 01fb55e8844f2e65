//! The words of the command line. They follow `systemctl` where it has one for the thing.

mod fence;
mod ocf;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use fence::Fence;
pub(super) use ocf::Ocf;

use units::section::timespan::{self, TimeSpan};

use super::exit;
use crate::identity::Role;
use crate::net::addresses;

/// A century.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);

/// Shows and steers the cluster that this node belongs to.
///
/// A unit becomes a cluster unit by a drop-in with an [X-Convoke] section; see convoke.unit(5). The cluster decides where
/// it runs, and `systemctl start` on a node asks the cluster first. Reading is for everybody, changing for root.
#[derive(Debug, Parser)]
#[command(
    name = "convoke",
    version,
    propagate_version = false,
    max_term_width = 100,
    after_help = "`convoke help exit-codes` lists the exit codes."
)]
pub(super) struct Cli {
    /// Print JSON: what was asked for, or what was done as {"text": …} a line
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a new cluster with this machine as its first node
    Init(Init),
    /// Print a token that lets another machine join
    Token {
        /// How long it lets machines in: 30min, 1h, 1d; at most 7d
        #[arg(long, default_value = "1h", value_parser = seconds)]
        valid: u32,
    },
    /// Make this machine a node of the token's cluster
    Join(Join),
    /// Show the cluster, or one node or unit of it
    Status {
        /// A node or a unit
        name: Option<String>,
    },
    /// List the cluster units
    ListUnits,
    /// List the nodes
    ListNodes,
    /// Start units, wherever the cluster places them
    Start {
        /// The units; `.service` may be left out
        #[arg(required = true)]
        units: Vec<String>,
        /// Start on this node, and forget what kept the unit from it
        #[arg(long, value_name = "NODE")]
        on: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Stop units in the whole cluster; they stay stopped until they are started again
    Stop {
        /// The units
        #[arg(required = true)]
        units: Vec<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Move a unit to another node
    Move {
        /// The unit
        unit: String,
        /// Where to; the cluster chooses if none is given
        to: Option<String>,
        /// Which copy to move, for a unit with several
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Move everything away from a node and place nothing on it
    ///
    /// With --cluster: stop everything, in the reverse order of its start and with nothing moving on its way, and start nothing
    /// before `convoke undrain --cluster`, whatever loses its power or boots meanwhile.
    Drain {
        #[command(flatten)]
        whom: Whom,
        /// Return as soon as the cluster has recorded it
        #[arg(long)]
        no_wait: bool,
        /// How long to wait until it has happened; 90s if not given, 1h with --cluster
        #[arg(long, value_parser = duration, value_name = "TIME")]
        timeout: Option<Duration>,
    },
    /// Let a drained node take units again
    ///
    /// With --cluster: start everything that is to run, in its order, and wait until it is active. Nodes that are drained by
    /// themselves stay so.
    Undrain {
        #[command(flatten)]
        whom: Whom,
        /// Return as soon as the cluster has recorded it
        #[arg(long, conflicts_with = "node")]
        no_wait: bool,
        /// How long to wait until all is active
        #[arg(long, conflicts_with = "node", default_value = "1h", value_parser = duration, value_name = "TIME")]
        timeout: Duration,
    },
    /// Keep the cluster's hands off nodes, units, or all of it
    ///
    /// What is in maintenance is neither started, stopped, moved nor recovered, a node in maintenance is not fenced, and what
    /// people do there with systemctl is their business. It lasts over restarts and reboots until `convoke unmaintain`.
    Maintain {
        #[command(flatten)]
        what: What,
        /// What for; everybody who looks is shown it
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Let the cluster act again on what was in maintenance
    Unmaintain {
        #[command(flatten)]
        what: What,
    },
    /// Say why a unit is where it is, and what would release it
    Why {
        /// The unit
        unit: String,
    },
    /// Say what would happen, without doing anything
    Plan {
        #[command(subcommand)]
        verb: Option<Plan>,
    },
    /// Show fencing and fence agents, have a drill, or vouch that a node is off
    Fence {
        #[command(subcommand)]
        verb: Option<Fence>,
    },
    /// Show what happened
    #[command(visible_alias = "history")]
    Events {
        /// Show the last lines only
        #[arg(short = 'n', long, default_value_t = 50, value_name = "NUMBER")]
        lines: u64,
        /// Go on and show what happens
        #[arg(short, long)]
        follow: bool,
        /// Only of this unit
        #[arg(short, long)]
        unit: Option<String>,
        /// Only of this node
        #[arg(long)]
        node: Option<String>,
    },
    /// Take a node out of the cluster for good
    Leave {
        /// The node; it must be down, and proven so if it held units
        node: String,
    },
    /// Forget units that no node offers any more
    Forget {
        /// The units
        #[arg(required = true)]
        units: Vec<String>,
    },
    /// Choose whose definition of a unit holds, where the nodes differ
    ///
    /// Shows what would change in it and what that leads to, and asks: Replicas=, Fencing=, OnQuorumLoss= and OnStopFailure=
    /// may be among it.
    Adopt {
        /// The unit
        unit: String,
        /// Whose files are right
        #[arg(long, value_name = "NODE")]
        from: String,
        /// Do not ask; for scripts that know what they change
        #[arg(short, long)]
        yes: bool,
    },
    /// Say whose data a clustered service does without, begins with, or throws away
    ///
    /// For a service with Assembly= that waits for members which were live last. Shows what was heard of whose data and
    /// what would be lost, and asks.
    Assemble {
        /// The unit
        unit: String,
        #[command(flatten)]
        said: Said,
        /// Do not ask; for scripts that know what is lost
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Forget the failures of units, so that avoided nodes may take them again; or of nodes that are held back or left off
    ResetFailed {
        /// Units or nodes
        #[arg(required = true)]
        units: Vec<String>,
        /// On this node only
        #[arg(long)]
        node: Option<String>,
    },
    /// Show and change the settings of the cluster
    Config {
        #[command(subcommand)]
        verb: Config,
    },
    /// Check the cluster units in the files of this node
    Verify {
        /// Units; all if none is named
        units: Vec<String>,
    },
    /// Check the definitions of all cluster units against each other and against the nodes
    ///
    /// Circles of orders, requirements that no node offers, places that are nowhere, exclusive units on nodes that nothing
    /// fences; and definitions that are not in force. With `failure_domain` in the settings also votes that are lost together. Ends
    /// with 1 if anything cannot run as long as it stands, or a witness is lost together with a voter.
    Check,
    /// Copy a ready-made definition of a clustered service to this node
    ///
    /// Writes the recipe's files to /etc/systemd/system and says what to do next. A file that was changed is left alone.
    EnableRecipe {
        /// The recipe; they are listed if none is named
        name: Option<String>,
        /// Which instance of the server's template unit, as 15-main, where there are several
        instance: Option<String>,
    },
    /// Run resource agents (OCF) as units
    Ocf {
        #[command(subcommand)]
        verb: Ocf,
    },
    /// Ask whether a unit may start here; used by convoke-gate@.service
    #[command(hide = true)]
    Gate {
        /// The unit
        unit: String,
    },
    /// Print the version
    Version,
    /// List the exit codes
    #[command(hide = true, long_about = exit::TABLE)]
    ExitCodes,
}

/// What is supposed.
#[derive(Debug, Subcommand)]
pub(super) enum Plan {
    /// Say what the cluster is about to do by itself; the same as `convoke plan`
    ///
    /// Each `convoke plan` carries the cluster's own plans out on a copy of its state, and shows where units would run, what
    /// would wait and why, and in which order things would be done. It supposes that each start and stop succeeds and that
    /// fencing works, and changes nothing.
    Now,
    /// Say what would happen if nodes fell silent at one time
    Lose {
        /// The nodes
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Say what `convoke drain` would do
    Drain {
        #[command(flatten)]
        whom: Whom,
    },
    /// Say what `convoke undrain` would do
    Undrain {
        #[command(flatten)]
        whom: Whom,
    },
    /// Say what would happen in maintenance: what is asked for, or lost, is not followed
    Maintain {
        #[command(flatten)]
        what: What,
    },
    /// Say what `convoke unmaintain` would do: everything that was put off
    Unmaintain {
        #[command(flatten)]
        what: What,
    },
    /// Say what `convoke start` would do
    Start {
        /// The units
        #[arg(required = true)]
        units: Vec<String>,
        /// Start on this node
        #[arg(long, value_name = "NODE")]
        on: Option<String>,
    },
    /// Say what `convoke stop` would do
    Stop {
        /// The units
        #[arg(required = true)]
        units: Vec<String>,
    },
    /// Say what `convoke move` would do
    Move {
        /// The unit
        unit: String,
        /// Where to; the cluster chooses if none is given
        to: Option<String>,
        /// Which copy to move, for a unit with several
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
    },
    /// Say what `convoke adopt` would do
    Adopt {
        /// The unit
        unit: String,
        /// Whose files are right
        #[arg(long, value_name = "NODE")]
        from: String,
    },
    /// Say what would happen if all nodes that have the unit had this machine's files of it
    ///
    /// They are read from the disk, so a change is told before `systemctl daemon-reload`.
    Define {
        /// The unit
        unit: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Wait {
    /// Return as soon as the cluster has recorded it
    #[arg(long)]
    pub(super) no_wait: bool,
    /// How long to wait until it has happened
    #[arg(long, default_value = "90s", value_parser = duration, value_name = "TIME")]
    pub(super) timeout: Duration,
}

/// What is drained.
#[derive(Debug, Args)]
pub(super) struct Whom {
    /// The node
    #[arg(required_unless_present = "cluster", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) node: Option<String>,
    /// The whole cluster
    #[arg(long, conflicts_with = "node")]
    pub(super) cluster: bool,
}

/// What is in maintenance.
#[derive(Debug, Args)]
pub(super) struct What {
    /// Nodes and units
    #[arg(required_unless_present = "cluster", value_name = "NODE|UNIT")]
    pub(super) names: Vec<String>,
    /// The whole cluster
    #[arg(long, conflicts_with = "names")]
    pub(super) cluster: bool,
}

impl What {
    /// As the daemon is told them: the cluster has no name.
    pub(super) fn names(&self) -> Vec<String> {
        if self.cluster { vec![String::new()] } else { self.names.clone() }
    }
}

/// One thing at a time: each counts for the data as it was shown.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Said {
    /// Do without this node's data: what only it has is lost
    #[arg(long, value_name = "NODE")]
    pub(super) without: Option<String>,
    /// Begin with this node's data, whatever the others have
    #[arg(long, value_name = "NODE")]
    pub(super) from: Option<String>,
    /// Throw this node's data away, and copy that of the others to it
    #[arg(long, value_name = "NODE")]
    pub(super) resync: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// What to call the cluster
    #[arg(long, value_name = "CLUSTER", default_value = "cluster", value_parser = name)]
    pub(super) name: String,
    /// What to call this node; the machine's own name if not given
    #[arg(long, value_name = "NODE", value_parser = name)]
    pub(super) node: Option<String>,
    #[command(flatten)]
    pub(super) machine: Machine,
}

#[derive(Debug, Args)]
pub(super) struct Join {
    /// The line that `convoke token` printed; `-` reads it from standard input, where no other user sees it
    pub(super) token: String,
    /// What to call this node; the machine's own name if not given
    #[arg(long, visible_alias = "node", value_name = "NODE", value_parser = name)]
    pub(super) name: Option<String>,
    /// What the node does: votes and runs units, runs units only, or votes only
    #[arg(long, value_enum)]
    pub(super) role: Option<JoinRole>,
    #[command(flatten)]
    pub(super) machine: Machine,
}

#[derive(Debug, Args)]
pub(super) struct Machine {
    /// Where the other nodes reach this one, may be given more than once; found out if not given
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(super) address: Vec<SocketAddr>,
    /// The port to listen on
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum JoinRole {
    Voter,
    Member,
    Witness,
}

impl From<JoinRole> for Role {
    fn from(role: JoinRole) -> Self {
        match role {
            JoinRole::Voter => Self::Voter,
            JoinRole::Member => Self::Member,
            JoinRole::Witness => Self::Witness,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print the settings in force as TOML
    Show,
    /// Show what applying a file would change
    Diff {
        /// The file; `-` for standard input
        file: PathBuf,
    },
    /// Put the settings of a file in force, as a whole
    Apply {
        /// The file; `-` for standard input
        file: PathBuf,
    },
}

/// A span in systemd's words. What is longer than anybody waits is cut, for clocks that count from the boot.
fn duration(text: &str) -> Result<Duration, String> {
    let span = match timespan::parse(text) {
        Some(TimeSpan::Micros(us)) => Duration::from_micros(us),
        Some(TimeSpan::Infinity) => Duration::MAX,
        None => return Err("write a time like 500ms, 90s, 5min or 1h".to_owned()),
    };
    Ok(span.min(LONGEST))
}

fn seconds(text: &str) -> Result<u32, String> {
    let seconds = duration(text)?.as_secs();
    match u32::try_from(seconds) {
        Ok(seconds @ 1..=604_800) => Ok(seconds),
        _ => Err("a token is valid for 1s to 7d".to_owned()),
    }
}

fn name(text: &str) -> Result<String, String> {
    if crate::join::usable_name(text) {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 253 letters, digits, `-`, `_` or `.`".to_owned())
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let found =
        addresses::parse(text).filter(|address| !address.ip().is_unspecified() && address.port() != 0);
    found.ok_or_else(|| {
        "write 10.0.0.1, 10.0.0.1:7433, fd00::1 or [fd00::1]:7433; names are not looked up".to_owned()
    })
}
