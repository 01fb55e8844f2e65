//! From the names that people type to what the cluster calls them.

use policy::{NodeId, UnitName, Word};

use super::error::ApiError;
use super::model::Overview;

/// A unit's name, with `.service` added where a type is missing, as `systemctl` does.
///
/// # Errors
/// [`ApiError::BadInput`] for what systemd would not take for a unit's name.
pub fn unit(name: &str) -> Result<UnitName, ApiError> {
    let full = match name.rsplit_once('.') {
        Some((_, kind)) if units::name::TYPES.contains(&kind) => name.to_owned(),
        _ => format!("{name}.service"),
    };
    match units::name::UnitName::parse(&full) {
        Some(parsed) if parsed.is_template() => Err(ApiError::BadInput(format!(
            "`{full}` is a template; name an instance of it, like `{}@x.{}`",
            parsed.prefix, parsed.kind
        ))),
        Some(_) => Ok(UnitName(full)),
        None => Err(ApiError::BadInput(format!("`{name}` is not the name of a unit"))),
    }
}

/// A node's id by its name.
///
/// # Errors
/// [`ApiError::UnknownNode`], naming those that there are.
pub fn node(picture: &Overview, name: &str) -> Result<NodeId, ApiError> {
    let found = picture.nodes.iter().find(|node| node.name == name);
    found.map(|node| NodeId(node.id)).ok_or_else(|| {
        let names: Vec<_> = picture.nodes.iter().map(|node| node.name.as_str()).collect();
        ApiError::UnknownNode(format!("no node `{name}` in this cluster; its nodes are {}", names.join(", ")))
    })
}

/// What an operator says of a clustered service, still without its node.
///
/// # Errors
/// [`ApiError::BadInput`], naming the words that there are.
pub fn word(name: &str) -> Result<fn(NodeId) -> Word, ApiError> {
    match name {
        "without" => Ok(Word::Without),
        "from" => Ok(Word::From),
        "resync" => Ok(Word::Resync),
        _ => Err(ApiError::BadInput(format!("`{name}` is none of the words `without`, `from`, `resync`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_type_means_a_service() {
        for (typed, meant) in [
            ("db", "db.service"),
            ("db.service", "db.service"),
            ("db.socket", "db.socket"),
            ("my.app", "my.app.service"),
            ("a@b", "a@b.service"),
        ] {
            assert_eq!(unit(typed).expect("a name").as_str(), meant);
        }
        for wrong in ["", "a b", "a/b", "db@.service", "é"] {
            assert!(matches!(unit(wrong), Err(ApiError::BadInput(_))), "{wrong}");
        }
    }

    #[test]
    fn each_word_means_itself_and_no_other_is_guessed() {
        let meant = |name| word(name).expect("a word")(NodeId(3));
        assert_eq!(meant("without"), Word::Without(NodeId(3)));
        assert_eq!(meant("from"), Word::From(NodeId(3)));
        assert_eq!(meant("resync"), Word::Resync(NodeId(3)));
        for wrong in ["", "Without", "--from", "force"] {
            assert!(matches!(word(wrong), Err(ApiError::BadInput(_))), "{wrong}");
        }
    }
}
