//! The system call at the root of a stack: its name from the frames, its arguments from the registers that the program
//! called the kernel with.

use super::mi::number;
use super::registers::Called;
use crate::decode::Memory;
use crate::decode::syscall::{Argument, say};
use crate::report::model::{Frame, Syscall, Var};
use crate::report::path::{plain_symbol, system_call};

/// How the parts of a system call begin that have its parameters, the one with their types first.
const PARTS: [&str; 2] = ["__do_sys_", "__se_sys_"];

/// The system call that `frames` are in, which was called with these registers. None where it is over, or no frame tells it.
/// What cannot be read of the program, whose task is the current one, stays an address.
pub(super) fn read(memory: &mut dyn Memory, frames: &[Frame], called: &Called) -> Option<Syscall> {
    let name = system_call(frames)?;
    let arguments = arguments(frames, name, called);
    let (values, text) = say(memory, name, &arguments);
    let var = |(argument, value): (Argument, String)| Var {
        name: argument.name,
        type_name: Some(argument.type_name).filter(|name| !name.is_empty()),
        value: Some(value),
        available: true,
        why: None,
        lost: None,
    };
    let args = arguments.into_iter().zip(values).map(var).collect();
    Some(Syscall { name: name.into(), args, text })
}

/// The arguments in their order. The compiler lists the parameters of an inlined function in their order or the other way
/// around: which it is, values that other frames have for them tell. Where that is not known, they are nameless.
fn arguments(frames: &[Frame], name: &str, called: &Called) -> Vec<Argument> {
    let part = PARTS.iter().find_map(|part| {
        let whole = format!("{part}{name}");
        frames.iter().position(|frame| plain_symbol(&frame.symbol) == whole)
    });
    let nameless = |count: usize| {
        let one =
            |(at, register): (usize, u64)| Argument { name: format!("{}", at + 1), type_name: String::new(), register };
        called.arguments.into_iter().enumerate().map(one).take(count).collect()
    };
    let Some(at) = part else { return nameless(called.arguments.len()) };
    let mut parameters: Vec<&Var> = frames[at].args.iter().filter(|arg| !arg.name.contains('@')).collect();
    if parameters.len() > called.arguments.len() {
        return nameless(called.arguments.len());
    }
    // The functions that it calls first often have parameters of the same names.
    let near = &frames[at.saturating_sub(2)..frames.len().min(at + 2)];
    let known = |name: &str| near.iter().flat_map(|frame| &frame.args).filter(|var| var.name == name).find_map(value);
    let fits = |parameters: &[&Var]| {
        let pairs =
            parameters.iter().zip(called.arguments).filter_map(|(var, register)| Some((known(&var.name)?, register)));
        let (right, wrong): (Vec<_>, Vec<_>) = pairs.partition(|(value, register)| is_same(*value, *register));
        (wrong.len(), right.len())
    };
    let forward = fits(&parameters);
    parameters.reverse();
    let backward = fits(&parameters);
    let is_told = parameters.len() <= 1 || (forward.0 == 0) != (backward.0 == 0);
    if !is_told {
        return nameless(parameters.len());
    }
    if forward.0 == 0 {
        parameters.reverse();
    }
    let one = |(var, register): (&Var, u64)| Argument {
        name: var.name.clone(),
        type_name: var.type_name.clone().unwrap_or_default(),
        register,
    };
    parameters.into_iter().zip(called.arguments).map(one).collect()
}

/// What a variable holds, as a number.
fn value(var: &Var) -> Option<u64> {
    let word = var.value.as_deref()?.split_whitespace().next()?;
    number(word).or_else(|| word.parse::<i64>().ok().map(i64::cast_unsigned))
}

/// Whether a parameter can have come from a register: it may be narrower.
fn is_same(value: u64, register: u64) -> bool {
    value == register || (value ^ register) & 0xffff_ffff == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Why;
    use crate::report::sample::{frame, lost, var};

    fn stack(inner: Vec<Var>) -> Vec<Frame> {
        let mut frames =
            vec![frame(0, "__sys_connect", "net/socket.c", 1), frame(1, "__do_sys_connect", "net/socket.c", 2)];
        frames.push(frame(2, "__x64_sys_connect", "net/socket.c", 3));
        frames[0].args = inner;
        frames[1].args = [("addrlen", "int"), ("uservaddr", "struct sockaddr *"), ("fd", "int")]
            .map(|(name, type_name)| lost(name, type_name, Why::OptimizedOut))
            .into();
        frames
    }

    fn names(frames: &[Frame], name: &str) -> String {
        let called = Called { arguments: [3, 0x5e_d714, 16, 0, 0, 0] };
        let arguments = arguments(frames, name, &called);
        let one = |argument: &Argument| format!("{}={:#x}", argument.name, argument.register);
        arguments.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn parameters_are_in_the_order_that_their_values_tell() {
        let told = stack(vec![var("uservaddr", "struct sockaddr *", "0x5ed714"), var("addrlen", "int", "16")]);
        assert_eq!(names(&told, "connect"), "fd=0x3 uservaddr=0x5ed714 addrlen=0x10");
        let mut forward = told.clone();
        forward[1].args.reverse();
        assert_eq!(names(&forward, "connect"), "fd=0x3 uservaddr=0x5ed714 addrlen=0x10");
        let nameless = "1=0x3 2=0x5ed714 3=0x10";
        assert_eq!(names(&stack(vec![]), "connect"), nameless);
        assert_eq!(names(&stack(vec![var("addrlen", "int", "99")]), "connect"), nameless, "changed since");
        assert_eq!(names(&told, "other"), "1=0x3 2=0x5ed714 3=0x10 4=0x0 5=0x0 6=0x0");
    }
}
