# How long GDB's own `bt full` takes at each hit of a replay, with default settings: gdb -nx -batch -x FILE, attached, with
# `hits` set. Prints as bt-full.sh does.
import time
gdb.execute('set pagination off')
gdb.execute('set debuginfod enabled off')
for hit in range(int(gdb.convenience_variable('hits'))):
    if hit > 0:
        gdb.execute('continue')
    start = time.monotonic()
    stack = gdb.execute('bt full', to_string=True)
    print('== bt full %.6f\n%s' % (time.monotonic() - start, stack))
