use super::*;
use crate::database::{Database, lock};
use crate::name::Identity;

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

fn module(name: &str) -> Identity {
    Identity::module("Hannover01", name).unwrap()
}

fn new(text: &str) -> NewIdentity {
    NewIdentity { identity: text.parse().unwrap(), change: IdentityChange::default() }
}

fn status(is_enabled: bool, reason: &str) -> IdentityChange {
    IdentityChange { is_enabled: Some(is_enabled), status_reason: Some(reason.to_owned()), ..Default::default() }
}

fn keys(identities: &Identities, identity: &Identity) -> [String; 2] {
    [KeySlot::Primary, KeySlot::Secondary].map(|slot| identities.key(identity, slot).unwrap().to_base64().to_string())
}

/// With a key that stays, for what is to be the same after a restart.
struct House {
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> House {
        House { dir: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Identities {
        self.try_open(false).unwrap()
    }

    fn try_open(&self, renew: bool) -> Result<Identities, IdentityError> {
        let database = Database::open(self.dir.path()).unwrap();
        let (master, _) = device_key(&database, self.dir.path(), renew)?;
        Ok(Identities::open(&database, master, None, "Hannover01")?.0)
    }
}

#[test]
fn everything_of_an_identity_comes_back_after_a_restart() {
    let house = House::new();
    let given = SymmetricKey::random().unwrap();
    let first = house.open();
    first.ensure(Some("filter")).unwrap();
    first.rotate(&module("filter"), Rotation::Renew(KeySlot::Secondary), None).unwrap();
    first.add(&[new("/devices/camera"), new("/devices/camera/modules/lens")]).unwrap();
    let lens: Identity = "/devices/camera/modules/lens".parse().unwrap();
    let change =
        IdentityChange { secondary: Some(given.clone()), managed_by: Some("me".into()), ..status(false, "stolen") };
    first.update(&lens, &change, None).unwrap();
    first.set_connected(&module("filter"), true, 5_000_000);
    first.was_active(&first.require(&module("filter")).unwrap(), 7_000_000);
    first.settle_presence(9_000_000);
    first.rotate_policy(Role::Reader, Rotation::Swap).unwrap();
    let all = |identities: &Identities| {
        let each = |record: &std::sync::Arc<IdentityRecord>| {
            (record.clone(), keys(identities, &record.identity), record.etag(), identities.presence(record))
        };
        let policies = Role::ALL.map(|role| identities.policy_key(role, KeySlot::Primary).unwrap().to_base64());
        (identities.list().iter().map(each).collect::<Vec<_>>(), policies)
    };
    let before = all(&first);
    drop(first);

    let second = house.open();

    assert_eq!(all(&second), before);
    assert_eq!(keys(&second, &lens)[1], *given.to_base64());
    let presence = second.presence(&second.require(&module("filter")).unwrap());
    assert_eq!(presence, Presence { is_connected: false, changed_us: Some(9_000_000), activity_us: Some(7_000_000) });
}

#[test]
fn derived_keys_are_stored_nowhere_and_given_ones_sealed() {
    let house = House::new();
    let identities = house.open();
    let given = SymmetricKey::random().unwrap();
    let change = IdentityChange { primary: Some(given.clone()), ..Default::default() };
    identities.add(&[NewIdentity { identity: module("filter"), change }]).unwrap();
    let [primary, secondary] = keys(&identities, &module("filter"));
    assert_eq!(primary, *given.to_base64());
    drop(identities);

    for entry in std::fs::read_dir(house.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for key in [&primary, &secondary] {
            let raw = SymmetricKey::from_base64(key).unwrap();
            let is_there = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
            assert!(!is_there(key.as_bytes()) && !is_there(raw.bytes()), "a key stands in {}", path.display());
        }
    }
}

#[test]
fn each_key_is_its_own_and_changes_with_the_generation() {
    let house = House::new();
    let identities = house.open();
    identities.ensure(Some("filter")).unwrap();
    let device = identities.device().unwrap();
    let mut seen: Vec<String> = [keys(&identities, &device), keys(&identities, &module("filter"))].concat();
    identities.remove(&module("filter"), None).unwrap();
    identities.ensure(Some("filter")).unwrap();
    seen.extend(keys(&identities, &module("filter")));
    seen.extend(Role::ALL.map(|role| identities.policy_key(role, KeySlot::Primary).unwrap().to_base64().to_string()));
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn a_rotation_leaves_the_other_key_in_force() {
    let house = House::new();
    let identities = house.open();
    identities.ensure(Some("filter")).unwrap();
    let before = keys(&identities, &module("filter"));

    identities.rotate(&module("filter"), Rotation::Renew(KeySlot::Primary), None).unwrap();
    let after = keys(&identities, &module("filter"));
    assert!(after[0] != before[0] && after[1] == before[1]);

    identities.rotate(&module("filter"), Rotation::Swap, None).unwrap();
    assert_eq!(keys(&identities, &module("filter")), [after[1].clone(), after[0].clone()]);
}

#[test]
fn keys_that_are_sent_back_stay_what_they_are() {
    let house = House::new();
    let identities = house.open();
    identities.ensure(Some("filter")).unwrap();
    let key = |slot| identities.key(&module("filter"), slot).unwrap();
    let (primary, secondary) = (key(KeySlot::Primary), key(KeySlot::Secondary));

    // As a client swaps them: it sends each in the place of the other.
    let swap =
        IdentityChange { primary: Some(secondary.clone()), secondary: Some(primary.clone()), ..Default::default() };
    let record = identities.update(&module("filter"), &swap, None).unwrap();
    assert_eq!(keys(&identities, &module("filter")), [&secondary, &primary].map(|key| key.to_base64().to_string()));
    assert_eq!(record.keys.source(KeySlot::Primary), &keys::KeySource::Derived("secondary".into()), "still derived");

    let same = IdentityChange { primary: Some(primary.clone()), secondary: Some(primary), ..Default::default() };
    assert!(matches!(identities.update(&module("filter"), &same, None), Err(IdentityError::SameKeys(_))));
}

#[test]
fn who_needs_an_identity_that_is_there_waits_for_no_change_of_another() {
    let house = House::new();
    let identities = house.open();
    let known = identities.ensure(Some("filter")).unwrap();
    let changing = lock(&identities.0.changing);
    let (say, heard) = std::sync::mpsc::channel();
    let other = identities.clone();
    let asked = std::thread::spawn(move || say.send(other.ensure(Some("filter"))).unwrap());

    assert_eq!(heard.recv_timeout(std::time::Duration::from_secs(20)).expect("no waiting").unwrap(), known);
    drop(changing);
    asked.join().unwrap();
}

#[test]
fn changes_need_the_present_etag_and_make_another() {
    let house = House::new();
    let identities = house.open();
    let first = identities.ensure(Some("filter")).unwrap();
    let id = module("filter");
    let quoted = format!("\"{}\"", first.etag());

    let second = identities.update(&id, &status(false, "off"), Some(&quoted)).unwrap();
    assert_ne!(first.etag(), second.etag());
    for stale in [quoted.as_str(), &first.etag(), "x", "\"x\""] {
        let refused = identities.update(&id, &status(true, ""), Some(stale));
        assert!(matches!(refused, Err(IdentityError::EtagMismatch { .. })), "{stale}");
        assert!(identities.rotate(&id, Rotation::Swap, Some(stale)).is_err());
        assert!(identities.remove(&id, Some(stale)).is_err());
    }
    assert_eq!(identities.require(&id).unwrap(), second, "nothing of what was refused was done");
    for any in [None, Some("*"), Some("\"*\""), Some("")] {
        identities.update(&id, &status(true, ""), any).unwrap();
    }
    identities.remove(&id, Some("\"*\"")).unwrap();
    assert_ne!(identities.ensure(Some("filter")).unwrap().etag(), first.etag(), "made again, it is another");
}

#[test]
fn of_concurrent_changes_with_one_etag_one_is_made() {
    let house = House::new();
    let identities = house.open();
    let etag = identities.ensure(Some("filter")).unwrap().etag();
    let change = |i: usize| {
        let change = status(false, &i.to_string());
        usize::from(identities.update(&module("filter"), &change, Some(&etag)).is_ok())
    };
    let made: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|i| {
                scope.spawn({
                    let change = &change;
                    move || change(i)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(made, 1);
}

#[test]
fn status_has_a_reason_and_a_time_and_is_told() {
    let house = House::new();
    let identities = house.open();
    identities.ensure(Some("filter")).unwrap();
    let (say, heard) = std::sync::mpsc::channel();
    identities.hear(move |identity| say.send(identity.clone()).unwrap());

    let disabled = identities.update(&module("filter"), &status(false, "stolen"), None).unwrap();
    assert_eq!((disabled.is_enabled, disabled.status_reason.as_deref()), (false, Some("stolen")));
    assert!(disabled.status_us.is_some());
    assert_eq!(heard.try_recv(), Ok(module("filter")));

    let enable = IdentityChange { is_enabled: Some(true), ..Default::default() };
    let enabled = identities.update(&module("filter"), &enable, None).unwrap();
    assert_eq!((enabled.is_enabled, &enabled.status_reason), (true, &None), "the reason was that of the other status");
    assert_eq!(heard.try_recv(), Ok(module("filter")));
    identities.rotate(&module("filter"), Rotation::Swap, None).unwrap();
    assert!(heard.try_recv().is_err(), "nothing about its status");
    let own = identities.device().unwrap();
    assert!(matches!(identities.update(&own, &status(false, ""), None), Err(IdentityError::OwnDevice { .. })));
}

#[test]
fn identities_are_added_in_one_commit_or_not_at_all() {
    let house = House::new();
    let identities = house.open();
    let refused = |list: &[NewIdentity]| identities.add(list).map(|_| ()).unwrap_err();

    let (at, why) = refused(&[new("/devices/a"), new("/devices/b/modules/m")]);
    assert!((at, matches!(why, IdentityError::NoDevice { .. })) == (1, true));
    let (at, why) = refused(&[new("/devices/a"), new("/devices/c"), new("/devices/a")]);
    assert!((at, matches!(why, IdentityError::Exists(_))) == (2, true));
    let (at, why) = refused(&[new("/devices/Hannover01")]);
    assert!((at, matches!(why, IdentityError::Exists(_))) == (0, true));
    assert_eq!(identities.list().len(), 1, "nothing of what was refused is there");

    let added = identities.add(&[new("/devices/a"), new("/devices/a/modules/m")]).unwrap();
    assert_eq!(added.len(), 2);
    assert_eq!(identities.of_device(&"/devices/a".parse().unwrap()).len(), 2);
}

#[test]
fn a_device_goes_with_its_modules() {
    let house = House::new();
    let identities = house.open();
    let ids = ["/devices/a", "/devices/a/modules/m", "/devices/a/modules/n", "/devices/ab"];
    identities.add(&ids.map(new)).unwrap();

    let gone = identities.remove(&ids[0].parse().unwrap(), None).unwrap();

    assert_eq!(gone.iter().map(ToString::to_string).collect::<Vec<_>>(), &ids[..3]);
    drop(identities);
    let left: Vec<String> = house.open().list().iter().map(|record| record.identity.to_string()).collect();
    assert_eq!(left, ["/devices/Hannover01", "/devices/ab"]);
}

#[test]
fn ten_thousand_identities_are_made_in_one_commit_and_listed_in_order() {
    let house = House::new();
    let identities = house.open();
    let all: Vec<NewIdentity> = (0..10_000).map(|i| new(&format!("/devices/leaf-{i:05}"))).collect();
    let commits = || identities.0.database.figures().commits.load(std::sync::atomic::Ordering::Relaxed);
    let before = commits();

    identities.add(&all).unwrap();

    assert_eq!(commits(), before + 1);
    let listed = identities.list();
    assert_eq!(listed.len(), 10_001);
    assert!(listed.is_sorted_by_key(|record| record.identity.to_string()));
    let lots: Vec<NewIdentity> = (0..MAX_IDENTITIES).map(|i| new(&format!("/devices/more-{i}"))).collect();
    assert!(matches!(identities.add(&lots), Err((_, IdentityError::Full { .. }))));
}

#[test]
fn another_devices_key_is_refused_and_a_lost_one_is_not_made_again_by_itself() {
    let house = House::new();
    let identities = house.open();
    identities.ensure(Some("filter")).unwrap();
    let before = keys(&identities, &module("filter"));
    let given = IdentityChange { primary: Some(SymmetricKey::random().unwrap()), ..Default::default() };
    identities.update(&module("filter"), &given, None).unwrap();
    drop(identities);
    let file = house.dir.path().join("keys/device.key");

    let other = tempfile::tempdir().unwrap();
    let elsewhere = Database::open(other.path()).unwrap();
    device_key(&elsewhere, other.path(), false).unwrap();
    std::fs::copy(other.path().join("keys/device.key"), &file).unwrap();
    let refused = house.try_open(false).err().unwrap();
    assert!(matches!(refused, IdentityError::KeyFile(KeyFileError::Other { .. })), "{refused}");
    std::fs::remove_file(&file).unwrap();
    let refused = house.try_open(false).err().unwrap();
    assert!(matches!(refused, IdentityError::KeyFile(KeyFileError::Missing { .. })), "{refused}");
    assert!(refused.hint().unwrap().contains("--new-device-key"));

    let identities = house.try_open(true).unwrap();
    let after = keys(&identities, &module("filter"));
    assert!(after[0] != before[0] && after[1] != before[1]);
    drop(identities);
    assert_eq!(keys(&house.open(), &module("filter")), after, "and from then on it is the same");
}

#[test]
fn errors_and_records_show_no_key() {
    let house = House::new();
    let identities = house.open();
    let given = SymmetricKey::random().unwrap();
    let text = given.to_base64();
    let change = IdentityChange { primary: Some(given.clone()), secondary: Some(given), ..Default::default() };
    let shown = format!("{change:?} {:?}", new("/devices/x"));
    let (_, error) = identities.add(&[NewIdentity { identity: module("m"), change }]).map(|_| ()).unwrap_err();
    let said = format!("{shown} {error} {error:?} {:?} {:?}", error.hint(), identities.policy(Role::Owner));
    assert!(!said.contains(&text[..8]), "{said}");
}
