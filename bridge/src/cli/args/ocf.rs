//! The words behind `convoke ocf`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Ocf {
    /// List the resource agents of this machine
    List,
    /// Show what a resource agent is for, its parameters and times
    Describe {
        /// The agent, as ocf:heartbeat:IPaddr2
        agent: String,
    },
    /// Check the file of a resource against its agent, without touching the resource
    ///
    /// The file is /etc/convoke/ocf/NAME.conf, the unit convoke-ocf@NAME.service.
    Check {
        /// The resource
        name: String,
    },
    /// Start a resource and watch over it; used by convoke-ocf@.service
    #[command(hide = true)]
    Run {
        /// The resource
        name: String,
    },
    /// Stop what was started; used by convoke-ocf@.service
    #[command(hide = true)]
    Stop {
        /// The resource
        name: String,
    },
    /// Say whether nothing of a resource is left on this node, for GoneExec=
    Gone {
        /// The resource
        name: String,
    },
}
