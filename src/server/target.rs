//! What stands behind the server, as gdbstub wants it. GDB's threads are the CPUs, with numbers that begin with 1.

use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::reverse_exec::{
    ReplayLogPosition, ReverseCont, ReverseContOps, ReverseStep, ReverseStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::arch::{Raw, X86};
use super::{Behind, Breakpoint, Halt, Move, Watched, Why};
use crate::error::{Error, Result};

/// The error numbers that a client gets (errno(3)).
const EFAULT: u8 = 14;
const ENOENT: u8 = 2;

/// The CPUs behind the server.
pub(super) struct Machine<'b> {
    pub(super) behind: &'b mut dyn Behind,
    /// Whether the client's addresses are physical.
    pub(super) physical: bool,
    /// The CPU that is to make one step.
    step: Option<u32>,
}

impl<'b> Machine<'b> {
    pub(super) fn new(behind: &'b mut dyn Behind) -> Self {
        Machine { behind, physical: false, step: None }
    }

    fn space(&self, tid: Tid) -> Option<u32> {
        (!self.physical).then(|| cpu(tid))
    }
}

/// The CPU that is this thread.
fn cpu(tid: Tid) -> u32 {
    u32::try_from(tid.get() - 1).unwrap_or(u32::MAX)
}

/// The thread that is this CPU.
fn tid(cpu: u32) -> Tid {
    usize::try_from(cpu).ok().and_then(|cpu| Tid::MIN.checked_add(cpu)).unwrap_or(Tid::MIN)
}

/// A stop, as the client is told.
pub(super) fn reason(halt: &Halt) -> MultiThreadStopReason<u64> {
    let tid = tid(halt.cpu);
    let signal = |signal| MultiThreadStopReason::SignalWithThread { tid, signal };
    match halt.why {
        Why::Trap => signal(Signal::SIGTRAP),
        Why::Interrupted => signal(Signal::SIGINT),
        Why::Breakpoint => MultiThreadStopReason::SwBreak(tid),
        Why::HardwareBreakpoint => MultiThreadStopReason::HwBreak(tid),
        Why::Watchpoint(watched, addr) => MultiThreadStopReason::Watch { tid, kind: kind(watched), addr },
        Why::Beginning => MultiThreadStopReason::ReplayLog { tid: Some(tid), pos: ReplayLogPosition::Begin },
        Why::Gone => MultiThreadStopReason::Exited(0),
    }
}

fn kind(watched: Watched) -> WatchKind {
    match watched {
        Watched::Write => WatchKind::Write,
        Watched::Read => WatchKind::Read,
        Watched::Access => WatchKind::ReadWrite,
    }
}

fn watched(kind: WatchKind) -> Watched {
    match kind {
        WatchKind::Write => Watched::Write,
        WatchKind::Read => Watched::Read,
        WatchKind::ReadWrite => Watched::Access,
    }
}

fn refused(done: bool) -> TargetResult<(), Machine<'static>> {
    if done { Ok(()) } else { Err(TargetError::Errno(EFAULT)) }
}

impl Target for Machine<'_> {
    type Arch = X86;
    type Error = Error;

    fn base_ops(&mut self) -> BaseOps<'_, X86, Error> {
        BaseOps::MultiThread(self)
    }

    /// The breakpoints are whose business it is behind the server.
    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }

    /// On one machine there is nothing to be saved.
    fn use_rle(&self) -> bool {
        false
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(&mut self) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Machine<'_> {
    fn read_registers(&mut self, regs: &mut Raw, tid: Tid) -> TargetResult<(), Self> {
        if cpu(tid) >= self.behind.cpus() {
            return Err(TargetError::Errno(ENOENT));
        }
        regs.0 = self.behind.registers(cpu(tid)).map_err(TargetError::Fatal)?;
        Ok(())
    }

    fn write_registers(&mut self, regs: &Raw, tid: Tid) -> TargetResult<(), Self> {
        if cpu(tid) >= self.behind.cpus() {
            return Err(TargetError::Errno(ENOENT));
        }
        refused(self.behind.set_registers(cpu(tid), &regs.0).map_err(TargetError::Fatal)?)
    }

    fn read_addrs(&mut self, start_addr: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let space = self.space(tid);
        if space.is_some_and(|cpu| cpu >= self.behind.cpus()) {
            return Err(TargetError::Errno(ENOENT));
        }
        match self.behind.read(space, start_addr, data).map_err(TargetError::Fatal)? {
            0 if !data.is_empty() => Err(TargetError::Errno(EFAULT)),
            count => Ok(count.min(data.len())),
        }
    }

    fn write_addrs(&mut self, start_addr: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let space = self.space(tid);
        if space.is_some_and(|cpu| cpu >= self.behind.cpus()) {
            return Err(TargetError::Errno(ENOENT));
        }
        // GDB asks with nothing to write whether it could.
        if data.is_empty() {
            return Ok(());
        }
        refused(self.behind.write(space, start_addr, data).map_err(TargetError::Fatal)?)
    }

    /// In their order: GDB numbers them as they come, and the kernel's own scripts for GDB take these numbers for those of the
    /// CPUs.
    fn list_active_threads(&mut self, thread_is_active: &mut dyn FnMut(Tid)) -> Result<()> {
        (0..self.behind.cpus()).for_each(|cpu| thread_is_active(tid(cpu)));
        self.behind.threads_listed();
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Machine<'_> {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize> {
        Ok(part(self.behind.about_cpu(cpu(tid)).as_bytes(), 0, buf))
    }
}

