"""How processes agree on when to stop and why they fail; a dict replaces the coordination service."""

import contextlib
import json
import logging
import types

import jax
import pytest

from vit_jax.training import hosts


class Ended(BaseException):
    """Raised where a real process would exit."""


class Service:
    """The methods of JAX's client that `Hosts` uses here, on top of a dict. One call can fail.

    Args:
        fails: the number of the call that fails, counted from 1 over all clients; none does if it is 0.
        after: whether that call fails after doing its work, rather than before.
    """

    def __init__(self, fails=0, after=False):
        self.values, self.calls, self.fails, self.after = {}, 0, fails, after

    def _called(self, work):
        self.calls += 1
        failing = self.calls == self.fails
        if failing and not self.after:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: try again")
        result = work()
        if failing:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: the answer is lost")
        return result

    def key_value_set(self, key, value, allow_overwrite=False):
        def work():
            if key in self.values and not allow_overwrite:
                raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {key}")
            self.values[key] = value

        self._called(work)

    def key_value_dir_get(self, folder):
        return self._called(lambda: [(key, value) for key, value in self.values.items() if key.startswith(folder)])

    def verdict(self):
        (text,) = [value for key, value in self.values.items() if key.endswith("/notes/verdict")]
        return json.loads(text)["sentence"]


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(hosts.time, "monotonic", lambda: now.seconds)
    return now


@pytest.fixture
def job(monkeypatch, clock):
    """Returns the service and three `Hosts`. Their threads do not run; the tests call `_talk` instead."""
    from jax._src import distributed

    service, processes = Service(), []
    monkeypatch.setattr(hosts, "_RUNS", iter([7, 7, 7]))
    for index in range(3):
        with monkeypatch.context() as patch:
            for name, value in {"client": service, "num_processes": 3, "process_id": index}.items():
                patch.setattr(distributed.global_state, name, value)
            patch.setattr(hosts.socket, "gethostname", lambda index=index: f"host{index}")
            processes.append(hosts.Hosts(watch_seconds=10))

    def leave(code):
        raise Ended(code)

    for process in processes:
        monkeypatch.setattr(process, "_leave", leave)
    return service, processes


def talk(processes, clock, seconds, number=0):
    """Lets `seconds` pass on the clock; in each of them every process of `processes` writes a heartbeat."""
    for i in range(seconds):
        clock.seconds += 1
        for process in processes:
            process._talk(1000 * clock.seconds + i)


def test_all_stop_after_the_step_beyond_the_furthest(job, clock):
    _, processes = job
    first, second, third = processes
    assert not first.agreed(3) and not second.agreed(5) and not third.agreed(4)
    second.request_stop()
    talk(processes, clock, 3)
    assert [first.agreed(4), first.agreed(5), first.agreed(6)] == [False, False, True]
    assert second.agreed(6) and not third.agreed(5) and third.agreed(6)


def test_one_that_is_still_compiling_takes_part(job, clock):
    _, processes = job
    first, *others = processes
    assert not first.agreed(301)  # the run was resumed at step 300; the others are still compiling
    others[0].request_stop()
    talk(processes, clock, 3)
    assert not others[1].agreed(301) and others[1].agreed(302) and first.agreed(302)


def test_before_the_first_step_there_is_nothing_to_save(job, clock):
    _, processes = job
    processes[2].request_stop()
    talk(processes, clock, 1)
    talk(processes[:2], clock, 1)
    for process in reversed(processes):
        with pytest.raises(Ended, match="143"):
            process._talk(0)


def test_silent_process_is_named_once_it_is_late(job, clock):
    service, processes = job
    talk(processes, clock, 3)
    talk(processes[:2], clock, 9)
    assert not any(key.endswith("verdict") for key in service.values)
    with pytest.raises(Ended):
        talk(processes[:2], clock, 4)
    assert "no sign of life from process 2 on host2 for 10 s" in service.verdict()


