"""Long compilations log their progress, and end at once after a signal."""

import signal
import subprocess
import sys
import time

import pytest

from vit_jax.planning import watch


def test_a_long_compile_says_that_it_goes_on(caplog):
    with caplog.at_level("INFO", "vit_jax.planning.watch"), watch.progress("a step", every=0.01):
        while len(caplog.messages) < 3:
            time.sleep(0.01)
    assert caplog.messages[0] == "compiling a step"
    assert caplog.messages[2].startswith("still compiling a step, for 0 s, since ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_with_a_sentence(number, code):
    lines = (
        "import hashlib, signal, threading",
        "signal.signal(signal.SIGINT, signal.default_int_handler)",  # a shell's background jobs ignore Ctrl-C
        "from vit_jax.planning import watch",
        "watch.end_at_signals(lambda: 'all is kept', threading.Lock())",
        "print('ready', flush=True)",
        "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2**31 - 1)",  # Python runs no signal handlers during this call
    )
    with subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == code
    assert err.startswith("error: ") and err.endswith("; all is kept\n") and err.count("\n") == 1
