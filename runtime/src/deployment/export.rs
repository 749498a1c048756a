//! A manifest as another device can take it: the text of its author, comments and all, with images named so that they are found
//! there too.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Manifest;
use crate::document::{Document, Format, child_path};

/// A manifest to be taken elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// The document as a text.
    pub text: String,
    /// How it is written.
    pub format: Format,
    /// The same as a value.
    pub value: Value,
}

/// `text` with other references to images, by module. `None` where it cannot be read, which a stored manifest can.
pub fn export(text: &str, images: &BTreeMap<String, String>) -> Option<Export> {
    let document = Document::read(text, None).ok()?;
    let mut value = document.value.clone();
    let prefix = if value.get("modulesContent").is_some() { "" } else { "content" };
    let mut places = Vec::new();
    for (module, image) in images {
        let path = format!("modulesContent.$edgeAgent.properties.desired.modules.{module}.settings.image");
        let path = if prefix.is_empty() { path } else { child_path(prefix, &path) };
        if let Some(found) = find_mut(&mut value, &path) {
            *found = image.clone().into();
        }
        places.extend(document.written(&path).map(|place| (place, Value::from(image.clone()).to_string())));
    }
    // From the end, so that places before it stay where they are.
    places.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    let mut edited = document.text().to_owned();
    for (place, image) in places {
        edited.replace_range(place, &image);
    }
    let is_same = Document::read(&edited, None).is_ok_and(|document| document.value == value)
        || images.is_empty()
        || wanted(&edited, images);
    let format = document.format;
    if is_same {
        let value = Document::read(&edited, None).map_or(value, |document| document.value);
        return Some(Export { text: edited, format, value });
    }
    // An alias stands for the image of several modules that are to have different ones, for example.
    let text = serde_json::to_string_pretty(&value).ok()?;
    Some(Export { text, format: Format::Json, value })
}

/// Whether the text names these images.
fn wanted(text: &str, images: &BTreeMap<String, String>) -> bool {
    let Ok(parsed) = Manifest::parse(text) else { return false };
    images.iter().all(|(module, image)| parsed.manifest.modules.get(module).is_some_and(|spec| spec.image == *image))
}

/// The value at a path of keys; keys may have dots themselves.
fn find_mut<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    if path.is_empty() {
        return Some(value);
    }
    let members = value.as_object_mut()?;
    members.iter_mut().find_map(|(key, member)| {
        let rest = path.strip_prefix(key.as_str())?;
        find_mut(member, if rest.is_empty() { rest } else { rest.strip_prefix('.')? })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const YAML: &str = "\
# The line of hall 3
modulesContent:
  $edgeAgent:
    properties.desired:
      schemaVersion: \"1.1\"
      modules:
        a: {type: library, settings: &from {image: ./a.so}} # ours
        b:
          type: library
          settings: *from
    properties.desired.modules.c: {type: library, settings: {image: \"lib/c.so\"}}
  $edgeHub:
    properties.desired.schemaVersion: \"1.1\"
";

    fn images(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(module, image)| ((*module).to_owned(), (*image).to_owned())).collect()
    }

    #[test]
    fn the_text_stays_its_author_s_but_for_the_images() {
        let export = export(YAML, &images(&[("a", "a@sha256:1"), ("b", "a@sha256:1"), ("c", "c@sha256:2")])).unwrap();

        let expected = YAML.replace("./a.so", "\"a@sha256:1\"").replace("\"lib/c.so\"", "\"c@sha256:2\"");
        assert_eq!((export.text, export.format), (expected, Format::Yaml));
        assert_eq!(
            export.value["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["b"]["settings"]["image"],
            "a@sha256:1"
        );
        assert_eq!(super::export(YAML, &BTreeMap::new()).unwrap().text, YAML);
    }

    #[test]
    fn where_an_alias_stands_for_different_images_it_is_written_out() {
        let export = export(YAML, &images(&[("a", "a@sha256:1"), ("b", "b@sha256:1")])).unwrap();

        assert_eq!(export.format, Format::Json);
        let modules = &export.value["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"];
        assert_eq!(
            (&modules["a"]["settings"]["image"], &modules["b"]["settings"]["image"]),
            (&json!("a@sha256:1"), &json!("b@sha256:1"))
        );
        assert_eq!(serde_json::from_str::<Value>(&export.text).unwrap(), export.value);
    }

    #[test]
    fn a_wrapped_manifest_is_exported_too() {
        let text = r#"{"id": "x", "content": {"modulesContent": {"$edgeAgent": {"properties.desired": {"schemaVersion": "1.1",
            "modules": {"a": {"type": "library", "settings": {"image": "./a.so"}}}}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1"}}}}}"#;
        let export = export(text, &images(&[("a", "a@sha256:1")])).unwrap();
        assert_eq!(export.text, text.replace("./a.so", "a@sha256:1"));
    }
}
