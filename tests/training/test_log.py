"""The log of a training: how long it took."""

import pytest

from minidalle.training.log import append_record, mean_speed, minutes
from minidalle.training.trainer import Record


def record(step, speed):
    return Record(step, 100, {"total": 1.0}, 1e-3, 1.0, speed)


def test_minutes_count_slow_steps_that_are_not_logged(tmp_path):
    """Catches one step that speaks for twenty: every sixteenth of a GAN takes longer."""
    log, batch_size = tmp_path / "gan.jsonl", 8
    speeds = [2.0 if step % 16 == 0 else 16.0 for step in range(1, 81)]
    for logged in mean_speed(record(i, speed) for i, speed in enumerate(speeds, 1)):
        if logged.step % 20 == 0 or logged.step == 33:  # 33: a look at the validation loss
            append_record(log, logged)
    seconds = sum(batch_size / speed for speed in speeds)
    assert minutes(log, batch_size) == pytest.approx(seconds / 60)


def test_minutes_of_a_damaged_log_and_of_none(tmp_path):
    log = tmp_path / "prior.jsonl"
    assert minutes(log, 8) == 0
    append_record(log, record(20, 4.0))
    log.write_text(log.read_text() + '{"step": 40, "ima\n[]\n')
    append_record(log, record(40, 4.0))
    assert minutes(log, 6) == pytest.approx(2 * 20 * 6 / 4 / 60)


def test_the_speed_starts_anew_with_each_line():
    speeds = [r.images_per_second for r in mean_speed(record(i, i) for i in range(18, 23))]
    assert speeds[0] == 18 and speeds[2] == pytest.approx(3 / (1 / 18 + 1 / 19 + 1 / 20))
    assert speeds[3:] == pytest.approx([21, 2 / (1 / 21 + 1 / 22)])
