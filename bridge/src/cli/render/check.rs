//! `convoke check`: findings, as `status` shows alarms.

use crate::api::model::FindingLine;
use crate::cli::out::{Style, Tone};

/// How many of those that are not to run one line names.
const NAMED: usize = 3;

/// All findings of so many units.
pub(in crate::cli) fn findings(findings: &[FindingLine], units: usize, style: Style) -> String {
    if findings.is_empty() {
        let checked = if units == 1 { "1 unit".to_owned() } else { format!("{units} units") };
        return format!("{checked} checked, nothing found\n");
    }
    let line = |finding: &FindingLine| {
        let (mark, tone) = if finding.severity == "error" { ("!!", Tone::Bad) } else { (" !", Tone::Mind) };
        let text = match finding.unit.as_str() {
            "" => finding.text.clone(),
            unit => format!("{unit}: {}{}", finding.text, idle(finding)),
        };
        let mut out = Style { width: style.width.saturating_sub(3), ..style }.paragraph("", "   ", &text);
        out.insert_str(0, &format!("{} ", style.paint(tone, mark)));
        out.push_str(&style.paragraph("   -> ", "      ", &finding.remedy));
        out
    };
    findings.iter().map(line).collect()
}

/// Why it does not matter now, if so.
fn idle(finding: &FindingLine) -> String {
    let others = finding.idle.len().saturating_sub(NAMED);
    let named = finding.idle.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match (finding.idle.as_slice(), others) {
        ([], _) => String::new(),
        ([one], _) if *one == finding.unit => "; it is not to run now".to_owned(),
        (_, 0) => format!("; not to run now: {named}"),
        (_, more) => format!("; not to run now: {named} and {more} more"),
    }
}
