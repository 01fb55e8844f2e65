//! Reads the text of one unit file or drop-in as systemd reads it.
//!
//! Decides what is a section, a key and a value, and where each stands; knows no key's meaning and no
//! other file. The rules are those of systemd's `config_parse()` (252 to 257): comments inside continued
//! lines are skipped, a continued line keeps a space in place of the backslash, invalid UTF-8 and a
//! malformed header end the reading of the file. Never fails: what is wrong is a diagnostic.

use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Severity, Span};
use crate::name::edit_distance;

/// The section that makes a unit a cluster unit.
pub const SECTION: &str = "X-Convoke";

/// systemd's limit for a line with its continuations, in bytes.
const LONG_LINE_MAX: usize = 1024 * 1024;

/// systemd's white space.
const WHITESPACE: &[char] = &[' ', '\t', '\n', '\r'];

/// What one file says.
#[derive(Clone, Debug)]
pub struct UnitText {
    source: Arc<Source>,
    /// Section headers in order, also malformed ones.
    pub headers: Vec<Header>,
    /// Assignments in order; keys repeat.
    pub assignments: Vec<Assignment>,
    /// What is wrong with the file itself.
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Debug)]
struct Source {
    file: String,
    lines: Vec<String>,
}

/// A section header.
#[derive(Clone, Debug)]
pub struct Header {
    /// The text between the brackets.
    pub name: String,
    /// Whether the section is, or was plainly meant to be, `[X-Convoke]`.
    pub claims: bool,
    /// Where it stands.
    pub span: Span,
}

/// One `Key=value`.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Name of the section it stands in.
    pub section: String,
    /// The key, as written.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// What it is set to.
    pub value: Value,
}

/// The text of a value; knows for each stretch of it where it stands in the file.
#[derive(Clone, Debug)]
pub struct Value {
    /// The value with continued lines joined and outer white space removed.
    pub text: String,
    pieces: Vec<Piece>,
    source: Arc<Source>,
}

/// From `offset` on, a joined text comes from byte `byte` of line `line` (counted from 0) on.
#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: usize,
    line: usize,
    byte: usize,
}

impl UnitText {
    /// Reads a file; `file` is the path shown in spans.
    pub fn parse(file: &str, bytes: &[u8]) -> UnitText {
        let raw = split_lines(bytes);
        let lines = raw.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        let source = Arc::new(Source { file: file.to_owned(), lines });
        let mut reader = Reader {
            text: UnitText { source, headers: Vec::new(), assignments: Vec::new(), diagnostics: Vec::new() },
            section: None,
            ended: false,
        };
        if let Some(text) = utf16(bytes) {
            reader.wide(&text);
            return reader.text;
        }
        let mut joined: Option<Logical> = None;
        for (number, line) in raw.iter().enumerate() {
            let line = if number == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
            let content = trim_start(line);
            // systemd looks for comments before it looks for continuations.
            if content.starts_with(b"#") || content.starts_with(b";") {
                continue;
            }
            if joined.is_some() && content.starts_with(b"[") {
                reader.swallowed(number, line.len() - content.len());
            }
            let mut logical = joined.take().unwrap_or_default();
            let skipped = raw[number].len() - line.len();
            logical.pieces.push(Piece { offset: logical.bytes.len(), line: number, byte: skipped });
            logical.bytes.extend_from_slice(line);
            if logical.bytes.len() > LONG_LINE_MAX {
                reader.too_long(&logical);
                logical = Logical::default();
                continue;
            }
            if ends_escaped(&logical.bytes) {
                if let Some(last) = logical.bytes.last_mut() {
                    *last = b' ';
                }
                joined = Some(logical);
            } else {
                reader.line(&logical);
            }
        }
        if let Some(logical) = joined {
            reader.line(&logical);
        }
        reader.text
    }

    /// Path of the file.
    pub fn file(&self) -> &str {
        &self.source.file
    }

    /// Where `[X-Convoke]`, or what was meant to be it, first stands.
    pub fn claim(&self) -> Option<&Header> {
        self.headers.iter().find(|h| h.claims)
    }

    /// The assignments of one key of one section, in order.
    pub fn values<'a>(&'a self, section: &'a str, key: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
        self.assignments.iter().filter(move |a| a.section == section && a.key == key).map(|a| &a.value)
    }
}

impl Value {
    /// Where the whole value stands; the place after `=` if it is empty.
    pub fn span(&self) -> Span {
        self.span_of(0..self.text.len())
    }

    /// Where a stretch of the text stands. A stretch over several lines is cut at the end of its first.
    pub fn span_of(&self, range: Range<usize>) -> Span {
        locate(&self.source, &self.pieces, range)
    }

