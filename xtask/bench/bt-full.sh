#!/usr/bin/env bash
# How long GDB's own `bt full` takes at each stop, with default settings: the first one there, before anything is cached.
# usage and guest: as by-hand.sh. Prints the stacks, and before each a line `== bt full SECONDS`.
set -eu
vmlinux=$1 initramfs=$2 cmdline=$3 output=$4 function=$5
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cat > "$dir/script.gdb" <<END
set pagination off
set confirm off
set debuginfod enabled off
target remote $dir/gdb.sock
break $function
python
import time
try:
    while True:
        gdb.execute('continue')
        start = time.monotonic()
        stack = gdb.execute('bt full', to_string=True)
        print('== bt full %.6f\n%s' % (time.monotonic() - start, stack))
except gdb.error:
    pass
end
END
qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 256 -nodefaults -no-user-config -display none -no-reboot \
  -serial "file:$dir/console" -kernel "$vmlinux" -initrd "$initramfs" \
  -append "console=ttyS0 nokaslr quiet panic=-1 reboot=t $cmdline" \
  -chardev "socket,path=$dir/gdb.sock,server=on,wait=off,id=gdb" -gdb chardev:gdb -S &
qemu=$!
until [ -S "$dir/gdb.sock" ]; do sleep 0.01; done
gdb -nx -q -batch -iex 'set auto-load no' -x "$dir/script.gdb" "$vmlinux" > "$output" 2>&1 || true
wait "$qemu" || true
