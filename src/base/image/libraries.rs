//! The libraries of an image that somebody else made, as the loader finds them through all of its layers.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use fs_err as fs;

use super::{Stack, is_plain, names};
use crate::archive::ArchivePath;
use crate::base::Error;
use crate::loader::{self, Libraries};
use crate::platform::Platform;

impl Stack {
    /// What the loader's index of the image is made of. Only the folders of its settings are looked into.
    pub(in crate::base) fn libraries(&self, platform: Platform) -> Result<Libraries, Error> {
        let mut libraries = Libraries::default();
        for name in self.names_in(&[], "etc/ld.so.conf.d").into_iter().chain([String::new()]) {
            let path = if name.is_empty() { "etc/ld.so.conf".to_owned() } else { format!("etc/ld.so.conf.d/{name}") };
            let (Some(file), Ok(path)) = (self.find(&path), ArchivePath::new(&path)) else { continue };
            let mut text = Vec::new();
            fs::File::open(file)?.take(loader::LARGEST_SETTINGS).read_to_end(&mut text)?;
            libraries.add_settings(path, String::from_utf8_lossy(&text).into_owned());
        }
        for folder in libraries.folders(platform) {
            let Some(place) = self.place_of(&folder, &mut libraries) else { continue };
            self.libraries_in(&place, platform, &mut libraries)?;
            for level in self.names_in(&place, "glibc-hwcaps") {
                let below = format!("/{}/glibc-hwcaps/{level}", place.join("/"));
                if let Some(place) = self.place_of(&below, &mut libraries) {
                    self.libraries_in(&place, platform, &mut libraries)?;
                }
            }
        }
        Ok(libraries)
    }

    fn libraries_in(&self, place: &[String], platform: Platform, libraries: &mut Libraries) -> Result<(), Error> {
        for name in self.names_in(place, "").into_iter().filter(|name| loader::is_library_name(name)) {
            let mut path = place.to_vec();
            path.push(name);
            let (Ok(inside), Some(real)) = (ArchivePath::new(path.join("/")), self.entry(&path)) else { continue };
            // A link may lead out of the folder: what it leads to is known then, and not where that lies.
            let Some(file) = self.find(inside.as_str()) else { continue };
            let file = fs::File::open(file)?;
            let size = file.metadata()?.len();
            let read_at = |offset, buffer: &mut [u8]| file.file().read_exact_at(buffer, offset);
            if let Some(object) = loader::read_object(size, platform, read_at)? {
                libraries.add(inside, object, real.is_symlink());
            }
        }
        Ok(())
    }

    /// The names in a folder of all layers, as far as they are no links; of those some may be deleted above.
    fn names_in(&self, place: &[String], below: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let path = place.iter().map(String::as_str).chain(below.split('/')).filter(|name| !name.is_empty());
        let Ok(path) = ArchivePath::new(path.collect::<Vec<_>>().join("/")) else { return found };
        for tree in self.trees.iter().filter(|tree| is_plain(tree, &path)) {
            let Ok(entries) = fs::read_dir(path.under(tree)) else { continue };
            found.extend(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()));
        }
        found
    }

    /// The folder that `path`, from the root, leads to, without links on its way; those are added to `libraries`.
    fn place_of(&self, path: &str, libraries: &mut Libraries) -> Option<Vec<String>> {
        const MOST_LINKS: usize = 40;
        let mut todo: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut at: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(name),
            }
            let real = self.entry(&at)?;
            if real.is_symlink() {
                links += 1;
                let target = fs::read_link(&real).ok()?.into_os_string().into_string().ok()?;
                libraries.add_link(ArchivePath::new(at.join("/")).ok()?, target.clone());
                at.pop();
                if target.starts_with('/') {
                    at.clear();
                }
                todo.extend(target.rsplit('/').map(str::to_owned));
                if links > MOST_LINKS {
                    return None;
                }
            }
        }
        let place = ArchivePath::new(at.join("/")).ok()?;
        self.has_folder(&place).then(|| names(&place))
    }
}
