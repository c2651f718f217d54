"""Which language a text is in, by the scripts it is written in.

A count of scripts finds Chinese, Traditional too, better than the usual detectors and a hundred
times faster. A model is asked only where that cannot tell: short texts, and a little Chinese in
much Latin. The paper's detector is there to compare with. Knows nothing of which languages are
wanted.
"""

import functools
import re
import threading
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from beam_pipelines.characters import Kind, TextBatch, spread_sample

LANGUAGES = ("zh", "en", "ja", "ko", "other")

# Frequent in any English prose, and words of no other large language written in Latin letters.
_ENGLISH = frozenset("the and that this these with from which you they were their would".split())
_CHINESE = {"zh", "yue", "wuu", "lzh", "gan", "hak", "zh-cn", "zh-tw"}
_WORD = re.compile("[a-z]+")
_MIN_ENGLISH_SHARE = 0.03
_SHORT_LATIN = 200  # letters; longer English without its commonest words there is none


def identify_languages(
    texts: Sequence[str], detector: Literal["script", "langdetect"]
) -> list[str]:
    """Names the language of each text: one of LANGUAGES.

    Args:
      texts: none with a lone surrogate.
      detector: by script, or the paper's, which loses half of Traditional Chinese and most of
        code-switched text.

    Source: WeLM section 2.1 (langdetect).
    """
    if detector == "langdetect":
        return [_named(_langdetect()(text)) for text in texts]
    return _by_script(texts)


def _by_script(texts: Sequence[str]) -> list[str]:
    """Names the language of each text by its scripts.

    zh: at least 10 Han characters that make up at least a tenth of the letters, kana at most 5 % of
    Han and kana together, and no more Hangul than Han. Latin letters are not held against it:
    code-switching is wanted. en: nine letters in ten are Latin, and English function words abound.
    Grey, and for the model to tell, is what has Han but no claim, or Latin letters and either few
    words or few of the English ones. Letters are counted in the whole text, words in a sample that
    is spread over it.
    """
    kinds = TextBatch.of(texts).kinds
    han, kana, hangul, latin = (
        kinds[:, kind] for kind in (Kind.HAN, Kind.KANA, Kind.HANGUL, Kind.LATIN)
    )
    letters = han + kana + hangul + latin + kinds[:, Kind.OTHER_LETTER]
    is_chinese = (han >= 10) & (10 * han >= letters) & (20 * kana <= han + kana) & (hangul <= han)
    is_japanese = (kana >= 10) & (4 * (han + kana) >= letters) & (hangul <= han + kana)
    is_korean = (hangul >= 10) & (4 * hangul >= letters)
    is_latin = (latin >= 10) & (10 * latin >= 9 * letters)
    claims = np.select([is_chinese, is_japanese, is_korean, is_latin], ["zh", "ja", "ko", "en"], "")
    languages = []
    for text, claim, is_mixed, is_short in zip(
        texts, claims, han > 0, latin < _SHORT_LATIN, strict=True
    ):
        if claim and claim != "en":
            languages.append(str(claim))
            continue
        sample = spread_sample(text) if claim or is_mixed else ""
        words = _WORD.findall(sample.lower()) if claim else []
        english = [word for word in words if word in _ENGLISH]
        # More than one of them: the name of a field may say "from" again and again.
        if len(set(english)) > 1 and len(english) >= _MIN_ENGLISH_SHARE * len(words):
            languages.append("en")
        elif is_mixed or (claim and (is_short or english)):
            languages.append(_named(_model()(sample)))
        else:
            languages.append("other")
    return languages


def _named(code: str) -> str:
    return "zh" if code in _CHINESE else code if code in LANGUAGES else "other"


@functools.cache
def _model() -> Callable[[str], str]:
    import py3langid

    return lambda text: py3langid.classify(text)[0]


@functools.cache
def _langdetect() -> Callable[[str], str]:
    import langdetect

    langdetect.DetectorFactory.seed = 0  # else it contradicts itself from run to run

    lock = threading.Lock()  # its generator of random numbers is one for all threads

    def detect(text: str) -> str:
        try:
            with lock:
                return langdetect.detect(text)
        except langdetect.LangDetectException:  # nothing in it is a letter
            return "other"

    return detect
