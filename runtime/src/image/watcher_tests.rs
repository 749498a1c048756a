use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use super::*;
use crate::image::Defect;
use crate::image::testing::{Module, temporary_folder};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);

/// Nothing but events makes a file complete.
const EVENTS_ONLY: Timing = Timing { look_gap: NEVER, old_enough: NEVER, unfinished_grace: NEVER, rescan_every: NEVER };

struct Scene {
    folder: tempfile::TempDir,
    events: Receiver<FileEvent>,
    store: Arc<ImageStore>,
    watcher: Option<Watcher>,
}

impl Scene {
    /// A watched folder `drop`, filled by `before` the watcher looks; stands after its first look.
    fn new(timing: Timing, before: impl FnOnce(&Path)) -> Scene {
        let folder = temporary_folder();
        let drop = folder.path().join("drop");
        fs::create_dir(&drop).unwrap();
        before(&drop);
        let store = Arc::new(ImageStore::open(&folder.path().join("images")).unwrap());
        let mut scene = Scene { folder, events: bounded(0).1, store, watcher: None };
        scene.watch(timing);
        scene
    }

    fn watch(&mut self, timing: Timing) {
        let (sender, events) = crossbeam_channel::unbounded();
        let sink = Box::new(move |event| drop(sender.send(event)));
        let folders = vec![WatchedFolder { path: self.drop_folder(), autostart: true }];
        self.watcher = Some(Watcher::spawn_with(folders, self.store.clone(), sink, timing).unwrap());
        self.events = events;
    }

    fn drop_folder(&self) -> PathBuf {
        self.folder.path().join("drop")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.drop_folder().join(name)
    }

    fn next(&self) -> FileEvent {
        self.events.recv_timeout(LIMIT).expect("an event in time")
    }

    fn expect_first_scan(&self) {
        assert_eq!(self.next(), FileEvent::FirstScanDone);
    }

    fn expect_taken(&self, name: &str) -> Box<TakenIn> {
        match self.next() {
            FileEvent::Taken { file, image, autostart: true, .. } if file == self.file(name) => image,
            other => panic!("expected {name} to be taken, got {other:?}"),
        }
    }

    fn expect_refused(&self, name: &str) -> Refusal {
        match self.next() {
            FileEvent::Refused { file, refusal, .. } if file == self.file(name) => refusal,
            other => panic!("expected {name} to be refused, got {other:?}"),
        }
    }

    fn rename_in(&self, from: &Path, name: &str) {
        let beside = self.folder.path().join("beside");
        fs::copy(from, &beside).unwrap();
        fs::rename(beside, self.file(name)).unwrap();
    }
}

#[test]
fn what_lies_there_at_the_start_is_told_before_the_first_scan_is_done() {
    let Some(library) = Module::named("a", "1.0.0").build() else { return };
    let bytes = fs::read(&library).unwrap();
    let timing = Timing { old_enough: Duration::ZERO, unfinished_grace: Duration::ZERO, ..EVENTS_ONLY };
    let scene = Scene::new(timing, |drop| {
        fs::copy(&library, drop.join("a.so")).unwrap();
        fs::write(drop.join("half.so"), &bytes[..bytes.len() / 2]).unwrap();
        fs::write(drop.join("x.so.part"), &bytes).unwrap();
        fs::write(drop.join(".x.so"), &bytes).unwrap();
    });

    let told = [scene.next(), scene.next()];
    scene.expect_first_scan();

    let taken = |event: &FileEvent| matches!(event, FileEvent::Taken { at_start: true, image, .. } if image.is_new);
    let cut =
        |event: &FileEvent| matches!(event, FileEvent::Refused { refusal, .. } if refusal.defect == Defect::Truncated);
    assert!(told.iter().any(taken) && told.iter().any(cut), "{told:?}");
}

