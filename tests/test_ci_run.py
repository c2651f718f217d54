"""The script that every change must pass, as far as it can be run here."""

import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci/run"


def fake_python(path: Path, version: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("on_path", "pyenv", "taken"),
    [
        (["3.12"], ["3.13.1", "3.11.7"], "versions/3.13.1/bin/python"),  # the newest, wherever
        (["3.13", "3.12"], ["3.13.1"], "python3.13"),
        ([], ["3.12.4"], "versions/3.12.4/bin/python"),
        ([], ["3.11.2"], ""),  # the same as the first
        (["3.14"], [], ""),
    ],
)
def test_the_second_python_is_the_newest_other_one(tmp_path, on_path, pyenv, taken):
    fake_python(tmp_path / "python3", "3.11")
    for version in on_path:
        fake_python(tmp_path / f"python{version}", version)
    for version in pyenv:
        fake_python(tmp_path / f"versions/{version}/bin/python", ".".join(version.split(".")[:2]))
    (tmp_path / "pyenv").write_text(f"#!/bin/sh\necho {tmp_path}\n")
    (tmp_path / "pyenv").chmod(0o755)
    [choice] = re.findall(r"^beside=\n.*?^done\n", SCRIPT.read_text(), re.DOTALL | re.MULTILINE)
    script = f"set -euo pipefail\nfolder=.\non_other_python() {{ echo $2; }}\n{choice}wait"
    subprocess.run(
        ["/bin/bash", "-c", script], cwd=tmp_path, env={"PATH": str(tmp_path)}, check=True
    )
    log = tmp_path / "log"
    found = log.read_text().strip() if log.exists() else ""
    assert found.removeprefix(f"{tmp_path}/") == taken
