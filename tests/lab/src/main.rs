//! The lab for people: bring nodes up, look into them, cut cables and power.
//!
//! Also the program that keeps a node while it is on, and the hook of its IPMI simulator. All that it does is in the
//! library; here are words and their meaning.

#![allow(clippy::print_stdout, reason = "it is a program for a terminal")]

mod selftest;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use lab::{Fault, Image, Lab, Options, Protocol, Suite};

#[derive(Parser)]
#[command(name = "lab", about = "Real systemd nodes on this machine", disable_help_subcommand = true)]
struct Cli {
    /// Name of the lab
    #[arg(long, short = 'l', global = true, default_value = "lab", env = "CONVOKE_LAB")]
    lab: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make the images of the nodes, if they are not there
    Image {
        /// bookworm or trixie; both if none is named
        suites: Vec<Suite>,
        #[command(flatten)]
        more: More,
    },
    /// Bring nodes up and leave them up
    Up {
        #[arg(default_value_t = 3)]
        nodes: usize,
        #[arg(long, default_value = "bookworm")]
        suite: Suite,
        /// Package to install in every node
        #[arg(long)]
        deb: Option<PathBuf>,
        #[command(flatten)]
        more: More,
    },
    /// Show the labs, their nodes and addresses
    Status,
    /// A root shell in a node
    Shell { node: String },
    /// Run a command line in a node
    Run {
        node: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Switch a node: on, off, reset, freeze, thaw, shutdown, reboot
    Power { action: String, node: String },
    /// Cut a node off, or two nodes apart
    Cut { node: String, other: Option<String> },
    /// Undo a cut; all of them if no node is named
    Heal { node: Option<String>, other: Option<String> },
    /// Make a node's power switch misbehave, or `ok`
    Bmc { node: String, faults: Vec<String> },
    /// Start a node's Redfish service, make it misbehave, or `ok`
    Redfish { node: String, faults: Vec<String> },
    /// Print what the witness saw
    Witness {
        #[arg(default_value = "witness")]
        unit: String,
    },
    /// The journal of a unit, or of all
    Journal {
        node: String,
        #[arg(default_value = "")]
        unit: String,
    },
    /// Take the lab down
    Down,
    /// Take labs down, also those of killed tests: the named ones, or all
    Purge {
        names: Vec<String>,
        /// Remove the images and layers too
        #[arg(long)]
        images: bool,
    },
    /// Try the lab itself on both Debians
    Selftest {
        #[arg(long)]
        suite: Option<Suite>,
        /// Power cycles of one node at the end
        #[arg(long, default_value_t = 10)]
        cycles: usize,
    },
    #[command(hide = true)]
    Hold {
        name: String,
        #[arg(long)]
        panic: bool,
    },
    #[command(hide = true)]
    Keep { name: String, node: String },
    #[command(hide = true)]
    BmcHook {
        by: Protocol,
        name: String,
        node: String,
        #[arg(trailing_var_arg = true)]
        args: Vec<String>,
    },
    #[command(hide = true)]
    PduHook { name: String, feed: usize },
    #[command(hide = true)]
    SwitchHook { name: String },
    #[command(hide = true)]
    Array { name: String },
    #[command(hide = true)]
    Watchdog { name: String, node: String },
    #[command(hide = true)]
    LateOff { name: String, node: String, seconds: u64 },
}

#[derive(Args)]
struct More {
    /// Debian's packages that the nodes are to have beyond the usual ones; another image is made for them
    #[arg(long, value_delimiter = ',', value_name = "PACKAGES")]
    packages: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let hook = matches!(cli.verb, Verb::BmcHook { .. });
    match run(cli) {
        Ok(code) => code,
        // The controller reads what a hook says on its standard output.
        Err(e) if hook => {
            println!("{e:#}");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let attached = || Lab::attach(&cli.lab).context("bring one up with `lab up`");
    match cli.verb {
        Verb::Image { suites, more } => {
            let suites = if suites.is_empty() { &Suite::ALL[..] } else { &suites };
            for image in Image::all_of(suites, &more.packages)? {
                println!("{}", image.root.display());
            }
        }
        Verb::Up { nodes, suite, deb, more } => {
            let mut options = Options::of(nodes, suite);
            options.deb = deb;
            options.packages = more.packages;
            let lab = Lab::booted(&cli.lab, &options)?;
            status(&lab)?;
            lab.keep();
        }
        Verb::Status => {
            for name in Lab::all() {
                status(&Lab::attach(&name)?)?;
            }
        }
        Verb::Shell { node } => {
            let line = "cd; exec bash -l";
            return Err(attached()?.named(&node)?.command(line)?.exec()).context("cannot start a shell");
        }
        Verb::Run { node, command } => {
            let status = attached()?.named(&node)?.command(&command.join(" "))?.status()?;
            return Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)));
        }
        Verb::Power { action, node } => {
            let node = attached()?.named(&node)?;
            match action.as_str() {
                "on" => node.boot()?,
                "off" => node.power_off()?,
                "reset" => node.reset()?,
                "freeze" => node.freeze()?,
                "thaw" => node.thaw()?,
                "shutdown" => node.shutdown_cleanly()?,
                "reboot" => node.reboot()?,
                _ => bail!("`{action}`: say on, off, reset, freeze, thaw, shutdown or reboot"),
            }
        }
        Verb::Cut { node, other } => {
            let lab = attached()?;
            let a = lab.named(&node)?.index();
            match other {
                Some(other) => lab.cut_link(a, lab.named(&other)?.index())?,
                None => lab.cut(a)?,
            }
        }
        Verb::Heal { node, other } => {
            let lab = attached()?;
            match (node, other) {
                (None, _) => lab.heal_all()?,
                (Some(a), None) => lab.heal(lab.named(&a)?.index())?,
                (Some(a), Some(b)) => lab.heal_link(lab.named(&a)?.index(), lab.named(&b)?.index())?,
            }
        }
        Verb::Bmc { node, faults } => {
            let lab = attached()?;
            lab.bmc(lab.named(&node)?.index()).set_faults(&named(&faults)?)?;
        }
        Verb::Redfish { node, faults } => {
            let lab = attached()?;
            let redfish = lab.redfish(lab.named(&node)?.index());
            redfish.start()?;
            redfish.set_faults(&named(&faults)?)?;
            println!("https://{}{}", redfish.address(), redfish.systems_uri());
        }
        Verb::Witness { unit } => witness(&attached()?, &unit)?,
        Verb::Journal { node, unit } => println!("{}", attached()?.named(&node)?.journal(&unit)?),
        Verb::Down => attached()?.down()?,
        Verb::Purge { names, images } => {
            for name in if names.is_empty() { Lab::all() } else { names } {
                Lab::purge(&name)?;
                println!("{name}: gone");
            }
            if images {
                lab::remove_cache()?;
            }
        }
        Verb::Selftest { suite, cycles } => return selftest::run(suite, cycles),
        Verb::Hold { name, panic } => selftest::hold(&name, panic)?,
        Verb::Keep { name, node } => lab::inner::keep(&name, &node)?,
        Verb::BmcHook { by, name, node, args } => {
            let answer = lab::inner::bmc_hook(by, &name, &node, &args)?;
            if !answer.is_empty() {
                println!("{answer}");
            }
        }
        Verb::SwitchHook { name } => lab::inner::switch_hook(&name)?,
        Verb::PduHook { name, feed } => lab::inner::pdu_hook(&name, feed)?,
        Verb::Array { name } => lab::inner::array(&name)?,
        Verb::Watchdog { name, node } => lab::inner::watchdog(&name, &node)?,
        Verb::LateOff { name, node, seconds } => lab::inner::late_off(&name, &node, seconds)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn named(faults: &[String]) -> Result<Vec<Fault>> {
    faults.iter().filter(|word| *word != "ok").map(|word| word.parse()).collect()
}

fn status(lab: &Lab) -> Result<()> {
    println!("{}: host {}, shared {}", lab.name(), lab.host_address(), lab.shared().display());
    for node in lab.nodes() {
        let state = if node.is_on() {
            let limit = std::time::Duration::from_secs(2);
            node.run_for("systemctl is-system-running", limit)
                .map_or_else(|_| "on, does not answer".into(), |o| format!("on, {}", o.stdout.trim()))
        } else {
            "off".into()
        };
        println!(
            "  {:<4} {:<14} switch {:<14} {state}",
            node.name(),
            node.address(),
            lab.bmc(node.index()).address()
        );
    }
    Ok(())
}

fn witness(lab: &Lab, unit: &str) -> Result<()> {
    let timeline = lab.witness(unit)?;
    let begin = timeline.runs.first().map_or(0, |r| r.from_ns);
    let ms = |ns: u64| (ns - begin) as f64 / 1e6;
    for run in &timeline.runs {
        println!(
            "{:>12.1} ms to {:>12.1} ms  {} pid {}, {} beats",
            ms(run.from_ns),
            ms(run.to_ns),
            run.node,
            run.pid,
            run.beats
        );
    }
    for gap in timeline.gaps(4 * lab::BEAT) {
        println!(
            "gap of {:.1} ms at {:.1} ms, {} to {}",
            gap.length().as_secs_f64() * 1e3,
            ms(gap.from_ns),
            gap.from_node,
            gap.to_node
        );
    }
    for o in timeline.overlaps() {
        println!("OVERLAP: {} and {} from {:.1} ms", o.first.node, o.second.node, ms(o.second.from_ns));
    }
    Ok(())
}
