//! Captures in the guest: the scripts that start and end a tcpdump on each interface, and what they say.
//!
//! Pure. Each tcpdump writes to a port of its own, packet by packet; the names in the commands have passed the recipe's
//! check.

use std::fmt::Write;

use super::topology;
use crate::recipe::topology::Endpoint;

/// One interface that is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// The interface.
    pub interface: Endpoint,
    /// The port that its packets come through, `N` of `/dev/vport0pN`.
    pub port: u32,
}

/// Starts `tcpdump` in the background; notes its process, what it says and that it has ended.
const TAP: &str = "tap() {
	log=/run/kdbg/capture-$1 port=/dev/vport0p$2 interface=$3; shift 3
	: >$log
	until [ -c $port ]; do sleep 0.01; done
	{
		\"$@\" tcpdump -n -i $interface -Z root -s 0 -U --immediate-mode --time-stamp-precision=nano -w $port >$log 2>&1 &
		echo $! >$log.pid
		wait $!
		echo 'kdbg: ended' >>$log
	} &
}
";
/// Waits until tap number `$1` captures.
const LISTENING: &str = "listening() {
	log=/run/kdbg/capture-$1
	until grep -q listening $log; do
		! grep -q 'kdbg: ended' $log || { cat $log >&2; failed $1; }
		sleep 0.01
	done
}
";
/// Ends tap number `$1`, and says if it has ended by itself.
const END: &str = "end() {
	log=/run/kdbg/capture-$1
	if grep -q 'kdbg: ended' $log; then echo \"kdbg: early $1\" >&2; else kill $(cat $log.pid); fi
}
";
/// Waits for the end of tap number `$1`, says what tcpdump said, and writes a mark behind its packets.
const ENDED: &str = "ended() {
	log=/run/kdbg/capture-$1
	until grep -q 'kdbg: ended' $log; do sleep 0.01; done
	echo \"kdbg: tap $1\" >&2
	cat $log >&2
	printf '\\036%s\\036' \"$3\" >/dev/vport0p$2
}
";

/// The script that starts all captures and waits until each one has begun, or ends with 1 and says which did not;
/// [`topology::failure`] reads that.
pub fn start(taps: &[Tap]) -> String {
    let mut script = topology::failing() + TAP + LISTENING;
    for (number, Tap { interface, port }) in taps.iter().enumerate() {
        let Endpoint { host, interface } = interface;
        let _ = writeln!(script, "tap {number} {port} {interface} {}", topology::exec(host));
    }
    for number in 0..taps.len() {
        let _ = writeln!(script, "listening {number}");
    }
    script
}

/// The script that ends all captures. Behind the last packet of each comes [`mark`]`(id)`.
pub fn end(taps: &[Tap], id: &str) -> String {
    // What a tcpdump has not yet read it gets time for: it forgets that when it is told to end.
    let mut script = END.to_owned() + ENDED + "sleep 0.1\n";
    for number in 0..taps.len() {
        let _ = writeln!(script, "end {number}");
    }
    for (number, tap) in taps.iter().enumerate() {
        let _ = writeln!(script, "ended {number} {} '{id}'", tap.port);
    }
    script
}

/// What comes behind the last packet.
pub fn mark(id: &str) -> Vec<u8> {
    format!("\x1e{id}\x1e").into_bytes()
}

/// How the capture of one interface ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many packets the kernel had no room for.
    pub dropped: u64,
    /// Whether it ended before it was to.
    pub early: bool,
}

/// How the captures ended, from what the script wrote to standard error.
pub fn ended(taps: usize, stderr: &str) -> Vec<Ended> {
    let mut ended = vec![Ended::default(); taps];
    let mut tap = None;
    for line in stderr.lines() {
        let number = |head| line.strip_prefix(head).and_then(|number| number.parse::<usize>().ok());
        let dropped = || line.strip_suffix("dropped by kernel")?.split(' ').next()?.parse().ok();
        tap = number("kdbg: tap ").or(tap);
        if let Some(tap) = number("kdbg: early ").and_then(|number| ended.get_mut(number)) {
            tap.early = true;
        } else if let (Some(tap), Some(count)) = (tap.and_then(|number| ended.get_mut(number)), dropped()) {
            tap.dropped = count;
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taps() -> Vec<Tap> {
        let tap = |interface: &str, port| Tap { interface: interface.parse().unwrap(), port };
        vec![tap("client:eth0", 4), tap("root:br0", 5)]
    }

    #[test]
    fn the_scripts_name_each_interface_its_host_and_its_port() {
        insta::assert_snapshot!([start(&taps()), end(&taps(), "id")].join("----\n"));
    }

    #[test]
    fn how_each_tap_ended_is_read_from_what_was_said() {
        let said = "kdbg: early 0\nkdbg: tap 0\ntcpdump: listening on eth0\n1 packet captured\n2 packets received by filter\n\
                    0 packets dropped by kernel\nkdbg: ended\nkdbg: tap 1\n7 packets dropped by kernel\n\
                    1 packet dropped by interface\n";
        let [killed, busy] = [Ended { dropped: 0, early: true }, Ended { dropped: 7, early: false }];
        assert_eq!(ended(2, said), [killed, busy]);
        assert_eq!(ended(1, said), [killed]);
        assert_eq!(ended(1, "sh: killed\n"), [Ended::default()]);
    }
}
