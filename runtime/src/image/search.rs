//! Where this device's loader looks for a library that another one needs.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::needs::Dynamic;

/// The places of this process's loader.
pub(super) struct Search {
    /// What is loaded already, by file name: found by the loader whatever its place.
    loaded: BTreeMap<String, PathBuf>,
    /// `LD_LIBRARY_PATH` as the loader read it at the start of this process.
    from_environment: Vec<PathBuf>,
    /// The loader's cache: name and path.
    cache: OnceCell<Vec<(String, PathBuf)>>,
}

impl Search {
    /// Of this process. Reads a few files of the system.
    pub fn of_this_device() -> Search {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mapped = maps.lines().filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])));
        let named = mapped.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)));
        let loaded = named.filter(|(name, _)| name.contains(".so")).collect();
        // What the environment says now is of no matter to the loader.
        let environ = std::fs::read("/proc/self/environ").unwrap_or_default();
        let path = environ.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(b"LD_LIBRARY_PATH="));
        let path = path.map(String::from_utf8_lossy).unwrap_or_default();
        let from_environment = path.split([':', ';']).filter(|part| !part.is_empty()).map(PathBuf::from).collect();
        Search { loaded, from_environment, cache: OnceCell::new() }
    }

    /// Read when something is looked for in it: it is long.
    fn cache(&self) -> &[(String, PathBuf)] {
        self.cache.get_or_init(|| {
            std::fs::read("/etc/ld.so.cache").ok().and_then(|bytes| read_cache(&bytes)).unwrap_or_default()
        })
    }

    /// Where `name` is found for a library whose dynamic part is `of`, in its folder `origin`; an image of the store has none.
    pub fn find(&self, name: &str, of: &Dynamic, origin: Option<&Path>) -> Option<PathBuf> {
        if let Some(path) = self.loaded.get(name) {
            return Some(path.clone());
        }
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| path.is_file());
        }
        let expand = |folders: &[String]| -> Vec<PathBuf> {
            let one = |folder: &String| match (folder.contains("$ORIGIN") || folder.contains("${ORIGIN}"), origin) {
                (false, _) => Some(PathBuf::from(folder)),
                (true, Some(origin)) => {
                    let origin = origin.to_string_lossy();
                    Some(PathBuf::from(folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)))
                }
                (true, None) => None,
            };
            folders.iter().filter_map(one).collect()
        };
        let first = if of.runpath.is_empty() { expand(&of.rpath) } else { Vec::new() };
        let listed = first.into_iter().chain(self.from_environment.iter().cloned()).chain(expand(&of.runpath));
        let cached = self.cache().iter().filter(|(known, _)| known == name).map(|(_, path)| path.clone());
        let candidates = listed.map(|folder| folder.join(name)).chain(cached);
        let defaults = default_folders().into_iter().map(|folder| folder.join(name));
        candidates.chain(defaults).find(|path| super::elf::is_for_this_device(path))
    }

    /// The program of this process and what it has loaded with it.
    pub fn global_scope(&self) -> Vec<(String, Option<PathBuf>)> {
        let system = self.loaded.iter().filter(|(_, path)| !path.components().any(|part| part.as_os_str() == "images"));
        let program = std::fs::read_link("/proc/self/exe").ok();
        system
            .filter(|(name, _)| !name.starts_with("module"))
            .map(|(name, path)| (name.clone(), Some(path.clone())))
            .chain(program.map(|path| (String::new(), Some(path))))
            .collect()
    }
}

fn default_folders() -> Vec<PathBuf> {
    let arch = std::env::consts::ARCH;
    ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"]
        .into_iter()
        .map(PathBuf::from)
        .chain(["/lib", "/usr/lib"].map(|base| PathBuf::from(format!("{base}/{arch}-linux-gnu"))))
        .collect()
}

/// Reads the cache of glibc's loader: names and paths, in its order. `None` for a form that is not known.
fn read_cache(bytes: &[u8]) -> Option<Vec<(String, PathBuf)>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    // An older form may stand before it; offsets count from this one.
    let at = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let bytes = &bytes[at..];
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let text = |at: u32| {
        let rest = bytes.get(at as usize..)?;
        std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == 0)?]).ok()
    };
    let count = number(20)? as usize;
    let one = |n: usize| {
        let entry = HEADER + n.checked_mul(ENTRY)?;
        Some((text(number(entry + 4)?)?.to_owned(), PathBuf::from(text(number(entry + 8)?)?)))
    };
    Some((0..count.min(100_000)).map_while(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn libraries_of_this_device_are_found_and_others_are_not() {
        let search = Search::of_this_device();
        let none = Dynamic::default();
        assert!(search.find("libc.so.6", &none, None).is_some());
        assert_eq!(search.find("libno-such-thing.so.3", &none, None), None);
    }

    #[test]
    fn cache_that_is_cut_gives_what_is_whole() {
        assert_eq!(read_cache(b"something else"), None);
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        cache.extend(2_u32.to_ne_bytes());
        cache.resize(48, 0);
        for number in [0_u32, 72, 80, 0, 0, 0] {
            cache.extend(number.to_ne_bytes());
        }
        cache.extend(b"liba.so\0/x/liba.so\0");
        // The second entry's names are not there.
        assert_eq!(read_cache(&cache).unwrap(), [("liba.so".to_owned(), PathBuf::from("/x/liba.so"))]);
        for cut in 0..cache.len() {
            let _ = read_cache(&cache[..cut]);
        }
    }
}
