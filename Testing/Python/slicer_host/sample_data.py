"""The module SampleData, as far as others register their samples in it."""

from __future__ import annotations

import sys
import types


class Samples:
    """`registered` maps the name of a sample to what it was registered with."""

    def __init__(self) -> None:
        self.registered: dict[str, dict[str, object]] = {}


def publish(samples: Samples) -> None:
    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(category="Custom", sampleName=None, **more) -> None:
            samples.registered[sampleName] = {"category": category, **more}

    module = types.ModuleType("SampleData", __doc__)
    module.SampleDataLogic = SampleDataLogic
    sys.modules["SampleData"] = module
