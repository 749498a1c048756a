//! The checker finds what it is there for: accounts in which something is wrong.

use std::collections::HashMap;

use super::checker::{Evidence, Loss};

/// Accounts of a flow in memory, `mixed/a` to `first`, and of a durable one, `mixed/b` to `first`; in process 7, which was killed.
fn evidence(acknowledged: &str, handled: &str) -> Evidence {
    of("mixed", "first", acknowledged, handled)
}

fn of(sender: &str, receiver: &str, acknowledged: &str, handled: &str) -> Evidence {
    let home = tempfile::tempdir().unwrap();
    let write = |module: &str, file: &str, lines: &str| {
        std::fs::create_dir_all(home.path().join(module)).unwrap();
        let text: String = lines.split(',').map(|line| format!("{}\n", line.trim())).collect();
        std::fs::write(home.path().join(module).join(file), text).unwrap();
    };
    write(sender, "acknowledged", acknowledged);
    write(receiver, "handled", &format!("s 7,{handled}"));
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
    assert_eq!(with(vec![lost("a", 20, 30, 5)]).compare().0.len(), 2, "elsewhere, and too many");
    assert_eq!(with(vec![lost("b", 12, 12, 1)]).compare().0.len(), 2, "of another output");
    assert_eq!(with(vec![lost("a", 12, 12, 0)]).compare().0.len(), 2, "no count");
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
fn message_that_was_parked_at_a_kill_may_be_accepted_later_and_no_other_one() {
    let sent = "+ b 1 0 5, + b 2 0 5";
    let handled = |verdict: char, again: &str| {
        format!("{verdict} mixed b 1 0 mixed 1 11 1, h mixed b 2 0 mixed 1 12 1, {again} h mixed b 1 0 mixed 1 11 1")
    };
    assert_eq!(evidence(sent, &handled('p', "s 8,")).compare().0, Vec::<String>::new());
    assert_finds(&evidence(sent, &handled('p', "")), "out of order");
    assert_finds(&evidence(sent, &handled('r', "s 8,")), "out of order");
    let mut without_a_kill = evidence(sent, &handled('p', "s 8,"));
    without_a_kill.killed.clear();
    assert_finds(&without_a_kill, "out of order");
}

#[test]
fn body_that_was_changed_on_its_way_is_found() {
    assert_finds(&evidence("+ b 1 0 5", "h mixed b 1 0 mixed 1 11 1, x wrong checksum"), "first got wrong checksum");
}

/// Accounts of `sorter/a` to `first`: levels 0 and 1 have one priority, 2 and 3 others; 0 is durable, 3 is so for a time.
fn sorted(handled: &str, losses: Vec<Loss>) -> Evidence {
    let sent = "+ a 1 0 5, + a 2 1 5, + a 3 2 5, + a 4 3 5";
    let mut evidence = of("sorter", "first", sent, handled);
    evidence.losses = losses;
    evidence
}

const ALL: &str = "h sorter a 4 3 sorter 1 14 1, h sorter a 1 0 sorter 1 11 1, h sorter a 2 1 sorter 1 12 1, h sorter a 3 2 sorter 1 13 1";

fn without(handled: &str, number: u64) -> String {
    let lines = handled.split(", ").filter(|line| !line.contains(&format!(" a {number} ")));
    lines.collect::<Vec<_>>().join(", ")
}

fn lost_of_sorter(reason: &str, sequence: u64) -> Loss {
    Loss {
        output: "/devices/d/modules/sorter/a".to_owned(),
        reason: reason.to_owned(),
        ..lost("a", sequence, sequence, 1)
    }
}

#[test]
fn order_is_asked_within_a_priority_and_not_between_two() {
    assert_eq!(sorted(ALL, Vec::new()).compare().0, Vec::<String>::new());
    let (first, second) = ("h sorter a 1 0 sorter 1 11 1", "h sorter a 2 1 sorter 1 12 1");
    let swapped = ALL.replace(first, "-").replace(second, first).replace('-', second);
    assert_finds(&sorted(&swapped, Vec::new()), "out of order");
}

#[test]
fn message_may_be_missing_only_for_a_reason_of_its_route() {
    let one = |number: u64, reason: &str| {
        let losses = if reason.is_empty() { Vec::new() } else { vec![lost_of_sorter(reason, 10 + number)] };
        sorted(&without(ALL, number), losses)
    };
    assert_finds(&one(1, "runtimeDied"), "level 0 to first, 1: acknowledged, and gone");
    for (number, reason) in [(2, "runtimeDied"), (3, "expired"), (3, "runtimeDied"), (4, "expired")] {
        assert_eq!(one(number, reason).compare().0, Vec::<String>::new(), "{number} {reason}");
    }
    for (number, reason) in [(2, "expired"), (4, "runtimeDied"), (4, "dropOldest"), (4, ""), (3, "dropNewest")] {
        let (findings, _) = one(number, reason).compare();
        assert_eq!(findings.len(), 2, "{number} {reason}: {findings:?}");
    }
}

#[test]
fn ranges_have_to_be_large_enough_for_each_gap() {
    let sent = "+ a 1 0 5, + a 2 0 5, + a 3 0 5, + a 4 0 5, + a 5 0 5";
    let handled = "h mixed a 1 0 mixed 1 11 1, h mixed a 4 0 mixed 1 14 1";
    let with = |losses: Vec<Loss>| {
        let mut evidence = of("mixed", "first", sent, handled);
        evidence.losses = losses;
        evidence
    };
    assert_eq!(with(vec![lost("a", 12, 13, 2), lost("a", 15, 15, 1)]).compare().0, Vec::<String>::new());
    // Enough in all, but not where they are missing.
    assert_finds(&with(vec![lost("a", 12, 12, 1), lost("a", 15, 16, 2)]), "2 acknowledged and not handled, 1 of them");
}

#[test]
fn ledger_that_says_more_than_is_missing_is_found_unless_there_was_a_kill() {
    let mut evidence = evidence("+ a 1 0 5, - a 2 0 5 Full", "h mixed a 1 0 mixed 1 11 1");
    evidence.losses = vec![lost("a", 12, 12, 1)];
    assert_eq!(evidence.compare().0, Vec::<String>::new(), "one was refused");
    evidence.losses = vec![lost("a", 12, 13, 2)];
    assert_finds(&evidence, "0 are missing, 1 were refused, but 2 more in the ledger");
    evidence.kills = 1;
    assert_eq!(evidence.compare().0, Vec::<String>::new());
}

#[test]
fn what_was_staged_under_a_message_that_was_parked_is_found() {
    let mut evidence = of("chain", "last", "+ a 1 0 5", "h chain a 1 0 relay 1 5 1");
    let at = |receiver: &str| ("chain".to_owned(), "a".to_owned(), receiver.to_owned());
    evidence.parked.insert(at("relay"), vec![1]);
    assert_finds(&evidence, "chain/a to last, 1: sent on by who parked it");
    evidence.parked.clear();
    let (findings, _) = evidence.compare();
    assert!(
        findings.iter().all(|finding| finding.contains("chain/a to relay, 1: acknowledged, and gone")),
        "{findings:?}"
    );
}
