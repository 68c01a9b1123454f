"""Orders of sections by their names: every naming scheme that is read, and every one that is refused."""

from __future__ import annotations

import random
import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.section_order import SectionOrder, section_order


def order_of(names: list[str]) -> SectionOrder:
    """The order of names that are listed backwards."""
    return section_order(sorted(names, reverse=True), "raw")


def refusal(names: list[str]) -> str:
    """The message with which names are refused."""
    with pytest.raises(SourceError) as refused:
        section_order(names, "raw")
    return str(refused.value)


def gaps_or_refusal(names: list[str]) -> str | None:
    """The numbers that are missing, or why the names are refused."""
    try:
        return order_of(names).gaps
    except SourceError as error:
        return str(error)


DAY = [f"2024-05-12_23-59-{second}_s{i:03d}.tif" for i, second in enumerate((10, 30, 50))]
SCHEMES = {
    "numbers": [f"{z}.tif" for z in range(12)],
    "signs": [f"z{z}.tif" for z in range(-5, 3)],
    "signs with plus": [f"z{z:+03d}.tif" for z in range(-12, 3)],
    "all negative": [f"z{z}.tif" for z in range(-12, 0)],
    "negative after =": [f"depth={z}.tif" for z in range(-12, -3)],
    "a true minus": [f"z\N{MINUS SIGN}{z}.tif" for z in range(12, 3, -1)],
    "a hyphen separates": [f"slice-{z}.tif" for z in range(1, 12)],
    "a hyphen and zeros": [f"s-{z:03d}.tif" for z in range(1, 12)],
    "a hyphen between numbers": [f"2024-05-12-{z:03d}.tif" for z in range(12)],
    "a date and a number": [f"20240512_{z:06d}.tif" for z in range(55, 65)],
    "decimals": [f"z{z}um.tif" for z in ("9.95", "10.0", "10.05", "10.1", "10.15")],
    "decimals, some whole": [f"z{z}um.tif" for z in ("9.95", "10", "10.05", "10.1", "10.15")],
    "decimals with a comma": [f"z{z}um.tif" for z in ("9,95", "10,00", "10,05", "10,10")],
    "negative decimals": [f"z={z}um.tif" for z in ("-0.10", "-0.05", "0.00", "0.05")],
    "decimals that end alike": [f"z{9950 + 50 * z:05d}"[:-3] + f".{(9950 + 50 * z) % 1000:03d}.tif" for z in range(20)],
    "times with colons": [f"s{z:03d} 12:{z // 2:02d}:{z % 2 * 30:02d}.tif" for z in range(12)],
    "numbers after a point": [f"stack.{z}.tif" for z in range(12)],
    "two numbers with a point": [f"a1.{z}.tif" for z in range(1, 12)],
    "two endings": [f"a_{z:03d}.ome.tif" for z in range(12)],
    "depth beside": [f"slice_{z:05d}_z={z * 0.01:.4f}um.tif" for z in range(12)],
    "depth that goes down": [f"s{z:03d}_z{100 - 10 * z}.tif" for z in range(5)],
    "depth in powers of ten": [f"s{z}_z={z * 2.5e-6:.1e}.tif" for z in range(8)],
    "a minus that goes along": [f"s{z}_z-{z}.tif" for z in range(1, 12)],
    "time beside": [f"20240312_1201{z:02d}_sec{z:04d}.tif" for z in range(12)],
    "time over midnight": [*DAY, "2024-05-13_00-00-10_s003.tif", "2024-05-13_00-00-30_s004.tif"],
    "time every 30 s": [f"s{z:03d}_12-{z // 2:02d}-{z % 2 * 30:02d}.tif" for z in range(12)],
    "wafers that count on": ["w1_s1.tif", "w1_s2.tif", "w2_s3.tif", "w2_s4.tif"],
    "fixed channel and tile": [f"g0000_t0065_s{z:05d}_ch1.tif" for z in range(12)],
    "even steps": [f"s{z}.tif" for z in range(10, 200, 10)],
    "one number of 17 digits": [f"{20240512120000000 + z}.tif" for z in range(12)],
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_read_in_its_order(scheme: str) -> None:
    order = order_of(SCHEMES[scheme])
    assert list(order.names) == SCHEMES[scheme]
    assert list(order.numbers) == sorted(order.numbers)
    assert order.gaps is None


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if len(SCHEMES[name]) > 4])
def test_a_section_that_is_missing_is_found_in_every_scheme(scheme: str) -> None:
    names = SCHEMES[scheme]
    for z in (2, len(names) - 3):
        assert gaps_or_refusal(names[:z] + names[z + 1 :]) is not None


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["z-2.tif", "z-1.tif", "z0.tif"], (-2, -1, 0)),
        (["z9.95um.tif", "z10.0um.tif", "z10.05um.tif"], (Decimal("9.95"), Decimal("10.0"), Decimal("10.05"))),
        (["slice_00001_z=0.01um.tif", "slice_00002_z=0.02um.tif"], (1, 2)),
        (["s0012.tif", "s0040.tif", "s0077.tif"], (12, 40, 77)),
        (["s0012_z=0.12um.tif", "s0040_z=0.40um.tif", "s0077_z=0.77um.tif"], (12, 40, 77)),
        (["overview.tif"], (0,)),
        (["s0012.tif"], (12,)),
    ],
)
def test_numbers_of_sections_are_those_in_the_names(names: list[str], numbers: tuple[int | Decimal, ...]) -> None:
    assert order_of(names).numbers == numbers


