"""Table 5: ten cross-lingual rows. The wording of prompts is ours: the paper gives none.

The paper scores zero- and one-shot. Units of BLEU and ROUGE are our choice: it names none.

Source: WeLM section 4.2, Table 5.
"""

from welm_jax.tasks.examples import pair_of_texts, squad_in_two_languages
from welm_jax.tasks.prompted import EvalSet, Row

NAMES = {"zh": "中文", "en": "英文", "ja": "日文"}
TOKENIZERS = {"zh": "zh", "en": "13a", "ja": "ja-mecab"}
ASKS = {"zh": "请用中文回答。", "en": "请用英文回答。"}
CONTEXT_QUESTION = "阅读短文，回答问题。{asks}\n短文：{{context}}\n问题：{{question}}\n答案："
XQUAD = "XQuAD in Chinese and English"


def _translation(source: str, target: str, *sets: EvalSet) -> Row:
    names = {"zh": "ZH", "en": "EN", "ja": "JA"}
    return Row(
        name=f"{source}2{target}",
        title=f"{names[source]}2{names[target]}",
        sets=sets,
        prompt=f"把{NAMES[source]}翻译成{NAMES[target]}。\n{NAMES[source]}：{{text}}\n{NAMES[target]}：",
        metric=f"bleu_{TOKENIZERS[target]}",
        shots=1,
        passage="text",
        max_new_tokens=256,
        language=target,
    )


def _question(name: str, title: str, context: str, question: str, answer: str) -> Row:
    reader = squad_in_two_languages(context, question, answer)
    sets = [EvalSet(folder="xquad_zh_en", reader=reader)]
    if title.startswith("MLQA"):
        sets = [
            EvalSet(folder="mlqa_zh_en", reader=reader, checked="own fixture"),
            EvalSet(folder="xquad_zh_en", reader=reader, stands_in=XQUAD),
        ]
    return Row(
        name=name,
        title=title,
        sets=sets,
        prompt=CONTEXT_QUESTION.format(asks=ASKS[answer]),
        metric=f"f1_mlqa_{answer}",
        shots=1,
        passage="context",
        max_new_tokens=64,
        language=answer,
    )


def _summary(source: str, target: str, metric: str) -> Row:
    return Row(
        name=f"ncls_{source}2{target}",
        title=f"NCLS_{source.upper()}2{target.upper()}",
        sets=[
            EvalSet(  # the sentences of the corrected summary in one
                folder=f"ncls_{source}2{target}",
                reader=pair_of_texts("article", "summary"),
                checked="own fixture",
            )
        ],
        prompt=f"用{NAMES[target]}概括下面的{NAMES[source]}文章。\n文章：{{text}}\n概括：",
        metric=metric,
        shots=1,
        passage="text",
        max_new_tokens=96,
        language=target,
    )


def _stand_in(folder: str, source: str, target: str, what: str, *others: str) -> EvalSet:
    return EvalSet(folder=folder, reader=pair_of_texts(source, target, *others), stands_in=what)


ROWS = (
    _translation(
        "zh",
        "ja",
        EvalSet(folder="weblio", reader=pair_of_texts("zh", "ja"), checked="nothing"),
        _stand_in("wmt24_ja_zh", "zh", "ja", "WMT24 Japanese to Chinese, turned round"),
    ),
    _translation(
        "ja",
        "zh",
        EvalSet(folder="weblio", reader=pair_of_texts("ja", "zh"), checked="nothing"),
        _stand_in("wmt24_ja_zh", "ja", "zh", "WMT24 Japanese to Chinese"),
    ),
    _translation(
        "zh",
        "en",
        EvalSet(folder="wmt20_zh_en", reader=pair_of_texts("zh", "en"), checked="own fixture"),
        _stand_in("wmt21_zh_en", "zh", "en", "WMT21"),
    ),
    _translation(
        "en",
        "zh",
        EvalSet(folder="wmt20_en_zh", reader=pair_of_texts("en", "zh"), checked="own fixture"),
        _stand_in("wmt21_en_zh", "en", "zh", "WMT21, two references", "zh_B"),
    ),
    _question("xquad_zh_a", "XQuAD_ZH_A", context="zh", question="en", answer="zh"),
    _question("xquad_en_a", "XQuAD_EN_A", context="zh", question="en", answer="en"),
    _question("mlqa_zh_q", "MLQA_ZH_Q", context="en", question="zh", answer="en"),
    _question("mlqa_en_q", "MLQA_EN_Q", context="en", question="en", answer="en"),
    _summary("zh", "en", "rouge1_word"),
    _summary("en", "zh", "rouge1_char"),
)
