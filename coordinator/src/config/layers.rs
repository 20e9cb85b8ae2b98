//! The files of the configuration: FILE.toml, and over it those of FILE.d in the order of their names. Reading them, and
//! which of them says what; what the settings mean is not their business.

use std::io;
use std::path::{Path, PathBuf};

/// One file of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Where it is.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl Layer {
    /// What it says of a key, as TOML; `None` if it says nothing, or is no TOML.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<toml::Value> {
        self.text.parse::<toml::Table>().ok()?.remove(key)
    }
}

/// A file that can't be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The file, or the folder.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

/// The folder of the drop-ins beside a configuration: `coordinator.d` beside `coordinator.toml`.
#[must_use]
pub fn folder(path: &Path) -> PathBuf {
    path.with_extension("d")
}

/// The files that are there, each over those before it; none if neither the configuration nor a drop-in is there.
///
/// # Errors
/// [`Unreadable`] with the first that can't be read.
pub fn read(path: &Path) -> Result<Vec<Layer>, Unreadable> {
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        |source| Unreadable { path, source }
    };
    let mut layers = Vec::new();
    let drop_ins = drop_ins(&folder(path)).map_err(unreadable(&folder(path)))?;
    for path in std::iter::once(path.to_path_buf()).chain(drop_ins) {
        match std::fs::read_to_string(&path) {
            Ok(text) => layers.push(Layer { path, text }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Unreadable { path, source }),
        }
    }
    Ok(layers)
}

/// Files called `*.toml`, but not hidden ones: those are what editors and package managers leave.
fn drop_ins(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    let is_drop_in = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        path.extension().is_some_and(|extension| extension == "toml") && !hidden
    };
    let mut paths: Vec<PathBuf> = paths.into_iter().filter(is_drop_in).collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_come_after_the_file_and_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("coordinator.toml");
        assert_eq!(read(&file).expect("nothing is there"), []);
        let dropped = folder.path().join("coordinator.d");
        std::fs::create_dir(&dropped).expect("folder");
        for name in ["b.toml", "a.toml", "10.toml", ".c.toml", "d.toml.dpkg-new", "notes"] {
            std::fs::write(dropped.join(name), "lost_after_s = 40\n").expect("written");
        }
        let names = || {
            let name = |layer: Layer| layer.path.file_name().expect("a name").to_string_lossy().into_owned();
            read(&file).expect("read").into_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["10.toml", "a.toml", "b.toml"], "also without the file itself");
        std::fs::write(&file, "").expect("written");
        assert_eq!(names(), ["coordinator.toml", "10.toml", "a.toml", "b.toml"]);
        let layers = read(&file).expect("read");
        assert_eq!(layers[1].value("lost_after_s"), Some(toml::Value::Integer(40)));
        assert_eq!((layers[0].value("lost_after_s"), layers[1].value("listen")), (None, None));
    }
}
