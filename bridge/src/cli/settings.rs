//! `convoke config`: the cluster's settings as a document.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use policy::NodeId;

use super::agents::unless_interrupted;
use super::bus::Bus;
use super::exit::{Code, Failure};
use super::{out, plugs};
use crate::api::document::{self, Document};
use crate::api::model::NodeLine;
use crate::config::Finding;
use crate::fence_agents::{self, Look};
use crate::secrets::Secrets;

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

/// The document, with the targets in it that its devices list, and what it would change. Its mistakes are found here, with the file's own
/// name.
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
    let names = picture.nodes.iter().map(|node| (node.name.clone(), NodeId(node.id))).collect();
    let old = bus.0.config_show().await?;
    // Agents are asked by this process, and not by the daemon.
    let agents = document::agents(&text);
    let looks = unless_interrupted(fence_agents::look(fence_agents::DIRECTORY.as_ref(), &agents)).await?;
    let (text, told) = with_lists(text, file, &names, &looks).await?;
    let found = document::against_agents(&text, file, "/".as_ref(), &looks, &old);
    let mut asked = document::listed_by(&text, &looks, &old);
    asked.retain(|(device, _)| !told.contains(device));
    let new = document::joined(document::parse(&text, file, &names), found).map_err(refused)?;
    let lacking = unless_interrupted(document::lacking(&new, &Secrets::default())).await?;
    // What it lacks is told where it stands, and not once more by a device that could not be asked for it.
    let complete = |device: &str| {
        let device = new.devices.get(device);
        device.is_none_or(|device| device.secrets.values().all(|source| !lacking.contains_key(source)))
    };
    asked.retain(|(device, _)| complete(device));
    // Only a document without another mistake is worth a question to the devices.
    let lists = unless_interrupted(plugs::ask(&new, &names, &asked)).await?;
    let new: Document =
        document::joined(Ok(new), document::against_plugs(&text, file, &lists)).map_err(refused)?;
    let found = document::against_secrets(&text, file, &new, &lacking);
    let new = document::joined(Ok(new), found).map_err(refused)?;
    let placed = |node: &NodeLine| Some((NodeId(node.id), (node.name.clone(), node.role()?)));
    let nodes = picture.nodes.iter().filter_map(placed).collect();
    let votes = document::against_votes(&text, file, &new, &nodes);
    let new = document::joined(Ok(new), votes).map_err(refused)?;
    for finding in &new.warnings {
        out::note(&document::warning(finding));
    }
    Ok((text, document::diff(&old, &document::render(&new.settle(&names)))))
}

fn says_nothing(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
}

/// The document with a table where it says `targets = "list"`, which is told, and the devices that were asked for that.
async fn with_lists(
    text: String,
    file: &Path,
    names: &BTreeMap<String, NodeId>,
    looks: &BTreeMap<String, Look>,
) -> Result<(String, BTreeSet<String>), Failure> {
    let places = document::to_list(&text);
    if places.is_empty() {
        return Ok((text, BTreeSet::new()));
    }
    let blank = document::without_lists(&text, &places);
    let read = document::parse(&blank, file, names).map_err(refused)?;
    let actions = document::list_actions(&text, file, &places, &read, looks).map_err(refused)?;
    let asking = plugs::ask_all(fence_agents::DIRECTORY.as_ref(), &read, &actions);
    let lists = unless_interrupted(asking).await?;
    let nodes = names.keys().cloned().collect();
    match document::with_lists((text.as_str(), file), &places, (&read, looks), &lists, &nodes) {
        Ok(written) => {
            written.notes.iter().for_each(|note| out::note(note));
            Ok((written.text, places.into_keys().collect()))
        }
        Err(mut findings) => {
            // An option that the agent does not know may be why its device does not answer.
            findings.extend(document::against_agents(&blank, file, "/".as_ref(), looks, "").errors);
            findings.sort_by_key(|finding| (finding.line, finding.column));
            Err(refused(findings))
        }
    }
}

fn refused(findings: Vec<Finding>) -> Failure {
    Failure::new(Code::Usage, document::listing(&findings))
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
