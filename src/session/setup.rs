//! The guest's network, set up before the probes are armed: its network card and topology, then the ports that lead to it.

use std::time::{Duration, Instant};

use super::journal::Journal;
use super::{Order, nonce};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::topology::{self, Piece};
use crate::guest::{Guest, GuestEvent, Stream};
use crate::recipe::network::{Forward, NIC, NIC_ADDRESS, NetworkMode, NetworkSpec, Port};
use crate::report::model::ForwardInfo;
use crate::report::text::plural;

/// How long it may take; a dozen pieces take a second under TCG on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sets up what the recipe describes.
///
/// # Errors
/// A piece fails, or a port of the host is taken: the error is at its place in the recipe. Or the guest dies.
pub(super) fn run(order: &Order<'_>, guest: &mut Guest, journal: &mut Journal<'_>) -> Result<()> {
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
    let (code, stderr) = run_script(order, guest, &topology::script(&pieces), "the network was not set up")?;
    if code != 0 {
        return Err(explain(order, &pieces, &stderr));
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

/// Runs a script to its end; gives its exit code and what it wrote to standard error. `failed` says what did not happen
/// if it does not end.
pub(super) fn run_script(order: &Order<'_>, guest: &mut Guest, script: &str, failed: &str) -> Result<(i32, String)> {
    let id = format!("setup-{:08x}", nonce());
    guest.run(&id, script, None)?;
    let deadline = Instant::now() + PATIENCE;
    let (mut stderr, mut exit, mut open_streams) = (Vec::new(), None, 2);
    loop {
        if let (Some(code), 0) = (exit, open_streams) {
            return Ok((code, String::from_utf8_lossy(&stderr).into_owned()));
        }
        order.cancel.check()?;
        guest.check()?;
        match guest.events().recv_timeout(Duration::from_millis(20)) {
            Ok(GuestEvent::Gone) => return Err(guest.post_mortem()),
            Ok(GuestEvent::Output(Stream::Stderr, bytes)) => stderr.extend(bytes),
            Ok(GuestEvent::OutputEnd(_, ended)) if ended == id => open_streams -= 1,
            Ok(GuestEvent::Exit(ended, code)) if ended == id => exit = Some(code),
            _ if Instant::now() >= deadline => {
                let patience = humantime::format_duration(PATIENCE);
                let message = format!("{failed} within {patience}{}", guest.console_tail());
                return Err(Error::guest(message).hint("console.log in the run directory has more"));
            }
            _ => {}
        }
    }
}

/// The piece that failed, at its place in the recipe.
fn explain(order: &Order<'_>, pieces: &[Piece], stderr: &str) -> Error {
    let failed = topology::failure(stderr).and_then(|(index, said)| Some((pieces.get(index)?, said)));
    let Some((piece, said)) = failed else {
        return Error::guest(format!("the network cannot be set up: {}", stderr.trim()));
    };
    let mut helps = Vec::new();
    if said.contains("not found") || said.contains("netns") && said.contains("invalid argument") {
        helps.push("the image needs iproute2, and nftables for `masquerade`: `guest.image: net` has them".to_owned());
    } else if !piece.needs.is_empty() {
        let options: Vec<String> = piece.needs.iter().map(|option| format!("{option}: y")).collect();
        helps.push(format!(
            "the kernel needs `kernel.options: {{ {} }}`; `config: [base, netfilter]` has them all",
            options.join(", ")
        ));
    }
    // nft says more below its error, and ip above.
    let error = said.lines().find(|line| line.contains("Error:"));
    let said = error.or(said.lines().last()).unwrap_or("it gave no reason");
    let error = order.loaded.diagnose(&piece.path, format!("{} cannot be set up", piece.what), said, &helps);
    Error { kind: ErrorKind::Guest, ..error }
}

/// `eth0 10.0.2.15/24, 3 hosts, 2 links`.
fn said(network: &NetworkSpec) -> String {
    let nic = (network.mode == NetworkMode::User).then(|| format!("{NIC} {NIC_ADDRESS}"));
    let topology = network.topology.iter().flat_map(|topology| {
        [plural(topology.names().count() as u64, "host"), plural(topology.links.len() as u64, "link")]
    });
    nic.into_iter().chain(topology).collect::<Vec<_>>().join(", ")
}
