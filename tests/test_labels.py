from __future__ import annotations

from diffseglung import labels


def test_ids_count_from_zero_and_names_are_unique() -> None:
    assert [label.id for label in labels.ALL] == list(range(len(labels.ALL)))
    assert len(labels.BY_NAME) == len({label.colour for label in labels.ALL}) == len(labels.ALL)


def test_posterior_columns_are_the_tissues_in_order() -> None:
    assert [label.id for label in labels.TISSUES] == [1, 2, 3, 4, 5]
    assert labels.TISSUES[1:] == labels.LESIONS
    assert labels.HEALTHY not in labels.LESIONS


def test_names_are_fit_for_files_and_colours_for_screens() -> None:
    for label in labels.ALL:
        assert label.name.isidentifier()
        assert label.name.islower()
        assert len(label.colour) == 3
        assert all(0 <= part <= 255 for part in label.colour)
