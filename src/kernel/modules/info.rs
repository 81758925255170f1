//! What a module says of itself in its `.modinfo` section: `key=value` texts with a zero behind each.
//!
//! Pure.

use super::index::{Module, canonical};

/// The module at `path` whose `.modinfo` this is.
pub(super) fn module(modinfo: &[u8], path: String, debug: Option<String>) -> Module {
    let mut module = Module { path, debug, ..Module::default() };
    for entry in modinfo.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        match entry.split_once('=') {
            Some(("depends", names)) => {
                module.depends.extend(names.split(',').filter(|name| !name.is_empty()).map(canonical));
            }
            Some(("softdep", wishes)) => soft(wishes, &mut module),
            // Aliases with a colon are hardware's; there is nobody in the guest who would ask for those.
            Some(("alias", name)) if !name.contains(':') => module.aliases.push(name.into()),
            _ => {}
        }
    }
    module
}

/// `pre: a b post: c`.
fn soft(wishes: &str, module: &mut Module) {
    let mut list = None;
    for word in wishes.split_whitespace() {
        match (word, &mut list) {
            ("pre:", _) => list = Some(&mut module.before),
            ("post:", _) => list = Some(&mut module.after),
            (name, Some(list)) => list.push(canonical(name)),
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modinfo_says_what_a_module_needs() {
        let text = b"license=GPL\0alias=rtnl-link-x\0alias=pci:v0000\0depends=nf-defrag,libcrc32c\0\0softdep=pre: a-b post: c d\0name=x\0odd";
        let expected = Module {
            path: "kernel/x.ko".into(),
            debug: None,
            depends: vec!["nf_defrag".into(), "libcrc32c".into()],
            before: vec!["a_b".into()],
            after: vec!["c".into(), "d".into()],
            aliases: vec!["rtnl-link-x".into()],
        };
        assert_eq!(module(text, "kernel/x.ko".into(), None), expected);
        assert_eq!(module(b"depends=\0", String::new(), None).depends, [""; 0]);
    }
}
