//! Images: what goes into a guest's user space, from the host and from packages, and what is said when it is not to be
//! had. apt is a fake, the packages are real and small; one guest boots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::{Ended, HIT, Place, slot};

/// How long it may take to be told that an image cannot be made.
const LIMIT: Duration = Duration::from_secs(60);

/// Needs a library of another package, and ends with what that tells it.
const TOOL: &str = "int answer(void);\nvoid _start(void) { __asm__(\"syscall\" :: \"a\"(231), \"D\"(answer())); }\n";

/// Compiles `source` to `folder/name`.
fn compile(folder: &Path, name: &str, source: &str, options: &[&str]) -> Vec<u8> {
    let from = folder.join("source.c");
    fs::write(&from, source).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.current_dir(folder).args(["-nostdlib", "-O1", "-o", name]).arg(from).args(options);
    assert!(gcc.status().unwrap().success());
    fs::read(folder.join(name)).unwrap()
}

/// Makes the package `name` of these files in `pool`.
fn pack(pool: &Path, name: &str, files: &[(&str, &[u8])]) {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let control = format!(
        "Package: {name}\nVersion: 1:2-3\nArchitecture: amd64\nMaintainer: kdbg <kdbg@localhost>\nDescription: mock\n"
    );
    for (path, data) in files.iter().copied().chain([("DEBIAN/control", control.as_bytes())]) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        let mode = if path.to_str().unwrap().contains("/usr/") { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let deb = pool.join(format!("{name}_1%3a2-3_amd64.deb"));
    let said = Command::new("dpkg-deb").args(["-Znone", "-b"]).arg(root.path()).arg(deb).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// A place whose apt offers `tool`, which needs `libtool1` and the linker, and `broken`, which needs what nobody has.
fn place() -> Place {
    let place = Place::with_own_templates();
    let (work, pool) = (place.path().join("work"), place.path().join("pool"));
    [&work, &pool].iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let library =
        compile(&work, "libtool.so", "int answer(void) { return 42; }", &["-shared", "-Wl,-soname,libtool.so.1"]);
    let tool = compile(&work, "tool", TOOL, &["libtool.so"]);
    let linker = fs::read("/lib64/ld-linux-x86-64.so.2").unwrap();
    pack(&pool, "tool", &[("usr/sbin/tool", &tool), ("usr/share/doc/tool/copyright", b"mock"), ("etc/tool", b"mock")]);
    pack(&pool, "libtool1", &[("usr/lib/x86_64-linux-gnu/libtool.so.1", &library), ("usr/bin/not-asked-for", b"mock")]);
    pack(&pool, "linker", &[("lib64/ld-linux-x86-64.so.2", &linker)]);
    offer(&place, &pool, &["tool", "libtool1", "linker"]);
    place
}

/// Makes apt offer these packages of `pool`, whichever is asked for, and count its downloads in `pool/downloads`.
fn offer(place: &Place, pool: &Path, packages: &[&str]) {
    let (pool, packages) = (pool.display(), packages.join(" "));
    place.fake(
        "apt-cache",
        "[ \"$1\" = pkgnames ] && echo tool; [ \"$*\" = 'policy tool' ] && echo '  Candidate: 1:2-3'; exit 0",
    );
    place.fake(
        "apt-get",
        &format!(
            "for word; do case $word in Dir::Cache::archives=*) archives=${{word#*=}};; --print-uris) print=y;; esac; done\n\
             case \"$*\" in *' install '*tool*);; *) echo 'E: Unable to locate package'; exit 100;; esac\n\
             [ \"$print\" ] || echo \"$*\" >> '{pool}/downloads'\n\
             for name in {packages}; do file=\"${{name}}_1%3a2-3_amd64.deb\"\n\
             if [ \"$print\" ]; then echo \"'http://mock/$file' $file 1000 MD5Sum:0\"; else cp \"{pool}/$file\" \"$archives\"; fi; done"
        ),
    );
}

/// Runs these steps in a guest with the image that this text describes.
fn run(place: &Place, image: &str, steps: &[&str]) -> Ended {
    let folder = place.path().join("images");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("mine.yaml"), format!("name: mine\n{image}")).unwrap();
    let mut recipe =
        "name: test\nkernel: { version: '6.1' }\nguest: { image: mine }\nprobes: [{ name: rst, at: tcp_v4_send_reset }]\ntrigger:\n"
            .to_owned();
    steps.iter().for_each(|step| recipe += &format!("  - {step}\n"));
    let _ = fs::remove_dir_all(place.out());
    let ended = place.start(&recipe).wait_within(LIMIT);
    place.assert_nothing_left();
    ended
}

/// The run ended with this, before there was a guest.
#[track_caller]
fn assert_told(ended: &Ended, code: i32, words: &[&str]) {
    ended.assert_code(code);
    let report = ended.report();
    assert!(report["machine"].is_null(), "{ended}");
    let told = format!("{}\n{}", report["error"]["message"], report["error"]["hint"]);
    words.iter().for_each(|word| assert!(told.contains(word), "no `{word}` in: {told}"));
}

#[test]
fn a_guest_has_what_its_image_lists() {
    use std::os::unix::fs::PermissionsExt;
    let _slot = slot();
    let place = place();
    let images = place.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::write(images.join("script"), "#!/bin/sh\necho from a file\n").unwrap();
    fs::set_permissions(images.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    let image = "include: [base]\nprograms: [bash]\npackages: [tool]\nfiles: { /usr/local/bin/script: script }\n\
                 links: { /bin/other-tool: /usr/sbin/tool }\nusers: [somebody]\nsysctls: { kernel.panic: 7, vm/swappiness: 3 }\n";
    let steps = [
        "{ name: a program of a package, run: tool, exit: 42 }",
        "{ name: a link, run: other-tool, exit: 42 }",
        "{ name: a program of the host, run: 'bash -c \"[[ a == a ]]\"' }",
        "{ name: a file, run: '[ \"$(/usr/local/bin/script)\" = \"from a file\" ]' }",
        "{ name: a user, run: '[ \"$(su somebody -c \"id -un\")\" = somebody ]' }",
        "{ name: sysctls, run: '[ $(cat /proc/sys/kernel/panic /proc/sys/vm/swappiness | tr -d \"\\n\") = 73 ]' }",
        "{ name: what goes, run: '[ -f /etc/tool ] && [ ! -e /usr/share/doc ] && [ ! -e /usr/bin/not-asked-for ]' }",
    ];
    let first = run(&place, image, &steps);
    first.assert_passed();
    let lock = fs::read_to_string(place.out().join("kdbg.lock.yaml")).unwrap();
    assert!(lock.contains("libtool1: 1:2-3\n"), "{lock}");
    // The same again: apt is not asked, and the same archive is taken.
    let archives = place.cached("images");
    assert!(lock.contains(&format!("\n  key: {}\n", archives[0].strip_prefix("mine-").unwrap())), "{lock}");
    place.fake("apt-get", "echo 'apt was asked'; exit 1");
    run(&place, image, &steps[..1]).assert_passed();
    assert_eq!((archives.len(), place.cached("images")), (1, archives));
    assert_eq!(fs::read_to_string(place.path().join("pool/downloads")).unwrap().lines().count(), 1);
}

/// The one archive in a place's cache.
fn archive(place: &Place) -> Vec<u8> {
    let [image] = &place.cached("images")[..] else { panic!("{:?}", place.cached("images")) };
    fs::read(place.path().join("cache/images").join(image).join("initramfs.cpio")).unwrap()
}

#[test]
fn two_caches_make_the_same_archive_of_packages() {
    let _slot = slot();
    // The order is the recipe's; packages of the distribution, where apt has them, are as good.
    for (image, is_mock) in [("packages: [tool, linker]\n", true), ("packages: [ethtool, socat]\n", false)] {
        let places = [(); 2].map(|()| if is_mock { place() } else { Place::with_own_templates() });
        let recipe = places.each_ref().map(|place| run(place, &format!("include: [base]\n{image}"), &[HIT]));
        for ended in recipe {
            if !is_mock && ended.code == Some(3) {
                support::skip(&format!("packages cannot be had here: {ended}"));
                return;
            }
            ended.assert_passed();
        }
        let [one, other] = places.each_ref().map(archive);
        assert!(one == other, "{} and {} bytes of {image}", one.len(), other.len());
    }
}

#[test]
fn what_an_image_cannot_have_is_shown_at_its_line() {
    let mut place = place();
    let cases = [
        ("packages: [tol]\n", 2, vec!["apt knows no package `tol`", "mine.yaml:2:12", "did you mean `tool`?"]),
        ("programs: [busybox, no-such-program]\n", 3, vec!["no-such-program is not on this host", "mine.yaml:2:21"]),
        ("include: [base]\nlibraries: [xtablez]\n", 3, vec!["no folder of libraries `xtablez`", "mine.yaml:3:13"]),
        ("packages: [tool]\n", 2, vec!["runs in /bin/busybox, which is not in the image", "include `base`"]),
    ];
    for (image, code, words) in cases {
        assert_told(&run(&place, image, &[]), code, &words);
    }
    fs::write(place.path().join("images/large"), vec![0; 90 << 20]).unwrap();
    let large = run(&place, "include: [base]\nfiles: { /large: large }\n", &[]);
    assert_told(&large, 2, &["does not fit into 256M of memory", "test.yaml:3:", "`memory: 320M`"]);
    offer(&place, &place.path().join("pool"), &["tool", "linker"]);
    fs::remove_dir_all(place.path().join("cache/packages")).unwrap();
    let words =
        ["`tool` needs the library libtool.so.1, which is not to be found", "mine.yaml:3:12", "/usr/sbin/tool asks"];
    assert_told(&run(&place, "include: [base]\npackages: [tool]\n", &[]), 3, &words);
    fs::remove_dir_all(place.path().join("cache/packages")).unwrap();
    for tool in ["apt-get", "apt-cache"] {
        fs::remove_file(place.path().join("bin").join(tool)).unwrap();
    }
    place.hide("apt-get");
    let words = ["packages come by apt, which this host does not have", "mine.yaml:2:12", "list them in `programs`"];
    assert_told(&run(&place, "packages: [tool]\n", &[]), 3, &words);
}

#[test]
fn packages_that_cannot_be_fetched_leave_nothing() {
    let place = place();
    place.fake(
        "apt-get",
        "case \"$*\" in *print-uris*) echo \"'x' tool_1_amd64.deb 1 MD5Sum:0\";; *) echo 'E: 404'; exit 100;; esac",
    );
    assert_told(&run(&place, "packages: [tool]\n", &[]), 3, &["apt-get cannot download tool", "E: 404"]);
    assert_eq!((place.cached("packages"), place.cached("staging")), (vec![], vec![]));
}
