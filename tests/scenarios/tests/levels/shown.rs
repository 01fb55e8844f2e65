//! What devices show of the nodes before any crash, and what is said of settings that ask them wrongly.

use anyhow::{Result, ensure};
use scenarios::{Cluster, Moment, unwrapped};

use crate::{FEEDS, LATE, UNIT, cords, placed, ready, recovered, settings, strips};

/// Red before the crash: a dead controller is a warning while the feeds work, and an alert when they do not either.
pub(crate) fn said_of_devices(c: &Cluster) -> Result<()> {
    let victim = placed(c, 1, 2, "")?;
    let name = c.node(victim).name();
    let shown = c.ok(c.anybody()?, &format!("convoke status {name}"))?;
    ensure!(shown.contains(&format!("ready, by bmc-{name}, then feed-1 and feed-2")), "{shown}");
    let document = settings(c, 1, 2, "");
    let (bmc, feeds) = (format!("bmc-{name}"), "feed-1 and feed-2".to_owned());
    let address = format!("ip = \"{}\"", c.lab.bmc(victim).address());
    let outlet = format!("plug = \"{name}\"");
    let refused =
        c.configure(&document.replacen(&outlet, "plug = \"77\"", 1)).err().map(|e| format!("{e:#}"));
    ensure!(
        refused.as_ref().is_some_and(|said| said.contains("feed-1 lists no plug `77`")),
        "an outlet that does not exist: {refused:?}"
    );
    for (what, right, wrong, device, others) in [
        ("a dead controller", address.as_str(), "ip = \"127.0.0.1\"", &bmc, &feeds),
        ("a strip that lets nobody in", "= \"private\"", "= \"bad\"", &"feed-1".to_owned(), &bmc),
    ] {
        let document = document.replacen(right, wrong, 1);
        ensure!(document.contains(wrong), "the settings do not have {right}");
        c.configure(&document)?;
        c.until(&format!("{what} is a warning"), LATE, |now| {
            now.alarms.iter().any(|alarm| {
                alarm.severity == "warning"
                    && alarm.text.contains(&format!("{device} does not see {name}"))
                    && alarm.remedy.contains(&format!("fenced by {others} alone"))
            }) && now.node(&name).is_some_and(|node| node.fencing == "ready")
        })?;
    }
    let index = c.overview()?.index;
    c.configure(&document)?;
    c.until("the warnings are gone", LATE, |now| now.alarms.is_empty())?;
    ensure!(!c.events_after(index)?.iter().any(|event| event.kind == "fence-wanted"), "somebody was fenced");
    Ok(())
}

/// Both strips are asked which outlet is which node's. What they cannot say is refused, and what is in force is a table.
pub(crate) fn listed(c: &Cluster) -> Result<()> {
    for feed in FEEDS {
        c.lab.pdu(feed).start()?;
    }
    let strip = c.lab.pdu(1);
    let document = format!("quarantine = \"3s\"\n{}", strips(c, 1, "\"list\""));
    let asked = c.follower(&[])?;
    c.node(asked).write("/root/listed.toml", &document)?;
    let run = |verb: &str| -> Result<(i32, String)> {
        let out = c.run(asked, &format!("convoke config {verb} /root/listed.toml"))?;
        Ok((out.code, unwrapped(&format!("{}{}", out.stderr, out.stdout))))
    };
    let show = || c.ok(asked, "convoke config show");
    let before = show()?;
    let refused = |words: &str| -> Result<()> {
        let (code, said) = run("apply")?;
        // The strip of the first table, where it says `list`.
        let all = ["listed.toml:6:11", words, "write `targets = {"];
        ensure!(code == 2 && all.iter().all(|words| said.contains(words)), "not `{words}`: {code}, {said}");
        ensure!(show()? == before, "something of it is in force: {}", show()?);
        Ok(())
    };
    strip.rename(3, "n1")?;
    refused("feed-1 lists several plugs for n1: 1, 3")?;
    for (outlet, name) in [(1, "ups"), (2, "N2.example.com"), (3, "switch")] {
        strip.rename(outlet, name)?;
    }
    let names = "it lists 1 (ups), 2 (N2.example.com), 3 (switch)";
    refused(&format!("feed-1 lists no plug that is called as a node of this cluster: {names}"))?;
    strip.stop()?;
    refused("feed-1 could not be asked for its plugs from here")?;
    strip.start()?;
    c.lab.restore_feeds();
    // A node may well have no cord in a strip: it is told, and nothing is in force before somebody says so.
    strip.rename(3, "ups")?;
    let (code, said) = run("diff")?;
    let told = ["feed-1 lists n1 as 1, n2 as 2", "feed-1 does not list n3: no fence goes through it"];
    ensure!(code == 6 && told.iter().all(|words| said.contains(words)), "{code}, {said}");
    ensure!(show()? == before, "it is in force");

    c.lab.restore_feeds();
    let (code, said) = run("apply")?;
    let told = FEEDS.map(|feed| format!("feed-{feed} lists n1 as 1, n2 as 2, n3 as 3"));
    ensure!(code == 0 && told.iter().all(|words| said.contains(words)), "{code}, {said}");
    let table = "targets = { n1 = { plug = \"1\" }, n2 = { plug = \"2\" }, n3 = { plug = \"3\" } }";
    let shown = show()?;
    ensure!(shown.matches(table).count() == 2 && !shown.contains("\"list\""), "{shown}");
    ready(c, 2)?;
    let (code, said) = run("apply")?;
    ensure!(code == 0 && said.contains("the settings are in force already"), "{code}, {said}");

    // Nothing is asked for at run time: another name of an outlet changes neither what is in force nor whom it fences. Whoever gives the
    // file once more is told.
    let victim = c.follower(&[asked])?;
    let name = c.node(victim).name();
    c.run_unit(UNIT, victim)?;
    strip.rename(victim, "spare")?;
    let (code, said) = run("diff")?;
    let words = format!("feed-1 does not list {name}: no fence goes through it");
    ensure!(code == 6 && said.contains(&words), "{code}, {said}");
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    recovered(c, victim, then, index, &["began feed-1 and feed-2", "proven"])?;
    ensure!(!c.node(victim).is_on() && cords(c, victim) == [false, false], "{:?}", cords(c, victim));
    Ok(())
}
