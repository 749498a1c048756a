//! What this device lacks is named before anything is loaded. Real libraries, built here.

use std::path::Path;
use std::process::Command;

use crate::image::testing::{Module, compile, temporary_folder};
use crate::image::{Defect, Platform, inspect, inspect_file, inspect_for};

fn module() -> Module {
    Module::named("m", "1.0.0")
}

/// A library `lib<name>.so` of its own in a folder.
fn library(folder: &Path, name: &str, code: &str, flags: &[&str]) -> Option<()> {
    let built = compile(code, &[&["-shared", "-fPIC"], flags].concat())?;
    std::fs::copy(&built, folder.join(format!("lib{name}.so"))).unwrap();
    Some(())
}

#[test]
fn sound_module_tells_what_it_needs() {
    let code = "#include <stdio.h>\nvoid say(void) { puts(\"\"); }";
    let Some(path) = module().code(code).build() else { return };
    let needs = inspect_file(&path).unwrap().needs;
    let libc = needs.libraries.iter().find(|library| library.name.starts_with("libc.so")).unwrap();
    assert!(libc.found.as_ref().unwrap().is_absolute(), "{needs:?}");
    if cfg!(target_env = "gnu") {
        assert!(needs.glibc.is_some(), "{needs:?}");
    }
    assert_eq!(needs.warnings, Vec::<String>::new());
}

#[test]
fn missing_library_is_named_with_the_next_step() {
    let folder = temporary_folder();
    let Some(()) = library(folder.path(), "plc", "int plc(void) { return 1; }", &["-Wl,-soname,libplc.so.3"]) else {
        return;
    };
    let code = "extern int plc(void); int use(void) { return plc(); }";
    let at = format!("-L{}", folder.path().display());
    for (flags, more) in
        [(&[&*at, "-lplc"][..], ""), (&[&*at, "-lplc", "-Wl,-rpath,$ORIGIN"], "beside the module is not used")]
    {
        let refusal = inspect_file(&module().code(code).build_with(flags).unwrap()).unwrap_err();
        assert_eq!(refusal.defect, Defect::MissingLibrary);
        assert!(refusal.what.starts_with("needs libplc.so.3, which is not on this device"), "{}", refusal.line());
        assert!(refusal.what.contains(more) && refusal.hint.contains("link it statically"), "{}", refusal.line());
        assert!(refusal.defect.may_pass(), "it may be installed later");
    }
    // With a run path where it is, all is well; by its name there too.
    std::fs::rename(folder.path().join("libplc.so"), folder.path().join("libplc.so.3")).unwrap();
    let found = format!("-Wl,-rpath,{}", folder.path().display());
    let direct = folder.path().join("libplc.so.3").display().to_string();
    let path = module().code(code).build_with(&[&direct, &found]).unwrap();
    let needs = inspect_file(&path).unwrap().needs;
    assert_eq!(needs.libraries[0].found.as_deref(), Some(folder.path().join("libplc.so.3").as_path()));
}

