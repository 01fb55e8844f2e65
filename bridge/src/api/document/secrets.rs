//! The secrets that a document names, held against those that the node has where an operator gives it.
//!
//! Warnings only: other nodes may have what this one lacks, and run the agents meanwhile. What they lack is told by their looks
//! through the device.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use super::{Document, Findings};
use crate::config::Finding;
use crate::fence_agents::{Spot, Table};
use crate::secrets::{Secrets, Unreadable};

/// What this node lacks, by what the settings say of the secret.
pub type Lacking = BTreeMap<String, Unreadable>;

/// Reads each secret of a document once, to see whether it can be read.
pub async fn lacking(document: &Document, secrets: &Secrets) -> Lacking {
    let mut read = BTreeMap::new();
    for source in document.devices.values().flat_map(|device| device.secrets.values()) {
        if !read.contains_key(source) {
            read.insert(source.clone(), secrets.read(source).await.err());
        }
    }
    read.into_iter().filter_map(|(source, error)| Some((source, error?))).collect()
}

/// A document that was read from this text against the secrets that the node lacks.
#[must_use]
pub fn against_secrets(text: &str, path: &Path, document: &Document, lacking: &Lacking) -> Findings {
    let mut found = Findings::default();
    let Ok(table) = DeTable::parse(text) else { return found };
    for placed in super::devices::devices(table.get_ref()) {
        let Some(device) = document.devices.get(&placed.name) else { continue };
        for (option, source) in &device.secrets {
            let Some(error) = lacking.get(source) else { continue };
            let place = placed.span(&Spot::Value(Table::Secrets, option.clone()));
            found.warnings.push(Finding::at(text, path, place, &error.what, &error.remedy));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::document;

    #[tokio::test]
    async fn a_secret_that_the_node_lacks_is_told_where_it_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let here = dir.path().join("bmc").to_string_lossy().into_owned();
        std::fs::write(&here, "s3cret\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&here, mode).expect("a mode");
        let text = format!(
            "[fence.a]\nagent = \"fence_x\"\ntargets = {{}}\nsecrets = {{ password = \"{here}\", token = \"/nonexistent/t\" }}\n\
             [fence.b]\nagent = \"fence_x\"\ntargets = {{}}\nsecrets = {{ passwd = \"credential:convoke.nowhere\" }}\n"
        );
        let path = "cluster.toml".as_ref();
        let read = document::parse(&text, path, &BTreeMap::new()).expect("a document");
        let lacking = lacking(&read, &Secrets::default()).await;
        assert_eq!(lacking.keys().collect::<Vec<_>>(), ["/nonexistent/t", "credential:convoke.nowhere"]);
        let found = against_secrets(&text, path, &read, &lacking);
        assert!(found.errors.is_empty(), "{found:?}");
        let [token, passwd] = &found.warnings[..] else { panic!("{found:?}") };
        assert_eq!((token.line, passwd.line, passwd.column), (4, 8, 22));
        assert!(token.message.contains("/nonexistent/t cannot be read on "), "{token}");
        assert!(passwd.message.starts_with("there is no credential convoke.nowhere on "), "{passwd}");
        assert!(passwd.help.contains("systemd-creds encrypt --name=convoke.nowhere"), "{passwd}");
    }
}