def test_stage_positions_may_jitter_beside_the_section_number() -> None:
    rng = random.Random(0)
    names = [
        f"slice_{z:04d}_x={12 + rng.random():.3f}_y={-5 + rng.random():.3f}_z={z * 0.01 + rng.random() / 500:.4f}.tif"
        for z in range(20)
    ]
    assert list(order_of(names).names) == names
    assert order_of(names[:7] + names[8:]).gaps == "7"


def test_depths_that_drift_are_an_order_which_is_told() -> None:
    names = [f"z{depth}um.tif" for depth in ("9.951", "10.003", "10.048", "10.101", "10.149", "10.202")]
    order = order_of(names)
    assert (list(order.names), order.gaps) == (names, None)
    assert "the number after 'z' steps by 0.045 to 0.053" in order.remarks[0]
    assert order_of(names[:3] + names[4:]).gaps == "1 between 10.048 and 10.149"


@pytest.mark.parametrize(
    ("names", "gaps"),
    [
        ([f"s{z:02d}.tif" for z in (7, 8, 10, 14, 15)], "9, 11 to 13"),
        ([f"s{z}.tif" for z in (10, 20, 40, 50)], "30"),
        ([f"s{z}.tif" for z in (12, 40, 77)], "13 to 39, 41 to 76"),
        (["s1.tif", "s3.tif"], "2"),
        ([f"z{z}um.tif" for z in ("0.05", "0.10", "0.20", "0.25")], "0.15"),
        ([f"z{z}.tif" for z in (-2, -1, 1, 2)], "0"),
        (["0001_s000.tif", "0002_s001.tif", "0003_s003.tif", "0004_s004.tif"], "2"),
        (["0001_000.tif", "0002_001.tif", "0003_003.tif", "0004_004.tif"], "2"),
    ],
)
def test_missing_numbers_are_named(names: list[str], gaps: str) -> None:
    assert order_of(names).gaps == gaps


def test_time_stamps_alone_are_an_order_but_no_series() -> None:
    names = [f"20240512_2359{s}.tif" for s in (10, 31, 50)] + ["20240513_000010.tif", "20240513_000030.tif"]
    order = order_of(names)
    assert list(order.names) == names
    assert order.gaps is not None


