//! Kernels of a distribution's packages: found, fetched once, filed; and packages that are no kernels. apt is a fake, the
//! packages are real and small: no guest runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use support::builds::{LIMIT, built};
use support::{AFTERMATH, Ended, Place, Running};

/// The kernel, `uname -r` as Debian's.
const RELEASE: &str = "5.999.0-7-mock-amd64";
/// Its package.
const IMAGE: &str = "linux-image-5.999.0-7-mock-amd64";
/// The package that depends on the newest kernel.
const NEWEST: &str = "linux-image-mock-amd64";
/// Their version.
const VERSION: &str = "5.999.7-1";

/// What the packages hold.
struct Mock {
    config: &'static str,
    /// Whether apt has the debug information, and whether vmlinux is in it.
    debug: Option<bool>,
    /// The build that the image says it is of.
    build: u8,
}

impl Default for Mock {
    fn default() -> Mock {
        let config = "CONFIG_PVH=y\nCONFIG_VETH=m\nCONFIG_CC_VERSION_TEXT=\"gcc-12 (Mock) 12.2.0\"\n";
        Mock { config, debug: Some(true), build: 1 }
    }
}

impl Mock {
    /// A place whose apt offers the packages.
    fn place(&self) -> Place {
        let place = Place::with_empty_cache();
        let pool = place.path().join("pool");
        fs::create_dir(&pool).unwrap();
        let module = format!("lib/modules/{RELEASE}/kernel/net/veth.ko");
        let image = [
            (format!("boot/config-{RELEASE}"), self.config.into()),
            (format!("boot/vmlinuz-{RELEASE}"), bzimage(self.build)),
            (module.clone(), object(MODULE)),
        ];
        pack(&pool, IMAGE, &image);
        if let Some(has_vmlinux) = self.debug {
            let mut debug = vec![(format!("usr/lib/debug/{module}"), object(MODULE))];
            if has_vmlinux {
                debug.push((format!("usr/lib/debug/boot/vmlinux-{RELEASE}"), program()));
            }
            pack(&pool, &format!("{IMAGE}-dbg"), &debug);
        }
        offer(&place, &pool);
        place
    }
}

const MODULE: &str = "static const char info[] __attribute__((section(\".modinfo\"), used)) = \"depends=\";\n";

/// Compiles `source` with these options; returns what came out.
fn compile(source: &str, options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.c"), folder.path().join("a"));
    fs::write(&from, source).unwrap();
    let status = Command::new("gcc").args(["-g", "-o"]).arg(&to).arg(&from).args(options).status().unwrap();
    assert!(status.success());
    fs::read(to).unwrap()
}

fn object(source: &str) -> Vec<u8> {
    compile(source, &["-c"])
}

/// As much of an image as says which build it is of.
fn bzimage(build: u8) -> Vec<u8> {
    let mut image = vec![0; 0x200];
    image.extend([&[0; 2], &b"HdrS"[..], &[0; 8], &[0x00, 0x01]].concat());
    image.resize(0x300, 0);
    image.extend(format!("{RELEASE} (mock@here) #{build} Mock {VERSION}\0").into_bytes());
    image
}

fn program() -> Vec<u8> {
    let banner = format!("Linux version {RELEASE} (mock@here) (gcc-12 (Mock) 12.2.0) #1 Mock {VERSION}");
    let source =
        format!("const char linux_banner[] = \"{banner}\\n\";\nint answer = 42;\nvoid _start(void) {{ for (;;); }}\n");
    compile(&source, &["-nostdlib", "-static", "-Wl,--build-id", "-Wl,--emit-relocs"])
}

