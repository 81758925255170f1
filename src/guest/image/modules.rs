//! The kernel modules in an initramfs: their files, what `modprobe` has to know of them, and which are loaded at boot.
//!
//! Pure: the files come as bytes.

/// What the agent talks through and what the guest needs to start at all, where the kernel has it as modules. Loaded first.
pub const NEEDED: [&str; 4] = ["virtio_pci", "virtio_console", "unix", "af_packet"];

/// What a guest with a network card needs beside that.
pub const NIC: &str = "virtio_net";

/// The list of the modules that are loaded at boot, one a line.
const AT_BOOT: &str = "lib/modules/load";

/// The modules of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules {
    /// `uname -r`.
    pub release: String,
    /// Those that are in the guest.
    pub files: Vec<ModuleFile>,
    /// The names of those that are loaded before the agent starts, in this order.
    pub at_boot: Vec<String>,
}

/// A module's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleFile {
    /// Below `/lib/modules/<release>`.
    pub path: String,
    /// The module's name.
    pub name: String,
    /// The ELF file, not compressed.
    pub data: Vec<u8>,
    /// The paths of what is to be loaded before it, the last to be loaded first: the order that `modprobe` wants.
    pub needs: Vec<String>,
    /// Other names under which the kernel asks for it.
    pub aliases: Vec<String>,
}

impl Modules {
    /// The files of the initramfs that hold them; none where there is no module.
    pub(super) fn files(&self) -> Vec<(String, Vec<u8>)> {
        if self.files.is_empty() {
            return Vec::new();
        }
        let folder = format!("lib/modules/{}", self.release);
        let mut files: Vec<(String, Vec<u8>)> =
            self.files.iter().map(|file| (format!("{folder}/{}", file.path), file.data.clone())).collect();
        let dep = |file: &ModuleFile| format!("{}: {}", file.path, file.needs.join(" ")).trim_end().to_string() + "\n";
        let alias =
            |file: &ModuleFile| file.aliases.iter().map(|alias| format!("alias {alias} {}\n", file.name)).collect();
        let text = |line: &dyn Fn(&ModuleFile) -> String| self.files.iter().map(line).collect::<String>().into_bytes();
        files.push((format!("{folder}/modules.dep"), text(&dep)));
        files.push((format!("{folder}/modules.alias"), text(&alias)));
        let at_boot: String = self.at_boot.iter().map(|name| format!("{name}\n")).collect();
        files.push((AT_BOOT.into(), at_boot.into_bytes()));
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modprobe_is_told_what_it_has_to_know() {
        let file = |name: &str, needs: &[&str], aliases: &[&str]| ModuleFile {
            path: format!("kernel/{name}.ko"),
            name: name.into(),
            data: name.into(),
            needs: needs.iter().map(|need| format!("kernel/{need}.ko")).collect(),
            aliases: aliases.iter().map(ToString::to_string).collect(),
        };
        let modules = Modules {
            release: "6.1.9".into(),
            files: vec![file("llc", &[], &[]), file("bridge", &["stp", "llc"], &["rtnl-link-bridge"])],
            at_boot: vec!["llc".into(), "bridge".into()],
        };
        let texts: Vec<_> =
            modules.files().into_iter().map(|(name, data)| (name, String::from_utf8(data).unwrap())).collect();
        let expected = [
            ("lib/modules/6.1.9/kernel/llc.ko", "llc"),
            ("lib/modules/6.1.9/kernel/bridge.ko", "bridge"),
            ("lib/modules/6.1.9/modules.dep", "kernel/llc.ko:\nkernel/bridge.ko: kernel/stp.ko kernel/llc.ko\n"),
            ("lib/modules/6.1.9/modules.alias", "alias rtnl-link-bridge bridge\n"),
            ("lib/modules/load", "llc\nbridge\n"),
        ];
        assert_eq!(texts, expected.map(|(name, text)| (name.to_string(), text.to_string())));
        assert_eq!(Modules::default().files(), []);
    }
}
