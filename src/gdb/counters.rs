//! Counts how often functions are entered without stopping the guest.
//!
//! Where a kernel was built for ftrace, a function begins with five bytes that do nothing ([`entry`]). A counter makes them a call
//! of a stub of two instructions, which adds one to a word and returns. No register is changed; the flags are, which no caller
//! of a function relies upon. Stubs and words lie where the kernel has [memory that nothing uses](spare), and nothing is
//! placed where that does not look so in the guest. It takes no watchpoint, so it is the same under every accelerator.
//!
//! What was placed stays: a CPU may be on its way through a stub when its calls are taken out.

use super::client::Gdb;
use super::entry::{self, CALL_LENGTH, Tracer};
use super::memory;
use super::spare::Spare;
use super::symbols::Symbols;
use crate::error::Result;
use crate::event::Cancel;

/// `lock incq`, with a distance of four bytes from the next instruction.
const COUNT: [u8; 4] = [0xf0, 0x48, 0xff, 0x05];
const RETURN: u8 = 0xc3;
/// How far it is from a stub to the next one; each is nine bytes long.
const STUB: u64 = 16;
const WORD: u64 = size_of::<u64>() as u64;
/// What the linker, or the loader, fills gaps in code with: all bytes are one of these.
const PADDING: [u8; 3] = [0x00, 0xcc, 0x90];

/// The counters of a guest.
#[derive(Debug, Default)]
pub struct Counters {
    spare: Spare,
    /// How many were ever placed.
    placed: u64,
    running: Vec<Counter>,
}

#[derive(Debug)]
struct Counter {
    probe: usize,
    word: u64,
    /// What is called.
    stub: u64,
    /// Where the calls are.
    calls: Vec<u64>,
    /// What the word lacks, or has too much.
    besides: i64,
}

impl Counters {
    /// Those of a kernel, none of them in use.
    pub fn of(symbols: &Symbols) -> Counters {
        Counters { spare: symbols.spare().clone(), ..Counters::default() }
    }

