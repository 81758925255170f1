//! What of the cache may go, and how it goes: nothing that a living kdbg [holds](Cache::hold), and each entry at once.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::hold::is_same;
use super::staging::SWEEP;
use super::{Cache, Item, Kind};
use crate::error::{IoContext, Result};

/// What is to go.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// What was not used for so long.
    pub unused_for: Duration,
    /// What was used least recently, until the rest takes no more than this many bytes.
    pub keep: Option<u64>,
    /// Everything.
    pub all: bool,
}

/// Why an entry is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// All are.
    All,
    /// It is not what was filed.
    Damaged,
    /// The kdbg that made it is gone.
    Abandoned,
    /// Objects without the source that they were made from.
    SourceGone,
    /// It was not used for long.
    Unused,
    /// Others were used later, and together they take too much.
    Size,
}

/// The entries that `policy` lets go, each with its reason. `damaged` is asked about every one.
pub fn plan<'a>(
    items: &'a [Item],
    policy: &Policy,
    now: SystemTime,
    damaged: &dyn Fn(&Item) -> bool,
) -> Vec<(&'a Item, Reason)> {
    let unused = |item: &Item| now.duration_since(item.used).is_ok_and(|age| age >= policy.unused_for);
    let reason = |item: &Item| match item.kind {
        Kind::Unfinished => Some(Reason::Abandoned),
        _ if policy.all => Some(Reason::All),
        _ if damaged(item) => Some(Reason::Damaged),
        _ if unused(item) => Some(Reason::Unused),
        _ => None,
    };
    let (mut doomed, mut kept) = (Vec::new(), Vec::new());
    for item in items {
        match reason(item) {
            Some(reason) => doomed.push((item, reason)),
            None => kept.push(item),
        }
    }
    drop_orphans(&mut doomed, &mut kept);
    if let Some(most) = policy.keep {
        kept.sort_by_key(|item| std::cmp::Reverse(item.used));
        while kept.iter().map(|item| item.bytes).sum::<u64>() > most {
            doomed.extend(kept.pop().map(|item| (item, Reason::Size)));
            drop_orphans(&mut doomed, &mut kept);
        }
    }
    doomed
}

/// Objects are of no use without their source.
fn drop_orphans<'a>(doomed: &mut Vec<(&'a Item, Reason)>, kept: &mut Vec<&'a Item>) {
    let sources: Vec<String> =
        kept.iter().filter(|item| item.kind == Kind::Sources).map(|item| item.name.clone() + "-").collect();
    kept.retain(|item| {
        // The source of `tree-…` is the user's own, and not in the cache.
        let has_source = item.name.starts_with("tree-") || sources.iter().any(|source| item.name.starts_with(source));
        let is_orphan = item.kind == Kind::Objects && !has_source;
        doomed.extend(is_orphan.then_some((*item, Reason::SourceGone)));
        !is_orphan
    });
}

/// What became of an entry that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is gone, or would be.
    Freed,
    /// A kdbg uses it, or has used it meanwhile.
    InUse,
    /// It was gone already.
    Gone,
}

