//! The files of a project, out of the templates in `runtime/templates`. Pure.

use std::path::Path;

use super::{Crates, Language, Names};

/// Path in the project and template.
type Template = (&'static str, &'static str);

macro_rules! template {
    ($file:literal) => {
        include_str!(concat!("../../templates/", $file))
    };
}

const RUST: &[Template] = &[
    ("Cargo.toml", template!("rust/Cargo.toml")),
    ("src/lib.rs", template!("rust/lib.rs")),
    ("deployment.json", template!("deployment.json")),
    ("README.md", template!("rust/README.md")),
    (".gitignore", template!("rust/gitignore")),
];

/// What projects in C and C++ have in common.
const NATIVE: &[Template] = &[
    ("include/dinrail_module.h", include_str!("../../../plugin-api/include/dinrail_module.h")),
    ("Makefile", template!("native/Makefile")),
    ("test.sh", template!("native/test.sh")),
    ("test.expected", template!("native/test.expected")),
    ("deployment.json", template!("deployment.json")),
    ("README.md", template!("native/README.md")),
    (".gitignore", template!("native/gitignore")),
];

/// Makes a project build from what lies beside it.
const CARGO_CONFIG: Template = (".cargo/config.toml", template!("rust/config.toml"));

/// The author's files, by their paths in the project.
pub fn files(names: &Names, language: Language, crates: &Crates) -> Vec<(String, String)> {
    let words = words(names, language, crates);
    let own = |templates: &[Template]| templates.iter().map(|(path, text)| ((*path).to_owned(), *text)).collect();
    let mut templates: Vec<(String, &str)> = match language {
        Language::Rust => own(RUST),
        Language::C | Language::Cpp => own(NATIVE),
    };
    match language {
        Language::Rust if *crates == Crates::Carried => templates.extend(own(&[CARGO_CONFIG])),
        Language::Rust => {}
        Language::C => templates.insert(0, (source(names, language), template!("native/module.c"))),
        Language::Cpp => templates.insert(0, (source(names, language), template!("native/module.cpp"))),
    }
    templates.into_iter().map(|(path, template)| (path, filled(template, &words))).collect()
}

/// Where the module itself stands.
fn source(names: &Names, language: Language) -> String {
    match language {
        Language::Rust => "src/lib.rs".to_owned(),
        Language::C => format!("{}.c", names.file()),
        Language::Cpp => format!("{}.cpp", names.file()),
    }
}

/// The commands that build, test and try it, one after the other.
pub fn next_steps(names: &Names, language: Language, drop: &Path) -> Vec<String> {
    let folder = shell_word(names.folder());
    let module = shell_word(names.module());
    let build: Vec<String> = match language {
        Language::Rust => vec![
            "cargo test".into(),
            "cargo build --release".into(),
            format!("cp target/release/{} {}", names.library(), shell_word(&drop.to_string_lossy())),
        ],
        Language::C | Language::Cpp => vec!["make".into(), "make test".into(), "make drop".into()],
    };
    let steps = [format!("cd {folder}")].into_iter().chain(build);
    steps.chain([format!("dinrail wait {module}")]).collect()
}

/// What stands for each word in `{{…}}`.
fn words(names: &Names, language: Language, crates: &Crates) -> Vec<(&'static str, String)> {
    let export = if names.module() == names.file() {
        "export_module!(Alarm);".to_owned()
    } else {
        format!("export_module!(Alarm, name: \"{}\");", names.module())
    };
    let plugin_api = match crates {
        Crates::Checkout(folder) => folder.to_string_lossy().into_owned(),
        Crates::Carried | Crates::Registry => ".dinrail/plugin-api".to_owned(),
    };
    let image = match language {
        Language::Rust => format!("./target/release/{}", names.library()),
        Language::C | Language::Cpp => format!("./{}", names.library()),
    };
    let (language_name, compiler, flags, standard) = match language {
        Language::Rust => ("Rust", "", "", ""),
        Language::C => ("C", "CC", "CFLAGS", "c99"),
        Language::Cpp => ("C++", "CXX", "CXXFLAGS", "c++17"),
    };
    vec![
        ("language", language_name.to_owned()),
        ("compiler", compiler.to_owned()),
        ("flags", flags.to_owned()),
        ("standard", standard.to_owned()),
        ("source", source(names, language)),
        ("module", names.module().to_owned()),
        ("module_word", shell_word(names.module())),
        ("file", names.file().to_owned()),
        ("library", names.library()),
        ("image", image),
        ("export", export),
        // A string of JSON is one of TOML.
        ("plugin_api", serde_json::Value::from(plugin_api).to_string()),
    ]
}

fn filled(template: &str, words: &[(&'static str, String)]) -> String {
    words.iter().fold(template.to_owned(), |text, (word, meaning)| text.replace(&format!("{{{{{word}}}}}"), meaning))
}

/// As a shell takes it for one word.
fn shell_word(text: &str) -> String {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:+,@%\\".contains(&b));
    if is_plain && !text.is_empty() { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::Manifest;

    const LANGUAGES: [Language; 3] = [Language::Rust, Language::C, Language::Cpp];

    fn text<'a>(files: &'a [(String, String)], path: &str) -> &'a str {
        &files.iter().find(|(found, _)| found == path).unwrap_or_else(|| panic!("{path}: {files:?}")).1
    }

    #[test]
    fn every_word_of_the_templates_has_a_meaning() {
        for language in LANGUAGES {
            let names = Names::new("line+3", language).unwrap();
            for (path, text) in files(&names, language, &Crates::Carried) {
                // The header is copied as it is; "}}" alone ends two blocks of C++.
                let is_filled = !text.contains("{{");
                assert!(is_filled || path == "include/dinrail_module.h", "{path}: {text}");
                assert!(text.ends_with('\n'), "{path}");
            }
        }
    }

    #[test]
    fn manifest_is_accepted_whatever_the_module_is_called() {
        for name in ["hello", "line+3", "a.b+c%d_e#f?g!h(i),j=k;m'n"] {
            let names = Names::new(name, Language::Rust).unwrap();
            let files = files(&names, Language::Rust, &Crates::Carried);
            let parsed = Manifest::parse(text(&files, "deployment.json"));
            assert!(parsed.is_ok(), "{name}: {parsed:?}");
        }
    }

    #[test]
    fn crates_come_from_where_they_are_wanted_from() {
        let names = Names::new("hello", Language::Rust).unwrap();
        let of = |crates| files(&names, Language::Rust, &crates);
        let is_offline = |files: &[(String, String)]| files.iter().any(|(path, _)| path == ".cargo/config.toml");

        let carried = of(Crates::Carried);
        assert!(is_offline(&carried) && text(&carried, "Cargo.toml").contains("path = \".dinrail/plugin-api\""));
        let registry = of(Crates::Registry);
        assert!(!is_offline(&registry) && text(&registry, "Cargo.toml").contains("path = \".dinrail/plugin-api\""));
        let checkout = of(Crates::Checkout("/a b/plugin-api".into()));
        assert!(!is_offline(&checkout) && text(&checkout, "Cargo.toml").contains("path = \"/a b/plugin-api\""));
    }

    #[test]
    fn commands_survive_the_shell() {
        assert_eq!(shell_word("line-3"), "line-3");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("a;b c"), "'a;b c'");
    }
}
