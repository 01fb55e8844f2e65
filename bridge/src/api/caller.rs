//! Who asks, in words for the history: `alice as root on n1 (convoke stop)`.
//!
//! The user is what the bus vouches for. The rest is read from `/proc` for people to read, and decides nothing: a
//! process may have gone, or lie about its command line.

use std::fs;
use std::path::PathBuf;

use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::BusName;

use super::error::ApiError;

/// `loginuid` of a process that no login began.
const NO_LOGIN: u32 = u32::MAX;
/// Longest name of a program and its verb that is taken into the history.
const COMMAND_MAX: usize = 60;

/// Who called, if they may change the cluster.
///
/// # Errors
/// [`ApiError::Refused`] for everybody but root.
pub(super) async fn root(
    connection: &zbus::Connection,
    header: &Header<'_>,
    node: &str,
) -> Result<String, ApiError> {
    let sender = header.sender().ok_or_else(|| ApiError::Failed("the call names no sender".to_owned()))?;
    let bus = DBusProxy::new(connection).await?;
    let known = bus
        .get_connection_credentials(BusName::Unique(sender.clone()))
        .await
        .map_err(|error| ApiError::Failed(format!("the bus does not know who asks: {error}")))?;
    let uid =
        known.unix_user_id().ok_or_else(|| ApiError::Failed("the bus does not know who asks".to_owned()))?;
    if uid != 0 {
        return Err(ApiError::Refused("only root may change the cluster; try again with `sudo`".to_owned()));
    }
    let process = known.process_id().map(|pid| PathBuf::from(format!("/proc/{pid}")));
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let Some(process) = process else { return Ok(words(None, node, None)) };
    let login = fs::read_to_string(process.join("loginuid")).ok().and_then(|text| text.trim().parse().ok());
    let login = login.filter(|uid| *uid != NO_LOGIN && *uid != 0).map(|uid| user(&passwd, uid));
    // Without an audit session, `sudo` still says who called it.
    let login = login.or_else(|| sudo_user(&fs::read(process.join("environ")).unwrap_or_default()));
    let command = command(&fs::read(process.join("cmdline")).unwrap_or_default());
    Ok(words(login.as_deref(), node, command.as_deref()))
}

fn words(login: Option<&str>, node: &str, command: Option<&str>) -> String {
    let who = login.map_or_else(|| "root".to_owned(), |login| format!("{login} as root"));
    let how = command.map(|command| format!(" ({command})")).unwrap_or_default();
    format!("{who} on {node}{how}")
}

fn user(passwd: &str, uid: u32) -> String {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.filter(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid));
    let name = found.filter_map(|fields| fields.first().map(|name| printable(name))).next();
    name.unwrap_or_else(|| format!("user {uid}"))
}

fn sudo_user(environ: &[u8]) -> Option<String> {
    let mut variables = environ.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let user = variables.find_map(|variable| variable.strip_prefix("SUDO_USER=").map(printable))?;
    (!user.is_empty() && user != "root").then_some(user)
}

/// The program's name and its verb. The other arguments may be secrets, and belong to the wish anyway.
fn command(cmdline: &[u8]) -> Option<String> {
    let mut words = cmdline.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let program = words.next()?;
    let program = printable(program.rsplit('/').next()?);
    let verb = (program == "convoke").then(|| words.find(|word| !word.starts_with('-'))).flatten();
    let text = match verb {
        Some(verb) if !verb.is_empty() => format!("{program} {}", printable(&verb)),
        _ => program,
    };
    (!text.is_empty()).then(|| text.chars().take(COMMAND_MAX).collect())
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_named_where_one_is_known() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(user(passwd, 1000), "alice");
        assert_eq!(user(passwd, 1001), "user 1001");
        assert_eq!(sudo_user(b"A=1\0SUDO_USER=bob\0"), Some("bob".to_owned()));
        assert_eq!(sudo_user(b"SUDO_USER=root\0"), None);
        assert_eq!(sudo_user(b""), None);
        let command = command(b"/usr/bin/convoke\0--no-wait\0stop\0db\0");
        assert_eq!(words(Some("alice"), "n1", command.as_deref()), "alice as root on n1 (convoke stop)");
        assert_eq!(words(None, "n1", None), "root on n1");
    }

    #[test]
    fn arguments_are_not_repeated() {
        assert_eq!(command(b"/usr/bin/python3\0-c\0secret\0"), Some("python3".to_owned()));
        assert_eq!(command(b"convoke\0"), Some("convoke".to_owned()));
        assert_eq!(command(b""), None);
        assert_eq!(command(b"\x1b[2Jx\0"), Some("[2Jx".to_owned()));
    }
}
