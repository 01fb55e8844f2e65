//! The secrets of fence devices: where the settings say that they are, and how a node reads its own.
//!
//! A secret is the only line of a file that root alone reads, or a credential of systemd. Credentials are looked up by name at
//! each use, where systemd itself looks, and encrypted ones are decrypted by `systemd-creds`: what is changed there counts from the next
//! call of the agent on. The clear text is kept in memory, and by nobody for longer than the call lasts. Why it is so:
//! `docs/design/0024-secrets-by-credentials.md`. What is done with a secret is not for here.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fence_agents::{self, AskError};

/// What stands before the name of a credential.
const PREFIX: &str = "credential:";
/// As systemd allows for the name of a file.
const NAME_MAX: usize = 255;
/// The stores, below the root, in the order in which they are searched: that of `LoadCredentialEncrypted=`. The last one is what
/// PID 1 gave convoked when it started, by a drop-in with `LoadCredential=` or the like: all others may be newer.
const STORES: [Store; 5] = [
    Store { directory: ENCRYPTED, encrypted: true },
    Store { directory: "run/credstore.encrypted", encrypted: true },
    Store { directory: "etc/credstore", encrypted: false },
    Store { directory: "run/credstore", encrypted: false },
    Store { directory: "run/credentials/convoked.service", encrypted: false },
];
/// Where an encrypted credential belongs that is to last.
const ENCRYPTED: &str = "etc/credstore.encrypted";
const PROGRAM: &str = "usr/bin/systemd-creds";
/// With the key of the host it took 9 ms on a busy machine; a TPM may take seconds, and serves one after another.
const LIMIT: Duration = Duration::from_secs(10);
/// As systemd: all credentials of a unit together have a megabyte.
const SECRET_MAX: u64 = 1024 * 1024;
/// Others may read it.
const READABLE: u32 = 0o077;
/// Others may write it.
const WRITABLE: u32 = 0o022;

/// What the settings say of a secret: where each node finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// The file with this absolute path.
    File(&'a Path),
    /// systemd's credential of this name: `credential:NAME`.
    Credential(&'a str),
}

/// Why a text says nothing of that. Without the text: somebody may have written the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No path, and no credential.
    #[error("this is neither the path of a file nor `credential:NAME`")]
    Neither,
    /// A credential that cannot be called so.
    #[error("this cannot name a credential")]
    Name,
}

impl SourceError {
    /// What to write instead.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Neither => {
                "write the file's whole path, or `credential:` and the name of a credential of systemd; it has to be on every node that \
                 may run the agent"
            }
            Self::Name => {
                "use letters, digits, `.`, `-` and `_`, and begin with a letter or a digit, as in `credential:convoke.bmc`"
            }
        }
    }
}

impl<'a> Source<'a> {
    /// Reads what stands in the settings.
    ///
    /// # Errors
    /// If it is neither an absolute path nor the name of a credential.
    pub fn parse(text: &'a str) -> Result<Self, SourceError> {
        let Some(name) = text.strip_prefix(PREFIX) else {
            let path = Path::new(text);
            return path.is_absolute().then_some(Self::File(path)).ok_or(SourceError::Neither);
        };
        // Fewer than systemd takes: a name is shown in commands that people paste into a shell.
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
        (plain && begins && name.len() <= NAME_MAX).then_some(Self::Credential(name)).ok_or(SourceError::Name)
    }
}

/// Why a node does not have a secret. Names the node and the file; of the secret it has nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Unreadable {
    /// What is wrong, and on which machine.
    pub what: String,
    /// What to do there.
    pub remedy: String,
}

/// A directory of credentials.
#[derive(Clone, Copy, Debug)]
struct Store {
    directory: &'static str,
    encrypted: bool,
}

/// This node's secrets.
#[derive(Clone, Debug)]
pub struct Secrets {
    root: PathBuf,
    /// How long `systemd-creds` may take.
    limit: Duration,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { root: "/".into(), limit: LIMIT }
    }
}

impl Secrets {
    /// The secret that the settings name so, without the end of its line.
    ///
    /// # Errors
    /// If this node does not have it, or others than root may have it.
    pub async fn read(&self, source: &str) -> Result<String, Unreadable> {
        match Source::parse(source) {
            Ok(Source::File(path)) => {
                let shown = path.display();
                let remedy = format!("write the secret into it there, and run `chmod 600 {shown}`");
                let what = format!("the secret's file {shown}");
                line(closed(path, &what, &remedy)?, &what, &remedy)
            }
            Ok(Source::Credential(name)) => self.credential(name).await,
            Err(error) => Err(Unreadable {
                what: format!("a secret cannot be found on {}: {error}", machine()),
                remedy: error.help().to_owned(),
            }),
        }
    }

