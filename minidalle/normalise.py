"""Captions in one spelling: what looks the same to a reader becomes the same text to the model.

A caption that is pasted from a web page, a PDF or a chat often has another spelling than the
captions of the training: a no-break space, a decomposed accent, full-width letters. The model would
read other tokens and draw another picture.

>>> normalise_caption(" A red\\u00a0car  on the\\tgrass ")
'a red car on the grass'
>>> normalise_caption("ｒｅｄ ｃａｒ, cafe\\u0301, ﬁsh"), normalise_caption("红色 的 汽车 ，草地")
('red car, café, fish', '红色的汽车，草地')

Characters are named by their Unicode categories: M combining marks, Cc control, Cf format.
"""

import re
import unicodedata
from itertools import chain

# 1. Classes of characters -------------------------------------------------------------------------
# Python's `re` has no \\p{M}. Marks stand in planes 0, 1 and 14 of Unicode only.
_PLANES = list(map(chr, chain(range(0x80, 0x20000), range(0xE0100, 0xE01F0))))


def _character_class(category: str) -> str:
    """The characters of a category as the inside of a regular expression's [...]."""
    ranges: list[list[str]] = []
    for c in _PLANES:
        if unicodedata.category(c)[0] == category:
            if ranges and ord(c) == ord(ranges[-1][1]) + 1:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
    return "".join(first if first == last else f"{first}-{last}" for first, last in ranges)


MARKS = _character_class("M")
JOINERS = "\u200c\u200d"  # zero width non-joiner and joiner: they choose the shape of a letter
EXTEND = MARKS + JOINERS  # what belongs to the letter before it
HAN = "\u3400-\u9fff\U00020000-\U0003ffff"
_CJK = HAN + "\uf900-\ufaff\u3001-\u3003\u3005-\u3011\u3014-\u301f\uff01-\uff0f\uff1a-\uff20"
CJK = _CJK + "\uff3b-\uff40\uff5b-\uff65"  # Chinese characters and their punctuation

# 2. What is removed -------------------------------------------------------------------------------
# Escape sequences of terminals, other control characters, and those that turn the direction of the
# text. White space is no control character here.
CONTROLS = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # a colour, such as ESC[31m
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # a title or a link, up to its end
    r"|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]"
)
# Nothing to be seen: soft hyphen, zero width space, byte order mark, fillers, shorthand, music.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f\u2060-\u2065\u206a-\u206f\u3164"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a]"
)
# Joiners are kept in scripts that need them, Arabic to N'Ko, Indic, Myanmar, Khmer and Mongolian,
# and between the parts of an emoji.
_SHAPED = (
    "\u0620-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\u1b00-\u1b7f\ua8e0-\ua8ff\uaa60-\uaa7f"
    "\ufb50-\ufdff\ufe70-\ufefc\U00011000-\U000115ff"
)
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
_JOINERS = re.compile(f"[{JOINERS}]+")
# A character, the marks and joiners on it, and what comes after them.
_JOINED = re.compile(f"(^|[^{EXTEND}])([{EXTEND}]*[{JOINERS}][{EXTEND}]*)(?=(.?))", re.DOTALL)
_IS_SHAPED, _IS_EMOJI = re.compile(f"[{_SHAPED}]"), re.compile(f"[{_EMOJI}]")
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"  # of a variant of the character before
_OF_NOTHING = re.compile(f"(?:^|(?<=\\s))[{_SELECTORS}{JOINERS}]+")
# Tags spell the flag of a region after a black flag; elsewhere they are hidden text.
_TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)|[\U000e0000-\U000e007f]+")


def clean(text: str) -> str:
    """The text as a reader sees it, on one line and composed (NFC): for labels.

    Controls and invisible characters are removed, and any white space becomes one space.
    """
    if not (text.isascii() and text.isprintable()):
        text = _INVISIBLE.sub("", CONTROLS.sub("", text))
        text = unicodedata.normalize("NFC", _TAGS.sub(lambda m: m[1] or "", text))
        text = _OF_NOTHING.sub("", text.replace("\u2800", " "))  # a blank in Braille
        text = unicodedata.normalize("NFC", _JOINED.sub(_needed_joiners, text))
    return " ".join(text.split())


def _needed_joiners(match: re.Match) -> str:
    """The first of each run of joiners where the script or the emoji needs it, else none.

    The letters around the marks decide, and not the marks: NFC may put those in another order.
    """
    before, joined, after = match.groups()
    kept = "\u200d" if _IS_EMOJI.match(before) and _IS_EMOJI.match(after) else ""
    if _IS_SHAPED.match(before):
        kept = JOINERS if _IS_SHAPED.match(after) else "\u200d"
    return before + _JOINERS.sub(lambda run: run[0][0] if run[0][0] in kept else "", joined)


# 3. What is respelt -------------------------------------------------------------------------------
def _plain(c: str) -> str:
    """The ASCII letters or digits that a full-width, mathematical or joined letter stands for."""
    kind, _, _ = unicodedata.decomposition(c).partition(" ")
    plain = unicodedata.normalize("NFKC", c)
    is_letter = unicodedata.category(c)[0] == "L" or unicodedata.category(c) == "Nd"
    known = kind in ("<wide>", "<font>", "<compat>") and is_letter
    return plain if known and plain.isascii() and plain.isalnum() else c


_ASCII = {ord(c): plain for c in _PLANES if (plain := _plain(c)) != c}
_HAN_SPACE = re.compile(f"(?<=[{CJK}]) (?=[{CJK}])")


def normalise_caption(text: str) -> str:
    """One spelling for captions that read the same; used in training and in use.

    - Controls, escape sequences and invisible characters are removed. Joiners and variation
      selectors stay where a script or an emoji needs them.
    - Any run of white space becomes one space. Between Chinese characters, and between them and
      their punctuation, there is none.
    - Accents are composed (NFC). Full-width and mathematical letters and digits, and ligatures such
      as ﬁ, become ASCII. Full-width punctuation stays, since Chinese captions have it.
    - Letters become lower case, as in the paper.

    To normalise twice changes nothing more.
    """
    text = clean(text)
    if not text.isascii():
        text = _HAN_SPACE.sub("", text.translate(_ASCII))
    text = text.lower()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def shorten(text: str, most: int = 80) -> str:
    """A text for a message; of a long one the first `most` characters, and how many follow."""
    more = len(text) - most
    return text if more <= 0 else f"{text[:most]} … and {more} more characters"


def quote(text: str, most: int = 80) -> str:
    """The same in quotes, with what is not printable escaped."""
    return repr(text[:most]) + shorten(text, most)[most:]
