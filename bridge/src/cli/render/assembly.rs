//! The boot-up of a clustered service: one line where all is well, else what was heard of whose data.

use crate::api::model::{AssemblyLine, DataLine};
use crate::cli::out::{Row, Style, Tone};

/// Below the unit's own lines.
pub(super) fn section(assembly: &AssemblyLine, style: Style) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        out.push_str(&style.paragraph(&format!("  {name:<12}"), &" ".repeat(14), value));
    };
    line("assembly", &headline(assembly));
    for word in &assembly.words {
        let by = word.by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
        line("word", &format!("{} {}{by}", word.word, word.node));
    }
    if let Some(election) = &assembly.election {
        let data = data(Some(election.rank), election.identity.as_deref());
        let absent = election.absent.join(", ");
        let why = match election.ground.as_str() {
            "all-heard" => "all that were live last were heard".to_owned(),
            "best" => format!("{absent} did not come in time"),
            _ if absent.is_empty() => "by an operator's word".to_owned(),
            _ => format!("by an operator's word, without {absent}"),
        };
        line("elected", &format!("{}, to start alone with {data}: {why}", election.node));
    }
    if !assembly.awaited.is_empty() {
        line("waits for", &assembly.awaited.join(", "));
    }
    if let Some(seconds) = assembly.best_in_s {
        line(
            "",
            &format!("in {seconds} s the best of those heard begins, if most of them were (GatherThen=best)"),
        );
    }
    if !is_plain(assembly) {
        out.push('\n');
        out.push_str(&table(assembly, style));
    }
    out
}

fn headline(assembly: &AssemblyLine) -> String {
    let style = &assembly.style;
    let epoch = assembly.epoch;
    let since = assembly.since_s.map(|seconds| format!(" for {}", span(seconds))).unwrap_or_default();
    match assembly.state.as_str() {
        "gathering" if style == "by-rank" && !assembly.formed => {
            format!("{style}; nobody ever held it; vacancy {epoch}{since}")
        }
        "gathering" if style == "by-rank" => {
            format!("{style}; vacancy {epoch}{since}: all that may have the latest data are asked")
        }
        "formed" if style == "by-rank" => format!("{style}; it is held"),
        "gathering" if !assembly.formed => {
            format!("{style}; never came up; gathering {epoch}{since}: all are asked how their data stands")
        }
        "gathering" => format!("{style}; gathering {epoch}{since}: all are asked how their data stands"),
        "elected" => format!("{style}; gathering {epoch}{since}: who begins is decided"),
        "formed" => match &assembly.formation {
            Some(formation) if formation.epoch > 0 => {
                let began = formation.identity.as_deref();
                let began = began
                    .map(|identity| format!(", with {}", data(None, Some(identity))))
                    .unwrap_or_default();
                format!("{style}; came up in gathering {}{began}", formation.epoch)
            }
            _ => format!("{style}; it was live before the cluster gathered anything"),
        },
        _ => format!("{style}; never came up"),
    }
}

/// Whether everything that may have the latest data is up and ready, and nobody else has anything to say.
fn is_plain(assembly: &AssemblyLine) -> bool {
    let plain = |node: &DataLine| {
        let copy = if node.last { node.copy == "ready" } else { node.copy == "none" };
        copy && (node.void || node.data == "unheard")
    };
    assembly.state == "new" || (assembly.state == "formed" && assembly.nodes.iter().all(plain))
}

/// What is known of each node's copy and data.
pub(in crate::cli) fn table(assembly: &AssemblyLine, style: Style) -> String {
    let row = |node: &DataLine| {
        let (tone, copy) = copy(node);
        Row {
            cells: vec![
                (Tone::Strong, node.node.clone()),
                (Tone::Plain, if node.last { "yes" } else { "-" }.to_owned()),
                (tone, copy.to_owned()),
                (Tone::Plain, said(node)),
            ],
            notes: node.lacks.iter().map(|lacks| format!("not ready: {lacks}")).collect(),
        }
    };
    let rows: Vec<Row> = assembly.nodes.iter().map(row).collect();
    style.table(&["NODE", "LIVE LAST", "COPY", "DATA"], &rows)
}

fn copy(node: &DataLine) -> (Tone, &str) {
    match node.copy.as_str() {
        "ready" => (Tone::Good, "ready"),
        "not-ready" => (Tone::Mind, "not ready"),
        "unproven" | "unknown" => (Tone::Bad, "may run"),
        "ended" | "none" => (Tone::Plain, "-"),
        other => (Tone::Mind, other),
    }
}

/// What a node said of its data, and whether that counts.
fn said(node: &DataLine) -> String {
    let silence = match (node.node_state.as_str(), node.silent_s) {
        (state, Some(seconds)) => Some(format!("{} is {state} for {}", node.node, span(seconds))),
        ("unknown", None) => Some(format!("{} was never heard", node.node)),
        _ => None,
    };
    let said = match node.data.as_str() {
        "stopped" if node.safe => {
            format!("{}, safe to begin with", data(node.rank, node.identity.as_deref()))
        }
        "stopped" => {
            let branch = if node.branch.is_some() { ", maybe on a branch of its own" } else { "" };
            format!("{}{branch}", data(node.rank, node.identity.as_deref()))
        }
        "empty" => "empty".to_owned(),
        "unusable" => "unusable: half copied or damaged".to_owned(),
        "live" => "a copy runs on it, and serves".to_owned(),
        "live-without-quorum" => "a copy runs on it, and waits for others".to_owned(),
        "busy" => "a copy is starting or stopping on it".to_owned(),
        "failed" => format!("not known: Position= failed: {}", node.error.as_deref().unwrap_or("no word")),
        _ => return silence.map_or_else(|| "not heard".to_owned(), |why| format!("not heard: {why}")),
    };
    match silence {
        Some(why) => format!("{said}; does not count: {why}"),
        // A copy that runs says by itself that this is the past.
        None if node.void && matches!(node.copy.as_str(), "ended" | "none" | "unproven") => {
            format!("{said}; does not count: a copy ran there since, or {} came anew", node.node)
        }
        None if node.void => format!("was {said}"),
        None => said,
    }
}

/// How far data is, and of which history.
pub(in crate::cli) fn data(rank: Option<i64>, identity: Option<&str>) -> String {
    match (rank, identity) {
        (Some(rank), Some(identity)) => format!("rank {rank} of {identity}"),
        (None, Some(identity)) => format!("data of {identity}"),
        (_, None) => "no data".to_owned(),
    }
}

/// A time as people say it.
pub(in crate::cli) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
