//! `convoke fence agents` and `convoke fence describe`: the fence agents of this machine.
//!
//! Needs neither daemon nor cluster: a device is chosen before there is one.

use std::path::Path;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Code, Failure};
use super::out::{self, Style};
use super::render;
use crate::fence_agents::{self, AskError, DIRECTORY, Installed, Metadata};

/// What is said where there is none.
const PACKAGE: &str = "on Debian the package fence-agents has them";

/// An agent in the list, for scripts.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    /// Whether it can switch a node off and show that it did.
    can_prove_off: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// An agent by itself, for scripts.
#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    metadata: &'a Metadata,
    can_prove_off: bool,
    notes: Vec<&'static str>,
}

pub(super) async fn list(json: bool) -> Result<(), Failure> {
    let directory = Path::new(DIRECTORY);
    let installed = unless_interrupted(fence_agents::installed(directory))
        .await?
        .map_err(|error| Failure::new(Code::Failed, format!("cannot read {DIRECTORY}: {error}")))?;
    if json {
        out::json(&installed.iter().map(listed).collect::<Vec<_>>());
    } else if installed.is_empty() {
        out::say(&format!("no fence agent is installed on this machine; {PACKAGE}"));
    } else {
        out::print(&render::agents(&installed, Style::of_stdout()));
    }
    Ok(())
}

fn listed(agent: &Installed) -> Listed<'_> {
    let metadata = agent.look.as_ref().ok();
    Listed {
        name: &agent.name,
        description: metadata.map(|metadata| metadata.short.as_str()),
        can_prove_off: metadata.is_some_and(|metadata| fence_agents::proves_off(&agent.name, metadata)),
        error: agent.look.as_ref().err().map(|error| why(&agent.name, error).text),
    }
}

pub(super) async fn describe(name: &str, json: bool) -> Result<(), Failure> {
    let Some(program) = fence_agents::find(DIRECTORY.as_ref(), name) else {
        return Err(Failure::new(
            Code::NotFound,
            format!("no fence agent `{name}` is installed on this machine"),
        )
        .hint(format!("`convoke fence agents` lists those that are; {PACKAGE}")));
    };
    let asked = unless_interrupted(fence_agents::ask(&program, fence_agents::LIMIT)).await?;
    let metadata = asked.map_err(|error| {
        why(name, &error).hint(format!("try it by hand: `echo action=metadata | {name}`"))
    })?;
    let notes = fence_agents::notes(name);
    if json {
        let can_prove_off = fence_agents::proves_off(name, &metadata);
        out::json(&Described { metadata: &metadata, can_prove_off, notes });
    } else {
        out::print(&render::agent(name, &metadata, &notes, Style::of_stdout()));
    }
    Ok(())
}

/// Gives up when somebody ends this process, so that no agent is left running.
pub(super) async fn unless_interrupted<T>(asking: impl Future<Output = T>) -> Result<T, Failure> {
    let failed = |error: std::io::Error| Failure::of(Code::Failed, &error);
    let mut ended = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        answer = asking => Ok(answer),
        _ = ended.recv() => Err(Failure::new(Code::Failed, "ended; nothing was changed")),
        _ = interrupted.recv() => Err(Failure::new(Code::Failed, "interrupted; nothing was changed")),
    }
}

fn why(name: &str, error: &AskError) -> Failure {
    let failure = Failure::of(Code::Failed, error);
    Failure { text: format!("{name} does not say what it is: {}", failure.text), ..failure }
}
