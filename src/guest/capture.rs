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
/// Ends the captures. What they have not yet read they get time for: tcpdump forgets it when it is told to end.
const END: &str = "sleep 0.1
for pid in /run/kdbg/capture-*.pid; do kill $(cat $pid) 2>/dev/null; done
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
    let mut script = END.to_owned() + ENDED;
    for (number, tap) in taps.iter().enumerate() {
        let _ = writeln!(script, "ended {number} {} '{id}'", tap.port);
    }
    script
}

/// What comes behind the last packet.
pub fn mark(id: &str) -> Vec<u8> {
    format!("\x1e{id}\x1e").into_bytes()
}

/// How many packets of each tap the kernel had no room for, from what the script wrote to standard error.
pub fn dropped(taps: usize, stderr: &str) -> Vec<u64> {
    let mut dropped = vec![0; taps];
    let mut tap = 0;
    for line in stderr.lines() {
        if let Some(number) = line.strip_prefix("kdbg: tap ") {
            tap = number.parse().unwrap_or(usize::MAX);
        } else if line.ends_with("dropped by kernel")
            && let Some(count) = line.split(' ').next().and_then(|count| count.parse::<u64>().ok())
            && let Some(dropped) = dropped.get_mut(tap)
        {
            *dropped += count;
        }
    }
    dropped
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
    fn what_the_kernel_dropped_is_counted_for_each_tap() {
        let said = "kdbg: tap 0\ntcpdump: listening on eth0\n1 packet captured\n2 packets received by filter\n\
                    0 packets dropped by kernel\nkdbg: ended\nkdbg: tap 1\n7 packets dropped by kernel\n\
                    1 packet dropped by interface\n";
        assert_eq!(dropped(2, said), [0, 7]);
        assert_eq!(dropped(1, "sh: killed\n"), [0]);
    }
}
