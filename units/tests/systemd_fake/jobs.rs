//! Whose job is whose, how a wait ends, and what the owner of the connection is told.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use units::systemd::{Error, JobKind, JobResult};
use zbus::zvariant::{ObjectPath, Value};

use crate::fake::{LONG, bounded, next, nowhere, pair, shown, tell_kind, unit_path};

#[tokio::test]
async fn a_job_that_ends_before_its_reply_is_still_ours() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let (end, ()) = bounded(async {
        tokio::join!(systemd.start("a.service", LONG), async {
            let call = fake.call("StartUnit").await;
            fake.job_new(7, "a.service").await;
            fake.job_removed(7, "a.service", "done").await;
            fake.reply_job(&call, 7).await;
            tell_kind(&mut fake, None).await;
        })
    })
    .await;
    let end = end.unwrap();
    assert_eq!((end.job, end.result), (7, JobResult::Done));
    assert_eq!(shown(&next(&mut signals).await), "new 7 Some(Start) ours=true");
    assert_eq!(shown(&next(&mut signals).await), "removed 7 done ours=true");
}

#[tokio::test]
async fn foreign_jobs_beside_ours_stay_foreign_and_in_order() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let (end, ()) = bounded(async {
        tokio::join!(systemd.stop("a.service", LONG), async {
            let call = fake.call("StopUnit").await;
            fake.job_new(5, "a.service").await;
            fake.job_removed(5, "a.service", "canceled").await;
            fake.job_new(6, "a.service").await;
            fake.job_new(8, "b.service").await;
            fake.reply_job(&call, 6).await;
            fake.job_removed(8, "b.service", "failed").await;
            fake.job_removed(6, "a.service", "timeout").await;
            for kind in ["start", "stop", "restart"] {
                tell_kind(&mut fake, Some(kind)).await;
            }
        })
    })
    .await;
    assert_eq!(end.unwrap().result, JobResult::Timeout, "the end of another job was taken for ours");
    let mut heard = Vec::new();
    for _ in 0..6 {
        heard.push(shown(&next(&mut signals).await));
    }
    assert_eq!(heard[..2], ["new 5 Some(Start) ours=false", "removed 5 canceled ours=false"]);
    assert_eq!(heard[2..4], ["new 6 Some(Stop) ours=true", "new 8 Some(Restart) ours=false"]);
    assert_eq!(heard[4..], ["removed 8 failed ours=false", "removed 6 timeout ours=true"]);
}

#[tokio::test]
async fn a_wait_has_the_bound_of_its_caller() {
    let (systemd, _signals, mut fake) = pair(nowhere()).await;
    let (end, _call) = bounded(async {
        tokio::join!(systemd.start("a.service", Duration::from_millis(50)), async {
            let call = fake.call("StartUnit").await;
            fake.reply_job(&call, 7).await;
            call
        })
    })
    .await;
    assert!(matches!(end, Err(Error::Unfinished { job: 7, .. })), "{end:?}");
}

#[tokio::test]
async fn a_refused_start_says_why_and_holds_no_signal_back() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let (end, ()) = bounded(async {
        tokio::join!(systemd.start("a.service", LONG), async {
            let call = fake.call("StartUnit").await;
            fake.job_new(9, "b.service").await;
            let name = "org.freedesktop.systemd1.UnitMasked";
            fake.connection.reply_error(&call.header(), name, &"Unit a.service is masked.").await.unwrap();
            tell_kind(&mut fake, Some("start")).await;
        })
    })
    .await;
    let error = end.unwrap_err();
    assert!(error.is_refusal("UnitMasked"), "{error}");
    assert!(error.to_string().contains("a.service is masked"), "{error}");
    assert_eq!(shown(&next(&mut signals).await), "new 9 Some(Start) ours=false");
}

#[tokio::test]
async fn the_job_of_a_caller_that_gave_up_is_still_ours() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let caller = tokio::spawn({
        let systemd = systemd.clone();
        async move { systemd.start("a.service", LONG).await }
    });
    let call = bounded(fake.call("StartUnit")).await;
    caller.abort();
    assert!(bounded(caller).await.unwrap_err().is_cancelled());
    fake.job_new(9, "b.service").await;
    fake.job_new(7, "a.service").await;
    for kind in ["stop", "start"] {
        bounded(tell_kind(&mut fake, Some(kind))).await;
    }
    let early = tokio::time::timeout(Duration::from_millis(50), signals.recv()).await;
    assert!(early.is_err(), "told before anybody knows whose job it is");
    fake.reply_job(&call, 7).await;
    fake.job_removed(7, "a.service", "canceled").await;
    assert_eq!(shown(&next(&mut signals).await), "new 9 Some(Stop) ours=false");
    assert_eq!(shown(&next(&mut signals).await), "new 7 Some(Start) ours=true");
    assert_eq!(shown(&next(&mut signals).await), "removed 7 canceled ours=true");
}

#[tokio::test]
async fn a_call_without_an_answer_outlives_no_handle() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let caller = tokio::spawn(async move { systemd.start("a.service", LONG).await });
    let _call = bounded(fake.call("StartUnit")).await;
    fake.job_new(9, "b.service").await;
    bounded(tell_kind(&mut fake, Some("stop"))).await;
    // The handle goes with its task; the ear ends, with or without having told what it held back.
    caller.abort();
    let told = bounded(signals.recv()).await;
    assert!(told.is_none_or(|signal| shown(&signal) == "new 9 Some(Stop) ours=false"));
    let closed = async { while fake.calls.next().await.is_some_and(|message| message.is_ok()) {} };
    bounded(closed).await;
}

