//! Writes the initramfs: what an image lists, as a newc archive, cached by its content.
//!
//! Everything is read and nothing is run: programs of the host and files of packages go in as they are, with the
//! libraries that their headers name. The key is made of the content of all inputs, and the same inputs give the same
//! bytes.

mod account;
mod elf;
mod libraries;
pub mod modules;
mod tree;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::{Cancel, Events, Phase};
use crate::package::Set;
use crate::recipe::Image;
use crate::recipe::resolve::Item;
use crate::store::{Cache, seal};
use libraries::{Lacking, Shelf};
use tree::{Node, Tree};

/// What goes into an initramfs.
#[derive(Debug, Clone)]
pub struct Contents<'a> {
    /// What the image lists.
    pub image: &'a Image,
    /// Its packages, where it lists any.
    pub packages: Option<&'a Set>,
    /// Kernel modules.
    pub modules: &'a modules::Modules,
}

/// The archive in its folder of the cache.
const ARCHIVE: &str = "initramfs.cpio";
/// Part of every key: another way of putting it together is another image.
const LAYOUT: &str = "kdbg image 1";
/// A guest that looks up names of hosts finds its own.
const HOSTS: &str = "127.0.0.1 localhost\n";

/// The initramfs with `contents`, written if it is not in the cache.
///
/// # Errors
/// A program, a library or what init runs in is missing (at the line of the image that names it); the cache cannot be
/// written.
pub fn build(contents: &Contents<'_>, cache: &Cache, events: &Events, cancel: &Cancel) -> Result<PathBuf> {
    let name = &contents.image.name;
    events.phase(Phase::Image, name, || {
        let mut tree = without_packages(contents)?;
        let folder = cache.path("images").join(format!("{name}-{}", key(&tree, contents.packages)));
        let archive = folder.join(ARCHIVE);
        let is_filed = || cache.hold(&folder) && seal::damage(&folder).is_none();
        if is_filed() {
            return Ok((archive, format!("{name} cached")));
        }
        // Of several who want it, the others find what the first one files; that takes no longer than writing it.
        let _lock = cache.lock(&format!("image-{name}"), cancel, || {})?;
        if is_filed() {
            return Ok((archive, format!("{name} cached")));
        }
        if let Some(set) = contents.packages {
            add_packages(&mut tree, contents.image, set)?;
        }
        check_init(&tree, contents.image)?;
        cache.needs_room(tree.size(), format!("the image `{name}`"))?;
        let size = publish(&tree, &folder, cache)?;
        Ok((archive, format!("{name} ({} KB)", size / 1000)))
    })
}

/// The key of an archive that [`build`] gave for the image `name`.
pub fn key_of<'a>(name: &str, archive: &'a Path) -> &'a str {
    let folder = archive.parent().and_then(Path::file_name).and_then(|folder| folder.to_str()).unwrap_or_default();
    folder.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).unwrap_or(folder)
}

/// Makes sure that the host has the programs that the image takes from it.
///
/// # Errors
/// It lacks one; the error is at the image's line.
pub fn check_programs(image: &Image) -> Result<()> {
    image.programs().into_iter().try_for_each(|item| find_program(image, item).map(drop))
}

fn key(tree: &Tree, packages: Option<&Set>) -> String {
    let mut hasher = Sha256::new_with_prefix(LAYOUT);
    tree.hash(&mut hasher);
    for package in packages.map_or(&[][..], |set| &set.packages) {
        hasher.update(format!("{} {} {} {}\n", package.name, package.version, package.sha256, package.asked));
    }
    hex(&hasher.finalize()[..10])
}

/// All that costs little to read, which is everything but the packages.
fn without_packages(contents: &Contents<'_>) -> Result<Tree> {
    let Contents { image, modules, .. } = contents;
    let mut tree = Tree::default();
    add_programs(&mut tree, image)?;
    tree.put("/init", Node::program(image.init.as_str()));
    let users = image.users();
    let (passwd, group) = account::accounts(&users.iter().map(|item| item.name).collect::<Vec<_>>());
    let sysctls = account::sysctls(&image.sysctls());
    for (path, text) in [("/etc/passwd", passwd), ("/etc/group", group), ("/etc/hosts", HOSTS.into())] {
        tree.put(path, Node::data(text));
    }
    if !sysctls.is_empty() {
        tree.put("/etc/kdbg.sysctls", Node::data(sysctls));
    }
    for (path, to) in [("/var/run", "/run"), ("/etc/mtab", "/proc/self/mounts")] {
        tree.put(path, Node::Link(to.into()));
    }
    for (path, data) in modules.files() {
        tree.put(&path, Node::data(data));
    }
    for (path, file) in image.files() {
        tree.put(path, Node::File { data: file.data.clone(), executable: file.executable });
    }
    for (path, to) in image.links() {
        tree.put(path, Node::Link(to.into()));
    }
    Ok(tree)
}

