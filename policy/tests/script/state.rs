//! How all stands, as golden text: what a script asks for.

use policy::{
    Class, Evidence, FencePhase, Fencing, Finding, Flaw, Life, Link, Node, NodeId, Phase, Presence, Token,
    Unit, UnitName, VoteFlaw,
};

use super::text::wanted_text;
use super::{Lines, World};

impl World {
    /// The whole state in a few lines.
    pub(super) fn show(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for node in self.state.nodes.values() {
            lines.push(format!("node {}: {}", node.name, presence(node)));
        }
        for (name, unit) in &self.state.units {
            lines.push(self.unit_line(name.as_str(), unit));
        }
        for (id, case) in &self.state.cases {
            let (name, node) = (self.c(*id), self.name(case.node));
            let phase = match &case.phase {
                FencePhase::Wanted => "wanted".to_string(),
                phase if self.is_running(phase) => format!("attempt {} under way", case.attempts),
                FencePhase::Failed { error, .. } => format!("attempt {} failed: {error}", case.attempts),
                FencePhase::Proven { class, .. } => format!("proven, {}", class_text(*class)),
                FencePhase::Contradicted { .. } => "contradicted".to_string(),
                FencePhase::Cancelled { .. } | FencePhase::Running { .. } => "cancelled".to_string(),
            };
            lines.push(format!("{name} of {node}: {phase}"));
        }
        for (kind, alarm) in &self.state.alarms {
            let node = kind.node().map(|node| format!(" {}", self.name(node))).unwrap_or_default();
            let kind = format!("{kind:?}");
            let kind = kind.split('(').next().unwrap_or_default().to_string();
            lines.push(format!("alarm {kind}{node}: {}", alarm.detail));
        }
        lines
    }

    fn unit_line(&self, name: &str, unit: &Unit) -> String {
        let mut line = format!("unit {name}: goal {}", wanted_text(unit.goal.wanted));
        if let Some(by) = &unit.goal.by {
            line += &format!(" by {by}");
        }
        for (token, permit) in &unit.permits {
            let phase = match &permit.phase {
                Phase::Granted => "granted",
                Phase::Active => "active",
                Phase::Revoking(_) => "revoking",
            };
            line += &format!(", {} {phase} on {}", self.t(*token), self.name(permit.node));
            if permit.contradicted {
                line += " (contradicted)";
            }
            if permit.adopted {
                line += " (adopted)";
            }
        }
        if let Some(boot_up) = &unit.boot_up {
            let live: Vec<String> = boot_up
                .members
                .iter()
                .map(|(node, member)| {
                    let how = match (member.ready, member.ended) {
                        (_, Some(_)) => "ended",
                        (Some(_), _) => "ready",
                        _ => "not ready",
                    };
                    format!("{} ({how})", self.name(*node))
                })
                .collect();
            line += &format!(", live last: {}", if live.is_empty() { "none".into() } else { live.join(" ") });
        }
        if let Some(moving) = &unit.moving {
            let to = moving.to.map_or("anywhere".into(), |to| self.name(to));
            line += &format!(", to leave {} for {to}", self.name(moving.leaving));
        }
        if let Some(node) = unit.asked_for {
            line += &format!(", asked for on {}", self.name(node));
        }
        for (node, hold) in &unit.holds {
            line += &format!(", held on {} by {}", self.name(*node), hold.by);
        }
        for (node, failures) in &unit.failures {
            line += &format!(", failed {}x on {}", failures.count, self.name(*node));
        }
        line
    }

    /// What is wrong with the set of units; in brackets what prevents nothing, or nothing that is wanted now.
    pub(super) fn check(&self) -> Vec<String> {
        let line = |finding: &Finding| {
            let text = format!("{}: {}", finding.unit, self.flaw(&finding.flaw));
            match (finding.flaw.prevents(), finding.is_pressing(&self.state)) {
                (true, true) => text,
                (false, true) => format!("{text} (runs)"),
                (true, false) => format!("{text} (not wanted)"),
                (false, false) => format!("{text} (runs, not wanted)"),
            }
        };
        let flaws = policy::check(&self.state);
        let votes = policy::check_votes(&self.state);
        flaws.iter().map(line).chain(votes.iter().map(|flaw| self.vote_flaw(flaw))).collect()
    }

    /// What is wrong with where the votes are; in brackets what is no error.
    fn vote_flaw(&self, flaw: &VoteFlaw) -> String {
        let names = |nodes: &[NodeId]| nodes.iter().map(|id| self.name(*id)).collect::<Vec<_>>().join(",");
        let text = match flaw {
            VoteFlaw::Together { domain, voters, witnesses, votes } => {
                let lost = voters.len() + witnesses.len();
                let those = [voters.as_slice(), witnesses.as_slice()].concat();
                format!("votes: {domain} takes {lost} of {votes}, those of {}", names(&those))
            }
            VoteFlaw::Unplaced { nodes } => format!("votes: no domain of {} is known", names(nodes)),
        };
        if flaw.is_error() { text } else { format!("{text} (no error)") }
    }

