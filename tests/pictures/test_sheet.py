"""Contact sheets: where things are, and that labels stay in their cells."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstbench.pictures.sheet import contact_sheet

RED, BLUE = torch.tensor([1.0, 0, 0])[:, None, None], torch.tensor([0, 0, 1.0])[:, None, None]


def extent(sheet: Tensor, colour: Tensor) -> tuple[int, int, int, int]:
    """First and last row and column of the pixels of one colour."""
    rows, columns = torch.nonzero((sheet[0] - colour).abs().amax(0) < 0.02, as_tuple=True)
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def ink(sheet: Tensor) -> Tensor:
    """Where there is text: grey pixels darker than paper and hairlines."""
    grey = (sheet[0].amax(0) - sheet[0].amin(0)) < 0.03
    return grey & (sheet[0].mean(0) < 0.8)


def test_pictures_keep_their_aspect_and_fill_their_cells() -> None:
    wide, tall = RED.expand(3, 50, 100), BLUE.expand(3, 300, 100)[None]
    sheet = contact_sheet([("wide", wide), ("tall", tall)], columns=2, cell=120)
    assert sheet.shape[:2] == (1, 3)
    assert sheet.dtype == torch.float32
    assert 0 <= float(sheet.min()) <= float(sheet.max()) <= 1
    top, bottom, left, right = extent(sheet, RED)
    assert (bottom - top + 1, right - left + 1) == (60, 120)
    top2, bottom2, left2, right2 = extent(sheet, BLUE)
    assert (bottom2 - top2 + 1, right2 - left2 + 1) == (120, 40)
    assert bottom == bottom2  # both stand on their labels
    assert left2 > right


def test_rows_columns_and_a_title() -> None:
    pictures = [("", RED.expand(3, 64, 64))] * 5
    one_row, two_rows = (contact_sheet(pictures, columns=n, cell=64) for n in (9, 3))
    assert one_row.shape[3] > two_rows.shape[3]
    assert one_row.shape[2] < two_rows.shape[2]
    assert not ink(two_rows).any()  # nothing to say
    titled = contact_sheet(pictures, columns=3, cell=64, title="Five red squares")
    assert titled.shape[3] == two_rows.shape[3]
    assert ink(titled).any()
    assert int(torch.nonzero(ink(titled))[:, 0].max()) < extent(titled, RED)[0]


def test_a_row_of_wide_pictures_wastes_no_space() -> None:
    wide, square = (contact_sheet([("a", RED.expand(3, h, 100))], columns=1, cell=200) for h in (20, 100))
    assert square.shape[2] - wide.shape[2] == 160


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=60), st.sampled_from([16, 48, 128]))
def test_labels_never_leave_their_cell(label: str, cell: int) -> None:
    blank = ("", torch.ones(3, 9, 9))
    sheet = contact_sheet([blank, (label, torch.ones(3, 9, 9)), blank], columns=3, cell=cell)
    margin, gap = max(4, cell // 10), max(3, cell // 14)
    assert sheet.shape[3] == 2 * margin + 3 * cell + 2 * gap
    columns = torch.nonzero(ink(sheet))[:, 1]
    if len(columns):
        assert int(columns.min()) >= margin + cell + gap - 1
        assert int(columns.max()) <= margin + 2 * cell + gap + 1


def test_a_long_label_keeps_its_start_and_its_end() -> None:
    def drawn(label: str) -> Tensor:
        return contact_sheet([(label, torch.ones(3, 9, 9))], columns=1, cell=128)

    long = "loss/style=gram,histogram encoder=vgg19 weights.unit=gradient seed=1"
    assert not torch.equal(drawn(long), drawn(long[:-1] + "2"))
    assert not torch.equal(drawn(long), drawn("k" + long[1:]))
    assert drawn(long).shape == drawn("short").shape


def test_a_second_line_is_paler() -> None:
    one = contact_sheet([("gram", torch.ones(3, 64, 64))], columns=1, cell=128)
    two = contact_sheet([("gram\nE 1.2", torch.ones(3, 64, 64))], columns=1, cell=128)
    assert two.shape[2] > one.shape[2]
    below = two[0, :, one.shape[2] - 12 :]
    assert float(below.min()) > float(one.min()) + 0.1


@pytest.mark.parametrize(
    ("fancy", "plain"),
    [
        ("α=10⁻³", "alpha=10^-3"),
        ("Ω ≤ 2", "Omega <= 2"),
        ("512×512", "512x512"),
        ("Café – Zürich", "Cafe - Zurich"),
        ("日", "?"),
    ],
)
def test_what_the_font_lacks_is_spelt_out(fancy: str, plain: str) -> None:
    picture = torch.ones(3, 9, 9)
    a, b = (contact_sheet([(label, picture)], columns=1, title=label) for label in (fancy, plain))
    assert torch.equal(a, b)


def test_equal_input_gives_equal_sheets_and_inputs_are_not_changed() -> None:
    picture = torch.rand(1, 3, 30, 20)
    before = picture.clone()
    sheets = [contact_sheet([("a", picture)], columns=2, cell=64, title="t") for _ in range(2)]
    assert torch.equal(*sheets)
    assert torch.equal(picture, before)


def test_mistakes() -> None:
    picture = ("a", torch.ones(3, 4, 4))
    for pictures, columns, cell in [([], 1, 64), ([picture], 0, 64), ([picture], 1, 3)]:
        with pytest.raises(ValueError, match="a sheet needs"):
            contact_sheet(pictures, columns=columns, cell=cell)
