# What drgn sees in a core: the stack of what runs on a CPU, frame by frame, with the values that are numbers.
import json
import sys

import drgn
from drgn import Program, TypeKind
from drgn.helpers.linux.sched import cpu_curr

core, vmlinux, cpu = sys.argv[1:]
prog = Program()
prog.set_core_dump(core)
prog.load_debug_info([vmlinux])


def value(frame, name):
    """None where it is neither a number nor true or false; {"absent": true} where drgn says that it is not there."""
    try:
        variable = frame[name]
        kind = variable.type_
        while kind.kind == TypeKind.TYPEDEF:
            kind = kind.type
        if variable.absent_:
            return {"absent": True}
        if kind.kind == TypeKind.BOOL:
            return {"truth": bool(variable.value_())}
        if kind.kind in (TypeKind.INT, TypeKind.POINTER, TypeKind.ENUM):
            return {"number": int(variable.value_())}
        return None
    except (drgn.ObjectAbsentError, drgn.FaultError, LookupError, NotImplementedError) as error:
        return {"error": str(error)}


frames = []
for frame in prog.stack_trace(cpu_curr(prog, int(cpu))):
    try:
        place = frame.source()[:2]
    except LookupError:
        place = None
    names = frame.locals()
    frames.append({
        "function": frame.name,
        "pc": frame.pc,
        "inlined": frame.is_inline,
        "place": place,
        "values": {name: value(frame, name) for name in names},
    })
print(json.dumps({"release": prog["init_uts_ns"].name.release.string_().decode(), "frames": frames}))
