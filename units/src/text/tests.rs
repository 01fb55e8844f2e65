use proptest::prelude::*;

use super::*;

fn read(text: &str) -> UnitText {
    UnitText::parse("/etc/u", text.as_bytes())
}

fn pairs(text: &UnitText) -> Vec<(String, String, String)> {
    text.assignments.iter().map(|a| (a.section.clone(), a.key.clone(), a.value.text.clone())).collect()
}

fn pair(s: &str, k: &str, v: &str) -> (String, String, String) {
    (s.to_owned(), k.to_owned(), v.to_owned())
}

fn codes(text: &UnitText) -> Vec<Code> {
    text.diagnostics.iter().map(|d| d.code).collect()
}

#[test]
fn sections_keys_and_comments() {
    let text = read("# c\n; c\n[Unit]\n  A = 1 \nA=\n\n[X-Convoke]\nB=x=y\n   # c=1\n");
    assert_eq!(pairs(&text), [pair("Unit", "A", "1"), pair("Unit", "A", ""), pair("X-Convoke", "B", "x=y")]);
    assert!(text.diagnostics.is_empty());
    assert_eq!(text.claim().map(|h| h.span.line), Some(7));
}

#[test]
fn continuations_join_and_skip_comments_inside() {
    let text = read("[S]\nA=one \\\n# a comment\n  two\\\n; another \\\nthree\nB=x\\\\\nC=y\\");
    assert_eq!(
        pairs(&text),
        [pair("S", "A", "one    two three"), pair("S", "B", "x\\\\"), pair("S", "C", "y")]
    );
}

#[test]
fn a_blank_line_ends_a_continuation() {
    assert_eq!(pairs(&read("[S]\nA=one\\\n\nB=2\n")), [pair("S", "A", "one"), pair("S", "B", "2")]);
}

#[test]
fn a_header_can_be_continued_away() {
    // The line before ends in a backslash, so what looks like a header is part of the value.
    let text = read("[S]\nA=1\\\n[X-Convoke]\nB=2\n");
    assert_eq!(pairs(&text), [pair("S", "A", "1 [X-Convoke]"), pair("S", "B", "2")]);
    // It was meant to be one, so the unit stays shut.
    assert!(text.claim().is_some());
    assert_eq!(codes(&text), [Code::NearMissHeader]);
    assert!(read("[S]\nA=1\\\n[Unit]\n").claim().is_none());
}

#[test]
fn words_know_their_places_over_continued_lines() {
    let text = read("[S]\nAfter=ä.service \\\n  # c\n\tb.service\n");
    let words: Vec<_> = text.assignments[0]
        .value
        .words()
        .map(|(w, s)| (w.to_owned(), s.line, s.column, s.end, s.source))
        .collect();
    assert_eq!(
        words,
        [
            ("ä.service".to_owned(), 2, 7, 16, "After=ä.service \\".to_owned()),
            ("b.service".to_owned(), 4, 2, 11, "\tb.service".to_owned()),
        ]
    );
}

#[test]
fn an_empty_value_is_pointed_at_after_the_sign() {
    let span = read("[S]\nA=  \n").assignments[0].value.span();
    assert_eq!((span.line, span.column, span.end), (2, 3, 3));
}

#[test]
fn line_ends_and_byte_order_mark() {
    for text in ["\u{feff}[S]\nA=1\nB=2", "[S]\r\nA=1\r\nB=2\r\n", "[S]\rA=1\rB=2", "[S]\n\rA=1\n\rB=2"] {
        assert_eq!(pairs(&read(text)), [pair("S", "A", "1"), pair("S", "B", "2")], "{text:?}");
        assert_eq!(read(text).assignments[1].key_span.line, 3, "{text:?}");
    }
    assert_eq!(read("\u{feff}A=1").diagnostics[0].span.as_ref().map(|s| s.column), Some(2));
}

#[test]
fn what_systemd_ignores_is_said() {
    assert_eq!(
        codes(&read("A=1\n[S]\nfoo\n=x\n")),
        [Code::OutsideSection, Code::MissingEquals, Code::MissingEquals]
    );
    let text = read("[X-Convoke]\nReplicas 1\n");
    assert_eq!(text.diagnostics[0].severity, Severity::Error);
}

#[test]
fn a_malformed_header_ends_the_file_but_not_the_claim() {
    let text = read("[Unit]\nA=1\n[Service\nB=2\n[X-Convoke]\nReplicas=1\n[Nope\n");
    assert_eq!(pairs(&text), [pair("Unit", "A", "1")]);
    assert_eq!(codes(&text), [Code::InvalidHeader]);
    assert!(text.claim().is_some(), "the unit must stay gated");
    assert_eq!(codes(&read("[a\"b]\n")), [Code::InvalidHeader]);
}

