"""The command line: errors become words, documents and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeopt.cli.app import VERBS, app


def run(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeopt", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}
    )


def test_the_stored_help_is_what_click_would_say() -> None:
    from edgeopt.cli.help import HELP

    context = app.make_context("edgeopt", [], resilient_parsing=True, terminal_width=96)
    assert app.get_help(context) + "\n" == HELP


def test_help_names_every_verb() -> None:
    done = run("--help")
    assert done.returncode == 0 and done.stderr == ""
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)


def test_an_unknown_verb_is_exit_2_with_a_guess() -> None:
    done = run("deplyo")
    assert done.returncode == 2 and "Did you mean 'deploy'" in done.stderr and done.stdout == ""


def test_an_unknown_flag_is_exit_2_and_one_json_document() -> None:
    done = run("inspect", "x.tflite", "--tarjet", "cpu", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 2 and document["schema"] == "edgeopt.inspect/1"
    assert document["error"]["exit_code"] == 2 and "--target" in document["error"]["message"]


def test_a_missing_model_is_exit_2_and_says_which() -> None:
    done = run("inspect", "no/such/model.tflite")
    assert done.returncode == 2 and "no/such/model.tflite" in done.stderr


def test_an_unreadable_model_is_exit_3_in_words_and_in_json(tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"\0" * 100)
    words, document = run("inspect", str(path)), run("inspect", str(path), "--json")
    assert words.returncode == document.returncode == 3
    assert "error:" in words.stderr and words.stdout == ""
    assert json.loads(document.stdout)["error"]["kind"] == "model"


def test_an_unknown_key_in_edgeopt_toml_names_the_line_and_a_guess(tmp_path: Path) -> None:
    (tmp_path / "edgeopt.toml").write_text('device = "local"\ntaget = "cpu"\n')
    done = run("doctor", cwd=tmp_path)
    assert done.returncode == 2
    assert "edgeopt.toml:2" in done.stderr and "Did you mean target?" in done.stderr


def test_flags_beat_the_environment_and_the_environment_beats_edgeopt_toml(tmp_path: Path) -> None:
    from edgeopt.paths import demo_dir

    model = str(demo_dir() / "fashion.tflite")
    (tmp_path / "edgeopt.toml").write_text('target = "raspberry-pi-4"\n')

    def target(*flags: str, **environment: str) -> str:
        done = run("plan", model, "--json", *flags, cwd=tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["target"]["name"])

    assert target() == "raspberry-pi-4"
    assert target(EDGEOPT_TARGET="raspberry-pi-5") == "raspberry-pi-5"
    assert target("--target", "cpu", EDGEOPT_TARGET="raspberry-pi-5") == "cpu"


def test_a_device_brings_its_own_target(tmp_path: Path) -> None:
    from edgeopt.paths import demo_dir

    (tmp_path / "devices.toml").write_text(
        'schema = 1\n[devices.desk]\nurl = "ssh://pi@10.0.0.5"\ntarget = "raspberry-pi-5"\n'
    )
    words = [
        "deploy",
        str(demo_dir() / "fashion.tflite"),
        "--device",
        "desk",
        "--dry-run",
        "--json",
    ]
    named = run(*words, cwd=tmp_path)
    assert json.loads(named.stdout)["target"]["name"] == "raspberry-pi-5"
    asked = run(*words, "--target", "raspberry-pi-4", cwd=tmp_path)
    assert json.loads(asked.stdout)["target"]["name"] == "raspberry-pi-4"


def test_a_name_with_terminal_codes_reaches_the_terminal_defused(tmp_path: Path) -> None:
    done = run("inspect", "\x1b[31mred.tflite")
    assert "\x1b[31mred" not in done.stderr


def test_no_color_is_honoured() -> None:
    done = run("inspect", "nothing.tflite", NO_COLOR="1", FORCE_COLOR="")
    assert "\x1b[" not in done.stderr


def test_closing_the_pipe_early_is_not_an_error_message() -> None:
    command = f"{sys.executable} -m edgeopt targets show edgetpu | head -c 10 > /dev/null"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "bug" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_its_own_code(tmp_path: Path, number: int, code: int) -> None:
    (tmp_path / "slow_data.py").write_text(
        "import time\ndef samples():\n    open('began', 'w').close()\n"
        "    time.sleep(60)\n    yield 1\n"
    )
    from edgeopt.paths import demo_dir

    command = [
        sys.executable, "-m", "edgeopt", "deploy", str(demo_dir() / "fashion.tflite"),
        "--scheme", "int8", "--calibration", "slow_data:samples", "--json",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "began").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=20)
    assert process.returncode == code
    assert json.loads(stdout)["error"]["exit_code"] == code
    assert not list(tmp_path.glob("edgeopt-out/**/*.tflite"))
