//! What is the same of a stack at every hit, and where what changes comes from.

use super::super::Stack;
use super::walk::Walk;
use crate::decode::Memory;
use crate::gdb::mi::number;
use crate::gdb::variables;
use crate::report::model::{Frame, Lost, Var, Why};
use crate::unwind::{Frames, Kept, Level, Names, Variable, print};

/// A stack that GDB has read, and where its values are.
#[derive(Debug)]
pub(super) struct Skeleton {
    stack: Stack,
    /// Of every variable of every frame, arguments first.
    sources: Vec<Vec<Source>>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// It is always as it was.
    Fixed,
    /// A variable of a level of a frame; as it was at the function's entry, or as it is.
    Variable { frame: usize, level: usize, index: usize, passed: bool },
}

/// What GDB puts behind the name of an argument that is as it was at the call.
const PASSED: &str = "@entry";

impl Skeleton {
    /// Of a stack that GDB has read, and the frames that were found without it; none if they do not fit.
    pub(super) fn of(walk: &Walk, stack: &Stack) -> Option<Skeleton> {
        let mut sources = Vec::new();
        let mut left = &stack.frames[..];
        for (index, frame) in walk.frames.iter().enumerate() {
            // What is inlined, and what it is inlined into.
            let inlined = left.iter().take_while(|frame| frame.inlined).count();
            let group = &left[..left.len().min(inlined + 1)];
            let is_whole = group.len() > inlined;
            left = &left[group.len()..];
            let levels = &frame.place.levels;
            let hidden = if is_whole { levels.len().max(1).checked_sub(group.len())? } else { 0 };
            // At its first instruction, GDB does not show what is inlined there.
            if hidden > 0 && !walk.firsts[index] {
                return None;
            }
            for (above, shown) in group.iter().enumerate() {
                let fits = number(&shown.address) == frame.registers.rip();
                let level = levels.get(hidden + above);
                if !fits || level.is_some_and(|level| level.function != shown.symbol) {
                    return None;
                }
                sources.push(of_frame(shown, level, (index, hidden + above))?);
            }
        }
        (left.is_empty()).then(|| Skeleton { stack: stack.clone(), sources })
    }

    /// The stack, with the values that it has now; none where one cannot be told.
    pub(super) fn stack(&self, walk: &Walk, memory: &mut dyn Memory, names: &mut dyn Names) -> Option<Stack> {
        let mut stack = self.stack.clone();
        (stack.called, stack.interrupted) = (walk.called.clone(), walk.interrupted.clone());
        let mut all = true;
        for (frame, sources) in stack.frames.iter_mut().zip(&self.sources) {
            for (var, source) in frame.args.iter_mut().chain(&mut frame.locals).zip(sources) {
                // Those behind one that is missing are read too: all names are asked for at once.
                all &= read(walk, var, *source, memory, names).is_some();
            }
        }
        all.then_some(stack)
    }
}

/// Where the values of a frame's variables come from. Those of one name follow each other from the innermost block on; GDB has
/// more of those of which nothing is kept.
fn of_frame(frame: &Frame, level: Option<&Level>, at: (usize, usize)) -> Option<Vec<Source>> {
    let variables = level.map_or(&[][..], |level| &level.variables);
    let mut sources = Vec::new();
    for (list, is_argument) in [(&frame.args, true), (&frame.locals, false)] {
        for (index, var) in list.iter().enumerate() {
            if var.lost == Some(Lost::Nowhere) {
                sources.push(Source::Fixed);
                continue;
            }
            let name = var.name.trim_end_matches(PASSED);
            let is_same =
                |other: &&Var| other.name.trim_end_matches(PASSED) == name && other.lost != Some(Lost::Nowhere);
            let is_it = |variable: &Variable| {
                variable.is_argument == is_argument && variable.name == name && variable.kept != Kept::Nothing
            };
            if variables.iter().filter(|other| is_it(other)).count() != list.iter().filter(is_same).count() {
                return None;
            }
            let before = list[..index].iter().filter(is_same).count();
            let (index, variable) = variables.iter().enumerate().filter(|(_, other)| is_it(other)).nth(before)?;
            let is_fixed = variable.kept == Kept::Constant || var.why == Some(Why::NotSetYet);
            let passed = var.name.ends_with(PASSED);
            let (frame, level) = at;
            sources.push(if is_fixed { Source::Fixed } else { Source::Variable { frame, level, index, passed } });
        }
    }
    Some(sources)
}

/// Gives a variable the value that it has now; none where that cannot be told, or there is one now and was none, or the other
/// way around.
fn read(walk: &Walk, var: &mut Var, source: Source, memory: &mut dyn Memory, names: &mut dyn Names) -> Option<()> {
    let Source::Variable { frame, level, index, passed } = source else { return Some(()) };
    let frames = Frames(&walk.frames);
    let variable = walk.frames.get(frame)?.place.levels.get(level)?.variables.get(index)?;
    let value = match passed {
        true => frames.passed(frame, level, variable, memory)?,
        false => frames.value(frame, level, variable, memory)?,
    };
    let text = print(variable, &value, memory, names)?;
    let now = variables::var(&var.name, None, Some(&text));
    (now.available == var.available && (now.available || now.why == var.why)).then(|| var.value = now.value)
}
