//! Runs the programs that a unit names, `Position=`, `Ready=` and `CheckExec=`, and reads what they print.
//!
//! Decides how they are called and what their end means; when to look, and what follows, is decided elsewhere. Each runs
//! in a transient unit of its own, as fence agents do: complete at its end, and killed whole at its deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::UnitName;
use units::section::Program;
use units::systemd::{Outcome, Systemd, TransientEnd, TransientSpec};

use super::chain;

/// First part of the names of transient units: what is left over is found by it.
pub(super) const PREFIX: &str = "convoke-probe-";
/// A database may recover from a crash first, which takes minutes where its log is large.
const POSITION_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Readiness is asked again and again: a look at it is short.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// A rank is read from a copy that runs; everybody else waits for it, and it is asked again.
const RANK_LIMIT: Duration = Duration::from_secs(30);
/// Kept of a program's output.
const OUTPUT_CAP: usize = 16 * 1024;
/// Longest text of a program that goes into the log.
const WORDS_MAX: usize = 300;

/// What is asked of a clustered service on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// How its data stands.
    Position,
    /// Whether its copy is ready.
    Ready,
    /// How good it would be in a role.
    Rank,
    /// Whether its copy is well, to be said within this time.
    Check(Duration),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// How its data stands.
    Position(policy::Found),
    /// Its copy is ready, and perhaps of which history its data is; or what it lacks.
    Ready(Result<Option<String>, String>),
    /// How its copy is.
    Health(Health),
}

/// What a health check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Well,
    /// It is not, or the check took too long; in words.
    Unwell(String),
    /// The check could not be made; in words.
    Unknown(String),
}

/// One run of a program.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) unit: UnitName,
    pub(super) node_name: String,
    pub(super) question: Question,
    /// Without a `Ready=`, a copy that is active is ready.
    pub(super) program: Option<Program>,
    /// The unit whose end kills the program.
    pub(super) binds_to: Option<String>,
}

impl Finding {
    pub(in crate::agent) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(Ok(_)))
    }
}

impl Question {
    fn word(self) -> &'static str {
        match self {
            Self::Position => "position",
            Self::Ready => "ready",
            Self::Rank => "rank",
            Self::Check(_) => "check",
        }
    }
}

/// Name of the transient unit in which a unit's programs run.
pub(super) fn transient(unit: &UnitName, word: &str) -> String {
    // A backslash would be an escape, and an @ a template's, where names are looked for.
    let unit = unit.as_str().trim_end_matches(".service").replace(['@', '\\'], ":");
    format!("{PREFIX}{unit}-{word}.service")
}

impl Probe {
    /// Runs it to its end.
    pub(super) async fn run(&self, systemd: &Systemd) -> Finding {
        let Some(program) = &self.program else { return self.without_program(systemd).await };
        if let Err(why) = self.end(systemd).await {
            return self.failed(format!("an earlier run of it cannot be ended: {why}"));
        }
        let spec = TransientSpec {
            name: transient(&self.unit, self.question.word()),
            description: format!("{} of {}", self.question.word(), self.unit),
            program: program.path.clone(),
            args: program.args.clone(),
            stdin: Vec::new(),
            deadline: match self.question {
                Question::Position => POSITION_LIMIT,
                Question::Ready => READY_LIMIT,
                Question::Rank => RANK_LIMIT,
                Question::Check(limit) => limit,
            },
            output_cap: OUTPUT_CAP,
            environment: BTreeMap::from([
                ("CONVOKE_UNIT".to_owned(), self.unit.0.clone()),
                ("CONVOKE_NODE".to_owned(), self.node_name.clone()),
            ]),
            binds_to: self.binds_to.clone(),
        };
        let end = systemd.run_transient(spec).await;
        match (self.question, verdict(&end)) {
            (Question::Check(_), verdict) => Finding::Health(health(verdict, &end.outcome, &program.path)),
            (_, Err(why)) => self.failed(format!("{}: {why}", program.path)),
            (Question::Ready, Ok(())) => self.ready(program, &String::from_utf8_lossy(&end.stdout)),
            (Question::Position, Ok(())) => self.told(program, parse(&String::from_utf8_lossy(&end.stdout))),
            (Question::Rank, Ok(())) => self.told(program, parse_rank(&String::from_utf8_lossy(&end.stdout))),
        }
    }

