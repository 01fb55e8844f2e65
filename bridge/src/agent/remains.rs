//! Asks whether anything of a unit is left on this node outside its processes (`GoneExec=`): an address, a mount, a lock.
//!
//! A child of the daemon, and no transient unit: a release also ends while PID 1 shuts the machine down, and where it
//! answers nobody. What the program does not say in time counts as left.

use std::convert::Infallible;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use policy::UnitName;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;
use units::section::Program;

use crate::child::Group;

/// The longest that it may take; part of the unit's stop budget.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Kept of its output.
const OUTPUT_CAP: usize = 16 * 1024;
/// For what it wrote just before its end.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// Longest text of it that goes into the log.
const WORDS_MAX: usize = 300;

/// What is left; `Ok` if the program says, within `limit` and [`LIMIT`], that nothing is.
///
/// # Errors
/// What is left, or why nobody knows, in words.
pub(super) async fn nothing_left(
    program: &Program,
    unit: &UnitName,
    node_name: &str,
    limit: Duration,
) -> Result<(), String> {
    let limit = limit.min(LIMIT);
    let asked = ask(program, unit, node_name);
    let (status, output) = tokio::time::timeout(limit, asked)
        .await
        .map_err(|_| format!("{} did not end within {} ms", program.path, limit.as_millis()))?
        .map_err(|error| format!("{} cannot be asked: {error}", program.path))?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output).into_owned();
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    let line = line.map(|line| line.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect::<String>());
    Err(line.unwrap_or_else(|| format!("{} ended with {status}", program.path)))
}

async fn ask(program: &Program, unit: &UnitName, node_name: &str) -> io::Result<(ExitStatus, Vec<u8>)> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(&program.path);
    command.args(&program.args).env("CONVOKE_UNIT", unit.as_str()).env("CONVOKE_NODE", node_name);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = Group(command.process_group(0).spawn()?);
    // The writing ends that are left are the program's.
    drop(command);
    let mut output = Vec::new();
    let mut reader = Receiver::from_owned_fd(reader.into())?;
    let status = tokio::select! {
        status = child.0.wait() => status?,
        never = drain(&mut reader, &mut output) => match never? {},
    };
    if !status.success() {
        // What it wrote last may not be read yet. Something that it left behind may hold the pipe open.
        drop(tokio::time::timeout(LAST_WORDS, drain(&mut reader, &mut output)).await);
    }
    Ok((status, output))
}

/// Reads for ever, and keeps the end of it.
async fn drain(reader: &mut Receiver, output: &mut Vec<u8>) -> io::Result<Infallible> {
    let mut some = [0; 4096];
    loop {
        match reader.read(&mut some).await? {
            0 => std::future::pending::<()>().await,
            read => output.extend(some.get(..read).unwrap_or_default()),
        }
        output.drain(..output.len().saturating_sub(OUTPUT_CAP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Result<(), String> {
        let args = vec!["-c".to_owned(), script.to_owned()];
        let program = Program { path: "/bin/sh".to_owned(), args };
        nothing_left(&program, &"ip.service".into(), "n1", limit).await
    }

    #[tokio::test]
    async fn only_its_word_in_time_says_that_nothing_is_left() {
        let second = Duration::from_secs(5);
        assert_eq!(shell("test $CONVOKE_UNIT = ip.service && test $CONVOKE_NODE = n1", second).await, Ok(()));
        let left = shell("echo looking; echo '192.0.2.7 is on eth0' >&2; exit 3", second).await;
        assert_eq!(left, Err("192.0.2.7 is on eth0".to_owned()));
        assert_eq!(shell("exit 3", second).await, Err("/bin/sh ended with exit status: 3".to_owned()));
        let killed = shell("kill -9 $$", second).await.expect_err("it said nothing");
        assert!(killed.contains("signal: 9"), "{killed}");
        let late = shell("sleep 60", Duration::from_millis(100)).await;
        assert_eq!(late, Err("/bin/sh did not end within 100 ms".to_owned()));
        let none = Program { path: "/no/such/program".to_owned(), args: Vec::new() };
        let none =
            nothing_left(&none, &"ip.service".into(), "n1", second).await.expect_err("nobody was asked");
        assert!(none.starts_with("/no/such/program cannot be asked: "), "{none}");
    }

    #[tokio::test]
    async fn what_it_leaves_behind_or_writes_without_end_holds_nobody_up() {
        let begun = std::time::Instant::now();
        let long = Duration::from_secs(4);
        assert_eq!(shell("sleep 30 & exit 0", long).await, Ok(()));
        assert_eq!(shell("head -c 1000000 /dev/zero; exit 0", long).await, Ok(()));
        assert!(begun.elapsed() < long, "{:?}", begun.elapsed());
    }
}