    fn flaw(&self, flaw: &Flaw) -> String {
        let link = |link: &Link| format!("{} {}{}", link.unit, link.key.text(), link.other);
        let names = |nodes: &[NodeId]| nodes.iter().map(|id| self.name(*id)).collect::<Vec<_>>().join(",");
        let with = |units: &[UnitName]| {
            let units: Vec<&str> = units.iter().map(UnitName::as_str).collect();
            if units.is_empty() { String::new() } else { format!(" with {}", units.join(",")) }
        };
        match flaw {
            Flaw::Circle(links) => {
                format!("circle: {}", links.iter().map(link).collect::<Vec<_>>().join(", "))
            }
            Flaw::Lacks { key, other } => format!("nobody offers {}{other}", key.text()),
            Flaw::NotOffered => "nobody offers it".into(),
            Flaw::NotAllowed { offering, unmatched } => {
                format!("Nodes= allows none of {}; matches nobody: {unmatched:?}", names(offering))
            }
            Flaw::TooLarge { takes, short, with: others } => {
                let takes: Vec<String> = takes.iter().map(|(of, amount)| format!("{amount} {of}")).collect();
                let short = match short {
                    Some((of, Some((node, amount)))) => format!("{} has {amount} {of}", self.name(*node)),
                    Some((of, None)) => format!("nobody has {of}"),
                    None => "nobody has all of it".into(),
                };
                format!("takes {}{}; {short}", takes.join(", "), with(others))
            }
            Flaw::NoCommonNode { with: others } => format!("no node in common{}", with(others)),
            Flaw::Torn(between) => format!("torn by {}", link(between)),
            Flaw::TooFewNodes { wanted, nodes } => format!("wants {wanted} of {}", names(nodes)),
            Flaw::Crowded { with: others, wanted, nodes } => {
                format!("wants {wanted} nodes{}, of {}", with(others), names(nodes))
            }
            Flaw::Unfenced { nodes } => format!("nothing fences {}", names(nodes)),
            Flaw::OnlyCutOff { nodes } => format!("{} can only be cut off", names(nodes)),
            Flaw::Unwatched { nodes } => format!("no watchdog on {}", names(nodes)),
        }
    }

    /// What a unit's permits were given on, as their nodes are told.
    pub(super) fn terms(&self, unit: &str) -> Vec<String> {
        let known = self.state.units.get(&Self::unit(unit));
        let permits = known.into_iter().flat_map(|known| &known.permits);
        let line = |(token, permit): (&Token, &policy::Permit)| {
            let terms = &permit.terms;
            let reset = match terms.watchdog_ms {
                0 => String::new(),
                ms => format!(", reset within {ms} ms"),
            };
            let (t, node) = (self.t(*token), self.name(permit.node));
            format!("{t} on {node}: {:?}, {:?} without a lease{reset}", terms.fencing, terms.on_quorum_loss)
        };
        permits.map(line).collect()
    }

    /// What ends a permit by its `Fencing=`.
    pub(super) fn ends(&self, fencing: &str) -> Lines {
        let fencing = match fencing {
            "required" => Fencing::Required,
            "watchdog" => Fencing::Watchdog,
            "lease" => Fencing::Lease,
            "none" => Fencing::None,
            other => return Err(format!("no fencing {other:?}")),
        };
        let all = [
            (Evidence::Released, "a release"),
            (Evidence::Fenced(policy::CaseId(0)), "a fence"),
            (Evidence::Reborn, "a new life"),
            (Evidence::Expired, "time"),
            (Evidence::Vouched, "a word"),
        ];
        let ends = all.iter().filter(|(evidence, _)| evidence.satisfies(fencing));
        Ok(vec![ends.map(|(_, text)| *text).collect::<Vec<_>>().join(", ")])
    }
}

fn presence(node: &Node) -> String {
    let Some(Life { presence, gone, contradicted, inventory, incarnation, strays, isolated, .. }) =
        &node.life
    else {
        return "never heard".into();
    };
    let mut text = match presence {
        Presence::InSession => format!("{incarnation} in session"),
        Presence::Leaving => format!("{incarnation} leaving"),
        Presence::Lost { .. } => format!("{incarnation} lost"),
    };
    if let Some(gone) = gone {
        text += &format!(", gone ({})", class_text(gone.class));
    }
    for (shown, what) in [
        (isolated.is_some(), ", cut off"),
        (contradicted.is_some(), ", contradicted"),
        (!inventory, ", without inventory"),
        (node.drained.is_some(), ", drained"),
        (node.maintenance.is_some(), ", in maintenance"),
    ] {
        text += if shown { what } else { "" };
    }
    for stray in strays {
        text += &format!(", runs {stray} without a permit");
    }
    text
}

fn class_text(class: Class) -> &'static str {
    match class {
        Class::Off => "off",
        Class::Reborn => "reborn",
        Class::Released => "released",
        Class::Expired => "expired",
        Class::Word => "word",
        Class::Isolated => "isolated",
    }
}