/// The programs and libraries of the host.
fn add_programs(tree: &mut Tree, image: &Image) -> Result<()> {
    let shelf = Shelf::host();
    for item in image.programs() {
        let path = find_program(image, item)?;
        let data = fs::read(&path).or_host(format!("read {}", path.display()))?;
        if elf::linkage(&data).is_none() {
            let message = format!("{} is not an ELF program for x86-64", path.display());
            let help = ["a script goes into `files`, and what runs it into `programs` or `packages`".into()];
            return Err(image.diagnose(item, message, "", &help));
        }
        let place = format!("/usr/bin/{}", item.name);
        tree.put(&place, Node::program(data));
        complete(&shelf, tree, vec![tree::place(&place)], image, item)?;
    }
    for item in image.libraries() {
        let paths = shelf.libraries(item.name);
        if paths.is_empty() {
            let folders = shelf.folders().collect::<Vec<_>>().join(", ");
            let message = format!("this host has no library and no folder of libraries `{}`", item.name);
            return Err(host(image.diagnose(item, message, "", &[format!("looked in {folders}")])));
        }
        for path in paths {
            let data = fs::read(&path).or_host(format!("read {path}"))?;
            tree.put(&path, Node::program(data));
            complete(&shelf, tree, vec![tree::place(&path)], image, item)?;
        }
    }
    Ok(())
}

fn find_program(image: &Image, item: Item<'_>) -> Result<PathBuf> {
    which::which(item.name).map_err(|_| {
        let help = match item.name {
            "busybox" => "`kdbg doctor --install` installs a static busybox",
            _ => "install it, or name the Debian package that has it in `packages`: nothing is installed then",
        };
        host(image.diagnose(item, format!("{} is not on this host", item.name), "not on PATH", &[help.into()]))
    })
}

/// The files of the packages, and the libraries that they need. What the image says otherwise stays.
fn add_packages(tree: &mut Tree, image: &Image, set: &Set) -> Result<()> {
    let shelf = Shelf::Packages { trees: set.packages.iter().map(|package| set.tree(package)).collect() };
    let mut added = Vec::new();
    for item in image.packages() {
        let name = item.name.split('=').next().unwrap_or(item.name);
        let packages = set.packages.iter().filter(|package| package.name == name);
        let files = packages.map(|package| files(&set.tree(package))).collect::<Result<Vec<_>>>()?.concat();
        for (path, node) in &files {
            tree.put_absent(path, node.clone());
        }
        added.push((item, files.into_iter().map(|(path, _)| tree::place(&path)).collect::<Vec<_>>()));
    }
    for (item, paths) in added {
        let runs = |path: &String| tree.file(path).and_then(elf::linkage).is_some_and(|it| it.interpreter.is_some());
        let (programs, others) = paths.into_iter().partition(runs);
        complete(&shelf, tree, programs, image, item)?;
        // A package has plugins whose libraries it only recommends: they do not load here as they would not there.
        let _ = shelf.complete(tree, others);
    }
    Ok(())
}

fn complete(shelf: &Shelf, tree: &mut Tree, paths: Vec<String>, image: &Image, item: Item<'_>) -> Result<()> {
    match shelf.complete(tree, paths).first() {
        None => Ok(()),
        Some(lacking) => Err(explain(image, item, lacking)),
    }
}

/// Everything in a folder that is not a folder, by its path.
fn files(root: &Path) -> Result<Vec<(String, Node)>> {
    use std::os::unix::fs::PermissionsExt;
    let doing = || format!("read the packages in {}", root.display());
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).or_host(doing())? {
            let path = entry.or_host(doing())?.path();
            let metadata = fs::symlink_metadata(&path).or_host(doing())?;
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_symlink() {
                let to = fs::read_link(&path).or_host(doing())?;
                found.push((name, Node::Link(to.to_string_lossy().into_owned())));
            } else if metadata.is_file() {
                let executable = metadata.permissions().mode() & 0o111 != 0;
                found.push((name, Node::File { data: fs::read(&path).or_host(doing())?, executable }));
            }
        }
    }
    Ok(found)
}

/// The program that init's first line names has to be there: without it the kernel panics, and does not say why.
fn check_init(tree: &Tree, image: &Image) -> Result<()> {
    let first = image.init.lines().next().and_then(|line| line.strip_prefix("#!"));
    let Some(program) = first.and_then(|line| line.split_whitespace().next()) else {
        return Err(Error::recipe(format!("the init of the image `{}` does not begin with `#!`", image.name)));
    };
    if tree.has(program) {
        return Ok(());
    }
    let message = format!("the init of the image `{}` runs in {program}, which is not in the image", image.name);
    Err(Error::recipe(message).hint("add it to the image, or include `base`, which has busybox"))
}

fn explain(image: &Image, item: Item<'_>, lacking: &Lacking) -> Error {
    let Lacking { library, needed_by } = lacking;
    let message = format!("`{}` needs the library {library}, which is not to be found", item.name);
    let help = ["name the library, or the package that has it, in the image too".into()];
    host(image.diagnose(item, message, &format!("{needed_by} asks for it"), &help))
}

/// What the host lacks is no mistake of the image.
fn host(error: Error) -> Error {
    Error { kind: ErrorKind::Host, ..error }
}

/// Files the archive; gives its size in bytes.
fn publish(tree: &Tree, folder: &Path, cache: &Cache) -> Result<u64> {
    let stage = cache.stage()?;
    let path = stage.path().join(ARCHIVE);
    let doing = || "write the initramfs";
    let mut out = BufWriter::new(fs::File::create(&path).or_host(doing())?);
    tree.write(&mut out).and_then(|()| out.flush()).or_host(doing())?;
    let size = fs::metadata(&path).or_host(doing())?.len();
    seal::seal(stage.path())?;
    stage.publish(folder)?;
    Ok(size)
}
