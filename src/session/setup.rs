//! The guest's network, set up before the probes are armed: its network card and topology, then the ports that lead to it.

use std::time::Instant;

use super::journal::Journal;
use super::{Order, script};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::guest::topology::{self, Piece};
use crate::kernel::KernelBuild;
use crate::recipe::network::{Forward, NIC, NIC_ADDRESS, NetworkMode, NetworkSpec, Port};
use crate::report::model::ForwardInfo;
use crate::report::text::plural;

/// Sets up what the recipe describes.
///
/// # Errors
/// A piece fails, or a port of the host is taken: the error is at its place in the recipe. Or the guest dies.
pub(super) fn run(order: &Order<'_>, kernel: &KernelBuild, guest: &mut Guest, journal: &mut Journal<'_>) -> Result<()> {
    let network = &order.loaded.recipe.guest.network;
    let mut pieces = Vec::new();
    if network.mode == NetworkMode::User {
        pieces.push(topology::nic());
    }
    pieces.extend(network.topology.iter().flat_map(topology::pieces));
    if pieces.is_empty() {
        return Ok(());
    }
    let started = Instant::now();
    let (code, stderr) = script::run(order, guest, &topology::script(&pieces), "the network was not set up")?;
    if code != 0 {
        return Err(explain(order, kernel, &pieces, &stderr));
    }
    order.events.fact("network", format!("{}  set up in {} ms", said(network), started.elapsed().as_millis()));
    network.forward.iter().try_for_each(|(name, forward)| open(order, guest, journal, name, *forward))
}

/// Opens a port of the host that leads to the guest.
fn open(order: &Order<'_>, guest: &mut Guest, journal: &mut Journal<'_>, name: &str, forward: Forward) -> Result<()> {
    let asked = forward.host.map(Port::number);
    match guest.forward(asked, forward.guest.number())? {
        Ok(host) => journal.forwarded(&ForwardInfo { name: name.into(), guest: forward.guest.number(), host }),
        Err(said) => return Err(closed(order, name, asked, &said)),
    }
    Ok(())
}

/// Why a port of the host could not be opened.
fn closed(order: &Order<'_>, name: &str, asked: Option<u16>, said: &str) -> Error {
    let (what, helps) = match asked {
        Some(port) => (
            format!("port {port} of this host cannot be opened for `{name}`: another program listens there"),
            vec![format!("`ss -ltnp 'sport = :{port}'` shows which; or leave `host` out: a free port is chosen then")],
        ),
        None => (format!("no port of this host can be opened for `{name}`"), Vec::new()),
    };
    let at = format!("guest.network.forward.{name}{}", if asked.is_some() { ".host" } else { "" });
    Error { kind: ErrorKind::Host, ..order.loaded.diagnose(&at, what, said, &helps) }
}

/// The piece that failed, at its place in the recipe.
fn explain(order: &Order<'_>, kernel: &KernelBuild, pieces: &[Piece], stderr: &str) -> Error {
    let failed = topology::failure(stderr).and_then(|(index, said)| Some((pieces.get(index)?, said)));
    let Some((piece, said)) = failed else {
        return Error::guest(format!("the network cannot be set up: {}", stderr.trim()));
    };
    let listed = &order.loaded.recipe.kernel.modules;
    let is_left_out = |module: &str| {
        kernel.modules.index.get(module).is_some() && listed.places().all(|(_, name)| name.replace('-', "_") != module)
    };
    let help = help(piece, said, is_left_out, kernel.is_packaged());
    let message = format!("{} cannot be set up", piece.what);
    let error = order.loaded.diagnose(&piece.path, message, reason(said), help.as_slice());
    Error { kind: ErrorKind::Guest, ..error }
}

/// The line that says why, of all that a command said.
fn reason(said: &str) -> &str {
    // nft says more below its error, and ip above.
    let error = said.lines().find(|line| line.contains("Error:"));
    // busybox says how it is used below its error, or instead of one.
    let said = match said.split_once("BusyBox v") {
        Some(("", _)) => "busybox does not know this command",
        Some((before, _)) => before,
        None => said,
    };
    error.or(said.lines().last()).unwrap_or("it gave no reason")
}

/// What mends it that a piece failed, of which `said` was said. `is_left_out`: the kernel has this module, and the guest not.
fn help(piece: &Piece, said: &str, is_left_out: impl Fn(&str) -> bool, is_packaged: bool) -> Option<String> {
    // busybox has an `ip` too, which knows less.
    if said.contains("not found")
        || said.contains("BusyBox")
        || said.contains("netns") && said.contains("invalid argument")
    {
        return Some("the image needs iproute2, and nftables for `masquerade`: `guest.image: net` has them".into());
    }
    let modules: Vec<&str> =
        piece.needs.iter().filter_map(|need| need.1).filter(|module| is_left_out(module)).collect();
    if !modules.is_empty() {
        let modules = modules.join(", ");
        return Some(format!("this kernel has it as a module: `kernel.modules: {{ available: [{modules}] }}`"));
    }
    let options: Vec<String> = piece.needs.iter().map(|(option, _)| format!("{option}: y")).collect();
    match (options.is_empty(), is_packaged) {
        (true, _) => None,
        (false, true) => Some(format!(
            "this kernel is as its distribution configured it; if it leaves out what this takes ({}), have one built: `version` and `config: [base, netfilter]` instead of `package`",
            options.join(", ")
        )),
        (false, false) => Some(format!(
            "the kernel needs `kernel.options: {{ {} }}`; `config: [base, netfilter]` has them all",
            options.join(", ")
        )),
    }
}

/// `eth0 10.0.2.15/24, 3 hosts, 2 links`.
fn said(network: &NetworkSpec) -> String {
    let nic = (network.mode == NetworkMode::User).then(|| format!("{NIC} {NIC_ADDRESS}"));
    let topology = network.topology.iter().flat_map(|topology| {
        [plural(topology.names().count() as u64, "host"), plural(topology.links.len() as u64, "link")]
    });
    nic.into_iter().chain(topology).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_that_a_command_said_the_line_that_says_why_is_shown() {
        for (said, why) in [
            ("Error: syntax error\nadd table ip 7\n             ^", "Error: syntax error"),
            ("ip: warning\nRTNETLINK answers: File exists", "RTNETLINK answers: File exists"),
            ("BusyBox v1.35.0 (Debian)\n\nUsage: ip [ARGS]\n\nip rule", "busybox does not know this command"),
            ("ip: invalid option -- 'n'\nBusyBox v1.35.0\n\nUsage: ip", "ip: invalid option -- 'n'"),
            ("", "it gave no reason"),
        ] {
            assert_eq!(reason(said), why);
        }
    }

    #[test]
    fn the_help_is_one_that_can_be_followed() {
        let topology = "{ links: [[root:a, root:b]] }";
        let link = topology::pieces(&serde_yaml::from_str(topology).unwrap()).remove(0);
        let unknown = "Error: Unknown device type.";
        let help =
            |said, has_module, is_packaged| help(&link, said, |module| has_module && module == "veth", is_packaged);
        for (help, words) in [
            (help("BusyBox v1.35.0\nUsage: ip", true, true), "`guest.image: net`"),
            (help(unknown, true, true), "`kernel.modules: { available: [veth] }`"),
            (help(unknown, true, false), "`kernel.modules: { available: [veth] }`"),
            (help(unknown, false, true), "instead of `package`"),
            (help(unknown, false, false), "`kernel.options: { VETH: y }`"),
        ] {
            assert!(help.as_ref().is_some_and(|help| help.contains(words)), "{words}: {help:?}");
        }
    }
}
