from proteus.utils.text import printable


def test_what_a_terminal_obeys_is_escaped() -> None:
    assert printable("ä caf\udce9 \u2028 \x1b[2J \n") == "ä caf\\udce9 \\u2028 \\x1b[2J \\n"
    assert printable("x" * 20, 10) == "xxxxxxx..."
