//! The terminal: its width, its colours, and text laid out for both.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exit::{Code, Failure};

/// Where no terminal says otherwise.
const WIDTH: usize = 80;
/// Narrower is unreadable, wider is hard to read.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=160;
/// A longer cell pushes its row instead of widening the whole column.
const CELL_MAX: usize = 32;

/// Where a row goes on that does not fit beside its first cells.
const INDENT: usize = 4;
/// Least room for the last cell of a row.
const LAST_MIN: usize = 16;

/// What a word means to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Mind,
    Bad,
    Plain,
    Strong,
}

/// How text is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) width: usize,
    pub(super) colour: bool,
}

impl Style {
    /// As standard output is.
    pub(super) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let asked = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let kernel = || rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        let width = asked.or_else(kernel).filter(|width| *width > 0).unwrap_or(WIDTH);
        // https://no-color.org: present and not empty.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        Self { width: width.clamp(*WIDTHS.start(), *WIDTHS.end()), colour: terminal && !refused && !dumb }
    }

    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Mind => "33",
            Tone::Bad => "1;31",
            Tone::Strong => "1",
            Tone::Plain => return text.to_owned(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Rows below headings. The last column takes what is left of the width and continues below itself.
    pub(super) fn table(self, headings: &[&str], rows: &[Row]) -> String {
        let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
        for row in rows {
            for (width, (_, cell)) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(cell.chars().count().min(CELL_MAX));
            }
        }
        let heading = Row {
            cells: headings.iter().map(|text| (Tone::Strong, (*text).to_owned())).collect(),
            notes: Vec::new(),
        };
        let mut out = String::new();
        for row in std::iter::once(&heading).chain(rows) {
            self.row(&mut out, row, &widths);
        }
        out
    }

    fn row(self, out: &mut String, row: &Row, widths: &[usize]) {
        let mut line = String::from("  ");
        let mut column = 2;
        let last = row.cells.len().saturating_sub(1);
        for (at, (tone, cell)) in row.cells.iter().enumerate() {
            if at == last {
                // Beside a long name there is no room left: go on below it.
                if self.width < column + LAST_MIN && column > INDENT {
                    column = INDENT;
                    line.truncate(line.trim_end().len());
                    line.push('\n');
                    line.push_str(&" ".repeat(column));
                }
                let room = self.width.saturating_sub(column);
                for (number, part) in wrap(cell, room).iter().enumerate() {
                    if number > 0 {
                        line.push('\n');
                        line.push_str(&" ".repeat(column));
                    }
                    line.push_str(&self.paint(*tone, part));
                }
            } else {
                let length = cell.chars().count();
                let pad = widths.get(at).copied().unwrap_or(0).saturating_sub(length) + 2;
                line.push_str(&self.paint(*tone, cell));
                line.push_str(&" ".repeat(pad));
                column += length + pad;
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
        for note in &row.notes {
            out.push_str(&self.paragraph("    ", "    ", note));
        }
    }

    /// Text wrapped to the width, with `first` before the first line and `rest` before the others.
    pub(super) fn paragraph(self, first: &str, rest: &str, text: &str) -> String {
        let room = self.width.saturating_sub(first.chars().count().max(rest.chars().count())).max(16);
        let mut out = String::new();
        for (number, line) in wrap(text, room).iter().enumerate() {
            out.push_str(if number == 0 { first } else { rest });
            out.push_str(line);
            out.push('\n');
        }
        out
    }
}

/// One row of a table, with sentences below it.
pub(super) struct Row {
    pub(super) cells: Vec<(Tone, String)>,
    pub(super) notes: Vec<String>,
}

/// Lines of at most `room` characters, broken at spaces; a longer word stays whole, so that it can be copied.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().filter(|c| !c.is_control()).count();
        if used > 0 && used + 1 + length > room {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            // Texts of agents and units must not steer the terminal.
            line.extend(word.chars().filter(|c| !c.is_control()));
            used += length;
        }
    }
    lines
}

/// Whether what is said is said in JSON.
static JSON: AtomicBool = AtomicBool::new(false);
/// The first write to standard output that failed.
static UNWRITTEN: OnceLock<std::io::Error> = OnceLock::new();

/// Chooses how to speak, once for the process.
pub(super) fn speak(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Whether all that was said could be written.
pub(super) fn written() -> Result<(), Failure> {
    match UNWRITTEN.get() {
        None => Ok(()),
        Some(error) => Err(Failure::new(Code::Failed, format!("standard output cannot be written: {error}"))
            .hint("what was asked for was done, unless it only was to be shown")),
    }
}

fn write(text: &str) {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has gone, as `head` does, is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let _ = UNWRITTEN.set(error);
        }
        _ => {}
    }
}

/// Writes text for people to standard output.
pub(super) fn print(text: &str) {
    if JSON.load(Ordering::Relaxed) {
        json_line(&serde_json::json!({ "text": text.trim() }));
    } else {
        write(text);
    }
}

/// Writes a line for people to standard output.
pub(super) fn say(line: &str) {
    print(&format!("{line}\n"));
}

/// Writes a line to standard error.
pub(super) fn note(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{line}");
}

/// Prints a value as JSON that people can read too.
pub(super) fn json(value: &impl serde::Serialize) {
    // The models hold strings, numbers and lists: this cannot fail.
    write(&format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()));
}

/// The same in one line, for those who read line by line.
pub(super) fn json_line(value: &impl serde::Serialize) {
    write(&format!("{}\n", serde_json::to_string(value).unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_kept_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a-very-long-word x", 4), ["a-very-long-word", "x"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("a\x1b[2Jb", 40), ["a[2Jb"]);
    }

    #[test]
    fn a_long_cell_pushes_its_own_row_only() {
        let style = Style { width: 60, colour: false };
        let row = |name: &str| Row {
            cells: vec![(Tone::Plain, name.to_owned()), (Tone::Good, "active".to_owned())],
            notes: Vec::new(),
        };
        let long = "x".repeat(40);
        let text = style.table(&["NAME", "STATE"], &[row("a"), row(&long)]);
        let pad = " ".repeat(CELL_MAX - 1 + 2);
        assert_eq!(
            text,
            format!("  NAME{}STATE\n  a{pad}active\n  {long}  active\n", " ".repeat(CELL_MAX - 4 + 2))
        );
    }

    #[test]
    fn colours_are_for_terminals() {
        let plain = Style { width: 80, colour: false };
        assert_eq!(plain.paint(Tone::Bad, "lost"), "lost");
        assert_eq!(Style { colour: true, ..plain }.paint(Tone::Bad, "lost"), "\x1b[1;31mlost\x1b[0m");
    }
}
