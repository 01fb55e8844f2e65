//! `convoke assemble`: an operator's word on whose data a clustered service comes up with, for the gathering that was shown.
//!
//! Whatever is said here can lose data that somebody was told is safe. So what was heard and what would be lost is shown
//! before it is asked for, and what cannot be is refused before that. The cluster decides by its own state all the same.

use std::io::{BufRead, IsTerminal};

use tokio::time::Instant;

use super::act;
use super::args::{Said, Wait};
use super::bus::Bus;
use super::exit::{Code, Failure};
use super::judge;
use super::out::{self, Style};
use super::render;
use crate::api::model::{AssemblyLine, DataLine, Overview};

/// What is said of a node's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Do without it.
    Without,
    /// Begin with it.
    From,
    /// Replace it.
    Resync,
}

impl Word {
    /// As the bus takes it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::From => "from",
            Self::Resync => "resync",
        }
    }
}

pub(super) async fn assemble(
    bus: &Bus,
    unit: &str,
    said: &Said,
    yes: bool,
    wait: &Wait,
) -> Result<(), Failure> {
    let unit = act::full(unit)?;
    let (word, node) = word(said)?;
    let picture = bus.confirmed().await?;
    let case = Case::of(&picture, &unit, word, node)?;
    if !yes {
        out::print(&case.explanation(Style::of_stdout()));
        ask(word, node)?;
    }
    let epoch = case.assembly.epoch;
    // From here on: what is asked before is not the cluster's time.
    let until = Instant::now() + wait.timeout;
    let index = act::answer(until, wait, bus.0.assemble(&unit, epoch, word.as_str(), node)).await?;
    let judge = |picture: &Overview| judge::assembled(picture, &unit, epoch, word, node);
    let text = act::follow(bus, wait, until, &unit, judge).await?;
    act::finish(bus, &unit, index, text, "unit-assembly-word", "unit-ready").await;
    Ok(())
}

fn word(said: &Said) -> Result<(Word, &str), Failure> {
    let Said { without, from, resync } = said;
    let words = [(Word::Without, without), (Word::From, from), (Word::Resync, resync)];
    let mut given = words.into_iter().filter_map(|(word, node)| Some((word, node.as_deref()?)));
    given.next().ok_or_else(|| Failure::new(Code::Usage, "give --without, --from or --resync"))
}

/// One word, with everything that it is said about.
struct Case<'a> {
    unit: &'a str,
    word: Word,
    assembly: &'a AssemblyLine,
    line: &'a DataLine,
    /// The node's fence device.
    devices: Vec<(&'a str, &'a str)>,
}

impl<'a> Case<'a> {
    /// The case, unless the cluster would refuse the word whatever the operator answers.
    fn of(picture: &'a Overview, unit: &'a str, word: Word, node: &str) -> Result<Self, Failure> {
        let why = || format!("`convoke why {unit}` says what it waits for");
        let Some(found) = judge::find(picture, unit) else {
            return Err(
                Failure::new(Code::NotFound, format!("no cluster unit `{unit}`")).hint("convoke list-units")
            );
        };
        let Some(assembly) = &found.assembly else {
            let text = format!("{unit} has no Assembly=: each copy starts by itself");
            return Err(Failure::new(Code::Failed, text));
        };
        if !picture.nodes.iter().any(|known| known.name == node) {
            return Err(Failure::new(Code::NotFound, format!("no node `{node}` in this cluster"))
                .hint("convoke list-nodes"));
        }
        let Some(line) = assembly.nodes.iter().find(|line| line.node == node) else {
            let text = format!("{node} has nothing of {unit}, neither its files nor its data");
            return Err(Failure::new(Code::Failed, text).hint(why()));
        };
        if word != Word::Resync && assembly.state != "gathering" {
            let text = format!("{unit} is not waiting to be assembled");
            return Err(Failure::new(Code::Failed, text).hint(why()));
        }
        let runs = matches!(line.copy.as_str(), "ready" | "not-ready" | "starting" | "stopping");
        let wrong = match word {
            Word::Without if !line.last => format!("{node} was not live last: nobody waits for its data"),
            Word::From if !has_told(line) => format!("{node} has not said how its data stands"),
            Word::From if line.data == "unusable" => format!("the data of {node} is unusable"),
            Word::From if line.data == "empty" && assembly.formed => {
                format!("{node} is empty, and there was data once")
            }
            Word::From if line.data == "empty" && with_data(assembly).is_some() => {
                let other = with_data(assembly).map_or("", |other| other.node.as_str());
                format!("{node} is empty, and {other} has data")
            }
            Word::Resync if !assembly.resync => {
                format!("no StartResync= of {unit} says how data is replaced")
            }
            Word::Resync if runs => format!("a copy of {unit} runs on {node}, on that data"),
            _ => {
                let device =
                    |node: &'a crate::api::model::NodeLine| Some((&*node.name, node.device.as_deref()?));
                let devices = picture.nodes.iter().filter_map(device).collect();
                return Ok(Self { unit, word, assembly, line, devices });
            }
        };
        Err(Failure::new(Code::Failed, wrong).hint(why()))
    }

