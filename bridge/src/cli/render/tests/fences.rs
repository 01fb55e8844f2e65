//! What `convoke fence` prints.

use super::*;
use crate::api::model::{DeviceLine, DrillLine, WatchdogLine};
use crate::cli::render::samples::device;

#[test]
fn each_device_of_a_node_has_a_line() {
    let mut picture = picture();
    picture.nodes[1].devices = vec![
        device("bmc-n2", 1),
        device("feed-1", 2),
        DeviceLine { state: "unready".into(), ..device("feed-2", 2) },
    ];
    picture.nodes[1].devices[2].error = Some("status exited with status 1: Failed to get status".to_owned());
    picture.nodes[1].drills = vec![DrillLine {
        level: 2,
        device: "feed-1 and feed-2".to_owned(),
        case: 9,
        by: "root on n1".to_owned(),
        wall_ms: 0,
        passed: true,
        off_ms: Some(1_100),
        back_ms: Some(41_000),
        error: None,
        lied: false,
        text: "drilled 12 d ago: passed (level 2)".to_owned(),
    }];
    picture.nodes[2].devices.clear();
    picture.nodes[2].fencing = "none".to_owned();
    let expected = "  NODE  STATE   FENCING  DEVICE
  n1    online  ready    bmc-n1
  n2    online  ready    bmc-n2 (level 1)
                ready    feed-1 (level 2)
                unready  feed-2 (level 2)
    status exited with status 1: Failed to get status
  n3    online  none     -

  n1: never drilled
  n2: level 1 was never drilled
  n2: drilled 12 d ago: passed (level 2)

  no fence is open
";
    assert_eq!(fences(&picture, STYLE), expected);
}

#[test]
fn a_level_that_only_cuts_off_is_not_called_undrilled() {
    let mut picture = picture();
    picture.nodes[0].devices[0].isolates = true;
    picture.nodes[1].devices = vec![DeviceLine { isolates: true, ..device("port", 1) }, device("feed", 2)];
    let text = fences(&picture, STYLE);
    for expected in [
        "  n1: only cut off, which no drill can try\n",
        "  n2: level 1 only cuts off, which no drill can try\n",
        "  n2: level 2 was never drilled\n",
        "  n3: never drilled\n",
    ] {
        assert!(text.contains(expected), "{expected:?} in\n{text}");
    }
}

#[test]
fn who_cannot_run_an_agent_is_told_with_its_device() {
    let mut picture = picture();
    let why = "n3 cannot use it: fence_x is not installed";
    picture.nodes[0].devices[0].unable = vec![why.to_owned()];
    let text = fences(&picture, STYLE);
    assert!(text.contains(&format!("ready    bmc-n1\n    {why}\n")), "{text}");
    // What is the error anyway is told once, and what another lacks is told beside it.
    let other = "n2 cannot use it: no secret at /etc/convoke/bmc";
    let device = &mut picture.nodes[0].devices[0];
    device.error = Some("fence_x is not installed".to_owned());
    device.unable.push(other.to_owned());
    let text = fences(&picture, STYLE);
    assert!(text.contains(&format!("bmc-n1\n    fence_x is not installed\n    {other}\n")), "{text}");
}

#[test]
fn a_node_s_own_watchdog_is_told_with_what_it_does() {
    let armed = WatchdogLine {
        device: Some("/dev/watchdog0".to_owned()),
        timeout_ms: Some(5_000),
        since_s: Some(61),
        error: None,
    };
    let error = Some("/dev/watchdog cannot be opened: No such file or directory (os error 2)".to_owned());
    let mut picture = picture();
    picture.nodes[0].watchdog = Some(armed);
    picture.nodes[1].watchdog = Some(WatchdogLine { device: None, timeout_ms: None, since_s: None, error });
    let text = fences(&picture, STYLE);
    let armed = "armed for 61 s: /dev/watchdog0, fed by convoked, resets it 5 s after the";
    for expected in ["ready    its own watchdog\n", &format!("    {armed}\n"), "unready  its own watchdog\n"]
    {
        assert!(text.contains(expected), "{expected:?} in\n{text}");
    }
    let text = super::super::node(&picture.nodes[0], &picture, STYLE);
    assert!(text.contains("watchdog    armed for 61 s"), "{text}");
    let text = super::super::node(&picture.nodes[1], &picture, STYLE);
    assert!(text.contains("watchdog    not armed: /dev/watchdog cannot be opened"), "{text}");
}
