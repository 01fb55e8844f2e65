//! Without a proof that a lost node is off its unit starts nowhere, and everybody can see why.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Fault;
use scenarios::{Cluster, Fence, Moment, Plan, run, unwrapped};

/// What has a file of its own.
mod fencing {
    pub(crate) mod executors;
}

use fencing::executors;

const UNIT: &str = "witness.service";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn nothing_starts_before_the_fence_is_proven() -> Result<()> {
    run("fencing", Plan::three(), |scenario| {
        scenario.part("an agent that fails", |c| says_itself(c, Fault::FailOff));
        scenario
            .part("an agent that hangs", |c| stuck(c, &[Fault::Hang], Loss::Power, &["did not end", "time"]));
        scenario.part("a switch that cannot be reached", unreachable_switch);
        scenario.part("a node that cannot run the agent leaves it to the other at once", executors::unable);
        scenario.part("who cannot use a device is known before it is needed", executors::known_beforehand);
        scenario.part("off that is answered and not done", |c| says_itself(c, Fault::IgnoreOff));
        scenario.part("a switch that is mended later", |c| {
            mended_later(c, Fault::FailOff, "off: the agent did not end within")
        });
        scenario.part("a switch that does not say how it stands, until later", |c| {
            mended_later(
                c,
                Fault::FailStatus,
                "off exited with status 1: Failed: Unable to obtain correct plug status",
            )
        });
        scenario.part("a switch that takes its time", takes_its_time);
        scenario.part("a frozen node that answers pings while it is fenced", frozen_and_pinged);
        scenario.part("a late command of an agent that was cut off strikes the next life", |c| {
            strikes_late(c, "", "did not end within")
        });
        scenario.part("a late command of an agent that failed strikes the next life", |c| {
            strikes_late(c, ", power_timeout = \"2\"", "off exited with status 1")
        });
        scenario.part("an executor that is killed in the middle", executor_killed);
        scenario.part("an executor that is restarted in the middle", executor_restarted);
        scenario.part("a leader that dies between intent and proof", leader_killed);
        scenario.part("a node that returns while it is being fenced", returns_meanwhile);
        scenario.part("a node that was proven off and then speaks", proof_contradicted);
        scenario.part("a word for a node that is heard is refused", word_for_the_living);
        scenario.part("a plug that reads off while the node lives", wrong_plug);
    })
}

/// How a node goes silent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Its power goes; the switch may be as dead as it.
    Power,
    /// Its cable is pulled: it lives on.
    Cut,
}

/// The unit on a node that does not lead; the answer is (victim, leader).
fn placed(c: &Cluster) -> Result<(usize, usize)> {
    let leader = c.leader()?;
    let victim = c.follower(&[])?;
    c.run_unit(UNIT, victim)?;
    Ok((victim, leader))
}

/// Waits until the cluster says that the fence does not get on.
fn failed_fence(c: &Cluster, victim: usize) -> Result<Fence> {
    let name = c.node(victim).name();
    let now = c.until("the fence has failed", LATE, |now| {
        now.fence(&name).is_some_and(|f| f.attempts > 0 && f.error.is_some())
    })?;
    now.fence(&name).cloned().ok_or_else(|| anyhow::anyhow!("no fence of {name}"))
}

/// The operator makes sure that the node is off, and says so.
fn confirmed(c: &Cluster, victim: usize) -> Result<()> {
    let name = c.node(victim).name();
    // A switch that works again would prove it by itself.
    c.lab.bmc(victim).stop()?;
    c.node(victim).power_off()?;
    c.stays_silent(UNIT, S(1))?;
    let then = Moment::now();
    let (asked, index) = (c.anybody()?, c.overview()?.index);
    let word = format!("convoke fence confirm --yes-i-have-verified-it-is-off {name}");
    c.ok(asked, &word)?;
    let beat = c.next_life(UNIT, then, S(5))?;
    ensure!(beat.node != name, "it runs on {name}");
    // It counts once, and whose word it was is written down.
    let again = c.run(asked, &word)?;
    ensure!(!again.ok() && again.stderr.contains("is proven off already"), "a second word: {again:?}");
    let by = format!("{name} is off by the word of root on {}", c.node(asked).name());
    let events = c.events_after(index)?;
    let words = events.iter().filter(|event| event.text.starts_with(&by)).count();
    ensure!(words == 1, "written down are {events:?}");
    // What the switch was told while it hung strikes now, and not the node's next life.
    c.bmc_faults(victim, &[])?;
    std::thread::sleep(S(1));
    c.never_twice(UNIT)
}

