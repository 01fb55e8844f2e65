//! From the names that people type to what the cluster calls them.

use policy::{First, NodeId, Scope, Suppose, UnitName, Wanted, Wish, Word};

use super::error::ApiError;
use super::files::Files;
use super::model::Overview;
use super::picture::BY;

/// Names in one question. Anybody on the node may ask.
const MOST_SUPPOSED: usize = 1_000;
/// Longest reason of a maintenance: it is shown in a line of `status`, and kept on every voter.
const REASON_MAX: usize = 200;

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

/// What is to be in maintenance: a node by its name, else a unit; nothing is the cluster.
///
/// # Errors
/// [`ApiError::UnknownNode`] for what is neither; and those of [`unit()`].
pub fn scope(picture: &Overview, name: &str) -> Result<Scope, ApiError> {
    if name.is_empty() {
        return Ok(Scope::Cluster);
    }
    if let Ok(node) = node(picture, name) {
        return Ok(Scope::Node(node));
    }
    let unit = unit(name)?;
    if picture.units.iter().any(|line| line.name == unit.as_str()) {
        return Ok(Scope::Unit(unit));
    }
    Err(ApiError::UnknownNode(format!("`{name}` is neither a node nor a cluster unit")))
}

/// What a maintenance is for, as it was typed; an empty word is none.
///
/// # Errors
/// [`ApiError::BadInput`] for what does not fit into a line.
pub fn maintenance_reason(typed: &str) -> Result<Option<String>, ApiError> {
    let typed = typed.trim();
    if typed.chars().count() > REASON_MAX || typed.chars().any(char::is_control) {
        return Err(ApiError::BadInput(format!("a reason is one line of at most {REASON_MAX} characters")));
    }
    Ok((!typed.is_empty()).then(|| typed.to_owned()))
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

/// A question for a forecast, in the words of the bus.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Which verb's forecast.
    pub what: &'a str,
    /// Of which nodes or units.
    pub names: &'a [String],
    /// A node, or nothing; what a unit's files say.
    pub from: &'a str,
    /// A node, or nothing.
    pub to: &'a str,
    /// Which node is asked.
    pub here: NodeId,
}

/// What a forecast supposes; of equal names one.
///
/// # Errors
/// [`ApiError::BadInput`], naming the words that there are, or that there are too many names; and those of [`unit()`] and
/// [`node`].
pub fn supposed(picture: &Overview, asked: &Asked<'_>) -> Result<Vec<Suppose>, ApiError> {
    let Asked { what, names, from, to, here } = *asked;
    if what == "define" {
        return Ok(vec![defined(names, from, here)?]);
    }
    let place = |name: &str| if name.is_empty() { Ok(None) } else { node(picture, name).map(Some) };
    let (from, to, by) = (place(from)?, place(to)?, BY.to_owned());
    let one = |name: &String| match what {
        "lose" => Ok(Suppose::Lost(node(picture, name)?)),
        "drain" | "undrain" => {
            let (node, drained) = (place(name)?, what == "drain");
            Ok(Suppose::Asked(Wish::SetDrained { node, drained, by: by.clone() }))
        }
        "maintain" => {
            let scope = scope(picture, name)?;
            Ok(Suppose::Asked(Wish::BeginMaintenance { scope, reason: None, by: by.clone() }))
        }
        "unmaintain" => {
            Ok(Suppose::Asked(Wish::EndMaintenance { scope: scope(picture, name)?, by: by.clone() }))
        }
        "start" | "stop" => {
            let wanted = if what == "start" { Wanted::Started } else { Wanted::Stopped };
            let node = to.filter(|_| what == "start");
            Ok(Suppose::Asked(Wish::SetGoal { unit: unit(name)?, wanted, node, seen: None, by: by.clone() }))
        }
        "move" => Ok(Suppose::Asked(Wish::Move { unit: unit(name)?, from, to, by: by.clone() })),
        "adopt" => {
            let node = from.ok_or_else(|| ApiError::BadInput("`adopt` from which node?".to_owned()))?;
            Ok(Suppose::Asked(Wish::AdoptFrom { unit: unit(name)?, node, by: by.clone() }))
        }
        _ => Err(ApiError::BadInput(format!(
            "`{what}` is none of the words `now`, `lose`, `drain`, `undrain`, `maintain`, `unmaintain`, `start`, `stop`, `move`, \
             `adopt`, `define`"
        ))),
    };
    match (what, names) {
        ("now", []) => Ok(Vec::new()),
        ("now", _) => Err(ApiError::BadInput("`now` takes no names".to_owned())),
        (_, []) => Err(ApiError::BadInput(format!("`{what}` of what?"))),
        (_, names) if names.len() > MOST_SUPPOSED => Err(ApiError::BadInput(format!(
            "{} names; a forecast takes {MOST_SUPPOSED} at the most",
            names.len()
        ))),
        (_, names) => {
            let mut supposed = Vec::new();
            for name in names {
                let one = one(name)?;
                if !supposed.contains(&one) {
                    supposed.push(one);
                }
            }
            Ok(supposed)
        }
    }
}

