//! Unit names: their parts, and their relation to paths.
//!
//! Follows systemd's rules for valid names and for escaping. Knows no files.

/// The types that systemd has; the text after the last dot of a unit's name.
pub const TYPES: &[&str] = &[
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// A valid unit name, taken apart. `foo-bar@x.service` has prefix `foo-bar`, instance `x`, kind `service`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitName<'a> {
    /// The whole name.
    pub full: &'a str,
    /// What stands before `@`, or before the type.
    pub prefix: &'a str,
    /// What stands between `@` and the type; empty for a template.
    pub instance: Option<&'a str>,
    /// The type, without the dot.
    pub kind: &'a str,
}

impl<'a> UnitName<'a> {
    /// Takes a name apart; `None` if systemd would not accept it.
    pub fn parse(full: &'a str) -> Option<UnitName<'a>> {
        // systemd's UNIT_NAME_MAX is 256 with the final zero.
        if full.len() > 255 {
            return None;
        }
        let (stem, kind) = full.rsplit_once('.')?;
        if !TYPES.contains(&kind) {
            return None;
        }
        let (prefix, instance) = match stem.split_once('@') {
            Some((prefix, instance)) => (prefix, Some(instance)),
            None => (stem, None),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\".contains(c);
        let valid = !prefix.is_empty()
            && prefix.chars().all(plain)
            && instance.unwrap_or("").chars().all(|c| plain(c) || c == '@');
        valid.then_some(UnitName { full, prefix, instance, kind })
    }

    /// Whether it is a template (`foo@.service`).
    pub fn is_template(&self) -> bool {
        self.instance == Some("")
    }

    /// Whether it is an instance of a template (`foo@x.service`).
    pub fn is_instance(&self) -> bool {
        self.instance.is_some_and(|i| !i.is_empty())
    }

    /// The template of an instance: `foo@.service` for `foo@x.service`.
    pub fn template(&self) -> Option<String> {
        self.is_instance().then(|| format!("{}@.{}", self.prefix, self.kind))
    }

    /// The name without its type.
    pub fn stem(&self) -> &'a str {
        &self.full[..self.full.len() - self.kind.len() - 1]
    }

    /// The next shorter name whose drop-ins apply: `foo-.service` for `foo-bar.service`, keeping the instance.
    pub fn chopped(&self) -> Option<String> {
        let body = &self.prefix[..self.prefix.len() - 1];
        // The first byte of a prefix is ASCII and so is a dash, so the slices are on boundaries.
        let dash = body.rfind('-')?;
        let prefix = &self.prefix[..=dash];
        Some(match self.instance {
            Some(instance) => format!("{prefix}@{instance}.{}", self.kind),
            None => format!("{prefix}.{}", self.kind),
        })
    }
}

/// `template` with the instance of `like` filled in: `bar@.service`, `foo@x.service` → `bar@x.service`.
pub fn instantiate(template: &str, like: &str) -> Option<String> {
    let t = UnitName::parse(template).filter(UnitName::is_template)?;
    let l = UnitName::parse(like).filter(UnitName::is_instance)?;
    Some(format!("{}@{}.{}", t.prefix, l.instance?, t.kind))
}

/// Undoes systemd's escaping of a path or string in a unit name: `-` is `/`, `\x2d` is `-`.
/// `None` if the result would not be UTF-8 or an escape is cut short.
pub fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'-' => out.push(b'/'),
            b'\\' => {
                let (hex, after) = tail.strip_prefix(b"x")?.split_at_checked(2)?;
                out.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
                rest = after;
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// The mount unit of a path: `/mnt/a-b` → `mnt-a\x2db.mount`.
pub fn mount_unit(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.is_empty() {
        return "-.mount".to_owned();
    }
    let mut out = String::new();
    for (n, byte) in parts.join("/").bytes().enumerate() {
        match byte {
            b'/' => out.push('-'),
            b'.' if n == 0 => out.push_str("\\x2e"),
            b if b.is_ascii_alphanumeric() || b":_.".contains(&b) => out.push(b as char),
            b => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out + ".mount"
}

/// Number of single-character edits between two words, for "did you mean".
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_systemd_does() {
        let table = [
            ("foo.service", Some(("foo", None, "service"))),
            ("foo@.service", Some(("foo", Some(""), "service"))),
            (r"foo@a\x2db@c.service", Some(("foo", Some(r"a\x2db@c"), "service"))),
            ("-.mount", Some(("-", None, "mount"))),
            ("a.b.timer", Some(("a.b", None, "timer"))),
            ("foo", None),
            ("foo.conf", None),
            ("@x.service", None),
            (".service", None),
            ("fo o.service", None),
            ("fö.service", None),
        ];
        for (name, expected) in table {
            assert_eq!(UnitName::parse(name).map(|n| (n.prefix, n.instance, n.kind)), expected, "{name}");
        }
        assert!(UnitName::parse(&format!("{}.service", "a".repeat(248))).is_none());
    }

    #[test]
    fn prefixes_are_chopped_at_dashes() {
        let chop = |n: &str| UnitName::parse(n).unwrap().chopped();
        assert_eq!(chop("foo-bar-waldo.service").as_deref(), Some("foo-bar-.service"));
        assert_eq!(chop("foo-bar-.service").as_deref(), Some("foo-.service"));
        assert_eq!(chop("foo-.service"), None);
        assert_eq!(chop("foo.service"), None);
        assert_eq!(chop("foo-bar@x.service").as_deref(), Some("foo-@x.service"));
        assert_eq!(chop("-.mount"), None);
    }

    #[test]
    fn paths_and_names_correspond() {
        for (path, unit) in [("/", "-.mount"), ("/mnt/a-b/", r"mnt-a\x2db.mount"), ("/.x", r"\x2ex.mount")] {
            assert_eq!(mount_unit(path), unit);
        }
        assert_eq!(unescape(r"mnt-a\x2db").as_deref(), Some("mnt/a-b"));
        assert_eq!(unescape(r"a\x2"), None);
        assert_eq!(unescape(r"\xff"), None);
        assert_eq!(instantiate("bar@.service", "foo@x.service").as_deref(), Some("bar@x.service"));
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, n) in [("", "abc", 3), ("Replicas", "Replica", 1), ("kitten", "sitting", 3), ("x", "x", 0)]
        {
            assert_eq!(edit_distance(a, b), n, "{a} {b}");
        }
    }
}
