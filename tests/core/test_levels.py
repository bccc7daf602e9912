"""Level names: from each anchor, from both, from none, and where counting must stop."""

import pytest

from spinecore.findings import identify
from spinecore.plan import Options


def names_of(spine, region: str | None = None):
    document = identify(spine.classes, spine.volume, options=Options(region=region)).document
    return document, [v["name"] for v in document["vertebrae"]]


def codes(document) -> list[str]:
    return [warning["code"] for warning in document["warnings"]]


def test_from_the_sacrum_upward(box_spine, column) -> None:
    document, names = names_of(box_spine(column(7, bottom="sacrum")))
    assert names == ["T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1"]
    assert [d["name"] for d in document["discs"]][-2:] == ["L4/L5", "L5/S1"]
    assert [v["label"] for v in document["vertebrae"]] == [18, 19, 20, 21, 22, 23, 24, 26]
    assert [d["label"] for d in document["discs"]] == [118, 119, 120, 121, 122, 123, 124]
    assert document["naming"]["method"] == "sacrum" and codes(document) == []


def test_from_c2_downward(box_spine, column) -> None:
    document, names = names_of(box_spine(column(7, top="c2")))
    assert names == ["C2", "C3", "C4", "C5", "C6", "C7", "T1", "T2"]
    assert document["discs"][0]["name"] == "C2/C3" and document["discs"][0]["label"] == 102
    assert document["naming"]["method"] == "c2"


def test_from_both_anchors_which_agree(box_spine, column) -> None:
    document, names = names_of(box_spine(column(22, top="c2", bottom="sacrum")))
    assert names[:2] == ["C2", "C3"] and names[-2:] == ["L5", "S1"] and len(names) == 24
    assert document["naming"]["method"] == "sacrum+c2" and codes(document) == []


@pytest.mark.parametrize("count", [21, 23])
def test_anchors_that_disagree_by_one_name_what_cannot_be_meant(box_spine, column, count: int) -> None:
    document, names = names_of(box_spine(column(count, top="c2", bottom="sacrum")))
    sure = ["C2", *(f"C{n}" for n in range(3, 8)), *(f"T{n}" for n in range(1, 12))]
    assert names == [*sure, *[None] * (count + 1 - len(sure)), "S1"]
    assert codes(document) == ["transitional_anatomy"]
    assert str(count) in document["naming"]["reason"] and "T11" in document["naming"]["reason"]


@pytest.mark.parametrize("count", [20, 25])
def test_anchors_that_disagree_by_more_name_nothing_between_them(box_spine, column, count: int) -> None:
    document, names = names_of(box_spine(column(count, top="c2", bottom="sacrum")))
    assert names == ["C2", *[None] * count, "S1"]
    assert codes(document) == ["transitional_anatomy"] and not document["naming"]["named"]


def test_a_wrong_count_with_a_disc_not_seen_names_nothing_between(box_spine, column) -> None:
    members = column(23, top="c2", bottom="sacrum")
    members[11] = "gap6"  # one disc overlooked: the count may be wrong there
    document, names = names_of(box_spine(members))
    assert names == ["C2", *[None] * 23, "S1"] and "transitional_anatomy" in codes(document)


def test_one_anchor_says_what_it_presumes(box_spine, column) -> None:
    near, _ = names_of(box_spine(column(5, bottom="sacrum")))
    far, names = names_of(box_spine(column(6, bottom="sacrum")))
    assert names[0] == "T12" and "presume five lumbar" in far["naming"]["reason"]
    assert "presume" not in near["naming"]["reason"]


def test_without_an_anchor_levels_are_numbered_from_the_top(box_spine, column) -> None:
    document, names = names_of(box_spine(column(4)))
    assert names == [None] * 4
    assert [v["label"] for v in document["vertebrae"]] == [71, 72, 73, 74]
    assert [d["label"] for d in document["discs"]] == [171, 172, 173]
    assert codes(document) == ["levels_unnamed"]


@pytest.mark.parametrize("region", ["lumbar", "thoracic", "cervical"])
def test_a_hint_alone_names_nothing_where_the_column_leaves_the_view(box_spine, column, region: str) -> None:
    document, names = names_of(box_spine(column(5), margin=0), region)
    assert set(names) == {None} and document["naming"]["method"] == "none"


def test_a_lumbar_hint_names_a_column_that_ends_in_a_disc_with_canal_below(box_spine, column) -> None:
    spine = box_spine([*column(5), "disc"], margin=40)
    document, names = names_of(spine, "lumbar")
    assert names == ["L1", "L2", "L3", "L4", "L5"]
    assert document["discs"][-1]["name"] == "L5/S1"
    assert document["naming"]["method"] == "hint" and codes(document) == ["named_by_hint"]
    assert names_of(spine)[1] == [None] * 5  # without the hint


def test_a_cervical_hint_names_a_column_that_begins_with_a_disc(box_spine, column) -> None:
    document, names = names_of(box_spine(["disc", *column(5)], margin=40), "cervical")
    assert names == ["C3", "C4", "C5", "C6", "C7"]
    assert document["discs"][0]["name"] == "C2/C3"


def test_a_hint_never_overrules_an_anchor(box_spine, column) -> None:
    document, names = names_of(box_spine(column(4, bottom="sacrum")), "cervical")
    assert names == ["L2", "L3", "L4", "L5", "S1"]
    assert codes(document) == ["hint_contradicted"]


def test_names_stop_at_a_missing_level(box_spine) -> None:
    members = ["body", "disc", "body", "disc", "gap46", "disc", "body", "disc", "body", "disc", "body"]
    document, names = names_of(box_spine([*members, "disc", "sacrum"]))
    assert names == [None, None, "L3", "L4", "L5", "S1"]
    assert "chain_gap" in codes(document)


def test_a_vertebra_missed_between_two_discs_is_counted(box_spine) -> None:
    members = ["body", "disc", "body", "disc", "gap20", "disc", "body", "disc", "body", "disc", "sacrum"]
    document, names = names_of(box_spine(members))
    assert names == ["L1", "L2", "L4", "L5", "S1"]
    assert codes(document) == ["vertebra_missed"]


def test_a_disc_missed_between_two_bodies_is_counted(box_spine) -> None:
    members = ["body", "disc", "body", "gap6", "body", "disc", "body", "disc", "sacrum"]
    document, names = names_of(box_spine(members))
    assert names == ["L2", "L3", "L4", "L5", "S1"]
    assert [d["name"] for d in document["discs"]] == ["L2/L3", "L4/L5", "L5/S1"]
    assert codes(document) == ["disc_missed"]


def test_bodies_torn_apart_are_not_counted_across(box_spine) -> None:
    members = ["body", "disc", "body", "disc", "body", "gap7", "body", "disc", "body", "disc", "sacrum"]
    spine = box_spine(members)
    _, names = names_of(spine)
    assert names[-3:] == ["L4", "L5", "S1"]
    far = box_spine([m if m != "gap7" else "gap30" for m in members])
    _, names = names_of(far)
    assert names[-3:] == ["L4", "L5", "S1"] and names[:3] == [None] * 3


def test_a_small_last_disc_puts_the_sacrum_in_doubt(box_spine, column) -> None:
    document, names = names_of(box_spine([*column(5), "rudiment", "sacrum"]))
    assert names == [None] * 6  # what looks like the sacrum may be S2 or L5, so it gets no name either
    assert "anchor_in_doubt" in codes(document)
