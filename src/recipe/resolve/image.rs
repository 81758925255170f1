//! The image that a recipe names, and those that it includes.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Place, Site, path_inside};
use crate::builtin;
use crate::error::{Error, Result};
use crate::recipe::check;
use crate::recipe::diagnostic::{self, Diagnostic};
use crate::recipe::image::ImageSpec;
use crate::recipe::load::{Loaded, document};
use crate::recipe::locate::{Outline, Part};

/// The script that becomes `/init` where no image says otherwise.
const INIT: &str = "init";

/// What the guest's initramfs is made of: an image file with those that it includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The image's name.
    pub name: String,
    /// The text of the script that becomes `/init`.
    pub init: String,
    /// The files, each after those that it includes.
    layers: Vec<Layer>,
}

/// One image file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    spec: ImageSpec,
    /// How the file is called.
    file: String,
    text: String,
    init: Option<String>,
    /// What its `files` are, by their path in the guest.
    files: BTreeMap<String, GuestFile>,
}

/// A file for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// What is in it.
    pub data: Vec<u8>,
    /// Whether it is a program.
    pub executable: bool,
}

/// A name in an image file, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'i> {
    /// The name.
    pub name: &'i str,
    key: &'static str,
    layer: usize,
    index: usize,
}

impl Image {
    /// An image that kdbg brings; it includes no other.
    pub fn built_in(name: &str) -> Option<Image> {
        let (file, text) = (format!("images/{name}.yaml"), builtin::file(&format!("images/{name}.yaml"))?);
        let spec: ImageSpec = document(text, "an image").ok()?;
        let init = builtin::file(&format!("images/{}", spec.init.as_deref().unwrap_or(INIT)))?.to_owned();
        let layer = Layer { spec, file, text: text.into(), init: None, files: BTreeMap::new() };
        layer.spec.include.is_empty().then(|| Image { name: name.into(), init, layers: vec![layer] })
    }

    /// The programs of the host.
    pub fn programs(&self) -> Vec<Item<'_>> {
        self.items("programs", |spec| &spec.programs)
    }

    /// Libraries of the host, or folders of them.
    pub fn libraries(&self) -> Vec<Item<'_>> {
        self.items("libraries", |spec| &spec.libraries)
    }

    /// Debian packages.
    pub fn packages(&self) -> Vec<Item<'_>> {
        self.items("packages", |spec| &spec.packages)
    }

    /// Users beside root.
    pub fn users(&self) -> Vec<Item<'_>> {
        self.items("users", |spec| &spec.users)
    }

    /// Files by their path in the guest. What an image says itself comes before what one that it includes says.
    pub fn files(&self) -> BTreeMap<&str, &GuestFile> {
        self.layers.iter().flat_map(|layer| &layer.files).map(|(path, file)| (path.as_str(), file)).collect()
    }

    /// Symbolic links, likewise.
    pub fn links(&self) -> BTreeMap<&str, &str> {
        self.layers.iter().flat_map(|layer| &layer.spec.links).map(|(path, to)| (path.as_str(), to.as_str())).collect()
    }

    /// Sysctls, likewise.
    pub fn sysctls(&self) -> BTreeMap<&str, &str> {
        let all = self.layers.iter().flat_map(|layer| &layer.spec.sysctls);
        all.map(|(key, value)| (key.as_str(), value.0.as_str())).collect()
    }

    /// An error at the line of `item`, for what only later stages can know.
    pub fn diagnose(&self, item: Item<'_>, message: impl Into<String>, label: &str, helps: &[String]) -> Error {
        let Some(layer) = self.layers.get(item.layer) else { return Error::recipe(message) };
        let at = format!("{}[{}]", item.key, item.index);
        let span = Outline::parse(&layer.text).map(|outline| outline.find(&at, Part::Value)).unwrap_or_default();
        let wrong = Diagnostic { helps: helps.to_vec(), ..Diagnostic::new(message, span, label) };
        diagnostic::error(&layer.file, &layer.text, &[wrong])
    }

    /// The names of one list of all layers, each where it comes first.
    fn items(&self, key: &'static str, list: impl Fn(&ImageSpec) -> &Vec<String>) -> Vec<Item<'_>> {
        let mut items: Vec<Item<'_>> = Vec::new();
        for (layer, Layer { spec, .. }) in self.layers.iter().enumerate() {
            for (index, name) in list(spec).iter().enumerate() {
                if !items.iter().any(|item| item.name == name) {
                    items.push(Item { name, key, layer, index });
                }
            }
        }
        items
    }
}