/// One unit's files say this, wherever they are.
fn defined(names: &[String], said: &str, here: NodeId) -> Result<Suppose, ApiError> {
    let [name] = names else {
        return Err(ApiError::BadInput("`define` takes one unit".to_owned()));
    };
    let Files { definition, enabled, running } = Files::read(said)?;
    Ok(Suppose::Offered { unit: unit(name)?, definition, first: First { node: here, enabled, running } })
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

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(maintenance_reason(" new disks ").expect("a reason"), Some("new disks".to_owned()));
        assert_eq!(maintenance_reason(" ").expect("none"), None);
        for wrong in ["two\nlines", &"x".repeat(REASON_MAX + 1)] {
            assert!(matches!(maintenance_reason(wrong), Err(ApiError::BadInput(_))), "{wrong}");
        }
    }

    #[test]
    fn a_forecast_is_asked_for_by_the_words_of_the_verbs() {
        let picture = crate::cli::sample();
        let ask = |what: &str, names: &[&str], from: &str, to: &str| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            supposed(&picture, &Asked { what, names: &names, from, to, here: NodeId(2) })
        };
        let by = || BY.to_owned();
        let goal = |wanted, node| {
            Suppose::Asked(Wish::SetGoal { unit: "db.service".into(), wanted, node, seen: None, by: by() })
        };
        let one = Some(NodeId(1));
        let files = Files { definition: policy::Definition::exclusive(), enabled: true, running: false };
        let table = [
            (ask("now", &[], "", ""), vec![]),
            (ask("lose", &["n1", "n1"], "", ""), vec![Suppose::Lost(NodeId(1))]),
            (
                ask("undrain", &["n1"], "", ""),
                vec![Suppose::Asked(Wish::SetDrained { node: Some(NodeId(1)), drained: false, by: by() })],
            ),
            (
                ask("unmaintain", &["", "n1", "db"], "", ""),
                [Scope::Cluster, Scope::Node(NodeId(1)), Scope::Unit("db.service".into())]
                    .map(|scope| Suppose::Asked(Wish::EndMaintenance { scope, by: by() }))
                    .into(),
            ),
            (ask("start", &["db"], "", "n1"), vec![goal(Wanted::Started, one)]),
            (ask("stop", &["db"], "", "n1"), vec![goal(Wanted::Stopped, None)]),
            (
                ask("move", &["db"], "n1", ""),
                vec![Suppose::Asked(Wish::Move { unit: "db.service".into(), from: one, to: None, by: by() })],
            ),
            (
                ask("adopt", &["db"], "n1", ""),
                vec![Suppose::Asked(Wish::AdoptFrom {
                    unit: "db.service".into(),
                    node: NodeId(1),
                    by: by(),
                })],
            ),
            (
                ask("define", &["db"], &files.to_text(), ""),
                vec![Suppose::Offered {
                    unit: "db.service".into(),
                    definition: policy::Definition::exclusive(),
                    first: First { node: NodeId(2), enabled: true, running: false },
                }],
            ),
        ];
        for (asked, expected) in table {
            assert_eq!(asked.expect("well asked"), expected);
        }
        assert!(matches!(ask("lose", &["n9"], "", ""), Err(ApiError::UnknownNode(_))));
        assert!(matches!(ask("maintain", &["n9"], "", ""), Err(ApiError::UnknownNode(_))));
        let wrong = [
            ("now", &["n1"][..]),
            ("lose", &[]),
            ("burn", &["n1"]),
            ("stop", &["a/b"]),
            ("adopt", &["db"]),
            ("define", &["db"]),
        ];
        for (what, names) in wrong {
            assert!(matches!(ask(what, names, "", ""), Err(ApiError::BadInput(_))), "{what}");
        }
        for names in [&["db", "web"][..], &["a/b"], &[]] {
            assert!(
                matches!(ask("define", names, &files.to_text(), ""), Err(ApiError::BadInput(_))),
                "{names:?}"
            );
        }
        let many: Vec<String> = (0..=MOST_SUPPOSED).map(|number| format!("a{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(ask("stop", &many, "", ""), Err(ApiError::BadInput(_))));
        assert_eq!(ask("stop", &many[1..], "", "").expect("few enough").len(), MOST_SUPPOSED);
    }
}
