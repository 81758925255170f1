//! VS Code's `.vscode/launch.json`: configurations that attach to what kdbg serves, beside what is the user's.
//!
//! [`Served`] is what there is to attach to, [`configuration`] how each extension is told. There is one configuration for each
//! extension that debugs with gdb; who has none of the others does not choose theirs.

mod configuration;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstRootNode};
use serde_json::Value;

use crate::error::{Error, IoContext, Result};
pub use configuration::{NO_AUTO_LOAD, Served};

/// Where VS Code looks, from the folder that it has open.
pub const LAUNCH: &str = ".vscode/launch.json";

/// Puts the configurations into the `launch.json` of the folder in which kdbg runs, in place of older ones of the same names.
///
/// # Errors
/// The file cannot be read or written, or is not what VS Code would read; it is as it was then.
pub fn offer(served: &Served) -> Result<()> {
    // What a link leads to is what is written.
    let path = fs::canonicalize(LAUNCH).unwrap_or_else(|_| LAUNCH.into());
    let path = path.as_path();
    let existing = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).or_host(format!("read {LAUNCH}")),
    };
    let merged = merged(existing.as_deref(), configuration::all(served))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).or_host(format!("make {}", folder.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).or_host(format!("write {LAUNCH}"))?;
    file.write_all(merged.as_bytes()).or_host(format!("write {LAUNCH}"))?;
    let mode = fs::metadata(path).map_or_else(|_| fs::Permissions::from_mode(0o644), |found| found.permissions());
    file.as_file().set_permissions(mode).or_host(format!("write {LAUNCH}"))?;
    file.persist(path).map_err(|error| error.error).or_host(format!("write {LAUNCH}"))?;
    Ok(())
}

/// A `launch.json` with these configurations in place of those of the same names; comments and all else stay as they are.
fn merged(existing: Option<&str>, configurations: impl IntoIterator<Item = (String, Value)>) -> Result<String> {
    let text = existing.filter(|text| !text.trim().is_empty()).unwrap_or("{\n    \"version\": \"0.2.0\"\n}\n");
    let wrong = |why: String| Error::usage(format!("it is no JSON that VS Code would read: {why}"));
    let root = CstRootNode::parse(text, &ParseOptions::default()).map_err(|error| wrong(error.to_string()))?;
    let object = root.object_value().ok_or_else(|| wrong("it is no object".into()))?;
    let list =
        object.array_value_or_create("configurations").ok_or_else(|| wrong("`configurations` is no list".into()))?;
    for (name, configuration) in configurations {
        remove(&list, &name);
        list.ensure_multiline();
        list.append(input(configuration));
    }
    Ok(root.to_string())
}

/// Takes the configuration of this name out, if there is one.
fn remove(list: &CstArray, name: &str) {
    let found = list.elements().into_iter().find(|element| {
        let named = element.as_object().and_then(|object| object.get("name")?.value()?.as_string_lit());
        named.and_then(|named| named.decoded_value().ok()).as_deref() == Some(name)
    });
    if let Some(found) = found {
        found.remove();
    }
}

/// A value, as the parser that keeps comments takes it.
fn input(value: Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(is) => CstInputValue::Bool(is),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text),
        Value::Array(values) => CstInputValue::Array(values.into_iter().map(input).collect()),
        Value::Object(members) => {
            CstInputValue::Object(members.into_iter().map(|(name, value)| (name, input(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAMES: [&str; 2] = ["kdbg: this", "kdbg: this (other)"];

    fn ours() -> impl Iterator<Item = (String, Value)> {
        NAMES.into_iter().map(|name| (name.to_string(), json!({ "name": name, "port": 7, "list": [true, null] })))
    }

    #[test]
    fn what_is_the_users_stays_as_it_is() {
        let made = merged(None, ours()).unwrap();
        assert!(made.contains("\"version\": \"0.2.0\""), "{made}");
        let read: Value = serde_json::from_str(&made).unwrap();
        assert_eq!(read["configurations"], ours().map(|(_, value)| value).collect::<Value>());
        assert_eq!(merged(Some(&made), ours()).unwrap(), made, "once more changes nothing");
        let theirs = "{\n  // mine\n  \"version\": \"0.2.0\",\n  \"configurations\": [\n    { \"name\": \"mine\", \"type\": \"x\" }, // keep\n  ]\n}\n";
        let both = merged(Some(theirs), ours()).unwrap();
        for kept in ["// mine", "// keep", "\"name\": \"mine\"", NAMES[0], NAMES[1]] {
            assert!(both.contains(kept), "{kept}: {both}");
        }
        for broken in ["[]", "{", "{ \"configurations\": 1 }"] {
            assert!(merged(Some(broken), ours()).is_err(), "{broken}");
        }
    }
}
