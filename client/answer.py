"""What is said about an image: the one model that the API, the command line, tables, the audit log and the page share.

A new field is declared in Answer and computed in Answer.of(). Its description goes to /openapi.json, its Column decides
where tables and the page show it; nothing else names it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from client.served import export_of
from core import contract

DIGITS = 4
"""Digits after the point of every probability."""

FORMULA_MARKS = "=+-@\t\r\n＝＋－＠"
"""A spreadsheet takes a text that begins with one of them for a formula (OWASP, CSV injection)."""
ESCAPE = "'"
"""Stands in front of such a text in a CSV file, and of one that begins with it already, so that it comes off again."""

Place: TypeAlias = Literal["file", "page", "report"]
EVERYWHERE: tuple[Place, ...] = ("file", "page", "report")


@dataclass(frozen=True)
class Prediction:
    """What a network says about one image.

    Attributes:
        model: name as in contract.MODEL_NAME.
        label: the most probable class, out of contract.CLASSES.
        confidence: its probability, in [0, 1].
        probabilities: class name -> probability in [0, 1], in the order of contract.CLASSES; they sum to 1.
        tta: whether they are averages over the image and its mirror image.
    """

    model: str
    label: str
    confidence: float
    probabilities: dict[str, float]
    tta: bool = False


@dataclass(frozen=True)
class Column:
    """How people see a field of an Answer.

    Attributes:
        title: of its column on the page, and of its line in the report.
        form: how its value is written on the page: as it is, as names in a row, as a percentage, as the title of a
            class or model, or with the words for yes and no. "classes" is a column a class, in files only.
        places: the tables that are saved as files, those on the page, the report of one answer on the page.
        yes, no, unknown: words for True, False and None.
    """

    title: str
    form: Literal["text", "list", "percent", "class", "classes", "model", "flag"] = "text"
    places: tuple[Place, ...] = EVERYWHERE
    yes: str = "yes"
    no: str = "no"
    unknown: str = "unknown"


def _enum(schema: dict[str, JsonValue]) -> None:
    schema["enum"] = list(contract.CLASSES)


def _each_class(schema: dict[str, JsonValue]) -> None:
    """Say that there is a value for each class and no other."""
    each = schema.pop("additionalProperties")
    schema |= {"required": list(contract.CLASSES), "properties": dict.fromkeys(contract.CLASSES, each),
               "additionalProperties": False}


Probability = Annotated[float, Field(ge=0, le=1)]
MODEL = Field(pattern=f"^{contract.MODEL_NAME.pattern}$", examples=["custom", contract.ENSEMBLE],
              description="The network that answered; NAME.RELEASE: an older release of it.")


class Answer(BaseModel):
    """What is said about one image, in the order of the API's JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)

    predicted_class: Annotated[str, Column("Most probable class", "class", ("file", "page"))] = Field(
        json_schema_extra=_enum, description="The most probable class.")
    confidence: Annotated[Probability, Column("Confidence", "percent", ("file", "page"))] = Field(
        description="The probability of that class.")
    all_probabilities: Annotated[dict[str, Probability], Column("Probabilities", "classes", ("file",))] = Field(
        json_schema_extra=_each_class, description="The probability of each class; they sum to 1.")
    model_type: Annotated[str, MODEL, Column("Model", "model", ("file", "report"))]
    tta: Annotated[bool, Column("Mirror image", "flag", EVERYWHERE, "averaged in", "not used")] = Field(
        description="Whether the probabilities are averages over the image and its mirror image.")
    needs_review: Annotated[bool, Column("Review", "flag", ("file", "page"), "needs review", "")] = Field(
        description="Whether the confidence is below the threshold, or there is none: a person must look.")
    review_threshold: Annotated[
        Probability | None, Column("Needs review below", "percent", ("report",), unknown="no threshold known")
    ] = Field(description="The confidence below which a person must look, as the served model says.")
    data_source: Annotated[str | None, Column("Trained on", places=("file", "report"), unknown="unknown data")] = Field(
        description="The data set that the network was trained on.")
    export: Annotated[str | None, Column("Export", places=("file", "report"))] = Field(
        description="Which export of the network answered: another one as soon as weights, thresholds or data differ.")
    holds_on: Annotated[
        tuple[str, ...] | None, Column("Found to work on", "list", ("report",), unknown="not measured", no="no source")
    ] = Field(description="The sources of test images on which the network was found to work: it tells tumour from "
                          "none there, see the page about the models. On others nobody knows. null: not measured.")
    warnings: tuple[str, ...] = Field(description="What a person should know of the file, in sentences.")
    disclaimer: str = Field(default=contract.DISCLAIMER, json_schema_extra={"const": contract.DISCLAIMER},
                            description="Goes with every answer.")

    @classmethod
    def of(cls, prediction: Prediction, facts: Mapping[str, str], warnings: Sequence[str] = ()) -> "Answer":
        """Return the answer that a prediction makes.

        Args:
            prediction: what the network says.
            facts: what Classifier.describe() says of it; {} if that is unknown: then a person must look.
            warnings: what a person should know of the file.
        """
        threshold = review_threshold(facts, prediction.tta)
        shares = {name: rounded(prediction.probabilities[name]) for name in contract.CLASSES}
        confidence = rounded(prediction.confidence)
        return cls(
            predicted_class=prediction.label,
            confidence=confidence,
            all_probabilities=shares,
            model_type=prediction.model,
            tta=prediction.tta,
            needs_review=threshold is None or confidence < threshold,  # both as shown: who recomputes it agrees
            review_threshold=threshold,
            data_source=facts.get(contract.DATA_SOURCE),
            export=export_of(facts),
            holds_on=holds_on(facts),
            warnings=tuple(warnings),
        )


