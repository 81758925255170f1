//! The recording that the tests of the room have, replayed.

use super::*;
use crate::recording::tests::{head, recorded};

/// Lets it run. Gives the hit where it stands then, and why.
fn go(replay: &mut Replay, how: Move) -> (u64, Why) {
    replay.resume(how).unwrap();
    let halt = replay.wait(Duration::ZERO).unwrap().unwrap();
    assert_eq!(replay.halted(), halt);
    let registers = replay.registers(0).unwrap();
    (u64::from_le_bytes(registers[..8].try_into().unwrap()) >> 8, halt.why)
}

fn replayed() -> Replay {
    let folder = tempfile::tempdir().unwrap();
    Replay::new(Recording::open(&recorded(folder.path()).0).unwrap())
}

#[test]
fn running_walks_the_hits_and_stays_at_the_ends() {
    let mut replay = replayed();
    assert_eq!((replay.halted().cpu, replay.halted().note.as_deref()), (1, Some("hit 1 of 3: probe p")));
    assert_eq!(go(&mut replay, Move::ReverseContinue), (1, Why::Beginning));
    assert_eq!(go(&mut replay, Move::Continue), (2, Why::Trap));
    assert!(replay.monitor("hits").unwrap().contains("* hit 2  probe p  CPU 0\n"));
    assert_eq!(go(&mut replay, Move::Continue), (3, Why::Trap));
    assert_eq!(go(&mut replay, Move::Continue), (3, Why::Interrupted));
    assert_eq!(replay.halted().note.as_deref(), Some("hit 3 is the last of this recording"));
    assert_eq!(go(&mut replay, Move::Step(0)), (3, Why::Interrupted));
    assert_eq!(go(&mut replay, Move::ReverseContinue), (2, Why::Trap));
    replay.left().unwrap();
    assert_eq!(go(&mut replay, Move::Continue), (2, Why::Trap), "each client begins at the first hit");
}

#[test]
fn a_step_is_a_way_to_the_next_hit_and_is_told_of_the_cpu_that_steps() {
    let mut replay = replayed();
    assert!(!replay.set(Breakpoint::Watch(crate::server::Watched::Write, 0, 8)).unwrap());
    // At hits 2 and 3, by the program counter of their CPU.
    for at in [0x200, 0x301] {
        assert!(replay.set(Breakpoint::Software(at)).unwrap());
    }
    assert_eq!(go(&mut replay, Move::Step(0)), (2, Why::Breakpoint), "of the same CPU");
    assert_eq!(go(&mut replay, Move::Step(0)), (3, Why::Trap), "of another one");
    assert_eq!(replay.halted().cpu, 0);
    assert_eq!(go(&mut replay, Move::Continue), (3, Why::Breakpoint), "told now");
    assert_eq!((replay.halted().cpu, replay.halted().note), (1, None));
    assert_eq!(go(&mut replay, Move::ReverseStep(1)), (2, Why::Trap));
    assert_eq!(go(&mut replay, Move::Continue), (3, Why::Breakpoint), "it turns round");
    // As GDB steps off a breakpoint: with all of them out.
    for at in [0x200, 0x301] {
        assert!(replay.clear(Breakpoint::Software(at)).unwrap() && !replay.clear(Breakpoint::Software(at)).unwrap());
    }
    assert_eq!(go(&mut replay, Move::ReverseStep(0)), (2, Why::Breakpoint));
    assert_eq!(go(&mut replay, Move::ReverseContinue), (1, Why::Trap));
    assert_eq!(go(&mut replay, Move::Step(0)), (2, Why::Trap), "they were taken out for good");
}

#[test]
fn the_hit_at_the_end_of_a_step_is_told_again_to_whom_goes_on_without_a_look() {
    let mut replay = replayed();
    assert_eq!(go(&mut replay, Move::Step(0)), (2, Why::Trap), "the end of the step");
    assert!(replay.set(Breakpoint::Software(0x200)).unwrap());
    assert_eq!(go(&mut replay, Move::Continue), (2, Why::Breakpoint), "and a stop of its own");
    assert_eq!(replay.halted().note, None, "which was announced already");
    assert_eq!(go(&mut replay, Move::Continue), (2, Why::Breakpoint), "as whoever does not step off one");
    assert!(replay.clear(Breakpoint::Software(0x200)).unwrap());
    replay.left().unwrap();
    assert_eq!(go(&mut replay, Move::Step(0)), (2, Why::Trap));
    assert_eq!(go(&mut replay, Move::Step(0)), (2, Why::Interrupted), "a step of several steps");
    replay.left().unwrap();
    assert_eq!(go(&mut replay, Move::Step(0)), (2, Why::Trap));
    replay.threads_listed();
    assert_eq!(go(&mut replay, Move::Continue), (3, Why::Trap), "the user has seen it");
    assert_eq!(go(&mut replay, Move::ReverseContinue), (2, Why::Trap));
    for _ in 0..2 {
        go(&mut replay, Move::Step(0));
        assert_eq!(replay.halted().cpu, 0, "a step ends with its own CPU, whose hit it is");
    }
}

