//! `make demo`: three real systemd nodes run PostgreSQL under Convoke, lose one, fence it and go on.
//!
//! Needs no terminal and no input. Exits 0 only if all that it says has happened; else it says what did not, saves the
//! logs, and leaves the nodes up to be looked at.

#![allow(clippy::print_stdout, reason = "it is a program for a terminal")]

mod check;
mod client;
mod cluster;
mod events;
mod measure;
mod setup;
mod timeline;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use lab::Lab;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::events::Stage;
use crate::timeline::Timeline;

#[derive(Parser)]
#[command(name = "demo", about = "PostgreSQL on three nodes under Convoke", disable_help_subcommand = true)]
struct Cli {
    /// Name of the lab
    #[arg(long, global = true, default_value = "demo")]
    lab: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the demo from the beginning, and leave the nodes up
    Run {
        /// The package to install
        #[arg(long, default_value_os_t = package())]
        deb: PathBuf,
    },
    /// A root shell on a node of the demo
    Shell {
        #[arg(default_value = "n1")]
        node: String,
    },
    /// Take the nodes away
    Clean,
}

/// Where `make deb` puts it.
fn package() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.unwrap_or(Path::new("/")).join("target/debian/convoke.deb")
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Run { deb } => run(&cli.lab, &deb),
        Verb::Shell { node } => shell(&cli.lab, &node),
        Verb::Clean => Lab::purge(&cli.lab).map(|()| println!("demo: the nodes are gone")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("demo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn shell(name: &str, node: &str) -> Result<()> {
    let lab = Lab::attach(name).context("run `make demo` first")?;
    Err(lab.named(node)?.command("cd; exec bash -l")?.exec()).context("cannot start a shell")
}

fn run(name: &str, deb: &Path) -> Result<()> {
    let t = Timeline::begin();
    let cluster = setup::nodes(&t, name, deb).context("making the nodes")?;
    let done = story(&t, &cluster);
    if done.is_err() {
        // The logs say more than the message.
        match cluster.lab.save_logs() {
            Ok(dir) => eprintln!("demo: logs of the nodes: {}", dir.display()),
            Err(e) => eprintln!("demo: cannot save the logs: {e:#}"),
        }
        eprintln!("demo: the nodes are still up: `make demo-shell`, `make demo-clean`");
    }
    cluster.lab.keep();
    done
}

fn story(t: &Timeline, cluster: &Cluster) -> Result<()> {
    let address = cluster.lab.service_address(0);
    setup::boot(t, cluster).context("booting the nodes")?;
    setup::form(t, cluster).context("forming the cluster")?;
    setup::fencing(t, cluster).context("setting up fencing")?;
    setup::database(t, cluster, &address).context("creating the database")?;
    setup::units(t, cluster, &address).context("making cluster units")?;

    let mut client = Client::start(&address);
    client.wait_commit(0, Duration::from_secs(20))?;
    t.say("client", &format!("commits rows through {address} from now on"));
    let mut stage = Stage { t, cluster, client: &mut client };
    stage.calm()?;
    stage.planned_move().context("the planned move")?;
    stage.calm()?;
    stage.wrong_node().context("the start on the wrong node")?;
    stage.kill().context("the killed server")?;
    stage.calm()?;
    stage.power_loss().context("the power loss")?;
    stage.calm()?;

    let rows = client.committed();
    let acked = client.finish()?;
    let node = cluster.wait_settled("", Duration::from_secs(10))?;
    check::ledger(t, &node, &acked).with_context(|| format!("the account of {rows} rows"))?;
    t.say("status", "convoke status");
    t.quote(&cluster.convoke("status")?);
    println!();
    println!("All of it happened as said. The nodes are still up:");
    println!(
        "  make demo-shell     a root shell on n1: try convoke status, convoke events, convoke why pg-address"
    );
    println!("  make demo-clean     takes the nodes away");
    Ok(())
}
