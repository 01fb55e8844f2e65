//! The power switches: one real IPMI simulator per node, whose hook is this package's own program.
//!
//! Also the place where a switch lies, refuses or is slow. It knows a node only by its power; what an agent makes of
//! its answers is for the tests to see.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::clock::{now_ns, wait_until};
use crate::host::{put, remove_tree};
use crate::machine;
use crate::net;
use crate::node::Node;
use crate::place::{BMC, Place, Wire, node_name};

/// Login of every power switch.
pub const BMC_USER: &str = "fence";
/// Password of every power switch.
pub const BMC_PASSWORD: &str = "s3cret";

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
    /// `power 0`, `power 1`, `reset 1` or `shutdown 1`.
    pub command: String,
}

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
        let words: Vec<String> = faults.iter().map(|f| f.word()).collect();
        put(&fault_file(&self.place, self.index), words.join("\n"))?;
        if !faults.contains(&Fault::LieOff) {
            let _ = fs::remove_file(lie_file(&self.place, self.index));
        }
        Ok(())
    }

    /// Cuts it off the management network, or joins it again.
    pub fn cut(&self, cut: bool) -> Result<()> {
        net::set(&self.place, "deaf", &[self.address()], cut)
    }

    /// Takes its own power away, as when node and switch hang on one feed. Cut first: a dead device refuses nothing.
    pub fn stop(&self) -> Result<()> {
        self.cut(true)?;
        self.process().end()
    }

    /// Gives it power again.
    pub fn start(&self) -> Result<()> {
        start(&self.place, self.index)?;
        self.cut(false)
    }

    /// Runs `fence_ipmilan` with an action inside a node, with the parameters on standard input as a cluster does.
    pub fn agent(&self, on: &Node, action: &str) -> Result<crate::exec::Output> {
        let mut text = format!("action={action}\n");
        for (name, value) in self.agent_parameters() {
            text.push_str(&format!("{name}={value}\n"));
        }
        on.feed("PYTHONWARNINGS=ignore fence_ipmilan", text.as_bytes())
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
             chassis_control \"{} bmc-hook {} {name}\"\n  \
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

fn fault_file(place: &Place, i: usize) -> PathBuf {
    place.run().join("fault").join(node_name(i))
}

fn lie_file(place: &Place, i: usize) -> PathBuf {
    place.run().join("fault").join(format!("{}.lied", node_name(i)))
}

/// Commands that reached the switches of a lab, oldest first.
pub(crate) fn events(place: &Place) -> Vec<PowerEvent> {
    let text = fs::read_to_string(place.run().join("power.log")).unwrap_or_default();
    text.lines()
        .filter_map(|l| {
            let mut words = l.splitn(3, ' ');
            Some(PowerEvent {
                at_ns: words.next()?.parse().ok()?,
                node: words.next()?.into(),
                command: words.next()?.into(),
            })
        })
        .collect()
}

/// The hook: what the simulator runs for `get WHAT` and `set WHAT VALUE`. The answer is for its standard output; an
/// error becomes an IPMI error.
pub(crate) fn hook(place: &Place, i: usize, args: &[String]) -> Result<String> {
    let faults = || -> Vec<Fault> {
        let text = fs::read_to_string(fault_file(place, i)).unwrap_or_default();
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
            let off = lie_file(place, i).exists() || !machine::is_on(place, i);
            Ok(format!("power:{}", u8::from(!off)))
        }
        ["get", what] => Ok(format!("{what}:default")),
        ["set", what, value] => {
            let mut log = OpenOptions::new().create(true).append(true).open(place.run().join("power.log"))?;
            writeln!(log, "{} {} {what} {value}", now_ns(), node_name(i))?;
            drop(log);
            for f in faults() {
                if let Fault::Slow(seconds) = f {
                    std::thread::sleep(Duration::from_secs(seconds.into()));
                }
            }
            set(place, i, what, value, &faults())?;
            Ok(String::new())
        }
        _ => bail!("unknown: {}", words.join(" ")),
    }
}

fn set(place: &Place, i: usize, what: &str, value: &str, faults: &[Fault]) -> Result<()> {
    match (what, value) {
        ("power", "0") => {
            ensure!(!faults.contains(&Fault::FailOff), "the power supply did not answer");
            let lag = faults.iter().find_map(|f| if let Fault::Lag(s) = f { Some(*s) } else { None });
            if faults.contains(&Fault::LieOff) {
                put(&lie_file(place, i), "")
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
            let _ = fs::remove_file(lie_file(place, i));
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