/// Finds and reads the image and what it includes.
///
/// # Errors
/// There is no image or file of a name, some include each other, or one says what makes no sense.
pub(super) fn image(loaded: &Loaded) -> Result<Image> {
    let mut reader = Reader { loaded, layers: Vec::new(), open: Vec::new() };
    reader.take(&loaded.recipe.guest.image, Site::Recipe("guest.image".into()))?;
    let init = reader.layers.iter().rev().find_map(|layer| layer.init.clone());
    let init = init.or_else(|| builtin::file(&format!("images/{INIT}")).map(str::to_owned));
    let init = init.ok_or_else(|| Error::recipe("the image has no init"))?;
    Ok(Image { name: loaded.recipe.guest.image.clone(), init, layers: reader.layers })
}

struct Reader<'l> {
    loaded: &'l Loaded,
    layers: Vec<Layer>,
    /// The images whose includes are being read, the outermost first.
    open: Vec<String>,
}

impl Reader<'_> {
    fn take(&mut self, name: &str, site: Site<'_>) -> Result<()> {
        if let Some(first) = self.open.iter().position(|open| open == name) {
            let round = [&self.open[first..], &[name.to_owned()]].concat().join(" includes ");
            let help = ["take one of these includes out".into()];
            return Err(site.diagnose(self.loaded, "these images include each other".into(), &round, &help));
        }
        let place = Place { loaded: self.loaded, site, what: "image", folder: "images", suffix: ".yaml" };
        let found = place.find(name)?;
        let file = match &found.folder {
            Some(_) => found.origin,
            None => format!("built-in images/{name}.yaml"),
        };
        if self.layers.iter().any(|layer| layer.file == file) {
            return Ok(());
        }
        let text = found.text;
        let wrong = |wrong: &[Diagnostic]| diagnostic::error(&file, &text, wrong);
        let spec: ImageSpec = document(&text, "an image").map_err(|found| wrong(&[found]))?;
        let outline = Outline::parse(&text).map_err(|found| wrong(&[found]))?;
        match check::image(&spec, &outline).as_slice() {
            [] => {}
            found => return Err(wrong(found)),
        }
        self.open.push(name.to_owned());
        for (index, included) in spec.include.iter().enumerate() {
            let span = outline.find(&format!("include[{index}]"), Part::Value);
            self.take(included, Site::File { file: &file, text: &text, span })?;
        }
        self.open.pop();
        let beside = Beside { folder: found.folder, outline: &outline, file: &file, text: &text };
        let init = beside.init(&spec)?;
        let files =
            spec.files.iter().map(|(path, file)| Ok((path.clone(), beside.file(&format!("files.{path}"), file)?)));
        let files = files.collect::<Result<_>>()?;
        self.layers.push(Layer { spec, file: file.clone(), text: text.clone(), init, files });
        Ok(())
    }
}

/// What is beside an image file.
struct Beside<'t> {
    /// The folder on disk; none for an image that is built into kdbg.
    folder: Option<PathBuf>,
    outline: &'t Outline<'t>,
    file: &'t str,
    text: &'t str,
}

