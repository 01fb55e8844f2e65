//! systemd's `%` specifiers, as far as the cluster expands them.
//!
//! Only what follows from the unit's name: a definition must read the same on every node.

use crate::name::{UnitName, unescape};

/// Why a specifier was not expanded; `at` is its offset in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) at: usize,
    pub(crate) specifier: String,
}

/// Expands the specifiers of a value for a unit.
pub(crate) fn expand(text: &str, unit: &str) -> Result<String, Refused> {
    let name = UnitName::parse(unit);
    expand_with(text, |c| {
        let name = name?;
        let instance = name.instance.unwrap_or("");
        Some(match c {
            'n' => name.full.to_owned(),
            'N' => name.stem().to_owned(),
            'p' => name.prefix.to_owned(),
            'i' => instance.to_owned(),
            'I' => unescape(instance)?,
            'j' => name.prefix.rsplit('-').next().unwrap_or("").to_owned(),
            _ => return None,
        })
    })
}

/// Expands for dependencies between units; in a template `%i` stays open. `None` if that is impossible.
pub(crate) fn expand_open(text: &str, unit: &str) -> Option<String> {
    let name = UnitName::parse(unit)?;
    if !name.is_template() {
        return expand(text, unit).ok();
    }
    let open = format!("{}@%i", name.prefix);
    expand_with(text, |c| {
        Some(match c {
            'n' => format!("{open}.{}", name.kind),
            'N' => open.clone(),
            'p' => name.prefix.to_owned(),
            'i' => "%i".to_owned(),
            'j' => name.prefix.rsplit('-').next().unwrap_or("").to_owned(),
            _ => return None,
        })
    })
    .ok()
}

fn expand_with(text: &str, known: impl Fn(char) -> Option<String>) -> Result<String, Refused> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some((_, '%')) => out.push('%'),
            Some((_, c)) => match known(c) {
                Some(text) => out.push_str(&text),
                None => return Err(Refused { at, specifier: format!("%{c}") }),
            },
            None => return Err(Refused { at, specifier: "%".to_owned() }),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_the_name_is_expanded() {
        let unit = r"my-db@a\x2db-c.service";
        let expanded = expand("%n|%N|%p|%i|%I|%j|100%%", unit);
        let expected = r"my-db@a\x2db-c.service|my-db@a\x2db-c|my-db|a\x2db-c|a-b/c|db|100%";
        assert_eq!(expanded.as_deref(), Ok(expected));
    }

    #[test]
    fn what_differs_between_nodes_is_refused() {
        for bad in ["%H", "%m", "%b", "%z", "%"] {
            let refused = expand(&format!("ab{bad}"), "x.service").unwrap_err();
            assert_eq!((refused.at, refused.specifier.as_str()), (2, bad));
        }
    }

    #[test]
    fn a_template_keeps_its_instance_open() {
        assert_eq!(
            expand_open("db@%i.service %n", "app@.target").as_deref(),
            Some("db@%i.service app@%i.target")
        );
        assert_eq!(expand_open("db@%i.service", "app@x.target").as_deref(), Some("db@x.service"));
    }
}