    async fn credential(&self, name: &str) -> Result<String, Unreadable> {
        let remedy = self.encrypt(name);
        for store in STORES {
            let path = self.root.join(store.directory).join(name);
            if matches!(path.metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound) {
                continue;
            }
            let what = format!("the credential {}", path.display());
            let secret = match store.encrypted {
                true => self.decrypted(name, &path, &what, &remedy).await?,
                false => closed(&path, &what, &remedy)?,
            };
            return line(secret, &what, &remedy);
        }
        let stores = STORES.map(|store| self.root.join(store.directory).display().to_string());
        let what =
            format!("there is no credential {name} on {}, in none of {}", machine(), stores.join(", "));
        Err(Unreadable { what, remedy })
    }

    /// What an encrypted credential holds.
    async fn decrypted(
        &self,
        name: &str,
        path: &Path,
        what: &str,
        remedy: &str,
    ) -> Result<Vec<u8>, Unreadable> {
        let machine = machine();
        let found = path.metadata().map_err(|error| unreadable(what, &error, remedy))?;
        // Everybody may read it. Who may write it could have no node fenced any more.
        if found.mode() & WRITABLE != 0 {
            return Err(Unreadable {
                what: format!("{what} on {machine} can be written by others than root"),
                remedy: format!("run `chmod go-w {}` there", path.display()),
            });
        }
        let program = self.root.join(PROGRAM);
        let name = format!("--name={name}");
        let args = ["--newline=no", &name, "decrypt"].map(OsStr::new);
        let args = args.into_iter().chain([path.as_os_str(), OsStr::new("-")]);
        let (why, remedy) = match fence_agents::run(&program, args, b"", self.limit).await {
            Ok(ended) if ended.status.success() => return Ok(ended.stdout),
            Ok(ended) => {
                // Its output may be the secret.
                let said = fence_agents::said(&ended.stderr, b"").unwrap_or_else(|| ended.status.to_string());
                let remedy = format!("only the machine that encrypted it can decrypt it: {remedy}");
                (format!(": {said}"), remedy)
            }
            Err(AskError::NotInstalled) => (
                format!(": there is no {}", program.display()),
                "install systemd 250 or later there".to_owned(),
            ),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let remedy =
                    format!("try `systemd-creds {name} decrypt {} - >/dev/null` there", path.display());
                (format!(": systemd-creds: {error}{}", cause.unwrap_or_default()), remedy)
            }
        };
        Err(Unreadable { what: format!("{what} cannot be decrypted on {machine}{why}"), remedy })
    }

    /// How this node gets the credential of that name.
    fn encrypt(&self, name: &str) -> String {
        let store = self.root.join(ENCRYPTED);
        let shown = store.display();
        // systemd-creds does not make it, and Debian 12 does not have it.
        let make = if store.is_dir() { String::new() } else { format!("mkdir -m 700 {shown} && ") };
        format!(
            "run `{make}systemd-ask-password -n | systemd-creds encrypt --name={name} - {shown}/{name}` there"
        )
    }
}

/// What a file holds that nobody but its owner may read.
fn closed(path: &Path, what: &str, remedy: &str) -> Result<Vec<u8>, Unreadable> {
    let failed = |error: io::Error| unreadable(what, &error, remedy);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & READABLE != 0 {
        return Err(Unreadable {
            what: format!("{what} on {} can be read by others than root", machine()),
            remedy: format!("run `chmod 600 {}` there", path.display()),
        });
    }
    let mut bytes = Vec::new();
    file.take(SECRET_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn unreadable(what: &str, error: &io::Error, remedy: &str) -> Unreadable {
    Unreadable { what: format!("{what} cannot be read on {}: {error}", machine()), remedy: remedy.to_owned() }
}

/// The only line of a secret, as agents take it.
fn line(bytes: Vec<u8>, what: &str, remedy: &str) -> Result<String, Unreadable> {
    let wrong =
        |how: &str| Unreadable { what: format!("{what} on {} {how}", machine()), remedy: remedy.to_owned() };
    // The error of the conversion would show the secret to whoever prints it.
    let mut text = String::from_utf8(bytes).map_err(|_| wrong("holds no text"))?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    match text.as_str() {
        "" => Err(wrong("is empty")),
        secret if secret.contains(['\n', '\r', '\0']) => Err(wrong("has more than one line")),
        _ => Ok(text),
    }
}

/// This machine's own name, which its node has too unless somebody chose another.
pub(crate) fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
