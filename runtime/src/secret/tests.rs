//! Secrets from being set to being given to a module, on a database.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::database::Database;
use crate::identity::MasterKey;

struct House {
    folder: tempfile::TempDir,
    key: MasterKey,
    secrets: Secrets,
}

fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let key = MasterKey::random().unwrap();
    let (secrets, notes) = Secrets::open(&Database::open(folder.path()).unwrap(), &key).unwrap();
    assert!(notes.is_empty());
    House { folder, key, secrets }
}

impl House {
    fn set(&self, name: &str, value: &str, modules: &[&str]) -> Result<Outcome, SecretError> {
        self.secrets.set(name, Some(&Zeroizing::new(value.to_owned())), &allow(modules, false), "operator")
    }

    fn resolved(&self, document: &Value, module: &str) -> Resolved {
        self.secrets.resolve(&document.to_string(), module).unwrap()
    }
}

fn allow(modules: &[&str], only: bool) -> Allow {
    Allow { modules: modules.iter().map(|name| (*name).to_owned()).collect(), only }
}

#[test]
fn a_module_that_is_allowed_is_given_the_value_and_no_other() {
    let house = house();
    house.set("plc-pw", "hun\"ter2\\\n", &["pump"]).unwrap();
    house.set("every", "xyz", &["*"]).unwrap();
    let document = json!({"plc": {"pw": {"$secret": "plc-pw"}, "again": [{"$secret": "plc-pw"}]}, "e": {"$secret": "every"}, "n": 1});

    let resolved = house.resolved(&document, "pump");
    assert_eq!(
        serde_json::from_str::<Value>(&resolved.text).unwrap(),
        json!({"plc": {"pw": "hun\"ter2\\\n", "again": ["hun\"ter2\\\n"]}, "e": "xyz", "n": 1})
    );
    assert_eq!((resolved.used.len(), resolved.missing.len()), (2, 0));

    let refused = house.resolved(&document, "other");
    let text = serde_json::from_str::<Value>(&refused.text).unwrap();
    assert_eq!((&text["plc"], &text["e"]), (&document["plc"], &json!("xyz")));
    let why = &refused.missing[0].to_string();
    assert_eq!(why, "secret plc-pw is not allowed to other: dinrail secret allow plc-pw other");
    assert!(!format!("{resolved:?}{refused:?}").contains("ter2"));

    let unset = house.secrets.missing(&json!({"a": {"$secret": "nobody"}}).to_string(), "pump");
    assert_eq!(unset[0].to_string(), "secret nobody is not set: dinrail secret set nobody --for pump");
    assert!(house.secrets.resolve(r#"{"a":"{\"$secret\":\"plc-pw\"}"}"#, "pump").is_none(), "a text of a person");
}

#[test]
fn secrets_are_there_after_a_restart_and_under_another_key_they_say_so() {
    let mut house = house();
    house.set("a", "one", &["pump"]).unwrap();
    let again = house.set("a", "two", &["other"]).unwrap();
    assert_eq!((again.now.version, again.now.allowed.names()), (2, vec!["other".to_owned(), "pump".to_owned()]));
    assert_eq!(again.allowed_before.map(|allowed| allowed.names()), Some(vec!["pump".to_owned()]));
    let before = house.secrets.list();

    let nothing = Secrets::open(&Database::open(tempfile::tempdir().unwrap().path()).unwrap(), &house.key).unwrap().0;
    drop(std::mem::replace(&mut house.secrets, nothing));
    let database = Database::open(house.folder.path()).unwrap();
    let (secrets, notes) = Secrets::open(&database, &house.key).unwrap();
    assert_eq!((secrets.list(), notes.len()), (before, 0));
    let (secrets, notes) = Secrets::open(&database, &MasterKey::random().unwrap()).unwrap();
    assert!(notes[0].contains("to be set again: a"), "{notes:?}");
    assert!(!secrets.get("a").unwrap().is_readable);
    let why = secrets.refusal("a", "pump").unwrap();
    assert!(matches!(why, Unresolved::NotReadable { .. }), "{why}");
    secrets.set("a", Some(&Zeroizing::new("three".to_owned())), &Allow::default(), "operator").unwrap();
    assert_eq!(secrets.refusal("a", "pump"), None, "who was allowed it still is");
}

#[test]
fn who_may_have_it_is_added_to_or_put_anew() {
    let house = house();
    let names = |outcome: Outcome| outcome.now.allowed.names();
    let nothing = |modules: &[&str], only| house.secrets.set("a", None, &allow(modules, only), "operator");
    assert!(matches!(nothing(&["x"], false), Err(SecretError::NotFound { .. })));
    house.set("a", "value", &[]).unwrap();
    assert_eq!(names(nothing(&["x"], false).unwrap()), ["x"]);
    assert_eq!(names(nothing(&["y"], false).unwrap()), ["x", "y"]);
    assert_eq!(names(nothing(&["*"], false).unwrap()), ["*"]);
    assert_eq!(names(nothing(&["z"], true).unwrap()), ["z"]);
    let last = nothing(&[], true).unwrap();
    assert_eq!((last.now.version, last.has_new_value, names(last)), (1, false, Vec::<String>::new()));
}

#[test]
fn what_cannot_be_a_secret_is_refused_without_showing_it() {
    let house = house();
    let long = "x".repeat(MAX_VALUE_BYTES + 1);
    for (name, value, modules) in
        [("a b", "hunter2", &[][..]), ("a", "", &[]), ("a", &long, &[]), ("a", "hunter2", &["b/c"])]
    {
        let refused = house.set(name, value, modules).unwrap_err();
        let said = format!("{refused} {refused:?} {}", refused.hint());
        assert!(!said.contains("hunter2") && !said.contains("xxx"), "{said}");
    }
    assert!(house.secrets.list().is_empty());
    house.set("a", &long[1..], &[]).unwrap();
    assert!(matches!(house.secrets.remove("b"), Err(SecretError::NotFound { .. })));
    house.secrets.remove("a").unwrap();
    assert!(house.secrets.list().is_empty());
    assert_eq!(house.secrets.changes(), 2);
}

#[test]
fn what_an_instance_was_given_is_known_to_be_out_of_date() {
    let house = house();
    house.set("a", "one", &["pump"]).unwrap();
    let resolved = house.resolved(&json!({"a": {"$secret": "a"}}), "pump");
    let used: Vec<_> = resolved.used.iter().map(|used| (used.name.clone(), used.version, used.set_us)).collect();
    assert!(house.secrets.outdated(&used).is_empty());
    house.set("a", "two", &[]).unwrap();
    assert_eq!(house.secrets.outdated(&used), ["a"]);
}
