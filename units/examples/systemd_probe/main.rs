//! Tries the driver on a real systemd. Run it as root inside a node of the lab: it writes units to
//! `/run/systemd/system`, starts, stops and kills them, and prints one line per thing that was seen.
//!
//! `systemd_probe all` runs everything but what ends the machine; `systemd_probe serve UNIT` watches a unit and
//! appends the cause of each of its stops to `/probe.log`, for the shutdown cases.

mod agents;
mod causes;
mod files;
mod jobs;
mod left;
mod manager;
mod probe;
mod serve;

use std::fs;

use anyhow::{Context as _, Result, bail};
use units::systemd::{Link, Signal};

use crate::files::UNITS;
use crate::probe::{Probe, Score, say};

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve") => serve::serve(args.get(1).context("which unit?")?).await,
        Some("all") | None => all().await,
        Some(other) => bail!("unknown: {other}"),
    }
}

async fn all() -> Result<()> {
    fs::create_dir_all("/run/systemd/system")?;
    for (name, text) in UNITS {
        fs::write(format!("/run/systemd/system/{name}"), text)?;
    }
    let mut score = Score { failed: 0 };
    let mut probe = Probe::new(Link::Bus).await?;
    probe.systemd.reload_daemon().await?;
    probe.settle(300).await;
    let reloads = probe.heard.iter().filter(|signal| matches!(signal, Signal::Reloading(_))).count();
    score.expect("a reload is heard twice", Ok(reloads.to_string()), "2");
    score.note("facts", manager::facts(&probe).await);
    for link in [Link::Bus, Link::Private] {
        say(&format!("--- {link:?}"));
        let mut probe = Probe::new(link).await?;
        score.note("start and stop", jobs::start_stop(&mut probe).await);
        score.note("short jobs", jobs::short_jobs(&mut probe).await);
        score.note("left-over processes", left::leftovers(&probe).await);
        score.note("a stop that times out", left::stubborn(&probe).await);
        score.note("auto-restart", left::auto_restart(&probe).await);
        score.note("mount", left::mount(&probe).await);
        score.note("parts of a target", left::parts(&probe, "group.target", "part.service").await);
        score.note("parts that stop later", left::parts(&probe, "early.target", "latepart.service").await);
        score.note("own jobs under load", jobs::ours(&mut probe).await);
        score.note("a name with escapes", left::escaped(&mut probe).await);
        agents::transients(&probe, &mut score).await;
    }
    say("--- causes");
    causes::causes(&mut probe, &mut score).await?;
    score.note("freeze and thaw", manager::freeze(&probe).await);
    score.note("journal", manager::journal().await);
    score.note("bound agent dies with its daemon and does not come back", agents::bound(&probe).await);
    score.note("leftover agents", agents::leftover_agents(&probe).await);
    score.note("reexec", manager::reexec(probe).await);
    score.note("many watches", manager::many_watches().await);
    score.note("no bus", manager::no_bus().await);
    say(&format!("{} failed", score.failed));
    std::process::exit(i32::from(score.failed > 0));
}