    fn explanation(&self, style: Style) -> String {
        let Self { unit, assembly, line, .. } = self;
        let node = &line.node;
        let mut out = match assembly.since_s {
            Some(seconds) => {
                format!("{unit}: gathering {}, for {}\n\n", assembly.epoch, render::span(seconds))
            }
            None => format!("{unit}: up since gathering {}\n\n", assembly.epoch),
        };
        out.push_str(&render::data_table(assembly, style));
        out.push('\n');
        let (head, sentences) = match self.word {
            Word::Without => (format!("You are about to do without the data of {node}."), self.without()),
            Word::From => (format!("You are about to begin with the data of {node}."), self.from()),
            Word::Resync => (format!("You are about to throw the data of {node} away."), self.resync()),
        };
        out.push_str(&style.paragraph("", "", &head));
        for sentence in sentences {
            out.push_str(&style.paragraph("  - ", "    ", &sentence));
        }
        out
    }

    fn without(&self) -> Vec<String> {
        let Self { line, .. } = self;
        let node = &line.node;
        let mut sentences = vec![format!(
            "What only {node} has is lost. If it is later than what the others begin with, {node} does not join them \
             before {}.",
            self.thrown_away(node)
        )];
        sentences.extend(self.proof(line));
        sentences.push(self.begins());
        if !has_told(line) {
            sentences.push(format!("If {node} can be brought back, do that instead: then nothing is lost."));
        }
        sentences
    }

    fn from(&self) -> Vec<String> {
        let Self { unit, assembly, line, .. } = self;
        let node = &line.node;
        let mut sentences = Vec::new();
        if line.data == "empty" {
            sentences.push(format!(
                "{node} has no data of {unit} yet: whatever is there becomes its first, and what other such nodes have \
                 is replaced by it."
            ));
        } else {
            let data = render::data(line.rank, line.identity.as_deref());
            sentences.push(format!("{node} begins with {data}, whatever the others have."));
        }
        if !assembly.formed {
            sentences.push(format!("{unit} never came up: this is its first data."));
        }
        let mut lost = false;
        for other in assembly.nodes.iter().filter(|other| other.node != *node) {
            let name = &other.node;
            let what = if !has_told(other) && other.last {
                format!("{name} was live last and was not heard: what only it has is lost.")
            } else if other.last && assembly.awaited.contains(name) && other.data != "stopped" {
                format!("{name} was live last, and its data is {}: what only it had is lost.", other.data)
            } else if other.data != "stopped" || !has_told(other) {
                continue;
            } else if other.identity != line.identity {
                let history = other.identity.as_deref().unwrap_or("unknown");
                format!("{name} has data of another history ({history}): all of it is lost.")
            } else if other.branch.is_some() || line.branch.is_some() {
                let data = render::data(other.rank, other.identity.as_deref());
                format!(
                    "{name} and {node} may be on different branches of one history ({name}: {data}): what {name} has \
                     beyond their common part is lost."
                )
            } else if other.rank > line.rank {
                let data = render::data(other.rank, other.identity.as_deref());
                format!("{name} has later data ({data}): what it has beyond that of {node} is lost.")
            } else {
                continue;
            };
            lost = true;
            sentences.push(what);
        }
        if lost {
            sentences
                .push(format!("Whoever has such data does not join before {}.", self.thrown_away("NODE")));
        }
        sentences.extend(assembly.nodes.iter().filter_map(|other| self.proof(other)));
        sentences
    }

