"""The registry of patches: what its events say, and that racing and killed writers lose and double nothing."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pave_process import environment, invoke

from pipelines.errors import RegistryError
from pipelines.patch_events import PatchScore
from pipelines.patch_registry import EVENTS, PatchRegistry

SCORE = PatchScore(
    metric="accuracy", value=0.75, file=Path("scores.json"), difference=0.25, low=0.1, high=0.4, n=8
)


def registered(folder: Path, *names: str) -> PatchRegistry:
    registry = PatchRegistry(folder / "registry")
    for number, name in enumerate(names):
        registry.register(folder / name, number, {"patch.safetensors": name * 8}, "trained")
    return registry


def states(registry: PatchRegistry) -> dict[str, str]:
    return {patch.run.name: patch.state for patch in registry.states().patches.values()}


def test_the_champion_is_what_the_events_say(tmp_path: Path) -> None:
    registry = registered(tmp_path, "a", "b", "c", "d")
    assert registry.states().champion is None
    registry.register(tmp_path / "a", 0, {}, "again")
    registry.promote(tmp_path / "a", "first", SCORE, instead_of=None)
    registry.reject(tmp_path / "d", "worse", instead_of=tmp_path / "a")
    registry.promote(tmp_path / "b", "better", instead_of=tmp_path / "a")
    registry.promote(tmp_path / "c", "better", instead_of=tmp_path / "b")
    assert states(registry) == {
        "a": "former champion",
        "b": "former champion",
        "c": "champion",
        "d": "not promoted",
    }
    assert registry.states().patches[tmp_path / "a"].score == SCORE
    registry.rollback("answers in French")
    assert states(registry)["b"] == "champion"
    assert states(registry)["c"] == "rolled back"
    registry.rollback("so does this")
    assert states(registry)["a"] == "champion", "the one before b, not c again"
    with pytest.raises(RegistryError, match="no champion before a"):
        registry.rollback("why not")
    registry.rollback("try it", to="d")
    assert states(registry)["d"] == "champion"
    assert registry.states().champions == (tmp_path / "d",)
    reread = PatchRegistry(tmp_path / "registry")
    assert [event.kind for event in reread.events()] == [
        *["register"] * 4,
        *["promote", "reject", "promote", "promote"],
        *["rollback"] * 3,
    ]
    assert reread.states() == registry.states()


def test_a_decision_about_another_champion_is_refused(tmp_path: Path) -> None:
    registry = registered(tmp_path, "a", "b", "c")
    registry.promote(tmp_path / "a", "first", instead_of=None)
    registry.promote(tmp_path / "b", "better", instead_of=tmp_path / "a")
    with pytest.raises(RegistryError, match=r"b has become the champion meanwhile, not .*a;"):
        registry.promote(tmp_path / "c", "better than a", instead_of=tmp_path / "a")
    with pytest.raises(RegistryError, match=r"no patch .*x; name one of: a, b, c"):
        registry.promote(tmp_path / "x", "unknown", instead_of=tmp_path / "b")
    assert len(registry.events()) == 5


def test_racing_writers_lose_nothing(tmp_path: Path) -> None:
    def write(number: int) -> None:
        PatchRegistry(tmp_path / "registry").register(tmp_path / f"run{number}", number, {}, "trained")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, [*range(24), *range(24)]))
    registry = PatchRegistry(tmp_path / "registry")
    assert sorted(event.snapshot for event in registry.events()) == list(range(24))
    assert not list((tmp_path / "registry" / EVENTS).glob(".*"))


def test_a_killed_writer_leaves_whole_events_and_no_lock(tmp_path: Path) -> None:
    script = """
import itertools, sys
from pathlib import Path
from pipelines.patch_registry import PatchRegistry
registry = PatchRegistry(Path(sys.argv[1]))
with registry.only_retraining():
    for number in itertools.count():
        registry.register(Path(f"run{number}"), number, {}, "x" * 10000)
        print(number, flush=True)
"""
    folder = tmp_path / "registry"
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(20)]
    registry = PatchRegistry(folder)
    with pytest.raises(RegistryError, match="another retraining is at work"), registry.only_retraining():
        pass
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate(timeout=30)
    told += map(int, rest.split())
    events = registry.events()
    assert [event.snapshot for event in events] == list(range(len(events)))
    assert len(events) >= len(told), "what was said to be written is there"
    with registry.only_retraining():
        registry.register(tmp_path / "after", 0, {}, "trained")
    assert len(registry.events()) == len(events) + 1


def test_damage_is_named(tmp_path: Path) -> None:
    registry = registered(tmp_path, "a", "b")
    first = tmp_path / "registry" / EVENTS / "00000001.json"
    content = first.read_text()
    first.write_text(content[:40])
    with pytest.raises(RegistryError, match=r"00000001.json is no event .*restore it"):
        registry.states()
    first.write_text(json.dumps({**json.loads(content), "kind": "crown"}))
    with pytest.raises(RegistryError, match=r"00000001.json is no event"):
        registry.states()
    first.unlink()
    with pytest.raises(RegistryError, match=r"lacks an event before 00000002.json"):
        registry.states()


def test_commands_say_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    registry = registered(tmp_path, "a")
    cases = {
        ("ls", "--registry", tmp_path / "none"): "there is no registry",
        ("rollback", "--registry", registry.folder): "has no champion yet",
        ("rollback", "x", "--registry", registry.folder): "no patch x; name one of: a",
        ("promote", tmp_path / "a", "--reason", "mine", "--registry", registry.folder): "is no finished run",
    }
    for arguments, words in cases.items():
        result = invoke("patches", *arguments)
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        assert words in line
    listed = invoke("patches", "ls", "--registry", registry.folder).stdout
    assert "a: its patch is gone" in listed
