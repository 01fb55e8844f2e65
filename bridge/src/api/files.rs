//! What the files of a unit say and whether it runs, on their way from the command line to a forecast.
//!
//! A supposition and nothing else: what comes into force are the offers of nodes.

use policy::Definition;
use serde::{Deserialize, Serialize};

use super::error::ApiError;

/// Longest text. A hundred units in each key are less than half of it, and anybody on the node may ask.
const TEXT_MAX: usize = 64 * 1024;

/// The files of one unit on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Files {
    /// Its section, in the cluster's words.
    pub(crate) definition: Definition,
    /// Whether it is enabled at boot.
    pub(crate) enabled: bool,
    /// Whether it runs.
    pub(crate) running: bool,
}

impl Files {
    /// As they were read, of a unit that does not run; `None` if anything in them is an error.
    pub(crate) fn of(unit: &units::ClusterUnit) -> Option<Self> {
        let definition = crate::agent::definition(unit.section.as_ref()?);
        Some(Self { definition, enabled: unit.enabled, running: false })
    }

    /// As the bus carries them.
    pub(crate) fn to_text(&self) -> String {
        // Names, numbers and lists: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The other way.
    ///
    /// # Errors
    /// [`ApiError::BadInput`] for what is too long, or not understood as a whole: a key that was passed over would be
    /// missing in the forecast.
    pub(crate) fn read(text: &str) -> Result<Self, ApiError> {
        if text.len() > TEXT_MAX {
            return Err(ApiError::BadInput(format!(
                "what the files say has {} bytes; a forecast takes {TEXT_MAX} at the most",
                text.len()
            )));
        }
        let unread = |why: &str| {
            ApiError::BadInput(format!(
                "what the files say is not understood ({why}): where `convoke` is of another version than the running \
                 convoked, `systemctl restart convoked` mends that and stops no unit"
            ))
        };
        let said: serde_json::Value =
            serde_json::from_str(text).map_err(|error| unread(&error.to_string()))?;
        let files = Self::deserialize(&said).map_err(|error| unread(&error.to_string()))?;
        let understood = serde_json::to_value(&files).is_ok_and(|understood| understood == said);
        if understood { Ok(files) } else { Err(unread("it says more, or less, than is known here")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_disk(section: &str) -> Option<Files> {
        let root = tempfile::tempdir().expect("scratch directory");
        let dir = root.path().join("etc/systemd/system");
        std::fs::create_dir_all(dir.join("web.service.d")).expect("directory");
        std::fs::write(dir.join("web.service"), "[Service]\nExecStart=/bin/true\n").expect("unit file");
        std::fs::write(dir.join("web.service.d/cluster.conf"), section).expect("drop-in");
        Files::of(&units::unit(root.path(), "web.service").expect("a cluster unit"))
    }

    #[test]
    fn what_a_drop_in_says_arrives_whole() {
        let section = "[X-Convoke]\nReplicas=2\nNodes=n1 rack=a\nPrefer=n2:5\nAvoid=n1:7\nUses=memory=4K\nPriority=-3\n\
                       Requires=db.service\nFailureResetSec=infinity\n";
        let files = on_disk(section).expect("no error");
        assert_eq!(files.definition.replicas, policy::Replicas::Count(2));
        assert!(!files.enabled && !files.running);
        assert_eq!(Files::read(&files.to_text()).expect("understood"), files);
        assert_eq!(on_disk("[X-Convoke]\nReplicas=many\n"), None);
    }

    #[test]
    fn what_is_understood_in_part_is_refused() {
        let text = on_disk("[X-Convoke]\nReplicas=2\n").expect("no error").to_text();
        let newer = text.replacen('{', "{\"colour\":\"red\",", 1);
        let older = text.replacen("\"priority\":0,", "", 1);
        assert_ne!(older, text);
        let long = format!("{text}{}", " ".repeat(TEXT_MAX));
        for wrong in ["", "{}", "web", newer.as_str(), older.as_str(), long.as_str()] {
            assert!(matches!(Files::read(wrong), Err(ApiError::BadInput(_))), "{wrong:.80}");
        }
    }
}