    fn ready(&self, program: &Program, output: &str) -> Finding {
        Finding::Ready(parse_ready(output).map_err(|why| format!("{}: {why}", program.path)))
    }

    fn told(&self, program: &Program, found: Result<policy::Found, String>) -> Finding {
        match found {
            Ok(found) => Finding::Position(found),
            Err(why) => self.failed(format!("{}: {why}", program.path)),
        }
    }

    /// Ends what runs of the program, and everything that it started.
    pub(super) async fn end(&self, systemd: &Systemd) -> Result<(), String> {
        let name = transient(&self.unit, self.question.word());
        systemd.end_transient(&name).await.map_err(|error| chain(&error))
    }

    async fn without_program(&self, systemd: &Systemd) -> Finding {
        match (self.question, systemd.read(self.unit.as_str()).await) {
            (Question::Position, _) => self.failed("there is no Position= on this node".to_owned()),
            (Question::Rank, _) => self.failed("there is no Rank= on this node".to_owned()),
            (Question::Ready, Ok(reading)) if reading.active_state.is_up() => Finding::Ready(Ok(None)),
            (Question::Ready, Ok(_)) => self.failed("it is not active".to_owned()),
            (Question::Ready, Err(error)) => self.failed(chain(&error)),
            (Question::Check(_), _) => self.failed("there is no CheckExec= on this node".to_owned()),
        }
    }

    fn failed(&self, why: String) -> Finding {
        match self.question {
            Question::Position | Question::Rank => Finding::Position(policy::Found::Failed(why)),
            Question::Ready => Finding::Ready(Err(why)),
            Question::Check(_) => Finding::Health(Health::Unknown(why)),
        }
    }

    /// What runs at the same time has another.
    pub(super) fn key(&self) -> (UnitName, &'static str) {
        (self.unit.clone(), self.question.word())
    }
}

/// What the end of a check says of the copy. One that was killed says nothing: a shutdown kills it too.
fn health(verdict: Result<(), String>, outcome: &Outcome, path: &str) -> Health {
    match (verdict, outcome) {
        (Ok(()), _) => Health::Well,
        (Err(why), Outcome::Exited(_) | Outcome::TimedOut) => Health::Unwell(why),
        (Err(why), _) => Health::Unknown(format!("{path}: {why}")),
    }
}

/// Whether the program came to its end, and took its work for done.
pub(super) fn verdict(end: &TransientEnd) -> Result<(), String> {
    let said = last_line(end);
    match &end.outcome {
        Outcome::Exited(0) => Ok(()),
        Outcome::Exited(status) => Err(said.unwrap_or_else(|| format!("it exited with status {status}"))),
        Outcome::Signaled(signal) => Err(format!("it was killed by signal {signal}")),
        Outcome::TimedOut if end.took.as_secs() == 0 => {
            Err(format!("it did not end within {} ms", end.took.as_millis()))
        }
        Outcome::TimedOut => Err(format!("it did not end within {} s", end.took.as_secs())),
        Outcome::NotStarted(why) => Err(format!("it was not started: {why}")),
        Outcome::Unknown(why) => Err(format!("nobody knows how it ended: {why}")),
    }
}

/// The last line that the program wrote, its errors before its output.
fn last_line(end: &TransientEnd) -> Option<String> {
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
        line.map(|line| line.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect::<String>())
    };
    last(&end.stderr).or_else(|| last(&end.stdout))
}

