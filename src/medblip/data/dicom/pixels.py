"""Stored values to an 8-bit picture: the grey scale pipeline of PS3.3 and PS3.4 N.2. Child only.

Grey: modality transform, then window (VOI), then one inversion for MONOCHROME1. A value is shown
the same wherever it stands, so the pipeline runs once over all values that 8 or 16 bits can hold
and the picture is looked up: fast, and no float image in memory.

| of the file | as it is shown |
| --- | --- |
| a CT window asked for by name | used where the values are Hounsfield units, else the next rule |
| VOI LUT | the first one |
| window centre and width | the first pair; LINEAR, LINEAR_EXACT, SIGMOID |
| neither, 8 unsigned bits, no modality transform | as it is: these are display values already |
| neither, all else | minimum..maximum of the frame, without padding, to 0..255 |
| pixel padding value or range | black, and left out of minimum..maximum |
| RGB of more than 8 bits | its full range to 0..255 |

Overlays are not burnt in, ICC profiles are not applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medblip.data.dicom.parse import Layout, number
from medblip.data.dicom.reasons import Reason, Refused
from medblip.data.dicom.windows import AUTO, WINDOWS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

__all__ = ["render"]

#: Rows at once: numpy indexes with 8 bytes per pixel, which a whole mammogram would not fit.
_STRIP = 128


def render(
    ds: FileDataset, layout: Layout, values: Any, photometric: str, frame: int, window: str = AUTO
) -> NDArray[np.uint8]:
    """Return the picture, (rows, columns) or (rows, columns, 3).

    Args:
        ds: Header.
        layout: Of the pixels as written.
        values: Stored values of one frame.
        photometric: Of these values; a decoder may have changed it.
        frame: Its number, for functional groups.
        window: `auto` or a name of `WINDOWS`.

    Raises:
        Refused: A transform is invalid or not supported.
    """
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if photometric == "PALETTE COLOR":
        return _look_up(_palette(ds, values.dtype), values)
    if layout.samples == 3:
        return _colour(values, photometric, layout.bits_stored)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Refused(Reason.PHOTOMETRIC)
    stored = _all_values(values.dtype)
    padding = _padding(ds, stored)
    groups = _groups(ds, frame)
    with np.errstate(all="ignore"):
        real, changed = _modality(ds, groups, stored)
        if not np.isfinite(real).all():
            raise Refused(Reason.NOT_NUMBERS)
        shown = _window(ds, groups, real, window)
        if shown is None:
            if not changed and layout.bits_stored == 8 and not layout.signed:
                shown = stored / 255
            else:
                shown = _stretch(real, _used(values) & ~padding)
        if not np.isfinite(shown).all():
            raise Refused(Reason.NOT_NUMBERS)
    table = np.floor(np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)
    if _inverted(ds, photometric):
        table = 255 - table
    table[padding] = 0
    return _look_up(table, values)


def _all_values(dtype: np.dtype[Any]) -> NDArray[np.int64]:
    """Return every value of a type, in the order of its bit patterns."""
    patterns = np.arange(2 ** (8 * dtype.itemsize)).astype(f"u{dtype.itemsize}")
    return patterns.view(dtype).astype(np.int64)


def _strips(values: Any) -> Iterator[tuple[slice, Any]]:
    for top in range(0, len(values), _STRIP):
        rows = slice(top, top + _STRIP)
        yield rows, values[rows]


def _look_up(table: NDArray[np.uint8], values: Any) -> NDArray[np.uint8]:
    picture = np.empty(values.shape + table.shape[1:], np.uint8)
    for rows, strip in _strips(values.view(f"u{values.dtype.itemsize}")):
        picture[rows] = table[strip]
    return picture


def _used(values: Any) -> NDArray[np.bool_]:
    """Return which bit patterns occur."""
    used = np.zeros(2 ** (8 * values.dtype.itemsize), np.bool_)
    for _, strip in _strips(values.view(f"u{values.dtype.itemsize}")):
        used[strip] = True
    return used


def _padding(ds: Dataset, stored: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which stored values are padding: (0028,0120) or up to (0028,0121), C.7.5.1.1.2."""
    if ds.get("PixelPaddingValue") in (None, ""):
        return np.zeros(stored.shape, np.bool_)
    first = number(ds, "PixelPaddingValue")
    last = number(ds, "PixelPaddingRangeLimit", first)
    low, high = int(stored.min()), int(stored.max())
    # its sign follows Pixel Representation, which some writers forget: -2000 as 63536
    first, last = ((bound - low) % (high - low + 1) + low for bound in (first, last))
    return (stored >= min(first, last)) & (stored <= max(first, last))