PRODUCTS = {
    "channels": ([f"img_channel{c:03d}_z{z:03d}.tif" for c in range(2) for z in range(5)], "raw/img_channel000_z*.tif"),
    "channels last": ([f"s{z:03d}_c{c}.tif" for c in range(2) for z in range(5)], "raw/s*_c0.tif"),
    "words of any kind": ([f"z{z}_ch{c}_x.tif" for c in (1, 2) for z in range(5)], "raw/z*_ch1_x.tif"),
    "tiles": ([f"g0000_t{t:04d}_s{s:05d}.tif" for t in range(2) for s in range(5)], "raw/g0000_t0000_s*.tif"),
    "rows and columns": ([f"s{s}_r{r}_c{c}.tif" for s in range(3) for r in (0, 1) for c in (0, 1)], "raw/s*_r0_c0.tif"),
    "a counter as well": ([f"{i:04d}_z{i // 2}_c{i % 2}.tif" for i in range(10)], "raw/*_z*_c0.tif"),
    "a counter, channel by channel": ([f"{i:04d}_c{i // 5}_z{i % 5}.tif" for i in range(10)], "raw/*_c0_z*.tif"),
    "times as well": ([f"c{c}_z{z}_{120000 + 7 * (2 * z + c)}.tif" for c in range(2) for z in range(5)], "raw/c0_z*_*"),
    "unequal": ([f"c{c}_z{z}.tif" for c in range(2) for z in range(5 - c)], "raw/c0_z*.tif"),
    "every other tile": ([f"t{65 + s % 2:04d}_s{s:05d}.tif" for s in range(5)], "raw/t0065_s*.tif"),
    "wafers": (["w1_s9.tif", "w1_s10.tif", "w2_s1.tif", "w2_s2.tif", "w2_s9.tif"], "raw/w1_s*.tif"),
    "wavelengths": ([f"z{z}_w{w}.tif" for w in (488, 561) for z in range(5)], "raw/z*_w488.tif"),
    "takes": (["s001_v1.tif", "s001_v2.tif", "s002_v1.tif", "s003_v1.tif"], "raw/s*_v1.tif"),
    "times": ([f"t{t:03d}_z{z:03d}.tif" for t in range(8) for z in range(3)], "raw/t000_z*.tif"),
    "many sections": ([f"c{c}_z{z}.tif" for c in (0, 1) for z in range(998, 1003)], "raw/c0_z*.tif"),
    "many sections without words": ([f"{c}_{z}.tif" for c in (0, 1) for z in range(998, 1003)], "raw/0_*.tif"),
    "one channel by one": ([f"s{z}_{c}.tif" for c in (0, 1) for z in range(4)], "raw/s*_0.tif"),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_several_series_are_refused_with_a_pattern_that_chooses_one(kind: str) -> None:
    names, pattern = PRODUCTS[kind]
    message = refusal(names)
    assert f"{len(names)} files of " in message
    assert "one volume is one series" in message
    assert pattern in message


def test_a_chosen_series_is_read() -> None:
    names, _ = PRODUCTS["channels"]
    assert list(order_of(names[:5]).names) == names[:5]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.tif", "01.tif"], r"01\.tif and 1\.tif have the same number"),
        (["z1.0.tif", "z1.00.tif", "z1.1.tif"], r"z1\.0\.tif and z1\.00\.tif have the same number|different orders"),
        (
            ["s001_120101.tif", "s001_120205.tif", "s002_120310.tif"],
            "s001_120101.tif and s001_120205.tif have the same",
        ),
        (["s1.tif", "mask2.tif"], r"mask2\.tif \(1 file\) and s1\.tif \(1 file\) are not of one series"),
        (["a1.tif", "b2.tif"], r"a1\.tif \(1 file\) and b2\.tif"),
        ([f"s{z}.tif" for z in range(9)] + ["s1_old.tif"], r"s0\.tif \(9 files\).*such as raw/s\[0-9\]\.tif"),
        (["s1.tif", "s2.tif", "s3 (1).tif"], r"s1\.tif \(2 files\) and s3 \(1\)\.tif"),
        (
            [f"s{i}_t{t}.tif" for i, t in enumerate((3, 1, 4, 2, 5))],
            "after 's' and the number after 't' give different",
        ),
        ([f"s{i:03d}_z{100 - i}.tif" for i in range(5)], "s000_z100.tif, .*, or s004_z96.tif, "),
        ([f"a1.{z}.tif" for z in range(2, 11)], "in two ways.*a1.10.tif, a1.2.tif, .*, or a1.2.tif, a1.3.tif"),
        (["a1.8.tif", "a1.10.tif"], "in two ways"),
        ([f"s001_c{c}.tif" for c in range(3)], "3 files of section 1, which differ in the number after 'c'"),
        (["a\n1.tif", "a\n2.tif"], "holds a line break"),
        (["a.tif", "a.tiff"], "a.tif and a.tiff have no number"),
        (["s1.2.3.tif", "s4.tif"], "are not written in the same way"),
    ],
)
def test_names_that_are_no_order_are_refused_with_what_was_found(names: list[str], message: str) -> None:
    assert re.search(message, refusal(names))


