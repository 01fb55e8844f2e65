//! What an agent says when something went wrong: one line, and the same one for the same failure.

/// The last line with which an agent says what went wrong, its errors before its output, without control characters and
/// without what differs from call to call; `None` if it says nothing.
pub(crate) fn said(stderr: &[u8], stdout: &[u8]) -> Option<String> {
    let line = last(stderr).or_else(|| last(stdout))?;
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    Some(without_addresses(&line))
}

/// The agents' library puts the time before each line, and ends with a hint that is for a person at a keyboard.
fn last(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let message =
        |line: &str| line.split_once(" ERROR: ").map_or(line, |(_, message)| message).trim().to_owned();
    let tells = |line: &String| !line.is_empty() && !line.starts_with("Please use '-h'");
    text.lines().map(message).rfind(tells)
}

/// Without the place of Python's objects, as ` at 0x7fbe01662610`.
fn without_addresses(line: &str) -> String {
    let mut parts = line.split(" at 0x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    text
}
