//! A kernel as a debugger is shown it: what gdb does before it attaches.

use std::path::Path;

use super::entry;

/// Commands of gdb's that find the source, and load the kernel's own commands (`lx-ps`, `lx-dmesg`) where they were built with it.
pub fn gdb_commands(vmlinux: &Path, source: Option<&Path>) -> Vec<String> {
    let mut commands = vec!["set pagination off".to_string()];
    commands.extend(source.map(|tree| format!("directory {}", tree.display())));
    let scripts = vmlinux.with_file_name(entry::SCRIPTS);
    if scripts.is_file() {
        // What is compiled of them must not get into the cache.
        commands.push("python import sys; sys.dont_write_bytecode = True".into());
        commands.push(format!("source {}", scripts.display()));
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_commands_are_loaded_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let vmlinux = folder.path().join("vmlinux");
        let commands = || gdb_commands(&vmlinux, Some(Path::new("/s")));
        assert_eq!(commands(), ["set pagination off", "directory /s"]);
        std::fs::write(folder.path().join(entry::SCRIPTS), "").unwrap();
        assert!(commands()[3].starts_with("source ") && commands()[3].ends_with(entry::SCRIPTS));
        assert_eq!(gdb_commands(Path::new("/none/vmlinux"), None), ["set pagination off"]);
    }
}
