use super::*;
use crate::image::{Format, Inspection};

/// An image whose bytes are `seed`.
fn taken(name: &str, version: &str, seed: &str) -> TakenIn {
    let json = format!(r#"{{"name": "{name}", "version": "{version}"}}"#);
    let inspection = Inspection {
        needs: crate::image::Needs::default(),
        descriptor: Descriptor::parse(json.as_bytes()).unwrap(),
        format: Format::Elf,
        arch: "x86_64".to_owned(),
        bytes: 7,
        digest: Digest::of(seed.as_bytes()),
    };
    TakenIn { inspection, is_new: true }
}

fn digest(seed: &str) -> Digest {
    Digest::of(seed.as_bytes())
}

fn catalog(images: &[(&str, &str, &str)]) -> Catalog {
    let mut catalog = Catalog::default();
    for (name, version, seed) in images {
        catalog.arrive(None, &taken(name, version, seed), false, 0);
    }
    catalog
}

fn resolve(catalog: &Catalog, reference: &str) -> Resolution {
    catalog.resolve(&reference.parse().unwrap(), None, &[])
}

#[test]
fn moving_reference_follows_the_highest_version_and_then_the_latest_bytes() {
    let catalog = catalog(&[
        ("f", "1.2.0", "old"),
        ("f", "1.10.0", "first build"),
        ("f", "1.10.0", "rebuild"),
        ("f", "2.0.0-rc.1", "candidate"),
        ("f", "1.9.9", "late but older"),
        ("g", "9.0.0", "other name"),
    ]);
    for (reference, means) in [
        ("f", "candidate"),
        ("f:2", "candidate"),
        ("f:2.0", "candidate"),
        ("f:1", "rebuild"),
        ("f:1.10", "rebuild"),
        ("f:1.2", "old"),
        ("f:1.10.0", "rebuild"),
        ("f:2.0.0-rc.1", "candidate"),
        (&format!("f@{}", digest("first build")), "first build"),
    ] {
        assert_eq!(resolve(&catalog, reference), Resolution::Found(digest(means)), "{reference}");
    }
}

#[test]
fn release_is_preferred_to_its_candidates_and_build_metadata_does_not_count() {
    let catalog =
        catalog(&[("f", "1.0.0+b9", "release"), ("f", "1.0.0+b1", "later"), ("f", "1.0.0-rc.2", "candidate")]);

    assert_eq!(resolve(&catalog, "f"), Resolution::Found(digest("later")));
    assert_eq!(resolve(&catalog, "f:1.0.0"), Resolution::Found(digest("later")));
    assert_eq!(resolve(&catalog, "f:1.0.0+b9"), Resolution::Found(digest("release")));
}

#[test]
fn full_version_stays_on_the_bytes_it_first_found() {
    let catalog = catalog(&[("f", "1.0.0", "first"), ("f", "1.0.0", "rebuild")]);
    let first = Some(digest("first"));

    assert_eq!(catalog.resolve(&"f:1.0.0".parse().unwrap(), first, &[]), Resolution::Found(digest("first")));
    assert_eq!(catalog.resolve(&"f:1.0".parse().unwrap(), first, &[]), Resolution::Found(digest("rebuild")));
    assert_eq!(catalog.resolve(&"f:1.0.0".parse().unwrap(), None, &[]), Resolution::Found(digest("rebuild")));
}

#[test]
fn full_version_takes_a_rebuild_when_its_first_bytes_are_gone() {
    let mut catalog = catalog(&[("f", "1.0.0", "first"), ("f", "1.0.0", "rebuild")]);
    catalog.remove(&digest("first"));

    let now = catalog.resolve(&"f:1.0.0".parse().unwrap(), Some(digest("first")), &[]);

    assert_eq!(now, Resolution::Found(digest("rebuild")));
}

#[test]
fn barred_image_is_passed_over_but_not_for_a_pin() {
    let catalog = catalog(&[("f", "1.0.0", "good"), ("f", "1.1.0", "bad")]);
    let bad = digest("bad");

    assert_eq!(catalog.resolve(&"f".parse().unwrap(), None, &[bad]), Resolution::Found(digest("good")));
    assert_eq!(catalog.resolve(&"f:1.1".parse().unwrap(), None, &[bad]), Resolution::Barred(bad));
    assert_eq!(catalog.resolve(&"f:1.1.0".parse().unwrap(), Some(bad), &[bad]), Resolution::Barred(bad));
    assert_eq!(catalog.resolve(&format!("f@{bad}").parse().unwrap(), None, &[bad]), Resolution::Found(bad));
}

#[test]
fn quarantined_image_is_passed_over_and_named_when_there_is_no_other() {
    let mut catalog = catalog(&[("f", "1.0.0", "good"), ("f", "1.1.0", "bad")]);
    assert!(catalog.judge(&digest("bad"), Verdict::Quarantined { reason: "create panicked".into() }));

    assert_eq!(resolve(&catalog, "f"), Resolution::Found(digest("good")));
    let only = resolve(&catalog, "f:1.1");
    assert_eq!(only, Resolution::Quarantined { digest: digest("bad"), reason: "create panicked".into() });
    assert_eq!(catalog.explain(&digest("bad"), &[], |_| None), "1.1.0 quarantined: create panicked");
    assert_eq!(catalog.explain(&digest("good"), &[], |_| None), "1.0.0 admitted, unused: no instance asks for it");
}

#[test]
fn what_is_not_found_is_answered_with_what_there_is() {
    let catalog = catalog(&[("filter", "1.0.0", "a"), ("filter", "1.2.0", "b"), ("host-metrics", "1.0.0", "c")]);
    for (reference, says) in [
        ("fitler", "did you mean filter?"),
        ("host", "did you mean host-metrics?"),
        ("modbus", "no image 'modbus' here; copy its library"),
        ("filter:2", "of filter there is 1.2.0, 1.0.0"),
        ("./x.so", "no image was added from ./x.so"),
    ] {
        let Resolution::NotFound { reason } = resolve(&catalog, reference) else { panic!("{reference} was found") };
        assert!(reason.contains(says), "{reference}: {reason}");
    }
    let pin = format!("filter@{}", digest("zzz"));
    let Resolution::NotFound { reason } = resolve(&catalog, &pin) else { panic!("{pin} was found") };
    assert!(reason.contains(&digest("a").short()), "{reason}");
}

#[test]
fn image_list_says_why_an_image_is_not_used() {
    let catalog =
        catalog(&[("f", "1.2.0", "build"), ("f", "1.2.0", "rebuild"), ("f", "1.1.0", "old"), ("g", "1.0.0", "g")]);
    let explain = |seed| catalog.explain(&digest(seed), &[], |_| None);

    assert_eq!(explain("old"), "1.1.0 admitted, unused: 1.2.0 is newer");
    assert_eq!(explain("build"), "1.2.0 admitted, unused: a rebuild of the same version arrived later");
    assert_eq!(explain("g"), "1.0.0 admitted, unused: no instance asks for it");
    assert_eq!(catalog.explain(&digest("g"), &["a".into(), "b".into()], |_| None), "used by a, b");
}

#[test]
fn old_bytes_copied_back_arrive_again_but_a_restart_moves_nothing() {
    let file = Path::new("/drop/f.so");
    let mut catalog = Catalog::default();
    let (a, b) = (taken("f", "1.0.0", "a"), taken("f", "1.0.0", "b"));
    assert_eq!(catalog.arrive(Some(file), &a, false, 1), Arrival::New);
    assert_eq!(catalog.arrive(Some(file), &b, false, 2), Arrival::New);
    assert_eq!(catalog.arrive(Some(file), &a, false, 3), Arrival::Again);
    assert_eq!(catalog.arrive(Some(file), &a, false, 4), Arrival::Known);
    assert_eq!(resolve(&catalog, "f"), Resolution::Found(digest("a")));

    let rows: Vec<ImageRecord> = catalog.images().into_iter().cloned().collect();
    let mut again = Catalog::new(rows.iter().rev().cloned());
    assert_eq!(again.arrive(Some(Path::new("/drop/copy-of-b.so")), &b, true, 5), Arrival::Known);
    assert_eq!(again.arrive(Some(file), &a, true, 5), Arrival::Known);
    assert_eq!(resolve(&again, "f"), Resolution::Found(digest("a")));
    assert_eq!(again.arrive(Some(file), &b, true, 6), Arrival::Again, "replaced while the runtime was off");
    assert_eq!(resolve(&again, "f"), Resolution::Found(digest("b")));
}

#[test]
fn refused_files_are_kept_once_each_bounded_and_cleared_by_success() {
    let mut catalog = Catalog::default();
    let refusal = |what: &str| Refusal::new(crate::image::Defect::Empty, what, "copy it again");
    for n in 0..MAX_REFUSED + 5 {
        catalog.refuse(Path::new(&format!("/drop/{n}.so")), refusal("first"), 0);
    }
    let last = PathBuf::from(format!("/drop/{}.so", MAX_REFUSED + 4));
    catalog.refuse(&last, refusal("second"), 1);
    assert_eq!(catalog.refused().count(), MAX_REFUSED);
    assert_eq!(catalog.refused().last().unwrap().refusal.what, "second");

    catalog.arrive(Some(&last), &taken("f", "1.0.0", "a"), false, 2);
    catalog.forget_file(Path::new("/drop/50.so"));
    assert!(catalog.forget_upload("/drop/51.so").is_none(), "it lies there");
    catalog.refuse(Path::new("51.so"), refusal("sent"), 2);
    assert_eq!(catalog.forget_upload("51.so").unwrap().source.as_deref(), Some("51.so"));
    assert!(catalog.forget_upload("51.so").is_none());

    assert_eq!(catalog.refused().count(), MAX_REFUSED - 2);
}

#[test]
fn path_means_the_image_that_came_from_it_last() {
    let mut catalog = Catalog::default();
    catalog.arrive(Some(Path::new("/m/f.so")), &taken("f", "2.0.0", "old"), false, 1);
    catalog.arrive(Some(Path::new("/m/f.so")), &taken("f", "2.0.0", "new"), false, 2);

    assert_eq!(resolve(&catalog, "/m/f.so"), Resolution::Found(digest("new")));
}

#[test]
fn image_list_shows_images_and_refused_files() {
    let mut catalog = catalog(&[("f", "1.0.0", "a"), ("f", "1.1.0", "b")]);
    catalog.refuse(Path::new("/drop/x.so"), Refusal::new(crate::image::Defect::Empty, "is empty", "copy it again"), 0);
    let used_by = |used: &Digest| if *used == digest("b") { vec!["filter".to_owned()] } else { Vec::new() };

    let lines: Vec<(String, String)> =
        catalog.views(used_by, |_| None).into_iter().map(|view| (view.verdict, view.reason)).collect();

    let expected = [
        ("admitted", "used by filter"),
        ("admitted", "1.0.0 admitted, unused: 1.1.0 is newer"),
        ("refused", "is empty: copy it again"),
    ];
    assert_eq!(lines, expected.map(|(verdict, reason)| (verdict.to_owned(), reason.to_owned())));
}