    fn resync(&self) -> Vec<String> {
        let Self { line, .. } = self;
        let node = &line.node;
        let data = match line.data.as_str() {
            "stopped" => format!(" ({})", render::data(line.rank, line.identity.as_deref())),
            _ => String::new(),
        };
        vec![
            format!(
                "What only {node} has{data} is lost for good. Copy it aside first if anybody may want it."
            ),
            format!(
                "{node} then takes everything from a copy that is live and ready. This counts for one start."
            ),
        ]
    }

    /// What lets a node join whose data is not a part of what the others begin with.
    fn thrown_away(&self, node: &str) -> String {
        if self.assembly.resync {
            format!("`convoke assemble {} --resync {node}` throws it away", self.unit)
        } else {
            "it is emptied by hand: no StartResync= says how the cluster would".to_owned()
        }
    }

    /// What has to be proven of a node that may run its copy still.
    fn proof(&self, line: &DataLine) -> Option<String> {
        let node = &line.node;
        if !matches!(line.copy.as_str(), "unproven" | "unknown") {
            return None;
        }
        if line.silent_s.is_none() {
            return Some(format!(
                "{node} has not said that its copy ended, and nobody begins before it does: mend Position= there, or \
                 reboot it."
            ));
        }
        let device = self.devices.iter().find(|(name, _)| *name == node).map(|(_, device)| *device);
        let how = match device {
            Some(device) => format!("it is fenced by {device}"),
            None => format!("it has no fence device, so give your word by `convoke fence confirm {node}`"),
        };
        Some(format!("{node} may run still, and nobody begins before it is proven off: {how}."))
    }

    /// Who would begin once this node's data is given up, as far as the picture tells.
    fn begins(&self) -> String {
        let Self { assembly, line, .. } = self;
        let word = |word: &str, node: &str| assembly.words.iter().any(|w| w.word == word && w.node == node);
        let rest: Vec<&DataLine> = assembly
            .nodes
            .iter()
            .filter(|other| other.last && other.node != line.node && !word("without", &other.node))
            .collect();
        let waited = |other: &&&DataLine| !has_told(other) || assembly.awaited.contains(&other.node);
        let awaited = names(rest.iter().filter(waited));
        if !awaited.is_empty() {
            return format!("Nobody begins yet: {} is waited for too.", awaited.join(", "));
        }
        let with_data: Vec<&DataLine> = rest.into_iter().filter(|other| other.data == "stopped").collect();
        let Some(best) = with_data.iter().copied().max_by_key(|other| (other.rank, other.safe)) else {
            return "Nobody begins by this alone: no other node that was live last has usable data."
                .to_owned();
        };
        if let Some(branch) = with_data.iter().find(|other| other.branch.is_some()) {
            return format!(
                "Nobody begins by this alone: the data of {} may have a branch of its own. Choose with --from.",
                branch.node
            );
        }
        if with_data.iter().any(|other| other.identity != best.identity) {
            return "Nobody begins by this alone: the others' data has several histories. Choose with --from.".to_owned();
        }
        let equal = with_data.iter().filter(|other| (other.rank, other.safe) == (best.rank, best.safe));
        format!(
            "{} begins then, with {}: the latest that was heard of those that were live last.",
            names(equal).join(" or "),
            render::data(best.rank, best.identity.as_deref())
        )
    }
}

fn names<'a>(lines: impl Iterator<Item = &'a &'a DataLine>) -> Vec<&'a str> {
    lines.map(|line| line.node.as_str()).collect()
}

/// A node that has data, whatever it is worth.
fn with_data(assembly: &AssemblyLine) -> Option<&DataLine> {
    assembly.nodes.iter().find(|line| !line.void && matches!(line.data.as_str(), "stopped" | "unusable"))
}

/// Whether it said how its data stands, and that counts.
fn has_told(line: &DataLine) -> bool {
    !line.void && matches!(line.data.as_str(), "stopped" | "empty" | "unusable")
}

fn ask(word: Word, node: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Code::Usage, "there is no terminal to ask on; nothing was changed")
            .hint("a script that knows what is lost gives --yes"));
    }
    let what = match word {
        Word::Without => "do without its data",
        Word::From => "begin with its data",
        Word::Resync => "throw its data away",
    };
    out::print(&format!("\nType the node's name ({node}) to {what}: "));
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_err() || typed.trim() != node {
        return Err(Failure::new(Code::Failed, "that is not the node's name; nothing was changed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