    /// The words of the text with their places, split at white space.
    pub fn words(&self) -> impl Iterator<Item = (&str, Span)> {
        self.text.split(WHITESPACE).filter(|w| !w.is_empty()).map(|word| {
            let start = word.as_ptr() as usize - self.text.as_ptr() as usize;
            (word, self.span_of(start..start + word.len()))
        })
    }
}

/// A line with its continuations.
#[derive(Default)]
struct Logical {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

struct Reader {
    text: UnitText,
    section: Option<String>,
    /// systemd has given up on the file; only claims are still looked for, so that the gate stays shut.
    ended: bool,
}

impl Reader {
    fn line(&mut self, logical: &Logical) {
        let Ok(text) = std::str::from_utf8(&logical.bytes) else {
            let claims = claims(&String::from_utf8_lossy(&logical.bytes));
            // Columns of undecodable text mean nothing, so the whole first line is marked.
            let span = whole_line(&self.text.source, logical.pieces[0].line);
            if claims {
                self.text.headers.push(Header { name: String::new(), claims, span: span.clone() });
            }
            self.refuse(Code::NotUtf8, span, "invalid UTF-8: systemd stops reading the file here".to_owned());
            return;
        };
        let line = text.trim_matches(WHITESPACE);
        let start = text.len() - text.trim_start_matches(WHITESPACE).len();
        if line.is_empty() {
            return;
        }
        let span = locate(&self.text.source, &logical.pieces, start..start + line.len());
        if line.starts_with('[') {
            self.header(line, span);
        } else if !self.ended {
            self.assignment(logical, line, start, span);
        }
    }

    fn header(&mut self, line: &str, span: Span) {
        let name = line.strip_prefix('[').unwrap_or(line);
        let closed = name.strip_suffix(']');
        let name = closed.unwrap_or(name).to_owned();
        let safe = !name.chars().any(|c| c.is_ascii_control() || "\"'\\".contains(c));
        let claims = claims(line);
        self.text.headers.push(Header { name: name.clone(), claims, span: span.clone() });
        if closed.is_none() || !safe {
            let message = format!("invalid section header `{line}`: systemd stops reading the file here");
            self.refuse(Code::InvalidHeader, span, message);
            return;
        }
        if claims && name != SECTION {
            let message = format!("`[{name}]` is not `[{SECTION}]`, so its settings have no effect");
            let found = Diagnostic::error(Code::NearMissHeader, span, message)
                .help(format!("write exactly `[{SECTION}]`; the unit is kept shut meanwhile"));
            self.text.diagnostics.push(found);
        }
        self.section = Some(name);
    }

    fn assignment(&mut self, logical: &Logical, line: &str, start: usize, span: Span) {
        let Some(section) = self.section.clone() else {
            let message = "assignment outside of a section, ignored by systemd";
            self.text.diagnostics.push(Diagnostic::warning(Code::OutsideSection, span, message));
            return;
        };
        let equals = line.find('=').filter(|at| *at > 0);
        let Some(equals) = equals else {
            let severity = if section == SECTION { Severity::Error } else { Severity::Warning };
            let mut found =
                Diagnostic::error(Code::MissingEquals, span, format!("`{line}` is no `Key=value`"));
            found.severity = severity;
            self.text.diagnostics.push(found);
            return;
        };
        let key = line[..equals].trim_matches(WHITESPACE);
        let source = &self.text.source;
        let rest = &line[equals + 1..];
        let value = rest.trim_matches(WHITESPACE);
        // An empty value points at the place right after the sign.
        let lead = if value.is_empty() { 0 } else { rest.len() - rest.trim_start_matches(WHITESPACE).len() };
        let base = start + equals + 1 + lead;
        self.text.assignments.push(Assignment {
            section,
            key: key.to_owned(),
            key_span: locate(source, &logical.pieces, start..start + key.len()),
            value: Value {
                text: value.to_owned(),
                pieces: shift(&logical.pieces, base),
                source: Arc::clone(source),
            },
        });
    }

    /// A continued line that looks like our header: systemd takes it for a part of the value before, which
    /// is hardly what was meant, so the unit is kept shut.
    fn swallowed(&mut self, line: usize, indent: usize) {
        let text = self.text.source.lines[line].clone();
        if !claims(text.trim()) {
            return;
        }
        let mut span = whole_line(&self.text.source, line);
        span.column += indent as u32;
        self.text.headers.push(Header { name: String::new(), claims: true, span: span.clone() });
        let message = "this header belongs to the value before it, whose line ends in a backslash";
        let help = "remove the backslash, or leave a blank line before the header";
        self.text.diagnostics.push(Diagnostic::error(Code::NearMissHeader, span, message).help(help));
    }

