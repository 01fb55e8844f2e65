//! `convoke check`: findings, as `status` shows alarms.

use crate::api::model::FindingLine;
use crate::cli::out::{Style, Tone};

/// All findings of so many units.
pub(in crate::cli) fn findings(findings: &[FindingLine], units: usize, style: Style) -> String {
    if findings.is_empty() {
        let checked = if units == 1 { "1 unit".to_owned() } else { format!("{units} units") };
        return format!("{checked} checked, nothing found\n");
    }
    let line = |finding: &FindingLine| {
        let (mark, tone) = if finding.severity == "error" { ("!!", Tone::Bad) } else { (" !", Tone::Mind) };
        let stopped = if finding.pressing { "" } else { "; it is not to run now" };
        let text = format!("{}: {}{stopped}", finding.unit, finding.text);
        let mut out = Style { width: style.width.saturating_sub(3), ..style }.paragraph("", "   ", &text);
        out.insert_str(0, &format!("{} ", style.paint(tone, mark)));
        out.push_str(&style.paragraph("   -> ", "      ", &finding.remedy));
        out
    };
    findings.iter().map(line).collect()
}