/// Makes the package `name` of these files in `pool`.
fn pack(pool: &Path, name: &str, files: &[(String, Vec<u8>)]) {
    let root = tempfile::tempdir().unwrap();
    let control = format!(
        "Package: {name}\nVersion: {VERSION}\nArchitecture: amd64\nMaintainer: kdbg <kdbg@localhost>\nDescription: mock\n"
    );
    for (path, data) in files.iter().cloned().chain([("DEBIAN/control".into(), control.into_bytes())]) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
    let deb = pool.join(format!("{name}_{VERSION}_amd64.deb"));
    let said = Command::new("dpkg-deb").args(["-Znone", "-b"]).arg(root.path()).arg(deb).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// Makes apt offer what is in `pool`, and count its downloads in `pool/downloads`.
fn offer(place: &Place, pool: &Path) {
    let pool = pool.display();
    place.fake(
        "apt-cache",
        &format!(
            "case \"$*\" in\n\
             'show --no-all-versions {NEWEST}') printf 'Package: {NEWEST}\\nVersion: {VERSION}\\nDepends: {IMAGE} (= {VERSION})\\n';;\n\
             'show --no-all-versions {IMAGE}') printf 'Package: {IMAGE}\\nVersion: {VERSION}\\nDepends: kmod\\n';;\n\
             'pkgnames linux-image-') printf '{IMAGE}\\n{IMAGE}-dbg\\nlinux-image-lonely\\n';;\n\
             *) echo 'E: No packages found'; exit 100;; esac"
        ),
    );
    place.fake(
        "apt-get",
        &format!(
            "[ \"$1\" = --print-uris ] && {{ shift; print=y; }}\n[ \"$1\" = download ] || exit 99; shift\n\
             [ \"$print\" ] || echo \"$*\" >> '{pool}/downloads'\n\
             for wanted; do file=\"${{wanted%%=*}}_${{wanted#*=}}_amd64.deb\"; deb='{pool}'/$file\n\
             [ -e \"$deb\" ] || {{ echo \"E: Version of $wanted was not found\"; exit 100; }}\n\
             if [ \"$print\" ]; then echo \"'http://mock/$file' $file $(wc -c < \"$deb\") SHA256:$(sha256sum < \"$deb\" | cut -c 1-64)\"\n\
             else cp \"$deb\" .; fi; done"
        ),
    );
}

fn start(place: &Place, kernel: &str, more: &[&str]) -> Running {
    let recipe = place.file("test.yaml", &format!("name: test\nkernel: {{ {kernel} }}\n"));
    let args = [&["build", recipe.to_str().unwrap(), "--json"], more].concat();
    place.kdbg(&args)
}

fn build(place: &Place, kernel: &str, more: &[&str]) -> Ended {
    let ended = start(place, kernel, more).wait_within(LIMIT);
    place.assert_nothing_left();
    assert_eq!(place.cached("staging"), [""; 0]);
    ended
}

fn readelf(file: &Value) -> String {
    let output = Command::new("readelf").args(["-SW", file.as_str().unwrap()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_package_is_fetched_once_and_filed_like_a_build() {
    let place = Mock::default().place();
    let first = built(&build(&place, &format!("package: {NEWEST}"), &[]));
    assert_eq!((&first["cached"], &first["release"]), (&false.into(), &RELEASE.into()));
    assert_eq!((&first["compiler"], &first["source_tree"]), (&"gcc-12 (Mock) 12.2.0".into(), &Value::Null));
    let sections = readelf(&first["vmlinux"]);
    assert!(sections.contains(".gdb_index") && !sections.contains(".rela"), "{sections}");
    assert!(!readelf(&first["boot_image"]).contains(".debug_"));
    let entry = Path::new(first["vmlinux"].as_str().unwrap()).parent().unwrap();
    let modules = fs::read_to_string(entry.join("modules.json")).unwrap();
    assert!(modules.contains(r#""path":"kernel/net/veth.ko","debug":"kernel/net/veth.ko""#), "{modules}");
    // The name that led there and the name it led to are the same kernel; the second asks apt, and fetches nothing.
    let same = built(&build(&place, &format!("package: {IMAGE}"), &[]));
    assert_eq!(same["key"], first["key"]);
    for tool in ["apt-get", "apt-cache"] {
        place.fake(tool, "echo 'apt was asked'; exit 1");
    }
    let again = built(&build(&place, &format!("package: {NEWEST}"), &[]));
    assert_eq!((&again["cached"], &again["key"]), (&true.into(), &first["key"]));
    assert_eq!(fs::read_to_string(place.path().join("pool/downloads")).unwrap().lines().count(), 1);
}

#[test]
fn the_source_of_the_same_version_is_found_in_the_cache() {
    let place = Mock::default().place();
    let kernel = format!("package: {IMAGE}");
    built(&build(&place, &kernel, &[]));
    for (version, is_taken) in [("5.999.7-2", false), (VERSION, true)] {
        let tree = place.path().join(format!("cache/sources/linux-source-5.999_{version}"));
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("Makefile"), "").unwrap();
        let found = built(&build(&place, &kernel, &[]))["source_tree"].clone();
        assert_eq!(found == tree.to_str().unwrap(), is_taken, "{version}");
    }
}

#[test]
fn what_another_recipe_asks_for_and_the_package_has_off_is_named() {
    let place = Mock::default().place();
    let recipe = "version: '6.1', config: [base], options: { VETH: y, DUMMY: y, IPV6: n }";
    let ended = build(&place, recipe, &["--kernel", IMAGE]);
    built(&ended);
    let warning = format!("{IMAGE} has options off that the recipe turns on: DUMMY\n");
    assert!(ended.stderr.contains(&warning), "{ended}");
}

#[test]
fn a_package_that_apt_does_not_know_is_pointed_at_with_those_that_there_are() {
    let place = Mock::default().place();
    let ended = build(&place, "package: linux-image-5.999.0-8-mock-amd64", &[]);
    let near = format!("did you mean `{IMAGE}`?");
    let listed = format!("kernels with debug information: `{IMAGE}`");
    ended.assert_refused(2, &["apt knows no package", "test.yaml:2:20", &near, &listed]);
    assert!(!ended.stderr.contains("lonely"), "{ended}");
    let ended = build(&place, "version: '6.1'", &["--kernel", "linux-image-moon"]);
    ended.assert_refused(2, &["--kernel linux-image-moon: apt knows no package `linux-image-moon`"]);
}

/// Packages that are whole and are no kernel for kdbg.
#[test]
fn a_package_without_what_kdbg_needs_is_refused_and_nothing_is_kept() {
    let cases = [
        (Mock { debug: None, ..Mock::default() }, 2, "the package `linux-image-5.999.0-7-mock-amd64-dbg` is not there"),
        (Mock { debug: Some(false), ..Mock::default() }, 4, "hold no usr/lib/debug/boot/vmlinux-5.999.0-7-mock-amd64"),
        (Mock { config: "# CONFIG_PVH is not set\n", ..Mock::default() }, 4, "has CONFIG_PVH off"),
        (Mock { build: 2, ..Mock::default() }, 4, "the debug information is of Linux version 5.999.0-7-mock-amd64"),
        (Mock { config: "moon\n", ..Mock::default() }, 4, "line 1 is not understood: moon"),
    ];
    for (mock, code, text) in cases {
        let place = mock.place();
        build(&place, &format!("package: {IMAGE}"), &[]).assert_refused(code, &[text]);
        assert_eq!(place.cached("kernels"), [""; 0], "{text}");
    }
}

#[test]
fn what_a_build_takes_cannot_be_asked_of_a_package() {
    let place = Mock::default().place();
    for key in ["config: [base]", "options: { VETH: y }", "patches: [a.patch]"] {
        let ended = build(&place, &format!("package: {IMAGE}, {key}"), &[]);
        ended.assert_refused(2, &["cannot go with `package`", "its kernel is built already"]);
    }
}

#[test]
fn a_host_without_apt_is_told_that_only_debians_kernels_are_supported() {
    let mut place = Mock::default().place();
    for tool in ["apt-get", "apt-cache"] {
        fs::remove_file(place.path().join("bin").join(tool)).unwrap();
    }
    place.hide("apt-get");
    let ended = build(&place, &format!("package: {IMAGE}"), &[]);
    ended.assert_refused(3, &["apt-get (", "only Debian's kernels are supported so far", "missing"]);
}

#[test]
fn a_download_that_fails_or_is_interrupted_leaves_nothing() {
    let place = Mock::default().place();
    let real = fs::read_to_string(place.path().join("bin/apt-get")).unwrap();
    let with = |step: &str| {
        let script =
            real.replacen("[ \"$print\" ] ||", &format!("[ \"$print\" ] || {{ {step}; }}; [ \"$print\" ] ||"), 1);
        assert_ne!(script, real);
        fs::write(place.path().join("bin/apt-get"), script).unwrap();
    };
    let kernel = format!("package: {IMAGE}");
    with("echo 'E: 404 Not Found'; exit 100");
    build(&place, &kernel, &[]).assert_refused(4, &["`apt-get download", "E: 404 Not Found", "`apt-get update`"]);
    with("echo half > half.deb; sleep 1000");
    let running = start(&place, &kernel, &[]);
    place.process("sleep");
    running.signal(Signal::INT);
    running.wait_within(AFTERMATH).assert_refused(130, &["interrupted"]);
    place.assert_nothing_left();
    assert_eq!((place.cached("staging"), place.cached("kernels")), (vec![], vec![]));
}