fn stuck(c: &Cluster, faults: &[Fault], loss: Loss, words: &[&str]) -> Result<()> {
    let (victim, _) = placed(c)?;
    c.bmc_faults(victim, faults)?;
    match loss {
        Loss::Power => c.node(victim).power_off()?,
        Loss::Cut => c.cut(victim)?,
    }
    let fence = failed_fence(c, victim)?;
    let error = fence.error.unwrap_or_default();
    ensure!(
        words.is_empty() || words.iter().any(|w| error.contains(w)),
        "the error does not say {words:?}: {error}"
    );
    c.says_why(UNIT, victim, &format!("bmc-{}", c.node(victim).name()), &error)?;
    // The lease has ended long ago: nobody may run it.
    c.stays_silent(UNIT, S(8))?;
    let now = c.overview()?;
    ensure!(now.places(UNIT).is_empty(), "it is said to be active on {:?}", now.places(UNIT));
    ensure!(now.fence(&c.node(victim).name()).is_some(), "the fence was given up");
    confirmed(c, victim)
}

/// An agent that gives up before it is cut off says what it found.
fn says_itself(c: &Cluster, fault: Fault) -> Result<()> {
    let (document, polls) = (c.settings(), "power_wait = \"0\", power_timeout = \"3\"");
    c.configure(&document.replace("power_wait = \"0\"", polls))?;
    c.until("everybody can be fenced", LATE, |now| now.nodes.iter().all(|node| node.fencing == "ready"))?;
    let words = "off exited with status 1: Failed: Timed out waiting to power OFF";
    let outcome = stuck(c, &[fault], Loss::Cut, &[words]);
    // The other parts have slower switches.
    let restored = c.configure(&document);
    outcome?;
    restored
}

fn unreachable_switch(c: &Cluster) -> Result<()> {
    let (victim, _) = placed(c)?;
    // Node and switch hang on one feed.
    c.lab.bmc(victim).stop()?;
    c.node(victim).power_off()?;
    let error = failed_fence(c, victim)?.error.unwrap_or_default();
    c.says_why(UNIT, victim, &format!("bmc-{}", c.node(victim).name()), &error)?;
    c.stays_silent(UNIT, S(6))?;
    confirmed(c, victim)
}

fn mended_later(c: &Cluster, fault: Fault, words: &str) -> Result<()> {
    let (victim, leader) = placed(c)?;
    let begun = c.ok(leader, "date +%s.%N")?;
    c.bmc_faults(victim, &[fault])?;
    c.cut(victim)?;
    let error = failed_fence(c, victim)?.error.unwrap_or_default();
    ensure!(error.contains(words), "the error does not say `{words}`: {error}");
    c.stays_silent(UNIT, S(2))?;
    let then = Moment::now();
    c.bmc_faults(victim, &[])?;
    let beat = c.next_life(UNIT, then, S(60))?;
    ensure!(beat.node != c.node(victim).name(), "it runs on the fenced node");
    ensure!(
        c.power_commands(victim).last().is_some_and(|p| p == "power 0"),
        "{:?}",
        c.power_commands(victim)
    );
    journal_says_why(c, victim, begun.trim(), words)?;
    c.never_twice(UNIT)
}

