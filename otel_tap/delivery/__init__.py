"""The last stage: encoded chunks leave for a collector or a file, or are counted as lost.

`Delivery` and `OtlpJsonFile` are the two sinks, both a `Courier` with senders of their own. A
sender makes one attempt and says what came of it (`outcome`); the courier decides what follows.
"""

from otel_tap.delivery.delivery import Delivery
from otel_tap.delivery.file_sink import OtlpJsonFile
from otel_tap.delivery.otlp_settings import ExporterSettings, OtlpProtocol, OtlpSettings
from otel_tap.delivery.outbox import SignalCounters

__all__ = [
    "Delivery",
    "ExporterSettings",
    "OtlpJsonFile",
    "OtlpProtocol",
    "OtlpSettings",
    "SignalCounters",
]