/// The line that a position program prints, `state=stopped rank=17762 identity=b1b531b1 safe=no`.
fn parse(output: &str) -> Result<policy::Found, String> {
    use policy::Found;
    let mut lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.next().ok_or("it printed nothing")?;
    if lines.next().is_some() {
        return Err("it printed more than one line".to_owned());
    }
    let mut words: BTreeMap<&str, &str> = BTreeMap::new();
    for word in line.split_whitespace() {
        let (key, value) =
            word.split_once('=').ok_or_else(|| format!("it printed `{word}`: no `word=value`"))?;
        if !["state", "rank", "identity", "safe"].contains(&key) {
            return Err(format!("it printed `{key}=`, which is not known"));
        }
        if words.insert(key, value).is_some() {
            return Err(format!("it printed `{key}=` twice"));
        }
    }
    let state = *words.get("state").ok_or("it printed no `state=`")?;
    if state != "stopped" && words.len() > 1 {
        return Err(format!("`state={state}` with a rank, identity or safe: only stopped data has one"));
    }
    Ok(match state {
        "stopped" => {
            let rank = words.get("rank").ok_or("it printed no `rank=`")?;
            let identity = words.get("identity").ok_or("it printed no `identity=`")?;
            if identity.is_empty() {
                return Err("`identity=` is empty".to_owned());
            }
            Found::Data {
                rank: rank.parse().map_err(|_| format!("`rank={rank}` is no whole number"))?,
                identity: (*identity).to_owned(),
                safe: match words.get("safe").copied() {
                    None | Some("no" | "0") => false,
                    Some("yes" | "1") => true,
                    Some(other) => return Err(format!("`safe={other}` is neither yes nor no")),
                },
            }
        }
        "live" => Found::Live,
        "live-without-quorum" => Found::LiveWithoutQuorum,
        "busy" => Found::Busy,
        "unusable" => Found::Unusable,
        "empty" => Found::Empty,
        other => return Err(format!("`state={other}` is not known")),
    })
}

/// What a readiness program may say besides: a line `identity=b1b531b1`, among others that are its own.
fn parse_ready(output: &str) -> Result<Option<String>, String> {
    let mut said = output.lines().filter_map(|line| line.trim().strip_prefix("identity="));
    match (said.next(), said.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err("it printed `identity=` twice".to_owned()),
        (Some(one), None) if one.is_empty() || one.contains(char::is_whitespace) => {
            Err(format!("it printed `identity={one}`: an identity is one word"))
        }
        (Some(one), None) => Ok(Some(one.to_owned())),
    }
}

/// The line that a rank program prints, `rank=17762 identity=b1b531b1`. A node that cannot tell fails.
fn parse_rank(output: &str) -> Result<policy::Found, String> {
    let line = output.trim();
    if line.is_empty() {
        return Err("it printed nothing".to_owned());
    }
    if let Some(word) =
        line.split_whitespace().find(|word| word.starts_with("state=") || word.starts_with("safe="))
    {
        return Err(format!("it printed `{word}`: a rank has none"));
    }
    parse(&format!("state=stopped {line}"))
}

#[cfg(test)]
mod tests {
    use policy::Found;

    use super::*;

    #[test]
    fn a_position_is_one_line_of_known_words() {
        let data = |rank, safe| Found::Data { rank, identity: "b1b5:x".into(), safe };
        let good = [
            ("state=stopped rank=17762 identity=b1b5:x safe=yes\n", data(17762, true)),
            ("\n  identity=b1b5:x   rank=-2 state=stopped", data(-2, false)),
            ("state=live", Found::Live),
            ("state=live-without-quorum", Found::LiveWithoutQuorum),
            ("state=busy", Found::Busy),
            ("state=unusable", Found::Unusable),
            ("state=empty", Found::Empty),
        ];
        for (text, found) in good {
            assert_eq!(parse(text), Ok(found), "{text}");
        }
    }

