"""What a corpus depends on: one YAML, one frozen model, the defaults here and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from cyclopts import Parameter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pege.corpus.cleaning import DEFAULT_CLEANING, active_rules
from pege.corpus.offensive import OFFENSIVE_THRESHOLD

#: The filters of sec. 3.2, cheap to dear: each sees only what those before it left.
FilterName = Literal["topic", "contact", "offensive-word", "start", "end", "offensive", "personal"]
FILTERS: tuple[FilterName, ...] = get_args(FilterName)


def _checked_rules(value: Any) -> Any:
    active_rules(value)  # words an unknown rule or option
    return value


class CorpusConfig(BaseModel):
    """All that the rows of a corpus depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: tuple[str, ...]
    """Files, globs, folders of ConvoKit, s3:// and hf:// addresses, hf:NAME[:SPLIT], or `chitchat`."""
    layout: str | None = None
    """Of the files; guessed from their names unless named."""
    limit: int | None = Field(None, ge=1)
    """Read at most so many conversations of each file."""
    fields: tuple[str, ...] = ("situation_emotion",)
    """Further fields of a source's rows that are kept, as they are: no filter looks into them."""
    cleaning: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_checked_rules), Parameter(show=False)] = tuple(
        DEFAULT_CLEANING
    )
    """Rules of cleaning in the order in which they run (docs/cleaning.md)."""
    filters: tuple[FilterName, ...] = FILTERS
    """Filters in the order in which they run (docs/corpus.md); an empty list keeps all that is clean."""
    same_speaker: bool = True
    """A dialog has to end with the user, who started it (filter 1)."""
    trailing: Literal["drop", "cut"] = "drop"
    """A dialog that ends with the agent is dropped, as the paper has it, or loses that utterance."""
    window: int | None = Field(None, ge=3)
    """Cut long conversations into sessions of at most so many utterances."""
    min_utterances: int = Field(3, ge=2)
    """Of a dialog, at least, before its last one is deleted."""
    max_utterances: int = Field(30, ge=2)
    """Of a dialog, at most."""
    start_threshold: float = Field(0.5, ge=0, le=1)
    """What the likeliest class of the first utterance must exceed (filter 2)."""
    end_threshold: float = Field(0.9, ge=0, le=1)
    """What P(positive) of the last utterance must exceed (filter 3)."""
    offensive_threshold: float = Field(OFFENSIVE_THRESHOLD, ge=0, le=1)
    """What P(offensive) of no utterance may exceed (filter 6)."""
    topics: str | None = None
    """File of further topics and their phrases (filter 4)."""
    recogniser: str = "default"
    """Who finds persons, institutions and addresses (filter 5; docs/personal.md)."""
    keep_places: bool = True
    """Countries, cities and regions alone are no address (filter 5)."""
    allow: str | None = None
    """File of further names that count as nobody's, one a line (filter 5)."""
    classifier: str = "default"
    """Emotion of an utterance: `default` or a folder of `pege emotion train`."""
    max_response_count: int = Field(20, ge=1)
    """A response that occurs in more dialogs is a template or an ad; 0 words in `frequent_words` turns this off."""
    frequent_words: int = Field(6, ge=0)
    """Of such a response, at least: `thank you` may occur as often as it does."""
    duplicate_bands: int = Field(16, ge=0, le=256)
    """Near-duplicates: bands of the MinHash; 0 keeps them."""
    duplicate_rows: int = Field(8, ge=1, le=256)
    """Rows of a band; 16 bands of 8 rows find a pair of Jaccard similarity 0.8 with probability 0.95."""
    duplicate_ngram: int = Field(5, ge=1)
    """Words (or Han characters) of a shingle."""
    delete_last: bool = True
    """Whether the last utterance is left out of the output where it is the user's (sec. 3.3)."""
    validation_share: float = Field(0.05, ge=0, lt=1)
    """Of the conversations."""
    seed: int = 0
    """Of the split and of the MinHash."""
    shard_rows: int = Field(5000, ge=1)
    """Conversations of a shard, the unit of work."""
