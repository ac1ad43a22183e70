"""How stored values are shown: one test per line of the table in `medblip.data.dicom.pixels`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medblip.data.dicom.parent import render
from medblip.data.dicom.windows import WINDOWS, check_window
from medblip.errors import DataError, DicomError

Make = Callable[..., Path]
RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}


def shown(path: Path, window: str = "auto") -> Any:
    return np.asarray(render(path, window)).astype(int)


def item(**attributes: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def test_eight_bits_without_a_window_stay_as_they_are(make: Make) -> None:
    values = np.array([[10, 20], [30, 200]], np.uint8)
    assert (shown(make(values)) == values).all()
    assert (shown(make(values, RescaleSlope=1, RescaleIntercept=0)) == values).all()


@pytest.mark.parametrize("values", [RAMP, RAMP.astype(np.int16) - 1000, RAMP[:8].astype(np.int8)])
def test_other_values_without_a_window_are_stretched(make: Make, values: Any) -> None:
    picture, wide = shown(make(values)), values.astype(float)
    expected = np.floor((wide - wide.min()) / (wide.max() - wide.min()) * 255 + 0.5)
    assert (picture == expected).all()


def test_an_image_of_one_value_is_black(make: Make) -> None:
    assert (shown(make(np.full((3, 3), 700, np.uint16))) == 0).all()


def test_the_first_window_of_several_is_used(make: Make) -> None:
    one = make(RAMP, name="one.dcm", WindowCenter=1000, WindowWidth=400)
    two = make(RAMP, name="two.dcm", WindowCenter=[1000, 50], WindowWidth=[400, 100])
    assert (shown(one) == shown(two)).all()
    assert len(np.unique(shown(one))) > 10


def test_window_functions_differ_as_the_standard_says(make: Make) -> None:
    """PS3.3 C.11.2.1.2.1: LINEAR with centre 2048 and width 4096 maps 0 to black, 4095 to white."""
    values = np.array([[0, 2048], [4095, 4095]], np.uint16)
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    linear = shown(make(values, **window))
    assert linear.tolist() == [[0, 128], [255, 255]]
    exact = shown(make(values, VOILUTFunction="LINEAR_EXACT", **window))
    assert exact.tolist() == [[0, 128], [255, 255]]
    sigmoid = shown(make(values, VOILUTFunction="SIGMOID", **window))
    assert sigmoid.tolist() == [[30, 128], [225, 225]]  # 255 / (1 + e^2), and its mirror
    threshold = shown(make(values, WindowCenter=2048, WindowWidth=1))
    assert threshold.tolist() == [[0, 255], [255, 255]]
    edge = shown(make(values, WindowCenter=2048.5, WindowWidth=1))
    assert edge.tolist() == [[0, 0], [255, 255]]


def lut(first: int, bits: int, entries: list[int], kind: str) -> Dataset:
    """Return a table; its data are words (OW), bytes in words (OW), or numbers (US)."""
    ds = Dataset()
    ds.add_new(0x00283002, "SS" if first < 0 else "US", [len(entries), first, bits])
    packed = np.array(entries, kind if kind != "US" else "<u2").tobytes()
    ds.add_new(0x00283006, *(("US", entries) if kind == "US" else ("OW", packed)))
    ds.ModalityLUTType = "US"
    return ds


@pytest.mark.parametrize("kind", ["<u2", "u1", "US"])
def test_a_voi_table_goes_before_a_window(make: Make, kind: str) -> None:
    table = lut(10, 8, [5, 6, 7, 200], kind)
    values = np.array([[0, 10], [12, 99]], np.uint8)
    path = make(values, VOILUTSequence=[table], WindowCenter=10, WindowWidth=2)
    assert shown(path).tolist() == [[5, 5], [7, 200]]


def test_a_voi_table_of_twelve_bits_that_says_ten(make: Make) -> None:
    """Its entries would be white above 1023; they tell how many bits there are."""
    values = np.array([[0, 1], [2, 3]], np.uint8)
    path = make(values, VOILUTSequence=[lut(0, 10, [0, 1000, 2000, 4000], "US")])
    assert shown(path).tolist() == [[0, 64], [128, 255]]


def test_a_modality_table_is_applied_before_the_window(make: Make) -> None:
    table = lut(0, 16, [0, 1000, 2000, 3000], "<u2")
    values = np.array([[0, 1], [2, 3]], np.uint16)
    path = make(values, ModalityLUTSequence=[table], WindowCenter=1500.5, WindowWidth=3001)
    assert shown(path).tolist() == [[0, 85], [170, 255]]


def test_padding_is_black_and_does_not_spoil_the_stretch(make: Make) -> None:
    values = np.array([[-2000, 0], [100, 200]], np.int16)
    plain = shown(make(values, name="plain.dcm"))
    assert plain.tolist() == [[0, 232], [243, 255]]
    for padding in (-2000, 63536):  # 63536 is what writers make of -2000 who forget the sign
        path = make(values)
        rewrite_padding(path, padding)
        assert shown(path).tolist() == [[0, 0], [128, 255]]
    limited = make(values, name="range.dcm")
    rewrite_padding(limited, -2000, 0)
    assert shown(limited).tolist() == [[0, 0], [0, 255]]


def rewrite_padding(path: Path, first: int, last: int | None = None) -> None:
    """Set (0028,0120), and (0028,0121), with the VR that holds them."""
    from pydicom import dcmread

    ds = dcmread(path)
    ds.add_new(0x00280120, "SS" if first < 0 else "US", first)
    if last is not None:
        ds.add_new(0x00280121, "SS", last)
    ds.save_as(path)


def test_padding_of_an_inverted_image_is_black_too(make: Make) -> None:
    values = np.array([[0, 1000], [2000, 4000]], np.uint16)
    inverted = make(values, PhotometricInterpretation="MONOCHROME1")
    rewrite_padding(inverted, 0)
    assert shown(inverted).tolist() == [[0, 255], [170, 0]]


@pytest.mark.parametrize("extra", [{}, {"WindowCenter": 1500, "WindowWidth": 900}])
def test_monochrome1_is_its_twin_inverted_once(make: Make, extra: dict[str, Any]) -> None:
    twin = shown(make(RAMP, name="twin.dcm", **extra))
    for more in ({}, {"PresentationLUTShape": "INVERSE"}):
        path = make(RAMP, PhotometricInterpretation="MONOCHROME1", **extra, **more)
        assert (shown(path) == 255 - twin).all()


@pytest.mark.parametrize(
    ("photometric", "shape"), [("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")]
)
def test_a_contradiction_about_polarity_is_refused(
    make: Make, photometric: str, shape: str
) -> None:
    path = make(RAMP, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    with pytest.raises(DicomError, match="contradict each other"):
        render(path)


@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_a_ct_window_by_name_is_in_hounsfield_units(make: Make, name: str) -> None:
    centre, width = WINDOWS[name]
    edges = np.array([centre - width, centre - 0.5 - (width - 1) / 2, centre + width])
    values = np.round(edges + 9000).astype(np.uint16).reshape(1, 3)
    path = make(values, **{**CT, "RescaleIntercept": -9000})
    assert shown(path, name).tolist()[0] == [0, pytest.approx(0, abs=2), 255]


def test_a_ct_window_by_name_replaces_that_of_the_file(make: Make) -> None:
    path = make(RAMP, **CT, WindowCenter=40, WindowWidth=80)
    assert (shown(path, "lung") != shown(path)).any()
    assert (shown(path, "brain") == shown(path)).all()


@pytest.mark.parametrize(
    "no_hounsfield",
    [
        {"Modality": "MR", "RescaleSlope": 1, "RescaleIntercept": -1024},
        {"Modality": "CT"},
        {**CT, "RescaleType": "US"},
    ],
)
def test_a_ct_window_does_not_touch_other_values(make: Make, no_hounsfield: dict[str, Any]) -> None:
    path = make(RAMP, **no_hounsfield, WindowCenter=40, WindowWidth=800)
    assert (shown(path, "lung") == shown(path)).all()


def test_an_unknown_window_is_named() -> None:
    with pytest.raises(DataError, match="use lung"):
        check_window("lungs")


def test_the_middle_frame_stands_for_all(make: Make) -> None:
    for count in (1, 2, 5):
        frames = np.stack([np.full((3, 4), 40 * i, np.uint8) for i in range(count)])
        assert (shown(make(frames)) == 40 * (count // 2)).all()


def test_functional_groups_hold_for_the_frame_that_is_shown(make: Make) -> None:
    """PS3.3 C.7.6.16.2.9 and .10: shared, or one per frame."""
    frames = np.stack([RAMP] * 3)

    def group(centre: float) -> Dataset:
        return item(FrameVOILUTSequence=[item(WindowCenter=centre, WindowWidth=500)])

    scale = item(RescaleSlope=2, RescaleIntercept=-100, RescaleType="US")
    path = make(
        frames,
        SharedFunctionalGroupsSequence=[item(PixelValueTransformationSequence=[scale])],
        PerFrameFunctionalGroupsSequence=[group(100), group(2000), group(5000)],
    )
    plain = make(
        RAMP, name="plain.dcm", RescaleSlope=2, RescaleIntercept=-100, WindowCenter=2000,
        WindowWidth=500,
    )  # fmt: skip
    assert (shown(path) == shown(plain)).all()


def test_stored_bits_above_the_top_one_are_not_looked_at(make: Make) -> None:
    """PS3.5 8.1.1: old files keep overlays there."""
    clean = make(RAMP, name="clean.dcm", BitsStored=12)
    dirty = make(RAMP | 0xF000, BitsStored=12)
    assert (shown(clean) == shown(dirty)).all()


def test_signed_values_of_fewer_bits_keep_their_sign(make: Make) -> None:
    values = np.array([[-2048, -1], [0, 2047]], np.int16)
    path = make(values & 0x0FFF, BitsStored=12)
    assert shown(path).tolist() == [[0, 127], [128, 255]]


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", None])
def test_colour_by_pixel_and_by_plane_of_odd_size(
    make: Make, planar: int, syntax: str | None
) -> None:
    colours = np.arange(27, dtype=np.uint8).reshape(3, 3, 3) * 9
    stored = colours if planar == 0 else colours.transpose(2, 0, 1)
    path = make(colours, syntax=syntax, data=stored.tobytes(), PlanarConfiguration=planar)
    assert (shown(path) == colours).all()


def test_colour_of_more_bits_comes_down_to_eight(make: Make) -> None:
    colours = np.array([[[0, 257, 65535], [32896, 128, 129]]], np.uint16)
    assert shown(make(colours)).tolist() == [[[0, 1, 255], [128, 0, 1]]]
    ten = np.array([[[0, 1023, 512]]], np.uint16)
    assert shown(make(ten, BitsStored=10)).tolist() == [[[0, 255, 128]]]


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(make: Make, first: int, bits: int) -> None:
    red = np.array([10, 20, 30, 40])
    kind = "u1" if bits == 8 else "<u2"
    high = red if bits == 8 else red * 256 + 255
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, entries in (("Red", high), ("Green", high[::-1]), ("Blue", high * 0)):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [4, first, bits]
        palette[f"{colour}PaletteColorLookupTableData"] = entries.astype(kind).tobytes()
    path = make(np.array([[0, first, first + 2, 255]], np.uint8), **palette)
    # below the first value: the first entry; above the last: the last
    assert shown(path)[0].tolist() == [[red[i], red[::-1][i], 0] for i in (0, 0, 2, 3)]


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    slope=st.floats(-100, 100), intercept=st.floats(-5000, 5000), centre=st.floats(-3000, 3000),
    width=st.floats(1, 5000), function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)  # fmt: skip
def test_any_window_is_monotonous(
    make: Make, slope: float, intercept: float, centre: float, width: float, function: str
) -> None:
    path = make(
        RAMP, RescaleSlope=f"{slope:.8g}", RescaleIntercept=f"{intercept:.8g}",
        WindowCenter=f"{centre:.8g}", WindowWidth=f"{width:.8g}", VOILUTFunction=function,
    )  # fmt: skip
    steps = np.diff(shown(path).ravel())
    assert (steps >= 0).all() if slope >= 0 else (steps <= 0).all()