/// Copies what fits of a text, from an offset on.
fn part(text: &[u8], offset: u64, into: &mut [u8]) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|offset| text.get(offset..)).unwrap_or_default();
    let count = rest.len().min(into.len());
    into[..count].copy_from_slice(&rest[..count]);
    count
}

impl MultiThreadResume for Machine<'_> {
    fn resume(&mut self) -> Result<()> {
        self.behind.resume(self.step.map_or(Move::Continue, Move::Step))
    }

    fn clear_resume_actions(&mut self) -> Result<()> {
        self.step = None;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, _tid: Tid, _signal: Option<Signal>) -> Result<()> {
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_reverse_step(&mut self) -> Option<ReverseStepOps<'_, Tid, Self>> {
        self.behind.goes_back().then_some(self)
    }

    fn support_reverse_cont(&mut self) -> Option<ReverseContOps<'_, Tid, Self>> {
        self.behind.goes_back().then_some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Machine<'_> {
    fn set_resume_action_step(&mut self, tid: Tid, _signal: Option<Signal>) -> Result<()> {
        self.step = Some(cpu(tid).min(self.behind.cpus() - 1));
        Ok(())
    }
}

/// A machine runs with all its CPUs, or steps one.
impl MultiThreadSchedulerLocking for Machine<'_> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<()> {
        Ok(())
    }
}

impl ReverseCont<Tid> for Machine<'_> {
    fn reverse_cont(&mut self) -> Result<()> {
        self.behind.resume(Move::ReverseContinue)
    }
}

impl ReverseStep<Tid> for Machine<'_> {
    fn reverse_step(&mut self, tid: Tid) -> Result<()> {
        self.behind.resume(Move::ReverseStep(cpu(tid).min(self.behind.cpus() - 1)))
    }
}

impl Breakpoints for Machine<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Machine<'_> {
    fn add_sw_breakpoint(&mut self, addr: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.behind.set(Breakpoint::Software(addr)).map_err(TargetError::Fatal)
    }

    fn remove_sw_breakpoint(&mut self, addr: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.behind.clear(Breakpoint::Software(addr)).map_err(TargetError::Fatal)
    }
}

impl HwBreakpoint for Machine<'_> {
    fn add_hw_breakpoint(&mut self, addr: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.behind.set(Breakpoint::Hardware(addr)).map_err(TargetError::Fatal)
    }

    fn remove_hw_breakpoint(&mut self, addr: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.behind.clear(Breakpoint::Hardware(addr)).map_err(TargetError::Fatal)
    }
}

impl HwWatchpoint for Machine<'_> {
    fn add_hw_watchpoint(&mut self, addr: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.behind.set(Breakpoint::Watch(watched(kind), addr, len)).map_err(TargetError::Fatal)
    }

    fn remove_hw_watchpoint(&mut self, addr: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.behind.clear(Breakpoint::Watch(watched(kind), addr, len)).map_err(TargetError::Fatal)
    }
}

impl MonitorCmd for Machine<'_> {
    fn handle_monitor_cmd(&mut self, cmd: &[u8], mut out: ConsoleOutput<'_>) -> Result<()> {
        let command = String::from_utf8_lossy(cmd);
        let answer = self.behind.monitor(command.trim());
        let answer = answer.unwrap_or_else(|| format!("kdbg has no command `monitor {}`\n", command.trim()));
        out.write_raw(answer.as_bytes());
        Ok(())
    }
}

impl TargetDescriptionXmlOverride for Machine<'_> {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let file = std::str::from_utf8(annex).ok().and_then(|annex| self.behind.description(annex));
        let text = file.ok_or(TargetError::Errno(ENOENT))?;
        let room = length.min(buf.len());
        Ok(part(text.as_bytes(), offset, &mut buf[..room]))
    }
}
