//! The libraries of an image that somebody else made, as the loader finds them through all of its layers.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use fs_err as fs;

use super::{Stack, is_plain};
use crate::base::Error;
use crate::base::loader::{self, Libraries};
use crate::image::oci::platform::Platform;
use crate::io::archive::{ArchivePath, Walk};

impl Stack {
    /// What the loader's index of the image is made of. Only the folders of its settings are looked into.
    pub(in crate::base) fn libraries(&self, platform: Platform) -> Result<Libraries, Error> {
        let mut libraries = Libraries::default();
        let more = self.names_in(loader::MORE_SETTINGS).into_iter().take(loader::MOST_SETTINGS);
        let more = more.map(|name| format!("{}/{name}", loader::MORE_SETTINGS));
        for path in more.chain([loader::SETTINGS.to_owned()]) {
            let (Some(file), Ok(path)) = (self.find(&path), ArchivePath::new(&path)) else { continue };
            let mut text = Vec::new();
            fs::File::open(file)?.take(loader::LARGEST_SETTINGS).read_to_end(&mut text)?;
            libraries.add_settings(path, String::from_utf8_lossy(&text).into_owned());
        }
        for folder in libraries.folders(platform) {
            let Some(place) = self.place_of(&folder, &mut libraries) else { continue };
            self.libraries_in(&place, platform, &mut libraries)?;
            let hardware = format!("{place}/glibc-hwcaps");
            for level in self.names_in(&hardware) {
                if let Some(place) = self.place_of(&format!("{hardware}/{level}"), &mut libraries) {
                    self.libraries_in(&place, platform, &mut libraries)?;
                }
            }
        }
        Ok(libraries)
    }

    fn libraries_in(&self, place: &ArchivePath, platform: Platform, libraries: &mut Libraries) -> Result<(), Error> {
        for name in self.names_in(place.as_str()).into_iter().filter(|name| loader::is_library_name(name)) {
            let Ok(inside) = ArchivePath::new(format!("{place}/{name}")) else { continue };
            let Some(real) = self.entry(&inside) else { continue };
            // A link may lead out of the folder: what it leads to is known then, and not where that lies.
            let Some(file) = self.find(inside.as_str()) else { continue };
            let file = fs::File::open(file)?;
            let size = file.metadata()?.len();
            let read_at = |offset, buffer: &mut [u8]| file.file().read_exact_at(buffer, offset);
            if let Some(object) = loader::read_object(size, platform, read_at)? {
                match real.is_symlink() {
                    true => libraries.add_linked(inside, object),
                    false => libraries.add(inside, object),
                }
            }
        }
        Ok(())
    }

    /// The names in the folder `path` of all layers, as far as they are no links; of those some may be deleted above.
    pub(in crate::base) fn names_in(&self, path: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let Ok(path) = ArchivePath::relative(path.trim_start_matches('/')) else { return found };
        for tree in self.layers.trees().iter().filter(|tree| is_plain(tree, &path)) {
            let Ok(entries) = fs::read_dir(path.under(tree)) else { continue };
            found.extend(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()));
        }
        found
    }

    /// The folder that `path`, from the root, leads to, without links on its way; those are added to `libraries`.
    fn place_of(&self, path: &str, libraries: &mut Libraries) -> Option<ArchivePath> {
        let mut walk = Walk::new(Path::new(path));
        while let Some(at) = walk.step() {
            let at = ArchivePath::from_path(at).ok()?;
            let real = self.entry(&at)?;
            if real.is_symlink() {
                let target = fs::read_link(&real).ok()?;
                libraries.add_link(at, target.to_str()?);
                walk.follow(&target).ok()?;
            }
        }
        ArchivePath::from_path(&walk.into_place()).ok().filter(|place| self.has_folder(place))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::io::archive::Mode;
    use crate::io::archive::{self, Below, Entry, Limits, Writer};

    /// An unpacked layer: `PATH->TARGET` is a link, `PATH=TEXT` a file, `PATH` a library called as its file is.
    fn tree(home: &std::path::Path, number: usize, all: &[&str]) -> PathBuf {
        let mut writer = Writer::new(Vec::new());
        for text in all {
            let path = |text: &str| ArchivePath::new(text).unwrap();
            let file = |name: &str, bytes: &[u8], writer: &mut Writer<Vec<u8>>| {
                writer.file(&Entry::file(path(name), bytes.len() as u64, Mode::Plain), bytes).unwrap();
            };
            match (text.split_once("->"), text.split_once('=')) {
                (Some((link, target)), _) => writer.entry(&Entry::symlink(path(link), target)).unwrap(),
                (_, Some((name, content))) => file(name, content.as_bytes(), &mut writer),
                _ => file(text, &loader::library(path(text).name()), &mut writer),
            }
        }
        let tree = home.join(number.to_string());
        fs::create_dir(&tree).unwrap();
        archive::unpack_layer(&mut writer.finish().unwrap().as_slice(), &tree, Below::Anything, Limits::default())
            .unwrap();
        tree
    }

    #[test]
    fn libraries_are_those_that_are_seen_through_all_layers() {
        let home = tempfile::tempdir().unwrap();
        let lower = [
            "lib->usr/lib",
            "usr/lib/x86_64-linux-gnu/liba.so.1",
            "usr/lib/x86_64-linux-gnu/libgone.so.1",
            "usr/lib/x86_64-linux-gnu/libscript.so=INPUT(liba.so.1)",
            "usr/lib/x86_64-linux-gnu/libfar.so.2->/etc/alternatives/far",
            "usr/lib/x86_64-linux-gnu/libdead.so.1->libnowhere.so",
            "etc/alternatives/far->/opt/far/libfar.so.2",
            "opt/far/libfar.so.2",
            "opt/old/libold.so.1",
            "opt/new/libnew.so.1",
            "etc/ld.so.conf=include ld.so.conf.d/*.conf\n",
            "etc/ld.so.conf.d/old.conf=/opt/old\n",
        ];
        let upper = [
            "usr/lib/x86_64-linux-gnu/.wh.libgone.so.1=",
            "usr/lib/x86_64-linux-gnu/libb.so.1",
            "etc/ld.so.conf.d/.wh.old.conf=",
            "etc/ld.so.conf.d/new.conf=/opt/link/\n",
            "opt/link->new",
        ];
        let trees = [tree(home.path(), 0, &lower), tree(home.path(), 1, &upper)];
        let libraries = Stack::over(&trees).libraries(Platform::Amd64).unwrap();
        let folder = "/lib/x86_64-linux-gnu";
        assert_eq!(
            libraries.rows(Platform::Amd64),
            [
                "libnew.so.1 /opt/link/libnew.so.1".to_owned(),
                format!("libfar.so.2 {folder}/libfar.so.2"),
                format!("libb.so.1 {folder}/libb.so.1"),
                format!("liba.so.1 {folder}/liba.so.1"),
            ]
        );
    }
}
