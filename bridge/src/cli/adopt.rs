//! `convoke adopt`: another definition comes into force, and may say less of safety. So it is shown before it is asked for,
//! with what would start or stop.

use std::io::{BufRead, IsTerminal};

use super::bus::Bus;
use super::exit::{Code, Failure};
use super::out::{self, Row, Style, Tone};
use super::{act, render};
use crate::api::model::{Forecast, Keys, OfferLine, UnitWhy};

/// Keys that a unit's safety rests on (F13).
const SAFETY: [&str; 4] = ["Replicas", "Fencing", "OnQuorumLoss", "OnStopFailure"];

pub(super) async fn adopt(bus: &Bus, unit: &str, from: &str, yes: bool) -> Result<(), Failure> {
    let unit = act::full(unit)?;
    let why = bus.why(&unit).await?;
    if !why.quorum {
        return Err(Failure::new(Code::NoQuorum, "no quorum: the cluster can decide nothing now")
            .hint("`convoke status` shows which nodes are missing"));
    }
    let new = offered(&why, &unit, from)?;
    let changes = changes(why.definition.as_ref(), new);
    if changes.is_empty() {
        out::say(&format!("{unit} is defined as on {from} already"));
        return Ok(());
    }
    let style = Style::of_stdout();
    out::print(&table(&unit, from, &changes, style));
    let told = bus.plan("adopt", std::slice::from_ref(&unit), from, "").await;
    out::print(&format!("\n{}", consequences(&told, style)));
    if told.as_ref().is_ok_and(|told| comes_back(told, &unit)) {
        return Err(Failure::new(
            Code::Failed,
            format!("most nodes have other files of {unit}, which would be in force again at once; nothing was changed"),
        )
        .hint(format!("copy the files from {from} to them, and `systemctl daemon-reload` there")));
    }
    if !yes {
        ask(&unit)?;
    }
    bus.0.adopt(&unit, from).await?;
    out::say(&format!("{unit} is defined as on {from} now"));
    Ok(())
}

fn offered<'a>(why: &'a UnitWhy, unit: &str, from: &str) -> Result<&'a Keys, Failure> {
    let Some(offer) = why.offers.iter().find(|offer| offer.node == from) else {
        let nodes: Vec<_> = why.offers.iter().map(|offer| offer.node.as_str()).collect();
        return Err(Failure::new(Code::NotFound, format!("no node `{from}` in this cluster"))
            .hint(format!("its nodes are {}", nodes.join(", "))));
    };
    match offer {
        OfferLine { present: false, .. } => {
            Err(Failure::new(Code::Failed, format!("{from} does not offer {unit}"))
                .hint(format!("`convoke why {unit} --json` shows what each node offers")))
        }
        OfferLine { definition: Some(keys), .. } => Ok(keys),
        OfferLine { fault, .. } => Err(Failure::new(
            Code::Failed,
            format!("what {from} offers has an error: {}", fault.as_deref().unwrap_or("unknown")),
        )
        .hint(format!("`convoke verify {unit}` on {from}"))),
    }
}

/// One key, as it is and as it would be.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    key: String,
    old: String,
    new: String,
}

fn changes(old: Option<&Keys>, new: &Keys) -> Vec<Change> {
    let none = Keys::new();
    let old = old.unwrap_or(&none);
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |keys: &Keys, key: &str| keys.get(key).cloned().unwrap_or_default();
    let changes = keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).map(|key| Change {
        key: key.clone(),
        old: value(old, key),
        new: value(new, key),
    });
    let mut changes: Vec<Change> = changes.collect();
    // What safety rests on comes first.
    changes.sort_by_key(|change| !is_safety(change));
    changes
}

fn is_safety(change: &Change) -> bool {
    SAFETY.contains(&change.key.as_str())
}

