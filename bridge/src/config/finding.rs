//! A mistake in the settings, shown with its line and a caret.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// The line.
    pub line: usize,
    /// The first column.
    pub column: usize,
    /// How many characters are meant, one at least.
    pub width: usize,
    /// The whole line.
    pub source: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Finding {
    /// A mistake at these bytes of `text`.
    pub(crate) fn at(text: &str, path: &Path, span: Range<usize>, message: &str, help: &str) -> Self {
        // The parser's spans lie on characters; an odd one must not become a panic in an error's message.
        let start = floor(text, span.start);
        let end = floor(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        Self {
            path: path.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end.min(line_end).max(start)].chars().count().max(1),
            source: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            // Some of the parser's messages have several lines.
            message: message.lines().collect::<Vec<_>>().join(", "),
            help: help.to_owned(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let pad = " ".repeat(number.len());
        // Tabs stay tabs, or the caret stands elsewhere than on the screen.
        let before = self.source.chars().take(self.column - 1);
        let before: String = before.map(|letter| if letter == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "error: {}", self.message)?;
        writeln!(f, "{pad}--> {}:{}:{}", self.path.display(), self.line, self.column)?;
        writeln!(f, "{pad} |")?;
        writeln!(f, "{number} | {}", self.source)?;
        writeln!(f, "{pad} | {before}{}", "^".repeat(self.width))?;
        write!(f, "{pad} = help: {}", self.help)
    }
}

fn floor(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}