#[tokio::test]
async fn a_manager_that_hangs_is_noticed_within_the_bound() {
    let (systemd, _signals, mut fake) = pair(nowhere()).await;
    let (answer, _call) =
        bounded(async { tokio::join!(systemd.answers(Duration::from_millis(50)), fake.call("Ping")) }).await;
    assert!(matches!(answer, Err(Error::Silent { .. })), "{answer:?}");
    let (answer, ()) = bounded(async {
        tokio::join!(systemd.answers(LONG), async {
            let call = fake.call("Ping").await;
            fake.reply(&call, &()).await;
        })
    })
    .await;
    answer.unwrap();
}

#[tokio::test]
async fn a_lost_connection_ends_every_wait_and_is_told_once_and_last() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let job = tokio::spawn({
        let systemd = systemd.clone();
        async move { systemd.start("a.service", LONG).await }
    });
    let call = bounded(fake.call("StartUnit")).await;
    fake.reply_job(&call, 7).await;
    let question = tokio::spawn({
        let systemd = systemd.clone();
        async move { systemd.read("b.service").await }
    });
    bounded(fake.call("LoadUnit")).await;
    fake.job_new(7, "a.service").await;
    fake.signal("Reloading", &true).await;
    fake.connection.close().await.unwrap();
    drop(fake.calls);
    assert!(matches!(bounded(job).await.unwrap(), Err(Error::Disconnected)));
    assert!(matches!(bounded(question).await.unwrap(), Err(Error::Disconnected)));
    let mut heard = Vec::new();
    while let Some(signal) = bounded(signals.recv()).await {
        heard.push(shown(&signal));
    }
    assert_eq!(heard.last().map(String::as_str), Some("Disconnected"));
    assert_eq!(heard.iter().filter(|text| *text == "Disconnected").count(), 1);
    assert!(heard.contains(&"Reloading(true)".to_owned()), "what was heard before is told: {heard:?}");
    assert!(
        matches!(systemd.start("a.service", LONG).await, Err(Error::Disconnected)),
        "the old handle lives"
    );
}

#[tokio::test]
async fn an_owner_that_does_not_listen_loses_nothing_and_delays_nobody() {
    const FLOOD: u32 = 5_000;
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let (end, ()) = bounded(async {
        tokio::join!(systemd.start("a.service", LONG), async {
            for id in 100..100 + FLOOD {
                fake.job_removed(id, "b.service", "done").await;
            }
            let call = fake.call("StartUnit").await;
            fake.reply_job(&call, 7).await;
            fake.job_removed(7, "a.service", "done").await;
        })
    })
    .await;
    assert_eq!(end.unwrap().job, 7, "the owner must not be needed for a job to end");
    for id in 100..100 + FLOOD {
        assert_eq!(shown(&next(&mut signals).await), format!("removed {id} done ours=false"));
    }
    assert_eq!(shown(&next(&mut signals).await), "removed 7 done ours=true");
}

#[tokio::test]
async fn only_watched_units_tell_their_changes() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    bounded(async {
        tokio::join!(async { systemd.watch("a.service").await.unwrap() }, async {
            let call = fake.call("LoadUnit").await;
            fake.reply(&call, &unit_path("a.service")).await;
            let call = fake.call("RefUnit").await;
            let name = "org.freedesktop.DBus.Error.NotSupported";
            fake.connection.reply_error(&call.header(), name, &"no references here").await.unwrap();
        })
    })
    .await;
    let changed =
        HashMap::from([("ActiveState", Value::from("active")), ("SubState", Value::from("running"))]);
    let nothing: Vec<String> = Vec::new();
    for (unit, interface) in [("b.service", "Unit"), ("a.service", "Service"), ("a.service", "Unit")] {
        let body = (format!("org.freedesktop.systemd1.{interface}"), &changed, &nothing);
        let path: ObjectPath<'_> = unit_path(unit).into();
        let properties = "org.freedesktop.DBus.Properties";
        fake.connection
            .emit_signal(None::<&str>, path, properties, "PropertiesChanged", &body)
            .await
            .unwrap();
    }
    fake.signal("Reloading", &false).await;
    assert_eq!(shown(&next(&mut signals).await), "changed a.service active running");
    assert_eq!(shown(&next(&mut signals).await), "Reloading(false)");
}

#[tokio::test]
async fn kinds_are_read_and_unknown_ones_are_none() {
    let (_systemd, mut signals, mut fake) = pair(nowhere()).await;
    for (id, kind, wanted) in [
        (1, Some("stop"), Some(JobKind::Stop)),
        (2, Some("try-restart"), Some(JobKind::Restart)),
        (3, Some("levitate"), None),
        (4, None, None),
    ] {
        fake.job_new(id, "a.service").await;
        bounded(tell_kind(&mut fake, kind)).await;
        let signal = next(&mut signals).await;
        assert_eq!(shown(&signal), format!("new {id} {wanted:?} ours=false"));
    }
}
