//! `convoke config`: the cluster's settings as a document.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use super::agents::unless_interrupted;
use super::bus::Bus;
use super::exit::{Code, Failure};
use super::{out, plugs};
use crate::api::document::{self, Document};
use crate::fence_agents;

/// A settings document of a thousand nodes has some hundred kilobytes.
const FILE_MAX: u64 = 4 * 1024 * 1024;

pub(super) async fn show(bus: &Bus, json: bool) -> Result<(), Failure> {
    let text = bus.0.config_show().await?;
    if !json {
        out::print(&text);
        return Ok(());
    }
    let value: toml::Value = toml::from_str(&text).map_err(|error| Failure::of(Code::Failed, &error))?;
    out::json(&value);
    Ok(())
}

pub(super) async fn diff(bus: &Bus, file: &Path) -> Result<(), Failure> {
    let (_, changes) = compare(bus, file).await?;
    if changes.is_empty() {
        out::say("nothing would change");
        return Ok(());
    }
    out::print(&changes);
    Err(Failure::new(Code::Differs, ""))
}

pub(super) async fn apply(bus: &Bus, file: &Path) -> Result<(), Failure> {
    let (text, changes) = compare(bus, file).await?;
    if changes.is_empty() {
        out::say("nothing to change: the settings are in force already");
        return Ok(());
    }
    bus.0.config_apply(&text).await?;
    out::print(&changes);
    out::say("these settings are in force now");
    Ok(())
}

/// The document and what it would change. Its mistakes are found here, with the file's own name.
async fn compare(bus: &Bus, file: &Path) -> Result<(String, String), Failure> {
    let text = read(file)?;
    if says_nothing(&text) {
        let failure = Failure::new(Code::Usage, format!("`{}` is empty", file.display()));
        return Err(failure.hint(
            "in force, it would take away every fence device; whoever means that writes the settings that stay, \
             such as `detect = \"2s\"`",
        ));
    }
    let picture = bus.confirmed().await?;
    let names = picture.nodes.iter().map(|node| (node.name.clone(), policy::NodeId(node.id))).collect();
    let old = bus.0.config_show().await?;
    let (found, asked) = unless_interrupted(look(&text, file, &old)).await?;
    let refused = |findings: Vec<_>| Failure::new(Code::Usage, document::listing(&findings));
    let new = document::joined(document::parse(&text, file, &names), found).map_err(refused)?;
    // Only a document without another mistake is worth a question to the devices.
    let lists = unless_interrupted(plugs::ask(&new, &names, &asked)).await?;
    let new: Document =
        document::joined(Ok(new), document::against_plugs(&text, file, &lists)).map_err(refused)?;
    for finding in &new.warnings {
        out::note(&document::warning(finding));
    }
    Ok((text, document::diff(&old, &document::render(&new.settle(&names)))))
}

fn says_nothing(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
}

/// What the agents of this node say to it, and of which targets the devices are to be asked for their plugs. Agents are asked
/// by this process, and not by the daemon.
async fn look(text: &str, file: &Path, in_force: &str) -> (document::Findings, BTreeSet<(String, String)>) {
    let looks = fence_agents::look(fence_agents::DIRECTORY.as_ref(), &document::agents(text)).await;
    let asked = document::listed_by(text, &looks, in_force);
    (document::against_agents(text, file, "/".as_ref(), &looks, in_force), asked)
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Code::Usage, format!("cannot read `{}`: {error}", file.display()))
    };
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(FILE_MAX).read_to_string(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(file)
            .map_err(failed)?
            .take(FILE_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::says_nothing;

    #[test]
    fn a_document_without_a_setting_is_taken_for_a_mistake() {
        assert!(["", "\n \n", "# detect = \"2s\"\n  # and so on"].into_iter().all(says_nothing));
        assert!(!says_nothing("# two seconds\ndetect = \"2s\"\n"));
    }
}