def _groups(ds: Dataset, frame: int) -> list[Dataset]:
    """Return where a transform may be, most particular first: C.7.6.16.2.9 and .10."""
    found: list[Dataset] = []
    per_frame = ds.get("PerFrameFunctionalGroupsSequence") or []
    shared = ds.get("SharedFunctionalGroupsSequence") or []
    for group in (*per_frame[frame : frame + 1], *shared[:1]):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            found += (group.get(name) or [])[:1]
    return [*found, ds]


def _holder(groups: list[Dataset], *keywords: str) -> Dataset | None:
    """Return the first dataset in which all these attributes have a value."""
    for group in groups:
        if all(group.get(keyword) not in (None, "", []) for keyword in keywords):
            return group
    return None


def _float(group: Dataset, keyword: str, reason: Reason) -> float:
    """Return the first value of a decimal attribute."""
    try:
        value = group[keyword].value
        return float(value if isinstance(value, str | float | int) else value[0])
    except (TypeError, ValueError, IndexError):
        raise Refused(reason) from None


def _modality(
    ds: Dataset, groups: list[Dataset], stored: NDArray[np.int64]
) -> tuple[NDArray[np.float64], bool]:
    """Return what the stored values mean, and whether that is anything else: PS3.3 C.11.1."""
    lut = _holder(groups, "ModalityLUTSequence")
    if lut is not None:
        item = lut.ModalityLUTSequence[0]
        entries, first, _ = _lut(ds, item, "LUTDescriptor", "LUTData", Reason.MODALITY)
        return entries[np.clip(stored - first, 0, len(entries) - 1)].astype(np.float64), True
    rescale = _holder(groups, "RescaleSlope", "RescaleIntercept")
    if rescale is None:
        return stored.astype(np.float64), False
    slope = _float(rescale, "RescaleSlope", Reason.MODALITY)
    intercept = _float(rescale, "RescaleIntercept", Reason.MODALITY)
    real = np.asarray(stored * slope + intercept, np.float64)
    return real, (slope, intercept) != (1, 0)


def _window(
    ds: Dataset, groups: list[Dataset], real: NDArray[np.float64], window: str
) -> NDArray[np.float64] | None:
    """Return 0..1 per value, or None when nothing asks for a window: PS3.3 C.11.2."""
    if window != AUTO and _is_hounsfield(ds, groups):
        return _windowed(real, *WINDOWS[window], "LINEAR")
    voi = _holder(groups, "VOILUTSequence")
    if voi is not None:
        item = voi.VOILUTSequence[0]
        entries, first, bits = _lut(ds, item, "LUTDescriptor", "LUTData", Reason.WINDOW)
        at = np.clip(np.floor(real - first), 0, len(entries) - 1).astype(np.intp)
        # C.11.2.1.1: bits of the output; writers have left 16 in tables of 12
        top = max(2**bits - 1, int(entries.max()))
        return np.asarray(entries[at] / top, np.float64)
    voi = _holder(groups, "WindowCenter", "WindowWidth")
    if voi is None:
        return None
    centre = _float(voi, "WindowCenter", Reason.WINDOW)
    width = _float(voi, "WindowWidth", Reason.WINDOW)
    function = str(voi.get("VOILUTFunction") or "LINEAR").strip().upper()
    return _windowed(real, centre, width, function)


