//! What is in maintenance, on the screen.

use super::*;
use crate::api::model::MaintenanceLine;

#[test]
fn maintenance_says_since_when_by_whom_and_what_for() {
    let line = MaintenanceLine {
        kind: "node".to_owned(),
        name: Some("n2".to_owned()),
        by: "alice as root on n1 (convoke)".to_owned(),
        reason: Some("power supply".to_owned()),
        since_wall_ms: 1_700_000_000_123,
        text: "n2 is in maintenance: what it runs is left alone, and it is not fenced".to_owned(),
        remedy: "`convoke unmaintain n2` ends it".to_owned(),
    };
    let expected = "
 ! n2 is in maintenance: what it runs is left alone, and it is not fenced;
   since 2023-11-14 22:13:20, by alice as root on n1 (convoke) (power supply)
   -> `convoke unmaintain n2` ends it
";
    assert_eq!(screen::maintenance(&[line], STYLE, &TimeZone::UTC), expected.trim_start_matches('\n'));
    let mut picture = picture();
    picture.nodes[1].maintenance = true;
    picture.units[0].maintenance = true;
    let text = status(&picture, STYLE);
    assert!(text.contains("online, in maintenance") && text.contains("active, in maintenance"), "{text}");
}
