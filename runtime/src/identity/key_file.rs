//! The file of the device's master key: made at the first start, read at every other, refused where it cannot be trusted.
//!
//! One line: the form, the key and a check over it in base64. Whoever copies the state directory copies the device.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::credential::{KeyError, MasterKey, SymmetricKey};

/// Folder of the keys in the state directory.
const FOLDER: &str = "keys";
const FILE: &str = "device.key";
const FORM: &str = "dinrail-device-key-1";
const KEY_BYTES: usize = 32;
/// Longer than any sound file.
const MAX_FILE_BYTES: u64 = 1024;

/// Why the device's key cannot be had. The texts hold nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Cannot be read or written.
    #[error("the device's key {} cannot be used: {source}", file.display())]
    Unusable {
        /// It, or its folder.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error("the device's key {} can be read by others: its mode is {mode:04o}", file.display())]
    Open {
        /// It.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a key, or not a whole one.
    #[error("the device's key {} is damaged: {what}", file.display())]
    Damaged {
        /// It.
        file: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The registry has keys that came from one.
    #[error("the device's key {} is missing, and the keys of this device's identities were derived from it", file.display())]
    Missing {
        /// Where it was.
        file: PathBuf,
    },
    /// It is not the one that the registry was made with.
    #[error("the device's key {} is that of another state directory", file.display())]
    Other {
        /// It.
        file: PathBuf,
    },
    /// None can be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl KeyFileError {
    /// What a person does next.
    pub fn hint(&self) -> String {
        match self {
            KeyFileError::Unusable { .. } => {
                "make it and its folder readable and writable for this user alone".to_owned()
            }
            KeyFileError::Open { file, .. } => format!(
                "chmod 600 {file}; if others may have read it, stop, move it aside and see the hint for a missing one",
                file = file.display()
            ),
            KeyFileError::Damaged { file, .. } | KeyFileError::Missing { file } | KeyFileError::Other { file } => {
                format!(
                    "bring it back from a copy of the state directory. Without one: start with --new-device-key (or move {} aside \
                 first), which gives every identity new keys; clients with the old ones are refused, and secrets and keys that \
                 were given have to be given again",
                    file.display()
                )
            }
            KeyFileError::Key(error) => error.hint().to_owned(),
        }
    }
}

/// Reads the key of the state directory `state`; makes it where there is none and `may_make` allows it.
pub(super) fn open(state: &Path, may_make: bool) -> Result<MasterKey, KeyFileError> {
    let folder = state.join(FOLDER);
    let file = folder.join(FILE);
    match File::open(&file) {
        Ok(found) => read(found, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => make(&folder, &file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(KeyFileError::Missing { file }),
        Err(source) => Err(KeyFileError::Unusable { file, source }),
    }
}

/// Sets the key aside, if there is one, so that a new one is made. Gives notes for a person.
pub(super) fn set_aside(state: &Path) -> Result<Vec<String>, KeyFileError> {
    let file = path(state);
    let aside = (1..).map(|number| file.with_file_name(format!("{FILE}.old-{number}"))).find(|aside| !aside.exists());
    let Some(aside) = aside else { return Ok(Vec::new()) };
    match fs::rename(&file, &aside) {
        Ok(()) => Ok(vec![format!(
            "this device has a new key: every identity has new keys, and keys and secrets that were given are to be given \
             again; the key before is {}: delete it when nothing needs it any more",
            aside.display()
        )]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![
            "this device has a new key: every identity has new keys, and keys and secrets that were given are to be \
                     given again"
                .to_owned(),
        ]),
        Err(source) => Err(KeyFileError::Unusable { file, source }),
    }
}

/// Where the key of `state` is.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join(FOLDER).join(FILE)
}

fn read(found: File, file: PathBuf) -> Result<MasterKey, KeyFileError> {
    check_mode(&found, &file)?;
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES as usize));
    match found.take(MAX_FILE_BYTES).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(KeyFileError::Damaged { file, what: "it is not text" });
        }
        Err(source) => return Err(KeyFileError::Unusable { file, source }),
    }
    parse(&text).map(MasterKey::new).map_err(|what| KeyFileError::Damaged { file, what })
}

fn parse(text: &str) -> Result<SymmetricKey, &'static str> {
    if text.trim().is_empty() {
        return Err("it is empty");
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let [FORM, key, check] = words[..] else { return Err("it does not hold a key in a form that is known here") };
    let decoded = |word: &str| STANDARD.decode(word).map_err(|_| "what it holds is not base64");
    let key = SymmetricKey::from_bytes(decoded(key)?);
    if key.bytes().len() != KEY_BYTES || decoded(check)? != check_of(&key) {
        return Err("its check does not fit its key");
    }
    Ok(key)
}

