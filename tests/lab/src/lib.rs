//! Real systemd nodes on one machine, for tests and for people: power, network, power switches, faults and a witness.
//!
//! A node is a container with systemd as its PID 1, on a disk of its own, with two network cables. The lab is the
//! machine room around it: it cuts power and cables and reads what the witness wrote, and knows nothing of clusters.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use lab::{Lab, Options, Suite};
//!
//! let lab = Lab::booted("my-test", &Options::of(3, Suite::Bookworm))?;
//! lab.node(1).run_ok("systemctl start witness.service")?;
//! lab.cut_link(1, 3)?;
//! lab.bmc(1).agent(&lab.node(2), "off")?;
//! assert!(!lab.node(1).is_on());
//! assert!(lab.witness("witness")?.overlaps().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Needs root and what `tests/lab/setup` installs. Everything of a lab is below `/run/convoke-lab/NAME` and
//! `/var/cache/convoke-lab` (or `$CONVOKE_LAB_DIR`). With `$CONVOKE_LAB_KEEP` set a lab outlives its test, to be
//! looked at with the `lab` program.

mod array;
mod bmc;
mod cgroup;
mod clock;
mod cuts;
mod exec;
mod fuse;
mod hook;
mod host;
mod image;
mod lab;
mod layer;
mod machine;
mod net;
mod node;
mod pdu;
mod place;
mod redfish;
mod snmp;
mod switch;
mod watchdog;
mod witness;

pub use array::Array;
pub use bmc::{BMC_PASSWORD, BMC_USER, Bmc};
pub use clock::{now_ns, wait_until};
pub use exec::Output;
pub use hook::{Fault, PowerEvent, Protocol};
pub use image::{Image, Suite};
pub use lab::{Lab, Options};
pub use layer::{ExtraFile, Layer};
pub use node::Node;
pub use pdu::{PDU_COMMUNITY, Pdu};
pub use place::{cache_dir, remove_cache};
pub use redfish::Redfish;
pub use switch::Switch;
pub use watchdog::WatchdogEvent;
pub use witness::{BEAT, Gap, Overlap, Run, Timeline};

/// What the `lab` program does for the lab itself, in processes of their own. Not for tests.
pub mod inner {
    use anyhow::Result;

    use crate::hook::Protocol;
    use crate::place::Place;

    fn at(lab: &str, node: &str) -> Result<(Place, usize)> {
        let node = crate::Lab::attach(lab)?.named(node)?;
        Ok(((*node.place).clone(), node.index))
    }

    /// Keeps a node while it is on.
    pub fn keep(lab: &str, node: &str) -> Result<()> {
        let (place, i) = at(lab, node)?;
        crate::machine::keep(&place, i)
    }

    /// Answers a question or does a command of a node's controller.
    pub fn bmc_hook(by: Protocol, lab: &str, node: &str, args: &[String]) -> Result<String> {
        let (place, i) = at(lab, node)?;
        crate::hook::hook(&place, i, by, args)
    }

    /// Is the outlets of a power strip.
    pub fn pdu_hook(lab: &str, feed: usize) -> Result<()> {
        crate::pdu::hook(&Place::load(lab)?, feed)
    }

    /// Is the ports of the managed switch.
    pub fn switch_hook(lab: &str) -> Result<()> {
        crate::switch::hook(&Place::load(lab)?)
    }

    /// Is the storage array.
    pub fn array(lab: &str) -> Result<()> {
        crate::array::serve(&Place::load(lab)?)
    }

    /// Is the watchdog of a node.
    pub fn watchdog(lab: &str, node: &str) -> Result<()> {
        let (place, i) = at(lab, node)?;
        crate::watchdog::serve(&place, i)
    }

    /// Powers a node off after some seconds.
    pub fn late_off(lab: &str, node: &str, seconds: u64) -> Result<()> {
        let (place, i) = at(lab, node)?;
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        crate::machine::power_off(&place, i)
    }
}