    /// systemd reads nothing of such a file. Whoever wrote our section into it is told so, and the unit is kept shut.
    fn wide(&mut self, text: &str) {
        let file = &self.text.source.file;
        let message = format!("`{file}` is UTF-16: systemd reads nothing of it");
        let span = Span::file(file.clone());
        if text.lines().any(|line| claims(line.trim())) {
            self.text.headers.push(Header { name: String::new(), claims: true, span: span.clone() });
        }
        self.text.diagnostics.push(Diagnostic::error(Code::NotUtf8, span, message).help("save it as UTF-8"));
    }

    fn too_long(&mut self, logical: &Logical) {
        let mut span = Span::file(self.text.source.file.clone());
        span.line = logical.pieces[0].line as u32 + 1;
        span.column = 1;
        self.refuse(Code::LineTooLong, span, "line longer than 1 MiB: systemd stops reading here".to_owned());
    }

    fn refuse(&mut self, code: Code, span: Span, message: String) {
        if !self.ended {
            let help =
                "in a unit file this makes the unit unusable; in a drop-in everything from here on is lost";
            self.text.diagnostics.push(Diagnostic::error(code, span, message).help(help));
        }
        self.ended = true;
    }
}

/// The text of a file that begins with the byte order mark of UTF-16, as some editors and shells write it.
fn utf16(bytes: &[u8]) -> Option<String> {
    let little = match bytes {
        [0xff, 0xfe, ..] => true,
        [0xfe, 0xff, ..] => false,
        _ => return None,
    };
    let pairs = bytes.chunks_exact(2).skip(1).filter_map(|pair| <[u8; 2]>::try_from(pair).ok());
    let units = pairs.map(|pair| if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) });
    Some(String::from_utf16_lossy(&units.collect::<Vec<u16>>()))
}

/// Whether a header line is `[X-Convoke]` or was plainly meant to be it.
fn claims(line: &str) -> bool {
    let body: String = line.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    let Some(body) = body.strip_prefix('[') else { return false };
    let body = body.split(']').next().unwrap_or(body);
    body.contains("convoke") || (body.len() <= 16 && edit_distance(body, "x-convoke") <= 2)
}

/// Splits as systemd does: LF, CR and NUL end a line, and two different ones in a row are one end.
fn split_lines(bytes: &[u8]) -> Vec<&[u8]> {
    let is_end = |b: u8| matches!(b, b'\n' | b'\r' | 0);
    let mut lines = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < bytes.len() {
        if !is_end(bytes[at]) {
            at += 1;
            continue;
        }
        lines.push(&bytes[start..at]);
        let first = bytes[at];
        at += 1;
        if at < bytes.len() && is_end(bytes[at]) && bytes[at] != first && first != 0 && bytes[at] != 0 {
            at += 1;
        }
        start = at;
    }
    if start < bytes.len() {
        lines.push(&bytes[start..]);
    }
    lines
}

fn trim_start(line: &[u8]) -> &[u8] {
    let skip = line.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
    &line[skip..]
}

/// Whether the last character is a backslash that is not itself escaped.
fn ends_escaped(line: &[u8]) -> bool {
    line.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

/// The pieces as seen from `base` on.
fn shift(pieces: &[Piece], base: usize) -> Vec<Piece> {
    let first = pieces.iter().rposition(|p| p.offset <= base).unwrap_or(0);
    pieces[first..]
        .iter()
        .map(|p| Piece {
            offset: p.offset.saturating_sub(base),
            line: p.line,
            byte: p.byte + base.saturating_sub(p.offset),
        })
        .collect()
}

fn locate(source: &Source, pieces: &[Piece], range: Range<usize>) -> Span {
    let Some(piece) = pieces.iter().rfind(|p| p.offset <= range.start) else {
        return Span::file(source.file.clone());
    };
    let line = source.lines.get(piece.line).map_or("", String::as_str);
    let start = floor(line, piece.byte + (range.start - piece.offset));
    let end = floor(line, start + range.len()).max(start);
    let column = line[..start].chars().count() as u32 + 1;
    Span {
        file: source.file.clone(),
        line: piece.line as u32 + 1,
        column,
        end: column + line[start..end].chars().count() as u32,
        source: line.to_owned(),
    }
}

fn whole_line(source: &Source, line: usize) -> Span {
    let text = source.lines.get(line).cloned().unwrap_or_default();
    let end = text.chars().count() as u32 + 1;
    Span { file: source.file.clone(), line: line as u32 + 1, column: 1, end, source: text }
}

/// The nearest character boundary at or before `at`.
fn floor(line: &str, at: usize) -> usize {
    let mut at = at.min(line.len());
    while !line.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests;
