"""The last stage: encoded chunks leave for a collector or a file, or are counted as lost."""

from otel_tap.delivery.otlp_settings import ExporterSettings, OtlpProtocol, OtlpSettings

__all__ = ["ExporterSettings", "OtlpProtocol", "OtlpSettings"]
