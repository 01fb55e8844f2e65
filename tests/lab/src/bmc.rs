//! The power switches: one real IPMI simulator per node, whose hook is this package's own program.
//!
//! What an agent makes of its answers is for the tests to see. The other protocol of the same controller is in `redfish`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::clock::wait_until;
use crate::hook::{self, Fault, Protocol};
use crate::host::{put, remove_tree};
use crate::net;
use crate::node::Node;
use crate::place::{BMC, Place, Wire, node_name};
use crate::redfish;

/// Login of every power switch.
pub const BMC_USER: &str = "fence";
/// Password of every power switch.
pub const BMC_PASSWORD: &str = "s3cret";

/// The power switch of one node.
#[derive(Clone, Debug)]
pub struct Bmc {
    place: Arc<Place>,
    index: usize,
}

impl Bmc {
    /// Its address in the management network, UDP port 623.
    #[must_use]
    pub fn address(&self) -> String {
        self.place.address(Wire::Management, BMC + self.index)
    }

    /// Parameters for `fence_ipmilan`, without the action.
    #[must_use]
    pub fn agent_parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ip", self.address()),
            ("username", BMC_USER.into()),
            ("password", BMC_PASSWORD.into()),
            ("lanplus", "1".into()),
            ("cipher", "3".into()),
            ("power_wait", "0".into()),
        ]
    }

    /// Makes it misbehave in exactly these ways from now on; none at all: it is honest again.
    pub fn set_faults(&self, faults: &[Fault]) -> Result<()> {
        hook::set_faults(&self.place, self.index, Protocol::Ipmi, faults)
    }

    /// Cuts it off the management network, or joins it again.
    pub fn cut(&self, cut: bool) -> Result<()> {
        net::set(&self.place, "deaf", &[self.address()], cut)
    }

    /// Takes its own power away, as when node and switch hang on one feed. Cut first: a dead device refuses nothing.
    pub fn stop(&self) -> Result<()> {
        self.cut(true)?;
        redfish::end(&self.place, self.index)?;
        self.process().end()
    }

    /// Gives it power again: it speaks what it spoke before.
    pub fn start(&self) -> Result<()> {
        start(&self.place, self.index)?;
        redfish::start_again(&self.place, self.index)?;
        self.cut(false)
    }

    /// Runs `fence_ipmilan` with an action inside a node, with the parameters on standard input as a cluster does.
    pub fn agent(&self, on: &Node, action: &str) -> Result<crate::exec::Output> {
        on.fence("fence_ipmilan", action, &self.agent_parameters())
    }

    fn process(&self) -> crate::host::Started {
        self.place.started(&format!("bmc-{}", node_name(self.index)))
    }
}

pub(crate) fn bmc(place: &Arc<Place>, index: usize) -> Bmc {
    Bmc { place: Arc::clone(place), index }
}

/// Starts the simulator of a node's switch and waits until it listens.
pub(crate) fn start(place: &Place, i: usize) -> Result<()> {
    let name = node_name(i);
    let process = place.started(&format!("bmc-{name}"));
    if process.pid().is_some() {
        return Ok(());
    }
    let dir = place.run().join("bmc").join(&name);
    let address = place.address(Wire::Management, BMC + i);
    let (lan, emu, state) = (dir.join("lan.conf"), dir.join("sim.emu"), dir.join("state"));
    remove_tree(&state)?;
    fs::create_dir_all(&state)?;
    let auth: String = ["callback", "user", "operator", "admin"]
        .iter()
        .map(|who| format!("    allowed_auths_{who} none md2 md5 straight\n"))
        .collect();
    put(
        &lan,
        format!(
            "name \"{name}\"\nset_working_mc 0x20\n  startlan 1\n    addr {address} 623\n    priv_limit admin\n{auth}    \
             guid a123456789abcdefa1234567{i:08x}\n  endlan\n  \
             chassis_control \"{} bmc-hook ipmi {} {name}\"\n  \
             user 1 true \"\" \"\" user 4 none md2 md5 straight\n  \
             user 2 true \"{BMC_USER}\" \"{BMC_PASSWORD}\" admin 10 none md2 md5 straight\n",
            place.record.program.display(),
            place.record.name
        ),
    )?;
    put(
        &emu,
        "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
         sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n",
    )?;
    let log = dir.join("log");
    let text = |p: &PathBuf| p.display().to_string();
    process.start(&log, &["ipmi_sim", "-n", "-c", &text(&lan), "-f", &text(&emu), "-s", &text(&state)])?;
    let listens = || fs::read_to_string("/proc/net/udp").is_ok_and(|t| t.contains(&socket_name(&address)));
    let up = wait_until(Duration::from_secs(10), Duration::from_millis(5), listens);
    ensure!(
        up && process.pid().is_some(),
        "the power switch of {name} does not start\n{}",
        fs::read_to_string(log)?
    );
    Ok(())
}

/// An address with port 623 as /proc/net/udp writes it.
fn socket_name(address: &str) -> String {
    let bytes: Vec<u8> = address.split('.').filter_map(|b| b.parse().ok()).collect();
    let hex: String = bytes.iter().rev().map(|b| format!("{b:02X}")).collect();
    format!("{hex}:026F")
}
