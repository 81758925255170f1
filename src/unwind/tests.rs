//! Values against what GDB prints, and expressions made by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use gimli::{AttributeValue, Encoding, Format, Operation};
use object::{Object, ObjectSection};

use super::evaluate::{Outcome, evaluate};
use super::image::{Dwarf, Unit};
use super::place::{Call, Expression, Kept, Target};
use super::types::Types;
use super::*;
use crate::decode::Memory;

/// Memory by the address of its parts.
#[derive(Default)]
struct Parts(BTreeMap<u64, Vec<u8>>);

impl Memory for Parts {
    fn read(&mut self, address: u64, size: u64) -> Option<Vec<u8>> {
        let (start, bytes) = self.0.range(..=address).next_back()?;
        let from = usize::try_from(address - start).ok()?;
        bytes.get(from..from.checked_add(usize::try_from(size).ok()?)?).map(<[u8]>::to_vec)
    }
}

struct NoNames;

impl Names for NoNames {
    fn behind(&mut self, _: u64) -> Option<String> {
        None
    }
}

/// Variables of all kinds of types. Addresses are those of a file that is not moved: in it, GDB reads what they begin with.
const SOURCE: &str = r#"
typedef unsigned char u8;
typedef signed char s8;
enum color { RED = 1, BLUE = 4, BOTH = 5 };
enum flags { A = 1, B = 2, D = 8 };
enum below { MINUS = -1, ZERO };
struct inner { u8 kind; short low; };
struct sample {
    unsigned long word;
    union { struct { short low, high; }; int both; };
    struct inner list[3];
    unsigned int flag : 3, bits : 5;
    int below : 4;
    u8 version : 4, length : 4;
    _Bool yes : 1;
    enum color color : 4;
    const char *text;
    int (*call)(void);
    char name[16];
    u8 bytes[6];
    struct { struct { struct { struct { int x; } d; } c; } b; } a;
    struct { } nothing;
    int none[0];
    long rest[];
};
struct sample sample = {
    .word = 0xffff888000001234UL, .low = -2, .high = 3, .list = { { 'x', -1 }, { 0, 1 }, { 200, 2 } },
    .flag = 5, .bits = 31, .below = -3, .version = 4, .length = 15, .yes = 1, .color = BLUE,
    .text = "a \"b\"\n\001\\", .name = "swapper/0", .bytes = { 1, 2, 255, 0, 5, 6 }, .a = { { { { 7 } } } },
};
int minus = -7; unsigned int plus = 4000000000u; long long wide = -5000000000LL; unsigned short half = 65535;
char letter = 'A'; char quote = '\''; u8 high = 200; s8 low = -56; char zero; _Bool truth = 1, falsehood;
enum color known = RED, sum = 6; enum flags none, some = A | D, more = B | 32, other = 64; enum below minus_one = MINUS, two = 2;
void *nowhere, *somewhere = (void *)0xffff888000abcdefUL; const char *empty = ""; char *dead = (char *)16; char *null;
char spaces[40] = "                    x"; char full[4] = "abcd"; char blank[70];
char run[32] = "aaaaaaaaaaaaaaaaaaaab"; char end[32] = "baaaaaaaaaaaaaaaaaaaa";
const char *lengthy = "0123456789012345678901234567890123456789012345678901234567890123456789";
const char *exact = "0123456789012345678901234567890123456789012345678901234567890123";
char array[80] = "0123456789012345678901234567890123456789012345678901234567890123456789";
int numbers[5] = { 1, 1, 1, 1, 2 }, many[100] = { 1, 2 }, square[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
struct inner inners[20]; struct { struct inner pair[2]; void *p; } pairs = { { { 1, 2 }, { 3, 4 } }, 0 };
int counted[90] = { 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,
  41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67 };
void _start(void) { }
"#;

/// What kdbg sets for GDB, as far as it makes a difference here.
const SETTINGS: [&str; 7] = [
    "print elements 64",
    "print repeats 16",
    "print max-depth 4",
    "print null-stop on",
    "print sevenbit-strings on",
    "print symbol on",
    "charset ASCII",
];

/// Compiles a program that does not run, with debug information of this version; none, said aloud, without a compiler.
fn compiled(folder: &Path, dwarf: &str) -> Option<std::path::PathBuf> {
    let Ok(gcc) = which::which("gcc") else {
        eprintln!("skipped: there is no gcc");
        return None;
    };
    let (source, program) = (folder.join("sample.c"), folder.join("sample"));
    fs::write(&source, SOURCE).unwrap();
    let mut compile = Command::new(gcc);
    compile.args(["-g", "-O2", "-w", dwarf, "-static", "-no-pie", "-nostdlib", "-o"]).arg(&program).arg(&source);
    assert!(compile.status().unwrap().success());
    Some(program)
}

/// The variables of the program, with their types and addresses.
fn globals(program: &[u8]) -> Vec<(Variable, u64)> {
    let elf = object::File::parse(program).unwrap();
    let dwarf = Dwarf::load(|id| {
        let section = elf.section_by_name(id.name()).and_then(|section| section.data().ok()).unwrap_or_default();
        Ok::<_, gimli::Error>(gimli::EndianSlice::new(section, gimli::LittleEndian))
    })
    .unwrap();
    let mut types = Types::default();
    let mut found = Vec::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next().unwrap() {
        let unit = Unit { unit: dwarf.unit(header).unwrap(), dwarf: &dwarf };
        for entry in unit.children(gimli::UnitOffset(unit.unit.header.size_of_header())).unwrap() {
            let Some(AttributeValue::Exprloc(code)) = entry.attr_value(gimli::DW_AT_location) else { continue };
            let operation = code.operations(unit.unit.encoding()).next().unwrap();
            let Some(Operation::Address { address }) = operation else { continue };
            let variable = Variable {
                name: unit.text(&entry, gimli::DW_AT_name),
                is_argument: false,
                of: types.of(&unit, &unit.holder(&entry, gimli::DW_AT_type).unwrap()).unwrap(),
                at: None,
                passed: None,
                kept: Kept::Located,
            };
            found.push((variable, address));
        }
    }
    found
}

#[test]
fn values_are_printed_as_gdb_prints_them() {
    // Bit fields are described in another way before version 5, and left to GDB.
    for (dwarf, left) in [("-gdwarf-5", &[][..]), ("-gdwarf-4", &["sample"])] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(program) = compiled(folder.path(), dwarf) {
            compare(&program, left);
        }
    }
}

