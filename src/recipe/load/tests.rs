//! Bad recipes, and what is said about each: the whole text, as a user sees it, is in `snapshots/`.

mod probes;

use std::fmt::Write;

use super::*;

const GOOD: &str = r#"name: mine
about: Why?
kernel:
  version: "6.1"
  config: [base, net]
  options: { NETFILTER: n }
guest:
  image: base
  cpus: 1
  memory: 256M
probes:
  - name: rst
    at: tcp_v4_send_reset
    when: skb->len > 0
    show: { state: sk->__sk_common.skc_state }
    limit: 8
trigger:
  - name: connect
    run: nc 127.0.0.1 9
    exit: 1
    timeout: 10s
expect:
  - probe: rst
    hits: 1
    through: [tcp_v4_rcv]
    where: { sk: "0x0" }
"#;

/// What is said when `from` in a good recipe is replaced by each of `to`, one below the other.
fn gallery(cases: &[(&str, &str)]) -> String {
    let mut shown = String::new();
    for (from, to) in cases {
        assert!(from.is_empty() || GOOD.contains(from), "{from}");
        let text = if from.is_empty() { (*to).to_owned() } else { GOOD.replacen(from, to, 1) };
        let error = parse("recipes/mine.yaml", &text).expect_err(to);
        assert_eq!(error.kind.exit_code(), 2);
        writeln!(shown, "error: {}\n", error.message).unwrap();
    }
    shown
}

#[test]
fn a_good_recipe_is_good() {
    let loaded = parse("recipes/mine.yaml", GOOD).unwrap();
    assert_eq!((loaded.recipe.name.as_str(), loaded.sha256.len()), ("mine", 64));
    assert_eq!(loaded.folder(), Path::new("recipes"));
    let odd = [
        "name: x\nkernel: {version: [6.10]}\n",
        "# c\n---\nname: &n e\nkernel: {version: '6.1'}\nprobes: [{name: *n, at: *n}]\n...\n",
        "\u{feff}name: x\nkernel: {version: '6.1'}\n",
        "name: x\r\nkernel:\r\n  version: '6.1'\r\n",
        "name: x\nkernel: {version: '6.1'}\nabout: >\n  folded\n  text\n",
    ];
    for text in odd {
        parse("a.yaml", text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    }
}

#[test]
fn the_example_of_the_reference_is_good() {
    let page = include_str!("../../../docs/recipe.md");
    let (example, _) = page.split_once("## Keys").unwrap();
    let blocks = example.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap());
    let loaded = parse("recipes/icmp-unreachable.yaml", &blocks.collect::<String>()).unwrap();
    assert_eq!((loaded.recipe.probes.len(), loaded.recipe.expect.len()), (1, 1));
}

#[test]
fn text_that_is_not_yaml() {
    let said = gallery(&[
        ("", ""),
        ("", "\n\n"),
        ("", "# nothing yet\n"),
        ("", "---\n"),
        ("", "just words\n"),
        ("", "- a\n- b\n"),
        ("about: Why?", "about: Why: because"),
        ("about: Why?", "about: 'Why?"),
        ("  version", "\tversion"),
        ("config: [base, net]", "config: [base, net"),
        ("memory: 256M", "memory: *size"),
        ("at: tcp_v4_send_reset", "at: *0xffffffff81000000"),
        ("trigger:", "---\ntrigger:"),
        ("limit: 8", "limit: 8\n    limit: 9"),
        ("NETFILTER: n", "NETFILTER: n, NETFILTER: y"),
    ]);
    insta::assert_snapshot!(said);
}