def rounded(probability: float) -> float:
    """Return a probability as answers hold it; those of the server may sum up to a little more than 1."""
    return min(1.0, round(probability, DIGITS))


def review_threshold(facts: Mapping[str, str], tta: bool = False) -> float | None:
    """Return the confidence in [0, 1] below which a person must look; None if the served model does not say.

    Args:
        facts: what describe() returns. tta: for predictions averaged with the mirror image.
    """
    try:
        threshold = float(facts[contract.TTA_REVIEW_THRESHOLD if tta else contract.REVIEW_THRESHOLD])
    except (KeyError, ValueError):
        return None
    return threshold if 0.0 <= threshold <= 1.0 else None


def holds_on(facts: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the sources that a network was found to work on; None if the served model does not say.

    Args:
        facts: what describe() returns.
    """
    try:
        names = json.loads(facts[contract.HOLDS_ON])
    except (KeyError, ValueError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def escaped(value: object) -> object:
    """Return a value for a CSV file; a text that a spreadsheet would take for a formula gets ESCAPE in front."""
    return ESCAPE + value if isinstance(value, str) and value[:1] in {*FORMULA_MARKS, ESCAPE} else value


def unescaped(text: str) -> str:
    """Return what escaped() had made a text of."""
    return text.removeprefix(ESCAPE)


@cache
def columns(place: Place | None = None) -> dict[str, Column]:
    """Return the fields that a place shows, or those of all places, by name, in the model's order."""
    declared = {name: one for name, field in Answer.model_fields.items() for one in field.metadata
                if isinstance(one, Column)}
    return {name: one for name, one in declared.items() if place is None or place in one.places}


def heads() -> tuple[str, ...]:
    """Return the names of the columns in tables that are saved as files: a field each, of probabilities a class."""
    return tuple(name for field, one in columns("file").items()
                 for name in (contract.CLASSES if one.form == "classes" else [field]))


def cells(answer: Answer) -> dict[str, Any]:
    """Return what stands in those columns."""
    values = answer.model_dump()
    values |= answer.all_probabilities
    return {name: values[name] for name in heads()}
