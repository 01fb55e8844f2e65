use std::fs;

use proptest::prelude::*;

use super::*;

fn paths(files: &BTreeMap<PathBuf, String>) -> Vec<&str> {
    files.keys().filter_map(|p| p.to_str()).collect()
}

#[test]
fn the_list_alone_makes_gates_that_every_service_can_pass() {
    let files =
        render_known("db.service\ndb.socket db.service\nt@.service\nt@.socket t@.service\ndbus.service\n");
    assert_eq!(
        paths(&files),
        [
            "db.service.d/~convoke-gate.conf",
            "db.socket.d/~convoke-member.conf",
            "t@.service.d/~convoke-gate.conf",
            "t@.socket.d/~convoke-member.conf",
        ]
    );
    assert!(files.values().all(|t| t.contains("\nAssertPathExists=/run/convoke/permits/")));
    // It is not known whether the service has a root of its own, where the condition never holds.
    assert!(!files.values().any(|t| t.contains("\nExecCondition=")));
    assert!(files[Path::new("t@.socket.d/~convoke-member.conf")].contains("permits/t@%i.service\n"));
}

#[test]
fn an_incomplete_reading_takes_nothing_away_but_what_must_not_be_gated() {
    let text = |t: &str| t.to_owned();
    let path = |u: &str| PathBuf::from(format!("{u}.d/{GATE_FILE}"));
    let fallback = BTreeMap::from([
        (path("a.service"), text("old")),
        (path("b.service"), text("old")),
        (path("srv.mount"), text("old")),
    ]);
    let mut output = Output::default();
    output.add("a.service", GATE_FILE, text("new"));
    output.leave_out("srv.mount", "fstab");
    assert_eq!(
        output.with_fallback(&fallback),
        BTreeMap::from([(path("a.service"), text("new")), (path("b.service"), text("old"))])
    );
    output.complete = true;
    assert_eq!(output.with_fallback(&fallback), output.files);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// S1 rests on this: whatever stands around the header, the unit is gated.
    #[test]
    fn no_text_around_the_header_opens_the_gate(
        before in "([A-Z=; \n%\\\\]|\\[[A-Z]{1,3}\\]\n){0,30}",
        after in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("etc/systemd/system/db.service.d");
        fs::create_dir_all(&dir).unwrap();
        let mut text = format!("{before}\n[X-Convoke]\n").into_bytes();
        text.extend(after);
        fs::write(dir.join("c.conf"), text).unwrap();
        let output = render(root.path());
        prop_assert!(output.files.contains_key(Path::new("db.service.d/~convoke-gate.conf")));
        for found in crate::verify::verify(root.path(), &[]) {
            let _ = (found.render(), found.to_json());
        }
    }
}