#[test]
fn keys_and_types() {
    let said = gallery(&[
        ("about:", "abuot:"),
        ("limit: 8", "limits: 8"),
        ("memory: 256M", "qemu: -monitor stdio"),
        ("memory: 256M", "network: { mode: bridge }"),
        ("memory: 256M", "network: { captures: true }"),
        ("    at: tcp_v4_send_reset\n", ""),
        ("name: mine\n", ""),
        ("limit: 8", "limit: many"),
        ("limit: 8", "limit: -8"),
        ("limit: 8", "limit: 4294967296"),
        ("limit: 8", "limit:"),
        ("at: tcp_v4_send_reset", "at: [tcp_v4_send_reset]"),
        ("config: [base, net]", "config: base"),
        ("version: \"6.1\"", "version: 6.1"),
        ("NETFILTER: n", "NETFILTER: 1.5"),
        ("memory: 256M", "memory: 256"),
        ("timeout: 10s", "timeout: 10"),
        ("timeout: 10s", "timeout: soon"),
        ("hits: 1", "hits: several"),
        ("sk: \"0x0\"", "sk: NULL"),
        ("state: sk->__sk_common.skc_state", "ü: [1]"),
        ("- name: rst\n    at", "- at"),
    ]);
    insta::assert_snapshot!(said);
}

#[test]
fn values_that_make_no_sense() {
    let said = gallery(&[
        ("name: mine", "name: My recipe"),
        ("\"6.1\"", "[\"6.1\", \"6.1\"]"),
        ("\"6.1\"", "[]"),
        ("\"6.1\"", "latest"),
        ("[base, net]", "[../base, net, net]"),
        ("NETFILTER", "CONFIG_NETFILTER"),
        ("NETFILTER", "netfilter"),
        ("NETFILTER: n", "LOCALVERSION: \"x\\nCONFIG_Y=y\""),
        ("image: base", "image: /etc/base"),
        ("cpus: 1", "cpus: 0"),
        ("memory: 256M", "memory: 65G"),
        ("name: rst", "name: \"\""),
        ("name: connect", "name: \"a\\nb\""),
        ("at: tcp_v4_send_reset", "at: tcp_v4_rcv:+"),
        ("at: tcp_v4_send_reset", "at: ../net/a.c:3"),
        ("at: tcp_v4_send_reset", "at: tcp_v4_rcv; shell id"),
        ("skb->len > 0", "skb->len = 0"),
        ("skb->len > 0", "|\n      skb->len > 0\n      && kfree(skb)"),
        ("skb->len > 0", "\"\""),
        ("sk->__sk_common.skc_state", "ntohs(sk->__sk_common.skc_dport)"),
        ("sk->__sk_common.skc_state", "'$_shell(\"id\")'"),
        ("limit: 8", "limit: 0\n    stack: 0"),
        ("run: nc 127.0.0.1 9", "run: \"\""),
        ("exit: 1", "exit: 256"),
        ("timeout: 10s", "timeout: 0s"),
        ("probe: rst", "probe: rts"),
        ("hits: 1", "hits: \">= 9\""),
        ("[tcp_v4_rcv]", "[tcp_v4_rcv, 'a b', f.isra.0]"),
    ]);
    insta::assert_snapshot!(said);
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text =
        "name: x\nkernel: { version: \"6.1\" }\nprobes:\n  - { name: a, at: f() }\n  - { name: a, at: g, when: i++ }\n";
    insta::assert_snapshot!(parse("a.yaml", text).unwrap_err().message);
}

#[test]
fn later_stages_point_into_the_recipe() {
    let loaded = parse("recipes/mine.yaml", GOOD).unwrap();
    let helps = ["close by: tcp_v4_send_ack".to_owned()];
    let error = loaded.diagnose(
        "probes[0].at",
        "probe `rst`: no such function in this kernel",
        "not in vmlinux 6.1.192",
        &helps,
    );
    insta::assert_snapshot!(error.message);
}

