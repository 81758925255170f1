//! The server against clients that behave, that do not, and a real GDB.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::fake::{BASE, Fake};
use super::packets::packet;
use super::{Address, Left, Server};
use crate::error::ErrorKind;
use crate::event::Cancel;

/// A client that speaks to a server on its own.
struct Speaker(TcpStream);

impl Speaker {
    fn connect(server: &Address) -> Speaker {
        let stream = TcpStream::connect(server.to_string()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Speaker(stream)
    }

    fn send(&mut self, bytes: &[u8]) {
        // A server that has closed the connection already is no matter.
        let _ = self.0.write_all(bytes);
    }

    /// The answer to a packet, without its frame and acknowledgement.
    fn ask(&mut self, body: &str) -> String {
        self.send(&packet(body));
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut said = Vec::new();
        let mut byte = [0];
        while said.len() < 3 || said[said.len() - 3] != b'#' {
            self.0.read_exact(&mut byte).unwrap();
            if !(said.is_empty() && byte[0] != b'$') {
                said.push(byte[0]);
            }
        }
        String::from_utf8_lossy(&said[1..said.len() - 3]).into_owned()
    }
}

/// Has `client` speak to a server before a fake machine, once. Gives how the client left, and the machine.
fn served(client: impl FnOnce(&Address) + Send) -> (Left, Fake) {
    let server = Server::listen(&Address::ANY).unwrap();
    let mut fake = Fake::new();
    let left = std::thread::scope(|scope| {
        let address = server.address().clone();
        let speaking = scope.spawn(move || client(&address));
        let cancel = Cancel::default();
        let left = server.client(&cancel).unwrap().serve(&mut fake, &cancel).unwrap();
        speaking.join().unwrap();
        left
    });
    (left, fake)
}

#[test]
fn registers_memory_and_runs_of_every_kind() {
    let (left, fake) = served(|server| {
        let mut client = Speaker::connect(server);
        assert!(client.ask("qSupported:multiprocess+;swbreak+").contains("ReverseContinue+"));
        assert_eq!(client.ask("?"), "T05thread:p1.1;");
        assert_eq!(client.ask("qfThreadInfo"), "mp01.01,p01.02");
        assert_eq!(client.ask("Hg2"), "OK");
        assert_eq!(&client.ask("g")[256..272], "00020081ffffffff");
        assert_eq!(client.ask("Hg1"), "OK");
        assert_eq!(client.ask(&format!("m{BASE:x},4")), "00010203");
        assert_eq!(client.ask("m0,4"), "E0e");
        assert_eq!(client.ask("m0,4000"), "E16", "more than there is room for");
        assert_eq!(client.ask("mffffffffffffffff,1000"), "E0e");
        assert_eq!(client.ask("Qqemu.PhyMemMode:1"), "OK");
        assert_eq!((client.ask("qqemu.PhyMemMode"), client.ask("m0,4")), ("1".into(), "00010203".into()));
        assert_eq!(client.ask("Qqemu.PhyMemMode:0"), "OK");
        assert_eq!(client.ask(&format!("M{BASE:x},2:beef")), "OK");
        assert_eq!(client.ask(&format!("m{BASE:x},3")), "beef02");
        assert_eq!(client.ask(&format!("Z0,{:x},1", BASE + 0x150)), "OK");
        assert_eq!(client.ask(&format!("Z1,{:x},1", BASE + 0x150)), "E16", "refused");
        assert_eq!(client.ask("vCont;c"), format!("O{}", hex("fake at 0xffffffff81000150\n")));
        assert_eq!(client.answer(), "T05thread:p01.01;swbreak:;");
        assert_eq!(client.ask("vCont;s:p1.2;c"), "T05thread:p01.02;");
        assert_eq!(client.ask("Hg0"), "OK");
        assert_eq!(client.ask("?"), "T05thread:p1.2;");
        assert_eq!(&client.ask("g")[256..258], "01", "of the CPU that was answered");
        assert_eq!(client.ask("Hc-1"), "OK");
        assert_eq!(client.ask("bs"), "T05thread:p01.02;");
        client.ask("bc");
        assert_eq!(client.ask("bc"), "T05thread:p01.01;replaylog:begin;");
        assert_eq!(client.ask("qRcmd,696e666f2076657273696f6e"), format!("O{}", hex("1.2.3fake\n")));
        assert_eq!(client.answer(), "OK");
        assert_eq!(client.ask("D;1"), "OK");
    });
    assert_eq!((left, fake.left), (Left::Detached, 1));
    assert!(fake.breakpoints.is_empty());
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_runs_is_interrupted() {
    let (left, _) = served(|server| {
        let mut client = Speaker::connect(server);
        client.ask("?");
        client.send(&packet("vCont;c"));
        std::thread::sleep(Duration::from_millis(50));
        client.send(&[3]);
        assert_eq!(client.answer(), "T02thread:01;");
        client.send(&packet("k"));
    });
    assert_eq!(left, Left::Detached, "nothing is killed");
}

#[test]
fn a_client_that_vanishes_in_a_packet_leaves_the_server_up_for_the_next() {
    let server = Server::listen(&Address::ANY).unwrap();
    let (mut fake, cancel) = (Fake::new(), Cancel::default());
    for begun in ["", "$", "$m1234", "$g#6", "$vCont;c#a8", "+$?#3f"] {
        let mut client = Speaker::connect(server.address());
        client.send(begun.as_bytes());
        drop(client);
        let left = server.client(&cancel).unwrap().serve(&mut fake, &cancel).unwrap();
        assert!(matches!(left, Left::Lost(_)), "{begun}: {left:?}");
    }
    assert_eq!(fake.left, 6);
}

#[test]
fn a_second_client_is_told_and_the_first_one_goes_on() {
    served(|server| {
        let mut first = Speaker::connect(server);
        first.ask("?");
        let mut second = Speaker::connect(server);
        second.send(&packet("qSupported"));
        assert_eq!(second.answer(), "E.kdbg serves another debugger; one at a time");
        assert_eq!(second.0.read(&mut [0; 8]).unwrap_or(0), 0, "closed");
        assert_eq!(first.ask("Hg1"), "OK");
    });
}

#[test]
fn only_the_loopback_is_listened_on() {
    for (text, address) in
        [("1234", "127.0.0.1:1234"), (":0", "127.0.0.1:0"), ("[::1]:7", "[::1]:7"), ("localhost:9", "127.0.0.1:9")]
    {
        assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(address.into()));
    }
    for text in ["0.0.0.0:1234", "192.168.1.2:1", "[::]:7", "x", "99999", ""] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
}

#[test]
fn a_socket_is_its_owners_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gdb");
    let address = Address::Unix(path.clone());
    let server = Server::listen(&address).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let taken = Server::listen(&address).unwrap_err();
    assert_eq!(taken.kind, ErrorKind::Host);
    assert!(path.exists(), "another one's socket");
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_a_killed_kdbg_has_left_is_no_obstacle_and_a_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gdb");
    // The standard library deletes none.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    // Whoever has the folder, as kdbg has its run directory, is not waited for.
    let folder_of_a_run = std::fs::File::open(folder.path()).unwrap();
    folder_of_a_run.lock().unwrap();
    assert!(Server::listen(&Address::Unix(path.clone())).is_err());
    drop(folder_of_a_run);
    let server = Server::listen(&Address::Unix(path.clone())).unwrap();
    assert!(Server::listen(&Address::Unix(path.clone())).is_err());
    assert!(server.client_within(Duration::ZERO, &Cancel::default()).unwrap().is_none(), "it has heard nothing");
    drop(server);
    std::fs::write(&path, "mine").unwrap();
    assert!(Server::listen(&Address::Unix(path.clone())).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

/// Numbers that look random, and are the same every time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// What a fuzzed client sends: packets that are nearly right.
fn nonsense(random: &mut Random) -> Vec<u8> {
    const BODIES: &[&str] = &[
        "g",
        "G00",
        "m0,4",
        "mffffffff81000000,40",
        "mffffffffffffffff,ffffffffffffffff",
        "Mffffffff81000000,2:beef",
        "Xffffffff81000000,2:ab",
        "?",
        "Hg-1",
        "Hc-1",
        "Hg0",
        "Hgp1.9",
        "Hcp0.0",
        "vCont?",
        "vCont;c",
        "vCont;s:1;c:2",
        "vCont;r1,2:1",
        "vCont",
        "bs",
        "bc",
        "c",
        "s",
        "C05",
        "Z0,0,1",
        "z0,0,1",
        "Z2,ffffffffffffffff,ffffffffffffffff",
        "Z9,0,0",
        "qSupported:xyz+;multiprocess+",
        "qXfer:features:read:target.xml:0,ffb",
        "qXfer:features:read::0,0",
        "qXfer:features:read:core.xml:ffffffffffffffff,ffffffffffffffff",
        "qRcmd,",
        "qRcmd,zz",
        "qThreadExtraInfo,p1.7",
        "T0",
        "Tp1.-1",
        "vKill;1",
        "QStartNoAckMode",
        "Qqemu.PhyMemMode:1",
        "qfThreadInfo",
        "vFile:open:",
        "P0=00",
        "p0",
        "",
        "qC",
        "!",
        "R00",
        "QTinit",
        "QTDP:1:2",
        "vRun;",
        "vAttach;1",
        "X",
        "G",
        "m",
        "M",
        "H",
        "Z",
        "qXfer",
        "vCont;",
    ];
    let mut bytes = Vec::new();
    for _ in 0..=random.below(8) {
        let mut body = BODIES[random.below(BODIES.len())].as_bytes().to_vec();
        for _ in 0..random.below(3) {
            let at = random.below(body.len() + 1);
            match random.below(3) {
                0 => body.insert(at, u8::try_from(random.below(256)).unwrap()),
                1 if at < body.len() => drop(body.remove(at)),
                _ => body.truncate(at),
            }
        }
        let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        match random.below(12) {
            0 => bytes.extend(&body),
            1 => bytes.push(3),
            2 => bytes.push(u8::try_from(random.below(256)).unwrap()),
            _ => bytes.extend([b"$", body.as_slice(), format!("#{sum:02x}").as_bytes()].concat()),
        }
    }
    bytes
}

#[test]
fn whatever_a_client_sends_the_server_is_there_for_the_next_one() {
    let server = Server::listen(&Address::ANY).unwrap();
    let (mut fake, cancel) = (Fake::new(), Cancel::default());
    let mut random = Random(0x6b64_6267);
    let begun = Instant::now();
    let mut clients = 0;
    while clients < 2000 && begun.elapsed() < Duration::from_secs(10) {
        let mut client = Speaker::connect(server.address());
        let bytes = nonsense(&mut random);
        client.send(&bytes);
        client.0.shutdown(std::net::Shutdown::Write).unwrap();
        server.client(&cancel).unwrap().serve(&mut fake, &cancel).unwrap();
        clients += 1;
    }
    assert!(clients > 100, "{clients}");
    let mut client = Speaker::connect(server.address());
    client.send(&packet("?"));
    client.send(&packet("D"));
    assert_eq!(server.client(&cancel).unwrap().serve(&mut fake, &cancel).unwrap(), Left::Detached);
    assert_eq!(client.answer(), "T05thread:1;");
}

#[test]
fn a_real_gdb_attaches_looks_runs_and_leaves() {
    if !Path::new("/usr/bin/gdb").exists() {
        return;
    }
    let (left, fake) = served(|server| {
        let mut gdb = Command::new("gdb");
        gdb.args(["-nx", "-batch", "-ex", "set debuginfod enabled off"]);
        for command in [
            &format!("target remote {server}"),
            "info threads",
            "p/x $rip",
            &format!("x/4xb {BASE:#x}"),
            &format!("break *{:#x}", BASE + 0x180),
            "continue",
            "p/x $rip",
            "stepi",
            "p/x $rip",
            "reverse-stepi",
            "monitor info version",
            &format!("set {{char}}{BASE:#x} = 0x77"),
            &format!("x/1xb {BASE:#x}"),
            "detach",
        ] {
            gdb.args(["-ex", command]);
        }
        let output = gdb.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        for words in [
            "CPU#1",
            "$1 = 0xffffffff81000100",
            "0x00\t0x01\t0x02\t0x03",
            "fake at 0xffffffff81000180",
            "Breakpoint 1, 0xffffffff81000180",
            "$2 = 0xffffffff81000180",
            "$3 = 0xffffffff81000181",
            "1.2.3fake",
            "0x77",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    });
    assert_eq!(left, Left::Detached);
    assert_eq!((fake.left, fake.at(1)), (1, BASE + 0x200));
}
