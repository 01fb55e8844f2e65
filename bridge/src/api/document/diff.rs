//! What would change, line by line.

/// The differences of two texts with `-` and `+`, under the headings of the tables that they are in; empty if none.
#[must_use]
pub fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    // Longest common subsequence from the ends; documents have some hundred lines at the most.
    let mut common = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let mut out = String::new();
    let (mut i, mut j, mut heading, mut shown) = (0, 0, "", "");
    while i < old.len() || j < new.len() {
        let (sign, line) = if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            (' ', old[i - 1])
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', old[i - 1])
        } else {
            j += 1;
            ('+', new[j - 1])
        };
        let is_heading = line.starts_with('[');
        if is_heading {
            heading = line;
        }
        if sign == ' ' || line.is_empty() {
            continue;
        }
        if heading != shown && !is_heading {
            out.push_str(&format!("  {heading}\n"));
        }
        shown = heading;
        out.push_str(&format!("{sign} {line}\n"));
    }
    out
}