#[test]
fn files_that_are_no_recipes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("quiet-drop.yaml"), GOOD).unwrap();
    std::fs::write(path("latin1.yaml"), b"name: x\nabout: \xfc\n").unwrap();
    std::fs::write(path("big.yaml"), vec![b'#'; 1 << 20]).unwrap();
    let nested = format!("name: {}", "[".repeat(100_000));
    std::fs::write(path("nested.yaml"), nested).unwrap();
    let cases = [
        ("quite-drop.yaml", "there is no file DIR/quite-drop.yaml", "close by: DIR/quiet-drop.yaml"),
        (
            "zzzzzzzzzz.yaml",
            "there is no file DIR/zzzzzzzzzz.yaml",
            "`kdbg recipe list` shows the recipes that are there",
        ),
        ("latin1.yaml", "DIR/latin1.yaml:2 is not UTF-8 text", "convert it: iconv -t UTF-8 DIR/latin1.yaml"),
        ("big.yaml", "DIR/big.yaml is no recipe: it is 1024 KiB long", ""),
        ("", "DIR/ is a folder, not a recipe", "`kdbg recipe list` shows the recipes; name one: DIR/NAME.yaml"),
    ];
    for (name, message, hint) in cases {
        let error = load(&path(name)).unwrap_err();
        let plain = |text: &str| text.replace(folder.path().to_str().unwrap(), "DIR");
        assert_eq!((plain(&error.message).as_str(), plain(&error.hint.unwrap_or_default()).as_str()), (message, hint));
    }
    let nested = load(&path("nested.yaml")).unwrap_err();
    assert!(nested.message.starts_with("this is not YAML: recursion limit exceeded"), "{}", nested.message);
}

/// The kernels of a recipe with that `kernel`, when the command line names those.
fn kernels(kernel: &str, named: &[&str]) -> Result<Vec<String>, String> {
    let loaded = parse("mine.yaml", &format!("name: mine\nkernel: {kernel}\n")).map_err(|error| error.message)?;
    let named: Vec<String> = named.iter().map(ToString::to_string).collect();
    let recipes = loaded.for_each_kernel(&named).map_err(|error| error.message)?;
    Ok(recipes.into_iter().filter_map(|one| one.recipe.kernel.choice()).map(|choice| format!("{choice:?}")).collect())
}