fn table(unit: &str, from: &str, changes: &[Change], style: Style) -> String {
    let shown = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
    let row = |change: &Change| Row {
        cells: vec![
            (Tone::Strong, format!("{}=", change.key)),
            (Tone::Plain, shown(&change.old)),
            (if is_safety(change) { Tone::Bad } else { Tone::Mind }, shown(&change.new)),
        ],
        notes: Vec::new(),
    };
    let mut out = format!("{unit}, as {from} has it:\n\n");
    out.push_str(&style.table(&["KEY", "NOW", "THEN"], &changes.iter().map(row).collect::<Vec<_>>()));
    let safety: Vec<_> =
        changes.iter().filter(|change| is_safety(change)).map(|change| change.key.as_str()).collect();
    if !safety.is_empty() {
        out.push('\n');
        let text = format!(
            "{} {} what keeps {unit} from harm when a node is lost. Nodes whose files differ from this get no copy until \
             theirs are made equal.",
            safety.join("=, ") + "=",
            if safety.len() == 1 { "is part of" } else { "are part of" }
        );
        out.push_str(&style.paragraph("", "", &text));
    }
    out
}

/// What it would lead to. That nobody foretells it now keeps nobody from asking for it.
fn consequences(told: &Result<Forecast, Failure>, style: Style) -> String {
    let told = match told {
        Ok(told) => told,
        Err(failure) => {
            let text = format!("It is not known what would start or stop: {}.", failure.text);
            return style.paragraph("", "", &text);
        }
    };
    if told.end != "at-rest" || !told.steps.is_empty() || told.units.iter().any(|unit| unit.changes) {
        return render::forecast(told, style);
    }
    let mut out = "Nothing starts or stops.\n".to_owned();
    for unit in &told.units {
        for reason in &unit.reasons {
            out.push_str(&style.paragraph(
                "  ",
                "  ",
                &format!("{}: {} [{}]", unit.unit, reason.fact, reason.rule),
            ));
            out.push_str(&style.paragraph("  -> ", "     ", &reason.release));
        }
    }
    out
}

/// Whether what the other nodes offer is taken over again after it.
fn comes_back(told: &Forecast, unit: &str) -> bool {
    told.steps.iter().any(|step| step.kind == "unit-defined" && step.unit.as_deref() == Some(unit))
}