impl Cache {
    /// Deletes an entry, unless a living kdbg holds it. If `dry`, only finds out what would become of it.
    ///
    /// # Errors
    /// It cannot be moved or deleted.
    pub fn free(&self, item: &Item, dry: bool) -> Result<Fate> {
        let doing = || format!("delete {} from the cache", item.path.display());
        let entry = match File::open(&item.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Fate::Gone),
            entry => entry.or_host(doing())?,
        };
        match self.lock_alone(item, &entry) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Fate::InUse),
            Err(TryLockError::Error(error)) => return Err(error).or_host(doing()),
        }
        if !is_same(&entry, &item.path) {
            return Ok(Fate::Gone);
        }
        if entry.metadata().and_then(|metadata| metadata.modified()).or_host(doing())? != item.used {
            return Ok(Fate::InUse);
        }
        if !dry {
            self.take_away(&item.path)?;
        }
        Ok(Fate::Freed)
    }

    /// Deletes an entry that this kdbg holds and that has turned out to be of no use, unless another one holds it too.
    ///
    /// # Errors
    /// It cannot be opened, moved or deleted.
    pub fn discard(&self, path: &Path) -> Result<()> {
        self.let_go(path);
        let entry = File::open(path).or_host(format!("delete {} from the cache", path.display()))?;
        if entry.try_lock().is_ok() && is_same(&entry, path) { self.take_away(path) } else { Ok(()) }
    }

    /// Moves an entry away whole, then deletes it. It has to be locked.
    fn take_away(&self, path: &Path) -> Result<()> {
        let doing = || format!("delete {} from the cache", path.display());
        // Whoever wants it now waits for the lock, and finds it gone. If this kdbg is killed, the next one sweeps.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let staging = self.path("staging");
        // A kdbg that looks at a cache makes nothing in it before it has to.
        fs::create_dir_all(&staging).or_host(doing())?;
        let away = staging.join(format!("freed-{}-{}", now.as_nanos(), std::process::id()));
        fs::rename(path, &away).or_host(doing())?;
        let is_folder = fs::symlink_metadata(&away).is_ok_and(|metadata| metadata.is_dir());
        if is_folder { fs::remove_dir_all(&away) } else { fs::remove_file(&away) }.or_host(doing())
    }

    fn lock_alone(&self, item: &Item, entry: &File) -> Result<(), TryLockError> {
        if item.kind != Kind::Unfinished {
            return entry.try_lock();
        }
        // What is in the making is not locked in its first moment, but then it is not the time to sweep either.
        let (_, sweeping) = self.lock_file(SWEEP).map_err(|error| TryLockError::Error(std::io::Error::other(error)))?;
        sweeping.try_lock()?;
        entry.try_lock()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cache;
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const MONTH: Policy = Policy { unused_for: Duration::from_secs(30 * 24 * 3600), keep: None, all: false };

    /// Entries of ten bytes: kind, name, days since the last use.
    fn items(of: &[(Kind, &str, u32)]) -> Vec<Item> {
        let now = SystemTime::UNIX_EPOCH + DAY * 1000;
        let item = |&(kind, name, days): &(Kind, &str, u32)| Item {
            kind,
            name: name.into(),
            path: name.into(),
            bytes: 10,
            used: now - DAY * days,
        };
        of.iter().map(item).collect()
    }

    fn planned(items: &[Item], policy: &Policy) -> String {
        let now = SystemTime::UNIX_EPOCH + DAY * 1000;
        let plan = plan(items, policy, now, &|item| item.name == "broken");
        plan.iter().map(|(item, reason)| format!("{} {reason:?}", item.name)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_is_unused_damaged_abandoned_or_orphaned_goes() {
        let items = items(&[
            (Kind::Sources, "linux-6.1-1", 1),
            (Kind::Sources, "linux-6.6-1", 31),
            (Kind::Objects, "linux-6.1-1-x86_64", 2),
            (Kind::Objects, "linux-6.1-10-x86_64", 2),
            (Kind::Objects, "linux-6.6-1-x86_64", 3),
            (Kind::Objects, "tree-abc-x86_64", 3),
            (Kind::Kernels, "broken", 0),
            (Kind::Kernels, "k", 29),
            (Kind::Unfinished, "entry-x", 0),
        ]);
        let expected = "linux-6.6-1 Unused, broken Damaged, entry-x Abandoned, linux-6.1-10-x86_64 SourceGone, linux-6.6-1-x86_64 SourceGone";
        assert_eq!(planned(&items, &MONTH), expected);
        assert_eq!(planned(&items, &Policy { all: true, ..MONTH }).matches(" All").count(), 8);
    }

    #[test]
    fn to_fit_a_size_the_least_recently_used_go_and_a_source_takes_its_objects_along() {
        let items = items(&[
            (Kind::Sources, "linux-6.1-1", 5),
            (Kind::Objects, "linux-6.1-1-x86_64", 1),
            (Kind::Kernels, "old", 4),
            (Kind::Kernels, "new", 2),
        ]);
        let keep = |bytes| planned(&items, &Policy { keep: Some(bytes), ..MONTH });
        assert_eq!(keep(40), "");
        assert_eq!(keep(39), "linux-6.1-1 Size, linux-6.1-1-x86_64 SourceGone");
        assert_eq!(keep(15), "linux-6.1-1 Size, linux-6.1-1-x86_64 SourceGone, old Size");
    }

    #[test]
    fn what_is_held_stays_and_what_was_used_since_it_was_looked_at_too() {
        let (_folder, cache) = cache();
        let path = cache.path("kernels/k");
        fs::create_dir(&path).unwrap();
        let other = Cache::at(cache.root().into()).unwrap();
        let seen = cache.inventory();
        assert!(other.hold(&path));
        assert_eq!(cache.free(&seen[0], false).unwrap(), Fate::InUse);
        drop(other);
        assert_eq!(cache.free(&seen[0], false).unwrap(), Fate::InUse, "used since");
        let seen = cache.inventory();
        assert_eq!(cache.free(&seen[0], true).unwrap(), Fate::Freed);
        assert!(path.exists(), "that was dry");
        assert_eq!(cache.free(&seen[0], false).unwrap(), Fate::Freed);
        assert!(!path.exists() && !cache.hold(&path));
        assert_eq!(cache.free(&seen[0], false).unwrap(), Fate::Gone);
        assert_eq!(fs::read_dir(cache.path("staging")).unwrap().count(), 0);
    }

    #[test]
    fn what_somebody_else_put_into_a_cache_goes_too() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::unproved(folder.path().into());
        fs::create_dir_all(cache.path("sources/linux-6.1")).unwrap();
        assert_eq!(cache.free(&cache.inventory()[0], false).unwrap(), Fate::Freed);
        assert!(!cache.path("sources/linux-6.1").exists());
    }

    #[test]
    fn a_published_entry_is_held() {
        let (_folder, cache) = cache();
        cache.stage().unwrap().publish(&cache.path("kernels/k")).unwrap();
        let stage = cache.stage().unwrap();
        fs::write(stage.path().join("image"), "x").unwrap();
        stage.publish_inner("image", &cache.path("images/i")).unwrap();
        let seen = cache.inventory();
        assert_eq!(seen.iter().map(|item| item.name.as_str()).collect::<Vec<_>>(), ["k", "i"]);
        assert!(seen.iter().all(|item| cache.free(item, false).unwrap() == Fate::InUse));
    }

    #[test]
    fn what_is_in_the_making_stays_and_what_was_abandoned_goes() {
        let (_folder, cache) = cache();
        fs::create_dir(cache.path("staging/entry-left")).unwrap();
        let own = cache.stage().unwrap();
        for item in cache.inventory() {
            let expected = if item.path == own.path() { Fate::InUse } else { Fate::Freed };
            assert_eq!(cache.free(&item, false).unwrap(), expected);
        }
        assert!(own.path().exists() && !cache.path("staging/entry-left").exists());
    }
}