#[test]
fn renamed_in_copied_and_overwritten_files_are_taken_by_their_events() {
    let (Some(one), Some(two)) = (Module::named("a", "1.0.0").build(), Module::named("a", "1.1.0").build()) else {
        return;
    };
    let scene = Scene::new(EVENTS_ONLY, |_| {});
    scene.expect_first_scan();

    scene.rename_in(&one, "a.so");
    let first = scene.expect_taken("a.so");
    fs::write(scene.file("b.so"), fs::read(&one).unwrap()).unwrap();
    let copied = scene.expect_taken("b.so");
    fs::write(scene.file("a.so"), fs::read(&two).unwrap()).unwrap();
    let overwritten = scene.expect_taken("a.so");

    assert!(first.is_new && !copied.is_new && overwritten.is_new);
    assert_eq!(first.inspection, copied.inspection);
    assert_eq!(overwritten.inspection.descriptor.version.to_string(), "1.1.0");
    fs::remove_file(scene.file("b.so")).unwrap();
    assert_eq!(scene.next(), FileEvent::Gone { file: scene.file("b.so") });
    assert!(scene.store.verify(&first.inspection.digest).is_ok(), "deleting the file changes nothing in the store");
}

#[test]
fn slow_copy_is_neither_taken_nor_refused_before_it_is_complete() {
    let (Some(slow), Some(other)) = (Module::named("slow", "1.0.0").build(), Module::named("b", "1.0.0").build())
    else {
        return;
    };
    let bytes = fs::read(&slow).unwrap();
    // Looks often and finds anything complete at once, but gives what looks unfinished its time.
    let eager = Duration::from_millis(5);
    let timing = Timing { look_gap: eager, old_enough: Duration::ZERO, unfinished_grace: NEVER, rescan_every: eager };
    let scene = Scene::new(timing, |_| {});
    scene.expect_first_scan();

    let mut file = File::create(scene.file("slow.so")).unwrap();
    for (n, chunk) in bytes.chunks(bytes.len() / 4 + 1).enumerate() {
        file.write_all(chunk).unwrap();
        // What is taken in meanwhile proves that the watcher looked.
        if n < 3 {
            scene.rename_in(&other, &format!("{n}.so"));
            scene.expect_taken(&format!("{n}.so"));
        }
    }
    drop(file);

    assert_eq!(scene.expect_taken("slow.so").inspection.descriptor.name, "slow");
}

#[test]
fn half_copy_that_never_goes_on_is_refused_in_the_end_and_taken_when_it_does() {
    let Some(library) = Module::named("a", "1.0.0").build() else { return };
    let bytes = fs::read(&library).unwrap();
    let soon = Duration::from_millis(20);
    let timing = Timing { look_gap: soon, old_enough: NEVER, unfinished_grace: 2 * soon, rescan_every: soon };
    let scene = Scene::new(timing, |_| {});
    scene.expect_first_scan();

    let mut file = File::create(scene.file("a.so")).unwrap();
    file.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let refusal = scene.expect_refused("a.so");
    file.write_all(&bytes[bytes.len() / 2..]).unwrap();
    drop(file);

    assert_eq!(refusal.defect, Defect::Truncated);
    scene.expect_taken("a.so");
}

#[test]
#[cfg(unix)]
fn hard_link_without_a_close_is_taken_after_two_equal_looks() {
    let Some(library) = Module::named("a", "1.0.0").build() else { return };
    let soon = Duration::from_millis(20);
    let scene = Scene::new(Timing { look_gap: soon, ..EVENTS_ONLY }, |_| {});
    scene.expect_first_scan();
    let beside = scene.folder.path().join("built");
    fs::copy(&library, &beside).unwrap();

    fs::hard_link(&beside, scene.file("a.so")).unwrap();

    scene.expect_taken("a.so");
}

#[test]
fn the_same_state_of_a_file_is_handled_once() {
    let (Some(a), Some(b)) = (Module::named("a", "1.0.0").build(), Module::named("b", "1.0.0").build()) else { return };
    let scene = Scene::new(EVENTS_ONLY, |_| {});
    scene.expect_first_scan();

    fs::write(scene.file("bad.so"), "text\n").unwrap();
    assert_eq!(scene.expect_refused("bad.so").defect, Defect::NotALibrary);
    scene.rename_in(&a, "a.so");
    scene.expect_taken("a.so");
    // Opened for writing and closed without a change: an event, but no new state.
    for name in ["bad.so", "a.so"] {
        drop(File::options().append(true).open(scene.file(name)).unwrap());
    }
    scene.rename_in(&b, "b.so");

    scene.expect_taken("b.so");
    assert!(scene.events.is_empty());
}

