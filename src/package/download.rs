//! What apt says that it would download. Pure.

/// A file that apt would download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Its name: `PACKAGE_VERSION_ARCHITECTURE.deb`.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its hash, with the kind in front: `SHA256:…`.
    pub hash: String,
}

impl Download {
    /// The package.
    pub fn package(&self) -> &str {
        self.name.split('_').next().unwrap_or(&self.name)
    }

    /// Its version.
    pub fn version(&self) -> String {
        // What a file's name cannot hold, apt escapes.
        self.name.split('_').nth(1).unwrap_or_default().replace("%3a", ":")
    }
}

/// The files that apt names with `--print-uris`: `'ADDRESS' FILE SIZE KIND:HASH`.
pub fn downloads(text: &str) -> Vec<Download> {
    let download = |line: &str| {
        let mut words = line.strip_prefix('\'')?.split_once("' ")?.1.split_whitespace();
        let (name, size) = (words.next()?, words.next()?);
        // An old apt tells only MD5 sums when it is asked to install, and none where the list has none.
        Some(Download { name: name.into(), size: size.parse().ok()?, hash: words.next().unwrap_or_default().into() })
    };
    text.lines().filter_map(download).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_download_is_read() {
        let text = "W: something\n'http://x/pool/k_1%3a6.1_amd64.deb' k_1%3a6.1_amd64.deb 281637416 SHA256:421c6a\n";
        let expected = Download { name: "k_1%3a6.1_amd64.deb".into(), size: 281_637_416, hash: "SHA256:421c6a".into() };
        assert_eq!((expected.package(), expected.version().as_str()), ("k", "1:6.1"));
        assert_eq!(downloads(text), [expected]);
        assert_eq!(downloads("'x' k.deb many SHA256:1\nReading package lists...\n"), []);
    }
}
