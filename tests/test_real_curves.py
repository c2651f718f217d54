import json
import lzma

import numpy as np
import pytest

from benchmarks import real_curves


@pytest.fixture
def folder(tmp_path):
    """A curve with a spike that lasts at 500, and one with heavy batches that are alone."""
    noise = np.random.default_rng(0).normal(3.0, 0.02, 1000)
    lasting, lone = noise.copy(), noise.copy()
    lasting[500:510] += 2.0
    lone[300::7] += 2.0
    for name, losses, opened in (("up", lasting, open), ("heavy", lone, lzma.open)):
        file = tmp_path / f"{name}.csv{'.xz' * (opened is lzma.open)}"
        with opened(file, "wt") as lines:
            lines.write("step,loss\n" + "".join(f"{at},{x}\n" for at, x in enumerate(losses)))
    return tmp_path


@pytest.mark.parametrize(
    ("spikes", "per_100k", "missed", "status"),
    [
        ({"up": [[500, 509]]}, 0.0, 0, 0),
        ({"up": [[480, 499]]}, 50.0, 1, 1),  # one false alarm in 2,000 steps
        ({"up": [[500, 509], [700, 710]]}, 0.0, 1, 1),
        ({}, 50.0, 0, 1),
    ],
)
def test_false_alarms_and_known_spikes_are_counted(
    folder, capsys, spikes, per_100k, missed, status
):
    known = folder / "known.json"
    known.write_text(json.dumps(spikes))
    assert real_curves.main([str(folder), "--spikes", str(known)]) == status
    out = capsys.readouterr().out
    bars = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [bar["value"] for bar in bars] == [per_100k, missed]
    assert "up: big at step 502, from 500" in out and "heavy: 1,000 steps, 0 triggers" in out


def test_a_folder_without_curves_holds_no_bar(tmp_path):
    assert real_curves.main([str(tmp_path)]) == 1


def test_the_known_spikes_are_stretches_of_steps():
    known = json.loads(real_curves.KNOWN.read_text())
    assert all(first < last for spikes in known.values() for first, last in spikes)
