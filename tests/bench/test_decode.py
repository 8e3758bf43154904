"""The decoding benchmark measures ours and its peers on the same bytes, and records what it measured."""

import pytest

from bench import decode
from bench.__main__ import table_of


@pytest.mark.parametrize("made", [True, False])
def test_ours_and_pyrtcm_are_measured_and_recorded(made, monkeypatch, tmp_path, shared_data):
    recording = tmp_path / "missing" if made else shared_data / "rtcm3-captures" / "javad.rtcm"
    monkeypatch.setattr(decode, "RESULTS", tmp_path)
    monkeypatch.setattr(decode, "RUN_S_MIN", 0.0)
    monkeypatch.setattr(decode, "PYRTCM_MESSAGES_MAX", 20)
    monkeypatch.setattr(decode, "_rtklib_ex", lambda *_: {})
    notes = []
    rows = decode.run({"recording": recording}, repeat=1, note=notes.append)
    assert [row.decoder for row in rows][:4] == [
        "ours, recording to arrays", "ours, MSM a frame at a time", "ours, every message", "pyrtcm",
    ]  # fmt: skip
    assert rows[0].messages == rows[1].messages > 100
    assert all(row.messages_per_s > 0 for row in rows)
    assert rows[3].times_slower > 5
    assert "| pyrtcm |" in (tmp_path / "decode.md").read_text()
    assert table_of("decode", rows).row_count == len(rows)
