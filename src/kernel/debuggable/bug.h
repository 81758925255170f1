/* At -O0 a variable is no constant for an asm: the flags of a warning go there without one. */
#include_next <asm/bug.h>
#if defined(__WARN_FLAGS) && defined(ASM_REACHABLE)
#undef __WARN_FLAGS
#define __WARN_FLAGS(flags)                                                  \
	do {                                                                 \
		instrumentation_begin();                                     \
		_BUG_FLAGS(ASM_UD2, BUGFLAG_WARNING | (flags), ASM_REACHABLE); \
		instrumentation_end();                                       \
	} while (0)
#endif
