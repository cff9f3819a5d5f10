"""Claims about memory that processes share."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from repository import ROOT

from common.errors import UserError
from common.shared_memory import SharedMemory, open_shared


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_another_process_sees_and_changes_it():
    memory = SharedMemory(1000)
    memory.buf[:3] = b"abc"
    program = (
        "from common.shared_memory import open_shared\n"
        f"memory = open_shared('{memory.path}', 1000)\n"
        "assert memory.buf[:3] == b'abc'\n"
        "memory.buf[999] = 7\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert memory.buf[999] == 7
    memory.close()
    with pytest.raises(OSError):
        open_shared(memory.path, 1000)


def test_it_is_gone_when_nothing_refers_to_it():
    before = descriptors()
    for close in (True, False):
        memory = SharedMemory(2**20)
        array = np.ndarray(2**17, np.float64, memory.buf)
        array[:] = 1.0
        del array
        if close:
            memory.close()
        del memory
        gc.collect()
        assert descriptors() == before


def test_it_takes_no_room_in_dev_shm():
    free = os.statvfs("/dev/shm").f_bavail
    memory = SharedMemory(2**24)
    np.ndarray(2**24, np.uint8, memory.buf)[:] = 1
    assert free - os.statvfs("/dev/shm").f_bavail < 2**24 // os.statvfs("/dev/shm").f_frsize
    memory.close()


def test_more_than_there_can_be_is_one_line():
    with pytest.raises(UserError, match=r"^--num_env: no memory can be shared with worker processes: "):
        SharedMemory(2**63 - 1)
