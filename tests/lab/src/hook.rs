//! What a management controller does when it is told to: to the node's power, or a fault in its way.
//!
//! Behind every protocol that a controller speaks; each has faults of its own, so that one of them may hang while the other works. Knows
//! nothing of the protocols themselves.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::clock::now_ns;
use crate::host::put;
use crate::machine;
use crate::node::Node;
use crate::place::{Place, node_name};

/// What a controller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP port 623.
    Ipmi,
    /// HTTPS, port 443.
    Redfish,
}

impl Protocol {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Protocol::Ipmi => "ipmi",
            Protocol::Redfish => "redfish",
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Protocol> {
        [Protocol::Ipmi, Protocol::Redfish]
            .into_iter()
            .find(|by| by.word() == word)
            .with_context(|| format!("`{word}` is no protocol of a controller: ipmi or redfish"))
    }
}

/// What can be wrong with a power switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers "done" to off, leaves the node on, and says "off" from then on.
    LieOff,
    /// Answers "done" to off and does nothing; says "on".
    IgnoreOff,
    /// Refuses off.
    FailOff,
    /// Refuses to tell the status.
    FailStatus,
    /// Answers "done" to on and does nothing.
    IgnoreOn,
    /// Takes so many seconds for each command. Status waits behind it.
    Slow(u32),
    /// Answers off at once and does it so many seconds later.
    Lag(u32),
    /// Never answers.
    Hang,
}

impl Fault {
    fn word(self) -> String {
        match self {
            Fault::LieOff => "lie-off".into(),
            Fault::IgnoreOff => "ignore-off".into(),
            Fault::FailOff => "fail-off".into(),
            Fault::FailStatus => "fail-status".into(),
            Fault::IgnoreOn => "ignore-on".into(),
            Fault::Slow(s) => format!("slow={s}"),
            Fault::Lag(s) => format!("lag={s}"),
            Fault::Hang => "hang".into(),
        }
    }
}

impl std::str::FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Fault> {
        let (name, number) = word.split_once('=').unwrap_or((word, ""));
        let seconds = || number.parse().with_context(|| format!("`{word}`: say `{name}=SECONDS`"));
        Ok(match name {
            "lie-off" => Fault::LieOff,
            "ignore-off" => Fault::IgnoreOff,
            "fail-off" => Fault::FailOff,
            "fail-status" => Fault::FailStatus,
            "ignore-on" => Fault::IgnoreOn,
            "slow" => Fault::Slow(seconds()?),
            "lag" => Fault::Lag(seconds()?),
            "hang" => Fault::Hang,
            _ => bail!(
                "`{word}` is no fault: lie-off ignore-off fail-off fail-status ignore-on slow=N lag=N hang, or ok"
            ),
        })
    }
}

/// A command that reached a power switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerEvent {
    /// When, in monotonic ns.
    pub at_ns: u64,
    /// Whose switch: `n1`, …
    pub node: String,
    /// How it was told.
    pub by: Protocol,
    /// `power 0`, `power 1`, `reset 1` or `shutdown 1`.
    pub command: String,
}

/// Has a protocol of a node's controller misbehave in exactly these ways from now on.
pub(crate) fn set_faults(place: &Place, i: usize, by: Protocol, faults: &[Fault]) -> Result<()> {
    let words: Vec<String> = faults.iter().map(|f| f.word()).collect();
    put(&fault_file(place, i, by), words.join("\n"))?;
    if !faults.contains(&Fault::LieOff) {
        let _ = fs::remove_file(lie_file(place, i, by));
    }
    Ok(())
}

fn fault_file(place: &Place, i: usize, by: Protocol) -> PathBuf {
    place.run().join("fault").join(format!("{}-{}", node_name(i), by.word()))
}

fn lie_file(place: &Place, i: usize, by: Protocol) -> PathBuf {
    fault_file(place, i, by).with_extension("lied")
}

/// Commands that reached the switches of a lab, oldest first.
pub(crate) fn events(place: &Place) -> Vec<PowerEvent> {
    let text = fs::read_to_string(place.run().join("power.log")).unwrap_or_default();
    text.lines()
        .filter_map(|l| {
            let mut words = l.splitn(4, ' ');
            Some(PowerEvent {
                at_ns: words.next()?.parse().ok()?,
                node: words.next()?.into(),
                by: words.next()?.parse().ok()?,
                command: words.next()?.into(),
            })
        })
        .collect()
}

/// The hook: what a controller runs for `get WHAT` and `set WHAT VALUE`. The answer is for its standard output; an
/// error becomes one of the protocol.
pub(crate) fn hook(place: &Place, i: usize, by: Protocol, args: &[String]) -> Result<String> {
    let faults = || -> Vec<Fault> {
        let text = fs::read_to_string(fault_file(place, i, by)).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).collect()
    };
    while faults().contains(&Fault::Hang) {
        // A lab that is gone ends the wait.
        ensure!(place.run().exists(), "the lab is gone");
        std::thread::sleep(Duration::from_millis(100));
    }
    let has = |f: Fault| faults().contains(&f);
    let words: Vec<&str> = args.iter().map(|a| a.trim_matches('"')).collect();
    match words[..] {
        ["get", "power"] => {
            ensure!(!has(Fault::FailStatus), "sensor bus error");
            let off = lie_file(place, i, by).exists() || !machine::is_on(place, i);
            Ok(format!("power:{}", u8::from(!off)))
        }
        ["get", what] => Ok(format!("{what}:default")),
        ["set", what, value] => {
            let mut log = OpenOptions::new().create(true).append(true).open(place.run().join("power.log"))?;
            writeln!(log, "{} {} {} {what} {value}", now_ns(), node_name(i), by.word())?;
            drop(log);
            for f in faults() {
                if let Fault::Slow(seconds) = f {
                    std::thread::sleep(Duration::from_secs(seconds.into()));
                }
            }
            set(place, i, by, (what, value), &faults())?;
            Ok(String::new())
        }
        _ => bail!("unknown: {}", words.join(" ")),
    }
}

fn set(place: &Place, i: usize, by: Protocol, (what, value): (&str, &str), faults: &[Fault]) -> Result<()> {
    match (what, value) {
        ("power", "0") => {
            ensure!(!faults.contains(&Fault::FailOff), "the power supply did not answer");
            let lag = faults.iter().find_map(|f| if let Fault::Lag(s) = f { Some(*s) } else { None });
            if faults.contains(&Fault::LieOff) {
                put(&lie_file(place, i, by), "")
            } else if faults.contains(&Fault::IgnoreOff) {
                Ok(())
            } else if let Some(seconds) = lag {
                let (name, seconds) = (node_name(i), seconds.to_string());
                let program = place.record.program.display().to_string();
                let late = place.started(&format!("late-off-{name}"));
                late.start(
                    &place.run().join("late.log"),
                    &[&program, "late-off", &place.record.name, &name, &seconds],
                )
            } else {
                machine::power_off(place, i)
            }
        }
        ("power", "1") => {
            let _ = fs::remove_file(lie_file(place, i, by));
            if faults.contains(&Fault::IgnoreOn) { Ok(()) } else { machine::power_on(place, i) }
        }
        ("reset", _) if machine::is_on(place, i) => {
            machine::power_off(place, i)?;
            machine::power_on(place, i)
        }
        ("shutdown", _) => {
            let node = Node { place: Arc::new(place.clone()), index: i };
            node.run("kill -s RTMIN+4 1").map(drop)
        }
        ("reset" | "boot" | "identify", _) => Ok(()),
        _ => bail!("unknown: {what}"),
    }
}