fn ask(unit: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Code::Usage, "there is no terminal to ask on; nothing was changed")
            .hint("a script that means it gives --yes"));
    }
    out::print(&format!("\nType `yes` to define {unit} so: "));
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_err() || typed.trim() != "yes" {
        return Err(Failure::new(Code::Failed, "not confirmed; nothing was changed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::{ChangeLine, StepLine, WhyLine};
    use crate::cli::render::samples::copy;

    fn keys(pairs: &[(&str, &str)]) -> Keys {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_safety_rests_on_is_shown_first() {
        let old = keys(&[("After", "a.service"), ("Fencing", "required"), ("Replicas", "1")]);
        let new = keys(&[("Fencing", "none"), ("Prefer", "n1:5"), ("Replicas", "1")]);
        let changes = changes(Some(&old), &new);
        let shown: Vec<_> = changes
            .iter()
            .map(|change| (change.key.as_str(), change.old.as_str(), change.new.as_str()))
            .collect();
        assert_eq!(
            shown,
            [("Fencing", "required", "none"), ("After", "a.service", ""), ("Prefer", "", "n1:5")]
        );
        let text = table("db.service", "n2", &changes, Style { width: 80, colour: false });
        assert!(
            text.starts_with(
                "db.service, as n2 has it:\n\n  KEY       NOW        THEN\n  Fencing=  required   none\n  After=    a.service  -\n"
            ),
            "{text}"
        );
        assert!(text.contains("Fencing= is part of what keeps db.service from harm"), "{text}");
        assert!(super::changes(Some(&new), &new).is_empty());
    }

    #[test]
    fn what_it_leads_to_is_told_in_one_line_if_that_is_nothing() {
        let style = Style { width: 80, colour: false };
        let unit = ChangeLine {
            unit: "web.service".to_owned(),
            changes: false,
            state_now: "active".to_owned(),
            now: vec![copy("n1", "active", 40)],
            state_then: "active".to_owned(),
            then: vec![copy("n1", "active", 40)],
            reasons: Vec::new(),
        };
        let quiet = Forecast {
            supposed: "web.service is defined as on n2".to_owned(),
            quorum: true,
            index: 100,
            end: "at-rest".to_owned(),
            steps: Vec::new(),
            units: vec![unit.clone()],
            unchanged: 3,
            assumes: vec!["nothing else happens meanwhile".to_owned()],
        };
        assert_eq!(consequences(&Ok(quiet.clone()), style), "Nothing starts or stops.\n");
        // What the plan says all the same is not lost.
        let reason = WhyLine {
            rule: "F13".to_owned(),
            fact: "n3 offers another definition than the one in force".to_owned(),
            release: "make its files equal to the others'".to_owned(),
        };
        let differs = ChangeLine { reasons: vec![reason], ..unit.clone() };
        let told = consequences(&Ok(Forecast { units: vec![differs], ..quiet.clone() }), style);
        assert_eq!(
            told,
            "Nothing starts or stops.\n  web.service: n3 offers another definition than the one in force [F13]\n  \
             -> make its files equal to the others'\n"
        );
        let step = StepLine {
            after_ms: 0,
            kind: "unit-granted".to_owned(),
            node: Some("n2".to_owned()),
            unit: Some("web.service".to_owned()),
            text: "start web.service on n2".to_owned(),
        };
        let then = vec![copy("n1", "active", 40), copy("n2", "active", 0)];
        let grows = ChangeLine { changes: true, then, ..unit };
        let told = consequences(
            &Ok(Forecast { steps: vec![step.clone()], units: vec![grows], ..quiet.clone() }),
            style,
        );
        assert!(told.starts_with("If web.service is defined as on n2, 1 unit would change.\n"), "{told}");
        assert!(told.contains("1. start web.service on n2"), "{told}");
        let back = StepLine { kind: "unit-defined".to_owned(), node: None, ..step.clone() };
        for (steps, unit, undone) in [
            (vec![step.clone()], "web.service", false),
            (vec![step.clone(), back.clone()], "web.service", true),
            (vec![back], "db.service", false),
        ] {
            assert_eq!(comes_back(&Forecast { steps, ..quiet.clone() }, unit), undone, "{unit}");
        }
        let unfinished = consequences(&Ok(Forecast { end: "unfinished".to_owned(), ..quiet }), style);
        assert!(unfinished.contains("broken off"), "{unfinished}");
        let failure = Failure::new(Code::Failed, "another forecast is being made");
        assert_eq!(
            consequences(&Err(failure), style),
            "It is not known what would start or stop: another forecast is being made.\n"
        );
    }

    #[test]
    fn only_what_is_offered_without_errors_can_be_adopted() {
        let offer = |node: &str, present, definition, fault: Option<&str>| OfferLine {
            node: node.to_owned(),
            present,
            definition,
            fault: fault.map(str::to_owned),
            unfit: None,
            remedy: None,
        };
        let why = UnitWhy {
            unit: crate::cli::render::samples::unit("db.service", "active", Vec::new()),
            quorum: true,
            reasons: Vec::new(),
            history: Vec::new(),
            memory: None,
            definition: None,
            offers: vec![
                offer("n1", true, Some(Keys::new()), None),
                offer("n2", false, Some(Keys::new()), None),
                offer("n3", true, None, Some("x.conf:3: unknown key")),
            ],
        };
        assert!(offered(&why, "db.service", "n1").is_ok());
        for (node, code, words) in [
            ("n2", Code::Failed, "does not offer"),
            ("n3", Code::Failed, "unknown key"),
            ("n4", Code::NotFound, "no node `n4`"),
        ] {
            let failure = offered(&why, "db.service", node).expect_err(node);
            assert_eq!(failure.code, code);
            assert!(failure.text.contains(words), "{}", failure.text);
        }
    }
}
