//! Writing a project: all of it, or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{ProjectError, carried};

/// Makes `folder` with these files and the carried parts. Says how many files were carried.
///
/// It is made beside its place and moved there when it is complete.
pub fn whole(folder: &Path, files: &[(String, String)], parts: &[&str]) -> Result<usize, ProjectError> {
    let unwritable = |source| ProjectError::Unwritable { folder: folder.to_owned(), source };
    check_is_free(folder)?;
    let unfinished = Unfinished::beside(folder).map_err(unwritable)?;
    let carried_files = fill(&unfinished.0, files, parts).map_err(unwritable)?;
    if folder.is_dir() {
        // It was empty, and is still, or else it is not removed.
        fs::remove_dir(folder).map_err(unwritable)?;
    }
    fs::rename(&unfinished.0, folder).map_err(unwritable)?;
    Ok(carried_files)
}

fn check_is_free(folder: &Path) -> Result<(), ProjectError> {
    let is_free = match fs::symlink_metadata(folder) {
        Ok(found) if found.is_dir() => fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()),
        Ok(_) => false,
        // Why it cannot be seen, writing will say.
        Err(_) => true,
    };
    if is_free { Ok(()) } else { Err(ProjectError::Exists(folder.to_owned())) }
}

fn fill(folder: &Path, files: &[(String, String)], parts: &[&str]) -> io::Result<usize> {
    for (path, text) in files {
        let place = folder.join(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(place, text)?;
    }
    carried::unpack(parts, &folder.join(carried::FOLDER))
}

/// A folder that is removed again unless it was moved to its place.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(folder: &Path) -> io::Result<Unfinished> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let own = folder.with_file_name(format!(".{name}.unfinished-{}", std::process::id()));
        fs::create_dir(&own)?;
        Ok(Unfinished(own))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is not there any more when all went well; where it cannot be removed, the failure that led here is what counts.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The folder of plugin-api at `folder`, or in it where that is a clone of dinrail: absolute, so that it holds from anywhere.
pub fn plugin_api_at(folder: &Path) -> Result<PathBuf, ProjectError> {
    let no = |why: String| ProjectError::NoPluginApi { folder: folder.to_owned(), why };
    let absolute = std::path::absolute(folder).map_err(|error| no(error.to_string()))?;
    let places = [absolute.join("plugin-api"), absolute];
    let is_it = |place: &&PathBuf| {
        let text = fs::read_to_string(place.join("Cargo.toml")).unwrap_or_default();
        let manifest: toml::Table = toml::from_str(&text).unwrap_or_default();
        manifest.get("package").and_then(|package| package.get("name")?.as_str()) == Some("dinrail-plugin")
    };
    let found = places.iter().find(is_it).cloned();
    found.ok_or_else(|| no("there is no Cargo.toml of the crate dinrail-plugin".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[(&str, &str)] = &[("a/b.txt", "text")];

    fn files() -> Vec<(String, String)> {
        FILES.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn empty_folder_is_filled_and_any_other_thing_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("hello");
        fs::create_dir(&folder).unwrap();

        whole(&folder, &files(), &[]).unwrap();
        assert_eq!(fs::read_to_string(folder.join("a/b.txt")).unwrap(), "text");

        fs::write(folder.join("a/b.txt"), "mine").unwrap();
        assert!(matches!(whole(&folder, &files(), &[]), Err(ProjectError::Exists(_))));
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(whole(&file, &files(), &[]), Err(ProjectError::Exists(_))));
        assert_eq!(fs::read_to_string(folder.join("a/b.txt")).unwrap(), "mine");
        assert_eq!(entries(place.path()), 2);
    }

    #[test]
    fn nothing_is_left_of_what_could_not_be_made_whole() {
        let place = tempfile::tempdir().unwrap();
        let files = [("a".to_owned(), String::new()), ("a/b".to_owned(), String::new())];

        let failed = whole(&place.path().join("hello"), &files, &[]);

        assert!(matches!(failed, Err(ProjectError::Unwritable { .. })));
        assert_eq!(entries(place.path()), 0);
    }
}
