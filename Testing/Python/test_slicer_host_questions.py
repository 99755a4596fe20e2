"""The host notes what a module tells and asks the user, and what it asks to install, and answers as a test wants."""

from __future__ import annotations

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer


def test_messages_are_noted_and_questions_answered_in_turn(slicer_app):
    slicer.util.errorDisplay("It failed.", windowTitle="Title", detailedText="why")
    slicer.util.infoDisplay("It worked.")
    assert [(each.level, each.text, each.details) for each in slicer_app.messages.shown] == [
        ("error", "It failed.", "why"),
        ("info", "It worked.", None),
    ]
    slicer_app.messages.answers[:] = [True, False]
    assert slicer.util.confirmYesNoDisplay("Overwrite?") is True
    assert slicer.util.confirmOkCancelDisplay("Install?") is False
    with pytest.raises(AssertionError, match="Retry"):
        slicer.util.confirmRetryCloseDisplay("Retry?")
    assert slicer_app.messages.texts[2:] == ["Overwrite?", "Install?", "Retry?"]


def test_a_message_box_gives_the_button_that_was_pressed(slicer_app):
    import qt

    box = qt.QMessageBox
    slicer_app.messages.answers[:] = [True, False, True, False]
    pressed = [
        slicer.util.messageBox("?", standardButtons=box.Yes | box.No),
        slicer.util.messageBox("?", standardButtons=box.Yes | box.No),
        slicer.util.messageBox("?", standardButtons=box.Ok | box.Cancel),
        slicer.util.messageBox("?", standardButtons=box.Yes | box.Cancel),
        slicer.util.messageBox("!"),
    ]
    assert pressed == [box.Yes, box.No, box.Ok, box.Cancel, box.Ok]


def test_an_error_is_shown_and_goes_on(slicer_app):
    with pytest.raises(ValueError, match="of the scan"), slicer.util.tryWithErrorDisplay("Not segmented."):
        raise ValueError("of the scan")
    assert slicer_app.messages.texts == ["Not segmented.\n\nof the scan"]
    slicer_app.testing = True
    with pytest.raises(ValueError, match="of the scan"), slicer.util.tryWithErrorDisplay("Not segmented."):
        raise ValueError("of the scan")
    assert len(slicer_app.messages.shown) == 1


def test_the_wait_cursor_is_taken_away_again(slicer_app):
    import qt

    with slicer.util.WaitCursor():
        assert qt.QApplication.overrideCursor() is not None
    assert qt.QApplication.overrideCursor() is None


def test_there_is_no_main_window(slicer_app):
    assert slicer.util.mainWindow() is None
    assert slicer.util.showStatusMessage("nothing to show it on") is False


def test_packages_are_asked_for_and_noted(slicer_app, tmp_path):
    from slicer.packaging import load_requirements, pip_check, pip_ensure

    (tmp_path / "requirements.txt").write_text("# ours\n-r more.txt\n\nnumpy>=1.20\nmonai>=1.4\n", encoding="utf-8")
    wanted = load_requirements(tmp_path / "requirements.txt")
    assert [str(each) for each in wanted] == ["numpy>=1.20", "monai>=1.4"]
    assert pip_check("numpy>=1.20")
    assert not pip_check("numpy>=999")
    assert not pip_check("no-such-package")
    assert pip_check("no-such-package; sys_platform == 'none'")
    slicer_app.packages.missing.add("numpy")
    pip_ensure(wanted[:1], requester="Probe")
    pip_ensure(wanted[:1], requester="Probe")
    assert slicer_app.packages.asked == [("Probe", ("numpy>=1.20",))]


def test_installing_can_be_declined_or_fail(slicer_app):
    slicer_app.packages.missing.add("numpy")
    slicer_app.packages.declined = True
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure("numpy")
    slicer_app.packages.declined, slicer_app.packages.failure = False, OSError("no network")
    with pytest.raises(OSError, match="no network"):
        slicer.util.pip_install("numpy scipy")
    assert slicer_app.packages.asked == [("", ("numpy",)), ("", ("numpy", "scipy"))]


def test_in_testing_mode_nothing_is_installed_as_in_slicer(slicer_app):
    slicer_app.testing = True
    slicer_app.packages.missing.add("numpy")
    slicer.packaging.pip_ensure("numpy")
    assert slicer_app.packages.asked == []


def test_pytorch_is_installed_by_its_extension(slicer_app):
    import PyTorchUtils

    logic = PyTorchUtils.PyTorchUtilsLogic()
    assert logic.torchInstalled()
    slicer_app.packages.torch, slicer_app.packages.declined = False, True
    assert logic.installTorch(askConfirmation=True) is None
    assert not logic.torchInstalled()
    slicer_app.packages.declined = False
    assert logic.installTorch(askConfirmation=True, torchVersionRequirement=">=2.4") is not None
    assert logic.torchInstalled()
    assert slicer_app.packages.asked == [("PyTorchUtils", ("torch",)), ("PyTorchUtils", ("torch>=2.4",))]


def test_sample_data_is_noted(slicer_app):
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(category="Liver", sampleName="Abdomen", uris="file:x")
    assert slicer_app.samples.registered == {"Abdomen": {"category": "Liver", "uris": "file:x"}}


def test_texts_stay_as_they_are_written(slicer_app):
    from slicer.i18n import tr, translate

    assert (tr("Apply"), translate("Probe", "Cancel")) == ("Apply", "Cancel")