/// Compares the values of all variables of a program but for those that are left to GDB.
fn compare(program: &Path, left: &[&str]) {
    let Ok(gdb) = which::which("gdb") else { return eprintln!("skipped: there is no gdb") };
    let data = fs::read(program).unwrap();
    let elf = object::File::parse(&*data).unwrap();
    let mut memory = Parts::default();
    for section in elf.sections().filter(|section| section.address() > 0) {
        let bytes = section.data().unwrap();
        let bytes = if bytes.is_empty() { vec![0; section.size() as usize] } else { bytes.to_vec() };
        memory.0.insert(section.address(), bytes);
    }
    let globals = globals(&data);
    assert!(globals.len() >= 39, "{}", globals.len());
    let mut ask = Command::new(gdb);
    ask.args(["-nx", "-batch"]);
    for setting in SETTINGS {
        ask.args(["-ex", &format!("set {setting}")]);
    }
    for (variable, _) in &globals {
        // Not `print`, which puts the type in front of a pointer; and the symbols of this file are none of a kernel's.
        let printed = format!("interpreter-exec mi \"-data-evaluate-expression {}\"", variable.name);
        ask.args(["-ex", &printed]);
    }
    let said = ask.arg(program).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let answers: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("^done,value=")).collect();
    assert_eq!(answers.len(), globals.len(), "{said}");
    for ((variable, address), answer) in globals.iter().zip(answers) {
        let bytes = memory.read(*address, variable.of.size()).unwrap();
        let value = Value { bytes, lost: Vec::new(), address: Some(*address) };
        let printed = print(variable, &value, &mut memory, &mut NoNames);
        let quoted = printed.map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
        if left.contains(&variable.name.as_str()) {
            assert_eq!(quoted, None);
            continue;
        }
        let answer = without_symbols(answer);
        assert_eq!(quoted.as_deref(), Some(answer.as_str()), "{}", variable.name);
    }
}

/// Without what GDB puts behind addresses of this program.
fn without_symbols(text: &str) -> String {
    let mut parts = text.split(" <");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |text, part| match part.split_once('>') {
        Some((symbol, rest)) if !symbol.starts_with("repeats") && !symbol.starts_with("error") => text + rest,
        _ => text + " <" + part,
    })
}

fn expression(code: &[u8]) -> Expression {
    let encoding = Encoding { format: Format::Dwarf32, version: 5, address_size: 8 };
    Expression { code: code.to_vec(), encoding, types: Vec::new() }
}

