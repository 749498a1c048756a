//! Small C modules, built at test time against a table written out by hand.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A module to build.
pub(super) struct Module {
    descriptor: String,
    /// Fields of the table, as C initialisers of `struct table`.
    table: Vec<(&'static str, String)>,
    /// C before the table.
    code: String,
    /// The table's declaration, from `const` to before `= {`.
    declaration: String,
    /// Member of the declared struct that the fields belong to, with a dot; empty for the struct itself.
    member: String,
}

const HEAD: &str = r#"
#include <stddef.h>
#include <stdint.h>
struct text { const char *ptr; size_t len; };
struct sink { void *ctx; void (*write)(void *ctx, struct text text); };
struct table {
  uint64_t magic; uint32_t abi_major, abi_minor, size, flags; struct text descriptor;
  uint32_t (*create)(const void *args, void **instance, const struct sink *error);
  void (*destroy)(void *instance);
  void *start, *on_message, *on_desired, *on_method, *on_timer, *on_event, *stop;
  uint32_t (*describe)(uint32_t what, const struct sink *out);
  const void *(*extension)(struct text name);
};
static uint32_t create(const void *args, void **instance, const struct sink *error) { *instance = 0; return 0; }
static void destroy(void *instance) {}
"#;

/// A folder that goes away by itself.
pub(super) fn temporary_folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

impl Module {
    pub fn named(name: &str, version: &str) -> Module {
        Module::with_descriptor(&format!(r#"{{"name": "{name}", "version": "{version}"}}"#))
    }

    pub fn with_descriptor(json: &str) -> Module {
        Module {
            descriptor: json.to_owned(),
            table: vec![
                ("magic", "0x014C4941524E4944".into()),
                ("abi_major", "1".into()),
                ("size", "sizeof(struct table)".into()),
                ("create", "create".into()),
                ("destroy", "destroy".into()),
            ],
            code: String::new(),
            declaration: "const struct table DINRAIL_MODULE_V1".into(),
            member: String::new(),
        }
    }

    /// Sets a field of the table.
    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Module {
        self.table.retain(|(field, _)| *field != name);
        self.table.push((name, value.into()));
        self
    }

    /// Adds C before the table.
    pub fn code(mut self, code: &str) -> Module {
        self.code.push_str(code);
        self
    }

    /// Has the fields belong to a member of the declared struct.
    pub fn nested(mut self, member: &str) -> Module {
        self.member = format!(".{member}");
        self
    }

    /// Declares the table otherwise.
    pub fn declaration(mut self, text: &str) -> Module {
        self.declaration = text.to_owned();
        self
    }

    fn source(&self) -> String {
        let quoted = format!("{:?}", self.descriptor);
        let section = match self.descriptor.is_empty() {
            true => String::new(),
            false => {
                format!("__attribute__((section(\".dinrail\"), used)) static const char descriptor[] = {quoted};\n")
            }
        };
        let fields: String =
            self.table.iter().map(|(name, value)| format!("{}.{name} = {value}, ", self.member)).collect();
        format!("{HEAD}{section}{}\n{} = {{ {fields} }};\n", self.code, self.declaration)
    }

    /// Builds it; `None`, with a printed line, where there is no compiler.
    pub fn build(&self) -> Option<Built> {
        self.build_with(&[])
    }

    /// As [`Module::build`], with more arguments.
    pub fn build_with(&self, flags: &[&str]) -> Option<Built> {
        compile(&self.source(), &[&["-shared", "-fPIC"], flags].concat())
    }
}

/// A built library, gone with this value.
pub(super) struct Built {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl std::ops::Deref for Built {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Built {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Compiles C; `None`, with a printed line, where there is no compiler.
pub(super) fn compile(source: &str, flags: &[&str]) -> Option<Built> {
    let folder = temporary_folder();
    let (code, path) = (folder.path().join("module.c"), folder.path().join("built.so"));
    std::fs::write(&code, source).unwrap();
    let output = match Command::new("cc").arg("-o").arg(&path).arg(&code).args(flags).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: no C compiler 'cc' ({error})");
            return None;
        }
    };
    assert!(output.status.success(), "{}\n{source}", String::from_utf8_lossy(&output.stderr));
    Some(Built { path, _folder: folder })
}
