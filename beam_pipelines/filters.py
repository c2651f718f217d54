"""The stages of curation that look at one text at a time, in the paper's order.

Language, lines, rules, offensive words, the classifier: what a document passes before it meets
others. Knows nothing of files, nor of duplicates.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from beam_pipelines import clean_classifier, offensive_text, topics
from beam_pipelines.boilerplate import without_boilerplate_lines
from beam_pipelines.characters import TextBatch
from beam_pipelines.clean_rules import Thresholds, apply_rules, mojibake
from beam_pipelines.document import DropReason
from beam_pipelines.language import LANGUAGES, identify_languages
from beam_pipelines.ledger import PASSED, Counts, Ledger
from beam_pipelines.read_sources import Record
from welm_jax.failures import InputError

STAGES = ("read", "language", "lines", "rules", "offensive", "classifier")
EVERY_SOURCE = "*"


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """What a text must be like to be kept.

    Attributes:
      languages: which of language.LANGUAGES to keep.
      language_detector: by script, or the paper's langdetect.
      applies_rules: whether lines of boilerplate are taken out and the rules asked at all.
      rules: source, or "*" for all, -> name of a clean_rules.Thresholds -> value.
      offensive_words: file of words, a line each, perhaps with a tab and a weight; none if empty.
      max_offensive_share: of a text that such words may make up.
      classifier: a model of `python -m beam_pipelines.clean_classifier train`; none if empty.
      min_clean_probability: by that model; the paper's is 0.9.
      topics: a model of `python -m beam_pipelines.topics train`, for the data card; none if empty.
    """

    languages: tuple[str, ...] = ("zh", "en")
    language_detector: Literal["script", "langdetect"] = "script"
    applies_rules: bool = True
    rules: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    offensive_words: str = ""
    max_offensive_share: float = 0.01
    classifier: str = ""
    min_clean_probability: float = 0.9
    topics: str = ""

    def __post_init__(self):
        if not self.languages or set(self.languages) - set(LANGUAGES):
            raise InputError(f"languages {self.languages}: choose from {', '.join(LANGUAGES)}")
        known = {one.name for one in fields(Thresholds)}
        for source, thresholds in self.rules.items():
            if unknown := sorted(thresholds.keys() - known):
                raise InputError(
                    f"FilterConfig.rules of {source} name {unknown[0]}; the thresholds are "
                    f"{', '.join(sorted(known))}"
                )
        if self.offensive_words:
            offensive_text.read_words(self.offensive_words)
        if self.classifier:
            clean_classifier.load(self.classifier)
        if self.topics:
            topics.load(self.topics)

    def thresholds(self, source: str) -> Thresholds:
        """Where the rules draw their lines for a source."""
        return Thresholds(**{**self.rules.get(EVERY_SOURCE, {}), **self.rules.get(source, {})})


def judge(records: list[Record], source: str, ledger: Ledger, config: FilterConfig) -> list[Record]:
    """Takes records of one source through the stages; returns those that pass, with their scores.

    Args:
      records: as they were read.
      source: theirs.
      ledger: counts what each stage passes and drops.
      config: what a text must be like.
    """
    records = ledger.sift(source, "read", records, [record.failure for record in records])
    ledger.measure(source, "read", [len(text) for text in _texts(records)])
    records, reasons = _foreign(records, source, config)
    records = ledger.sift(source, "language", records, reasons)
    none = [None] * len(records)
    if config.applies_rules:
        records = _without_lines(records, source, ledger)
        reasons = apply_rules(_texts(records), config.thresholds(source))
    else:
        records = ledger.sift(source, "lines", records, none)
        reasons = none
    records = ledger.sift(source, "rules", records, reasons)
    records, reasons = _offensive(records, config)
    records = ledger.sift(source, "offensive", records, reasons)
    records, reasons = _noisy(records, config)
    records = ledger.sift(source, "classifier", records, reasons)
    if not config.topics:
        return records
    named = topics.name_topics(topics.load(config.topics), _texts(records))
    return [_attributed(one, topic=topic) for one, topic in zip(records, named, strict=True)]


def _foreign(
    records: list[Record], source: str, config: FilterConfig
) -> tuple[list[Record], list[DropReason | None]]:
    """Names each text's language; a text that is in none for its encoding is mojibake."""
    languages = identify_languages(_texts(records), config.language_detector)
    records = [_with(one, language=name) for one, name in zip(records, languages, strict=True)]
    reasons = [
        None if one in config.languages else DropReason(f"language_{one}") for one in languages
    ]
    if config.applies_rules:
        foreign = [index for index, reason in enumerate(reasons) if reason]
        signs = mojibake(TextBatch.of([records[index].outcome.text for index in foreign]))
        for index, value in zip(foreign, signs, strict=True):
            if value > config.thresholds(source).max_mojibake:
                reasons[index] = DropReason.MOJIBAKE
    return records, reasons


def _without_lines(records: list[Record], source: str, ledger: Ledger) -> list[Record]:
    """Takes boilerplate out of texts; what they lose is dropped, though no document is."""
    kept = without_boilerplate_lines(_texts(records))
    changed = [
        one if text == one.outcome.text else _with(one, text=text)
        for one, text in zip(records, kept, strict=True)
    ]
    before, after = (Counts.total(one.counts for one in some) for some in (records, changed))
    ledger.add(source, "lines", PASSED, after)
    lost = before.characters - after.characters
    if lost:
        reason = DropReason.BOILERPLATE_LINE
        ledger.add(source, "lines", reason, Counts(characters=lost))
        ledger.sample(source, "lines", reason, _lines_lost(records, changed))
    return changed


def _lines_lost(records: Sequence[Record], changed: Sequence[Record]) -> Iterator[tuple[str, str]]:
    for before, after in zip(records, changed, strict=True):
        (doc_id, text), (_, rest) = before.sample, after.sample
        if text != rest:
            kept = set(rest.split("\n"))
            yield doc_id, "\n".join(line for line in text.split("\n") if line not in kept)


def _offensive(
    records: list[Record], config: FilterConfig
) -> tuple[list[Record], list[DropReason | None]]:
    if not config.offensive_words:
        return records, [None] * len(records)
    words = offensive_text.read_words(config.offensive_words)
    shares = _rounded(offensive_text.offensive_shares(_texts(records), words))
    reasons = [DropReason.OFFENSIVE if one > config.max_offensive_share else None for one in shares]
    return _scored(records, "offensive_share", shares), reasons


def _noisy(
    records: list[Record], config: FilterConfig
) -> tuple[list[Record], list[DropReason | None]]:
    if not config.classifier:
        return records, [None] * len(records)
    model = clean_classifier.load(config.classifier)
    clean = _rounded(clean_classifier.clean_probabilities(model, _texts(records)))
    reasons = [None if one > config.min_clean_probability else DropReason.NOISE for one in clean]
    return _scored(records, "clean_probability", clean), reasons


def _texts(records: Sequence[Record]) -> list[str]:
    return [record.outcome.text for record in records]


def _rounded(scores: Iterable[float]) -> list[float]:
    """Four decimals, so that no rounding of a machine's own decides about a text."""
    return [round(float(score), 4) for score in scores]


def _scored(records: Sequence[Record], name: str, scores: Sequence[float]) -> list[Record]:
    """Keeps a score with each text."""
    return [_attributed(one, **{name: score}) for one, score in zip(records, scores, strict=True)]


def _attributed(record: Record, **attributes: Any) -> Record:
    return _with(record, attributes={**record.outcome.attributes, **attributes})


def _with(record: Record, **changes: Any) -> Record:
    return Record(record.offset, record.length, replace(record.outcome, **changes))