def test_what_is_doubtful_is_told() -> None:
    assert "is read as a minus sign" in order_of(["z-3.tif", "z-2.tif", "z-1.tif"]).remarks[0]
    assert "is read as a separator" in order_of(["z-003.tif", "z-002.tif", "z-001.tif"]).remarks[0]
    assert "in steps of 10" in order_of(["s10.tif", "s20.tif", "s30.tif"]).remarks[0]
    assert "the number after 't' counts the sections" in order_of(["t1.tif", "t2.tif"]).remarks[0]
    assert order_of(["slice-1.tif", "slice-2.tif"]).remarks == ()


PREFIXES = st.from_regex(r"[a-zA-Z_ ()=\[\]{}äß切-]{0,8}[a-bd-oq-su-vz_ ]", fullmatch=True)


@given(
    prefix=PREFIXES,
    ending=st.sampled_from(["", "_raw", " (copy)", ".ome", "nm"]),
    width=st.integers(0, 8),
    step=st.integers(1, 1000),
    first=st.integers(0, 10**6),
    count=st.integers(4, 30),
    data=st.data(),
)
@settings(deadline=None, max_examples=200)
def test_whole_numbers_of_any_width_and_step(
    prefix: str, ending: str, width: int, step: int, first: int, count: int, data: st.DataObject
) -> None:
    names = [f"{prefix}{first + i * step:0{width}d}{ending}.tif" for i in range(count)]
    order = section_order(data.draw(st.permutations(names)), "raw")
    assert list(order.names) == names
    assert order.numbers == tuple(first + i * step for i in range(count))
    assert order.gaps is None
    lost = data.draw(st.integers(1, count - 2))
    assert section_order(names[:lost] + names[lost + 1 :], "raw").gaps == str(first + lost * step)


@given(
    digits=st.integers(1, 4),
    step=st.integers(1, 500),
    first=st.integers(-2000, 2000),
    count=st.integers(4, 30),
    data=st.data(),
)
@settings(deadline=None, max_examples=200)
def test_decimals_of_any_step(digits: int, step: int, first: int, count: int, data: st.DataObject) -> None:
    numbers = [Decimal(first + i * step).scaleb(-digits) for i in range(count)]
    names = [f"sample_z={number:.{digits}f}um.tif" for number in numbers]
    order = section_order(data.draw(st.permutations(names)), "raw")
    assert list(order.names) == names
    assert list(order.numbers) == numbers
    assert order.gaps is None
    lost = data.draw(st.integers(1, count - 2))
    assert section_order(names[:lost] + names[lost + 1 :], "raw").gaps is not None


@given(
    sections=st.integers(2, 12),
    channels=st.integers(2, 4),
    words=st.sampled_from([("z", "c"), ("s", "t"), ("_", "ch"), ("slice", "tile"), ("sec", "r")]),
    data=st.data(),
)
@settings(deadline=None, max_examples=100)
def test_a_product_is_never_one_volume(
    sections: int, channels: int, words: tuple[str, str], data: st.DataObject
) -> None:
    section, channel = words
    names = [f"{channel}{c}_{section}{z:03d}.tif" for c in range(channels) for z in range(sections)]
    assert f"{sections * channels} files of {channels} series of {sections} sections" in refusal(
        data.draw(st.permutations(names))
    )


def test_the_numbers_of_sections_of_several_series_are_told_from_least_to_most() -> None:
    names = [f"s1_z{z:02}.tif" for z in range(17)] + ["s2_z00.tif"]
    with pytest.raises(SourceError, match="18 files of 2 series of 1 to 17 sections"):
        section_order(names, "raw")
