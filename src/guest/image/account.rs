//! What the guest's `/etc` says of users, names and sysctls. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The first number of a user that an image adds.
const FIRST: u32 = 1000;

/// The text of `/etc/passwd`, and that of `/etc/group`: root and `users`, each with a group of the same name.
pub(super) fn accounts(users: &[&str]) -> (String, String) {
    let mut passwd = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
    let mut group = "root:x:0:\n".to_owned();
    for (id, user) in (FIRST..).zip(users) {
        let _ = writeln!(passwd, "{user}:x:{id}:{id}::/tmp:/bin/sh");
        let _ = writeln!(group, "{user}:x:{id}:");
    }
    (passwd, group)
}

/// The lines that init writes into `/proc/sys`: a path below it, and what goes there.
pub(super) fn sysctls(sysctls: &BTreeMap<&str, &str>) -> String {
    let path = |key: &str| if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    sysctls.iter().map(|(key, value)| format!("{} {value}\n", path(key))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbered_in_their_order() {
        let (passwd, group) = accounts(&["b", "a"]);
        let expected = "root:x:0:0:root:/root:/bin/sh\nb:x:1000:1000::/tmp:/bin/sh\na:x:1001:1001::/tmp:/bin/sh\n";
        assert_eq!(passwd, expected);
        assert_eq!(group, "root:x:0:\nb:x:1000:\na:x:1001:\n");
    }

    #[test]
    fn a_sysctl_is_a_path_and_a_value() {
        let asked = BTreeMap::from([("net.ipv4.tcp_rmem", "1 2 3"), ("net/ipv4/conf/e.1/forwarding", "1")]);
        assert_eq!(sysctls(&asked), "net/ipv4/tcp_rmem 1 2 3\nnet/ipv4/conf/e.1/forwarding 1\n");
    }
}
