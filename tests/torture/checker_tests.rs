//! The checker finds what it is there for: accounts in which something is wrong.

use std::collections::HashMap;

use super::checker::{Evidence, Loss};

/// Accounts of a flow in memory, `mixed/a` to `first`, and of a durable one, `mixed/b` to `first`; in process 7, which was killed.
fn evidence(acknowledged: &str, handled: &str) -> Evidence {
    let home = tempfile::tempdir().unwrap();
    let write = |module: &str, file: &str, lines: &str| {
        std::fs::create_dir_all(home.path().join(module)).unwrap();
        let text: String = lines.split(',').map(|line| format!("{}\n", line.trim())).collect();
        std::fs::write(home.path().join(module).join(file), text).unwrap();
    };
    write("mixed", "acknowledged", acknowledged);
    write("first", "handled", &format!("s 7,{handled}"));
    let mut evidence = Evidence::read(home.path(), &mut HashMap::new());
    evidence.killed.insert(7);
    evidence
}

fn lost(output: &str, first: u64, last: u64, count: u64) -> Loss {
    Loss {
        output: format!("/devices/d/modules/mixed/{output}"),
        endpoint: "/devices/d/modules/first/inputs/in".to_owned(),
        reason: "full".to_owned(),
        first: (1, first),
        last: (1, last),
        count,
    }
}

#[track_caller]
fn assert_finds(evidence: &Evidence, words: &str) {
    let (findings, _) = evidence.compare();
    assert!(findings.len() == 1 && findings[0].contains(words), "{findings:?}");
}

#[test]
fn accounts_that_agree_have_no_findings() {
    let handled = "h mixed b 1 0 mixed 1 11 1, s 8, h mixed b 1 0 mixed 1 11 1, h mixed b 2 0 mixed 1 12 1";
    let (findings, figures) = evidence("+ b 1 0 5, + b 2 0 5", handled).compare();
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((figures.acknowledged, figures.accepted, figures.repeated), (2, 2, 1));
}

#[test]
fn durable_message_that_is_gone_is_found() {
    let evidence =
        evidence("+ b 1 0 5, + b 2 0 5, + b 3 0 5", "h mixed b 1 0 mixed 1 11 1, h mixed b 3 0 mixed 1 13 1");
    assert_finds(&evidence, "mixed/b to first, 2: acknowledged, and gone");
}

#[test]
fn message_in_memory_is_found_missing_unless_its_place_is_in_the_ledger() {
    let told = ("+ a 1 0 5, + a 2 0 5, + a 3 0 5", "h mixed a 1 0 mixed 1 11 1, h mixed a 3 0 mixed 1 13 1");
    let with = |losses: Vec<Loss>| {
        let mut evidence = evidence(told.0, told.1);
        evidence.losses = losses;
        evidence
    };

    let (findings, _) = with(Vec::new()).compare();
    assert_eq!(findings.len(), 2, "no range, and no count: {findings:?}");
    assert_finds(&with(vec![lost("a", 20, 30, 5)]), "in no range of the ledger");
    assert_eq!(with(vec![lost("b", 12, 12, 1)]).compare().0.len(), 2, "of another output");
    assert_finds(&with(vec![lost("a", 12, 12, 0)]), "1 are missing, 0 more in the ledger");
    assert_eq!(with(vec![lost("a", 12, 12, 1)]).compare().0, Vec::<String>::new());
}

#[test]
fn messages_out_of_order_and_repeated_without_a_cause_are_found() {
    let sent = "+ b 1 0 5, + b 2 0 5";
    assert_finds(&evidence(sent, "h mixed b 2 0 mixed 1 12 1, h mixed b 1 0 mixed 1 11 1"), "out of order");
    let mut twice =
        evidence(sent, "h mixed b 1 0 mixed 1 11 1, h mixed b 2 0 mixed 1 12 1, h mixed b 2 0 mixed 1 12 1");
    assert_eq!(twice.compare().0, Vec::<String>::new(), "its process was killed");
    twice.killed.clear();
    assert_finds(&twice, "delivered twice without a kill");
    let resent = "h mixed b 1 0 mixed 1 11 1, h mixed b 2 0 mixed 1 12 1, s 8, h mixed b 2 0 mixed 1 15 1";
    assert_finds(&evidence(sent, resent), "sent twice");
}

#[test]
fn body_that_was_changed_on_its_way_is_found() {
    assert_finds(&evidence("+ b 1 0 5", "h mixed b 1 0 mixed 1 11 1, x wrong checksum"), "first got wrong checksum");
}
