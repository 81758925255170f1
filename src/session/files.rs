//! Files of the guest that steps name, brought into the run directory once the trigger is over and no probe stops it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::journal::Journal;
use super::spool::Spool;
use super::{Order, nonce, script};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::guest::{Guest, without_console};
use crate::recipe::types::{StepSpec, file_name};
use crate::report::text;

/// The folder in the run directory.
pub(crate) const FOLDER: &str = "files";
/// The largest file that is brought back, in bytes.
const LARGEST: u64 = 256 << 20;
/// How long the agent may take to say that it is there, after a file that did not come.
const ANSWER: Duration = Duration::from_secs(10);
/// How much of a file the guest sends at a time: what a virtio-serial port takes at once.
const BLOCK: u64 = 32 << 10;

/// What the steps that ran have named.
pub(super) fn wanted<'a>(order: &Order<'a>, journal: &Journal<'_>) -> Vec<(&'a StepSpec, &'a str)> {
    let ran = order.loaded.recipe.trigger.iter().take(journal.steps());
    ran.flat_map(|step| step.fetch.iter().map(move |path| (step, path.as_str()))).collect()
}

/// Brings back these files of the guest, which no probe stops any more. One that cannot be is a warning: the run has what
/// it is for.
///
/// # Errors
/// The user interrupts, or the guest dies.
pub(super) fn bring_back(
    order: &Order<'_>,
    wanted: &[(&StepSpec, &str)],
    guest: &mut Guest,
    journal: &mut Journal<'_>,
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let folder = order.run_dir.file(FOLDER);
    fs::create_dir(&folder).or_host(format!("make {}", folder.display()))?;
    let mut way = Way { order, port: None };
    for (index, (step, path)) in wanted.iter().enumerate() {
        let name = file_name(path);
        match way.fetch(guest, path, &folder.join(name)) {
            Ok(length) => {
                let size = text::size(length);
                order.events.fact("file", format!("{FOLDER}/{name}  {size} from step `{}`", step.name));
            }
            Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let _ = fs::remove_file(folder.join(name));
                let why = without_console(&error.message);
                journal.warn(format!("{path} of step `{}` was not brought back: {why}", step.name));
                guest.check()?;
                let rest = &wanted[index + 1..];
                if !rest.is_empty() && !answers(order, guest)? {
                    journal.warn(format!("{}: the guest's agent does not answer any more", left(rest)));
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Whether the agent still takes scripts. One file that does not end says nothing of the next.
fn answers(order: &Order<'_>, guest: &mut Guest) -> Result<bool> {
    match guest.ping().and_then(|()| guest.wait_ready(ANSWER, order.cancel)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind == ErrorKind::Interrupted => Err(error),
        Err(_) => guest.check().map(|()| false),
    }
}

/// `/a, /b were not brought back either`.
fn left(rest: &[(&StepSpec, &str)]) -> String {
    let paths: Vec<&str> = rest.iter().map(|(_, path)| *path).collect();
    let were = if paths.len() == 1 { "was" } else { "were" };
    format!("{} {were} not brought back either", paths.join(", "))
}

/// The way out of the guest: a port that nothing else is written to.
struct Way<'a> {
    order: &'a Order<'a>,
    /// The port and its number, once there is one. It is left behind when more may come through it than was wanted.
    port: Option<(u32, UnixStream)>,
}

impl Way<'_> {
    /// Brings a file of the guest to this place. Gives its length.
    fn fetch(&mut self, guest: &mut Guest, path: &str, to: &Path) -> Result<u64> {
        let (number, port) = match self.port.take() {
            Some(port) => port,
            None => guest.add_port("files")?,
        };
        let mark = format!("kdbg end {:08x}", nonce());
        let spool = Spool::fill(to, port.try_clone().or_host("share a port")?, &mark)?;
        let (code, _) = script::run(self.order, guest, &sending(path, number, &mark), "it did not arrive")?;
        let length = spool.wait()?;
        self.port = Some((number, port));
        match code {
            // Not every file says how large it is.
            0 if length > LARGEST => Err(Error::guest(too_large())),
            0 => Ok(length),
            _ => Err(Error::guest(last_line(to)?)),
        }
    }
}

/// Writes the file to a port, or why it cannot be read; then the mark.
fn sending(path: &str, port: u32, mark: &str) -> String {
    let quoted = format!("'{}'", path.replace('\'', r"'\''"));
    format!(
        "file={quoted} port=/dev/vport0p{port}
until [ -c $port ]; do sleep 0.01; done
(
	[ -e \"$file\" ] || {{ echo 'there is no such file'; exit 1; }}
	[ -f \"$file\" ] || {{ echo 'it is not a regular file'; exit 1; }}
	[ $(stat -Lc %s \"$file\") -le {LARGEST} ] || {{ echo '{}'; exit 1; }}
	exec dd bs={BLOCK} count={} iflag=fullblock status=none <\"$file\"
) >$port 2>&1
code=$?
printf '\\036{mark}\\036' >$port
exit $code
",
        too_large(),
        LARGEST / BLOCK + 1
    )
}

fn too_large() -> String {
    format!("it is larger than {}", text::size(LARGEST))
}

/// What came last, where it is not the file that came.
fn last_line(path: &Path) -> Result<String> {
    let mut file = File::open(path).or_host(format!("open {}", path.display()))?;
    let mut tail = Vec::new();
    let length = file.metadata().or_host(format!("look at {}", path.display()))?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(1024))).or_host("read what came")?;
    file.read_to_end(&mut tail).or_host("read what came")?;
    let tail = String::from_utf8_lossy(&tail);
    Ok(tail.lines().rfind(|line| !line.is_empty()).unwrap_or("it cannot be read").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_the_script() {
        assert!(
            sending("/tmp/it's $(here)", 4, "end").starts_with("file='/tmp/it'\\''s $(here)' port=/dev/vport0p4\n")
        );
    }

    #[test]
    fn the_last_line_is_why() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (came, why) in [("", "it cannot be read"), ("no such file\n", "no such file"), ("\u{1}\nhalf\n\n", "half")]
        {
            fs::write(file.path(), came).unwrap();
            assert_eq!(last_line(file.path()).unwrap(), why);
        }
    }
}