def test_process_that_never_came_is_named(job, clock):
    service, processes = job
    with pytest.raises(Ended):
        talk(processes[:1], clock, 20)
    assert "from process 1 and process 2 for 10 s" in service.verdict()


def test_suspended_first_process_does_not_blame_the_others(job, clock):
    service, processes = job
    talk(processes, clock, 3)
    clock.seconds += 1000
    talk(processes, clock, 3)
    assert not any(key.endswith("verdict") for key in service.values)


def test_who_stands_still_while_others_go_on_is_reported(job, clock, caplog):
    _, processes = job
    for process in processes:
        process.agreed(4)
    talk(processes, clock, 3)
    processes[0].agreed(5), processes[2].agreed(5)
    with caplog.at_level(logging.WARNING, "vit_jax"):
        talk(processes, clock, 30)
    (record,) = caplog.records
    assert "process 1 on host1 has been at step 4 for" in record.getMessage()
    assert "others are at 5" in record.getMessage()


def test_first_error_counts(job, clock, capsys):
    _, processes = job
    with pytest.raises(Ended):
        processes[1].fail_with(hosts.UserError("its disk is full"))
    assert capsys.readouterr().err == "error: its disk is full\n"
    with pytest.raises(Ended):
        processes[2].fail_with(KeyError("x"))
    assert "KeyError" in capsys.readouterr().err
    with pytest.raises(Ended) as ended:
        processes[0]._talk(0)
    assert ended.value.args == (1,)
    assert capsys.readouterr().err == "error: process 1 on host1 failed: its disk is full\n"


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("INTERNAL: all-reduce failed"),
        hosts.UserError("a checkpoint can't be written (Gloo AllGather failed: Connection closed by peer)"),
        ValueError("Barrier timed out"),
    ],
    ids=str,
)
def test_what_follows_from_another_process_waits_for_its_name(job, clock, capsys, monkeypatch, error):
    _, processes = job
    with pytest.raises(Ended):
        processes[1].fail_with(hosts.UserError("its disk is full"))
    capsys.readouterr()
    # While this process waits, its thread would continue to call `_talk`.
    monkeypatch.setattr(processes[0]._verdict_read, "wait", lambda _: [processes[0]._talk(0)])
    with pytest.raises(Ended):
        processes[0].fail_with(error)
    assert capsys.readouterr().err == "error: process 1 on host1 failed: its disk is full\n"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_any_call_may_fail_once(monkeypatch, after):
    """All the processes stop after the same step, no matter which call to the coordination service fails."""
    from jax._src import distributed

    monkeypatch.setattr(hosts, "_RUNS", iter([0] * 1000))
    for fails in range(1, 30):
        service, all_hosts = Service(fails, after), []
        for process in range(2):
            state = types.SimpleNamespace(client=service, num_processes=2, process_id=process)
            monkeypatch.setattr(distributed, "global_state", state)
            all_hosts.append(hosts.Hosts(watch_seconds=0.2))
        for host, step in zip(all_hosts, (3, 5), strict=True):
            assert not host.agreed(step)
        all_hosts[1].request_stop()
        for number in range(6):
            for host in all_hosts:
                with contextlib.suppress(jax.errors.JaxRuntimeError):  # as `_beat` does
                    host._talk(number)
        for host in all_hosts:
            assert host._stop_after == 6, f"call {fails} failed"
            assert not host._frozen.locked() and not host.agreed(5) and host.agreed(6)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_why_a_process_ends_is_told_in_spite_of_a_failure(monkeypatch, after):
    from jax._src import distributed

    service = Service(1, after)
    state = types.SimpleNamespace(client=service, num_processes=2, process_id=1)
    monkeypatch.setattr(distributed, "global_state", state)
    host = hosts.Hosts(watch_seconds=0.2)
    host._post("a reason")
    host._post("a later one")  # ignored, since the first reason counts
    assert [json.loads(v)["sentence"] for k, v in service.values.items() if "verdict" in k] == ["a reason"]
