//! The fragments and images that kdbg brings along: the repository's `kconfigs/` and `images/`, as compiled in.
//!
//! Holds text only. [`mod@crate::recipe::resolve`] decides when a copy on disk comes before the one in here.

/// Every built-in file: its path in the repository and its text.
pub const FILES: &[(&str, &str)] = &[
    ("images/base.yaml", include_str!("../images/base.yaml")),
    ("images/init", include_str!("../images/init")),
    ("images/net.yaml", include_str!("../images/net.yaml")),
    ("images/trace.yaml", include_str!("../images/trace.yaml")),
    ("kconfigs/base.config", include_str!("../kconfigs/base.config")),
    ("kconfigs/bpf.config", include_str!("../kconfigs/bpf.config")),
    ("kconfigs/net.config", include_str!("../kconfigs/net.config")),
    ("kconfigs/netfilter.config", include_str!("../kconfigs/netfilter.config")),
    ("kconfigs/trace.config", include_str!("../kconfigs/trace.config")),
    ("kconfigs/watch.config", include_str!("../kconfigs/watch.config")),
];

/// The text of a built-in file.
pub fn file(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// The names of the built-in files in `folder` that end in `suffix`, without it.
pub fn names(folder: &str, suffix: &str) -> impl Iterator<Item = &'static str> {
    FILES.iter().filter_map(move |(path, _)| path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(suffix))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_table_is_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut on_disk = Vec::new();
        for folder in ["images", "kconfigs"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                on_disk.push(format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()));
            }
        }
        on_disk.sort();
        let table: Vec<_> = super::FILES.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(table, on_disk, "every file once, in order");
    }
}
