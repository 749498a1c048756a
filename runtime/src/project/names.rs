//! What is called how in a project: the module as its author says, files and crate as file systems and cargo take them.

use super::{Language, ProjectError};
use crate::image::{ImageNameError, check_image_name};
use crate::name::check_id;

/// Crates that are carried: none of them can be the project's own.
const CARRIED: &str = env!("DINRAIL_CARRIED_CRATES");

/// What cargo and Rust use themselves. Source: `cargo new`, the reserved words of the Rust reference.
const RUST: &str = include_str!("../../templates/rust/reserved-words");

/// Names of devices, of which Windows makes no files.
const WINDOWS: &str = "aux com0 com1 com2 com3 com4 com5 com6 com7 com8 com9 con lpt0 lpt1 lpt2 lpt3 lpt4 lpt5 lpt6 lpt7 lpt8 \
    lpt9 nul prn";

/// The names in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    module: String,
    file: String,
    folder: String,
    is_crate: bool,
}

impl Names {
    /// The names in a project for the module `module`.
    ///
    /// # Errors
    /// The name cannot be a module's or an image's, or no route and no manifest could say it.
    pub fn new(module: &str, language: Language) -> Result<Names, ProjectError> {
        check_id(module)?;
        let unusable = |why| ProjectError::Unusable { name: module.to_owned(), why };
        if module.starts_with('$') {
            return Err(unusable("names that begin with '$' are the runtime's own"));
        }
        if module.contains('*') {
            return Err(unusable("in a route, '*' stands for every name"));
        }
        // The library takes its name from the module.
        check_image_name(module).map_err(|why| {
            let stem = if matches!(why, ImageNameError::File(_)) { module.rsplit_once('.') } else { None };
            let fitting = file(stem.map_or(module, |(stem, _)| stem), language);
            ProjectError::NoImageName { why, fitting }
        })?;
        let file = file(module, language);
        let is_plain = module.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !module.ends_with('.')
            && module.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let folder = if is_plain && !is_word(WINDOWS, module) { module.to_owned() } else { file.clone() };
        Ok(Names { module: module.to_owned(), file, folder, is_crate: language == Language::Rust })
    }

    /// The module, as manifests, routes and the runtime call it.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The crate, or the source file without its ending.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The folder of the project.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The library as built on this kind of device.
    pub fn library(&self) -> String {
        use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
        let stem = if self.is_crate { self.file.replace('-', "_") } else { self.file.clone() };
        format!("{DLL_PREFIX}{stem}{DLL_SUFFIX}")
    }

    /// Why something is not called like the module; `None` where all is.
    pub fn note(&self) -> Option<String> {
        let what = if self.is_crate { "crate" } else { "source file" };
        (self.file != self.module).then(|| {
            format!("the module is {}; its {what} is called {}, which can be one's name", self.module, self.file)
        })
    }
}

/// Lower-case letters, digits, `-` and `_`, a letter first, and no word that means something else.
fn file(module: &str, language: Language) -> String {
    let mut file = String::new();
    for c in module.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' | '_' => file.push(c),
            _ if file.ends_with('-') => {}
            _ => file.push('-'),
        }
    }
    let file = file.trim_matches(['-', '_']);
    let is_taken =
        is_word(WINDOWS, file) || (language == Language::Rust && (is_word(RUST, file) || is_word(CARRIED, file)));
    match file.chars().next() {
        None => "module".to_owned(),
        Some(first) if !first.is_ascii_lowercase() => format!("module-{file}"),
        Some(_) if is_taken => format!("{file}-module"),
        Some(_) => file.to_owned(),
    }
}

fn is_word(words: &str, name: &str) -> bool {
    let name = name.replace('_', "-");
    words.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_module_gives_a_crate_and_a_folder() {
        let table = [
            ("hello", "hello", "hello"),
            ("host-metrics", "host-metrics", "host-metrics"),
            ("Hello_World", "hello_world", "Hello_World"),
            ("line.3", "line-3", "line.3"),
            ("line+3", "line-3", "line-3"),
            ("3d", "module-3d", "3d"),
            ("-x-", "x", "x"),
            ("..a", "a", "a"),
            ("?!", "module", "module"),
            ("fn", "fn-module", "fn"),
            ("test", "test-module", "test"),
            ("proc_macro", "proc_macro-module", "proc_macro"),
            ("serde", "serde-module", "serde"),
            ("dinrail-plugin", "dinrail-plugin-module", "dinrail-plugin"),
            ("NUL", "nul-module", "nul-module"),
        ];
        for (module, file, folder) in table {
            let names = Names::new(module, Language::Rust).unwrap();
            assert_eq!((names.module(), names.file(), names.folder()), (module, file, folder));
            assert_eq!(names.note().is_some(), module != file, "{module}");
        }
    }

    #[test]
    fn words_of_rust_are_ordinary_names_in_c() {
        assert_eq!(Names::new("fn", Language::C).unwrap().file(), "fn");
    }

    #[test]
    fn names_that_nothing_could_say_are_refused() {
        for name in ["", "a/b", "a b", "Ü", "..", "$edgeHub", "a*", &"x".repeat(129)] {
            assert!(Names::new(name, Language::Rust).is_err(), "{name}");
        }
    }

    #[test]
    fn names_that_no_image_can_have_are_refused_with_one_that_fits() {
        for (name, fitting) in [("x:y", "x-y"), ("a@b", "a-b"), ("foo.so", "foo"), ("a.b.dll", "a-b"), ("@", "module")]
        {
            for language in [Language::Rust, Language::C, Language::Cpp] {
                let refused = Names::new(name, language).unwrap_err();
                assert!(refused.to_string().contains("cannot be the name of an image"), "{refused}");
                assert_eq!(refused.hint(), format!("{fitting} would do"));
                assert!(Names::new(fitting, language).is_ok(), "{fitting}");
            }
        }
    }
}