/// Both CPUs stand at a breakpoint, and the hit is of one of them.
#[test]
fn a_breakpoint_at_which_a_step_of_another_cpu_ends_is_no_hit() {
    let mut replay = replayed();
    for at in [0x200, 0x201] {
        assert!(replay.set(Breakpoint::Software(at)).unwrap());
    }
    assert_eq!(go(&mut replay, Move::Step(1)), (2, Why::Trap));
    let pc = |replay: &mut Replay, cpu| replay.registers(cpu).unwrap()[..2].to_vec();
    assert_eq!((replay.halted().cpu, pc(&mut replay, 1), pc(&mut replay, 0)), (1, vec![2, 2], vec![0, 2]));
    // What GDB writes back, with another register changed.
    for _ in 0..2 {
        let mut all = replay.registers(1).unwrap();
        all[30] = 7;
        assert!(replay.set_registers(1, &all).unwrap());
        assert_eq!((pc(&mut replay, 1), replay.registers(1).unwrap()[30]), (vec![2, 2], 7));
    }
    assert_eq!(go(&mut replay, Move::Continue), (2, Why::Breakpoint));
    assert_eq!((replay.halted().cpu, pc(&mut replay, 1)), (0, vec![1, 2]));
    replay.left().unwrap();
    for at in [0x200, 0x201] {
        assert!(replay.set(Breakpoint::Software(at)).unwrap());
    }
    assert_eq!(go(&mut replay, Move::Step(1)), (2, Why::Trap));
    assert_eq!(go(&mut replay, Move::Step(1)), (2, Why::Breakpoint), "a step of several steps");
    assert_eq!(replay.halted().cpu, 0, "whose hit it is");
    replay.left().unwrap();
    assert!(replay.set(Breakpoint::Software(0x200)).unwrap() && replay.set(Breakpoint::Software(0x201)).unwrap());
    assert_eq!(go(&mut replay, Move::Step(1)), (2, Why::Trap));
    let mut all = replay.registers(1).unwrap();
    all[0] = 0x77;
    assert!(replay.set_registers(1, &all).unwrap());
    assert_eq!(pc(&mut replay, 1), [0x77, 2], "one that is put elsewhere is there");
}

#[test]
fn memory_is_seen_through_the_tables_of_the_hit_and_written_beside_it() {
    let mut replay = replayed();
    let read = |replay: &mut Replay, cpu, at| {
        let mut bytes = [0; 5];
        let count = replay.read(cpu, at, &mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!(read(&mut replay, Some(0), 0x8000), "begin");
    assert_eq!(read(&mut replay, None, 0x8000), "begin");
    assert_eq!(read(&mut replay, Some(1), 0xffff_8000_0000_0000), "", "not mapped");
    let end = head().memory;
    assert_eq!(read(&mut replay, Some(1), end - 2), "\0\0", "as far as there is something");
    assert!(replay.write(Some(0), 0x8fff, b"ab").unwrap());
    assert!(!replay.write(Some(0), end - 1, b"ab").unwrap());
    assert_eq!(read(&mut replay, None, 0x8ffe), "\0ab\0\0");
    let mut registers = replay.registers(1).unwrap();
    registers[0] = 0x77;
    assert!(replay.set_registers(1, &registers).unwrap() && !replay.set_registers(1, &[0]).unwrap());
    assert_eq!(replay.registers(1).unwrap()[0], 0x77);
    go(&mut replay, Move::Continue);
    assert_eq!(read(&mut replay, None, 0x8ffe), "\0\0begin"[..5].to_string(), "another hit's memory is as it was");
    go(&mut replay, Move::ReverseContinue);
    assert_eq!(read(&mut replay, None, 0x8ffe), "\0ab\0\0", "what was written stays where it was");
    replay.left().unwrap();
    assert_eq!(read(&mut replay, None, 0x8ffe), "\0\0\0\0\0");
    assert_eq!(replay.registers(1).unwrap()[0], 1);
}
