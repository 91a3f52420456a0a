"""The table of numbers, against a dictionary."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from cvfs.client.number_table import NumberTable

NUMBERS = st.integers(0, 300) | st.integers(2**32 - 70, 2**32 - 1)


@given(st.lists(st.tuples(NUMBERS, st.booleans())))
def test_it_holds_what_a_dictionary_holds(changes):
    table: NumberTable[str] = NumberTable()
    plain: dict[int, str] = {}
    for number, wanted in changes:
        if wanted and number not in plain:
            table.put(number, str(number))
            plain[number] = str(number)
        elif not wanted and number in plain:
            table.remove(number)
            del plain[number]
        assert (number in table) == (number in plain)
        assert table.get(number) == plain.get(number)
    assert len(table) == len(plain)
    assert sorted(table) == sorted(plain.values())
    assert len(table._pages) == len({number >> 6 for number in plain})


def test_values_come_in_the_order_of_their_numbers():
    table: NumberTable[int] = NumberTable()
    for number in range(256, 1000):
        table.put(number, number)
    assert list(table) == list(range(256, 1000))


def test_it_takes_little():
    table: NumberTable[int] = NumberTable()
    for number in range(10_000):
        table.put(number, 1)
    pages = sum(map(sys.getsizeof, table._pages.values()))
    assert pages + sys.getsizeof(table._pages) < 10_000 * 20
