//! Links in an unpacked tree: none may lead out of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path};

/// More links in one path than this lead nowhere: they go round in a circle.
const MANY: u32 = 40;

/// Whether the link at `link` leads out of the tree `top`, or would once what it names is there. Followed as the kernel
/// does, part by part: behind another link, `..` is not what it looks like. `top` has no link in its own path.
pub(super) fn leads_out(top: &Path, link: &Path) -> bool {
    let Some(mut at) = link.parent().and_then(|folder| folder.canonicalize().ok()) else { return true };
    let Some(name) = link.file_name() else { return true };
    let mut left = VecDeque::from([name.to_owned()]);
    let mut followed = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            at.pop();
        } else {
            at.push(part);
        }
        if !at.starts_with(top) {
            return true;
        }
        let Ok(target) = fs::read_link(&at) else { continue };
        followed += 1;
        if target.is_absolute() {
            return true;
        }
        if followed > MANY {
            return false;
        }
        at.pop();
        for part in parts(&target).into_iter().rev() {
            left.push_front(part);
        }
    }
    false
}

fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_is_followed_through_others() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap().join("linux");
        fs::create_dir_all(top.join("a/b")).unwrap();
        symlink("../..", top.join("a/b/top")).unwrap();
        for (target, expected) in [
            ("a/b", false),
            ("gone/../a", false),
            ("./a/b/top/a", false),
            ("link", false),
            ("/etc", true),
            ("..", true),
            ("../linux/a", true),
            ("a/../../sibling", true),
            ("a/b/top/../etc", true),
        ] {
            let link = top.join("link");
            let _ = fs::remove_file(&link);
            symlink(target, &link).unwrap();
            assert_eq!(leads_out(&top, &link), expected, "{target}");
        }
    }
}