#[test]
fn there_is_one_recipe_for_each_kernel_and_the_command_line_wins() {
    let two = "{ version: ['6.1', '6.12'] }";
    let is = |list: &[&str]| Ok(list.iter().map(ToString::to_string).collect());
    assert_eq!(kernels(two, &[]), is(&[r#"Version("6.1")"#, r#"Version("6.12")"#]));
    assert_eq!(kernels(two, &["5.10"]), is(&[r#"Version("5.10")"#]));
    assert_eq!(kernels(two, &["linux-image-6.1-amd64"]), is(&[r#"Package("linux-image-6.1-amd64")"#]));
    assert_eq!(kernels("{ package: linux-image-x }", &[]), is(&[r#"Package("linux-image-x")"#]));
    assert_eq!(kernels("{ source: { tree: src/linux } }", &[]), is(&[r#"Source(Tree("src/linux"))"#]));
    assert_eq!(kernels(two, &["6.1", "6.1"]), Err("the kernel `6.1` is named twice".to_string()));
    assert_eq!(kernels(two, &["latest"]), Err("`latest` is not a kernel version".to_string()));
}

#[test]
fn what_is_a_path_on_the_command_line_is_taken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let named = |name: &str| kernels("{ version: '6.1' }", &[name]).map(|all| all.concat().replace(path, "DIR"));
    assert_eq!(named(path), Ok(r#"Path { path: "DIR", revision: None }"#.into()));
    assert_eq!(named(&format!("{path}@v6.1")), Ok(r#"Path { path: "DIR", revision: Some("v6.1") }"#.into()));
    assert!(named(&format!("{path}@--upload-pack=x")).unwrap_err().contains("cannot be a revision"));
    assert_eq!(named("./moon"), Err("--kernel ./moon: there is no such file or folder".into()));
}

/// What is wrong with what stands below `kernel`.
#[test]
fn sources_that_make_no_sense() {
    let digits = "0".repeat(64);
    let cases = [
        "{ config: [] }".to_string(),
        "{ version: '6.1', source: { tree: x } }".into(),
        "{ source: {} }".into(),
        "{ source: { tree: x, archive: x.tar.xz } }".into(),
        "{ source: { url: https://x/linux.tar.xz } }".into(),
        format!("{{ source: {{ url: ftp://x/linux.tar.xz, sha256: {digits} }} }}"),
        "{ source: { url: https://x/linux.tar.xz, sha256: '12' } }".into(),
        "{ source: { archive: ../linux.tar.xz } }".into(),
        "{ source: { archive: linux.zip } }".into(),
        "{ source: { tree: /usr/src/linux } }".into(),
        "{ source: { git: /srv/linux, revision: main } }".into(),
        "{ source: { git: https://x/linux, revision: --upload-pack=x } }".into(),
        "{ source: { git: https://x/linux } }".into(),
        "{ source: { tree: x, revision: main } }".into(),
        "{ source: { treee: x } }".into(),
        "{ package: bash }".into(),
        "{ package: [linux-image-a, linux-image-a] }".into(),
        "{ package: linux-image-a, patches: [a.patch] }".into(),
        "{ version: '6.1', patches: [../a.patch, a.patch, a.patch] }".into(),
    ];
    let said = cases.map(|kernel| kernels(&kernel, &[]).expect_err(&kernel)).join("\n\nerror: ");
    insta::assert_snapshot!(said);
}

#[test]
fn what_is_debuggable_lies_in_the_tree() {
    let config = "  config: [base, net]\n";
    let with = |list: &str| GOOD.replacen(config, &format!("{config}  debuggable: {list}\n"), 1);
    parse("a.yaml", &with("[net/, net/ipv4/tcp_ipv4.c]")).unwrap();
    for wrong in ["/net/", "../net/", "net/../fs/", "net", "net/a.o", "'net/$(x)/'", "net//", "'/'", "''"] {
        let error = parse("a.yaml", &with(&format!("[{wrong}]"))).expect_err(wrong);
        for part in ["is no directory or C file of a kernel tree", "a.yaml:6:16", "like `net/socket.c`"] {
            assert!(error.message.contains(part), "{wrong}: {part}: {error}");
        }
    }
    let twice = parse("a.yaml", &with("[net/, net/]")).unwrap_err();
    assert!(twice.message.contains("`net/` is listed twice"), "{twice}");
}

#[test]
fn files_that_cannot_be_brought_back() {
    let step = "    exit: 1\n    timeout: 10s\n";
    let with = |fetch: &str| format!("{step}    fetch: {fetch}\n");
    let cases = [with("[tmp/x]"), with("[/tmp/]"), with("[/tmp/x, /x]"), with("/tmp/x")];
    let cases: Vec<(&str, &str)> = cases.iter().map(|case| (step, case.as_str())).collect();
    insta::assert_snapshot!(gallery(&cases));
}

#[test]
fn topologies_that_make_no_sense() {
    let network = |topology: &str| {
        format!(
            "  memory: 256M\n  network:\n    topology:\n{}",
            topology.lines().map(|line| format!("      {line}\n")).collect::<String>()
        )
    };
    let hosts = "hosts:\n  a: { addresses: { eth0: 10.0.0.1/24 } }\n  b: {}\nlinks: [[a:eth0, b:eth0]]";
    let cases = [
        hosts.replace("b:eth0", "c:eth0"),
        hosts.replace("b:eth0", "a:eth0"),
        hosts.replace("b:eth0", "b"),
        hosts.replace("b:eth0", "b:an-interface-of-b"),
        hosts.replace("b: {}", "b: { addresses: { eth0: 10.0.0.1/24 } }"),
        hosts.replace("b: {}", "b: { addresses: { eth1: 10.0.0.2/24 } }"),
        hosts.replace("b: {}", "b: { addresses: { eth0: 10.0.0.2/24, lo: 10.0.0.0/8 } }"),
        hosts.replace("b: {}", "b: { addresses: { eth0: 10.0.0 } }"),
        hosts.replace("b: {}", "b: { addresses: { eth0: 10.0.0.2/24 }, routes: { 10.1.0.0/16: 10.2.0.1 } }"),
        hosts.replace("b: {}", "b: { bridges: { br0: [eth1] } }"),
        hosts.replace("b: {}", "b: { sysctls: { kernel.panic: 1, net.ipv4.x: '$(id)' } }"),
        hosts.replace("b: {}", "b: { masquerade: [{ from: 10.0.0.0/8, out: eth0, not_out: eth7 }] }"),
        hosts.replace("b: {}", "B: {}"),
        hosts.replace("b: {}", "'1': {}").replace("b:eth0", "1:eth0"),
    ];
    let cases: Vec<String> = cases.iter().map(|topology| network(topology)).collect();
    let mut cases: Vec<(&str, &str)> = cases.iter().map(|topology| ("  memory: 256M\n", topology.as_str())).collect();
    let there = network(hosts).replacen("  memory: 256M\n", "", 1) + "probes:\n";
    let step = [("    exit: 1\n", "    exit: 1\n    on: a\n")];
    cases.extend(step);
    insta::assert_snapshot!(gallery(&cases));
    parse("recipes/mine.yaml", &GOOD.replacen("probes:\n", &there, 1).replacen(step[0].0, step[0].1, 1)).unwrap();
}

#[test]
fn captures_that_make_no_sense() {
    let hosts = "hosts: { client: {}, server: {} }, links: [[client:eth0, server:eth0]]";
    let network = |capture: &str| format!("  network:\n    topology: {{ {hosts} }}\n    capture: {capture}\n");
    let many: Vec<String> = (0..25).map(|n| format!("[client:c{n}, server:s{n}]")).collect();
    let many = network("true").replace("[client:eth0, server:eth0]", &many.join(", "));
    let cases = [
        "  network: { capture: true }\n".to_owned(),
        network("[client]"),
        network("[clint:eth0]"),
        network("[client:eth0, client:eth1]"),
        network("[client:eth0, client:lo, client:eth0]"),
        network("[root:'$(id)']"),
        network("client:eth0"),
        many,
    ];
    let cases: Vec<(&str, &str)> = cases.iter().map(|network| ("  memory: 256M\n", network.as_str())).collect();
    insta::assert_snapshot!(gallery(&cases));
    for good in ["[client:eth0, root:lo]", "true", "false"] {
        parse("recipes/mine.yaml", &GOOD.replacen("probes:\n", &(network(good) + "probes:\n"), 1)).unwrap();
    }
}

#[test]
fn networks_and_clients_that_make_no_sense() {
    let network = |network: &str| format!("  memory: 256M\n  network: {network}\n");
    let networks = [
        "{ forward: { web: 8080 } }",
        "{ mode: user, forward: { web: { guest: 80, host: 18080 }, other: { guest: 81, host: 18080 } } }",
        "{ mode: user, forward: { web: { guest: 80, host: 80 } } }",
        "{ mode: user, forward: { web: 0 } }",
        "{ mode: user, forward: { web: { guest: 70000 } } }",
        "{ mode: user, forward: { web: { guest: 80, hots: 80 } } }",
        "{ mode: user, forward: { web: { host: 18080 } } }",
        "{ mode: user, forward: { web: http } }",
        "{ mode: user, forward: { Web 1: 80 } }",
        "{ mode: user, topology: { hosts: { a: {} }, links: [[root:eth0, a:eth0]] } }",
        "{ mode: user, topology: { hosts: { root: { bridges: { eth0: [] } } } } }",
        "{ mode: user, topology: { hosts: { a: {}, root: { addresses: { x: 10.0.2.1/16 } } }, links: [[root:x, a:eth0]] } }",
    ];
    let networks = networks.map(network);
    let run = "    run: nc 127.0.0.1 9\n    exit: 1\n";
    let mut cases: Vec<(&str, &str)> = networks.iter().map(|network| ("  memory: 256M\n", network.as_str())).collect();
    cases.extend([
        (run, "    exit: 1\n"),
        (run, "    to: web\n"),
        (run, "    run: nc 127.0.0.1 9\n    to: web\n"),
        (run, "    run: nc 127.0.0.1 9\n    send: hello\n    then: [{ expect: bye }]\n"),
        (run, "    to: web\n    send: 220\n"),
    ]);
    let said = gallery(&cases);
    let good =
        GOOD.replacen("  memory: 256M\n", &network("{ mode: user, forward: { web: { guest: 80, host: 18080 } } }"), 1);
    parse("recipes/mine.yaml", &good.replacen(run, "    to: web\n    send: a\n    then: [{ expect: b }]\n", 1))
        .unwrap();
    let step = "    to: wbe\n    on: a\n    exit: 2\n    send: \"\"\n    then: [{ expect: \"\" }]\n";
    let all = parse("recipes/mine.yaml", &good.replacen(run, step, 1)).unwrap_err();
    insta::assert_snapshot!(format!("{said}error: {}", all.message));
}
