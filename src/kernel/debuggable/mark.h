/* Every object of a debuggable path says in .comment which flags it took, so that vmlinux and modules say it too. */
asm(".ident \"" KDBG_MARK "\"");
