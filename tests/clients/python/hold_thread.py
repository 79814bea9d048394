"""Keeps one thread of another process from running until standard input ends: ptrace, as a debugger uses it."""

import ctypes
import os
import sys

PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000

thread = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(what):
    if libc.ptrace(what, thread, None, None) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))


ptrace(PTRACE_ATTACH)
os.waitpid(thread, WALL)
print("held", flush=True)
sys.stdin.read()
ptrace(PTRACE_DETACH)