    /// Counts from now on, for a probe, how often the functions that begin at these addresses are entered, or says why that
    /// cannot be. The guest stands still; the CPU of the stop stands at `at`: if that is such an entry, it has been told of, and
    /// does not count.
    ///
    /// # Errors
    /// GDB failed.
    pub fn start(
        &mut self,
        gdb: &mut Gdb,
        tracer: &mut Tracer,
        (probe, functions): (usize, &[u64]),
        at: Option<u64>,
        cancel: &Cancel,
    ) -> Result<std::result::Result<(), &'static str>> {
        if !tracer.is_watched(gdb, cancel)? {
            return Ok(Err(
                "that takes a kernel which can trace its functions (the fragment `trace`) and has not begun to",
            ));
        }
        let mut calls = Vec::new();
        let mut besides = 0;
        for function in functions {
            let Some(call) = entry::find(gdb, *function, cancel)? else {
                return Ok(Err("the kernel cannot trace this function"));
            };
            besides -= i64::from(at.is_some_and(|at| (*function..=call).contains(&at)));
            calls.push(call);
        }
        let Some((stub, word)) = self.place(gdb, cancel)? else { return Ok(Err("the kernel has no room for that")) };
        let codes: Option<Vec<Vec<u8>>> = calls.iter().map(|call| entry::call_of(*call, stub)).collect();
        let Some(codes) = codes else { return Ok(Err("the function is too far away")) };
        for (call, code) in calls.iter().zip(codes) {
            memory::write(gdb, *call, &code, cancel)?;
        }
        self.running.push(Counter { probe, word, stub, calls, besides });
        Ok(Ok(()))
    }

    /// Places the next stub, and gives it with its word; none where there is no room.
    fn place(&mut self, gdb: &mut Gdb, cancel: &Cancel) -> Result<Option<(u64, u64)>> {
        let Some((stub, word)) = room(&self.spare, self.placed) else { return Ok(None) };
        let (is, was) = (memory::read(gdb, stub, STUB, cancel)?, memory::read(gdb, word, WORD, cancel)?);
        let is_padding = |code: &Vec<u8>| PADDING.iter().any(|padding| code.iter().all(|byte| byte == padding));
        let is_zero = |word: &Vec<u8>| word.iter().all(|byte| *byte == 0);
        let (true, true) = (is.as_ref().is_some_and(is_padding), was.as_ref().is_some_and(is_zero)) else {
            return Ok(None);
        };
        let Some(code) = code_of(stub, word) else { return Ok(None) };
        memory::write(gdb, stub, &code, cancel)?;
        self.placed += 1;
        Ok(Some((stub, word)))
    }

    /// Counts an entry that came through another call, which was at the place of a counter's: `back_to` is behind it.
    pub fn missed(&mut self, back_to: u64) {
        let is_its = |counter: &&mut Counter| counter.calls.iter().any(|call| call + CALL_LENGTH == back_to);
        self.running.iter_mut().filter(is_its).for_each(|counter| counter.besides += 1);
    }

    /// Whether something is counted.
    pub fn are_in_use(&self) -> bool {
        !self.running.is_empty()
    }

    /// Takes all counters out. Gives the probe of each, and what it has counted. The guest stands still.
    ///
    /// # Errors
    /// GDB failed.
    pub fn stop(&mut self, gdb: &mut Gdb, cancel: &Cancel) -> Result<Vec<(usize, Option<u64>)>> {
        let mut counts = Vec::new();
        for Counter { probe, word, stub, calls, besides } in std::mem::take(&mut self.running) {
            let bytes = memory::read(gdb, word, WORD, cancel)?.and_then(|bytes| bytes.try_into().ok());
            // A CPU that was told of may not have come to the call yet.
            let count = bytes.map(|bytes| u64::from_le_bytes(bytes).saturating_add_signed(besides));
            counts.push((probe, count));
            for call in calls {
                entry::clear(gdb, call, stub, cancel)?;
            }
        }
        Ok(counts)
    }
}

/// Where the `nth` stub and its word are. Words are taken from the end, far from the last object.
fn room(spare: &Spare, nth: u64) -> Option<(u64, u64)> {
    let stub = spare.code.start.next_multiple_of(STUB) + nth * STUB;
    let word = (spare.data.end / WORD * WORD).checked_sub((nth + 1) * WORD)?;
    (stub + STUB <= spare.code.end && word >= spare.data.start).then_some((stub, word))
}

/// The stub at this address, which counts in this word; none where that is too far away.
fn code_of(stub: u64, word: u64) -> Option<Vec<u8>> {
    let next = stub + COUNT.len() as u64 + size_of::<i32>() as u64;
    Some([&COUNT[..], &entry::distance(next, word)?.to_le_bytes(), &[RETURN]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_adds_to_its_word_and_returns() {
        let code = code_of(0xffff_ffff_8160_0b70, 0xffff_ffff_81df_fff8).unwrap();
        assert_eq!(code, [0xf0, 0x48, 0xff, 0x05, 0x80, 0xf4, 0x7f, 0x00, 0xc3]);
        assert!(code.len() as u64 <= STUB);
        assert_eq!(code_of(0xffff_ffff_8160_0b70, 0xffff_8880_0000_0000), None);
    }

    #[test]
    fn stubs_and_words_stay_in_what_nothing_uses() {
        let spare = Spare { code: 0x1fc8..0x2000, data: 0x8fe9..0x9000 };
        assert_eq!([0, 1, 2].map(|nth| room(&spare, nth)), [Some((0x1fd0, 0x8ff8)), Some((0x1fe0, 0x8ff0)), None]);
        assert_eq!(room(&Spare { data: 0..0, ..spare.clone() }, 0), None);
        assert_eq!(room(&Spare { code: 0x2000..0x2000, ..spare }, 0), None);
    }
}
