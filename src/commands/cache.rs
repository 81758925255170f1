//! `kdbg cache`: what is in the cache, and what of it can go.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::table::{ago, aligned, to_the_right};
use crate::cli::GcArgs;
use crate::error::{IoContext, Result};
use crate::guest::template;
use crate::kernel::{self, source::KernelSource};
use crate::package::Set;
use crate::report::text::{plural, printable, size};
use crate::store::gc::{Fate, Policy, Reason, plan};
use crate::store::{Cache, Item, Kind, seal};
use crate::ui;
use crate::ui::style::Styles;

/// Shows what is in the cache; nothing in it is changed by that.
///
/// # Errors
/// There is no home folder, or standard output cannot be written.
pub fn list(as_json: bool) -> Result<()> {
    let cache = Cache::unproved(Cache::place()?);
    let now = SystemTime::now();
    let entries: Vec<Described> = cache.inventory().into_iter().map(Described::new).collect();
    let text = match as_json {
        true => format!("{}\n", listed(&entries, cache.root())),
        false => table(&entries, cache.root(), now, &Styles::stdout()),
    };
    ui::print(&text).or_host("write to standard output")
}

/// An entry in words that people know.
struct Described {
    item: Item,
    /// How people call it.
    title: String,
    /// What else there is to say; of a damaged one, what is wrong.
    about: Result<String, String>,
}

impl Described {
    fn new(item: Item) -> Described {
        let mut title = item.name.clone();
        let about = match item.kind {
            Kind::Sources => KernelSource::open(item.path.clone())
                .map(|source| format!("Linux {}", source.version))
                .map_err(|_| "not a kernel tree".into()),
            Kind::Kernels => {
                let filed = kernel::look(&item.path);
                title = filed.release.map_or(title, |release| format!("{release}  {}", item.name));
                let modules = (filed.modules > 0).then(|| plural(filed.modules as u64, "module"));
                let about: Vec<String> = filed.source_id.into_iter().chain(filed.asked).chain(modules).collect();
                filed.damage.map_or(Ok(about.join(", ")), Err)
            }
            Kind::Packages => Set::look(&item.path).map(|set| asked(&set)).ok_or("its list cannot be read".into()),
            Kind::Downloads if item.name == "apt" => Ok("package lists of backports".into()),
            Kind::Downloads => Ok("fetched in part; the next fetch goes on from there".into()),
            Kind::Templates => template::about(&item.path),
            Kind::Objects | Kind::Images | Kind::Unfinished => Ok(String::new()),
        };
        Described { title: printable(&title), about: about.map(|text| printable(&text)), item }
    }

    fn json(&self) -> Value {
        let Item { kind, name, path, bytes, used } = &self.item;
        json!({
            "kind": kind, "name": name, "title": self.title, "about": self.about.as_ref().ok(),
            "damage": self.about.as_ref().err(), "path": path, "bytes": bytes, "used": time(*used),
        })
    }
}

/// The packages that were asked for, and how many these need.
fn asked(set: &Set) -> String {
    let (asked, needed): (Vec<_>, Vec<_>) = set.packages.iter().partition(|package| package.asked);
    let names: Vec<&str> = asked.iter().map(|package| package.name.as_str()).collect();
    format!("{}; {} that they need", names.join(", "), needed.len())
}

/// A time as RFC 3339 has it.
fn time(time: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(time).ok().and_then(|time| time.round(jiff::Unit::Second).ok()).map(|t| t.to_string())
}

fn total<'a>(items: impl IntoIterator<Item = &'a Item>) -> u64 {
    items.into_iter().map(|item| item.bytes).sum()
}

fn listed(entries: &[Described], folder: &Path) -> Value {
    let bytes = total(entries.iter().map(|entry| &entry.item));
    json!({ "folder": folder, "bytes": bytes, "entries": entries.iter().map(Described::json).collect::<Vec<_>>() })
}

/// One line an entry, below the name of what it is.
fn table(entries: &[Described], folder: &Path, now: SystemTime, styles: &Styles) -> String {
    let quiet = |text: &str| styles.quiet.apply_to(text).to_string();
    let mut rows = Vec::new();
    let mut kind = None;
    for Described { item, title, about } in entries {
        let label = if kind.replace(item.kind) == Some(item.kind) { "" } else { item.kind.name() };
        let about = match about {
            Ok(text) => quiet(text),
            Err(damage) => styles.bad.apply_to(format!("damaged: {damage}")).to_string(),
        };
        let age = ago(now.duration_since(item.used).unwrap_or_default());
        rows.push([quiet(label), title.clone(), size(item.bytes), age, about]);
    }
    let all = total(entries.iter().map(|entry| &entry.item));
    let whole = [quiet("total"), folder.display().to_string(), size(all), String::new(), String::new()];
    rows.push(whole.map(|cell| styles.strong.apply_to(cell).to_string()));
    to_the_right(&mut rows.iter_mut().map(|row| &mut row[2]).collect::<Vec<_>>());
    aligned(&rows)
}

