//! Tells a whole identity from none and from a half, and a first start from a lost store.

use std::fs;
use std::io;

use super::{Enrolled, FORMAT, IdentityError, IdentityFile, file};
use crate::paths::Paths;
use crate::pki::{Authority, Credentials};

/// Whether a voter's store may be created at this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// It was never begun: create it, then [`super::note_store_begun`].
    Fresh,
    /// It is there. It was written to, so it is opened and never created.
    Present,
}

/// Reads who this node is: `None` where it is in no cluster, an error where only a part says so.
pub fn load(paths: &Paths) -> Result<Option<Enrolled>, IdentityError> {
    let identity_dir = paths.identity_dir();
    let store = paths.store_file();
    let store_exists = exists(&store)?;
    if !exists(&identity_dir)? {
        return match store_exists {
            true => Err(IdentityError::StoreWithoutIdentity { store, identity_dir }),
            false => Ok(None),
        };
    }
    for part in [paths.identity_file(), paths.ca_cert(), paths.node_cert(), paths.node_key()] {
        if !exists(&part)? {
            return Err(IdentityError::Half { missing: part, identity_dir });
        }
    }
    let IdentityFile { identity, store_begun, .. } = read(paths)?;
    let credentials = Credentials::load(&identity_dir)?;
    if credentials.name() != identity.certificate_name() {
        return Err(IdentityError::ForeignCertificate {
            path: paths.node_cert(),
            certificate: credentials.name(),
            identity: identity.certificate_name(),
            identity_dir,
        });
    }
    let authority = Authority::load(&identity_dir)?;
    if identity.role.votes() && authority.is_none() {
        return Err(IdentityError::Half { missing: paths.ca_key(), identity_dir });
    }
    // A demoted voter keeps the mark but needs the store no longer.
    if identity.role.votes() && store_begun && !store_exists {
        return Err(IdentityError::StoreGone { store, identity_dir });
    }
    // A store that is there but not yet noted was created just before the power went: it holds the truth.
    let store = if store_exists { StoreState::Present } else { StoreState::Fresh };
    Ok(Some(Enrolled { identity, credentials, authority, store }))
}

fn read(paths: &Paths) -> Result<IdentityFile, IdentityError> {
    let path = paths.identity_file();
    let text = fs::read_to_string(&path).map_err(file(&path))?;
    let unreadable =
        |reason| IdentityError::Unreadable { path: path.clone(), reason, identity_dir: paths.identity_dir() };
    // The format first: a later one may have other fields.
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = toml::from_str(&text).map_err(|error| unreadable(error.message().to_owned()))?;
    if format != FORMAT {
        return Err(unreadable(format!(
            "it has format {format}, and this version of convoked reads format {FORMAT}"
        )));
    }
    toml::from_str(&text).map_err(|error| unreadable(error.message().to_owned()))
}

fn exists(path: &std::path::Path) -> Result<bool, IdentityError> {
    // An unreadable directory must not pass for an absent one.
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(IdentityError::File { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{clean_staging, note_store_begun};
    use super::*;
    use crate::init::{self, First};
    use std::path::PathBuf;

    fn node() -> (tempfile::TempDir, Paths, Enrolled) {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        let first = First {
            cluster_name: "harbour".to_owned(),
            node_name: "n1".to_owned(),
            addresses: vec!["127.0.0.1:7433".parse().expect("address")],
        };
        let enrolled = init::create(&paths, &first).expect("a new cluster");
        (dir, paths, enrolled)
    }

    #[test]
    fn an_empty_machine_is_in_no_cluster() {
        let dir = tempfile::tempdir().expect("scratch directory");
        assert!(load(&Paths::below(dir.path())).expect("no error").is_none());
    }

    #[test]
    fn every_missing_part_is_named() {
        type Part = fn(&Paths) -> PathBuf;
        let parts: [Part; 5] =
            [Paths::identity_file, Paths::ca_cert, Paths::node_cert, Paths::node_key, Paths::ca_key];
        for part in parts {
            let (_dir, paths, _) = node();
            fs::remove_file(part(&paths)).expect("removed");
            let text = load(&paths).expect_err("a half").to_string();
            assert!(text.contains(&part(&paths).display().to_string()), "{text}");
            assert!(text.contains("join again with a new token"), "{text}");
        }
    }

    #[test]
    fn a_wiped_store_never_starts_with_the_old_certificate() {
        let (_dir, paths, enrolled) = node();
        assert_eq!(enrolled.store, StoreState::Fresh);
        fs::write(paths.store_file(), b"log").expect("store");
        assert_eq!(load(&paths).expect("whole").map(|node| node.store), Some(StoreState::Present));
        note_store_begun(&paths, &enrolled.identity).expect("noted");
        fs::remove_file(paths.store_file()).expect("removed");
        assert!(matches!(load(&paths), Err(IdentityError::StoreGone { .. })));
    }

    #[test]
    fn a_store_without_an_identity_is_a_half() {
        let (_dir, paths, _) = node();
        fs::write(paths.store_file(), b"log").expect("store");
        fs::remove_dir_all(paths.identity_dir()).expect("removed");
        assert!(matches!(load(&paths), Err(IdentityError::StoreWithoutIdentity { .. })));
    }

    #[test]
    fn anothers_certificate_is_refused_with_both_names() {
        let (_a, ours, _) = node();
        let (_b, theirs, other) = node();
        for part in ["ca.crt", "ca.key", "node.crt", "node.key"] {
            fs::copy(theirs.identity_dir().join(part), ours.identity_dir().join(part)).expect("copied");
        }
        let text = load(&ours).expect_err("foreign").to_string();
        assert!(text.contains(&other.identity.cluster.to_string()), "{text}");
    }

    #[test]
    fn a_later_format_is_refused() {
        let (_dir, paths, _) = node();
        fs::write(paths.identity_file(), "format = 2\nwho = 'knows'\n").expect("written");
        let text = load(&paths).expect_err("a later format").to_string();
        assert!(text.contains("it has format 2, and this version of convoked reads format 1"), "{text}");
    }

    #[test]
    fn an_interrupted_attempt_is_no_identity() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        fs::create_dir_all(paths.identity_staging_dir()).expect("staging");
        fs::write(paths.identity_staging_dir().join("node.key"), b"half").expect("half");
        assert!(load(&paths).expect("no error").is_none());
        clean_staging(&paths).expect("cleaned");
        assert!(!paths.identity_staging_dir().exists());
    }
}
