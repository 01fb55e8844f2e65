//! `convoke`, the operator's command line.
//!
//! Asks this node's convoked over D-Bus and shows the answers; it never touches the cluster's files but to make or
//! join a cluster, nor systemd's but to put a recipe there. Words in, exit codes and text out; what may happen is decided elsewhere.

mod act;
mod adopt;
mod agents;
mod args;
mod assemble;
mod bus;
mod check;
mod confirm;
mod drill;
mod exit;
mod fence;
mod gate;
mod judge;
mod look;
mod maintain;
mod member;
mod ocf;
mod out;
mod plan;
mod plugs;
mod recipe;
mod render;
mod settings;
mod site;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Config, Fence, Verb};
use bus::Bus;
use exit::{Code, Failure};

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { json, verb } = Cli::parse();
    out::speak(json);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::of(Code::Failed, &error)),
    };
    // The gate has an exit code of its own and speaks to a journal, not to a person.
    if let Verb::Gate { unit } = &verb {
        return runtime.block_on(gate::gate(unit));
    }
    match runtime.block_on(run(verb, json)).and_then(|()| out::written()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// The words of the command line, for its manual page and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

fn fail(failure: &Failure) -> ExitCode {
    tell(failure);
    failure.code.into()
}

fn tell(failure: &Failure) {
    if !failure.text.is_empty() {
        // Findings bring their own heading.
        let heading = if failure.text.starts_with("error") { "" } else { "error: " };
        out::note(&format!("{heading}{}", failure.text));
    }
    if let Some(hint) = &failure.hint {
        out::note(&format!("hint: {hint}"));
    }
}

async fn run(verb: Verb, json: bool) -> Result<(), Failure> {
    match verb {
        Verb::Version => out::say(concat!("convoke ", env!("CARGO_PKG_VERSION"))),
        Verb::ExitCodes => out::say(exit::TABLE),
        Verb::Init(asked) => member::init(&asked).await?,
        Verb::Join(asked) => member::join(&asked).await?,
        Verb::Verify { units } => verify(&units, json)?,
        Verb::Fence { verb: Some(Fence::Agents) } => agents::list(json).await?,
        Verb::Fence { verb: Some(Fence::Describe { agent }) } => {
            agents::describe(&agent, json).await?;
        }
        Verb::EnableRecipe { name, instance } => {
            recipe::enable("/".as_ref(), name.as_deref(), instance.as_deref())?;
        }
        Verb::Ocf { verb } => ocf::ocf("/".as_ref(), verb, json).await?,
        verb => ask(&Bus::connect().await?, verb, json).await?,
    }
    Ok(())
}

async fn ask(bus: &Bus, verb: Verb, json: bool) -> Result<(), Failure> {
    match verb {
        Verb::Status { name } => look::status(bus, name.as_deref(), json).await,
        Verb::ListUnits => look::units(bus, json).await,
        Verb::ListNodes => look::nodes(bus, json).await,
        Verb::Check => check::check(bus, json).await,
        Verb::Why { unit } => look::why(bus, &unit, json).await,
        Verb::Events { lines, follow, unit, node } => {
            look::events(bus, &look::Filter { lines, unit, node }, follow, json).await
        }
        Verb::Plan { verb } => plan::plan(bus, verb.unwrap_or(args::Plan::Now), json).await,
        Verb::Start { units, on, wait } => act::start(bus, &units, on.as_deref(), &wait).await,
        Verb::Stop { units, wait } => act::stop(bus, &units, &wait).await,
        Verb::Move { unit, to, from, wait } => {
            act::move_unit(bus, &unit, from.as_deref(), to.as_deref(), &wait).await
        }
        Verb::Drain { whom, no_wait, timeout } => match whom.node {
            Some(node) => {
                let timeout = timeout.unwrap_or(act::DRAINED);
                act::drain(bus, &node, &args::Wait { no_wait, timeout }).await
            }
            None => site::off(bus, &args::Wait { no_wait, timeout: timeout.unwrap_or(site::OFF) }).await,
        },
        Verb::Undrain { whom, no_wait, timeout } => match whom.node {
            Some(node) => act::undrain(bus, &node).await,
            None => site::on(bus, &args::Wait { no_wait, timeout }).await,
        },
        Verb::Maintain { what, reason } => maintain::begin(bus, &what, &reason).await,
        Verb::Unmaintain { what } => maintain::end(bus, &what).await,
        Verb::Fence { verb: None } => look::fences(bus, json).await,
        Verb::Fence { verb: Some(Fence::List) } => look::fences(bus, json).await,
        Verb::Fence { verb: Some(Fence::Confirm { node, verified }) } => {
            confirm::confirm(bus, &node, verified).await
        }
        Verb::Fence { verb: Some(Fence::Test { node, level, yes, no_wait, timeout }) } => {
            drill::test(bus, &node, level, yes, &args::Wait { no_wait, timeout }).await
        }
        Verb::Fence { verb: Some(Fence::Cancel { node }) } => {
            bus.0.fence_cancel(&node).await?;
            done(&format!("the drill of {node} is taken back"))
        }
        Verb::Fence { verb: Some(Fence::Why { node }) } => fence::why(bus, &node, json).await,
        Verb::Fence { verb: Some(Fence::History { node, device }) } => {
            fence::history(bus, node.as_deref(), device.as_deref(), json).await
        }
        Verb::Leave { node } => {
            bus.0.leave(&node).await?;
            done(&format!(
                "{node} is out of the cluster; before it can join again, remove /var/lib/convoke there"
            ))
        }
        Verb::Forget { units } => act::forget(bus, &units).await,
        Verb::Adopt { unit, from, yes } => adopt::adopt(bus, &unit, &from, yes).await,
        Verb::Assemble { unit, said, yes, wait } => assemble::assemble(bus, &unit, &said, yes, &wait).await,
        Verb::ResetFailed { units, node } => act::reset_failed(bus, &units, node.as_deref()).await,
        Verb::Token { valid } => done(&bus.0.issue_token(valid).await?),
        Verb::Config { verb: Config::Show } => settings::show(bus, json).await,
        Verb::Config { verb: Config::Diff { file } } => settings::diff(bus, &file).await,
        Verb::Config { verb: Config::Apply { file } } => settings::apply(bus, &file).await,
        // The rest needs no daemon and was done before.
        Verb::Init(_)
        | Verb::Join(_)
        | Verb::Verify { .. }
        | Verb::Fence { verb: Some(Fence::Agents | Fence::Describe { .. }) }
        | Verb::EnableRecipe { .. }
        | Verb::Ocf { .. }
        | Verb::Gate { .. }
        | Verb::Version
        | Verb::ExitCodes => Ok(()),
    }
}

fn done(text: &str) -> Result<(), Failure> {
    out::say(text);
    Ok(())
}

fn verify(names: &[String], json: bool) -> Result<(), Failure> {
    let names: Vec<String> = names.iter().map(|name| act::full(name)).collect::<Result<_, _>>()?;
    let findings = units::verify::verify("/".as_ref(), &names);
    if json {
        out::json(&findings);
    } else {
        for finding in &findings {
            out::say(&finding.render());
        }
    }
    let errors = findings.iter().filter(|finding| finding.severity == units::Severity::Error).count();
    if errors > 0 {
        return Err(Failure::new(
            Code::Failed,
            format!("{errors} of {} findings are errors", findings.len()),
        )
        .hint("the cluster starts no unit that has one"));
    }
    if !json && findings.is_empty() {
        out::say("nothing found");
    }
    Ok(())
}

/// Three nodes where all is well, for tests of what a picture is used for elsewhere.
#[cfg(test)]
pub(crate) fn sample() -> crate::api::model::Overview {
    render::samples::picture()
}

#[cfg(test)]
mod tests;
