"""What the paper reports, to stand beside what we measure: Tables 3 and 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Numbers = dict[str, tuple[float | None, ...]]

# The rows of the CLUE average, which the paper does not name; and those of Table 3 in which all
# models have numbers.
CLUE = ("cmrc2018", "chid", "cmnli", "ocnli", "tnews", "iflytek", "wsc2020", "c3")
COMMON = (*CLUE, "drcd", "dureader", "pd", "cft", "cmrc2017", "webqa")


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of the paper.

    Attributes:
      title: what it is about.
      zero_shot: the columns of `zero`, in order.
      few_shot: those of `few`.
      zero: name of a row -> its numbers without demonstrations, None where the paper has none.
      few: the same with demonstrations.
      means: what a mean is called -> the rows it is of.
      remarks: name of a row -> what has to be known of the paper's numbers there.
    """

    title: str
    zero_shot: Sequence[str]
    few_shot: Sequence[str]
    zero: Numbers
    few: Numbers
    means: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)


TABLE_3 = PaperTable(
    title="Chinese tasks",
    zero_shot=("CPM-1 2.6B", "PanGu 13B", "ERNIE 3.0 10B", "WeLM 2.7B", "WeLM 10B"),
    few_shot=("PanGu 13B", "WeLM 2.7B", "WeLM 10B"),
    zero={
        "cmrc2018": (10.12, 19.28, 25.61, 31.85, 31.31),
        "drcd": (4.62, 10.55, 26.29, 28.51, 39.33),
        "dureader": (16.63, 24.46, 29.79, 39.28, 39.72),
        "pd": (35.73, 43.86, 66.07, 60.57, 61.17),
        "cft": (38.99, 46.6, 49.3, 55.44, 57.38),
        "chid": (68.62, 70.64, 77.78, 80.96, 81.62),
        "cmrc2017": (24.6, 38.9, 56.66, 47.2, 55.83),
        "cmnli": (49.1, 48.44, 49.41, 43.08, 47.8),
        "ocnli": (44.2, 41.53, 44.31, 41.86, 44.34),
        "tnews": (65.44, 60.26, 68.4, 65.43, 71.59),
        "iflytek": (68.91, 73.8, 75.34, 83.22, 81.34),
        "smp_ecisa": (None, None, None, 42.55, 45.77),
        "chnsenticorp": (None, None, None, 77.75, 81.58),
        "lcsts": (None, None, None, 17.97, 23.74),
        "ttnews": (None, None, None, 31.49, 35.06),
        "webqa": (12.59, 14.47, 38.95, 50.13, 50.9),
        "wsc2020": (73.68, 75.0, 78.38, 80.56, 82.41),
        "c3": (49.81, 54.47, 52.62, 52.96, 54.3),
    },
    few={
        "cmrc2018": (29.23, 39.77, 42.1),
        "drcd": (23.46, 57.41, 63.15),
        "dureader": (27.67, 41.42, 40.87),
        "pd": (41.43, 60.57, 62.27),
        "cft": (45.86, 56.31, 58.37),
        "chid": (70.91, 81.44, 81.62),
        "cmrc2017": (37.87, 54.27, 55.6),
        "cmnli": (46.18, 51.04, 49.89),
        "ocnli": (46.44, 43.46, 44.71),
        "tnews": (65.17, 67.34, 71.61),
        "iflytek": (80.34, 84.65, 82.11),
        "smp_ecisa": (None, 44.94, 49.97),
        "chnsenticorp": (None, 77.67, 73.92),
        "lcsts": (None, 29.97, 32.23),
        "ttnews": (None, 27.13, 32.06),
        "webqa": (41.42, 59.51, 65.27),
        "wsc2020": (78.62, 82.41, 79.63),
        "c3": (54.58, 57.13, 59.8),
    },
    means={"mean of the 14 common rows": COMMON, "CLUE average": CLUE},
    remarks={
        "wsc2020": "the paper's columns are not of one test set: WeLM's figures fit 108 examples, "
        "CPM-1's and PanGu's 304, ERNIE's 37; ours are yes-or-no questions, one a candidate"
    },
)

TABLE_5 = PaperTable(
    title="Cross-lingual tasks",
    zero_shot=("WeLM 1.3B", "WeLM 2.7B", "WeLM 10B", "XGLM 7.5B"),
    few_shot=("WeLM 1.3B", "WeLM 2.7B", "WeLM 10B", "XGLM 7.5B"),
    zero={
        "zh2ja": (0.09, 2.25, 2.22, 6.14),
        "ja2zh": (4.17, 10.65, 12.25, 8.57),
        "zh2en": (0.53, 3.56, 9.84, 10.81),
        "en2zh": (14.89, 21.53, 19.43, 9.46),
        "xquad_zh_a": (7.23, 8.46, 9.31, 4.16),
        "xquad_en_a": (5.74, 6.94, 6.5, 4.93),
        "mlqa_zh_q": (4.32, 4.58, 5.03, 3.92),
        "mlqa_en_q": (2.2, 2.83, 3.19, 2.65),
        "ncls_zh2en": (11.68, 14.19, 10.5, 3.35),
        "ncls_en2zh": (6.68, 3.14, 16.25, 4.59),
    },
    few={
        "zh2ja": (2.4, 2.52, 4.25, 8.41),
        "ja2zh": (10.19, 14.7, 16.96, 8.74),
        "zh2en": (5.7, 8.93, 11.46, 14.37),
        "en2zh": (19.16, 22.79, 26.74, 11.07),
        "xquad_zh_a": (30.03, 36.65, 42.06, 23.37),
        "xquad_en_a": (14.28, 18.91, 23.1, 12.5),
        "mlqa_zh_q": (28.27, 29.65, 36.08, 17.48),
        "mlqa_en_q": (25.44, 32.83, 31.61, 30.81),
        "ncls_zh2en": (15.3, 17.76, 18.58, 13.92),
        "ncls_en2zh": (17.18, 17.12, 20.87, 16.07),
    },
)