/// What became of the entries that were to go.
#[derive(Default)]
struct Swept {
    freed: Vec<(Item, Reason)>,
    in_use: Vec<(Item, Reason)>,
}

/// Deletes what was not used for long, and what is of no use.
///
/// # Errors
/// Something cannot be deleted; everything else is, and is said.
pub fn gc(args: &GcArgs) -> Result<()> {
    let cache = Cache::unproved(Cache::place()?);
    let items = cache.inventory();
    let policy = Policy { unused_for: args.older_than, keep: args.keep_size, all: args.all };
    let damaged = |item: &Item| match item.kind {
        Kind::Kernels => kernel::look(&item.path).damage.is_some(),
        Kind::Sources => KernelSource::open(item.path.clone()).is_err(),
        Kind::Images | Kind::Packages => seal::damage_seen(&item.path).is_some(),
        Kind::Templates => template::about(&item.path).is_err(),
        _ => false,
    };
    let (mut swept, mut first_error) = (Swept::default(), Ok(()));
    for (item, reason) in plan(&items, &policy, SystemTime::now(), &damaged) {
        match cache.free(item, args.dry_run) {
            Ok(Fate::Freed) => swept.freed.push((item.clone(), reason)),
            Ok(Fate::InUse) => swept.in_use.push((item.clone(), reason)),
            Ok(Fate::Gone) => {}
            // The others may still go.
            Err(error) => first_error = first_error.and(Err(error)),
        }
    }
    if !args.dry_run {
        kernel::forget_gone(&cache);
    }
    let left = total(&items) - total(swept.freed.iter().map(|(item, _)| item));
    let text = match args.json {
        true => format!("{}\n", swept.json(&cache, args.dry_run, left)),
        false => swept.table(args.dry_run, left, &Styles::stdout()),
    };
    ui::print(&text).or_host("write to standard output")?;
    first_error
}

impl Swept {
    fn json(&self, cache: &Cache, dry_run: bool, left: u64) -> Value {
        let entries = |of: &[(Item, Reason)]| -> Vec<Value> {
            of.iter()
                .map(|(item, reason)| {
                    json!({ "kind": item.kind, "name": item.name, "bytes": item.bytes, "used": time(item.used), "reason": reason })
                })
                .collect()
        };
        json!({
            "folder": cache.root(), "dry_run": dry_run, "freed_bytes": total(self.freed.iter().map(|(item, _)| item)),
            "left_bytes": left, "freed": entries(&self.freed), "in_use": entries(&self.in_use),
        })
    }

    fn table(&self, dry_run: bool, left: u64, styles: &Styles) -> String {
        let row = |(item, _): &(Item, Reason), why: String| {
            let kind = styles.quiet.apply_to(item.kind.name()).to_string();
            [kind, printable(&item.name), size(item.bytes), why]
        };
        let freed = self.freed.iter().map(|entry| row(entry, said(entry.1).into()));
        let kept = self.in_use.iter().map(|entry| row(entry, styles.warn.apply_to("in use, kept").to_string()));
        let mut rows: Vec<_> = freed.chain(kept).collect();
        let verb = if dry_run { "would be freed" } else { "freed" };
        let freed = size(total(self.freed.iter().map(|(item, _)| item)));
        let rest = if dry_run { "would be left" } else { "left" };
        rows.push([styles.quiet.apply_to("total").to_string(), verb.into(), freed, format!("{} {rest}", size(left))]);
        to_the_right(&mut rows.iter_mut().map(|row| &mut row[2]).collect::<Vec<_>>());
        aligned(&rows)
    }
}

/// A reason in words.
fn said(reason: Reason) -> &'static str {
    match reason {
        Reason::All => "all is to go",
        Reason::Damaged => "damaged",
        Reason::Abandoned => "left by a kdbg that was killed",
        Reason::SourceGone => "its source is gone",
        Reason::Unused => "not used for long",
        Reason::Size => "used least recently",
    }
}
