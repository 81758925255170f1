/* At -O0 an argument is no constant for an asm: the same answer, read from where the patched code has it. */
#include_next <asm/cpufeature.h>
#undef static_cpu_has
#define static_cpu_has(bit) boot_cpu_has(bit)