fn check_of(key: &SymmetricKey) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&key.sign(FORM.as_bytes())[..8]);
    check
}

/// Makes a key and has it on disk before anybody uses it.
fn make(folder: &Path, file: &Path) -> Result<MasterKey, KeyFileError> {
    let trouble = |source| KeyFileError::Unusable { file: file.to_owned(), source };
    let master = MasterKey::random()?;
    make_folder(folder).map_err(trouble)?;
    let key = master.symmetric();
    let line = Zeroizing::new(format!("{FORM} {} {}\n", *key.to_base64(), STANDARD.encode(check_of(key))));
    let half = folder.join("device.key.new");
    // Left by a start that was cut off: nothing was derived from it.
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(trouble(error)),
        _ => {}
    }
    let mut create = OpenOptions::new();
    create.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut create, 0o600);
    let mut written = create.open(&half).map_err(trouble)?;
    written.write_all(line.as_bytes()).and_then(|()| written.sync_all()).map_err(trouble)?;
    fs::rename(&half, file).map_err(trouble)?;
    sync_folder(folder).map_err(trouble)?;
    Ok(master)
}

#[cfg(unix)]
fn check_mode(found: &File, file: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = found.metadata().map_err(|source| KeyFileError::Unusable { file: file.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { file: file.to_owned(), mode });
    }
    Ok(())
}

#[cfg(unix)]
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    match folder.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

// Windows gives the files of a service's folder to its user and the administrators.
#[cfg(not(unix))]
fn check_mode(_: &File, _: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

#[cfg(not(unix))]
fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_made_once_and_comes_back() {
        let state = tempfile::tempdir().unwrap();
        let first = open(state.path(), true).unwrap();
        let second = open(state.path(), false).unwrap();

        assert_eq!(first.symmetric().bytes(), second.symmetric().bytes());
        assert_eq!(fs::read_dir(state.path().join(FOLDER)).unwrap().count(), 1, "nothing half made is left");
    }

    #[test]
    fn a_start_that_was_cut_off_is_made_good() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join(FOLDER)).unwrap();
        fs::write(state.path().join(FOLDER).join("device.key.new"), "half").unwrap();

        open(state.path(), true).unwrap();
        open(state.path(), false).unwrap();
    }

    #[test]
    fn a_missing_key_is_not_made_again_where_others_came_from_it() {
        let state = tempfile::tempdir().unwrap();
        let refused = open(state.path(), false).unwrap_err();
        assert!(matches!(refused, KeyFileError::Missing { .. }));
        assert!(refused.hint().contains("copy of the state directory"));
    }

    #[cfg(unix)]
    #[test]
    fn file_and_folder_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        open(state.path(), true).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path(state.path())), 0o600);
        assert_eq!(mode(&state.path().join(FOLDER)), 0o700);

        for open_mode in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(path(state.path()), fs::Permissions::from_mode(open_mode)).unwrap();
            let refused = open(state.path(), true).unwrap_err();
            assert!(matches!(refused, KeyFileError::Open { mode, .. } if mode == open_mode), "{refused}");
            assert!(refused.hint().contains("chmod 600"));
        }
    }

    #[test]
    fn damaged_files_are_refused_without_showing_them() {
        let state = tempfile::tempdir().unwrap();
        open(state.path(), true).unwrap();
        let sound = fs::read_to_string(path(state.path())).unwrap();
        let key = sound.split(' ').nth(1).unwrap().to_owned();
        let (head, tail) = sound.split_at(30);
        let other = if tail.starts_with('A') { 'B' } else { 'A' };
        let damaged = [
            String::new(),
            "\n\n".to_owned(),
            key.clone(),
            sound[..sound.len() - 5].to_owned(),
            format!("{head}{other}{}", &tail[1..]),
            sound.replace("key-1", "key-2"),
            format!("{FORM} {key}"),
            "\0".repeat(90),
        ];
        for text in damaged {
            fs::write(path(state.path()), &text).unwrap();
            let refused = open(state.path(), true).unwrap_err();
            assert!(matches!(refused, KeyFileError::Damaged { .. }), "{refused}: {text:?}");
            let said = format!("{refused} {} {refused:?}", refused.hint());
            assert!(!said.contains(&key[..8]), "{said}");
        }
        fs::write(path(state.path()), [0xff, 0xfe]).unwrap();
        assert!(matches!(open(state.path(), true), Err(KeyFileError::Damaged { .. })));
    }
}
