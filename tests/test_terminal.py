from convbench.terminal import table

ROWS = [["layer", "kind", "MACs"], ["conv1", "Conv2d", "1,234"], ["fc", "Linear", "5"]]


def test_text_is_left_aligned_and_numbers_are_right_aligned_below_a_rule() -> None:
    assert table(ROWS, left=2).splitlines() == [
        "layer  kind     MACs",
        "--------------------",
        "conv1  Conv2d  1,234",
        "fc     Linear      5",
    ]


def test_only_the_first_column_is_left_aligned_by_default() -> None:
    assert table(ROWS).splitlines() == [
        "layer    kind   MACs",
        "--------------------",
        "conv1  Conv2d  1,234",
        "fc     Linear      5",
    ]


def test_a_total_row_is_separated_by_a_second_rule() -> None:
    assert table([*ROWS, ["total", "", "1,239"]], left=2, has_total=True).splitlines() == [
        "layer  kind     MACs",
        "--------------------",
        "conv1  Conv2d  1,234",
        "fc     Linear      5",
        "--------------------",
        "total          1,239",
    ]


def test_the_longest_cell_determines_the_width_of_a_column() -> None:
    head, rule, row = table([["a", "b"], ["a longer cell", "12345"]]).splitlines()
    assert head == "a                  b"
    assert len(rule) == len(row) == 20


def test_no_line_ends_with_spaces() -> None:
    assert all(line == line.rstrip() for line in table([["a", "b"], ["c", ""], ["total", ""]], left=2).splitlines())


def test_a_table_may_have_only_a_header() -> None:
    assert table([["a", "b"]]) == "a  b\n----"
