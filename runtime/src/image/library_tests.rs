use super::*;
use crate::image::testing::{Module, temporary_folder};

/// Takes the module in and loads it; `None` where there is no compiler.
fn load(module: &Module) -> Option<Result<Arc<Library>, LoadError>> {
    let built = module.build()?;
    let folder = temporary_folder();
    let store = ImageStore::open(folder.path()).unwrap();
    let digest = store.take_in(&built).unwrap().inspection.digest;
    Some(Library::load(&store, &digest))
}

fn module(name: &str) -> Module {
    Module::named(name, "1.0.0")
}

#[test]
fn table_of_a_sound_module_is_at_hand_and_loaded_once() {
    let Some(built) = module("sound").build() else { return };
    let folder = temporary_folder();
    let store = ImageStore::open(folder.path()).unwrap();
    let digest = store.take_in(&built).unwrap().inspection.digest;

    let library = Library::load(&store, &digest).unwrap();
    let again = Library::load(&store, &digest).unwrap();

    assert!(Arc::ptr_eq(&library, &again));
    assert_eq!((library.digest(), library.folder()), (&digest, &*store.folder(&digest)));
    assert_eq!(library.abi(), AbiVersion::RUNTIME);
    assert!(library.table().start.is_none() && library.table().extension.is_none());
    assert_eq!((library.schema(), library.defaults()), (Ok(None), Ok(None)));
}

#[test]
fn what_an_older_module_does_not_have_is_none() {
    let old = module("old").field("size", MIN_TABLE_BYTES.to_string()).field("start", "(void *)0x1234");
    let Some(library) = load(&old) else { return };

    assert!(library.unwrap().table().start.is_none());
}

#[test]
fn what_a_newer_module_has_more_is_left_alone() {
    let newer = module("newer")
        .code("struct longer { struct table known; void *more[4]; };\n")
        .declaration("const struct longer DINRAIL_MODULE_V1")
        .field("size", "sizeof(struct longer)")
        .field("abi_minor", "7");
    // The fields of `struct table` are those of the first member.
    let newer = newer.nested("known");
    let Some(library) = load(&newer) else { return };

    let library = library.unwrap();
    assert_eq!(library.abi().minor, 7);
    assert!(library.table().size as usize > size_of::<DrModule>());
}

#[test]
fn schema_and_defaults_are_put_together_from_what_the_module_writes() {
    let describing = module("describing")
        .code(
            r#"static uint32_t describe(uint32_t what, const struct sink *out) {
                 if (what != 1) return 10;
                 out->write(out->ctx, (struct text){ "{\"type\":", 8 });
                 out->write(out->ctx, (struct text){ "\"object\"}", 9 });
                 return 0;
               }"#,
        )
        .field("describe", "describe");
    let Some(library) = load(&describing) else { return };

    let library = library.unwrap();

    assert_eq!(library.schema(), Ok(Some(r#"{"type":"object"}"#.to_owned())));
    assert_eq!(library.defaults(), Err(DescribeError::Status(10)));
}

#[test]
fn endless_description_is_cut_and_refused() {
    let endless = module("endless")
        .code(
            r#"static const char zeros[4096];
               static uint32_t describe(uint32_t what, const struct sink *out) {
                 for (int n = 0; n < 2000; n++) out->write(out->ctx, (struct text){ zeros, sizeof zeros });
                 return 0;
               }"#,
        )
        .field("describe", "describe");
    let Some(library) = load(&endless) else { return };

    assert_eq!(library.unwrap().schema(), Err(DescribeError::Text("more than 1 MiB")));
}

#[test]
fn module_without_create_or_destroy_is_refused() {
    for field in ["create", "destroy"] {
        let Some(loaded) = load(&module(&format!("no-{field}")).field(field, "0")) else { return };
        assert!(matches!(loaded, Err(LoadError::NoFunction(name)) if name == field), "{loaded:?}");
    }
}

#[test]
fn altered_copy_is_not_loaded() {
    let Some(built) = module("altered").build() else { return };
    let folder = temporary_folder();
    let store = ImageStore::open(folder.path()).unwrap();
    let digest = store.take_in(&built).unwrap().inspection.digest;
    std::fs::remove_file(store.library_path(&digest)).unwrap();
    std::fs::write(store.library_path(&digest), "something else").unwrap();

    assert!(matches!(Library::load(&store, &digest), Err(LoadError::Store(StoreError::Altered { .. }))));
    store.remove(&digest).unwrap();
    assert!(matches!(Library::load(&store, &digest), Err(LoadError::Store(StoreError::Missing(_)))));
}

#[test]
fn loader_errors_are_told_with_cause_and_next_step() {
    for (said, cause, hint) in [
        ("/s/m.so: undefined symbol: f, version V_1", "undefined symbol: f, version V_1", "that defines f"),
        (
            "/lib/libc.so.6: version `GLIBC_2.99' not found (required by /s/m.so)",
            "/lib/libc.so.6: version `GLIBC_2.99' not found",
            "not newer than this device",
        ),
        (
            "libx.so.1: cannot open shared object file: No such file or directory",
            "libx.so.1: cannot open shared object file: No such file or directory",
            "install libx.so.1",
        ),
        ("/s/m.so: failed to map segment from shared object", "failed to map segment from shared object", "noexec"),
        ("/s/m.so: cannot allocate memory in static TLS block", "cannot allocate memory in static TLS block", "-fPIC"),
        ("anything", "anything", "rebuild"),
    ] {
        let found = cause_and_hint(said, "/s/m.so");
        assert_eq!(found.0, cause);
        assert!(found.1.contains(hint), "{said}: {}", found.1);
    }
}

#[test]
fn libraries_may_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Library>();
    shared::<ImageStore>();
    shared::<crate::image::Watcher>();
    shared::<crate::image::Catalog>();
}
