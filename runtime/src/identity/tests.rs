use super::*;
use crate::database::Database;

fn open(dir: &tempfile::TempDir, requested: Option<&str>) -> Result<Identities, IdentityError> {
    let database = Database::open(dir.path()).unwrap();
    Identities::open(&database, MasterKey::random().unwrap(), requested, "Hannover01").map(|(identities, _)| identities)
}

#[test]
fn identities_come_back_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir, None).unwrap();
    let filter = first.ensure(Some("filter")).unwrap();
    assert_eq!(first.ensure(Some("filter")).unwrap(), filter);
    assert_eq!(filter.identity.to_string(), "/devices/Hannover01/modules/filter");
    drop(first);

    let second = open(&dir, None).unwrap();

    assert_eq!(second.list().len(), 2, "the device and the module");
    assert_eq!(second.ensure(Some("filter")).unwrap(), filter);
}

#[test]
fn an_identity_made_again_has_another_generation_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let identities = open(&dir, None).unwrap();
    let first = identities.ensure(Some("filter")).unwrap();

    assert_eq!(identities.remove(&first.identity, None).unwrap(), std::slice::from_ref(&first.identity));
    assert!(identities.remove(&first.identity, None).unwrap().is_empty());
    let second = identities.ensure(Some("filter")).unwrap();

    assert_ne!(first.generation_id, second.generation_id);
    assert_ne!(first.key, second.key);
    assert!(second.generation_id.chars().all(|c| c.is_ascii_digit()));
}

#[test]
fn many_identities_are_made_in_one_commit_in_the_order_asked() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let (identities, _) = Identities::open(&database, MasterKey::random().unwrap(), None, "d").unwrap();
    let names: Vec<String> = (0..1000).map(|i| format!("m{}", 999 - i)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["m7", "m7"]).collect();
    let before = database.figures().commits.load(std::sync::atomic::Ordering::Relaxed);

    let records = identities.ensure_many(&names).unwrap();

    assert_eq!(database.figures().commits.load(std::sync::atomic::Ordering::Relaxed), before + 1);
    assert_eq!(records.iter().map(|r| r.identity.module_id().unwrap()).collect::<Vec<_>>(), names);
    let mut generations: Vec<_> = identities.list().into_iter().map(|r| r.generation_id.clone()).collect();
    generations.sort_unstable();
    generations.dedup();
    assert_eq!(generations.len(), 1001);
}

#[test]
fn another_device_id_later_is_refused_with_the_one_that_holds() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir, Some("Linie7")).unwrap());

    let refused = open(&dir, Some("Linie8")).err().unwrap();

    assert!(matches!(refused, IdentityError::OtherDevice { .. }));
    assert!(refused.hint().unwrap().contains("Linie7"));
    assert_eq!(open(&dir, None).unwrap().device_id(), "Linie7", "the host name does not matter any more");
    assert_eq!(open(&dir, Some("Linie7")).unwrap().device_id(), "Linie7");
}

#[test]
fn the_devices_own_identity_stays() {
    let dir = tempfile::tempdir().unwrap();
    let identities = open(&dir, None).unwrap();

    assert!(matches!(identities.remove(&identities.device().unwrap(), None), Err(IdentityError::OwnDevice { .. })));
}