fn place(call: Option<Call>) -> std::sync::Arc<Place> {
    let level = Level { function: "f".into(), variables: Vec::new() };
    std::sync::Arc::new(Place { levels: vec![level], entry: 0x100, call, ..Place::without_source(None) })
}

fn variable(of: Type, at: Option<Expression>, passed: Option<u16>) -> Variable {
    Variable { name: "x".into(), is_argument: true, of: of.into(), at, passed, kept: Kept::Located }
}

/// A function that was called with 7 in `rdi`, which is lost, and its caller, with 5 in `rbx`.
fn frames(target: u64) -> [Frame; 2] {
    let mut registers = Registers([None; 17]);
    registers.0[16] = Some(0x110);
    // `rbx` and 2 more.
    let call = Call { target: Target::Address(target), parameters: vec![(5, expression(&[0x73, 2]))] };
    let callee = Frame::new(registers, place(None), &mut Parts::default());
    registers.0[3] = Some(5);
    [callee, Frame::new(registers, place(Some(call)), &mut Parts::default())]
}

const LONG: Type = Type::Integer { size: 8, signed: true };

#[test]
fn a_lost_argument_is_what_the_caller_passed() {
    // DW_OP_entry_value (DW_OP_reg5), DW_OP_stack_value.
    let entry = expression(&[0xa3, 1, 0x55, 0x9f]);
    let lost = variable(LONG, Some(entry), Some(5));
    let mut memory = Parts::default();
    let called = frames(0x100);
    let value = Frames(&called).value(0, 0, &lost, &mut memory).unwrap();
    assert_eq!((value.bytes, value.lost.len()), (7_i64.to_le_bytes().to_vec(), 0));
    let passed = Frames(&called).passed(0, 0, &lost, &mut memory).unwrap();
    assert_eq!(passed.bytes, 7_i64.to_le_bytes());
    // The call was another function's: the frame between has gone.
    let other = frames(0x200);
    assert_eq!(Frames(&other).value(0, 0, &lost, &mut memory).unwrap().lost, [true; 8]);
    assert_eq!(Frames(&other).passed(0, 0, &lost, &mut memory), None);
    // Nothing has called the outermost.
    assert_eq!(Frames(&called[..1]).passed(0, 0, &lost, &mut memory), None);
}

#[test]
fn what_is_kept_in_pieces_is_put_together_and_what_is_nowhere_is_said() {
    let [_, frame] = frames(0x100);
    let frames = [frame];
    let of = |name: &str, offset| Member { name: name.into(), offset, bits: None, of: LONG.into() };
    let pair = Type::Structure { size: 16, members: vec![of("a", 0), of("b", 8)] };
    // DW_OP_reg3, DW_OP_piece 8, and eight bytes without a place.
    let halves = variable(pair, Some(expression(&[0x53, 0x93, 8, 0x93, 8])), None);
    let mut memory = Parts::default();
    let value = Frames(&frames).value(0, 0, &halves, &mut memory).unwrap();
    let text = print(&halves, &value, &mut memory, &mut NoNames);
    assert_eq!(text.as_deref(), Some("{a = 5, b = <optimized out>}"));
    let gone = variable(LONG, None, None);
    let value = Frames(&frames).value(0, 0, &gone, &mut memory).unwrap();
    assert_eq!(print(&gone, &value, &mut memory, &mut NoNames).as_deref(), Some("<optimized out>"));
}

#[test]
fn what_cannot_be_read_or_is_not_understood_is_left_to_gdb() {
    let [_, frame] = frames(0x100);
    let frames = [frame];
    let mut memory = Parts::default();
    // DW_OP_addr 0x1000; DW_OP_deref of that; nonsense; a register without a value as a base.
    let address = [0x03, 0, 0x10, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        evaluate(&expression(&address), None, Frames(&frames).at(0, 0), &mut memory),
        Some(Outcome::Address(0x1000))
    );
    for code in [&address[..], &[0x03, 0, 0x10, 0, 0, 0, 0, 0, 0, 0x06, 0x9f], &[0xff], &[0x70, 0]] {
        let unreadable = variable(LONG, Some(expression(code)), None);
        assert_eq!(Frames(&frames).value(0, 0, &unreadable, &mut memory), None, "{code:x?}");
    }
    let endless = expression(&[0x2f, 0xfd, 0xff]); // DW_OP_skip to itself
    assert_eq!(evaluate(&endless, None, Frames(&frames).at(0, 0), &mut memory), None);
}
