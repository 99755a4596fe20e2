"""Commands that are interrupted: all files or none, and what they say of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import SimpleITK as sitk

from LiverTumorSegLib.__main__ import main
from test_cli import FILES


@pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")
@pytest.mark.parametrize("delay", [0.3, 0.8, 1.3, 1.8])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_all_files_or_none(number, delay, ellipsoid_scan, tmp_path, tiny_bundle):
    scan_file = tmp_path / "scan.nii.gz"
    sitk.WriteImage(ellipsoid_scan(noise_hu=10)[0], str(scan_file))
    command = [sys.executable, "-m", "LiverTumorSegLib", "segment", str(scan_file), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--bundle", str(tiny_bundle), "--no-html"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    time.sleep(delay)
    process.send_signal(number)
    process.communicate(timeout=60)
    left = {path.name for path in (tmp_path / "out").iterdir()} if (tmp_path / "out").exists() else set()
    assert left in (set(), FILES)
    assert process.returncode in (0, 130, -number)


def test_scans_that_were_drawn_before_an_interrupt_stay_and_are_told(tmp_path, monkeypatch, capsys):
    from LiverTumorSegLib.training.synthesis import cases

    draw, drawn = cases.write_case, []

    def drawn_once(folder, name, *arguments, **options):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(name)
        return draw(folder, name, *arguments, **options)

    monkeypatch.setattr(cases, "write_case", drawn_once)
    assert main(["synthesise", "-o", str(tmp_path), "--count", "3", "--spacing", "5"]) == 130
    assert {path.name for path in tmp_path.iterdir()} == {"case_0000.nii.gz", "case_0000_labels.nii.gz"}
    told = capsys.readouterr().err
    assert "interrupted; the scans that are finished stay" in told
    assert "nothing was written" not in told


def test_an_interrupted_process_tells_of_its_end_and_then_leaves_the_interpreter_as_it_is():
    code = (
        "import atexit, os, sys; import LiverTumorSegLib.__main__ as command\n"
        "class Crash:\n"
        "    def __del__(self, leave=os._exit): leave(139)\n"
        "sys.crash = Crash()\n"
        "def main():\n"
        "    atexit.register(print, 'told')\n"
        "    return int(sys.argv[1])\n"
        "command.main = main; command.run()\n"
    )
    done = {
        number: subprocess.run([sys.executable, "-c", code, str(number)], capture_output=True, text=True)
        for number in (0, 130)
    }
    assert [each.stdout for each in done.values()] == ["told\n", "told\n"]
    assert [each.returncode for each in done.values()] == [139, 130]
