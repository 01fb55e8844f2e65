//! What is wrong in a unit file, where, and what to do about it.
//!
//! A diagnostic carries the source line it points at, so that it can be rendered on another machine
//! or long after the file has changed. Exit codes belong to the command line, not here.

mod codes;

pub use codes::{Code, page};

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing breaks.
    Hint,
    /// Works, but not as an operator would expect.
    Warning,
    /// The cluster does not start the unit; its gate stays shut.
    Error,
}

impl Severity {
    /// The word used in rendered diagnostics.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Hint => "hint",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// A stretch of one line of a file. Lines and columns count from 1; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Path as seen below the root.
    pub file: String,
    /// Line; 0 means the file as a whole.
    pub line: u32,
    /// First column.
    pub column: u32,
    /// First column after the stretch.
    pub end: u32,
    /// The whole source line, for the excerpt.
    pub source: String,
}

impl Span {
    /// A span for the file as a whole, when no line is to blame.
    pub fn file(path: impl Into<String>) -> Span {
        Span { file: path.into(), line: 0, column: 0, end: 0, source: String::new() }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Stable code; each has an entry in `docs/errors.md`.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// Where; absent when nothing in a file is to blame.
    pub span: Option<Span>,
    /// What is wrong, in one lower-case sentence without a full stop.
    pub message: String,
    /// What to do; may have several lines.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding that keeps the unit from being started.
    pub fn error(code: Code, span: impl Into<Option<Span>>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, Severity::Error, span, message)
    }

    /// A finding that the operator should look at.
    pub fn warning(code: Code, span: impl Into<Option<Span>>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, Severity::Warning, span, message)
    }

    /// A finding that is merely worth knowing.
    pub fn hint(code: Code, span: impl Into<Option<Span>>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(code, Severity::Hint, span, message)
    }

    fn new(
        code: Code,
        severity: Severity,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic { code, severity, span: span.into(), message: message.into(), help: None }
    }

    /// The same finding with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// The finding as people read it, with the source line and a caret; ends with a newline.
    pub fn render(&self) -> String {
        let mut out = format!("{}[{}]: {}\n", self.severity.word(), self.code, self.message);
        let mut margin = 2;
        if let Some(span) = &self.span {
            if span.line == 0 {
                let _ = writeln!(out, "  --> {}", span.file);
            } else {
                let number = span.line.to_string();
                margin = number.len();
                let pad = " ".repeat(margin);
                let _ = writeln!(out, "{pad}--> {}:{}:{}", span.file, span.line, span.column);
                let _ = writeln!(out, "{pad} |\n{number} | {}", printable(&span.source));
                let before: String = span
                    .source
                    .chars()
                    .take(span.column.saturating_sub(1) as usize)
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                let carets = "^".repeat(span.end.saturating_sub(span.column).max(1) as usize);
                let _ = writeln!(out, "{pad} | {before}{carets}");
            }
        }
        if let Some(help) = &self.help {
            let pad = " ".repeat(margin + 1);
            for (n, line) in help.lines().enumerate() {
                let lead = if n == 0 { "= help: " } else { "        " };
                let _ = writeln!(out, "{pad}{lead}{line}");
            }
        }
        out
    }

    /// The finding as one line of JSON, with the same fields as the type.
    pub fn to_json(&self) -> String {
        // The type holds only strings, numbers and unit variants, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Control characters in a file must not reach a terminal; a tab is kept for the caret's sake.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Whether any finding keeps the unit from being started.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|d| d.severity == Severity::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span {
            file: "/etc/systemd/system/db.service".into(),
            line: 14,
            column: 10,
            end: 27,
            source: "WantedBy=multi-user.target".into(),
        }
    }

    #[test]
    fn renders_place_excerpt_and_help() {
        let text = Diagnostic::hint(
            Code::EnabledAtBoot,
            span(),
            "`db.service` may run on one node, but is also enabled at boot",
        )
        .help("run `systemctl disable db.service`;\nthe cluster starts it")
        .render();
        let expected = "\
hint[U0012]: `db.service` may run on one node, but is also enabled at boot
  --> /etc/systemd/system/db.service:14:10
   |
14 | WantedBy=multi-user.target
   |          ^^^^^^^^^^^^^^^^^
   = help: run `systemctl disable db.service`;
           the cluster starts it
";
        assert_eq!(text, expected);
    }

    #[test]
    fn json_round_trips() {
        let d = Diagnostic::error(Code::BadValue, span(), "no such value").help("say `1`");
        let json = d.to_json();
        assert!(json.contains("\"code\":\"U0022\""), "{json}");
        assert_eq!(serde_json::from_str::<Diagnostic>(&json).unwrap(), d);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut s = span();
        s.source = "A=\u{1b}[2J".into();
        assert!(!Diagnostic::error(Code::BadValue, s, "x").render().contains('\u{1b}'));
    }
}