/// What the unit's own journal says on every other node since then: each step of the fence once, however often it was tried.
fn journal_says_why(c: &Cluster, victim: usize, since: &str, error: &str) -> Result<()> {
    let name = c.node(victim).name();
    let device = format!("bmc-{name}");
    let lines = [
        format!("waits: {name} is being fenced by {device}, run on "),
        format!("waits: fencing {name} by {device} failed ({device}: {error}"),
        format!("{name} is proven off by {device}; {UNIT} may start elsewhere"),
    ];
    let journal = format!(
        "journalctl --sync; journalctl --boot --quiet --no-pager --output=cat --unit={UNIT} --since=@{since}"
    );
    for i in (1..=3).filter(|i| *i != victim) {
        c.wait_for("the unit's journal tells of the fence", S(5), || {
            let told = c.ok(i, &journal)?;
            for line in &lines {
                let times = told.lines().filter(|told| told.starts_with(line.as_str())).count();
                ensure!(times == 1, "n{i}: {times} times `{line}`:\n{told}");
            }
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// It answers at once, and the power goes two seconds later: the agent waits for it, and everybody for the agent.
fn takes_its_time(c: &Cluster) -> Result<()> {
    let (victim, _) = placed(c)?;
    c.bmc_faults(victim, &[Fault::Lag(2)])?;
    let (index, then) = (c.overview()?.index, Moment::now());
    c.cut(victim)?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != c.node(victim).name(), "it runs on the fenced node");
    ensure!(!c.node(victim).is_on(), "it started before the node was off");
    let failed: Vec<_> =
        c.events_after(index)?.into_iter().filter(|event| event.kind == "fence-failed").collect();
    ensure!(failed.is_empty(), "it had time enough: {failed:#?}");
    c.never_twice(UNIT)
}

/// Its kernel lives on, and answers: that is neither a life sign nor against the fence.
fn frozen_and_pinged(c: &Cluster) -> Result<()> {
    let (victim, leader) = placed(c)?;
    let name = c.node(victim).name();
    let ping = format!("ping -n -q -c 1 -W 1 {}", c.node(victim).address());
    c.bmc_faults(victim, &[Fault::Slow(3)])?;
    let then = Moment::now();
    c.freeze(victim)?;
    told_off(c, victim)?;
    c.ok(leader, &ping)?;
    ensure!(c.node(victim).is_on(), "{name} was pinged when it was off already");
    // What the agent repeats meanwhile is done at once, and not to the next life.
    c.bmc_faults(victim, &[])?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it runs on the fenced node");
    ensure!(!c.node(victim).is_on(), "it started before {name} was off");
    ensure!(!c.run(leader, &ping)?.ok(), "something answers for {name}");
    c.node(victim).boot()?;
    let end = c.back(victim, LATE)?;
    ensure!(end.how == "fenced" && end.device == Some(format!("bmc-{name}")), "{end:?}");
    c.never_twice(UNIT)
}

/// With a quarantine that a late command does not outlast.
fn with_long_quarantine(c: &Cluster, option: &str) -> Result<()> {
    let document = c.settings();
    let longer = document.replace("quarantine = \"3s\"", "quarantine = \"20s\"");
    ensure!(longer != document, "the settings have another quarantine: {document}");
    c.configure(&longer.replace(", power_wait = \"0\"", &format!(", power_wait = \"0\"{option}")))?;
    c.until("everybody can be fenced", LATE, |now| now.nodes.iter().all(|n| n.fencing == "ready")).map(drop)
}

/// The agent ends within 6 s, and what it sent is done after 15 s: to the life that somebody gave the node meanwhile.
fn strikes_late(c: &Cluster, option: &str, error: &str) -> Result<()> {
    let (victim, _) = placed(c)?;
    let name = c.node(victim).name();
    with_long_quarantine(c, option)?;
    c.bmc_faults(victim, &[Fault::Lag(15)])?;
    let (index, then) = (c.overview()?.index, Moment::now());
    c.cut(victim)?;
    let events = c.until_event(index, "fence-failed", LATE)?;
    let failed = events.iter().find(|e| e.kind == "fence-failed");
    ensure!(failed.is_some_and(|e| e.text.contains(error)), "it failed otherwise: {failed:?}");
    c.bmc_faults(victim, &[])?;
    c.node(victim).power_off()?;
    c.heal(victim)?;
    c.node(victim).power_on()?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "{name} got it back");
    c.until("its next life is heard, and takes no unit", LATE, |now| {
        let quiet = now.node(&name).is_some_and(|node| node.quarantine_s.is_some());
        quiet && now.online(&name) && now.fences.is_empty()
    })?;
    let shown = unwrapped(&c.run(c.anybody()?, "convoke status")?.stdout);
    ensure!(shown.contains("s: a late power-off may still strike it"), "{shown}");
    let running = c.process(c.number(&beat.node), UNIT)?;
    c.wait_for("the late command strikes", S(20), || Ok((!c.node(victim).is_on()).then_some(())))?;
    let now = c.until(&format!("{name} is lost"), LATE, |now| {
        now.node(&name).is_some_and(|node| node.state == "lost")
    })?;
    // It was the one command of the agent that was cut off, and the quarantine was long enough for it.
    ensure!(c.power_commands(victim) == ["power 0"], "{:?}", c.power_commands(victim));
    let quarantine = now.node(&name).and_then(|node| node.quarantine_s);
    ensure!(quarantine.is_some(), "the quarantine of {name} was over by then");
    // Nothing waits for it, so nobody is called.
    ensure!(now.fences.is_empty(), "{:?}", now.fences);
    ensure!(now.alarms.iter().all(|alarm| alarm.severity != "alert"), "{:?}", now.alarms);
    c.still_runs(&running)?;
    let events = c.events_after(index)?;
    let given = events.iter().find(|e| e.kind == "unit-granted" && e.node.as_ref() == Some(&name));
    ensure!(given.is_none(), "{name} got a permit in quarantine: {given:?}");
    c.node(victim).boot()?;
    c.until("it is back, and its quarantine is over", LATE, |now| {
        now.online(&name) && now.node(&name).is_some_and(|node| node.quarantine_s.is_none())
    })?;
    c.run_unit(UNIT, victim)?;
    c.configure(&c.settings())?;
    c.never_twice(UNIT)
}

/// Waits until the switch of a node has been told to switch off.
fn told_off(c: &Cluster, victim: usize) -> Result<()> {
    c.wait_for("the switch was told to switch off", LATE, || {
        Ok(c.power_commands(victim).iter().any(|p| p == "power 0").then_some(()))
    })
}

fn executor_killed(c: &Cluster) -> Result<()> {
    executor_ends(c, |executor| c.kill_daemon(executor))
}

/// systemd passes the restart on to the agent, which must not run a second time.
fn executor_restarted(c: &Cluster) -> Result<()> {
    executor_ends(c, |executor| c.ok(executor, "systemctl restart convoked.service").map(drop))
}

/// An executor's daemon ends while its agent runs: nobody knows what the switch still does.
fn executor_ends(c: &Cluster, end: impl FnOnce(usize) -> Result<()>) -> Result<()> {
    let (victim, leader) = placed(c)?;
    let name = c.node(victim).name();
    with_long_quarantine(c, "")?;
    c.bmc_faults(victim, &[Fault::Slow(3)])?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    told_off(c, victim)?;
    let began = c.events_after(index)?;
    let began =
        began.iter().find(|e| e.kind == "fence-began").ok_or_else(|| anyhow::anyhow!("no fence began"))?;
    let executor =
        (1..=3).find(|i| *i != victim && began.text.starts_with(&format!("{}:", c.node(*i).name())));
    let executor = executor.ok_or_else(|| anyhow::anyhow!("who fences? {}", began.text))?;
    end(executor)?;
    let beat = c.next_life(UNIT, then, S(60))?;
    ensure!(beat.node != name, "it runs on the fenced node");
    // The agent was seen to be cut off, or its executor was called lost; or the next daemon went on with the attempt, and what
    // the first agent said may come late.
    let quarantine = c.overview()?.node(&name).and_then(|node| node.quarantine_s);
    ensure!(
        quarantine.is_some(),
        "{name} may be given units before a late `off` could strike it: {:?}",
        c.events_after(index)?
    );
    c.configure(&c.settings())?;
    ensure!(
        !c.node(victim).is_on(),
        "it started before {name} was off (executor n{executor}, leader n{leader})"
    );
    c.never_twice(UNIT)
}

fn leader_killed(c: &Cluster) -> Result<()> {
    let (victim, leader) = placed(c)?;
    c.bmc_faults(victim, &[Fault::Slow(3)])?;
    let then = Moment::now();
    c.cut(victim)?;
    told_off(c, victim)?;
    c.kill_daemon(leader)?;
    let beat = c.next_life(UNIT, then, S(60))?;
    ensure!(beat.node != c.node(victim).name(), "it runs on the fenced node");
    ensure!(!c.node(victim).is_on(), "it started before the node was off");
    c.never_twice(UNIT)
}

/// F31: once an agent may have been run the case goes to its end, and the node gets nothing meanwhile.
fn returns_meanwhile(c: &Cluster) -> Result<()> {
    let (victim, _) = placed(c)?;
    let name = c.node(victim).name();
    c.bmc_faults(victim, &[Fault::Slow(2)])?;
    let boot = c.node(victim).boot_id()?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    told_off(c, victim)?;
    c.heal(victim)?;
    // It speaks again, and is switched off all the same a moment later.
    let beat = c.next_life(UNIT, then, S(60))?;
    ensure!(
        beat.node != name || c.node(victim).boot_id()? != boot,
        "the life that was being fenced got a permit"
    );
    // The node may release the unit itself once it is heard: that is evidence too. But it gets nothing.
    let events = c.until_event(index, "fence-proven", S(20))?;
    let end = events.iter().position(|e| e.kind == "fence-proven").unwrap_or(events.len());
    let given = events[..end].iter().find(|e| e.kind == "unit-granted" && e.node.as_ref() == Some(&name));
    ensure!(given.is_none(), "{name} got a permit while it was being fenced: {given:?}");
    c.wait_for("the case goes to its end", S(20), || Ok((!c.node(victim).is_on()).then_some(())))?;
    c.never_twice(UNIT)
}

/// F18: the switch lied; the node is heard again with the life that was "proven" ended.
fn proof_contradicted(c: &Cluster) -> Result<()> {
    let (victim, _) = placed(c)?;
    let name = c.node(victim).name();
    let boots = c.node(victim).boots().len();
    c.bmc_faults(victim, &[Fault::LieOff])?;
    let then = Moment::now();
    c.cut(victim)?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it runs on {name}");
    c.heal(victim)?;
    c.until("an alarm says that the proof was contradicted", S(20), |now| {
        now.alarms_with(&[name.as_str(), "proven off", "spoke"])
    })?;
    // The node is told to reboot, and does.
    c.node(victim).wait_boots(boots + 1, S(40))?;
    c.bmc_faults(victim, &[])?;
    // At the end of its lease the node had stopped the unit by itself, so even this lie did no harm.
    c.never_twice(UNIT)?;
    // It is honest now and shows the next life on. Nobody knows that before a drill.
    c.until("the liar does not count for the next life", LATE, |now| {
        let node = now.node(&name).filter(|node| node.state == "online");
        node.is_some_and(|node| node.fencing == "unready")
    })?;
    let shown = unwrapped(&c.run(c.anybody()?, "convoke status")?.stdout);
    ensure!(shown.contains("was found to say off while the node goes on"), "{shown}");
    c.until("its quarantine is over", LATE, |now| now.node(&name).is_some_and(|n| n.quarantine_s.is_none()))?;
    let asked = c.follower(&[victim])?;
    for line in [format!("drain {name}"), format!("fence test --yes {name}"), format!("undrain {name}")] {
        c.ok(asked, &format!("convoke {line}"))?;
    }
    c.until("it counts again", LATE, |now| now.node(&name).is_some_and(|node| node.fencing == "ready"))
        .map(drop)
}

fn word_for_the_living(c: &Cluster) -> Result<()> {
    let (victim, _) = placed(c)?;
    let name = c.node(victim).name();
    let before = c.process(victim, UNIT)?;
    let out =
        c.run(c.anybody()?, &format!("convoke fence confirm --yes-i-have-verified-it-is-off {name}"))?;
    ensure!(!out.ok(), "the word for a node that is heard was taken: {}", out.stdout);
    ensure!(out.stderr.contains(&name), "the refusal does not name {name}: {}", out.stderr);
    c.still_runs(&before)
}

/// A device that shows OFF for a node that is heard is a wrong plug, and no proof later.
fn wrong_plug(c: &Cluster) -> Result<()> {
    let (victim, leader) = placed(c)?;
    let name = c.node(victim).name();
    let other = c.follower(&[victim])?;
    // By its other name: the same call for two nodes would be refused when it is configured.
    let (right, wrong) = (c.lab.bmc(victim).address(), format!("{}-bmc", c.node(other).name()));
    // The victim's device is wired to a switch that says off.
    let document = c.settings();
    c.lab.bmc(other).set_faults(&[Fault::LieOff])?;
    c.lab.bmc(other).agent(&c.node(leader), "off")?;
    let crossed =
        document.replace(&format!("{name} = {{ ip = \"{right}\""), &format!("{name} = {{ ip = \"{wrong}\""));
    ensure!(crossed != document, "the settings do not name {right}");
    c.configure(&crossed)?;
    c.until("the wrong plug is noticed", S(30), |now| {
        now.node(&name).is_some_and(|n| n.fencing == "unready")
    })?;
    c.cut(victim)?;
    c.until(&format!("{name} is lost"), LATE, |now| now.node(&name).is_some_and(|n| n.state == "lost"))?;
    c.stays_silent(UNIT, S(6))?;
    c.heal(victim)?;
    c.bmc_faults(other, &[])?;
    c.until("it is back and nothing is fenced", LATE, |now| now.online(&name) && now.fences.is_empty())?;
    c.configure(&document)?;
    c.never_twice(UNIT)
}
