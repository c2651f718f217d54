"""Which texts are the same, but for blanks, punctuation, width, case and script."""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable

from welm_jax.tasks import scores

# Of Taiwan's and Hong Kong's usage, what OpenCC leaves.
USAGE = str.maketrans("著衞敍揹妳", "着卫叙背你")
SHARED = 34  # characters in a row that two texts share by no accident, as section 2 counts overlap


def compared(text: str) -> str:
    """The form of a text in which it is compared; lines stay lines."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    lines = (re.sub(r"[\W_]+", "", line) for line in folded.split("\n"))
    return scores.to_simplified("\n".join(lines)).translate(USAGE)


def digest_of_same(texts: Iterable[str]) -> str:
    """A digest that texts have in common if each is the same as the other's in its place."""
    # A text of marks alone is compared as it is.
    forms = [compared(text).replace("\n", "") or text for text in texts]
    return hashlib.sha1("\n".join(forms).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=2048)  # a pool and the question at hand
def runs(text: str) -> frozenset[str]:
    """All runs of SHARED characters of each line of a text, as it is compared."""
    return frozenset(
        line[at : at + SHARED]
        for line in compared(text).split("\n")
        for at in range(len(line) - SHARED + 1)
    )