    #[test]
    fn whatever_else_it_prints_is_a_failure_and_says_why() {
        let bad = [
            ("", "nothing"),
            ("state=empty\nstate=empty", "more than one line"),
            ("empty", "`empty`: no"),
            ("rank=1 identity=a", "no `state=`"),
            ("state=stopped identity=a", "no `rank=`"),
            ("state=stopped rank=1", "no `identity=`"),
            ("state=stopped rank=1 identity=", "empty"),
            ("state=stopped rank=1.5 identity=a", "no whole number"),
            ("state=stopped rank=9223372036854775808 identity=a", "no whole number"),
            ("state=stopped rank=1 identity=a safe=maybe", "neither"),
            ("state=stopped rank=1 rank=2 identity=a", "twice"),
            ("state=empty rank=1", "only stopped"),
            ("state=clean", "not known"),
            ("state=stopped rank=1 identity=a uuid=b", "not known"),
        ];
        for (text, why) in bad {
            let said = parse(text).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_rank_is_one_line_with_an_identity() {
        let found =
            |rank, identity: &str| Ok(Found::Data { rank, identity: identity.to_owned(), safe: false });
        assert_eq!(parse_rank("rank=-3 identity=a1\n"), found(-3, "a1"));
        for (text, why) in [
            ("", "nothing"),
            ("rank=1", "no `identity=`"),
            ("state=stopped rank=1 identity=a", "a rank has none"),
            ("rank=1 identity=a safe=yes", "a rank has none"),
            ("rank=1 identity=a\nrank=2 identity=a", "more than one line"),
            ("rank=1\nidentity=a", "more than one line"),
            ("17762", "`17762`: no"),
            ("rank=0/16B3748 identity=a", "no whole number"),
            ("rank=1 identity=a and so on", "`and`: no"),
            ("rank=1 identity=a timeline=3", "not known"),
        ] {
            let said = parse_rank(text).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_ready_copy_may_say_which_history_it_has() {
        let good = [
            ("", None),
            ("all is well\n", None),
            ("identity=b1b5:x\n", Some("b1b5:x")),
            ("Synced\n  identity=a\n", Some("a")),
            ("its identity=a\n", None),
        ];
        for (text, identity) in good {
            assert_eq!(parse_ready(text), Ok(identity.map(str::to_owned)), "{text}");
        }
        for (text, why) in
            [("identity=", "one word"), ("identity=a b", "one word"), ("identity=a\nidentity=a", "twice")]
        {
            let said = parse_ready(text).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_program_that_fails_says_why_in_its_last_line() {
        let end = |outcome, stdout: &str, stderr: &str| TransientEnd {
            outcome,
            stdout: stdout.into(),
            stderr: stderr.into(),
            took: Duration::from_secs(60),
            left: None,
        };
        let table = [
            (end(Outcome::Exited(0), "", "a warning"), Ok(())),
            (end(Outcome::Exited(1), "state=empty", "x\nno socket\n"), Err("no socket")),
            (end(Outcome::Exited(1), "not Synced\n", ""), Err("not Synced")),
            (end(Outcome::Exited(3), "", "\n"), Err("it exited with status 3")),
            (end(Outcome::Signaled(9), "", ""), Err("it was killed by signal 9")),
            (end(Outcome::TimedOut, "", ""), Err("it did not end within 60 s")),
        ];
        for (end, expected) in table {
            assert_eq!(verdict(&end), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn a_check_that_was_killed_or_never_ran_says_nothing_of_the_copy() {
        let end = |outcome| {
            let end = TransientEnd {
                outcome,
                stdout: Vec::new(),
                stderr: b"no answer".to_vec(),
                took: Duration::from_millis(700),
                left: None,
            };
            health(verdict(&end), &end.outcome, "/bin/check")
        };
        assert_eq!(end(Outcome::Exited(0)), Health::Well);
        assert_eq!(end(Outcome::Exited(1)), Health::Unwell("no answer".to_owned()));
        assert_eq!(end(Outcome::TimedOut), Health::Unwell("it did not end within 700 ms".to_owned()));
        let unknown = [
            Outcome::Signaled(15),
            Outcome::NotStarted("no file".into()),
            Outcome::Unknown("PID 1 left".into()),
        ];
        for outcome in unknown {
            assert!(matches!(end(outcome), Health::Unknown(why) if why.starts_with("/bin/check: ")));
        }
    }

    #[test]
    fn each_unit_has_a_transient_unit_of_its_own() {
        let name = |unit: &str| transient(&unit.into(), "position");
        assert_eq!(name("mariadb.service"), "convoke-probe-mariadb-position.service");
        assert_eq!(name(r"pg@a\x2db.service"), "convoke-probe-pg:a:x2db-position.service");
    }
}