#[test]
fn missing_symbol_is_named_with_what_to_link() {
    for (call, says, hint) in [
        ("no_such_thing", "undefined symbol: no_such_thing", "defines no_such_thing"),
        ("modbus_connect", "undefined symbol: modbus_connect", "-lmodbus"),
        ("_ZN5meter4readEv", "meter::read (_ZN5meter4readEv)", "defines meter::read"),
        ("dr_log", "undefined symbol: dr_log", "include it in that file"),
    ] {
        let code = format!("extern void {call}(void); void use(void) {{ {call}(); }}");
        let Some(path) = module().code(&code).build() else { return };
        let refusal = inspect_file(&path).unwrap_err();
        assert_eq!(refusal.defect, Defect::MissingSymbol, "{}", refusal.line());
        assert!(refusal.what.contains(says) && refusal.hint.contains(hint), "{}", refusal.line());
    }
    // One that may be missing is no fault.
    let weak = "extern void perhaps(void) __attribute__((weak)); void use(void) { if (perhaps) perhaps(); }";
    assert!(inspect_file(&module().code(weak).build().unwrap()).is_ok());
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    let folder = temporary_folder();
    for name in ["one", "two"] {
        let code = format!("int {name}(void) {{ return 1; }}");
        let Some(()) = library(folder.path(), name, &code, &[]) else { return };
    }
    let at = format!("-L{}", folder.path().display());
    let code = "extern int one(void), two(void); int use(void) { return one() + two(); }";
    let refusal = inspect_file(&module().code(code).build_with(&[&at, "-lone", "-ltwo"]).unwrap()).unwrap_err();
    assert!(refusal.what.contains("libone.so") && refusal.what.contains("libtwo.so"), "{}", refusal.line());
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn version_that_a_library_of_this_device_lacks_is_named() {
    let folder = temporary_folder();
    let (old, new) = (folder.path().join("old.map"), folder.path().join("new.map"));
    std::fs::write(&old, "PLC_1.0 { plc; };").unwrap();
    std::fs::write(&new, "PLC_1.0 { nothing; }; PLC_1.2 { plc; } PLC_1.0;").unwrap();
    let script = |map: &Path| format!("-Wl,--version-script={}", map.display());
    let code = "int plc(void) { return 1; }";
    let Some(()) = library(folder.path(), "plc", code, &[&script(&new)]) else { return };
    let (at, run) = (format!("-L{}", folder.path().display()), format!("-Wl,-rpath,{}", folder.path().display()));
    let uses = module().code("extern int plc(void); int use(void) { return plc(); }");
    let path = uses.build_with(&[&at, &run, "-lplc"]).unwrap();
    assert!(inspect_file(&path).is_ok());

    library(folder.path(), "plc", code, &[&script(&old)]).unwrap();

    let refusal = inspect_file(&path).unwrap_err();
    assert!(refusal.what.contains("needs PLC_1.2 of libplc.so, this device's has PLC_1.0"), "{}", refusal.line());
}

#[test]
fn other_libc_and_sanitizers_are_named() {
    let folder = temporary_folder();
    let Some(()) =
        library(folder.path(), "fake", "int fake(void) { return 1; }", &["-Wl,-soname,libc.musl-x86_64.so.1"])
    else {
        return;
    };
    let at = format!("-L{}", folder.path().display());
    let code = "extern int fake(void); int use(void) { return fake(); }";
    let path = module().code(code).build_with(&[&at, "-lfake"]).unwrap();
    let gnu = Platform { triple: "x86_64-unknown-linux-gnu".into(), ..Platform::host() };
    let refusal = inspect_for(&gnu, &std::fs::read(&path).unwrap()).unwrap_err();
    assert!(
        refusal.what.starts_with("linked against musl (libc.musl-x86_64.so.1); this runtime uses glibc"),
        "{refusal}"
    );

    let asan = module().code("extern void __asan_init(void); void use(void) { __asan_init(); }").build().unwrap();
    let refusal = inspect_file(&asan).unwrap_err();
    assert!(refusal.what.starts_with("built with AddressSanitizer"), "{refusal}");
    assert!(refusal.hint.contains("without -fsanitize"), "{refusal}");
}

#[test]
fn what_loads_but_had_better_be_changed_is_a_warning() {
    let warned =
        |module: &Module, flags: &[&str]| Some(inspect_file(&module.build_with(flags)?).unwrap().needs.warnings);
    let Some(stack) = warned(&module(), &["-Wl,-z,execstack"]) else { return };
    assert!(stack[0].contains("executable stack") && stack[0].contains("-z noexecstack"), "{stack:?}");
    let tls = module().code("static __thread int n; int *at(void) { return &n; }");
    let tls = warned(&tls, &["-ftls-model=initial-exec"]).unwrap();
    assert!(tls.iter().any(|text| text.contains("static thread-local memory")), "{tls:?}");
    let json = r#"{"name": "m", "version": "1.0.0", "abi": "1.7", "target": "mips-linux"}"#;
    let other = warned(&Module::with_descriptor(json), &[]).unwrap();
    assert!(other[0].contains("says ABI 1.7, its table 1.0") && other[1].contains("for mips-linux"), "{other:?}");
}

#[test]
fn name_that_is_nearly_the_entry_symbol_is_told() {
    let named = |declaration: &str| {
        let built = module().declaration(declaration).build()?;
        Some(inspect_file(&built).unwrap_err())
    };
    for (declaration, says) in [
        ("const struct table dinrail_module_v1", "it exports dinrail_module_v1; the name must be DINRAIL_MODULE_V1"),
        (
            "const struct table _ZN5hello17DINRAIL_MODULE_V1E",
            "hello::DINRAIL_MODULE_V1 (_ZN5hello17DINRAIL_MODULE_V1E), a name of C++",
        ),
        ("const struct table DINRAIL_MODULE_V2", "built for ABI 2, this runtime speaks 1.0"),
        (
            "__attribute__((visibility(\"hidden\"))) const struct table DINRAIL_MODULE_V1",
            "but exports no symbol of that name",
        ),
    ] {
        let Some(refusal) = named(declaration) else { return };
        assert!(refusal.what.contains(says), "{declaration}: {}", refusal.line());
    }
    let only_declared = module()
        .code("extern const struct table DINRAIL_MODULE_V1; const void *use(void) { return &DINRAIL_MODULE_V1; }\n")
        .declaration("const struct table other");
    let refusal = inspect_file(&only_declared.build().unwrap()).unwrap_err();
    assert!(refusal.what.contains("declared but not defined"), "{}", refusal.line());
}

#[test]
fn programs_and_debug_files_are_named_whatever_they_export() {
    let module = module();
    let Some(path) = module.build_with(&["-g"]) else { return };
    let debug = path.with_extension("debug");
    if Command::new("objcopy")
        .arg("--only-keep-debug")
        .arg(&*path)
        .arg(&debug)
        .status()
        .is_ok_and(|done| done.success())
    {
        let refusal = inspect_file(&debug).unwrap_err();
        assert!(refusal.what.contains("only the debug information"), "{}", refusal.line());
    }
    for flags in [&["-pie", "-fPIE"][..], &["-static"], &["-static-pie", "-fPIE"]] {
        let Some(program) = compile("int main(void) { return 0; }", flags) else { return };
        let refusal = inspect(&std::fs::read(&program).unwrap()).unwrap_err();
        assert!(refusal.what.starts_with("an executable"), "{flags:?}: {}", refusal.line());
    }
    let refusal = inspect_file(path.parent().unwrap()).unwrap_err();
    assert!(refusal.what.contains("a directory"), "{}", refusal.line());
}
