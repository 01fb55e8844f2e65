//! The lab's two switches and their cables, and what can be wrong with them.
//!
//! A cable has a fixed name at the host's end, so a cut outlives the power cycles of its node, as it would in a rack.
//! A node's end is made anew at each boot in a namespace of its own: addresses and connections of the life before are
//! gone, and no last packet tells the peers of its death.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::host::{call, feed};
use crate::place::{BMC, HOST, NODE, Place, Wire};

const WIRES: [Wire; 2] = [Wire::Data, Wire::Management];

/// Makes the bridges with the host's addresses, the power switches' addresses and the empty filter.
pub(crate) fn up(place: &Place) -> Result<()> {
    let mut text = String::new();
    for wire in WIRES {
        let (br, slot, w) = (place.bridge(wire), place.record.slot, wire as usize);
        // An address of its own: else it takes that of one of its cables, and all who know host or power switches by it
        // send into the void for up to a minute after that cable's node lost its power.
        writeln!(
            text,
            "link add {br} address 02:78:{slot:02x}:{w:02x}:fe:fe type bridge forward_delay 0 mcast_snooping 0"
        )?;
        writeln!(text, "addr add {}/24 dev {br}", place.address(wire, HOST))?;
        writeln!(text, "link set {br} up")?;
    }
    for i in 1..=place.count() {
        writeln!(
            text,
            "addr add {}/24 dev {}",
            place.address(Wire::Management, BMC + i),
            place.bridge(Wire::Management)
        )?;
    }
    ip(&[], &text)?;
    let t = place.table();
    let text = format!(
        "table bridge {t} {{
  set isolated {{ typeof iifname; }}
  set cut {{ typeof iifname . oifname; }}
  set shut {{ typeof iifname; }}
  set deaf {{ type ipv4_addr; }}
  chain forward {{ type filter hook forward priority 0;
    iifname @isolated drop
    oifname @isolated drop
    iifname @shut drop
    oifname @shut drop
    iifname . oifname @cut drop
  }}
  chain input {{ type filter hook input priority 0;
    iifname @isolated drop
    iifname @shut drop
    ip daddr @deaf drop
  }}
  chain output {{ type filter hook output priority 0;
    oifname @isolated drop
    oifname @shut drop
    ip saddr @deaf drop
  }}
}}\n"
    );
    nft(&text)
}

/// Removes all of the lab's network; what is not there is fine.
pub(crate) fn down(place: &Place) {
    for i in 1..=place.count() {
        unplug(place, i);
    }
    for wire in WIRES {
        let _ = call("ip", &["link", "del", &place.bridge(wire)]);
    }
    let _ = nft(&format!("delete table bridge {}\n", place.table()));
}

/// Lays both cables of a node into a new namespace, with its addresses.
pub(crate) fn plug(place: &Place, i: usize) -> Result<()> {
    let ns = place.machine(i);
    let (mut outside, mut inside) = (format!("netns add {ns}\n"), "link set lo up\n".to_owned());
    for wire in WIRES {
        let (link, br, slot) = (place.link(i, wire), place.bridge(wire), place.record.slot);
        let name = if wire == Wire::Data { "host0" } else { "mgmt0" };
        let w = wire as usize;
        // Each end keeps its hardware address over power cycles, so that the neighbours' tables stay right.
        writeln!(
            outside,
            "link add {link} address 02:78:{slot:02x}:{w:02x}:01:{i:02x} type veth peer name {name} \
             address 02:78:{slot:02x}:{w:02x}:00:{i:02x} netns {ns}"
        )?;
        writeln!(outside, "link set {link} master {br} up")?;
        writeln!(inside, "addr add {}/24 brd + dev {name}", place.address(wire, NODE + i))?;
        writeln!(inside, "link set {name} up")?;
    }
    ip(&[], &outside)?;
    ip(&["-n", &ns], &inside)
}

/// Takes both cables and the namespace away; what is not there is fine.
pub(crate) fn unplug(place: &Place, i: usize) {
    for wire in WIRES {
        let link = place.link(i, wire);
        if exists(&link) {
            let _ = call("ip", &["link", "del", &link]);
        }
    }
    let ns = place.machine(i);
    if std::path::Path::new("/run/netns").join(&ns).exists() {
        let _ = call("ip", &["netns", "del", &ns]);
    }
}

/// Makes both cables dead at once, so that a dying kernel's farewells (FIN, RST) reach nobody.
pub(crate) fn silence(place: &Place, i: usize) {
    let mut text = String::new();
    for wire in WIRES {
        let link = place.link(i, wire);
        if exists(&link) {
            // Infallible: it is a string.
            let _ = writeln!(text, "link set {link} down");
        }
    }
    let _ = ip(&[], &text);
}

/// Adds to or removes from one of the filter's sets. That an element is there, or is not, is fine.
pub(crate) fn set(place: &Place, set: &str, elements: &[String], add: bool) -> Result<()> {
    let t = place.table();
    let list = elements.join(", ");
    let mut text = format!("add element bridge {t} {set} {{ {list} }}\n");
    if !add {
        writeln!(text, "delete element bridge {t} {set} {{ {list} }}")?;
    }
    nft(&text)
}

/// Empties all sets: every cable is whole again.
pub(crate) fn heal_all(place: &Place) -> Result<()> {
    let t = place.table();
    nft(&format!("flush set bridge {t} isolated\nflush set bridge {t} cut\nflush set bridge {t} deaf\n"))
}

/// Limits what node `i` receives and sends on its data cable, in kbit/s; without a number the limit is lifted.
pub(crate) fn slow(place: &Place, i: usize, kbit: Option<u32>) -> Result<()> {
    let (link, ns) = (place.link(i, Wire::Data), place.machine(i));
    let ends = [vec!["-n", &ns, "qdisc"], vec!["qdisc"]];
    for (end, dev) in ends.iter().zip(["host0", link.as_str()]) {
        let rate = format!("{}kbit", kbit.unwrap_or(0));
        let mut args = end.clone();
        match kbit {
            Some(_) => args.extend([
                "replace", "dev", dev, "root", "tbf", "rate", &rate, "burst", "16kb", "latency", "400ms",
            ]),
            None => args.extend(["del", "dev", dev, "root"]),
        }
        let done = call("tc", &args);
        if kbit.is_some() {
            done.context("cannot limit the rate")?;
        }
    }
    Ok(())
}

fn exists(link: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(link).exists()
}

fn ip(options: &[&str], commands: &str) -> Result<()> {
    let mut args = options.to_vec();
    args.extend(["-batch", "-"]);
    feed("ip", &args, commands.as_bytes()).map(drop)
}

fn nft(text: &str) -> Result<()> {
    feed("nft", &["-f", "-"], text.as_bytes()).map(drop)
}
