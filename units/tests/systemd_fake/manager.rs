//! What PID 1 says of itself.

use zbus::zvariant::Value;

use crate::fake::{bounded, nowhere, pair};

#[tokio::test]
async fn only_a_systemd_that_does_not_know_soft_reboots_has_had_none() {
    let (systemd, _signals, mut fake) = pair(nowhere()).await;
    for (answer, expected) in [
        (Ok(3u32), Some(3)),
        // systemd 252.
        (Err("UnknownProperty"), Some(0)),
        // The bus, or systemd itself, while PID 1 executes itself anew.
        (Err("NoReply"), None),
        (Err("ServiceUnknown"), None),
        (Err("NameHasNoOwner"), None),
        (Err("UnknownObject"), None),
        (Err("UnknownInterface"), None),
    ] {
        let (told, ()) = bounded(async {
            tokio::join!(systemd.soft_reboots(), async {
                let call = fake.call("Get").await;
                match answer {
                    Ok(count) => fake.reply(&call, &Value::from(count)).await,
                    Err(name) => {
                        let name = format!("org.freedesktop.DBus.Error.{name}");
                        fake.connection.reply_error(&call.header(), name, &"no").await.unwrap();
                    }
                }
            })
        })
        .await;
        assert_eq!(told.ok(), expected, "{answer:?}");
    }
}
