//! Switched power strips: for each feed a real SNMP agent, to which this package's own program is the outlets.
//!
//! Outlet `i` of each feed is one cord of node `i`: the node loses its power when all its cords have lost theirs, and
//! boots when the first of them has it again. The objects are those of an APC rPDU, as `fence_apc_snmp` wants them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::host::put;
use crate::machine;
use crate::net;
use crate::place::{PDU, Place, Wire, node_name};
use crate::snmp;

/// Who may read and write.
pub const PDU_COMMUNITY: &str = "private";
/// Outlets: command, name and state.
const COMMAND: &str = ".1.3.6.1.4.1.318.1.1.12.3.3.1.1.4.";
const NAME: &str = ".1.3.6.1.4.1.318.1.1.12.3.5.1.1.2.";
const STATE: &str = ".1.3.6.1.4.1.318.1.1.12.3.5.1.1.4.";
/// The subtree of all three.
const OUTLETS: &str = ".1.3.6.1.4.1.318.1.1.12.3";
/// What it says it is.
const APC_RPDU: &str = ".1.3.6.1.4.1.318.1.3.4.5";
const ON: &str = "1";
const OFF: &str = "2";
/// The file that is there while a strip does nothing that it is told.
const IGNORES: &str = "ignores";

/// One power strip.
#[derive(Clone, Debug)]
pub struct Pdu {
    place: Arc<Place>,
    feed: usize,
}

impl Pdu {
    pub(crate) fn new(place: &Arc<Place>, feed: usize) -> Pdu {
        Pdu { place: Arc::clone(place), feed }
    }

    /// Its address in the management network, UDP port 161.
    #[must_use]
    pub fn address(&self) -> String {
        self.place.address(Wire::Management, PDU + self.feed)
    }

    /// Starts it. All its outlets are on, unless it was there before.
    pub fn start(&self) -> Result<()> {
        let (dir, address) = (folder(&self.place, self.feed), self.address());
        let (program, lab) = (self.place.record.program.display(), &self.place.record.name);
        let configuration = format!(
            "rwcommunity {PDU_COMMUNITY}\nsysobjectid {APC_RPDU}\nsysdescr power strip {0}\n\
             pass_persist {OUTLETS} {program} pdu-hook {lab} {0}\n",
            self.feed
        );
        snmp::start(&self.place, &self.process(), &dir, (&address, &format!("{STATE}1")), &configuration)
    }

    /// Its own network card dies; the outlets stay as they are.
    pub fn stop(&self) -> Result<()> {
        net::set(&self.place, "deaf", &[self.address()], true)?;
        self.process().end()
    }

    /// Gives an outlet another name than that of the node whose cord it has.
    pub fn rename(&self, node: usize, name: &str) -> Result<()> {
        put(&label(&self.place, self.feed, node), name)
    }

    /// From now on it takes commands and does nothing, until its outlets are restored.
    pub fn ignore(&self) -> Result<()> {
        put(&folder(&self.place, self.feed).join(IGNORES), "")
    }

    /// All outlets have power, their own names and open ears again; nothing boots by it.
    pub(crate) fn restore(&self) {
        let _ = fs::remove_file(folder(&self.place, self.feed).join(IGNORES));
        for node in 1..=self.place.count() {
            let _ = fs::remove_file(outlet(&self.place, self.feed, node));
            let _ = fs::remove_file(label(&self.place, self.feed, node));
        }
    }

    /// Whether a node's cord has power.
    #[must_use]
    pub fn is_on(&self, node: usize) -> bool {
        !outlet(&self.place, self.feed, node).exists()
    }

    fn process(&self) -> crate::host::Started {
        self.place.started(&format!("pdu-{}", self.feed))
    }
}

/// Ends all power strips of a lab.
pub(crate) fn end_all(place: &Place) -> Result<()> {
    for feed in feeds(place) {
        place.started(&format!("pdu-{feed}")).end()?;
    }
    Ok(())
}

fn folder(place: &Place, feed: usize) -> PathBuf {
    place.run().join("pdu").join(feed.to_string())
}

pub(crate) fn feeds(place: &Place) -> Vec<usize> {
    let Ok(dir) = fs::read_dir(place.run().join("pdu")) else { return Vec::new() };
    dir.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Is there while the outlet is off.
fn outlet(place: &Place, feed: usize, node: usize) -> PathBuf {
    folder(place, feed).join(format!("{}.off", node_name(node)))
}

/// What an outlet is called, where that is not the name of its node.
fn label(place: &Place, feed: usize, node: usize) -> PathBuf {
    folder(place, feed).join(format!("{}.name", node_name(node)))
}

/// The outlets of one strip, until net-snmp ends.
pub(crate) fn hook(place: &Place, feed: usize) -> Result<()> {
    snmp::serve(
        || objects(place),
        |object| found(place, feed, object),
        |object, value| set(place, feed, object, value),
    )
}

fn objects(place: &Place) -> Vec<String> {
    let all = [COMMAND, NAME, STATE].into_iter();
    all.flat_map(|column| (1..=place.count()).map(move |node| format!("{column}{node}"))).collect()
}

fn found(place: &Place, feed: usize, object: &str) -> String {
    let node = |column| {
        object
            .strip_prefix(column)
            .and_then(|node| node.parse().ok())
            .filter(|node| (1..=place.count()).contains(node))
    };
    if let Some(node) = node(NAME) {
        let name = fs::read_to_string(label(place, feed, node)).unwrap_or_else(|_| node_name(node));
        return format!("{object}\nstring\n{name}");
    }
    let Some(node) = node(COMMAND).or_else(|| node(STATE)) else { return "NONE".to_owned() };
    let state = if outlet(place, feed, node).exists() { OFF } else { ON };
    format!("{object}\ninteger\n{state}")
}

fn set(place: &Place, feed: usize, object: &str, value: &str) -> Result<&'static str> {
    let node: usize = object.strip_prefix(COMMAND).context("not to be written")?.parse()?;
    ensure!((1..=place.count()).contains(&node), "no such outlet");
    if folder(place, feed).join(IGNORES).exists() {
        return Ok("DONE");
    }
    let dark = || feeds(place).into_iter().all(|feed| outlet(place, feed, node).exists());
    match value.split_whitespace().last() {
        Some(ON) => {
            let was_dark = dark();
            let _ = fs::remove_file(outlet(place, feed, node));
            if was_dark {
                machine::power_on(place, node)?;
            }
        }
        Some(OFF) => {
            put(&outlet(place, feed, node), "")?;
            if dark() {
                machine::power_off(place, node)?;
            }
        }
        _ => return Ok("wrong-value"),
    }
    Ok("DONE")
}
