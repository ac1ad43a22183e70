"""Energy: read from the board's counter where there is one, and nothing guessed where not."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from medblip.power import energy_j


def counter(monkeypatch: pytest.MonkeyPatch, millijoules: float) -> list[str]:
    """Stand in for NVML and one CUDA device; returns the boards that were asked for."""
    asked: list[str] = []

    def handle(uuid: str) -> str:
        asked.append(uuid)
        return "board"

    nvml = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetTotalEnergyConsumption=lambda board: millijoules,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda number: types.SimpleNamespace(uuid=f"u{number}")
    )
    return asked


def test_a_cpu_has_no_counter() -> None:
    assert energy_j("cpu") is None


def test_joules_of_the_board_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counter(monkeypatch, 7_250_000)
    assert energy_j("cuda:1") == 7250.0
    assert energy_j("cuda") == 7250.0
    assert asked == ["GPU-u1", "GPU-u0"]


def test_no_package_or_no_permission_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_j("cuda") is None
    counter(monkeypatch, 1.0)

    def refused(board: str) -> float:
        raise RuntimeError("Not Supported")

    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetTotalEnergyConsumption", refused)
    assert energy_j("cuda") is None