#[test]
fn bytes_that_are_not_utf8_end_the_file() {
    let text = UnitText::parse("f", b"[X-Convoke]\nReplicas=1\nFoo=\xff\xfe\nReplicas=2\n");
    assert_eq!(pairs(&text), [pair("X-Convoke", "Replicas", "1")]);
    assert_eq!(codes(&text), [Code::NotUtf8]);
    assert_eq!(text.diagnostics[0].span.as_ref().map(|s| s.line), Some(3));
    // In a comment systemd does not look.
    assert!(UnitText::parse("f", b"# \xff\n[S]\n").diagnostics.is_empty());
    assert!(UnitText::parse("f", b"[X-Convoke\xff]\n").claim().is_some());
}

#[test]
fn a_file_in_utf16_says_nothing_but_claims_its_unit() {
    for (bytes, claims) in [("[X-Convoke]\r\nReplicas=1\r\n", true), ("[Unit]\n", false), ("", false)]
        .into_iter()
        .flat_map(|(text, claims)| {
            let units = || std::iter::once('\u{feff}').chain(text.chars()).map(|c| c as u16);
            let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
            let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
            [(little, claims), (big, claims)]
        })
    {
        let text = UnitText::parse("f", &bytes);
        assert_eq!(codes(&text), [Code::NotUtf8], "{bytes:?}");
        assert_eq!(text.claim().is_some(), claims, "{bytes:?}");
        assert!(text.assignments.is_empty() && text.diagnostics[0].render().contains("--> f\n"));
    }
}

#[test]
fn headers_that_were_meant_to_be_ours_claim_the_unit() {
    for (header, claims, code) in [
        ("[X-Convoke]", true, None),
        ("[X-Convoke", true, Some(Code::InvalidHeader)),
        ("[Convoke]", true, Some(Code::NearMissHeader)),
        ("[x-convoke]", true, Some(Code::NearMissHeader)),
        ("[X-Convoke ]", true, Some(Code::NearMissHeader)),
        ("[X-Convok]", true, Some(Code::NearMissHeader)),
        ("[X-Convoke] # here", true, Some(Code::InvalidHeader)),
        ("[X-Cluster]", false, None),
        ("[X-Container]", false, None),
        ("[Unit]", false, None),
    ] {
        let text = read(&format!("{header}\n"));
        assert_eq!(text.claim().is_some(), claims, "{header}");
        assert_eq!(codes(&text).first().copied(), code, "{header}");
    }
}

#[test]
fn a_line_over_the_limit_ends_the_file() {
    let text = read(&format!("[S]\nA={}\nB=1\n[X-Convoke]\n", "x".repeat(LONG_LINE_MAX)));
    assert_eq!(codes(&text), [Code::LineTooLong]);
    assert!(text.assignments.is_empty() && text.claim().is_some());
}

/// One value broken over lines in every legal way, so that the reader must put it together again.
fn laid_out() -> impl Strategy<Value = (Vec<String>, String)> {
    let word = "[a-zA-Z0-9ä.@=%]{1,8}";
    let gap = prop::sample::select(vec![" ", "  ", "\t", " \\\n", "\\\n\t", "\\\n# c\n", "\\\n ; c \\\n"]);
    prop::collection::vec((word, gap), 1..6).prop_map(|parts| {
        let mut text = String::new();
        for (n, (word, gap)) in parts.iter().enumerate() {
            text.push_str(word);
            if n + 1 < parts.len() {
                text.push_str(gap);
            }
        }
        (parts.into_iter().map(|p| p.0).collect(), text)
    })
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = UnitText::parse("f", &bytes);
        for a in &text.assignments {
            let _ = (a.value.span(), a.value.words().count());
        }
        for d in &text.diagnostics {
            let _ = d.render();
        }
    }

    #[test]
    fn reading_never_panics_on_what_looks_like_units(text in "([\\[\\]A-C=\\\\#; \t\r\nä\u{0}]|X-Convoke){0,80}") {
        for a in read(&text).assignments {
            prop_assert!(!a.key.is_empty());
            let _ = (a.value.span(), a.value.words().count());
        }
    }

    #[test]
    fn what_was_laid_out_is_read_back((words, text) in laid_out()) {
        let file = format!("[S]\nKey={text}\nNext=1\n");
        let read = read(&file);
        prop_assert_eq!(read.assignments.len(), 2);
        let lines: Vec<&str> = file.split('\n').collect();
        let mut seen = Vec::new();
        for (word, span) in read.assignments[0].value.words() {
            // The place given for each word holds that very word.
            let there: String = lines[span.line as usize - 1]
                .chars().skip(span.column as usize - 1).take((span.end - span.column) as usize).collect();
            prop_assert_eq!(&there, word);
            seen.push(word.to_owned());
        }
        prop_assert_eq!(seen, words);
    }
}