#[test]
fn folder_that_is_replaced_is_watched_on() {
    let (Some(a), Some(b)) = (Module::named("a", "1.0.0").build(), Module::named("b", "1.0.0").build()) else { return };
    let scene = Scene::new(EVENTS_ONLY, |_| {});
    scene.expect_first_scan();
    scene.rename_in(&a, "a.so");
    scene.expect_taken("a.so");

    fs::rename(scene.drop_folder(), scene.folder.path().join("old")).unwrap();
    assert!(
        matches!(scene.next(), FileEvent::FolderTrouble { trouble, .. } if trouble.contains("it is watched as soon as"))
    );
    fs::create_dir(scene.drop_folder()).unwrap();
    assert_eq!(scene.next(), FileEvent::FolderBack { folder: scene.drop_folder() });
    assert_eq!(scene.next(), FileEvent::Gone { file: scene.file("a.so") });
    scene.rename_in(&b, "b.so");

    scene.expect_taken("b.so");
}

#[test]
fn missing_folder_is_said_once_and_watched_when_it_appears() {
    let Some(a) = Module::named("a", "1.0.0").build() else { return };
    let scene = Scene::new(EVENTS_ONLY, |drop| fs::remove_dir(drop).unwrap());
    assert!(matches!(scene.next(), FileEvent::FolderTrouble { .. }));
    scene.expect_first_scan();

    fs::create_dir(scene.drop_folder()).unwrap();
    assert_eq!(scene.next(), FileEvent::FolderBack { folder: scene.drop_folder() });
    scene.rename_in(&a, "a.so");

    scene.expect_taken("a.so");
}

#[test]
#[cfg(unix)]
fn link_out_of_the_folder_is_refused_once() {
    let Some(library) = Module::named("a", "1.0.0").build() else { return };
    let soon = Duration::from_millis(5);
    let scene = Scene::new(Timing { look_gap: soon, rescan_every: soon, ..EVENTS_ONLY }, |_| {});
    scene.expect_first_scan();

    std::os::unix::fs::symlink(&*library, scene.file("link.so")).unwrap();
    let refusal = scene.expect_refused("link.so");
    scene.rename_in(&library, "a.so");

    assert!(refusal.what.contains("out of the watched folder"), "{refusal}");
    scene.expect_taken("a.so");
}

#[test]
#[cfg(unix)]
fn trouble_of_the_store_is_said_once_and_tried_again() {
    let Some(library) = Module::named("a", "1.0.0").build() else { return };
    let soon = Duration::from_millis(5);
    let scene = Scene::new(Timing { rescan_every: soon, ..EVENTS_ONLY }, |_| {});
    scene.expect_first_scan();
    let temporary = scene.folder.path().join("images/tmp");
    fs::remove_dir(&temporary).unwrap();
    fs::write(&temporary, "in the way").unwrap();

    scene.rename_in(&library, "a.so");
    let refusal = scene.expect_refused("a.so");
    scene.rename_in(&library, "b.so");
    assert_eq!(scene.expect_refused("b.so"), refusal);
    fs::remove_file(&temporary).unwrap();

    assert_eq!(refusal.defect, Defect::StoreTrouble);
    let taken = [scene.next(), scene.next()];
    assert!(taken.iter().all(|event| matches!(event, FileEvent::Taken { .. })), "{taken:?}");
}

#[test]
fn after_a_restart_known_images_are_told_but_not_copied_again() {
    let Some(library) = Module::named("a", "1.0.0").build() else { return };
    let timing = Timing { old_enough: Duration::ZERO, ..EVENTS_ONLY };
    let mut scene = Scene::new(timing, |drop| drop_copy(&library, drop));
    assert!(scene.expect_taken("a.so").is_new);
    scene.expect_first_scan();
    if let Some(watcher) = scene.watcher.take() {
        watcher.stop();
    }

    scene.watch(timing);

    assert!(!scene.expect_taken("a.so").is_new);
    scene.expect_first_scan();
}

fn drop_copy(library: &Path, folder: &Path) {
    fs::copy(library, folder.join("a.so")).unwrap();
}