impl Beside<'_> {
    /// The `init` that the image names, or else one of the usual name that is there.
    fn init(&self, spec: &ImageSpec) -> Result<Option<String>> {
        let (at, name) = match &spec.init {
            Some(name) => ("init", name.as_str()),
            None if self.read(INIT).is_err_and(|error| error.kind() == ErrorKind::NotFound) => return Ok(None),
            None => (".", INIT),
        };
        let GuestFile { data, .. } = self.file(at, name)?;
        let init = String::from_utf8(data);
        init.map(Some).map_err(|_| self.wrong(at, format!("the init `{name}` is not UTF-8 text"), ""))
    }

    fn file(&self, at: &str, name: &str) -> Result<GuestFile> {
        self.read(name).map_err(|error| {
            let place = self.folder.as_deref().map_or_else(|| PathBuf::from("built-in images"), Path::to_path_buf);
            self.wrong(at, format!("the file {} cannot be taken", place.join(name).display()), &error.to_string())
        })
    }

    fn read(&self, name: &str) -> std::io::Result<GuestFile> {
        use std::os::unix::fs::PermissionsExt;
        let Some(folder) = &self.folder else {
            let text = builtin::file(&format!("images/{name}")).ok_or(ErrorKind::NotFound)?;
            return Ok(GuestFile { data: text.into(), executable: text.starts_with("#!") });
        };
        let path = path_inside(folder, name)?;
        let executable = std::fs::metadata(&path)?.permissions().mode() & 0o111 != 0;
        Ok(GuestFile { data: std::fs::read(path)?, executable })
    }

    fn wrong(&self, at: &str, message: String, label: &str) -> Error {
        let span = self.outline.find(at, Part::Value);
        let help = "an image's files are beside it, in the same folder";
        diagnostic::error(self.file, self.text, &[Diagnostic::new(message, span, label).help(help)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::load;

    /// The image `mine` of a recipe with these files in its `images/`; or what is wrong.
    fn read(files: &[(&str, &str)]) -> Result<Image, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("recipes/images")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join("recipes/images").join(name), text).unwrap();
        }
        let recipe = folder.path().join("recipes/a.yaml");
        std::fs::write(&recipe, "name: a\nkernel: { version: '6.1' }\nguest: { image: mine }\n").unwrap();
        let found = image(&load::load(&recipe).unwrap());
        found.map_err(|error| error.message.replace(folder.path().to_str().unwrap(), "DIR"))
    }

    fn names(items: Vec<Item<'_>>) -> Vec<&str> {
        items.into_iter().map(|item| item.name).collect()
    }

    #[test]
    fn an_image_has_what_those_have_that_it_includes_and_its_own_comes_before_theirs() {
        let image = read(&[
            (
                "mine.yaml",
                "name: mine\ninclude: [one, two]\npackages: [nftables, dash]\nsysctls: { net.ipv4.ip_forward: 1 }\n",
            ),
            ("one.yaml", "name: one\ninclude: [two]\npackages: [dash]\nfiles: { /etc/a: a }\ninit: start\n"),
            (
                "two.yaml",
                "name: two\ninclude: [base]\nfiles: { /etc/a: b, /etc/b: b }\nlinks: { /bin/x: /bin/y }\nusers: [u]\n",
            ),
            ("a", "A"),
            ("b", "B"),
            ("start", "#!/bin/dash\n"),
        ]);
        let image = image.unwrap();
        assert_eq!((image.name.as_str(), image.init.as_str()), ("mine", "#!/bin/dash\n"));
        assert_eq!((names(image.programs()), names(image.packages())), (vec!["busybox"], vec!["dash", "nftables"]));
        let text = |path: &str| String::from_utf8(image.files()[path].data.clone()).unwrap();
        assert_eq!((text("/etc/a").as_str(), text("/etc/b").as_str()), ("A", "B"));
        assert_eq!(image.links(), BTreeMap::from([("/bin/x", "/bin/y")]));
        assert_eq!(image.sysctls(), BTreeMap::from([("net.ipv4.ip_forward", "1")]));
        assert_eq!(names(image.users()), ["u"]);
        let later = image.diagnose(image.packages()[1], "apt knows no package `nftables`", "", &[]).message;
        assert!(later.contains("images/mine.yaml:3:12"), "{later}");
    }

    #[test]
    fn an_init_is_named_or_beside_the_image_or_kdbgs_own() {
        let init = |files: &[(&str, &str)]| read(files).unwrap().init;
        let own = builtin::file("images/init").unwrap();
        assert_eq!(init(&[("mine.yaml", "name: mine\n")]), own);
        assert_eq!(init(&[("mine.yaml", "name: mine\n"), ("init", "#!beside")]), "#!beside");
        assert_eq!(Image::built_in("base").unwrap().init, own);
        assert_eq!(Image::built_in("net"), None, "it includes another");
    }

    #[test]
    fn the_images_that_kdbg_brings_are_right() {
        for name in builtin::names("images", ".yaml") {
            let image = read(&[("mine.yaml", &format!("name: mine\ninclude: [{name}]\n"))]).unwrap();
            assert_eq!(names(image.programs()), ["busybox"], "{name}: nothing else of the host is needed");
        }
    }

    #[test]
    fn what_makes_no_sense_is_shown_at_its_line() {
        let wrong = "name: mine\ninclude: [bas]\n";
        let values = "name: mine\npackages: [./a.deb, nftables, nftables]\nprograms: [/bin/sh]\nfiles: { etc/a: ../a }\n\
                      links: { /bin/x: ../y }\nusers: [root:x]\nsysctls: { ..: \"\" }\n";
        let said = [
            read(&[("mine.yaml", wrong)]),
            read(&[("mine.yaml", "name: mine\ninclude: [one]\n"), ("one.yaml", "name: one\ninclude: [mine]\n")]),
            read(&[("mine.yaml", "name: mine\nfiles:\n  /etc/a: missing\n")]),
            read(&[("mine.yaml", values)]),
        ];
        insta::assert_snapshot!(said.map(Result::unwrap_err).join("\n\nerror: "));
    }
}
