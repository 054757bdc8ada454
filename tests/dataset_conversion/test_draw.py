"""Seeded draws: nested over the percentages, exact to rounding, and every class stays where it can be seen."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from nnunet_partial.dataset_conversion.simulation.draw import kept_cases, num_dropped, seeded_order

CASES = [f"case_{number:02d}" for number in range(12)]
names = st.lists(st.sampled_from([f"case_{number:03d}" for number in range(60)]), min_size=1, unique=True)
percents = st.integers(0, 99)


@given(names, percents, percents, st.integers(0, 5), st.data())
def test_higher_percentages_keep_a_part_of_what_lower_ones_keep(annotated, one, other, seed, data):
    present = set(data.draw(st.lists(st.sampled_from(annotated), unique=True)))
    more, _ = kept_cases(annotated, present, min(one, other), seed, "liver")
    fewer, _ = kept_cases(annotated, present, max(one, other), seed, "liver")
    assert fewer <= more <= set(annotated)


@given(names, percents, st.integers(0, 5), st.data())
def test_as_many_are_kept_as_asked_for_and_one_of_them_shows_the_organ(annotated, percent, seed, data):
    present = set(data.draw(st.lists(st.sampled_from(annotated), unique=True)))
    kept, note = kept_cases(annotated, present, percent, seed, "liver")
    dropped = int(Fraction(percent * len(annotated), 100) + Fraction(1, 2))  # floor after half a case: to the nearest
    assert num_dropped(len(annotated), percent) == dropped
    assert len(kept) == max(1, len(annotated) - dropped)
    assert bool(note) >= (dropped == len(annotated))
    assert not present or kept & present


def test_nothing_is_dropped_at_0():
    assert kept_cases(CASES, CASES, 0, 0, "liver") == (frozenset(CASES), "")


def test_the_draw_depends_on_seed_and_class():
    halves = {kept_cases(CASES, CASES, 50, seed, group)[0] for seed in range(4) for group in ("liver", "spleen", "pancreas")}
    assert len(halves) > 9  # of 12 draws among 924 halves


def test_each_case_is_kept_about_as_often_as_any_other():
    kept = [identifier for seed in range(600) for identifier in kept_cases(CASES, CASES, 50, seed, "liver")[0]]
    assert all(240 < kept.count(identifier) < 360 for identifier in CASES)  # 300 expected, standard deviation 12


def test_a_case_more_or_less_does_not_reorder_the_others():
    order = seeded_order(CASES, 3, "missing", "liver")
    assert seeded_order(reversed(CASES), 3, "missing", "liver") == order
    assert seeded_order(CASES[1:], 3, "missing", "liver") == [name for name in order if name != CASES[0]]


def test_the_draw_is_the_same_on_every_machine():
    """By `printf '[0, "missing", "liver", "case_00"]' | sha256sum` and so on, sorted."""
    assert seeded_order(CASES[:5], 0, "missing", "liver") == ["case_00", "case_03", "case_04", "case_02", "case_01"]


def test_what_was_done_where_the_draw_would_leave_nothing_is_said():
    kept, note = kept_cases(CASES[:3], CASES[:3], 90, 0, "liver")
    assert len(kept) == 1
    assert f"liver: the draw would have kept none of 3 annotations; kept that of '{next(iter(kept))}'" in note
    last = seeded_order(CASES, 0, "missing", "liver")[-1]
    kept, note = kept_cases(CASES, {last}, 50, 0, "liver")
    assert last in kept
    assert len(kept) == 6
    assert f"kept '{last}' in place of the last" in note
