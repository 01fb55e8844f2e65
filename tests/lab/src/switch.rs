//! The switch of the data network, as a managed one: a real SNMP agent with the ports' objects of IF-MIB, as `fence_ifmib` wants them.
//!
//! Port `i`, called `port-nI`, has the data cable of node `i`. One that is shut stays so over power cycles, and has nothing to do with the
//! cables: [`Lab::heal`](crate::Lab::heal) opens none.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::host::put;
use crate::net;
use crate::pdu::PDU_COMMUNITY;
use crate::place::{Place, SWITCH, Wire, node_name};
use crate::snmp;

/// Objects of a port: its name (`ifDescr`) and whether it is open (`ifAdminStatus`, `ifOperStatus`).
const NAME: &str = ".1.3.6.1.2.1.2.2.1.2.";
const ADMIN: &str = ".1.3.6.1.2.1.2.2.1.7.";
const OPERATION: &str = ".1.3.6.1.2.1.2.2.1.8.";
/// The subtree of all three.
const PORTS: &str = ".1.3.6.1.2.1.2.2.1";
const UP: &str = "1";
const DOWN: &str = "2";

/// The switch.
#[derive(Clone, Debug)]
pub struct Switch {
    place: Arc<Place>,
}

impl Switch {
    pub(crate) fn new(place: &Arc<Place>) -> Switch {
        Switch { place: Arc::clone(place) }
    }

    /// Its address in the management network, UDP port 161.
    #[must_use]
    pub fn address(&self) -> String {
        self.place.address(Wire::Management, SWITCH)
    }

    /// The name of node `i`'s port.
    #[must_use]
    pub fn port(i: usize) -> String {
        format!("port-{}", node_name(i))
    }

    /// Starts it. All ports are open, unless it was there before.
    pub fn start(&self) -> Result<()> {
        let (program, lab) = (self.place.record.program.display(), &self.place.record.name);
        let configuration = format!(
            "rwcommunity {PDU_COMMUNITY}\nsysdescr access switch\npass_persist {PORTS} {program} switch-hook {lab}\n"
        );
        let (address, object) = (self.address(), format!("{ADMIN}1"));
        snmp::start(
            &self.place,
            &process(&self.place),
            &folder(&self.place),
            (&address, &object),
            &configuration,
        )
    }

    /// Its own management dies; the ports stay as they are.
    pub fn stop(&self) -> Result<()> {
        net::set(&self.place, "deaf", &[self.address()], true)?;
        process(&self.place).end()
    }

    /// Whether node `i`'s port is open.
    #[must_use]
    pub fn is_open(&self, i: usize) -> bool {
        !shut(&self.place, i).exists()
    }

    /// Opens all ports.
    pub(crate) fn restore(&self) -> Result<()> {
        (1..=self.place.count()).filter(|i| !self.is_open(*i)).try_for_each(|i| put_port(&self.place, i, UP))
    }
}

/// Ends it, if there is one.
pub(crate) fn end(place: &Place) -> Result<()> {
    process(place).end()
}

fn process(place: &Place) -> crate::host::Started {
    place.started("switch")
}

fn folder(place: &Place) -> PathBuf {
    place.run().join("switch")
}

/// Is there while the port is shut.
fn shut(place: &Place, i: usize) -> PathBuf {
    folder(place).join(format!("{}.shut", node_name(i)))
}

/// The ports, until net-snmp ends.
pub(crate) fn hook(place: &Place) -> Result<()> {
    snmp::serve(|| objects(place), |object| found(place, object), |object, value| set(place, object, value))
}

fn objects(place: &Place) -> Vec<String> {
    let all = [NAME, ADMIN, OPERATION].into_iter();
    all.flat_map(|column| (1..=place.count()).map(move |node| format!("{column}{node}"))).collect()
}

fn found(place: &Place, object: &str) -> String {
    let node = |column| {
        let node = object.strip_prefix(column).and_then(|node| node.parse::<usize>().ok());
        node.filter(|node| (1..=place.count()).contains(node))
    };
    if let Some(node) = node(NAME) {
        return format!("{object}\nstring\n{}", Switch::port(node));
    }
    let Some(node) = node(ADMIN).or_else(|| node(OPERATION)) else { return "NONE".to_owned() };
    let state = if shut(place, node).exists() { DOWN } else { UP };
    format!("{object}\ninteger\n{state}")
}

fn set(place: &Place, object: &str, value: &str) -> Result<&'static str> {
    let node: usize = object.strip_prefix(ADMIN).context("not to be written")?.parse()?;
    ensure!((1..=place.count()).contains(&node), "no such port");
    let state = value.split_whitespace().last().unwrap_or_default();
    if ![UP, DOWN].contains(&state) {
        return Ok("wrong-value");
    }
    put_port(place, node, state)?;
    Ok("DONE")
}

/// The filter first, the word on it last.
fn put_port(place: &Place, node: usize, state: &str) -> Result<()> {
    let cable = format!("\"{}\"", place.link(node, Wire::Data));
    net::set(place, "shut", &[cable], state == DOWN)?;
    if state == DOWN {
        return put(&shut(place, node), "");
    }
    std::fs::remove_file(shut(place, node)).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error.into()),
    })
}
