"""What the latency model said beside what was measured, in one line."""

from pruneaug_cli.report.units import number, ratio, show


def prediction_note(predicted_s: object, measured_s: object) -> str:
    """Prediction, measurement, and by how much the first is wrong; empty without both.

    Example:
        >>> prediction_note(0.00121, 0.0011)
        'Latency model: predicted 1.210 ms, measured 1.100 ms, error +10.0%.'
    """
    share = ratio(predicted_s, measured_s)
    if share is None:
        return ""
    predicted, measured = (show("ms", number(value)) for value in (predicted_s, measured_s))
    error = show("more_percent", share - 1.0)
    return f"Latency model: predicted {predicted} ms, measured {measured} ms, error {error}."