def _windowed(
    real: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.float64]:
    if function == "LINEAR" and width >= 1:  # C.11.2.1.2.1
        if width == 1:
            return np.where(real > centre - 0.5, 1.0, 0.0)
        return np.clip((real - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    if function == "LINEAR_EXACT" and width > 0:  # C.11.2.1.3.2
        return np.clip((real - centre) / width + 0.5, 0, 1)
    if function == "SIGMOID" and width > 0:  # C.11.2.1.3.1
        return np.asarray(1 / (1 + np.exp(-4 * (real - centre) / width)))
    raise Refused(Reason.WINDOW)


def _is_hounsfield(ds: Dataset, groups: list[Dataset]) -> bool:
    """Whether values are in HU: CT, rescaled, Rescale Type HU or none (C.8.2.1, C.11.1.1.2)."""
    rescale = _holder(groups, "RescaleSlope", "RescaleIntercept")
    if rescale is None or str(ds.get("Modality") or "").strip() != "CT":
        return False
    return str(rescale.get("RescaleType") or "HU").strip() == "HU"


def _stretch(real: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not used.any():
        return np.zeros_like(real)
    low, high = real[used].min(), real[used].max()
    return (real - low) / (high - low) if high > low else np.zeros_like(real)


def _inverted(ds: Dataset, photometric: str) -> bool:
    """Whether low values are bright: MONOCHROME1 (C.7.6.3.1.2), or INVERSE, which says the same.

    In the modules that have both (C.8.11.3), INVERSE goes with MONOCHROME1 and IDENTITY with
    MONOCHROME2; viewers differ on anything else, so it is refused.
    """
    if ds.get("PresentationLUTSequence"):
        raise Refused(Reason.PRESENTATION)
    inverted = photometric == "MONOCHROME1"
    shape = str(ds.get("PresentationLUTShape") or "").strip()
    if shape and shape not in ("IDENTITY", "INVERSE"):
        raise Refused(Reason.PRESENTATION)
    if shape and (shape == "INVERSE") != inverted:
        raise Refused(Reason.POLARITY)
    return inverted


def _lut(
    ds: Dataset, item: Dataset, descriptor: str, data: str, reason: Reason
) -> tuple[NDArray[np.int64], int, int]:
    """Return entries, first value mapped and bits of a table: C.11.1.1, C.11.2.1.1, C.7.6.3.1.5."""
    try:
        count, first, bits = (int(value) for value in item[descriptor].value)
        count, held = count or 2**16, item[data].value
        if isinstance(held, bytes):
            order = "<" if ds.original_encoding[1] else ">"
            wide = len(held) >= 2 * count
            entries = np.frombuffer(held, f"{order}u2" if wide else "u1")[:count].astype(np.int64)
        else:
            entries = np.asarray(held, np.int64).ravel()[:count]
    except (TypeError, ValueError, OverflowError, KeyError):
        raise Refused(reason) from None
    if len(entries) != count or not 1 <= bits <= 16:
        raise Refused(reason)
    return entries, first, bits


def _palette(ds: FileDataset, dtype: np.dtype[Any]) -> NDArray[np.uint8]:
    """Return the colour of every stored value, plain or segmented: PS3.3 C.7.6.3.1.5, C.7.9.2."""
    colours = ("Red", "Green", "Blue")
    if "SegmentedRedPaletteColorLookupTableData" in ds:
        table, first = _segmented(ds)
    else:
        luts = [
            _lut(
                ds,
                ds,
                f"{colour}PaletteColorLookupTableDescriptor",
                f"{colour}PaletteColorLookupTableData",
                Reason.PALETTE,
            )
            for colour in colours
        ]
        if len({(len(entries), first) for entries, first, _ in luts}) > 1:
            raise Refused(Reason.PALETTE)
        table, first = np.stack([entries for entries, _, _ in luts], axis=1), luts[0][1]
    if table.max() > 255:  # of 16 bits, C.7.6.3.1.6; 8-bit entries are also found in 16-bit words
        table = table >> 8
    return table.astype(np.uint8)[np.clip(_all_values(dtype) - first, 0, len(table) - 1)]


def _segmented(ds: FileDataset) -> tuple[NDArray[np.int64], int]:
    """Return the entries of a segmented palette and the first value mapped."""
    from pydicom.pixels.processing import apply_color_lut

    try:
        count, first, bits = (int(value) for value in ds.RedPaletteColorLookupTableDescriptor)
        count = count or 2**16
        if bits == 8 and count > 256:  # pydicom would count entries in 8 bits
            raise Refused(Reason.PALETTE)
        at = np.arange(count, dtype=np.int64) + first
        return apply_color_lut(at, ds)[:, :3].astype(np.int64), first
    except MemoryError:
        raise
    except Exception:
        raise Refused(Reason.PALETTE) from None


def _colour(values: Any, photometric: str, bits: int) -> NDArray[np.uint8]:
    """Return RGB: C.7.6.3.1.2."""
    from pydicom.pixels.processing import convert_color_space

    picture = np.empty(values.shape, np.uint8)
    ybr = photometric in ("YBR_FULL", "YBR_FULL_422")
    if not ybr and photometric != "RGB":
        raise Refused(Reason.PHOTOMETRIC)
    if ybr and values.dtype != np.uint8:
        raise Refused(Reason.PHOTOMETRIC, photometric)
    for rows, strip in _strips(values):
        if ybr:
            picture[rows] = convert_color_space(strip, photometric, "RGB")
        elif bits == 8:
            picture[rows] = strip
        else:
            picture[rows] = np.floor(np.clip(strip / (2**bits - 1), 0, 1) * 255 + 0.5)
    return picture
